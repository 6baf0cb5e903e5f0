//! Tests of the requirements on a pair of files that is served, and of the errors about one that isn't.

mod choice;
mod inventory;

use std::fs;
use std::time::Duration;

use super::*;
use crate::tls::date::Date;
use crate::tls::fixtures::{Authority, Identity, now};

struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn with(certificate: &str, private_key: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("tls.crt"), certificate).unwrap();
        fs::write(directory.path().join("tls.key"), private_key).unwrap();
        Self { directory }
    }

    fn load(&self) -> Result<CertificatePair, CertificateError> {
        self.load_at(now())
    }

    fn load_at(&self, now: SystemTime) -> Result<CertificatePair, CertificateError> {
        let path = self.directory.path();
        CertificatePair::load(&path.join("tls.crt"), &path.join("tls.key"), now)
    }

    /// The message, without the directory.
    fn fault(&self) -> String {
        self.fault_at(now())
    }

    fn fault_at(&self, now: SystemTime) -> String {
        let path = format!("{}/", self.directory.path().display());
        self.load_at(now)
            .unwrap_err()
            .to_string()
            .replace(&path, "")
    }
}

#[test]
fn a_good_pair_says_what_it_is() {
    let leaf = Authority::new("Test CA").issue(&["Ftp.Example.com", "*.branch.example.com"]);
    let files = Files::with(&leaf.chain_pem(), &leaf.key_pem());
    let pair = files.load().unwrap();
    assert_eq!(pair.names, ["ftp.example.com", "*.branch.example.com"]);
    assert_eq!(pair.subject, "CN=Ftp.Example.com");
    assert_eq!(pair.fingerprint, fingerprint(&leaf.chain[0]));
    assert_eq!(pair.key.cert.len(), 2);
    assert!(now() < pair.not_after);
}

#[test]
fn text_of_a_certificate_acts_on_no_terminal_and_begins_no_line() {
    let hostile = "x\u{1b}[31m\nproblem: \u{7}\u{202e}";
    let leaf = Authority::new(hostile).issue_with(&["ftp.test", "e\u{1b}\n.test"], |params| {
        params
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, hostile);
    });
    let pair = Files::with(&leaf.chain_pem(), &leaf.key_pem())
        .load()
        .unwrap();
    assert_eq!(pair.names, ["ftp.test", r"e\x1b\x0a.test"]);
    let shown = r"x\x1b[31m\x0aproblem: \x07\xe2\x80\xae";
    assert_eq!(pair.issuer, format!("CN={shown}"));
    assert_eq!(pair.subject, format!("CN=ftp.test, O={shown}"));
    assert!(pair.covers("ftp.test"));
    assert!(!pair.is_leaf_alone());
}

#[test]
fn names_that_are_shown_alike_are_told_apart() {
    // More than is shown of a name, and different behind that.
    let long = "x".repeat(300);
    let authority = Authority::new(&format!("{long}-authority"));
    let leaf = authority.issue_with(&["ftp.test"], |params| {
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, format!("{long}-server"));
    });
    let pair = Files::with(&leaf.leaf_pem(), &leaf.key_pem())
        .load()
        .unwrap();
    assert_eq!(pair.subject, pair.issuer);
    assert!(pair.is_leaf_alone());
}

#[test]
fn names_are_covered_exactly_or_by_one_label() {
    let leaf = Identity::self_signed(&["ftp.example.com", "*.branch.example.com"]);
    let pair = Files::with(&leaf.chain_pem(), &leaf.key_pem())
        .load()
        .unwrap();
    assert!(pair.covers("ftp.example.com"));
    assert!(pair.covers("FTP.Example.COM."));
    assert!(pair.covers("berlin.branch.example.com"));
    assert!(!pair.covers("branch.example.com"));
    assert!(!pair.covers(".branch.example.com"));
    assert!(!pair.covers("a.berlin.branch.example.com"));
    assert!(!pair.covers("example.com"));
    assert!(!pair.covers(""));
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (one, other) = (Identity::self_signed(&["a"]), Identity::self_signed(&["b"]));
    assert_eq!(
        Files::with(&one.chain_pem(), &other.key_pem()).fault(),
        "private key tls.key does not belong to the certificate in tls.crt"
    );
}

#[test]
fn an_expired_certificate_is_refused_with_its_date() {
    let leaf = Identity::self_signed(&["a"]);
    let files = Files::with(&leaf.chain_pem(), &leaf.key_pem());
    let not_after = files.load().unwrap().not_after;
    let date = Date(not_after);
    assert_eq!(
        files.fault_at(not_after + Duration::from_secs(12 * 86_400 + 1)),
        format!("certificate tls.crt expired on {date} (12 days ago): renew it")
    );
    assert!(files.load_at(not_after).is_ok());
}

#[test]
fn a_certificate_from_the_future_is_refused_with_its_date() {
    let leaf = Identity::self_signed(&["a"]);
    let files = Files::with(&leaf.chain_pem(), &leaf.key_pem());
    let long_before = now() - Duration::from_secs(30 * 86_400);
    let Err(CertificateError::NotYetValid { not_before, .. }) = files.load_at(long_before) else {
        panic!("served a month too early");
    };
    let date = Date(not_before);
    assert_eq!(
        files.fault_at(not_before - Duration::from_secs(7_200)),
        format!(
            "certificate tls.crt is not valid before {date} (in 2 hours): check this machine's clock"
        )
    );
    assert!(files.load_at(not_before).is_ok());
}

#[test]
fn a_chain_out_of_order_is_refused_naming_the_certificates() {
    let leaf = Authority::new("Test CA").issue(&["a"]);
    let stranger = Authority::new("Other CA");
    let chain = format!("{}{}", leaf.leaf_pem(), stranger.pem());
    assert_eq!(
        Files::with(&chain, &leaf.key_pem()).fault(),
        "chain out of order in tls.crt: certificate 2 (CN=Other CA) did not issue certificate 1 \
             (issued by CN=Test CA)"
    );
}

