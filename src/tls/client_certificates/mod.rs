//! The certificates that clients show: whether one is asked for, and whether an authority vouches for it.
//!
//! In the handshake a client has to prove that it holds the key of the certificate that it shows, as far as there is a way to
//! verify that, and, unless `ask: required` says so, nothing else: which site it is for is known at USER alone, and a
//! certificate that this site doesn't ask for must not cost its client the connection. So what the authorities say of a
//! certificate is found out behind the handshake, by [`ClientTrust::identify`], and kept with the session for USER to decide.
//!
//! Authorities and revocation lists are files that are replaced while the process runs; each [`ClientTrust`] is one state of
//! them, which a session keeps to its end.

mod chains;
mod error;
mod files;
mod identity;
#[cfg(test)]
mod tests;
mod verifier;
mod watch;

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::{DistinguishedName, Error};

use super::certificate::{Fingerprint, fingerprint};
use crate::config::{AskClients, ClientCertificates, Settings};
use crate::policy::client_certificate::{CertificateResult, ChainFault, ClientIdentity, KeyProof};
use crate::tls::content_digest::ContentDigest;
use crate::tls::verify::signature;
use chains::Chains;
use files::TrustFiles;
use verifier::{UnverifiableKeys, Verifier};

pub use error::ClientTrustError;
pub(super) use verifier::KeyCheck;
pub use watch::ClientTrustWatch;

/// Whether clients are asked for a certificate, and which authorities vouch for them.
#[derive(Clone)]
pub struct ClientTrust {
    ask: AskClients,
    /// Verifies chains; none without an authority.
    chains: Option<Arc<Chains>>,
    /// Names of authorities, sent to clients as hints.
    hints: Vec<DistinguishedName>,
    /// The certificates that sites pin.
    pinned: Arc<HashSet<[u8; 32]>>,
    /// The authorities, for reports to the operator.
    authorities: Arc<[Authority]>,
    lists: Arc<[RevocationList]>,
    content: Option<ContentDigest>,
}

/// An authority of clients' certificates, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The subject's name, for example `CN=Partners`.
    pub subject: String,
    /// When the authority's certificate expires, which is not checked of a root.
    pub not_after: SystemTime,
    /// Whether certificates may have been issued by it.
    pub is_authority: bool,
    /// Whether one of the revocation lists is the authority's own.
    pub has_list: bool,
}

/// A revocation list, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationList {
    /// The list's file, as configured.
    pub file: PathBuf,
    /// The list's issuer.
    pub issuer: String,
    /// When a newer list is to be issued; a list may leave that open.
    pub next_update: Option<SystemTime>,
    /// How many certificates are revoked.
    pub revoked: usize,
    /// Whether the list's issuer is one of the authorities.
    pub is_of_authority: bool,
}

impl ClientTrust {
    /// No trust: no client is asked for a certificate.
    pub fn none() -> Self {
        Self {
            ask: AskClients::None,
            chains: None,
            hints: Vec::new(),
            pinned: Arc::default(),
            authorities: Arc::default(),
            lists: Arc::default(),
            content: None,
        }
    }

    /// Clients are asked, and no authority vouches for them.
    #[cfg(test)]
    pub(super) fn asking_anybody() -> Self {
        Self {
            ask: AskClients::Optional,
            ..Self::none()
        }
    }

    /// Reads the files that these settings name. Blocks on the file system.
    ///
    /// # Errors
    /// If one of the files can't be used.
    pub fn configured(settings: &Settings) -> Result<Self, ClientTrustError> {
        let pinned = settings.certificate_rules().flat_map(|rules| &rules.pinned);
        let pinned = pinned.flat_map(|(_, fingerprints)| fingerprints);
        Self::load(
            settings.tls.client_certificates.as_ref(),
            pinned.copied().collect(),
        )
    }

    /// Reads the files of these settings; sites pin the certificates `pinned`. Blocks on the file system.
    ///
    /// # Errors
    /// If one of the files can't be used.
    fn load(
        settings: Option<&ClientCertificates>,
        pinned: HashSet<[u8; 32]>,
    ) -> Result<Self, ClientTrustError> {
        let Some(settings) = settings else {
            return Ok(Self::none());
        };
        TrustFiles::read(settings)?.check(settings, Arc::new(pinned))
    }

