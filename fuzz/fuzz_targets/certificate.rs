//! The certificate's files: any bytes are a pair that may be served, or a fault that says so in one printable line.

#![no_main]

use std::cell::LazyCell;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use portcullis::config::{BackendTls, ExpectedName, TlsMode, TlsVersion, Verify};
use portcullis::tls::{BackendTlsClient, CertificatePair};
use x509_parser::prelude::{FromDer, X509Certificate};

// One file in each of its roles: a chain and a private key may share one, and so every input is all of them.
fuzz_target!(|data: &[u8]| {
    FILE.with(|file| {
        std::fs::write(&file.path, data).expect("a file to write");
        match CertificatePair::load(&file.path, &file.path, now()) {
            Ok(pair) => {
                let (_, leaf) = X509Certificate::from_der(&pair.key.cert[0]).expect("a leaf");
                let not_before = leaf.validity().not_before.timestamp();
                assert!(not_before <= NOW.into() && now() <= pair.not_after);
                assert!(pair.key.keys_match().is_ok());
                for name in pair.names.iter().filter(|name| !name.starts_with("*.")) {
                    assert!(pair.covers(name) || name.ends_with('.'), "{name:?}");
                }
            }
            Err(fault) => look_at_message(&fault.to_string()),
        }
        if let Err(fault) = BackendTlsClient::new(&trusting(file.path.clone())) {
            look_at_message(&fault.to_string());
        }
    });
});

fn look_at_message(message: &str) {
    assert!(!message.is_empty());
}

fn trusting(ca: PathBuf) -> BackendTls {
    BackendTls {
        start: TlsMode::Implicit,
        verify: Verify::Ca(ca),
        server_name: ExpectedName::Is("backend.lab".to_owned()),
        max_version: TlsVersion::V1_3,
        client_certificate: None,
    }
}

/// Always the same, in seconds since 1970: a certificate of the seeds must not expire. 2027-01-01.
const NOW: u32 = 1_798_761_600;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.into())
}

struct File {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

thread_local! {
    static FILE: LazyCell<File> = LazyCell::new(|| {
        let directory = tempfile::tempdir().expect("a directory");
        File {
            path: directory.path().join("file.pem"),
            _directory: directory,
        }
    });
}
