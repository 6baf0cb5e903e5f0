//! From a client's certificate to what it says of the client.

use std::time::UNIX_EPOCH;

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::policy::client_certificate::{CertificateResult, ChainFault, ClientIdentity, KeyProof};
use crate::tls::certificate::fingerprint;
use crate::tls::date::system_time;
use crate::tls::x509::escaped_name;

/// The identity in a certificate, with the result of verifying its chain.
pub(super) fn of(leaf: &CertificateDer<'_>, vouched: Result<(), ChainFault>) -> ClientIdentity {
    let unreadable = ClientIdentity {
        fingerprint: fingerprint(leaf),
        subject: "unreadable".to_owned(),
        common_name: None,
        emails: Vec::new(),
        dns_names: Vec::new(),
        not_after: None,
        key: KeyProof::Verified,
        chain: Err(ChainFault {
            result: CertificateResult::Invalid,
            detail: "the certificate can't be read".to_owned(),
        }),
    };
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(leaf) else {
        return unreadable;
    };
    ClientIdentity {
        subject: escaped_name(parsed.subject()),
        common_name: common_name(&parsed),
        emails: names(&parsed, |name| match name {
            GeneralName::RFC822Name(address) => Some(address),
            _ => None,
        }),
        dns_names: names(&parsed, |name| match name {
            GeneralName::DNSName(name) => Some(name),
            _ => None,
        }),
        // One before 1970 is long over.
        not_after: Some(
            system_time(&parsed.validity().not_after)
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        ),
        chain: vouched,
        ..unreadable
    }
}

/// As [`of`], for a client that may not hold the key, as `fault` says: the certificate it shows can be another's, and is marked
/// as such.
pub(super) fn unverified(leaf: &CertificateDer<'_>, fault: ChainFault) -> ClientIdentity {
    let identity = of(leaf, Err(fault));
    ClientIdentity {
        subject: format!("{} (key not verified)", identity.subject),
        key: KeyProof::Unverifiable,
        ..identity
    }
}

/// The one common name. As bytes of the string types that are ASCII or UTF-8; a NUL in it is one of its bytes.
fn common_name(certificate: &X509Certificate<'_>) -> Option<Box<[u8]>> {
    let mut all = certificate.subject().iter_common_name();
    let one = all.next()?;
    match all.next() {
        Some(_) => None,
        None => one.as_str().ok().map(|name| name.as_bytes().into()),
    }
}

fn names(
    certificate: &X509Certificate<'_>,
    wanted: impl for<'a> Fn(&'a GeneralName<'_>) -> Option<&'a str>,
) -> Vec<Box<[u8]>> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let all = extension.value.general_names.iter();
    all.filter_map(wanted)
        .map(|name| name.as_bytes().into())
        .collect()
}
