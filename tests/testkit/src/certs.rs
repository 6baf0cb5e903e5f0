//! Certificates as tests need them, good and bad, and the ways in which the files that hold them get replaced.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tempfile::NamedTempFile;
use time::{Duration, OffsetDateTime};

/// A certificate authority of a test's own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// An authority that no other fixture trusts.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("key generation needs no input");
        let pem = params
            .self_signed(&key)
            .expect("the parameters above are valid")
            .pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate for these names and IP addresses, valid now.
    pub fn issue(&self, names: &[&str]) -> Pair {
        self.issue_for(names, Validity::Now)
    }

    /// A certificate for these names and IP addresses, valid then.
    pub fn issue_for(&self, names: &[&str], validity: Validity) -> Pair {
        let key = KeyPair::generate().expect("key generation needs no input");
        self.issue_to(&key, names, validity)
    }

    /// A certificate for these names and the key of another, valid now.
    pub fn issue_with_key_of(&self, other: &Pair, names: &[&str]) -> Pair {
        let key = KeyPair::from_pem(&other.private_key).expect("rcgen wrote it");
        self.issue_to(&key, names, Validity::Now)
    }

    /// A certificate with an Ed25519 key for these names, valid now.
    pub fn issue_ed25519(&self, names: &[&str]) -> Pair {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519);
        self.issue_to(
            &key.expect("aws-lc makes Ed25519 keys"),
            names,
            Validity::Now,
        )
    }

    /// A certificate with an RSA key for these names, valid now.
    pub fn issue_rsa(&self, names: &[&str]) -> Pair {
        let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256);
        self.issue_to(&key.expect("aws-lc makes RSA keys"), names, Validity::Now)
    }

    fn issue_to(&self, key: &KeyPair, names: &[&str], validity: Validity) -> Pair {
        let mut params = leaf(names, validity);
        params.use_authority_key_identifier_extension = true;
        let certificate = params
            .signed_by(key, &self.issuer)
            .expect("the parameters are valid");
        Pair {
            certificate: certificate.pem(),
            private_key: key.serialize_pem(),
        }
    }

    /// What it signs with.
    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// A certificate for these names and the key of a request (PKCS#10, in DER), in PEM.
    pub fn sign_request(&self, request: &[u8], names: &[String], validity: Validity) -> String {
        let request = CertificateSigningRequestParams::from_der(&request.into());
        let mut request = request.expect("a request as the program makes them");
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        request.params = leaf(&names, validity);
        request.params.use_authority_key_identifier_extension = true;
        let certificate = request.signed_by(&self.issuer);
        certificate.expect("the parameters are valid").pem()
    }

    /// The authority's own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Writes the authority's own certificate into a directory, as `ca.pem`.
    pub fn write(&self, directory: &Path) -> PathBuf {
        let file = directory.join("ca.pem");
        // In one step: clients may be reading what an earlier call has written.
        let beside = NamedTempFile::new_in(directory).expect("the test's directory is writable");
        fs::write(&beside, &self.pem).expect("it was just made");
        beside.persist(&file).expect("both are in one directory");
        file
    }

    /// A trust store with this authority only.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("rcgen wrote it");
        roots.add(own).expect("rcgen made it");
        roots
    }
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy)]
pub enum Validity {
    /// From yesterday for 90 days.
    Now,
    /// Until yesterday.
    Expired,
    /// From tomorrow.
    NotYet,
    /// From yesterday until so much from now.
    For(Duration),
}

/// A certificate and a private key, in PEM, as a server is given them.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The chain: the leaf alone, since the authority signs it directly.
    pub certificate: String,
    /// The private key, in PKCS#8.
    pub private_key: String,
}

impl Pair {
    /// A certificate that vouches for itself.
    pub fn self_signed(names: &[&str], validity: Validity) -> Self {
        let key = KeyPair::generate().expect("key generation needs no input");
        let certificate = leaf(names, validity)
            .self_signed(&key)
            .expect("the parameters are valid");
        Self {
            certificate: certificate.pem(),
            private_key: key.serialize_pem(),
        }
    }

    /// This certificate with the key of another: a mismatch.
    pub fn with_key_of(&self, other: &Pair) -> Self {
        Self {
            certificate: self.certificate.clone(),
            private_key: other.private_key.clone(),
        }
    }

    /// Writes both into a directory, as `tls.crt` and `tls.key`.
    pub fn write(&self, directory: &Path) -> PairFiles {
        self.write_as(directory, "tls")
    }

    /// The same under this name.
    pub fn write_as(&self, directory: &Path, name: &str) -> PairFiles {
        let files = PairFiles {
            certificate: directory.join(format!("{name}.crt")),
            private_key: directory.join(format!("{name}.key")),
        };
        files.rewrite_in_place(self);
        files
    }

