//! Files as OpenSSL writes them, and files that no program should write.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use portcullis_pfx::{Contents, PfxError, read};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(30);

/// What Windows Server 2016 writes: RC2 for certificates, 3DES for keys, SHA-1 for the MAC.
const OF_WINDOWS_2016: &[&str] = &["-legacy", "-macalg", "sha1"];

/// What Windows Server 2019 and win-acme write where they are asked for it.
const OF_TODAY: &[&str] = &[
    "-keypbe",
    "AES-256-CBC",
    "-certpbe",
    "AES-256-CBC",
    "-macalg",
    "sha256",
];

fn openssl(directory: &Path, arguments: &[&str]) {
    let output = Command::new("openssl")
        .current_dir(directory)
        .args(arguments)
        .output()
        .expect("openssl is installed");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {error}");
}

/// A folder with a certificate and its key.
fn folder(key: &[&str]) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let request = [
        "req",
        "-x509",
        "-nodes",
        "-subj",
        "/CN=ftp.test",
        "-days",
        "30",
        "-keyout",
        "tls.key",
        "-out",
        "tls.crt",
        "-newkey",
    ];
    openssl(directory.path(), &[&request[..], key].concat());
    directory
}

const EC: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];

fn export(directory: &Path, password: &str, more: &[&str]) -> Vec<u8> {
    let password = format!("pass:{password}");
    let arguments = [
        "pkcs12", "-export", "-inkey", "tls.key", "-in", "tls.crt", "-out", "it.pfx", "-passout",
    ];
    openssl(directory, &[&arguments[..], &[&password], more].concat());
    fs::read(directory.join("it.pfx")).expect("it was written")
}

fn der(directory: &Path, kind: &str, file: &str) -> Vec<u8> {
    let arguments: &[&str] = match kind {
        "x509" => &["x509", "-in", file, "-outform", "der", "-out", "der"],
        _ => &[
            "pkcs8", "-topk8", "-nocrypt", "-in", file, "-outform", "der", "-out", "der",
        ],
    };
    openssl(directory, arguments);
    fs::read(directory.join("der")).expect("it was written")
}

fn error(bytes: &[u8], password: Option<&[u8]>) -> PfxError {
    match read(bytes.to_vec(), password, LIMIT) {
        Ok(_) => panic!("it was read"),
        Err(error) => error,
    }
}

#[test]
fn key_and_certificate_come_out_of_every_form_as_they_went_in() {
    for key in [EC, &["rsa:2048"]] {
        let directory = folder(key);
        let expected = Contents {
            keys: vec![der(directory.path(), "pkcs8", "tls.key")],
            certificates: vec![der(directory.path(), "x509", "tls.crt")],
        };
        for form in [OF_WINDOWS_2016, OF_TODAY, &[]] {
            for password in ["secret", "", "p\u{e4}ssw\u{f6}rd \u{20ac}"] {
                let file = export(directory.path(), password, form);
                let read = read(file, Some(password.as_bytes()), LIMIT);
                let read = read.unwrap_or_else(|error| panic!("{form:?} {password:?}: {error}"));
                assert!(read == expected, "{form:?} {password:?}");
            }
        }
    }
}

#[test]
fn an_empty_password_is_none() {
    let directory = folder(EC);
    for form in [OF_WINDOWS_2016, OF_TODAY] {
        let file = export(directory.path(), "", form);
        assert!(read(file, None, LIMIT).is_ok(), "{form:?}");
    }
}

#[test]
fn a_wrong_password_is_told_from_one_that_is_missing() {
    let directory = folder(EC);
    for form in [
        OF_WINDOWS_2016,
        OF_TODAY,
        &["-nomac"],
        &["-legacy", "-nomac"],
    ] {
        let file = export(directory.path(), "secret", form);
        let wrong = error(&file, Some(b"guessed"));
        assert!(
            matches!(wrong, PfxError::WrongPassword),
            "{form:?}: {wrong}"
        );
        let missing = error(&file, None);
        assert!(
            matches!(missing, PfxError::PasswordMissing),
            "{form:?}: {missing}"
        );
    }
    let file = export(directory.path(), "secret", OF_TODAY);
    assert!(matches!(
        error(&file, Some(b"\xff")),
        PfxError::PasswordNotText
    ));
}

#[test]
fn an_algorithm_that_is_not_known_is_named_and_not_taken_for_damage_or_a_wrong_password() {
    let directory = folder(EC);
    let camellia = &[
        "-keypbe",
        "CAMELLIA-256-CBC",
        "-certpbe",
        "CAMELLIA-256-CBC",
    ];
    let triple_des = &["-keypbe", "DES-EDE3-CBC", "-certpbe", "DES-EDE3-CBC"];
    for (form, oid) in [
        (camellia, "1.2.392.200011.61.1.1.1.4"),
        (triple_des, "1.2.840.113549.3.7"),
    ] {
        let file = export(directory.path(), "secret", form);
        match error(&file, Some(b"secret")) {
            PfxError::Unsupported(what) => assert!(what.contains(oid), "{what}"),
            other => panic!("{form:?}: {other}"),
        }
    }
    let rc4 = ["-legacy", "-keypbe", "PBE-SHA1-RC4-128"];
    let file = export(directory.path(), "secret", &rc4);
    assert!(matches!(
        error(&file, Some(b"secret")),
        PfxError::Unsupported(_)
    ));
}