    /// Whether clients are asked for a certificate.
    pub fn ask(&self) -> AskClients {
        self.ask
    }

    /// The authorities, for reports to the operator.
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// The revocation lists that count, for people: of several of one key the newest.
    pub fn lists(&self) -> &[RevocationList] {
        &self.lists
    }

    /// How rustls is to ask for a certificate on one control connection, with what it finds of the client's key; `None` if it
    /// is not to.
    pub(super) fn control_verifier(&self) -> Option<(Arc<dyn ClientCertVerifier>, Arc<KeyCheck>)> {
        let is_required = match self.ask {
            AskClients::None => return None,
            AskClients::Optional => false,
            AskClients::Required => true,
        };
        let key = Arc::<KeyCheck>::default();
        let unverifiable = match is_required {
            true => UnverifiableKeys::Refused(Some(Arc::clone(&key))),
            false => UnverifiableKeys::Noted(Arc::clone(&key)),
        };
        Some((Verifier::new(self.clone(), unverifiable), key))
    }

    /// The verifier of data connections, which may resume and show no certificate then; what they have to show is decided after
    /// the handshake. They show a certificate that was the user's on the control connection: its key could be verified there.
    pub(super) fn data_verifier(&self) -> Option<Arc<dyn ClientCertVerifier>> {
        let trust = Self {
            ask: AskClients::Optional,
            ..self.clone()
        };
        (self.ask != AskClients::None)
            .then(|| Verifier::new(trust, UnverifiableKeys::Refused(None)) as _)
    }

    /// The identity of a client that has shown `chain`, by the certificate in front of it, at `now`, and has proven this much of
    /// its key; `None` if it has shown none.
    pub fn identify(
        &self,
        chain: &[CertificateDer<'_>],
        key: KeyProof,
        now: SystemTime,
    ) -> Option<ClientIdentity> {
        let (leaf, intermediates) = chain.split_first()?;
        if key == KeyProof::Unverifiable {
            let fault = error::unverifiable_key(signature::unsupported_key(leaf).as_ref());
            return Some(identity::unverified(leaf, fault));
        }
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let vouched = self.vouch(leaf, intermediates, UnixTime::since_unix_epoch(since));
        Some(identity::of(leaf, vouched))
    }

    /// Whether an authority vouches for a certificate.
    fn vouch(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), ChainFault> {
        let Some(chains) = &self.chains else {
            return Err(ChainFault {
                result: CertificateResult::UnknownCa,
                detail: "no authority is configured".to_owned(),
            });
        };
        chains
            .verify(leaf, intermediates, now)
            .map_err(|error| error::chain_fault(&error, leaf, intermediates))
    }

    /// Whether a handshake may go on with this certificate where one is required.
    fn admit(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.pinned.contains(&fingerprint(leaf)) {
            return Ok(());
        }
        match &self.chains {
            Some(chains) => chains
                .verify(leaf, intermediates, now)
                .map_err(error::of_chain),
            None => Err(rustls::CertificateError::UnknownIssuer.into()),
        }
    }
}

/// The fingerprint of a client's certificate, as log and configuration write it.
pub fn shown_fingerprint(identity: &ClientIdentity) -> String {
    Fingerprint(&identity.fingerprint).to_string()
}

/// The fault of a client's certificate, if a handshake failed for that.
pub fn refused_certificate(error: &io::Error) -> Option<CertificateResult> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    match error {
        // The client doesn't hold the key.
        Error::InvalidCertificate(rustls::CertificateError::BadSignature) => {
            Some(CertificateResult::Invalid)
        }
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented => {
            Some(error::result_of(error))
        }
        _ => None,
    }
}

/// The fingerprint of the certificate in front of what a client has shown.
pub(super) fn shown_by(chain: &[CertificateDer<'_>]) -> Option<[u8; 32]> {
    chain.first().map(fingerprint)
}

impl fmt::Debug for ClientTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTrust")
            .field("ask", &self.ask)
            .field("authorities", &self.authorities)
            .field("lists", &self.lists)
            .finish_non_exhaustive()
    }
}
