//! Problems that are not errors (yet), or only for some clients: `check` prints them as notes, `run` logs them as
//! warnings.

mod certificate;
mod site;

use std::fmt;
use std::time::SystemTime;

use crate::config::Settings;
use crate::tls::CertificateSet;

pub(super) use certificate::{EXPIRES_SOON, expires_soon};

/// Something worth a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Some clients will fail.
    Warning(String),
    /// Probably intended.
    Hint(String),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Warning(text) | Self::Hint(text) => f.write_str(text),
        }
    }
}

/// All that is worth a note about a configuration and its certificates.
pub fn notes(settings: &Settings, certificates: &CertificateSet, now: SystemTime) -> Vec<Note> {
    let mut notes = certificate::notes(settings, certificates.default_pair(), now);
    for site in &settings.sites {
        site::add_notes(&mut notes, site, settings, certificates);
    }
    notes
}
