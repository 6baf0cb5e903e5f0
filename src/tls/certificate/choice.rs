//! Which certificate a client is shown. A pure choice: names, what the client can use and the time come in, a place
//! comes out.
//!
//! The name that counts is, in the order in which routing takes them:
//!
//! 1. the argument of a HOST (RFC 7151 §3.2.2) before AUTH that has chosen a site. The session gets that site whatever
//!    the handshake names, and a certificate of another site would contradict it;
//! 2. the server name of the handshake (RFC 6066 §3);
//! 3. the argument of a HOST that is a name of the proxy itself, and chooses no site.
//!
//! Among the certificates that have the name and are valid, one whose chain is valid goes before one whose chain isn't, then an
//! exact name before a wildcard, then ECDSA before RSA where the client can verify it, then the one that expires last. Without
//! any, it is the default one, never an alert: FTP clients often send the name of something else, and many send none.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::SystemTime;

use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

use super::CertificatePair;

/// The host names by which a client has asked, in the one form in which names are compared.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// By HOST before the handshake, if that has chosen a site.
    pub site_host: Option<&'a str>,
    /// The server name of the handshake.
    pub server_name: Option<&'a str>,
    /// By HOST before the handshake, if it was a name of the proxy itself.
    pub proxy_host: Option<&'a str>,
}

/// An index from names to the positions of the certificates that have them.
#[derive(Debug, Default)]
pub(super) struct NameIndex {
    exact: HashMap<String, Vec<usize>>,
    /// By the name behind the wildcard label.
    any_label_before: HashMap<String, Vec<usize>>,
}

/// How a certificate has a name; the better one is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    Wildcard,
    Exact,
}

/// The use of a certificate to a client at the moment; the better one is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Of no use: it has expired, or the client can't use its key.
    Unfit,
    /// Of use to clients that don't verify: an issuer in its chain has expired, or isn't valid yet.
    WithoutChain,
    /// Of use to all clients.
    Good,
}

impl Standing {
    pub fn of(pair: &CertificatePair, schemes: &[SignatureScheme], now: SystemTime) -> Self {
        if !pair.is_valid(now) || !is_usable(&pair.key, schemes) {
            Self::Unfit
        } else if pair.is_good(now) {
            Self::Good
        } else {
            Self::WithoutChain
        }
    }
}

impl NameIndex {
    pub fn of<'p>(pairs: impl Iterator<Item = (usize, &'p CertificatePair)>) -> Self {
        let mut index = Self::default();
        for (place, pair) in pairs {
            for name in &pair.names {
                let places = match name.strip_prefix("*.") {
                    Some(suffix) => index.any_label_before.entry(suffix.to_owned()),
                    None => index.exact.entry(name.clone()),
                };
                places.or_default().push(place);
            }
        }
        index
    }

    fn claimants(&self, name: &str) -> impl Iterator<Item = (Match, usize)> {
        let parent = name
            .split_once('.')
            .filter(|(label, _)| !label.is_empty())
            .map(|(_, parent)| parent);
        let exact = self.exact.get(name).into_iter().flatten();
        let wildcard = parent.and_then(|parent| self.any_label_before.get(parent));
        let wildcard = wildcard.into_iter().flatten();
        let exact = exact.map(|place| (Match::Exact, *place));
        exact.chain(wildcard.map(|place| (Match::Wildcard, *place)))
    }

    /// The place of the best certificate that has one of the names that count, unless it is unfit.
    pub fn choose<'p>(
        &self,
        asked: &Asked<'_>,
        pair_at: impl Fn(usize) -> Option<&'p CertificatePair>,
        standing: impl Fn(&CertificatePair) -> Standing,
    ) -> Option<usize> {
        let best = |name: &str| {
            let claimants = self.claimants(name).filter_map(|(how, place)| {
                let pair = pair_at(place)?;
                let standing = standing(pair);
                let rank = (standing, how, rank(pair), Reverse(place));
                (standing > Standing::Unfit).then_some((rank, place))
            });
            claimants
                .max_by_key(|(rank, _)| *rank)
                .map(|(_, place)| place)
        };
        match asked.site_host {
            Some(host) => best(host),
            None => [asked.server_name, asked.proxy_host]
                .into_iter()
                .flatten()
                .find_map(best),
        }
    }
}

/// The one that is shown among those that have a name in the same way is the greatest.
pub(super) fn rank(pair: &CertificatePair) -> (u8, SystemTime) {
    let kind = match pair.key.key.algorithm() {
        SignatureAlgorithm::ECDSA => 2,
        SignatureAlgorithm::ED25519 => 1,
        _ => 0,
    };
    (kind, pair.chain_not_after())
}

/// The kinds of signatures that a client verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verifies {
    /// Signatures of all kinds.
    Everything,
    /// Signatures of RSA keys alone.
    RsaAlone,
}

impl Verifies {
    /// The signature schemes, as a ClientHello lists them.
    pub fn schemes(self) -> Vec<SignatureScheme> {
        match self {
            Self::Everything => crate::tls::provider()
                .signature_verification_algorithms
                .supported_schemes(),
            Self::RsaAlone => RSA_SCHEMES.into(),
        }
    }
}

const RSA_SCHEMES: [SignatureScheme; 6] = [
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
];

/// Whether a client that verifies these signatures can use that key. In TLS 1.2 rustls has left out those that none of
/// the client's cipher suites go with.
fn is_usable(key: &CertifiedKey, schemes: &[SignatureScheme]) -> bool {
    key.key.choose_scheme(schemes).is_some()
}