    /// The leaf, as it goes over the wire.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("rcgen wrote it")
    }

    /// For a server that shows this certificate and speaks these versions of TLS.
    pub fn server_config(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        Arc::new(self.server_config_with(versions, WebPkiClientVerifier::no_client_auth()))
    }

    /// The same for one that requires a certificate of its clients, issued by this authority, in every handshake: nothing is
    /// resumed.
    pub fn server_config_for_clients_of(
        &self,
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        let roots = Arc::new(authority.roots());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots, super::wire::provider()).build();
        let verifier = verifier.expect("an authority is in the store");
        let mut config = self.server_config_with(versions, verifier);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Arc::new(config)
    }

    fn server_config_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> ServerConfig {
        let key =
            PrivateKeyDer::from_pem_slice(self.private_key.as_bytes()).expect("rcgen wrote it");
        ServerConfig::builder_with_provider(super::wire::provider())
            .with_protocol_versions(versions)
            .expect("the provider has TLS 1.2 and 1.3")
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.der()], key)
            .expect("the key belongs to the certificate")
    }
}

/// Where a [`Pair`] lies on disk, and how it is replaced there.
#[derive(Debug, Clone)]
pub struct PairFiles {
    /// PEM chain.
    pub certificate: PathBuf,
    /// PEM private key.
    pub private_key: PathBuf,
}

impl PairFiles {
    fn in_directory(directory: &Path) -> Self {
        Self {
            certificate: directory.join("tls.crt"),
            private_key: directory.join("tls.key"),
        }
    }

    /// Writes new files beside the old ones and renames them over those, key first: what careful tools do.
    pub fn replace_by_rename(&self, pair: &Pair) {
        for (file, content) in [
            (&self.private_key, &pair.private_key),
            (&self.certificate, &pair.certificate),
        ] {
            let beside = file.with_extension("new");
            fs::write(&beside, content).expect("the test's directory is writable");
            fs::rename(&beside, file).expect("both are in the same directory");
        }
    }

    /// Truncates the files and writes into them, certificate first: what `cp` does.
    pub fn rewrite_in_place(&self, pair: &Pair) {
        fs::write(&self.certificate, &pair.certificate).expect("the test's directory is writable");
        fs::write(&self.private_key, &pair.private_key).expect("the test's directory is writable");
    }
}

/// A Kubernetes Secret as the kubelet mounts it: the files are links through `..data` to a directory with a new name
/// for each version, and only `..data` is ever replaced.
#[derive(Debug)]
pub struct KubernetesSecret {
    mount: PathBuf,
    version: u32,
}

impl KubernetesSecret {
    /// Lays a pair out in an empty directory.
    pub fn mount(directory: &Path, pair: &Pair) -> Self {
        let mut secret = Self {
            mount: directory.to_path_buf(),
            version: 0,
        };
        secret.swap(pair);
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), directory.join(name))
                .expect("the directory is empty");
        }
        secret
    }

    /// Where the pair is read.
    pub fn files(&self) -> PairFiles {
        PairFiles::in_directory(&self.mount)
    }

    /// Puts a new version in place in one step, then removes the old one.
    pub fn swap(&mut self, pair: &Pair) {
        let old = self.version_directory();
        self.version += 1;
        let new = self.version_directory();
        fs::create_dir(&new).expect("versions have names of their own");
        pair.write(&new);
        let link = self.mount.join("..data_tmp");
        symlink(new.file_name().expect("it has one"), &link)
            .expect("the link was renamed last time");
        fs::rename(&link, self.mount.join("..data")).expect("both are in the same directory");
        if self.version > 1 {
            fs::remove_dir_all(old).expect("it was written last time");
        }
    }

    fn version_directory(&self) -> PathBuf {
        self.mount
            .join(format!("..2026_01_01_00_00_00.{:09}", self.version))
    }
}

fn leaf(names: &[&str], validity: Validity) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let common_name = names
        .first()
        .cloned()
        .unwrap_or_else(|| "nameless".to_owned());
    let mut params = CertificateParams::new(names).expect("a test's names are ASCII");
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let now = OffsetDateTime::now_utc();
    let day = Duration::DAY;
    (params.not_before, params.not_after) = match validity {
        Validity::Now => (now - day, now + 90 * day),
        Validity::Expired => (now - 90 * day, now - day),
        Validity::NotYet => (now + day, now + 90 * day),
        Validity::For(span) => (now - day, now + span),
    };
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_replacing_the_files_leaves_the_new_pair() {
        let authority = Authority::new("test authority");
        let (old, new) = (authority.issue(&["a.test"]), authority.issue(&["b.test"]));
        let directory = tempfile::tempdir().expect("a temporary directory");
        let plain = old.write(directory.path());
        let read = |files: &PairFiles| {
            let read = |file| fs::read_to_string(file).expect("the file is there");
            (read(&files.certificate), read(&files.private_key))
        };

        plain.replace_by_rename(&new);
        assert_eq!(
            read(&plain),
            (new.certificate.clone(), new.private_key.clone())
        );
        plain.rewrite_in_place(&old);
        assert_eq!(
            read(&plain),
            (old.certificate.clone(), old.private_key.clone())
        );

        let mount = tempfile::tempdir().expect("a temporary directory");
        let mut secret = KubernetesSecret::mount(mount.path(), &old);
        assert_eq!(read(&secret.files()), (old.certificate, old.private_key));
        secret.swap(&new);
        assert_eq!(read(&secret.files()), (new.certificate, new.private_key));
    }
}
