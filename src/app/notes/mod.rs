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
pub struct Note {
    /// How much it matters.
    pub severity: Severity,
    /// What kind of thing it is, for programs.
    pub code: NoteCode,
    /// What it is, in words.
    pub text: String,
}

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Some clients will fail.
    Warning,
    /// Probably intended.
    Hint,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The kinds of notes. Their texts are part of the interface.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum NoteCode {
            $($(#[$doc])* $name,)*
        }

        impl NoteCode {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// As programs know it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    /// The certificate ends before long.
    CertificateExpiresSoon = "certificate_expires_soon",
    /// It has neither a DNS name nor an address.
    CertificateWithoutName = "certificate_without_name",
    /// It has addresses alone.
    CertificateForAddresses = "certificate_for_addresses",
    /// It is an authority's.
    CertificateOfAuthority = "certificate_of_authority",
    /// Its key shuts out the TLS of old Windows.
    CertificateRsaKey = "certificate_rsa_key",
    /// The chain has no issuer.
    CertificateLeafAlone = "certificate_leaf_alone",
    /// It doesn't have the name of a site's host.
    HostNotCovered = "host_not_covered",
    /// A backend at the port of implicit TLS is connected to in clear text.
    ClearTextAtImplicitPort = "clear_text_at_implicit_port",
    /// A backend's weight has no effect.
    WeightUnused = "weight_unused",
    /// The PROXY header of data connections is never sent.
    DataHeaderUnused = "data_header_unused",
    /// A site's own backends serve nobody.
    BackendsUnused = "backends_unused",
    /// A denied command that no server is known to have.
    VerbUnknown = "verb_unknown",
    /// No second backend is tried in place of a silent one.
    AttemptTooLong = "attempt_too_long",
    /// A login ends before its time in the queue.
    QueueTooLong = "queue_too_long",
    /// The probe's path is taken for an option.
    ProbePathIsOption = "probe_path_is_option",
}

impl Note {
    fn warning(code: NoteCode, text: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            code,
            text: text.into(),
        }
    }

    fn hint(code: NoteCode, text: impl Into<String>) -> Self {
        Self {
            severity: Severity::Hint,
            code,
            text: text.into(),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_for_operators_has_every_code() {
        let page = include_str!("../../../docs/operations.md");
        for code in NoteCode::ALL {
            let code = code.as_str();
            assert!(page.contains(&format!("`{code}`")), "{code}");
        }
    }
}
