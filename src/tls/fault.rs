//! Faults of a TLS handshake, in the operator's terms.

use std::fmt;
use std::io::{self, ErrorKind};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::{
    CertificateError, Error, ExtendedKeyPurpose, InvalidMessage, OtherError, PeerIncompatible,
    PeerMisbehaved,
};

use super::certificate::Fingerprint;
use super::date::{Date, Span};
use super::verify::Rejection;
use crate::base::text::escape;

/// How many of a certificate's names go into a message.
const MAX_NAMES: usize = 10;

/// Why a handshake failed. Its text fits behind "TLS handshake failed: ".
///
/// Everything in it that comes from the peer is made printable and short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandshakeFault {
    /// The peer's certificate is past its end.
    Expired {
        /// The last moment at which it was valid.
        not_after: SystemTime,
        /// When the certificate was checked.
        now: SystemTime,
    },
    /// The peer's certificate is from the future, or this machine's clock is slow.
    NotYetValid {
        /// The first moment at which it will be valid.
        not_before: SystemTime,
        /// When the certificate was checked.
        now: SystemTime,
    },
    /// The peer's certificate is for other names.
    WrongName {
        /// The name that it should have.
        expected: String,
        /// The names that it has; none if it only has a common name.
        presented: Vec<String>,
    },
    /// The peer's certificate was issued by an untrusted authority.
    UnknownIssuer {
        /// The issuer's name.
        issuer: String,
    },
    /// The peer's certificate was issued by itself.
    SelfSigned {
        /// The certificate's subject.
        subject: String,
    },
    /// The peer's certificate names a trusted issuer, and another key than that one's has signed it.
    OtherIssuerKey {
        /// The issuer's name.
        issuer: String,
    },
    /// The peer shows a certificate authority's certificate as its own.
    AuthorityAsServer {
        /// The certificate's subject.
        subject: String,
    },
    /// The peer's certificate isn't the one that is pinned.
    Fingerprint {
        /// SHA-256 of the certificate that it showed.
        seen: [u8; 32],
    },
    /// The peer's certificate has an RSA key that is too short.
    ShortKey {
        /// The number of its bits.
        bits: usize,
    },
    /// The peer's certificate is of X.509 version 1 or 2.
    OldVersion {
        /// The X.509 version.
        version: u32,
    },
    /// Something else is wrong with the peer's certificate.
    BadCertificate(String),
    /// No certificate of our own is available to show.
    NoCertificate,
    /// The two sides share no version of TLS.
    NoCommonVersion,
    /// The two sides share no cipher suite, key exchange or signature scheme.
    NoCommonCipher,
    /// The two sides share no application protocol: the peer offers another protocol than FTP.
    NoCommonProtocol,
    /// The peer asks for a renegotiation, behind its handshake.
    Renegotiation,
    /// The peer closed or reset the connection during the handshake.
    Closed,
    /// The peer doesn't speak TLS here.
    NotTls,
    /// The peer gave up with this alert.
    Alert(String),
    /// Any other fault.
    Other(String),
}

/// Names what an attempted handshake failed with.
pub fn classify_error(error: &io::Error) -> HandshakeFault {
    if let Some(error) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>())
    {
        return HandshakeFault::from(error);
    }
    match error.kind() {
        ErrorKind::UnexpectedEof
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe => HandshakeFault::Closed,
        _ => HandshakeFault::Other(escape(error.to_string().as_bytes())),
    }
}

impl HandshakeFault {
    /// Whether the peer's certificate is what is wrong.
    pub fn is_certificate(&self) -> bool {
        match self {
            Self::Expired { .. }
            | Self::NotYetValid { .. }
            | Self::WrongName { .. }
            | Self::UnknownIssuer { .. }
            | Self::OtherIssuerKey { .. }
            | Self::SelfSigned { .. }
            | Self::AuthorityAsServer { .. }
            | Self::Fingerprint { .. }
            | Self::ShortKey { .. }
            | Self::OldVersion { .. }
            | Self::BadCertificate(_) => true,
            Self::NoCertificate
            | Self::NoCommonVersion
            | Self::NoCommonCipher
            | Self::NoCommonProtocol
            | Self::Renegotiation
            | Self::Closed
            | Self::NotTls
            | Self::Alert(_)
            | Self::Other(_) => false,
        }
    }

