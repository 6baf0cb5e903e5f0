//! Certificates of clients in a configuration file: whether one is asked for, which authorities count, and what a site demands.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use super::error::{Fault, quoted};
use super::file;
use super::host::HostName;
use super::location::{Location, steps};
use super::scalar::Sha256;
use super::site::Site;
use crate::policy::client_certificate::{PinnedCertificates, folded};
use crate::policy::{CertificateRules, CertificateUser};

/// The certificates of clients: whether one is asked for, and which authorities vouch for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// PEM file of the authorities; without it, those certificates alone count that sites pin.
    pub ca: Option<PathBuf>,
    /// Files of revocation lists; with any, each certificate of a chain needs the list of its issuer.
    pub crls: Vec<PathBuf>,
    /// What becomes of certificates whose list is past its next update.
    pub crl_expired: CrlExpired,
    /// Which clients are asked.
    pub ask: AskClients,
}

/// What becomes of certificates whose revocation list is past its next update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrlExpired {
    /// They are refused: some may have been revoked since.
    Refuse,
    /// The list counts as it is.
    Accept,
}

/// Whether clients are asked for a certificate in the handshake of their control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskClients {
    /// They aren't.
    None,
    /// They are, and a handshake without one goes on; sites decide at USER.
    Optional,
    /// A handshake without one that an authority vouches for, or a site pins, fails.
    Required,
}

impl AskClients {
    /// Its value in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }
}

/// One fingerprint, or several.
pub(super) struct Fingerprints(Vec<[u8; 32]>);

impl<'de> Deserialize<'de> for Fingerprints {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FingerprintsVisitor)
    }
}

struct FingerprintsVisitor;

