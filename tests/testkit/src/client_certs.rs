//! Certificates of clients, good and bad, and revocation lists.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{
    CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    KeyIdMethod, KeyPair, RevokedCertParams, SanType,
};
use time::{Duration, OffsetDateTime};

use super::certs::{Authority, Pair};

/// A certificate of a client, with its key.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// Certificate and key.
    pub pair: Pair,
    serial: u64,
}

/// What kind of certificate a client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// For clients, valid now.
    Good,
    /// Until yesterday.
    Expired,
    /// For servers, as public authorities issue them.
    ForServers,
}

/// Where a client finds its certificate.
#[derive(Debug, Clone)]
pub struct ClientFiles {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM.
    pub private_key: PathBuf,
}

impl Authority {
    /// A certificate of this kind with this user as its common name, and as DNS name and e-mail address below `partner.test`.
    pub fn issue_client(&self, user: &str, kind: Kind) -> ClientCertificate {
        static SERIALS: AtomicU64 = AtomicU64::new(1_000);
        let serial = SERIALS.fetch_add(1, Ordering::Relaxed);
        let mut params = CertificateParams::new([format!("{user}.partner.test")])
            .expect("a test's names are ASCII");
        let address = format!("{user}@partner.test");
        params.subject_alt_names.push(SanType::Rfc822Name(
            address.try_into().expect("a test's names are ASCII"),
        ));
        params.distinguished_name.push(DnType::CommonName, user);
        params.serial_number = Some(serial.into());
        params.extended_key_usages = vec![match kind {
            Kind::Good | Kind::Expired => ExtendedKeyUsagePurpose::ClientAuth,
            Kind::ForServers => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        let (now, day) = (OffsetDateTime::now_utc(), Duration::DAY);
        params.not_before = now - 90 * day;
        params.not_after = match kind {
            Kind::Expired => now - day,
            Kind::Good | Kind::ForServers => now + 90 * day,
        };
        let key = KeyPair::generate().expect("key generation needs no input");
        let certificate = params
            .signed_by(&key, self.issuer())
            .expect("the parameters are valid");
        let pair = Pair {
            certificate: certificate.pem(),
            private_key: key.serialize_pem(),
        };
        ClientCertificate { pair, serial }
    }

    /// Its revocation list of an hour ago, in PEM, until so much from now.
    pub fn revoke(&self, revoked: &[&ClientCertificate], next_update: Duration) -> String {
        let now = OffsetDateTime::now_utc();
        let revoked = revoked.iter().map(|it| RevokedCertParams {
            serial_number: it.serial.into(),
            revocation_time: now - Duration::DAY,
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: now - 7 * Duration::DAY,
            next_update: now + next_update,
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(self.issuer()).expect("it may sign lists");
        list.pem().expect("PEM takes everything")
    }
}

impl ClientCertificate {
    /// Writes both into a directory, as `NAME.crt` and `NAME.key`.
    pub fn write(&self, directory: &Path, name: &str) -> ClientFiles {
        let files = ClientFiles {
            certificate: directory.join(format!("{name}.crt")),
            private_key: directory.join(format!("{name}.key")),
        };
        for (file, content) in [
            (&files.certificate, &self.pair.certificate),
            (&files.private_key, &self.pair.private_key),
        ] {
            fs::write(file, content).expect("the test's directory is writable");
        }
        files
    }
}
