//! Reading PEM files: the certificate pair of the client leg and the trust anchors of backends.
//!
//! The files are the operator's, yet they may be half written, swapped, or something else altogether, so every way of
//! getting them wrong has a variant of its own in [`FileError`], with the remedy in its text.

use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::base::file::{ReadError, read_bounded, unreadable};
use crate::base::text::escape_path;

/// The largest file that is read, in bytes. A chain of ten certificates has some 20 KB.
pub const MAX_FILE_SIZE: u64 = 1024 * 1024;

/// The object identifier of signed data (RFC 5652 §5.1).
const PKCS7: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02,
];

/// Why a PEM file can't be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each variant is, `path` is always the file as configured
pub enum FileError {
    #[error(
        "cannot read {}: {source}{}",
        escape_path(path),
        unreadable(path, source)
    )]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a regular file", escape_path(path))]
    NotAFile { path: PathBuf },
    #[error(
        "{} is larger than {MAX_FILE_SIZE} bytes: not a PEM file of certificates or keys",
        escape_path(path)
    )]
    TooLarge { path: PathBuf },
    #[error("{} is empty", escape_path(path))]
    Empty { path: PathBuf },
    #[error(
        "{} is in DER form: convert it to PEM with `openssl x509 -inform der` or `openssl pkey -inform der`",
        escape_path(path)
    )]
    Der { path: PathBuf },
    #[error(
        "{} is in PKCS#12 form (PFX): make two files of it with `openssl pkcs12 -in {} -nokeys -out tls.crt` and `openssl \
         pkcs12 -in {} -nocerts -nodes -out tls.key`",
        escape_path(path),
        escape_path(path),
        escape_path(path)
    )]
    Pkcs12 { path: PathBuf },
    #[error(
        "{} is in PKCS#7 form (P7B), which holds no key: convert it with `openssl pkcs7 -print_certs`",
        escape_path(path)
    )]
    Pkcs7 { path: PathBuf },
    #[error("{} is not valid PEM: {source}", escape_path(path))]
    Pem { path: PathBuf, source: pem::Error },
    #[error("{} ends in the middle of {section}: half written?", escape_path(path))]
    HalfWritten { path: PathBuf, section: String },
    #[error("{} holds a certificate request, not a certificate", escape_path(path))]
    RequestNotCertificate { path: PathBuf },
    #[error(
        "{} holds a private key, not a certificate: are the two files swapped?",
        escape_path(path)
    )]
    KeyNotCertificate { path: PathBuf },
    #[error("{} holds no certificate", escape_path(path))]
    NoCertificate { path: PathBuf },
    #[error(
        "private key {0} is encrypted: write it without a passphrase, by `openssl pkey -in {0} -out plain.key`",
        escape_path(path)
    )]
    EncryptedKey { path: PathBuf },
    #[error(
        "{} holds a certificate, not a private key: are the two files swapped?",
        escape_path(path)
    )]
    CertificateNotKey { path: PathBuf },
    #[error("{} holds no private key", escape_path(path))]
    NoKey { path: PathBuf },
}

/// In PEM form (RFC 7468 §2), under this label.
pub(super) fn encode(label: &str, der: &[u8]) -> String {
    let base64 = data_encoding::BASE64.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text + &format!("-----END {label}-----\n")
}

impl FileError {
    /// Whether the file doesn't exist.
    pub(super) fn is_absence(&self) -> bool {
        matches!(
            self,
            Self::Read { source, .. }
                if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        )
    }
}

/// Reads a file whole, if it is a regular file of at most [`MAX_FILE_SIZE`] bytes.
///
/// Blocks on the file system.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let owned = || path.to_owned();
    read_bounded(path, MAX_FILE_SIZE).map_err(|error| match error {
        ReadError::Io(source) => FileError::Read {
            path: owned(),
            source,
        },
        ReadError::NotAFile => FileError::NotAFile { path: owned() },
        ReadError::TooLong => FileError::TooLarge { path: owned() },
    })
}

/// All certificates in `bytes`, in their order; at least one. `path` is for messages.
pub(super) fn certificates(
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let path = || path.to_owned();
    let sections = Sections::parse(path(), bytes)?;
    if sections.certificates.is_empty() {
        return Err(if contains(bytes, b"CERTIFICATE REQUEST-----") {
            FileError::RequestNotCertificate { path: path() }
        } else if contains(bytes, b"PRIVATE KEY-----") {
            FileError::KeyNotCertificate { path: path() }
        } else {
            FileError::NoCertificate { path: path() }
        });
    }
    Ok(sections.certificates)
}

