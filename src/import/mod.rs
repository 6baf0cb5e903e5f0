//! Configurations of other servers as a configuration of Portcullis, and their certificates as files that it reads: reading
//! the file, and writing what has become of it.

pub mod iis;
pub mod pfx;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::base::file::{ReadError, read_bounded};
use crate::base::text::escape_path;

/// The longest file that is read, in bytes: more than some thousand sites take, in UTF-16 as well.
const MAX_FILE: u64 = 8 * 1024 * 1024;

/// The file to import, with the options.
#[derive(Debug)]
pub struct Request<'a> {
    /// The file.
    pub source: Source<'a>,
    /// The name or address by which Portcullis reaches IIS.
    pub backend: Option<&'a str>,
    /// The certificate's file in the configuration.
    pub certificate: &'a str,
    /// The key's file in the configuration.
    pub private_key: &'a str,
}

/// The source of the file.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// Standard input.
    Input,
    /// A regular file.
    File(&'a Path),
}

/// The result of an import.
#[derive(Debug)]
pub enum Outcome {
    /// Everything is carried over.
    CarriedOver,
    /// A configuration was made, and something needs attention.
    NeedsAttention,
    /// No configuration was made.
    Unusable(Error),
}

/// The reason why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be opened or read.
    #[error("{}: the file can't be read: {cause}", escape_path(path))]
    Read {
        /// The file's path.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        cause: io::Error,
    },
    /// A directory, a pipe or a device.
    #[error("{}: not a regular file", escape_path(path))]
    NotAFile {
        /// The file's path.
        path: PathBuf,
    },
    /// Longer than any such file.
    #[error("{}: the file is longer than 8 MiB", escape_path(path))]
    TooLong {
        /// The file's path.
        path: PathBuf,
    },
    /// The file's content can't be used.
    #[error("{}: {cause}", escape_path(path))]
    Content {
        /// The file's path.
        path: PathBuf,
        /// The fault.
        #[source]
        cause: iis::ImportError,
    },
    /// The options beside the file can't be used.
    #[error(transparent)]
    Option(iis::ImportError),
    /// The configuration can't be written.
    #[error("the configuration can't be written: {0}")]
    Write(io::Error),
}

/// Imports an `applicationHost.config` of IIS: the configuration goes to `output`, and what to say of it to `notes`.
pub fn iis(request: &Request<'_>, output: &mut impl Write, notes: &mut impl Write) -> Outcome {
    let imported = match read_and_import(request) {
        Ok(imported) => imported,
        Err(error) => return Outcome::Unusable(error),
    };
    let written = output
        .write_all(imported.configuration.as_bytes())
        .and_then(|()| output.flush());
    if let Err(error) = written {
        return Outcome::Unusable(Error::Write(error));
    }
    let certificates = imported.certificates.iter();
    let attention = imported.attention.iter();
    let lines = certificates
        .map(|text| format!("certificate: {text}"))
        .chain(attention.map(|text| format!("attention: {text}")));
    for line in lines {
        // A reader that has gone wants no more of it.
        let _ = writeln!(notes, "{line}");
    }
    if imported.attention.is_empty() {
        Outcome::CarriedOver
    } else {
        Outcome::NeedsAttention
    }
}

fn read_and_import(request: &Request<'_>) -> Result<iis::Imported, Error> {
    let path = match request.source {
        Source::File(path) => path.to_owned(),
        Source::Input => PathBuf::from("standard input"),
    };
    let bytes = match request.source {
        Source::File(path) => read_bounded(path, MAX_FILE),
        Source::Input => read_input(io::stdin().lock()),
    };
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(ReadError::Io(cause)) => return Err(Error::Read { path, cause }),
        Err(ReadError::NotAFile) => return Err(Error::NotAFile { path }),
        Err(ReadError::TooLong) => return Err(Error::TooLong { path }),
    };
    let options = iis::Options {
        backend: request.backend,
        certificate: request.certificate,
        private_key: request.private_key,
    };
    iis::import(&bytes, &options).map_err(|cause| match cause {
        iis::ImportError::Backend(_) => Error::Option(cause),
        cause => Error::Content { path, cause },
    })
}

fn read_input(input: impl Read) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    let read = input.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if read as u64 > MAX_FILE {
        return Err(ReadError::TooLong);
    }
    Ok(bytes)
}
