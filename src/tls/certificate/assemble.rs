//! A chain in order, and the key that belongs to it, of certificates and keys that lie together in any order.

use std::time::SystemTime;

use rustls::pki_types::PrivatePkcs8KeyDer;
use x509_parser::certificate::X509Certificate;

use crate::tls::date::system_time;
use crate::tls::pem;
use crate::tls::provider;
use crate::tls::verify::signature;
use crate::tls::x509::escaped_name;

/// A pair in PEM, as [`CertificatePair::load`](super::CertificatePair::load) wants it; whether it is any good is not known.
pub struct Assembled {
    /// The leaf, and then each issuer that is there, without a root that issued itself.
    pub certificate: String,
    /// The key of the leaf, in PKCS#8.
    pub private_key: String,
}

/// Reasons why there is no pair among them.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each variant is
pub enum AssembleError {
    #[error("there is no private key in it: export it again with its key")]
    NoKey,
    #[error("there is no certificate in it")]
    NoCertificate,
    #[error("certificate {0} in it is malformed")]
    Malformed(usize),
    #[error("the private key in it cannot be used: {0}")]
    UnusableKey(rustls::Error),
    #[error("the private key in it belongs to none of its certificates")]
    KeyWithoutCertificate,
    #[error(
        "there are several keys with certificates in it ({}): export the one that is to be served by itself",
        .0.join(", ")
    )]
    SeveralKeys(Vec<String>),
}

/// Makes a pair of keys in PKCS#8 and certificates, in DER. Where one key has several certificates, as after a renewal, the one
/// that expires last counts among those that are valid at `now`; another one only where none is.
///
/// # Errors
/// See [`AssembleError`].
pub fn assemble(
    keys: &[Vec<u8>],
    certificates: &[Vec<u8>],
    now: SystemTime,
) -> Result<Assembled, AssembleError> {
    if certificates.is_empty() {
        return Err(AssembleError::NoCertificate);
    }
    if keys.is_empty() {
        return Err(AssembleError::NoKey);
    }
    let all = parse(certificates)?;
    let mut leaves: Vec<(&X509Certificate<'_>, &Vec<u8>)> = Vec::new();
    let mut unusable = None;
    for key in keys {
        let public_key = match public_key(key) {
            Ok(public_key) => public_key,
            Err(error) => {
                unusable = Some(error);
                continue;
            }
        };
        let own = all.iter().filter(|it| it.public_key().raw == public_key);
        let leaf = own.max_by_key(|it| lasting(it, now));
        if let Some(leaf) = leaf
            && !leaves.iter().any(|(other, _)| *other == leaf)
        {
            leaves.push((leaf, key));
        }
    }
    let (leaf, key) = match (&leaves[..], unusable) {
        ([(leaf, key)], _) => (*leaf, *key),
        ([], Some(error)) => return Err(AssembleError::UnusableKey(error)),
        ([], None) => return Err(AssembleError::KeyWithoutCertificate),
        (several, _) => {
            let subjects = several.iter().map(|(leaf, _)| escaped_name(leaf.subject()));
            return Err(AssembleError::SeveralKeys(subjects.collect()));
        }
    };
    let chain = chain(leaf, &all, now);
    Ok(Assembled {
        certificate: chain
            .iter()
            .map(|it| pem::encode("CERTIFICATE", it.as_raw()))
            .collect(),
        private_key: pem::encode("PRIVATE KEY", key),
    })
}

fn parse(certificates: &[Vec<u8>]) -> Result<Vec<X509Certificate<'_>>, AssembleError> {
    let numbered = certificates.iter().enumerate();
    numbered
        .map(|(index, der)| {
            let (_, parsed) = x509_parser::parse_x509_certificate(der)
                .map_err(|_| AssembleError::Malformed(index + 1))?;
            Ok(parsed)
        })
        .collect()
}

/// Whether the certificate is valid, and then until when: what is better is greater.
fn lasting(certificate: &X509Certificate<'_>, now: SystemTime) -> (bool, SystemTime) {
    let [begin, end] = [
        &certificate.validity().not_before,
        &certificate.validity().not_after,
    ]
    .map(system_time);
    ((begin..=end).contains(&now), end)
}

/// In the form in which certificates have it.
fn public_key(key: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let key = PrivatePkcs8KeyDer::from(key.to_vec());
    let key = provider().key_provider.load_private_key(key.into())?;
    let public_key = key.public_key();
    let unknown = || rustls::Error::General("its public key is not known".to_owned());
    Ok(public_key.ok_or_else(unknown)?.to_vec())
}