    /// When the peer's certificate expired, if that is what is wrong with it.
    pub fn expired(&self) -> Option<SystemTime> {
        match self {
            Self::Expired { not_after, .. } => Some(*not_after),
            _ => None,
        }
    }

    /// Whether the peer may mean the certificate that it was shown by its alert (RFC 8446 §6.2).
    pub fn refuses_certificate(&self) -> bool {
        const ALERTS: [&str; 9] = [
            "access_denied",
            "bad_certificate",
            "certificate_expired",
            "certificate_required",
            "certificate_revoked",
            "certificate_unknown",
            "decrypt_error",
            "unknown_ca",
            "unsupported_certificate",
        ];
        matches!(self, Self::Alert(name) if ALERTS.contains(&name.as_str()))
    }

    /// Whether the peer reports that it was shown no certificate and requires one.
    pub fn misses_certificate(&self) -> bool {
        matches!(self, Self::Alert(name) if name == "certificate_required")
    }

    /// Whether the peer may mean that it was shown no certificate: TLS 1.2 has no alert for it alone.
    pub fn may_miss_certificate(&self) -> bool {
        matches!(self, Self::Alert(name) if name == "handshake_failure")
    }

    fn from_certificate_error(error: &CertificateError) -> Self {
        let at = |time: &rustls::pki_types::UnixTime| {
            UNIX_EPOCH
                .checked_add(Duration::from_secs(time.as_secs()))
                .unwrap_or(UNIX_EPOCH)
        };
        match error {
            CertificateError::ExpiredContext { time, not_after } => Self::Expired {
                not_after: at(not_after),
                now: at(time),
            },
            CertificateError::NotValidYetContext { time, not_before } => Self::NotYetValid {
                not_before: at(not_before),
                now: at(time),
            },
            CertificateError::NotValidForNameContext {
                expected,
                presented,
            } => Self::WrongName {
                expected: expected.to_str().into_owned(),
                presented: presented
                    .iter()
                    .take(MAX_NAMES)
                    .map(|name| escape(bare_name(name).as_bytes()))
                    .collect(),
            },
            CertificateError::Other(OtherError(cause)) => match cause.downcast_ref::<Rejection>() {
                Some(Rejection::SelfSigned(subject)) => Self::SelfSigned {
                    subject: escape(subject.as_bytes()),
                },
                Some(Rejection::UnknownIssuer(issuer)) => Self::UnknownIssuer {
                    issuer: escape(issuer.as_bytes()),
                },
                Some(Rejection::OtherIssuerKey(issuer)) => Self::OtherIssuerKey {
                    issuer: escape(issuer.as_bytes()),
                },
                Some(Rejection::AuthorityAsServer(subject)) => Self::AuthorityAsServer {
                    subject: escape(subject.as_bytes()),
                },
                Some(Rejection::Fingerprint(seen)) => Self::Fingerprint { seen: *seen },
                Some(Rejection::ShortKey(bits)) => Self::ShortKey { bits: *bits },
                Some(Rejection::OldVersion(version)) => Self::OldVersion { version: *version },
                Some(
                    other @ (Rejection::KeySize(_)
                    | Rejection::KeyAlgorithm(_)
                    | Rejection::LongChain(..)),
                ) => Self::BadCertificate(other.to_string()),
                None => Self::BadCertificate(webpki_fault(&cause.to_string())),
            },
            CertificateError::UnknownIssuer => {
                Self::BadCertificate("issued by an authority that is not trusted".to_owned())
            }
            CertificateError::BadEncoding => Self::BadCertificate("it is malformed".to_owned()),
            CertificateError::BadSignature => Self::BadCertificate(
                "the peer does not hold its key, or its issuer has not signed it".to_owned(),
            ),
            CertificateError::Revoked => Self::BadCertificate("revoked by its issuer".to_owned()),
            CertificateError::InvalidPurposeContext { required, .. } => {
                let required = match required {
                    ExtendedKeyPurpose::ClientAuth => "clients (clientAuth)",
                    ExtendedKeyPurpose::ServerAuth => "servers (serverAuth)",
                    ExtendedKeyPurpose::Other(_) => "that",
                };
                Self::BadCertificate(format!("it, or one of its chain, is not for {required}"))
            }
            _ => Self::BadCertificate(escape(error.to_string().as_bytes())),
        }
    }
}