/// The first private key in `bytes`. `path` is for messages.
pub(super) fn private_key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, FileError> {
    let path = || path.to_owned();
    // Before parsing: the older of the two forms (RFC 1421 headers) isn't valid PEM to the parser, the newer one has a
    // label that it skips.
    if contains(bytes, b"Proc-Type: 4,ENCRYPTED") || contains(bytes, b"ENCRYPTED PRIVATE KEY-----")
    {
        return Err(FileError::EncryptedKey { path: path() });
    }
    let sections = Sections::parse(path(), bytes)?;
    match sections.key {
        Some(key) => Ok(key),
        None if !sections.certificates.is_empty() => {
            Err(FileError::CertificateNotKey { path: path() })
        }
        None => Err(FileError::NoKey { path: path() }),
    }
}

/// The sections of a PEM file that matter here.
struct Sections {
    certificates: Vec<CertificateDer<'static>>,
    key: Option<PrivateKeyDer<'static>>,
}

impl Sections {
    fn parse(path: PathBuf, bytes: &[u8]) -> Result<Self, FileError> {
        // Windows editors put a byte order mark in front, which would hide the first BEGIN line from the parser.
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if text.iter().all(u8::is_ascii_whitespace) {
            return Err(FileError::Empty { path });
        }
        // 0x30 is the ASN.1 SEQUENCE with which certificates and keys begin.
        if text[0] == 0x30 && !contains(text, b"-----BEGIN ") {
            return Err(match behind_header(text) {
                Some([0x02, 0x01, 0x03, ..]) => FileError::Pkcs12 { path },
                Some(inside) if inside.starts_with(PKCS7) => FileError::Pkcs7 { path },
                _ => FileError::Der { path },
            });
        }
        if contains(text, b"-----BEGIN PKCS7-----") {
            return Err(FileError::Pkcs7 { path });
        }
        let mut sections = Self {
            certificates: Vec::new(),
            key: None,
        };
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
            let (kind, der) = match section {
                Ok(section) => section,
                Err(pem::Error::MissingSectionEnd { end_marker }) => {
                    let section = String::from_utf8_lossy(&end_marker);
                    let section = section.trim_matches('-').trim_start_matches("END ");
                    let section = section.to_owned();
                    return Err(FileError::HalfWritten { path, section });
                }
                Err(source) => return Err(FileError::Pem { path, source }),
            };
            if kind == SectionKind::Certificate {
                sections.certificates.push(CertificateDer::from(der));
            } else if sections.key.is_none() {
                sections.key = PrivateKeyDer::from_pem(kind, der);
            }
        }
        Ok(sections)
    }
}

