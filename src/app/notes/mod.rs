//! Problems that are not errors (yet), or only for some clients: `check` prints them as notes, `run` logs them as
//! warnings.

mod acme;
mod admin;
mod backend_authority;
mod backend_client_certificate;
mod certificate;
mod client_certificates;
mod site;

use std::fmt;
use std::time::SystemTime;

use crate::config::Settings;
use crate::tls::{CertificateSet, ClientTrust};

pub use backend_authority::on_backend_authorities;
pub use backend_client_certificate::on_backend_client_certificates;
pub use certificate::not_served;
pub(super) use certificate::{about, expiring};
pub(super) use client_certificates::ended_since;

/// Something worth a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The note's severity.
    pub severity: Severity,
    /// The note's kind, for programs.
    pub code: NoteCode,
    /// The note's text.
    pub text: String,
}

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The note is about a fault: some clients will fail.
    Warning,
    /// The note is about something that is probably intended.
    Hint,
}

impl Severity {
    /// The severity as `check` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Hint => "hint",
        }
    }
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
    /// It is not for servers.
    CertificatePurpose = "certificate_purpose",
    /// It has a name that no client can ask for.
    CertificateNameUnusable = "certificate_name_unusable",
    /// Its key shuts out the TLS of old Windows.
    CertificateRsaKey = "certificate_rsa_key",
    /// Its key shuts out the TLS of every Windows.
    CertificateEd25519Key = "certificate_ed25519_key",
    /// The chain has no issuer.
    CertificateLeafAlone = "certificate_leaf_alone",
    /// An issuer in the chain ends before the certificate.
    CertificateChainExpires = "certificate_chain_expires",
    /// An issuer in the chain is not valid yet.
    CertificateChainNotYetValid = "certificate_chain_not_yet_valid",
    /// A certificate of the chain is not signed by the next one.
    CertificateChainBroken = "certificate_chain_broken",
    /// A name is claimed by two of one kind.
    CertificateNameTwice = "certificate_name_twice",
    /// Two have one key.
    CertificateKeyShared = "certificate_key_shared",
    /// One of a directory of certificates, or the directory, can't be served.
    CertificateNotServed = "certificate_not_served",
    /// A directory of certificates has none.
    CertificateDirectoryEmpty = "certificate_directory_empty",
    /// The one that is ordered is not there yet.
    CertificateNotOrdered = "certificate_not_ordered",
    /// What is ordered is kept where others may change it.
    AcmeStateWritable = "acme_state_writable",
    /// A certificate that backends are shown ends before long.
    BackendCertificateExpiresSoon = "backend_certificate_expires_soon",
    /// One is not valid now.
    BackendCertificateNotValid = "backend_certificate_not_valid",
    /// One is not for clients.
    BackendCertificatePurpose = "backend_certificate_purpose",
    /// A certificate is taken for an authority's by which backends are verified, and isn't.
    BackendAuthorityNotCa = "backend_authority_not_ca",
    /// It doesn't have the name of a site's host.
    HostNotCovered = "host_not_covered",
    /// A backend at the port of implicit TLS is connected to in clear text.
    ClearTextAtImplicitPort = "clear_text_at_implicit_port",
    /// A backend's weight has no effect.
    WeightUnused = "weight_unused",
    /// The PROXY header of data connections is never sent.
    DataHeaderUnused = "data_header_unused",
    /// A site's own backends serve no user.
    BackendsUnused = "backends_unused",
    /// A denied command that no server is known to have.
    VerbUnknown = "verb_unknown",
    /// No second backend is tried in place of a silent one.
    AttemptTooLong = "attempt_too_long",
    /// A login ends before its time in the queue.
    QueueTooLong = "queue_too_long",
    /// Clients' certificates have no effect.
    ClientCertificatesUnused = "client_certificates_unused",
    /// A certificate is taken for an authority's, and isn't.
    ClientAuthorityNotCa = "client_authority_not_ca",
    /// There are revocation lists, and none of an authority.
    ClientAuthorityWithoutCrl = "client_authority_without_crl",
    /// A revocation list is past its next update.
    CrlExpired = "crl_expired",
    /// A revocation list is of none of the authorities.
    CrlOfNoAuthority = "crl_of_no_authority",
    /// A pinned user can't log in.
    PinnedUserUnknown = "pinned_user_unknown",
    /// A file of passwords can be read by every user.
    CredentialsReadable = "credentials_readable",
    /// The names of users and files are shown to the network.
    AdminOpen = "admin_open",
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

/// All that is worth a note about a configuration and its certificates, and those of clients.
pub fn notes(
    settings: &Settings,
    certificates: &CertificateSet,
    clients: &ClientTrust,
    now: SystemTime,
) -> Vec<Note> {
    let mut notes = certificate::notes(certificates, now);
    notes.extend(certificate::empty_directories(settings, certificates));
    notes.extend(client_certificates::notes(settings, clients, now));
    notes.extend(admin::notes(&settings.admin));
    for site in &settings.sites {
        site::add_notes(&mut notes, site, settings, certificates);
    }
    notes
}

/// The notes on the permissions of a configuration's files and directories. Blocks on the file system, unlike the others.
pub fn on_permissions(settings: &Settings) -> Vec<Note> {
    let state = settings.tls.acme.as_ref().map(|acme| acme.state.as_path());
    let mut notes: Vec<Note> = state.and_then(acme::notes).into_iter().collect();
    notes.extend(client_certificates::on_permissions(settings));
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