impl From<&Error> for HandshakeFault {
    fn from(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::from_certificate_error(error),
            Error::AlertReceived(rustls::AlertDescription::ProtocolVersion) => {
                Self::NoCommonVersion
            }
            Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)
            | Error::NoApplicationProtocol => Self::NoCommonProtocol,
            Error::AlertReceived(alert) => Self::Alert(snake_case(&format!("{alert:?}"))),
            Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::SupportedVersionsExtensionRequired
                // The extension came with TLS 1.2, and rustls checks it before the version.
                | PeerIncompatible::SignatureAlgorithmsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled,
            ) => Self::NoCommonVersion,
            Error::PeerIncompatible(
                PeerIncompatible::NoCipherSuitesInCommon
                | PeerIncompatible::NoKxGroupsInCommon
                | PeerIncompatible::NoSignatureSchemesInCommon
                | PeerIncompatible::NoEcPointFormatsInCommon,
            ) => Self::NoCommonCipher,
            // The first one is declined and no more.
            Error::PeerMisbehaved(PeerMisbehaved::TooManyRenegotiationRequests) => {
                Self::Renegotiation
            }
            // The first byte of plaintext is no TLS content type, its second and third no TLS version.
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            ) => Self::NotTls,
            // What rustls says where none was resolved.
            Error::General(cause) if cause == "no server certificate chain resolved" => {
                Self::NoCertificate
            }
            _ => Self::Other(escape(error.to_string().as_bytes())),
        }
    }
}