#[test]
fn a_password_beyond_the_bmp_is_called_one() {
    let directory = folder(EC);
    let password = "p\u{1f511}ss";
    for form in [OF_WINDOWS_2016, OF_TODAY, &["-legacy", "-nomac"]] {
        let file = export(directory.path(), password, form);
        let refused = error(&file, Some(password.as_bytes()));
        assert!(
            matches!(refused, PfxError::PasswordBeyondBmp),
            "{form:?}: {refused}"
        );
    }
    // Nothing but the UTF-8 of it is asked for there.
    let file = export(
        directory.path(),
        password,
        &[OF_TODAY, &["-nomac"]].concat(),
    );
    assert!(read(file, Some(password.as_bytes()), LIMIT).is_ok());
}

#[test]
fn a_file_without_a_key_or_without_a_certificate_is_read_all_the_same() {
    let directory = folder(EC);
    let file = export(directory.path(), "secret", &["-nokeys"]);
    let without_key = read(file, Some(b"secret"), LIMIT).expect("it is a good file");
    assert_eq!(
        (without_key.keys.len(), without_key.certificates.len()),
        (0, 1)
    );
    let arguments = [
        "pkcs12",
        "-export",
        "-nocerts",
        "-inkey",
        "tls.key",
        "-out",
        "it.pfx",
        "-passout",
        "pass:secret",
    ];
    openssl(directory.path(), &arguments);
    let file = fs::read(directory.path().join("it.pfx")).expect("it was written");
    let without_certificate = read(file, Some(b"secret"), LIMIT).expect("it is a good file");
    assert_eq!(
        (
            without_certificate.keys.len(),
            without_certificate.certificates.len()
        ),
        (1, 0)
    );
}

#[test]
fn what_is_no_such_file_is_an_error() {
    let directory = folder(EC);
    let pem = fs::read(directory.path().join("tls.crt")).expect("it was written");
    assert!(matches!(error(&pem, None), PfxError::Pem));
    let large = vec![0; portcullis_pfx::MAX_FILE as usize + 1];
    assert!(matches!(error(&large, None), PfxError::TooLarge));
    for garbage in [
        &b""[..],
        b"hello",
        b"0\x82\x01\x0a\x02\x01\x03",
        b"0\x80",
        &[0x30; 4096],
    ] {
        assert!(matches!(error(garbage, None), PfxError::Malformed(_)));
    }
}

#[test]
fn every_half_of_a_file_and_every_changed_byte_ends_in_an_error_or_the_same_pair() {
    let directory = folder(EC);
    let file = export(directory.path(), "secret", OF_TODAY);
    let whole = read(file.clone(), Some(b"secret"), LIMIT).expect("it is a good file");
    for length in (0..file.len()).step_by(7) {
        error(&file[..length], Some(b"secret"));
    }
    for at in (0..file.len()).step_by(3) {
        let mut changed = file.clone();
        changed[at] ^= 0x11;
        if let Ok(read) = read(changed, Some(b"secret"), LIMIT) {
            assert!(read == whole, "byte {at}");
        }
    }
}

#[test]
fn iterations_without_end_are_refused_before_they_begin() {
    let directory = folder(EC);
    // OpenSSL writes what it is asked for, of its MAC and of the encryption alike.
    for form in [OF_WINDOWS_2016, OF_TODAY] {
        let file = export(
            directory.path(),
            "secret",
            &[form, &["-iter", "1000001"]].concat(),
        );
        let began = Instant::now();
        let refused = error(&file, Some(b"secret"));
        assert!(
            matches!(refused, PfxError::Unsupported(_)),
            "{form:?}: {refused}"
        );
        assert!(began.elapsed() < LIMIT / 2);
    }
}

#[test]
fn what_takes_too_long_is_given_up() {
    let directory = folder(EC);
    let file = export(
        directory.path(),
        "secret",
        &[OF_TODAY, &["-iter", "1000000"]].concat(),
    );
    let limit = Duration::from_millis(1);
    match read(file, Some(b"secret"), limit) {
        Err(PfxError::TooSlow(after)) => assert_eq!(after, limit),
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn scrypt_is_refused_since_its_memory_has_no_bound() {
    let scrypt = [
        0x06, 0x09, 0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x04, 0x0b,
    ];
    let file = [&b"0\x82\x01\x0a\x02\x01\x03"[..], &scrypt].concat();
    assert!(matches!(error(&file, None), PfxError::Unsupported(_)));
}
