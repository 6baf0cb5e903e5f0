//! A process that is well, in views, to be changed by each test.

use std::time::{Duration, SystemTime};

use super::{
    BackendView, CertificateView, CheckView, Disclosure, Listening, Moment, Overview, PairView,
    ProcessView, ReloadView, SiteView, TransferView,
};

/// Owns the views.
pub struct Sample {
    pub now: Moment,
    pub disclosure: Disclosure,
    pub overview: Overview,
    pub certificates: Vec<CertificateView>,
    pub sites: Vec<SiteView>,
    pub backends: Vec<BackendView>,
    pub transfers: Vec<TransferView>,
    pub transfers_total: usize,
}

/// The moment of which it tells: 14:52:14 of a day in November.
const NOW: u64 = 1_796_050_334;

/// The moment this number of seconds before `NOW`.
pub fn ago(seconds: u64) -> Moment {
    Moment::new(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW - seconds))
}

/// The time this number of seconds after `NOW`.
pub fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW + seconds)
}

impl Sample {
    /// A process with one site, one backend and one transfer, in which nothing needs attention.
    pub fn well() -> Self {
        Self {
            now: ago(0),
            disclosure: Disclosure::Full,
            overview: overview(),
            certificates: vec![certificate(61, 90)],
            sites: vec![site("ftpa")],
            backends: vec![backend("ftpa", "10.0.0.10:21")],
            transfers: vec![transfer()],
            transfers_total: 1,
        }
    }

    pub fn process(&self) -> ProcessView<'_> {
        ProcessView {
            now: self.now,
            overview: &self.overview,
            certificates: &self.certificates,
            sites: &self.sites,
            backends: &self.backends,
        }
    }
}

fn overview() -> Overview {
    Overview {
        version: "1.2.3",
        config: "/etc/portcullis/portcullis.yaml".to_owned(),
        started: ago(273_660),
        uptime_seconds: 273_660.0,
        readiness: "ready",
        sessions: 42,
        max_sessions: 10_000,
        transfers: 1,
        listeners: vec![Listening {
            address: "0.0.0.0:21".parse().expect("an address"),
            tls: "explicit",
        }],
        passive_ports: 64,
        reloads: vec![ReloadView {
            at: ago(11_520),
            subject: "configuration",
            refused: None,
            stands: false,
        }],
        refused: Vec::new(),
        stalled: Vec::new(),
        misplaced_logs: Vec::new(),
        acme: None,
        revocation_lists: Vec::new(),
        backend_client_certificates: Vec::new(),
    }
}

/// With so many days left of so many.
pub fn certificate(days_left: i64, life: u64) -> CertificateView {
    let now = NOW.checked_add_signed(days_left * 86_400);
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(now.expect("a time"));
    CertificateView {
        name: "default".to_owned(),
        file: "/etc/portcullis/tls/tls.crt".to_owned(),
        directory: false,
        ordered: false,
        pair: Some(PairView {
            subject: "CN=ftp.example.com".to_owned(),
            names: vec!["ftp.example.com".to_owned(), "*.example.com".to_owned()],
            issuer: "C=US, O=Let's Encrypt, CN=R11".to_owned(),
            key: "ecdsa",
            not_before: Moment::new(end - Duration::from_secs(life * 86_400)),
            not_after: Moment::new(end),
            ends_by_issuer: None,
            chain_begins: None,
            days_left,
            fingerprint: format!("sha256:{}", "a1".repeat(32)),
        }),
        refused: None,
    }
}

/// Makes a backend have shown a certificate like [`certificate`].
pub fn show_certificate(backend: &mut BackendView, days_left: i64, life: u64) {
    let pair = certificate(days_left, life).pair.expect("a pair");
    backend.certificate_valid_from = Some(pair.not_before);
    backend.certificate_expires = Some(pair.not_after);
    backend.certificate_days_left = Some(days_left);
}

pub fn site(name: &str) -> SiteView {
    SiteView {
        site: name.to_owned(),
        hosts: vec![format!("{name}.example.com")],
        default: false,
        maintenance: None,
        sessions: 12,
        max_sessions: 9_000,
        logins: 18_204,
        failed_logins: 37,
        complete_transfers: 1_204_551,
        incomplete_transfers: 12,
        backends: 1,
        backends_up: 1,
        backends_full: 0,
    }
}

pub fn backend(site: &str, name: &str) -> BackendView {
    BackendView {
        site: site.to_owned(),
        group: None,
        backend: name.to_owned(),
        address: name.to_owned(),
        state: "up",
        out_since: None,
        drained_by: None,
        sessions: 12,
        all_sessions: 12,
        max_sessions: None,
        weight: 100,
        backup: false,
        check: Some(CheckView {
            at: ago(4),
            seconds: 0.0042,
            failed_at: None,
            login_refused: false,
        }),
        certificate_valid_from: None,
        check_login: None,
        certificate_expires: None,
        certificate_days_left: None,
    }
}

pub fn transfer() -> TransferView {
    TransferView {
        session: 4_711,
        client: "198.51.100.7:50432".parse().expect("an address"),
        site: Some("ftpa".to_owned()),
        user: Some("alice".to_owned()),
        backend: None,
        command: "RETR".to_owned(),
        path: Some("reports/2026/november.pdf".to_owned()),
        direction: "download",
        bytes: 734_003_200,
        size: Some(2_147_483_648),
        since: ago(61),
        seconds: 61.2,
        bytes_per_second: 11_993_516.0,
    }
}