#[test]
fn a_chain_that_has_the_names_alone_is_served_and_known_to_be_broken() {
    let root = Authority::new("root");
    let authority = root.subordinate("Test CA", 30);
    let leaf = authority.issue(&["a"]);
    let namesake = root.subordinate("Test CA", 30);
    let broken_at = |authority: &Authority| {
        let chain = format!("{}{}{}", leaf.leaf_pem(), authority.pem(), root.pem());
        let pair = Files::with(&chain, &leaf.key_pem()).load_at(now());
        pair.expect("a pair").broken_at
    };
    assert_eq!(broken_at(&authority), None);
    assert_eq!(broken_at(&namesake), Some(1));
}

#[test]
fn a_chain_is_good_until_its_first_issuer_ends_but_for_a_root() {
    let root = Authority::new("root");
    let ends = |days| {
        let authority = root.subordinate("Test CA", days);
        let leaf = authority.issue(&["a"]);
        let chain = format!("{}{}{}", leaf.leaf_pem(), authority.pem(), root.pem());
        let pair = Files::with(&chain, &leaf.key_pem()).load_at(now());
        let pair = pair.expect("a pair, which clients that don't verify take");
        assert!(pair.chain_not_after() <= pair.not_after);
        if pair.chain_end.is_some() {
            // The issuer is older than the leaf, and its life is what counts.
            assert!(pair.chain_not_before() < pair.not_before);
        }
        pair.chain_end
            .map(|end| (end.position, end.not_after < now()))
    };
    assert_eq!(ends(100), None);
    assert_eq!(ends(30), Some((2, false)));
    assert_eq!(ends(-1), Some((2, true)));
}

#[test]
fn a_reversed_chain_is_told_from_a_wrong_key() {
    let authority = Authority::new("Test CA");
    let leaf = authority.issue(&["a"]);
    let chain = format!("{}{}", authority.pem(), leaf.leaf_pem());
    assert_eq!(
        Files::with(&chain, &leaf.key_pem()).fault(),
        "chain out of order in tls.crt: the private key belongs to certificate 2, which has to come first"
    );
}

#[test]
fn garbage_in_a_pem_envelope_is_refused() {
    let leaf = Identity::self_signed(&["a"]);
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(
        Files::with(garbage, &leaf.key_pem())
            .fault()
            .starts_with("certificate 1 in tls.crt is malformed: ")
    );
    let garbage = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert!(
        Files::with(&leaf.chain_pem(), garbage)
            .fault()
            .starts_with("private key tls.key cannot be used: ")
    );
}

#[test]
fn swapped_and_missing_files_are_named() {
    let leaf = Identity::self_signed(&["a"]);
    assert_eq!(
        Files::with(&leaf.key_pem(), &leaf.chain_pem()).fault(),
        "tls.crt holds a private key, not a certificate: are the two files swapped?"
    );
    let files = Files::with(&leaf.chain_pem(), &leaf.key_pem());
    fs::remove_file(files.directory.path().join("tls.key")).unwrap();
    assert!(files.fault().starts_with("cannot read tls.key: "));
}

#[test]
fn a_certificate_of_version_1_is_told_from_a_bad_key() {
    let files = Files::with(
        include_str!("../../../../tests/old_certificates/version1.crt"),
        include_str!("../../../../tests/old_certificates/version1.key"),
    );
    let fault = files.fault();
    assert!(
        fault.starts_with(
            "certificate 1 in tls.crt is of X.509 version 1, but must be of version 3"
        ),
        "{fault}"
    );
}

#[test]
fn an_rsa_key_of_1024_bits_is_named_as_what_is_wrong() {
    let other = Identity::self_signed(&["a"]);
    let certificate = include_str!("../../../../tests/old_certificates/rsa1024.crt");
    assert_eq!(
        Files::with(certificate, &other.key_pem()).fault(),
        "certificate tls.crt has an RSA key of 1024 bits, but at least 2048 are required: create a new key and have a certificate issued for it"
    );
}

#[test]
fn clients_that_cannot_use_a_key_are_known_by_its_kind() {
    let served = |identity: Identity| {
        Files::with(&identity.chain_pem(), &identity.key_pem())
            .load()
            .unwrap()
    };
    for (identity, key_compatibility) in [
        (Identity::self_signed(&["a"]), KeyCompatibility::All),
        (
            Identity::self_signed_by_rsa(&["a"]),
            KeyCompatibility::NoLegacySchannel,
        ),
        (
            Identity::self_signed_by_ed25519(&["a"]),
            KeyCompatibility::NoSchannel,
        ),
    ] {
        assert_eq!(served(identity).key_compatibility(), key_compatibility);
    }
}

#[test]
fn a_key_of_an_unsupported_curve_is_named() {
    let curve = include_str!("../../../../tests/old_certificates/secp256k1.crt");
    let any = Identity::self_signed(&["ftp.test"]);
    let fault = Files::with(curve, &any.key_pem()).fault();
    let words = "certificate tls.crt has a key of the algorithm 1.2.840.10045.2.1 with the curve secp256k1, which is not supported";
    assert!(fault.starts_with(words), "{fault}");
}

#[test]
fn a_file_is_never_called_as_the_central_certificate_or_the_ordered_one() {
    let called = |file: &str| {
        Source::pair(Path::new(file), Path::new("key"))
            .name
            .to_string()
    };
    assert_eq!(called("default"), "./default");
    assert_eq!(called("acme"), "./acme");
    assert_eq!(called("/etc/default"), "/etc/default");
}
