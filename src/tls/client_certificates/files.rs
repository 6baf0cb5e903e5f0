//! The files of authorities and revocation lists: what they hold, and whether that can be used.

use std::collections::HashSet;
use std::iter;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::VerifierBuilderError;
use rustls::{DistinguishedName, RootCertStore};
use x509_parser::parse_x509_crl;

use super::chains::{self, Chains, ListAge, ListKey, ListOrigin};
use super::error::MAX_LIST_FILE;
use super::{Authority, ClientTrust, ClientTrustError, RevocationList};
use crate::base::file::{ReadError, read_bounded};
use crate::config::ClientCertificates;
use crate::tls::content_digest::ContentDigest;
use crate::tls::date::system_time;
use crate::tls::pem as certificates;
use crate::tls::x509::{escaped_name, may_be_issuer};

/// The content of the files at one moment.
pub(super) struct TrustFiles<'a> {
    ca: Option<(&'a Path, Vec<u8>)>,
    crls: Vec<(&'a Path, Vec<u8>)>,
}

/// An authority, with the name and the public key by which its lists are found.
struct Keyed {
    name: Vec<u8>,
    key: Vec<u8>,
    it: Authority,
}

/// A list, with what says which of several counts.
struct Dated {
    origin: ListOrigin,
    age: ListAge,
    /// Whether the list has none of the extensions that RFC 5280 §5.2 demands, without which rustls takes no list.
    is_old: bool,
    der: CertificateRevocationListDer<'static>,
    it: RevocationList,
}

impl<'a> TrustFiles<'a> {
    /// Reads all files whole. Blocks on the file system.
    pub fn read(settings: &'a ClientCertificates) -> Result<Self, ClientTrustError> {
        let ca = match &settings.ca {
            Some(path) => Some((path.as_path(), certificates::read(path)?)),
            None => None,
        };
        let read = |path: &'a std::path::PathBuf| match read_bounded(path, MAX_LIST_FILE) {
            Ok(bytes) => Ok((path.as_path(), bytes)),
            Err(error) => Err(unreadable(path, error)),
        };
        Ok(Self {
            ca,
            crls: settings.crls.iter().map(read).collect::<Result<_, _>>()?,
        })
    }

    pub fn digest(&self) -> ContentDigest {
        let files = self.ca.iter().chain(&self.crls);
        ContentDigest::of(files.map(|(_, bytes)| bytes.as_slice()))
    }

    /// Makes of them what clients' certificates are judged by.
    pub fn check(
        &self,
        settings: &ClientCertificates,
        pinned: Arc<HashSet<[u8; 32]>>,
    ) -> Result<ClientTrust, ClientTrustError> {
        let mut roots = RootCertStore::empty();
        let mut authorities = Vec::new();
        if let Some((path, bytes)) = &self.ca {
            for (index, der) in certificates::certificates(path, bytes)?
                .into_iter()
                .enumerate()
            {
                authorities.extend(authority(&der));
                roots
                    .add(der)
                    .map_err(|source| ClientTrustError::TrustAnchor {
                        path: path.to_path_buf(),
                        position: index + 1,
                        source,
                    })?;
            }
        }
        let mut lists = Vec::new();
        for (path, bytes) in &self.crls {
            for (index, der) in revocation_lists(path, bytes)?.into_iter().enumerate() {
                let malformed = || ClientTrustError::MalformedList {
                    path: path.to_path_buf(),
                    position: index + 1,
                };
                let list = list(path, der, &authorities).ok_or_else(malformed)?;
                if list.is_old {
                    return Err(ClientTrustError::OldList {
                        path: path.to_path_buf(),
                        position: index + 1,
                    });
                }
                add_unless_older(&mut lists, list);
            }
        }
        note_pairs(&mut authorities, &lists);
        // Where certificates are pinned, clients are told no names: some send none of another issuer (GnuTLS, and so lftp and
        // FileZilla; Java), and a pinned certificate may be of any issuer.
        let hints: Vec<DistinguishedName> = match pinned.is_empty() {
            true => roots.subjects(),
            false => Vec::new(),
        };
        let chains = match roots.is_empty() {
            true => None,
            false => {
                let origins: Vec<&ListOrigin> = lists.iter().map(|list| &list.origin).collect();
                let sets = chains::sets(&origins);
                let sets = sets.map_err(|first| ClientTrustError::TooManyKeys {
                    path: lists[first].it.file.clone(),
                    issuer: lists[first].it.issuer.clone(),
                })?;
                let ders =
                    |set: Vec<usize>| set.iter().map(|&list| lists[list].der.clone()).collect();
                let sets = sets.into_iter().map(ders);
                let chains = Chains::new(roots.clone(), sets, settings.crl_expired);
                Some(Arc::new(chains.map_err(|error| {
                    unusable(&roots, &lists, settings, error)
                })?))
            }
        };
        Ok(ClientTrust {
            ask: settings.ask,
            chains,
            hints,
            pinned,
            authorities: authorities.into_iter().map(|keyed| keyed.it).collect(),
            lists: lists.into_iter().map(|dated| dated.it).collect(),
            content: Some(self.digest()),
        })
    }
}

