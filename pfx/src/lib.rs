//! The keys and certificates in a PKCS#12 file (PFX, RFC 7292), as Windows, win-acme and OpenSSL write it.
//!
//! The file is hostile until its password is known to be right, and after that may still be large, slow to decrypt, or broken:
//! it is bounded in size, memory and time, and a panic of a parser is an error like others. The content of
//! certificates, and which key each belongs to, is not this crate's business.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use der::{ErrorKind, Tag};
use p12_keystore::Pkcs12Archive;
use p12_keystore::error::Error;

/// The largest file that is read, in bytes. A key with a chain of ten certificates has some 30 KB.
pub const MAX_FILE: u64 = 1024 * 1024;

/// As many as no file for one server has.
const MAX_ENTRIES: usize = 100;

/// Key derivation by scrypt (RFC 7914 §7), which may want a gigabyte, and which neither Windows nor OpenSSL uses unasked.
const SCRYPT: &[u8] = &[
    0x06, 0x09, 0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x04, 0x0b,
];

/// What is said of data that doesn't come out of its decryption, as by a wrong password.
const NOT_DECRYPTED: &str = "PKCS#5 decryption failed";

/// What a file holds, in its order.
#[derive(Clone, PartialEq, Eq)]
pub struct Contents {
    /// Private keys, in PKCS#8.
    pub keys: Vec<Vec<u8>>,
    /// X.509 certificates.
    pub certificates: Vec<Vec<u8>>,
}

/// Why a file can't be read.
#[derive(Debug, thiserror::Error)]
pub enum PfxError {
    /// Larger than [`MAX_FILE`].
    #[error("larger than {MAX_FILE} bytes: not a file with one key and its certificates")]
    TooLarge,
    /// A text.
    #[error("it is a PEM file, which needs no conversion")]
    Pem,
    /// The password doesn't fit.
    #[error("the password is wrong, or the file was damaged")]
    WrongPassword,
    /// There is a password, and none was given.
    #[error(
        "the file has a password, and none was given: write it into a file, and name that by --password-file"
    )]
    PasswordMissing,
    /// It isn't text.
    #[error("the password isn't UTF-8")]
    PasswordNotText,
    /// It has characters that UTF-16 writes as two units, which the reader of these files doesn't.
    #[error(
        "the password has characters that are not supported here, such as emoji (beyond U+FFFF): export it again with another password"
    )]
    PasswordBeyondBmp,
    /// A way of encryption that isn't known here.
    #[error("it is encrypted in a way that is not supported here: {0}")]
    Unsupported(String),
    /// More than one server has.
    #[error("more than {MAX_ENTRIES} keys or certificates in it")]
    TooMany,
    /// Deriving the keys takes too long.
    #[error("not decrypted after {} s: too many iterations?", .0.as_secs())]
    TooSlow(Duration),
    /// Nothing that can be read.
    #[error("not a PKCS#12 file (PFX), or a damaged one: {0}")]
    Malformed(String),
}

/// Reads a file with this password; none is the empty one. Takes no longer than `time_limit`: what isn't done by then goes on in
/// a thread of its own, so the caller should be a process that ends soon.
///
/// # Errors
/// See [`PfxError`].
pub fn read(
    bytes: Vec<u8>,
    password: Option<&[u8]>,
    time_limit: Duration,
) -> Result<Contents, PfxError> {
    if bytes.len() as u64 > MAX_FILE {
        return Err(PfxError::TooLarge);
    }
    if bytes.windows(11).any(|it| it == b"-----BEGIN ") {
        return Err(PfxError::Pem);
    }
    if bytes.windows(SCRYPT.len()).any(|it| it == SCRYPT) {
        return Err(PfxError::Unsupported("scrypt".to_owned()));
    }
    let is_given = password.is_some();
    let password = std::str::from_utf8(password.unwrap_or_default())
        .map_err(|_| PfxError::PasswordNotText)?
        .to_owned();
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            Pkcs12Archive::from_pkcs12(&bytes, &password)
        }));
        // After the timeout the receiver is gone.
        let _ = sender.send(decoded);
    });
    match receiver.recv_timeout(time_limit) {
        Err(_) => Err(PfxError::TooSlow(time_limit)),
        Ok(Err(_)) => Err(PfxError::Malformed("its parser panicked".to_owned())),
        Ok(Ok(Err(error))) => Err(of(error, is_given)),
        Ok(Ok(Ok(archive))) => contents(&archive),
    }
}

fn contents(archive: &Pkcs12Archive) -> Result<Contents, PfxError> {
    if archive.keys.len().max(archive.certs.len()) > MAX_ENTRIES {
        return Err(PfxError::TooMany);
    }
    let keys = archive.keys.iter();
    let certificates = archive.certs.iter();
    Ok(Contents {
        keys: keys.map(|bag| bag.key.as_der().to_vec()).collect(),
        certificates: certificates.map(|bag| bag.cert.as_der().to_vec()).collect(),
    })
}

fn of(error: Error, password_given: bool) -> PfxError {
    match error {
        // Of a cipher or a hash that is built in nowhere, or of parameters that it doesn't take.
        Error::Pkcs5Error(what) if what != NOT_DECRYPTED => PfxError::Unsupported(what),
        // Without a MAC only what comes out of the decryption shows that the password is wrong.
        Error::MacError(_) | Error::UnpadError | Error::Pkcs5Error(_) if password_given => {
            PfxError::WrongPassword
        }
        Error::MacError(_) | Error::UnpadError | Error::Pkcs5Error(_) => PfxError::PasswordMissing,
        Error::DerError(error) => match error.kind() {
            ErrorKind::OidUnknown { oid } => PfxError::Unsupported(format!("algorithm {oid}")),
            // Texts in the file that are none are passed over, so that it is the password.
            ErrorKind::Value {
                tag: Tag::BmpString,
            } => PfxError::PasswordBeyondBmp,
            _ => PfxError::Malformed(error.to_string()),
        },
        Error::InvalidParameters => PfxError::Unsupported(
            "parameters that are out of bounds, such as more than a million iterations".to_owned(),
        ),
        Error::UnsupportedEncryptionScheme | Error::UnsupportedMacAlgorithm => {
            PfxError::Unsupported(error.to_string())
        }
        Error::UnsupportedContentType => {
            PfxError::Unsupported("signed, or to be decrypted by a key and no password".to_owned())
        }
        other => PfxError::Malformed(other.to_string()),
    }
}