impl fmt::Display for HandshakeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { not_after, now } => write!(
                f,
                "certificate expired on {} ({} ago)",
                Date(*not_after),
                Span(now.duration_since(*not_after).unwrap_or_default())
            ),
            Self::NotYetValid { not_before, now } => write!(
                f,
                "certificate not valid before {} (in {})",
                Date(*not_before),
                Span(not_before.duration_since(*now).unwrap_or_default())
            ),
            Self::WrongName {
                expected,
                presented,
            } if presented.is_empty() => write!(
                f,
                "certificate is not for {expected}: it has no subjectAltName"
            ),
            Self::WrongName {
                expected,
                presented,
            } => write!(
                f,
                "certificate is not for {expected} but for {}",
                presented.join(", ")
            ),
            Self::UnknownIssuer { issuer } => {
                write!(f, "certificate issued by {issuer}, which is not trusted")
            }
            Self::OtherIssuerKey { issuer } => write!(
                f,
                "certificate issued by {issuer}, but not signed with the key of the trusted authority of that name: was that one \
                 made anew, or has it an RSA key of less than 2048 bits?"
            ),
            Self::SelfSigned { subject } => {
                write!(
                    f,
                    "self-signed certificate ({subject}), which is not trusted"
                )
            }
            Self::AuthorityAsServer { subject } => write!(
                f,
                "certificate ({subject}) is a certificate authority's, not a server's: pin its fingerprint"
            ),
            Self::Fingerprint { seen } => {
                write!(f, "certificate has fingerprint {}", Fingerprint(seen))?;
                f.write_str(", which is not the configured one")
            }
            Self::ShortKey { bits } => write!(
                f,
                "certificate has an RSA key of {bits} bits, which is too short: if pinned by its fingerprint, 1024 are accepted in \
                 TLS 1.2 (docs/tls-limits.md)"
            ),
            Self::OldVersion { version } => write!(
                f,
                "certificate is of X.509 version {version}, and only version 3 can be verified: pin its fingerprint"
            ),
            Self::BadCertificate(cause) => write!(f, "bad certificate: {cause}"),
            Self::NoCertificate => f.write_str(
                "there is no certificate for the client: it names none of those that are there, and the central one, which is \
                 ordered, is not there yet",
            ),
            Self::NoCommonVersion => f.write_str("no TLS version in common"),
            Self::NoCommonCipher => f.write_str(
                "no cipher suite, key exchange or signature scheme in common (see docs/tls-limits.md)",
            ),
            Self::NoCommonProtocol => f.write_str("no application protocol (ALPN) in common"),
            Self::Renegotiation => f.write_str(
                "the peer requests a TLS renegotiation, which is not supported: set `TLSRenegotiate none` in ProFTPD, or \
                 `max_version: \"1.3\"` at the backend (docs/tls-limits.md)",
            ),
            Self::Closed => f.write_str("the peer closed the connection"),
            Self::NotTls => f.write_str("the peer did not speak TLS"),
            // Servers that share no cipher suite with us say no more than this.
            Self::Alert(name) if name == "handshake_failure" => write!(
                f,
                "the peer refused with alert {name}: perhaps no cipher suite in common (see docs/tls-limits.md)"
            ),
            Self::Alert(name) => write!(f, "the peer refused with alert {name}"),
            Self::Other(cause) => f.write_str(cause),
        }
    }
}

impl std::error::Error for HandshakeFault {}

/// Words for an error of webpki's that rustls has no name for. Most of them are about any certificate of the chain.
fn webpki_fault(name: &str) -> String {
    let words = match name {
        "CaUsedAsEndEntity" => "it is a certificate authority's own (CA:TRUE)",
        "EndEntityUsedAsCa" => {
            "one in its chain has issued the one before it without being an authority's (no CA:TRUE)"
        }
        "PathLenConstraintViolated" => {
            "an authority in its chain has more authorities below it than it may (pathLenConstraint)"
        }
        "NameConstraintViolation" => {
            "an authority in its chain may not issue certificates for its names (nameConstraints)"
        }
        "UnsupportedCriticalExtension" => {
            "it, or one in its chain, has a critical extension that is not supported"
        }
        "UnsupportedCertVersion" => {
            "it, or one in its chain, is of X.509 version 1 or 2, and only version 3 can be verified"
        }
        "MaximumPathBuildCallsExceeded"
        | "MaximumPathDepthExceeded"
        | "MaximumSignatureChecksExceeded"
        | "MaximumNameConstraintComparisonsExceeded" => {
            "its chain is too long, or has too many ways to an authority"
        }
        "MalformedExtensions"
        | "ExtensionValueInvalid"
        | "MalformedNameConstraint"
        | "InvalidSerialNumber"
        | "EmptyEkuExtension"
        | "SignatureAlgorithmMismatch" => "it, or one in its chain, is malformed",
        other => {
            return format!(
                "it, or one in its chain, can't be verified ({})",
                escape(other.as_bytes())
            );
        }
    };
    words.to_owned()
}

/// The name in webpki's `DnsName("ftp.example.com")` or `IpAddress(192.0.2.7)`, and their like.
fn bare_name(presented: &str) -> &str {
    let within = presented
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'))
        .unwrap_or(presented);
    within
        .strip_prefix('"')
        .and_then(|quoted| quoted.strip_suffix('"'))
        .unwrap_or(within)
}

