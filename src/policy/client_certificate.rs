//! The certificates by which clients of a site prove their identity: which certificate is right for which user.
//!
//! A certificate's content, and whether an authority vouches for it, are found after the handshake (`tls::client_certificates`);
//! here it is only compared. By then the client has proven that it holds the certificate's key, unless [`KeyProof`] says otherwise.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

/// The identity of a client by the certificate that it has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// SHA-256 of its DER form.
    pub fingerprint: [u8; 32],
    /// The certificate's subject, for operators: printable and short.
    pub subject: String,
    /// The common name of its subject, if that has exactly one: an authority that checks one of several may not have
    /// checked the others.
    pub common_name: Option<Box<[u8]>>,
    /// The e-mail addresses in its subjectAltName.
    pub emails: Vec<Box<[u8]>>,
    /// The DNS names there.
    pub dns_names: Vec<Box<[u8]>>,
    /// When the certificate expires, since the Unix epoch; `None` if it can't be read.
    pub not_after: Option<Duration>,
    /// Whether the client is known to hold its key; without that it proves nothing.
    pub key: KeyProof,
    /// Whether the configured authorities vouch for it.
    pub chain: Result<(), ChainFault>,
}

/// Whether a client is known to hold the key of the certificate that it has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyProof {
    /// The client's signature in the handshake has been verified.
    Verified,
    /// No signature by a key of this kind or size can be verified.
    Unverifiable,
}

impl ClientIdentity {
    /// The identity at `now`, since the Unix epoch, if the certificate was good and has expired since: a control connection may
    /// stay open for days, and log in again. `None` otherwise.
    pub fn lapsed(&self, now: Duration) -> Option<Self> {
        let is_over = self.not_after.is_some_and(|end| end < now);
        (is_over && self.chain.is_ok()).then(|| Self {
            chain: Err(ChainFault {
                result: CertificateResult::Expired,
                detail: "the certificate has expired since the handshake".to_owned(),
            }),
            ..self.clone()
        })
    }
}

/// Why the configured authorities don't vouch for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainFault {
    /// The kind of fault.
    pub result: CertificateResult,
    /// Description for operators: printable and short.
    pub detail: String,
}

/// Defines an enum whose variants are the values of a label.
macro_rules! results {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)+) => {
        /// What became of a client's certificate at a site.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum CertificateResult {
            $($(#[$doc])* $variant,)+
        }

        impl CertificateResult {
            /// Every value that there is.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The value as label and as log field.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

results! {
    /// It is the user's.
    Accepted = "accepted",
    /// The site requires one, and the client has shown none.
    Missing = "missing",
    /// None of the authorities has issued it.
    UnknownCa = "unknown_ca",
    /// It is past its end, or a certificate of its chain is.
    Expired = "expired",
    /// It is not valid yet.
    NotYetValid = "not_yet_valid",
    /// Its issuer has revoked it.
    Revoked = "revoked",
    /// The revocation list of its issuer is past its next update.
    CrlExpired = "crl_expired",
    /// There are revocation lists, and none of its issuer.
    CrlMissing = "crl_missing",
    /// It may not be used by clients.
    Purpose = "purpose",
    /// It is right, and another user's.
    OtherUser = "other_user",
    /// Anything else is wrong with it.
    Invalid = "invalid",
}

/// The part of a certificate that has to be the user's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CertificateUser {
    /// The common name of its subject.
    #[default]
    Cn,
    /// An e-mail address in its subjectAltName.
    Email,
    /// A DNS name in its subjectAltName.
    Dns,
    /// No part has to be: each certificate of an authority is good for each user.
    None,
}

impl CertificateUser {
    /// The value in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cn => "cn",
            Self::Email => "email",
            Self::Dns => "dns",
            Self::None => "none",
        }
    }
}

/// A user's name as it is compared: upper and lower case don't make a difference, in any script. Bytes that are not UTF-8 are
/// compared as they are, but for ASCII. Other characters never become ASCII: the Kelvin sign is no `k`.
pub fn folded(user: &[u8]) -> Box<[u8]> {
    let Ok(text) = std::str::from_utf8(user) else {
        return user.to_ascii_lowercase().into();
    };
    let mut folded = String::with_capacity(text.len());
    for character in text.chars() {
        let lower = character.to_lowercase();
        match character.is_ascii() || !lower.clone().any(|it| it.is_ascii()) {
            true => folded.extend(lower),
            false => folded.push(character),
        }
    }
    folded.into_bytes().into()
}

/// By user, [`folded`], the fingerprints of the certificates that are the user's.
pub type PinnedCertificates = HashMap<Box<[u8]>, Vec<[u8; 32]>>;

/// A site's requirements on its clients' certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRules {
    /// Whether every login needs a certificate.
    pub required: bool,
    /// The part of a certificate that names its user.
    pub user: CertificateUser,
    /// No other one is such a user's, and an authority needs to vouch for none of them.
    pub pinned: PinnedCertificates,
    /// The file with the passwords by which users with the right certificate are logged in at the backend.
    pub credentials: Option<PathBuf>,
}

