//! The settings that the program runs on: checked, complete, immutable.
//!
//! They are in `settings`, and in `site` what is one site's. The file format is `file`, its single values are `scalar`;
//! `resolve`, with `acme`, `admin`, `certificates`, `listeners`, `passive`, `sites`, `backends`, `checks`,
//! `client_certificates` and `transfer_logs`, turns it into the settings, filling in the defaults and refusing what can't work.
//! Where a file is wrong, `structure` finds the line of a `location`, `yaml_error` rewords the YAML reader's error, and
//! [`Error`] shows both, without what `concealed` takes for a secret. `source` puts what the command line says in place of the
//! file's. The rest of the program sees only [`Settings`].
//!
//! [`parse`] opens no file that the configuration names, and [`load`] none but those of passwords and tokens: whether a certificate
//! exists and is valid is checked when it is loaded. Relative file names count from the directory of the configuration file.

mod acme;
mod admin;
mod backends;
mod certificates;
mod checks;
mod client_certificates;
mod concealed;
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
mod source;
mod structure;
mod template;
mod transfer_logs;
mod yaml_error;

pub use acme::{AcmeChallenge, AcmeSettings, ExternalAccount, https_port};
pub use admin::{AdminSettings, Status};
pub use backends::DEFAULT_WEIGHT;
pub use certificates::{CertificateLayout, MoreCertificates};
pub use checks::{CheckLevel, Checks, Probe, list_argument};
pub use client_certificates::{AskClients, ClientCertificates, CrlExpired};
pub use error::{Error, Report};
pub use host::{HostName, HostNames, HostPattern};
pub use location::Position;
pub use nearest::nearest;
pub use networks::is_in_any;
pub use passive::{Ports, is_reachable};
pub use schema::SCHEMA;
pub use secret_file::SecretFile;
pub use settings::{
    Announced, AnnouncedAddress, AnnouncedTo, CloseNotify, GuardRules, Limits, Listener, Passive,
    SessionReuse, Settings, Timeouts, Tls, TlsMode, TlsVersion, TransferLog, TransferLogFormat,
    UserForms,
};
pub use site::{
    Backend, BackendTls, Balance, Endpoint, ExpectedName, Group, KeyPairFiles, PassiveMode,
    ProxyVersion, SentProxyProtocol, ServerNames, Servers, Site, UnknownUsers, Verify,
};
pub use sites::NO_SITE;
pub use source::{Overrides, Source, port_range};
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
            concealed::refuse_secrets_as_names(&settings, directory(path))
                .and_then(|()| checks::read_passwords(&mut settings.sites))
                .and_then(|()| admin::read_token(&mut settings.admin))
                .and_then(|()| settings.tls.acme.as_mut().map_or(Ok(()), acme::read_key))
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
    let settings = resolve::resolve(file, directory(origin));
    let settings = settings.map_err(|fault| located(fault, text, origin))?;
    // Last, since most errors above know more of the key.
    structure::refuse_keys_without_value(text).map_err(invalid)?;
    Ok(settings)
}

/// What relative file names of the configuration at `origin` count from.
fn directory(origin: &Path) -> &Path {
    origin.parent().unwrap_or(Path::new(""))
}

fn located(fault: error::Fault, text: &str, origin: &Path) -> Error {
    let position = structure::locate(text, &fault.location);
    Error::invalid(origin, text, fault.at(position))
}