/// The content of an ASN.1 SEQUENCE. In version 3 of PKCS#12 (RFC 7292 §4) it begins with that number; in keys with 0 or 1, in
/// certificates with another SEQUENCE.
fn behind_header(der: &[u8]) -> Option<&[u8]> {
    let length = *der.get(1)?;
    // The short form, or how many bytes the length takes; 0x80 is one that is not known.
    let header = 2 + usize::from(if length > 0x80 { length & 0x7f } else { 0 });
    der.get(header..)
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(bytes, text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

    fn certificate_fault(bytes: &[u8]) -> String {
        certificates(Path::new("tls.crt"), bytes)
            .unwrap_err()
            .to_string()
    }

    fn key_fault(bytes: &[u8]) -> String {
        private_key(Path::new("tls.key"), bytes)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn certificates_keep_their_order_and_other_text_is_skipped() {
        let second = CERTIFICATE.replace("AAAA", "BBBB");
        let text = format!("# a comment\n{CERTIFICATE}{KEY}\n{second}");
        let found = certificates(Path::new("tls.crt"), text.as_bytes()).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].as_ref(), [0, 0, 0]);
        assert_eq!(found[1].as_ref(), [4, 16, 65]);
    }

    #[test]
    fn windows_line_ends_and_a_byte_order_mark_do_no_harm() {
        let text = format!("\u{feff}{}", CERTIFICATE.replace('\n', "\r\n"));
        assert_eq!(
            certificates(Path::new("tls.crt"), text.as_bytes())
                .unwrap()
                .len(),
            1
        );
    }

    #[test]
    fn each_wrong_certificate_file_is_told_apart() {
        assert_eq!(certificate_fault(b""), "tls.crt is empty");
        assert_eq!(certificate_fault(b" \n\n"), "tls.crt is empty");
        assert_eq!(certificate_fault(b"hello"), "tls.crt holds no certificate");
        assert!(certificate_fault(b"0\x82\x01\x0a").contains("is in DER form"));
        for pfx in [
            &b"0\x82\x01\x0a\x02\x01\x03"[..],
            b"0\x80\x02\x01\x03",
            b"0\x0a\x02\x01\x03",
        ] {
            let fault = certificate_fault(pfx);
            assert!(fault.contains("PKCS#12 form (PFX)"), "{fault}");
            assert!(
                fault.contains("openssl pkcs12 -in tls.crt -nokeys"),
                "{fault}"
            );
        }
        // A key of version 0.
        assert!(certificate_fault(b"0\x82\x01\x0a\x02\x01\x00").contains("is in DER form"));
        let p7b = [&b"0\x82\x01\x0a"[..], PKCS7].concat();
        assert!(certificate_fault(&p7b).contains("PKCS#7 form (P7B)"));
        let p7b = CERTIFICATE.replace("CERTIFICATE", "PKCS7");
        assert!(certificate_fault(p7b.as_bytes()).contains("PKCS#7 form (P7B)"));
        assert_eq!(
            certificate_fault(KEY.as_bytes()),
            "tls.crt holds a private key, not a certificate: are the two files swapped?"
        );
        let request = CERTIFICATE.replace("CERTIFICATE", "CERTIFICATE REQUEST");
        assert_eq!(
            certificate_fault(request.as_bytes()),
            "tls.crt holds a certificate request, not a certificate"
        );
        let truncated = &CERTIFICATE.as_bytes()[..35];
        assert_eq!(
            certificate_fault(truncated),
            "tls.crt ends in the middle of CERTIFICATE: half written?"
        );
        let garbled = CERTIFICATE.replace("AAAA", "A~AA");
        assert!(certificate_fault(garbled.as_bytes()).starts_with("tls.crt is not valid PEM: "));
    }

    #[test]
    fn each_wrong_key_file_is_told_apart() {
        assert_eq!(
            key_fault(CERTIFICATE.as_bytes()),
            "tls.key holds a certificate, not a private key: are the two files swapped?"
        );
        assert_eq!(key_fault(b"hello"), "tls.key holds no private key");
        let encrypted = "private key tls.key is encrypted: write it without a passphrase, by `openssl pkey -in tls.key -out plain.key`";
        let pkcs8 = KEY.replace("PRIVATE", "ENCRYPTED PRIVATE");
        assert_eq!(key_fault(pkcs8.as_bytes()), encrypted);
        let headers = KEY.replace("AAAA", "Proc-Type: 4,ENCRYPTED\n\nAAAA");
        assert_eq!(key_fault(headers.as_bytes()), encrypted);
    }

    #[test]
    fn where_a_file_cannot_be_read_the_usual_reason_is_named() {
        let fault = |path: &str| read(Path::new(path)).unwrap_err().to_string();
        assert!(fault("c/~/tls.crt").ends_with("; ~ and variables are not expanded"));
        assert!(fault("${HOME}/tls.crt").ends_with("; ~ and variables are not expanded"));
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(unreadable(Path::new("tls.key"), &denied).contains("each directory above it"));
        assert_eq!(
            fault("missing"),
            "cannot read missing: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn an_ec_parameters_block_before_the_key_is_skipped() {
        let text =
            format!("-----BEGIN EC PARAMETERS-----\nAAAA\n-----END EC PARAMETERS-----\n{KEY}");
        assert!(private_key(Path::new("tls.key"), text.as_bytes()).is_ok());
    }

    #[test]
    fn only_regular_files_of_a_sane_size_are_read() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(
            read(directory.path()),
            Err(FileError::NotAFile { .. })
        ));
        assert!(matches!(
            read(Path::new("/dev/zero")),
            Err(FileError::NotAFile { .. })
        ));
        assert!(matches!(
            read(&directory.path().join("missing")),
            Err(FileError::Read { .. })
        ));
        let large = directory.path().join("large");
        std::fs::File::create(&large)
            .unwrap()
            .set_len(MAX_FILE_SIZE + 1)
            .unwrap();
        assert!(matches!(read(&large), Err(FileError::TooLarge { .. })));
    }
}