/// A site's decision about a client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The client has shown none, and none is required.
    NotAsked,
    /// The certificate is the user's, and proves the client's identity.
    Proven,
    /// The certificate isn't the user's, or isn't valid, and the login goes on without it.
    Ignored(CertificateResult),
    /// The user may not log in.
    Refused(CertificateResult),
}

impl Admission {
    /// The result for the certificate; `None` if there was none, and none required.
    pub fn result(self) -> Option<CertificateResult> {
        match self {
            Self::NotAsked => None,
            Self::Proven => Some(CertificateResult::Accepted),
            Self::Ignored(result) | Self::Refused(result) => Some(result),
        }
    }
}

impl CertificateRules {
    /// A certificate that is right for this user: what the site is looking for.
    pub fn right_for(&self, user: &[u8]) -> ClientIdentity {
        let pinned = self.pinned.get(&folded(user));
        ClientIdentity {
            fingerprint: pinned
                .and_then(|all| all.first())
                .copied()
                .unwrap_or_default(),
            subject: "the right one".to_owned(),
            common_name: Some(user.into()),
            emails: vec![user.into()],
            dns_names: vec![user.into()],
            not_after: None,
            key: KeyProof::Verified,
            chain: Ok(()),
        }
    }

    /// Whether `user`, the client's without the host, may log in with this certificate, or without one.
    pub fn admit(&self, identity: Option<&ClientIdentity>, user: &[u8]) -> Admission {
        let result = match identity {
            None if self.required => CertificateResult::Missing,
            None => return Admission::NotAsked,
            Some(identity) => self.judge(identity, user),
        };
        match result {
            CertificateResult::Accepted => Admission::Proven,
            other if self.required => Admission::Refused(other),
            other => Admission::Ignored(other),
        }
    }

    fn judge(&self, identity: &ClientIdentity, user: &[u8]) -> CertificateResult {
        // Any client can show a certificate: before the pinned ones, too.
        if identity.key == KeyProof::Unverifiable {
            return CertificateResult::Invalid;
        }
        let folded = folded(user);
        if let Some(pinned) = self.pinned.get(&folded)
            && pinned.contains(&identity.fingerprint)
        {
            return CertificateResult::Accepted;
        }
        // Before the user: which users are pinned is nothing for a certificate that no authority vouches for.
        if let Err(fault) = &identity.chain {
            return fault.result;
        }
        match self.pinned.contains_key(&folded) || !self.is_of(identity, user) {
            true => CertificateResult::OtherUser,
            false => CertificateResult::Accepted,
        }
    }

    fn is_of(&self, identity: &ClientIdentity, user: &[u8]) -> bool {
        let user = folded(user);
        let is_user = |name: &[u8]| folded(name) == user;
        match self.user {
            CertificateUser::Cn => identity.common_name.as_deref().is_some_and(is_user),
            CertificateUser::Email => identity.emails.iter().any(|name| is_user(name)),
            CertificateUser::Dns => identity.dns_names.iter().any(|name| is_user(name)),
            CertificateUser::None => true,
        }
    }