/// `CertificateUnknown` as the RFCs write it: `certificate_unknown`. `UnknownCA` becomes `unknown_ca`.
fn snake_case(name: &str) -> String {
    let mut result = String::with_capacity(name.len() + 4);
    let mut after_lower = false;
    for character in name.chars() {
        if character.is_ascii_uppercase() && after_lower {
            result.push('_');
        }
        after_lower = character.is_ascii_lowercase();
        result.push(character.to_ascii_lowercase());
    }
    result
}

#[cfg(test)]
mod tests {
    use rustls::AlertDescription;

    use super::*;

    #[test]
    fn alerts_have_the_names_of_the_rfcs() {
        let text = |alert| HandshakeFault::from(&Error::AlertReceived(alert)).to_string();
        assert_eq!(
            text(AlertDescription::UnknownCA),
            "the peer refused with alert unknown_ca"
        );
        assert_eq!(
            text(AlertDescription::BadCertificate),
            "the peer refused with alert bad_certificate"
        );
        assert_eq!(
            text(AlertDescription::ProtocolVersion),
            "no TLS version in common"
        );
    }

    #[test]
    fn dates_are_told_with_their_distance() {
        let now = UNIX_EPOCH + Duration::from_secs(1_767_312_000);
        let two_days = Duration::from_secs(2 * 86_400);
        let not_before = now + two_days;
        assert_eq!(
            HandshakeFault::NotYetValid { not_before, now }.to_string(),
            "certificate not valid before 2026-01-04 (in 2 days)"
        );
        let not_after = now - two_days;
        assert_eq!(
            HandshakeFault::Expired { not_after, now }.to_string(),
            "certificate expired on 2025-12-31 (2 days ago)"
        );
    }

    #[test]
    fn a_renegotiation_is_named_with_its_remedies() {
        let error = Error::PeerMisbehaved(PeerMisbehaved::TooManyRenegotiationRequests);
        let error = io::Error::new(ErrorKind::InvalidData, error);
        assert_eq!(classify_error(&error), HandshakeFault::Renegotiation);
        let text = classify_error(&error).to_string();
        assert!(text.contains("`TLSRenegotiate none`"), "{text}");
        assert!(text.contains("max_version"), "{text}");
    }

    #[test]
    fn what_webpki_finds_is_told_in_words() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct OfWebpki(&'static str);
        let text = |name| {
            let cause = OtherError(std::sync::Arc::new(OfWebpki(name)));
            let error = Error::InvalidCertificate(CertificateError::Other(cause));
            HandshakeFault::from(&error).to_string()
        };
        for name in ["PathLenConstraintViolated", "MaximumPathBuildCallsExceeded"] {
            assert!(!text(name).contains(name));
        }
        let unknown = "bad certificate: it, or one in its chain, can't be verified (SomethingNew)";
        assert_eq!(text("SomethingNew"), unknown);
    }

    #[test]
    fn a_connection_that_ends_is_told_from_other_failures() {
        for kind in [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset] {
            assert_eq!(classify_error(&kind.into()), HandshakeFault::Closed);
        }
        let other = io::Error::other("out of luck");
        assert_eq!(classify_error(&other).to_string(), "out of luck");
    }

    #[test]
    fn the_rustls_error_inside_an_io_error_is_found() {
        let inner = Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon);
        let error = io::Error::new(ErrorKind::InvalidData, inner);
        assert_eq!(classify_error(&error), HandshakeFault::NoCommonCipher);
    }

    #[test]
    fn what_a_peer_put_into_its_certificate_cannot_forge_log_lines() {
        let hostile = format!("CN=a\nlevel=info \u{1b}[2J{}", "x".repeat(10_000));
        let error = Error::from(Rejection::SelfSigned(hostile));
        let text = HandshakeFault::from(&error).to_string();
        assert!(!text.contains(char::is_control));
        assert!(text.contains("CN=a\\x0alevel=info \\x1b[2J"));
        assert!(text.len() < 400);
    }
}
