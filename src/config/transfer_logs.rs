//! The transfer logs of a configuration file: each in a file of its own.

use std::path::Path;

use super::error::{Fault, quoted_path};
use super::location::{Location, steps};
use super::{TransferLog, TransferLogFormat, file};

/// The word for a format in the file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FormatWord {
    Json,
    Xferlog,
    W3c,
}

/// The transfer logs of a file. Relative file names count from `base`.
pub(super) fn resolve(
    written: Vec<file::TransferLog>,
    base: &Path,
) -> Result<Vec<TransferLog>, Fault> {
    let mut logs: Vec<TransferLog> = Vec::new();
    for (index, log) in written.into_iter().enumerate() {
        let key = |key: &'static str| Location::Value(steps!["transfer_logs", index, key]);
        let file = base.join(log.file.0);
        if logs.iter().any(|other| other.file == file) {
            return Err(Fault::new(
                key("file"),
                format!("two transfer logs in the file {}", quoted_path(&file)),
                "give each a file of its own",
            ));
        }
        let format = match (log.format, log.sha256) {
            (FormatWord::Json, sha256) => TransferLogFormat::Json {
                sha256: sha256.unwrap_or(false),
            },
            (FormatWord::Xferlog | FormatWord::W3c, Some(true)) => {
                return Err(Fault::new(
                    key("sha256"),
                    "`sha256` in a format that has no field for it",
                    "write `format: json`, or leave `sha256` out",
                ));
            }
            (FormatWord::Xferlog, _) => TransferLogFormat::Xferlog,
            (FormatWord::W3c, _) => TransferLogFormat::W3c,
        };
        logs.push(TransferLog { file, format });
    }
    Ok(logs)
}