/// By names, as the check of what is served does it. Where several have the name, as after an authority was given a new key,
/// the one that signed comes first.
fn chain<'a, 'c>(
    leaf: &'a X509Certificate<'c>,
    all: &'a [X509Certificate<'c>],
    now: SystemTime,
) -> Vec<&'a X509Certificate<'c>> {
    let mut chain = vec![leaf];
    loop {
        let last = chain[chain.len() - 1];
        let issuers = all.iter().filter(|it| {
            it.subject().as_raw() == last.issuer().as_raw()
                && it.subject().as_raw() != it.issuer().as_raw()
                && !chain.contains(it)
        });
        // Of an issuer that was renewed, the later one that is valid.
        let best = issuers.max_by_key(|it| {
            (
                signature::has_signed(it, last) == Some(true),
                lasting(it, now),
            )
        });
        match best {
            Some(issuer) => chain.push(issuer),
            None => return chain,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    use super::*;
    use crate::tls::fixtures::{Authority, Identity, now};

    fn key(identity: &Identity) -> Vec<u8> {
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem().as_bytes()).unwrap();
        key.secret_der().to_vec()
    }

    fn der(certificates: &[CertificateDer<'_>]) -> Vec<Vec<u8>> {
        certificates.iter().map(|it| it.to_vec()).collect()
    }

    fn chain_of(assembled: &Assembled) -> Vec<Vec<u8>> {
        let chain = CertificateDer::pem_slice_iter(assembled.certificate.as_bytes());
        chain.map(|it| it.unwrap().to_vec()).collect()
    }

    #[test]
    fn the_keys_own_certificate_is_found_wherever_it_lies_and_the_root_left_out() {
        let leaf = Authority::new("CA").issue(&["ftp.test"]);
        let other = Identity::self_signed(&["other.test"]);
        let mut all = der(&leaf.chain);
        all.push(other.chain[0].to_vec());
        for _ in 0..all.len() {
            all.rotate_left(1);
            let assembled = assemble(&[key(&leaf)], &all, now()).unwrap();
            assert_eq!(chain_of(&assembled), [leaf.chain[0].to_vec()]);
            let read = PrivateKeyDer::from_pem_slice(assembled.private_key.as_bytes()).unwrap();
            assert_eq!(read.secret_der(), key(&leaf));
        }
    }

    #[test]
    fn a_certificate_that_issued_itself_is_a_chain_of_one() {
        let own = Identity::self_signed(&["ftp.test"]);
        let assembled = assemble(&[key(&own)], &der(&own.chain), now()).unwrap();
        assert_eq!(chain_of(&assembled), der(&own.chain));
    }

    #[test]
    fn of_issuers_of_one_name_the_one_that_signed_counts() {
        let root = Authority::new("root");
        let (signer, namesake) = (root.subordinate("CA", 10), root.subordinate("CA", 20));
        let leaf = signer.issue(&["ftp.test"]);
        let mut all = der(&leaf.chain);
        all.extend(der(&namesake.issue(&["other.test"]).chain[1..]));
        for _ in 0..all.len() {
            all.rotate_left(1);
            let assembled = assemble(&[key(&leaf)], &all, now()).unwrap();
            assert_eq!(chain_of(&assembled), der(&leaf.chain));
        }
    }

    #[test]
    fn of_several_for_one_key_what_is_valid_now_counts_and_then_what_expires_last() {
        let root = Authority::new("root");
        let authority = root.subordinate("CA", 30);
        let leaf = authority.issue_for_days(&["ftp.test"], -10..20);
        let (renewed, expired, future) = (-1..25, -30..-1, 1..90);
        let leaf_for = |days| authority.issue_anew(&leaf, &["ftp.test"], days).to_vec();
        let issuer_for = |days| root.issue_authority_anew(&authority, "CA", days).to_vec();
        let best = |leaves: &[&Vec<u8>], issuers: &[&Vec<u8>]| {
            let mut all: Vec<_> = leaves.iter().chain(issuers).copied().cloned().collect();
            let mut chains = Vec::new();
            for _ in 0..all.len() {
                all.rotate_left(1);
                chains.push(chain_of(&assemble(&[key(&leaf)], &all, now()).unwrap()));
            }
            assert!(chains.iter().all(|chain| *chain == chains[0]));
            chains.swap_remove(0)
        };
        let used = leaf.chain[0].to_vec();
        let [renewed_leaf, expired_leaf, future_leaf] =
            [renewed.clone(), expired.clone(), future.clone()].map(leaf_for);
        let [renewed_issuer, expired_issuer, future_issuer] =
            [renewed, expired, future].map(issuer_for);
        let issuers = [&expired_issuer, &future_issuer, &renewed_issuer];
        assert_eq!(
            best(&[&used, &expired_leaf, &future_leaf], &issuers),
            [used.clone(), renewed_issuer.clone()]
        );
        assert_eq!(
            best(&[&used, &renewed_leaf, &future_leaf], &issuers),
            [renewed_leaf.clone(), renewed_issuer.clone()]
        );
        // Where none is valid, the message about the one that expires last says most.
        assert_eq!(
            best(&[&expired_leaf, &future_leaf], &issuers[..2]),
            [future_leaf.clone(), future_issuer.clone()]
        );
    }

    #[test]
    fn what_makes_no_pair_is_named() {
        let (one, other) = (
            Identity::self_signed(&["one"]),
            Identity::self_signed(&["other"]),
        );
        let both = [der(&one.chain), der(&other.chain)].concat();
        let error = |keys: &[Vec<u8>], certificates: &[Vec<u8>]| match assemble(
            keys,
            certificates,
            now(),
        ) {
            Ok(_) => panic!("a pair"),
            Err(error) => error.to_string(),
        };
        let keys = [key(&one), key(&other)];
        let several = "there are several keys with certificates in it (CN=one, CN=other): export the one that is to be served by itself";
        assert_eq!(error(&keys, &both), several);
        assert!(error(&keys[..1], &both[1..]).contains("belongs to none"));
        assert!(error(&[], &both).contains("no private key"));
        assert!(error(&keys, &[]).contains("no certificate"));
        assert!(error(&keys, &[vec![0x30, 0]]).contains("certificate 1 in it is malformed"));
        assert!(error(&[vec![0x30, 0]], &both).contains("cannot be used"));
        // A key without a certificate, or twice, is no other pair.
        assert!(assemble(&keys, &both[..1], now()).is_ok());
        assert!(assemble(&[keys[0].clone(), keys[0].clone()], &both, now()).is_ok());
    }
}
