//! Verifies chains by authorities and revocation lists, whatever the order in which the files have the lists.
//!
//! rustls asks the first list that bears the name of a certificate's issuer, and no other. But there may be an older list of
//! the same issuer, and one of another authority that has the same name: one that was given a new key keeps its name. So of
//! the lists of one key only the newest is handed on, and for the keys of one name there is a set of lists each.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{CertRevocationListError, CertificateError, Error, RootCertStore};
use x509_parser::oid_registry::{
    OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, OID_X509_EXT_ISSUER_DISTRIBUTION_POINT, Oid,
};
use x509_parser::revocation_list::CertificateRevocationList;

use crate::config::CrlExpired;
use crate::tls::provider;
use crate::tls::verify::signature;

/// How many sets of lists there may be: authorities that have two keys double them, and each set is kept parsed.
pub(super) const MAX_SETS: usize = 16;

/// Verifies chains with each of the sets of lists.
pub(super) struct Chains(Vec<Arc<dyn ClientCertVerifier>>);

/// The attributes by which the lists of one issuer are distinguished from those of another, and from each other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ListOrigin {
    /// The issuer's name in DER.
    pub name: Vec<u8>,
    pub key: ListKey,
    /// The part of the issuer's certificates for which it is, in DER; none of a list for all of them.
    scope: Option<Vec<u8>>,
}

/// By which key a list is signed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ListKey {
    /// The public key of one of the configured authorities.
    Authority(Vec<u8>),
    /// The list is signed by the key of none of them; the key's identifier in the list, if it has one.
    Other(Option<Vec<u8>>),
}

/// Newer lists have greater ages: when it was issued, then its number, by length and bytes.
pub(super) type ListAge = (i64, usize, Vec<u8>);

impl ListOrigin {
    /// The origin of a list, among `authorities`: their names in DER and public keys.
    pub fn of<'a>(
        list: &CertificateRevocationList<'_>,
        authorities: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Self {
        let name = list.issuer().as_raw();
        let signer = authorities
            .filter(|(authority, _)| *authority == name)
            .find(|(_, key)| is_signed_by(list, key));
        let key = match signer {
            Some((_, key)) => ListKey::Authority(key.to_vec()),
            None => ListKey::Other(extension(list, &OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER)),
        };
        Self {
            name: name.to_vec(),
            key,
            scope: extension(list, &OID_X509_EXT_ISSUER_DISTRIBUTION_POINT),
        }
    }
}

/// How new a list is.
pub(super) fn age(list: &CertificateRevocationList<'_>) -> ListAge {
    let number = list.crl_number().map(|number| number.to_bytes_be());
    let number = number.unwrap_or_default();
    (list.last_update().timestamp(), number.len(), number)
}

fn extension(list: &CertificateRevocationList<'_>, oid: &Oid<'_>) -> Option<Vec<u8>> {
    let mut extensions = list.extensions().iter();
    let found = extensions.find(|extension| extension.oid == *oid)?;
    Some(found.value.to_vec())
}

/// Whether a list is signed by this key. Only to tell lists apart: before a list counts for a certificate, rustls verifies it by
/// the key of that one's issuer.
fn is_signed_by(list: &CertificateRevocationList<'_>, key: &[u8]) -> bool {
    let signed = signature::is_signed_by(
        key,
        &list.signature_algorithm,
        list.tbs_cert_list.as_ref(),
        &list.signature_value.data,
    );
    signed == Some(true)
}

/// Each set has the lists of one key for each name.
///
/// # Errors
/// If there are too many: the first list of the name that makes them so.
pub(super) fn sets(origins: &[&ListOrigin]) -> Result<Vec<Vec<usize>>, usize> {
    let mut sets: Vec<Vec<usize>> = vec![Vec::new()];
    for (first, origin) in origins.iter().enumerate() {
        if origins[..first].iter().any(|it| it.name == origin.name) {
            continue;
        }
        // Of this name, by key.
        let mut keys: Vec<Vec<usize>> = Vec::new();
        for (index, it) in origins.iter().enumerate() {
            if it.name != origin.name {
                continue;
            }
            match keys.iter_mut().find(|key| origins[key[0]].key == it.key) {
                Some(key) => key.push(index),
                None => keys.push(vec![index]),
            }
        }
        if sets.len() * keys.len() > MAX_SETS {
            return Err(first);
        }
        sets = sets
            .iter()
            .flat_map(|set| keys.iter().map(|key| [set.as_slice(), key].concat()))
            .collect();
    }
    Ok(sets)
}

impl Chains {
    /// The verifier of chains by these authorities and each of these sets of lists.
    pub fn new(
        roots: RootCertStore,
        sets: impl Iterator<Item = Vec<CertificateRevocationListDer<'static>>>,
        crl_expired: CrlExpired,
    ) -> Result<Self, VerifierBuilderError> {
        let roots = Arc::new(roots);
        let verifiers = sets.map(|crls| {
            let builder =
                WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider());
            // Without a list, nothing is asked of lists; with any, every certificate below a root has to be in the scope of
            // one.
            let builder = builder.with_crls(crls);
            match crl_expired {
                CrlExpired::Refuse => builder.enforce_revocation_expiration().build(),
                CrlExpired::Accept => builder.build(),
            }
        });
        verifiers.collect::<Result<_, _>>().map(Self)
    }

    /// Whether one set of lists lets a chain pass, and none has one of its certificates revoked.
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let mut is_good = false;
        let mut fault = None;
        for verifier in &self.0 {
            match verifier.verify_client_cert(leaf, intermediates, now) {
                Ok(_) => is_good = true,
                // A list is asked only when its signature is right.
                Err(error @ Error::InvalidCertificate(CertificateError::Revoked)) => {
                    return Err(error);
                }
                // Says least: that in this set there are lists of other authorities with the same name.
                Err(error) if is_list_of_other_key(&error) => {
                    let missing = CertificateError::UnknownRevocationStatus;
                    fault = fault.or(Some(missing.into()));
                }
                Err(error) => match fault {
                    None
                    | Some(Error::InvalidCertificate(CertificateError::UnknownRevocationStatus)) => {
                        fault = Some(error);
                    }
                    Some(_) => {}
                },
            }
        }
        match fault {
            Some(fault) if !is_good => Err(fault),
            _ => Ok(()),
        }
    }
}

fn is_list_of_other_key(error: &Error) -> bool {
    use CertRevocationListError::{
        BadSignature, UnsupportedSignatureAlgorithmForPublicKeyContext as KeyOfOtherKind,
    };
    matches!(
        error,
        Error::InvalidCertRevocationList(BadSignature | KeyOfOtherKind { .. })
    )
}
