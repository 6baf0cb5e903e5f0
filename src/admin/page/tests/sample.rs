//! What a page is made of, to be changed by each test.

use std::time::{Duration, SystemTime};

use crate::admin::page::{Page, render};
use crate::view::{
    BackendView, CertificateView, CheckView, Disclosure, Listening, Moment, Overview, ReloadView,
    SiteView, TransferView,
};

/// Owns the values of a [`Page`].
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

/// The moment of the page: 14:52:14 of a day in November.
const NOW: u64 = 1_796_050_334;

/// So many seconds before it.
pub fn ago(seconds: u64) -> Moment {
    Moment::new(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW - seconds))
}

impl Sample {
    /// One site with one backend and one transfer, and nothing that needs attention.
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

    pub fn page(&self) -> Page<'_> {
        Page {
            now: self.now,
            disclosure: self.disclosure,
            overview: &self.overview,
            certificates: &self.certificates,
            sites: &self.sites,
            backends: &self.backends,
            transfers: &self.transfers,
            transfers_total: self.transfers_total,
        }
    }

    pub fn html(&self) -> String {
        render(&self.page())
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
    }
}

/// With so many days left of so many.
pub fn certificate(days_left: i64, life: u64) -> CertificateView {
    let now = NOW.checked_add_signed(days_left * 86_400);
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(now.expect("a time"));
    CertificateView {
        file: "/etc/portcullis/tls/tls.crt".to_owned(),
        subject: "CN=ftp.example.com".to_owned(),
        names: vec!["ftp.example.com".to_owned(), "*.example.com".to_owned()],
        issuer: "C=US, O=Let's Encrypt, CN=R11".to_owned(),
        not_before: Moment::new(end - Duration::from_secs(life * 86_400)),
        not_after: Moment::new(end),
        days_left,
        fingerprint: format!("sha256:{}", "a1".repeat(32)),
    }
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
        max_sessions: None,
        weight: 100,
        backup: false,
        check: Some(CheckView {
            at: ago(4),
            seconds: 0.0042,
            failed_at: None,
        }),
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
