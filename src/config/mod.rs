//! The settings that the program runs on: checked, complete, immutable.
//!
//! They are in `settings`, and in `site` what is one site's. The file format is `file`, its single values are `scalar`; `resolve`,
//! with `admin`, `listeners`, `passive`, `sites`, `backends`, `checks` and `transfer_logs`, turns it into the settings, filling in
//! the defaults and refusing what can't work. Where a file is wrong, `structure` finds the line of a `location`, `yaml_error`
//! rewords the YAML reader's error, and [`Error`] shows both. The rest of the program sees only [`Settings`].
//!
//! [`parse`] opens no file that the configuration names, and [`load`] none but those of passwords and tokens: whether a certificate
//! exists and is valid is checked when it is loaded. Relative file names count from the directory of the configuration file.

mod admin;
mod backends;
mod checks;
mod error;
mod file;
mod groups;
mod host;
mod listeners;
mod location;
mod nearest;
mod networks;
mod passive;
mod policy;
mod resolve;
mod scalar;
mod schema;
mod secret_file;
mod settings;
mod site;
mod sites;
mod structure;
mod template;
mod transfer_logs;
mod yaml_error;

pub use admin::{AdminSettings, Status};
pub use backends::DEFAULT_WEIGHT;
pub use checks::{CheckLevel, Checks, Probe};
pub use error::{Error, Report};
pub use host::{HostName, HostPattern};
pub use location::Position;
pub use nearest::nearest;
pub use networks::is_in_any;
pub use passive::is_reachable;
pub use schema::SCHEMA;
pub use secret_file::SecretFile;
pub use settings::{
    Announced, AnnouncedAddress, AnnouncedTo, CloseNotify, GuardRules, Limits, Listener, Passive,
    SessionReuse, Settings, Timeouts, Tls, TlsMode, TlsVersion, TransferLog, TransferLogFormat,
    UserForms,
};
pub use site::{
    Backend, BackendTls, Balance, Endpoint, ExpectedName, Group, PassiveMode, ProxyVersion,
    SentProxyProtocol, ServerNames, Servers, Site, UnknownUsers, Verify,
};
pub use sites::NO_SITE;
pub use template::{TemplateError, TemplatePart, UserTemplate};

use std::path::Path;

use crate::base::file::{ReadError, read_bounded};

/// The longest configuration file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;
/// Editors on Windows put an invisible byte order mark in front of UTF-8. The YAML reader takes it for a document of
/// its own.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Reads the configuration file at `path`.
///
/// # Errors
/// If it can't be read, isn't a regular file, is longer than 1 MiB, isn't UTF-8, isn't YAML, or says what can't work; if
/// a file of a password can't be used.
pub fn load(path: &Path) -> Result<Settings, Error> {
    let owned = || path.to_owned();
    let mut bytes = read_bounded(path, MAX_FILE).map_err(|error| match error {
        ReadError::Io(cause) => Error::Read {
            path: owned(),
            cause,
        },
        ReadError::NotAFile => Error::NotAFile { path: owned() },
        ReadError::TooLong => Error::TooLong { path: owned() },
    })?;
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    match String::from_utf8(bytes) {
        Ok(text) => {
            let mut settings = parse(&text, path)?;
            checks::read_passwords(&mut settings.sites)
                .and_then(|()| admin::read_token(&mut settings.admin))
                .map_err(|fault| located(fault, &text, path))?;
            Ok(settings)
        }
        Err(error) => Err(Error::not_utf8(path, &error)),
    }
}

/// Reads a configuration from `text`; `origin` is the file that errors name and whose directory relative file names
/// count from.
///
/// # Errors
/// If the text isn't YAML or says what can't work.
pub fn parse(text: &str, origin: &Path) -> Result<Settings, Error> {
    let invalid = |error| Error::invalid(origin, text, yaml_error::describe(text, error));
    structure::refuse_duplicate_keys(text).map_err(invalid)?;
    let file: file::File = serde_yaml::from_str(text).map_err(invalid)?;
    let base = origin.parent().unwrap_or(Path::new(""));
    resolve::resolve(file, base).map_err(|fault| located(fault, text, origin))
}

fn located(fault: error::Fault, text: &str, origin: &Path) -> Error {
    let position = structure::locate(text, &fault.location);
    Error::invalid(origin, text, fault.at(position))
}