/// rustls doesn't say which of the lists it is: each is tried by itself.
fn unusable(
    roots: &RootCertStore,
    lists: &[Dated],
    settings: &ClientCertificates,
    error: VerifierBuilderError,
) -> ClientTrustError {
    let fault = lists.iter().find_map(|list| {
        let alone = iter::once(vec![list.der.clone()]);
        let source = Chains::new(roots.clone(), alone, settings.crl_expired).err()?;
        Some(ClientTrustError::UnusableList {
            path: list.it.file.clone(),
            issuer: list.it.issuer.clone(),
            source,
        })
    });
    fault.unwrap_or(ClientTrustError::Unusable(error))
}

fn unreadable(path: &Path, error: ReadError) -> ClientTrustError {
    let path = path.to_owned();
    match error {
        ReadError::Io(source) => ClientTrustError::ReadList { path, source },
        ReadError::NotAFile => ClientTrustError::ListNotAFile { path },
        ReadError::TooLong => ClientTrustError::ListTooLarge { path },
    }
}

/// All revocation lists in `bytes`, in PEM or the one in DER, as authorities publish them; at least one.
fn revocation_lists(
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, ClientTrustError> {
    let path = || path.to_owned();
    // The ASN.1 SEQUENCE with which a list begins.
    if bytes.first() == Some(&0x30) {
        if let Ok((surplus @ [_, ..], _)) = parse_x509_crl(bytes) {
            return Err(ClientTrustError::BehindList {
                path: path(),
                surplus: surplus.len(),
            });
        }
        return Ok(vec![CertificateRevocationListDer::from(bytes.to_vec())]);
    }
    let mut lists = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
        match section {
            Ok((SectionKind::Crl, der)) => lists.push(der.into()),
            Ok(_) => {}
            Err(pem::Error::MissingSectionEnd { .. }) => {
                return Err(ClientTrustError::HalfWritten { path: path() });
            }
            Err(_) => {
                return Err(ClientTrustError::MalformedList {
                    path: path(),
                    position: lists.len() + 1,
                });
            }
        }
    }
    match lists.is_empty() {
        true => Err(ClientTrustError::NoList { path: path() }),
        false => Ok(lists),
    }
}

/// `None` if it can't be read; as a trust anchor it is refused then.
fn authority(der: &CertificateDer<'_>) -> Option<Keyed> {
    let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(Keyed {
        name: parsed.subject().as_raw().to_vec(),
        key: parsed.public_key().subject_public_key.data.to_vec(),
        it: Authority {
            subject: escaped_name(parsed.subject()),
            not_after: system_time(&parsed.validity().not_after),
            is_authority: may_be_issuer(&parsed),
            has_list: false,
        },
    })
}

fn list(
    path: &Path,
    der: CertificateRevocationListDer<'static>,
    authorities: &[Keyed],
) -> Option<Dated> {
    let (_, parsed) = parse_x509_crl(&der).ok()?;
    let authorities = authorities.iter();
    let origin = ListOrigin::of(
        &parsed,
        authorities.map(|it| (it.name.as_slice(), it.key.as_slice())),
    );
    Some(Dated {
        age: chains::age(&parsed),
        is_old: parsed.extensions().is_empty(),
        it: RevocationList {
            file: path.to_owned(),
            issuer: escaped_name(parsed.issuer()),
            next_update: parsed.next_update().as_ref().map(system_time),
            revoked: parsed.iter_revoked_certificates().count(),
            is_of_authority: matches!(origin.key, ListKey::Authority(_)),
        },
        origin,
        der,
    })
}

/// Adds a list unless a newer one of the same origin is there; replaces an older one.
fn add_unless_older(lists: &mut Vec<Dated>, list: Dated) {
    match lists.iter_mut().find(|it| it.origin == list.origin) {
        Some(former) if former.age < list.age => *former = list,
        Some(_) => {}
        None => lists.push(list),
    }
}

/// Says of each authority whether there is a list of it.
fn note_pairs(authorities: &mut [Keyed], lists: &[Dated]) {
    for Keyed { name, key, it } in authorities {
        it.has_list = lists.iter().any(|Dated { origin, .. }| {
            origin.name == *name
                && matches!(&origin.key, ListKey::Authority(signer) if signer == key)
        });
    }
}