impl<'de> Visitor<'de> for FingerprintsVisitor {
    type Value = Fingerprints;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fingerprint such as \"sha256:9f86d0...\", or a list of them")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Fingerprints, E> {
        let Sha256(one) = Sha256::deserialize(de::value::StrDeserializer::new(text))?;
        Ok(Fingerprints(vec![one]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Fingerprints, A::Error> {
        let mut all = Vec::new();
        while let Some(Sha256(one)) = list.next_element()? {
            all.push(one);
        }
        Ok(Fingerprints(all))
    }
}

/// What the section `tls` says of clients' certificates. Relative file names count from `base`.
pub(super) fn resolve(
    written: Option<file::ClientCertificates>,
    base: &Path,
) -> Result<Option<ClientCertificates>, Fault> {
    let Some(written) = written else {
        return Ok(None);
    };
    let key = |key: &'static str| Location::Key(steps!["tls", "client_certificates", key]);
    let crls = written.crl.unwrap_or_default();
    if !crls.is_empty() && written.ca.is_none() {
        return Err(Fault::new(
            key("crl"),
            "`crl` without `ca`: a revocation list is about the certificates of an authority",
            "add `ca: FILE` with the authority that has issued the list, or leave `crl` out",
        ));
    }
    if crls.is_empty() && written.crl_expired.is_some() {
        return Err(Fault::new(
            key("crl_expired"),
            "`crl_expired` without `crl` says nothing",
            "add `crl: [FILE]`, or leave `crl_expired` out",
        ));
    }
    Ok(Some(ClientCertificates {
        ca: written.ca.map(|file| base.join(file.0)),
        crls: crls.into_iter().map(|file| base.join(file.0)).collect(),
        crl_expired: written.crl_expired.unwrap_or(CrlExpired::Refuse),
        ask: written.ask.unwrap_or(AskClients::None),
    }))
}

/// Refuses to require a certificate where none would do.
pub(super) fn refuse_without_any(
    asked: Option<&ClientCertificates>,
    sites: &[Arc<Site>],
) -> Result<(), Fault> {
    let Some(ClientCertificates {
        ca: None,
        ask: AskClients::Required,
        ..
    }) = asked
    else {
        return Ok(());
    };
    let mut rules = sites
        .iter()
        .filter_map(|site| site.policy.client_certificate.as_ref());
    if rules.any(|rules| !rules.pinned.is_empty()) {
        return Ok(());
    }
    Err(Fault::new(
        Location::Key(steps!["tls", "client_certificates", "ask"]),
        "no client could connect: a certificate is required, and there is neither an authority for clients' certificates nor a \
         pinned one",
        "add `ca: FILE`, or write `ask: optional` and have sites demand a certificate by `client_certificate`",
    ))
}

/// What site number `site` demands, where clients are asked as in `asked`. Relative file names count from `base`.
pub(super) fn resolve_site(
    written: Option<file::ClientCertificate>,
    asked: Option<&ClientCertificates>,
    site: usize,
    base: &Path,
) -> Result<Option<CertificateRules>, Fault> {
    let Some(written) = written else {
        return Ok(None);
    };
    let at = || steps!["sites", site, "client_certificate"];
    let required = written.required.unwrap_or(true);
    let asked = match asked {
        Some(asked) if asked.ask != AskClients::None => asked,
        _ => {
            return Err(Fault::new(
                Location::Key(at()),
                match required {
                    true => "no client is asked for a certificate, so no user could log in",
                    false => "no client is asked for a certificate, so this has no effect",
                },
                "write `client_certificates: {ca: FILE, ask: optional}` in the section `tls`, or leave \
                 `client_certificate` out",
            ));
        }
    };
    let user = written.user.unwrap_or_default();
    let pinned = pinned(written.pinned.unwrap_or_default(), site)?;
    if required && asked.ca.is_none() && pinned.is_empty() {
        return Err(Fault::new(
            Location::Key(at()),
            "no user could log in: there is neither an authority for clients' certificates nor a pinned one",
            "write `ca: FILE` in `tls.client_certificates`, or `pinned: {USER: \"sha256:HEX\"}` here",
        ));
    }
    if written.credentials.is_some() && user == CertificateUser::None && asked.ca.is_some() {
        return Err(Fault::new(
            Location::Key(steps!["sites", site, "client_certificate", "credentials"]),
            "`credentials` with `user: none`: any certificate of the authority would log in as any user",
            "write `user: cn`, `email` or `dns`, so that a certificate is good for its user alone, or leave \
             `credentials` out",
        ));
    }
    Ok(Some(CertificateRules {
        required,
        user,
        pinned,
        credentials: written.credentials.map(|file| base.join(file.0)),
    }))
}

fn pinned(
    written: HashMap<String, Fingerprints>,
    site: usize,
) -> Result<PinnedCertificates, Fault> {
    let mut pinned = PinnedCertificates::new();
    // In the order of their names, so that a mistake is told in the same words each time.
    let mut written: Vec<_> = written.into_iter().collect();
    written.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (user, Fingerprints(fingerprints)) in written {
        let fault = |what: String, remedy: &str| {
            Err(Fault::new(
                Location::Key(steps!["sites", site, "client_certificate", "pinned"]),
                what,
                remedy,
            ))
        };
        if user.is_empty() || user.contains(char::is_control) {
            return fault(
                format!("{} can't be the name of a user", quoted(&user)),
                "write the user as clients send it, without a host",
            );
        }
        // The user of `ftp.example.com|corp|joe` is `corp|joe`.
        let before_bar = user.split_once('|').map(|(host, _)| host);
        let is_host = |host: &str| host.contains('.') && HostName::parse(host.as_bytes()).is_some();
        if before_bar.is_some_and(is_host) {
            return fault(
                format!(
                    "{} has a host in front of the user, so it matches no login",
                    quoted(&user)
                ),
                "write the user alone, without the host and the `|`: the site is this one already",
            );
        }
        if fingerprints.is_empty() {
            return fault(
                format!(
                    "{} has no fingerprint, so the user could never log in",
                    quoted(&user)
                ),
                "write `\"sha256:HEX\"`, or leave the user out",
            );
        }
        if pinned
            .insert(folded(user.as_bytes()), fingerprints)
            .is_some()
        {
            return fault(
                format!(
                    "{} is pinned twice; upper and lower case don't make a difference",
                    quoted(&user)
                ),
                "write all certificates of a user as one list, such as `acme: [\"sha256:HEX\", \"sha256:HEX\"]`",
            );
        }
    }
    Ok(pinned)
}
