//! The demo's certificates, made anew at each start: a CA, the central certificate that every client is shown, and the
//! self-signed one of a backend, which no client ever sees.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// Where a PEM certificate and its key are.
pub struct Pair {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The key's file.
    pub private_key: PathBuf,
}

/// The CA's certificate, for clients, and the central certificate that it issued for this machine.
pub fn central(folder: &Path) -> io::Result<(PathBuf, Pair)> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "Portcullis demo CA");
    let ca = CertifiedIssuer::self_signed(params, new_key()?).map_err(io::Error::other)?;
    let ca_file = folder.join("ca.crt");
    fs::write(&ca_file, ca.pem())?;

    let key = new_key()?;
    let certificate = names(&["localhost", "127.0.0.1", "ftpb.albigi.lab"])?
        .signed_by(&key, &ca)
        .map_err(io::Error::other)?;
    let pair = write(folder, "central", &certificate, &key)?;
    Ok((ca_file, pair))
}

/// A self-signed certificate for a backend, and the SHA-256 of it in hexadecimal, by which Portcullis knows it.
pub fn self_signed(folder: &Path, name: &str) -> io::Result<(Pair, String)> {
    let key = new_key()?;
    let certificate = names(&[name])?
        .self_signed(&key)
        .map_err(io::Error::other)?;
    let fingerprint = Sha256::digest(certificate.der())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok((write(folder, name, &certificate, &key)?, fingerprint))
}

/// A certificate for these names, the first of which is its subject, valid for a month.
fn names(names: &[&str]) -> io::Result<CertificateParams> {
    let all: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(all).map_err(io::Error::other)?;
    params.distinguished_name = DistinguishedName::new();
    if let Some(&first) = names.first() {
        params.distinguished_name.push(DnType::CommonName, first);
    }
    params.not_before = OffsetDateTime::now_utc() - Duration::from_secs(3600);
    params.not_after = OffsetDateTime::now_utc() + Duration::from_secs(30 * 86_400);
    Ok(params)
}

fn new_key() -> io::Result<KeyPair> {
    KeyPair::generate().map_err(io::Error::other)
}

fn write(
    folder: &Path,
    name: &str,
    certificate: &rcgen::Certificate,
    key: &KeyPair,
) -> io::Result<Pair> {
    let pair = Pair {
        certificate: folder.join(format!("{name}.crt")),
        private_key: folder.join(format!("{name}.key")),
    };
    fs::write(&pair.certificate, certificate.pem())?;
    fs::write(&pair.private_key, key.serialize_pem())?;
    Ok(pair)
}