    /// Whether data connections have to show the certificate of the control connection: where a login may rest on it.
    pub fn binds_data(&self) -> bool {
        self.required || self.credentials.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> ClientIdentity {
        ClientIdentity {
            fingerprint: [1; 32],
            subject: "CN=acme".to_owned(),
            common_name: Some(b"acme".as_slice().into()),
            emails: vec![b"ftp@acme.test".as_slice().into()],
            dns_names: vec![b"acme.test".as_slice().into()],
            not_after: Some(Duration::ZERO),
            key: KeyProof::Verified,
            chain: Ok(()),
        }
    }

    fn faulty(result: CertificateResult) -> ClientIdentity {
        let detail = String::new();
        ClientIdentity {
            chain: Err(ChainFault { result, detail }),
            ..identity()
        }
    }

    fn rules(user: CertificateUser) -> CertificateRules {
        CertificateRules {
            required: true,
            user,
            pinned: HashMap::new(),
            credentials: None,
        }
    }

    fn pinning(user: &str, fingerprint: [u8; 32]) -> CertificateRules {
        let pinned = [(user.as_bytes().into(), vec![fingerprint])];
        CertificateRules {
            pinned: pinned.into(),
            ..rules(CertificateUser::Cn)
        }
    }

    const REFUSED: Admission = Admission::Refused(CertificateResult::OtherUser);

    #[test]
    fn the_part_that_is_asked_for_has_to_be_the_user_in_any_case() {
        for (part, user) in [
            (CertificateUser::Cn, "ACME"),
            (CertificateUser::Email, "FTP@acme.test"),
            (CertificateUser::Dns, "acme.TEST"),
            (CertificateUser::None, "anybody"),
        ] {
            let rules = rules(part);
            let admitted = rules.admit(Some(&identity()), user.as_bytes());
            assert_eq!(admitted, Admission::Proven, "{part:?}");
            if part != CertificateUser::None {
                for other in ["acm", "acme2", "", "acme.tes"] {
                    let admitted = rules.admit(Some(&identity()), other.as_bytes());
                    assert_eq!(admitted, REFUSED, "{part:?} {other}");
                }
            }
        }
    }

    #[test]
    fn upper_and_lower_case_make_no_difference_in_any_script() {
        let is_let_in = |name: &[u8], user: &[u8]| {
            let identity = ClientIdentity {
                common_name: Some(name.into()),
                ..identity()
            };
            rules(CertificateUser::Cn).admit(Some(&identity), user) == Admission::Proven
        };
        assert!(is_let_in("Jürgen".as_bytes(), "JÜRGEN".as_bytes()));
        assert!(is_let_in("ИВАН".as_bytes(), "Иван".as_bytes()));
        assert!(!is_let_in("Jürgen".as_bytes(), b"Jurgen"));
        // In Latin-1: no UTF-8.
        assert!(is_let_in(b"J\xfcrgen", b"j\xfcRGEN"));
        assert!(!is_let_in(b"J\xfcrgen", b"J\xdcRGEN"));
        // Letters whose lower case is another script's would let one user pass for another.
        assert!(!is_let_in("\u{212a}ate".as_bytes(), b"kate"));
        assert!(!is_let_in(b"kate", "\u{212a}ate".as_bytes()));
        assert!(!is_let_in("\u{130}da".as_bytes(), b"ida"));
        // A pinned user is the same one in whatever case.
        let rules = pinning("jürgen", [2; 32]);
        let named = ClientIdentity {
            common_name: Some("Jürgen".as_bytes().into()),
            ..identity()
        };
        let admitted = rules.admit(Some(&named), "JÜRGEN".as_bytes());
        assert_eq!(admitted, REFUSED);
    }

    #[test]
    fn a_certificate_without_the_part_is_nobodys() {
        let nameless = ClientIdentity {
            common_name: None,
            emails: Vec::new(),
            dns_names: Vec::new(),
            ..identity()
        };
        for part in [
            CertificateUser::Cn,
            CertificateUser::Email,
            CertificateUser::Dns,
        ] {
            assert_eq!(rules(part).admit(Some(&nameless), b""), REFUSED);
        }
    }

    #[test]
    fn what_no_authority_vouches_for_is_refused_by_its_fault() {
        for result in [CertificateResult::UnknownCa, CertificateResult::Purpose] {
            let admitted = rules(CertificateUser::None).admit(Some(&faulty(result)), b"acme");
            assert_eq!(admitted, Admission::Refused(result));
        }
        let missing = rules(CertificateUser::Cn).admit(None, b"acme");
        assert_eq!(missing, Admission::Refused(CertificateResult::Missing));
    }

    #[test]
    fn a_certificate_whose_key_cannot_be_verified_is_nobodys_not_even_if_it_is_pinned() {
        let unverified = ClientIdentity {
            key: KeyProof::Unverifiable,
            ..identity()
        };
        let invalid = Admission::Refused(CertificateResult::Invalid);
        for rules in [rules(CertificateUser::Cn), pinning("acme", [1; 32])] {
            assert_eq!(rules.admit(Some(&identity()), b"acme"), Admission::Proven);
            assert_eq!(rules.admit(Some(&unverified), b"acme"), invalid);
        }
    }

    #[test]
    fn a_pinned_certificate_needs_no_authority_and_is_good_for_its_user_alone() {
        let rules = pinning("partner", [1; 32]);
        let faulty = faulty(CertificateResult::Purpose);
        assert_eq!(rules.admit(Some(&faulty), b"Partner"), Admission::Proven);
        let purpose = Admission::Refused(CertificateResult::Purpose);
        assert_eq!(rules.admit(Some(&faulty), b"acme"), purpose);
    }

    #[test]
    fn what_has_expired_since_the_handshake_is_no_longer_vouched_for() {
        let identity = identity();
        assert_eq!(identity.lapsed(Duration::ZERO), None);
        let later = Duration::from_secs(1);
        let lapsed = identity.lapsed(later).unwrap();
        let expired = Admission::Refused(CertificateResult::Expired);
        let rules = rules(CertificateUser::Cn);
        assert_eq!(rules.admit(Some(&lapsed), b"acme"), expired);
        assert_eq!(lapsed.lapsed(later), None);
    }

    #[test]
    fn a_pinned_user_is_let_in_with_no_other_certificate() {
        let rules = pinning("acme", [2; 32]);
        assert_eq!(rules.admit(Some(&identity()), b"acme"), REFUSED);
        assert_eq!(rules.admit(Some(&identity()), b"ACME"), REFUSED);
    }

    #[test]
    fn where_none_is_required_a_wrong_one_proves_nothing_and_does_no_harm() {
        let rules = CertificateRules {
            required: false,
            ..rules(CertificateUser::Cn)
        };
        assert_eq!(rules.admit(None, b"acme"), Admission::NotAsked);
        let other = Admission::Ignored(CertificateResult::OtherUser);
        assert_eq!(rules.admit(Some(&identity()), b"bob"), other);
        assert_eq!(rules.admit(Some(&identity()), b"acme"), Admission::Proven);
    }
}
