//! The sites and their backends.

use std::collections::HashMap;

use serde::Serialize;

use super::{Disclosure, Moment, days_until};
pub use crate::backend::DrainedBy;
use crate::backend::{BackendSummary, CheckLogin, LastCheck, Pools};
use crate::base::text::escape_path;
use crate::config::HostPattern;
use crate::observe::metrics::{Metrics, SiteTotals};
use crate::outcome::{BackendStatus, CheckStage};
use crate::tls::Validity;

/// A configured site, as shown.
#[derive(Debug, Clone, Serialize)]
pub struct SiteView {
    /// The site's name.
    pub site: String,
    /// The hosts that lead to it.
    pub hosts: Vec<String>,
    /// Whether logins without a host lead to it.
    pub default: bool,
    /// The origin of its maintenance: `configuration` or `operator`; `None` if it serves.
    pub maintenance: Option<&'static str>,
    /// The site's sessions, from the dialling of a backend on.
    pub sessions: usize,
    /// The limit of the site's sessions.
    pub max_sessions: usize,
    /// Logins that were accepted since the start.
    pub logins: u64,
    /// Logins that failed since the start, for whatever reason.
    pub failed_logins: u64,
    /// Transfers that were complete since the start.
    pub complete_transfers: u64,
    /// Transfers that were not complete since the start, aborted ones included.
    pub incomplete_transfers: u64,
    /// How many backends it has.
    pub backends: usize,
    /// How many of them are neither out nor drained; full ones are among them.
    pub backends_up: usize,
    /// How many of those are full: they have as many sessions as they may have.
    pub backends_full: usize,
}

/// How many backends a site has, and in which state.
#[derive(Debug, Clone, Copy, Default)]
struct BackendCounts {
    all: usize,
    up: usize,
    full: usize,
}

impl BackendCounts {
    fn add(&mut self, status: BackendStatus) {
        self.all += 1;
        match status {
            BackendStatus::Up => self.up += 1,
            BackendStatus::Full => {
                self.up += 1;
                self.full += 1;
            }
            BackendStatus::Down | BackendStatus::Ejected | BackendStatus::Drain => {}
        }
    }
}

impl SiteView {
    /// Whether each backend that could take a login has as many sessions as it may have.
    pub fn is_full(&self) -> bool {
        self.backends_up > 0 && self.backends_full == self.backends_up
    }
}

/// A backend of a site, as shown.
#[derive(Debug, Clone, Serialize)]
pub struct BackendView {
    /// The site's name.
    pub site: String,
    /// The group whose backend it is, if it isn't the site's own.
    pub group: Option<String>,
    /// As configured: its name, address or record.
    pub backend: String,
    /// The backend's address.
    pub address: String,
    /// `up`, `down`, `ejected`, `drain` or `full`.
    pub state: &'static str,
    /// Since when the backend has been out; `None` if it isn't.
    pub out_since: Option<Moment>,
    /// The reason why the backend gets no new logins, if there is one.
    pub drained_by: Option<DrainedBy>,
    /// The site's sessions at it.
    pub sessions: usize,
    /// The sessions of all sites at the backend.
    pub all_sessions: usize,
    /// The limit of these sessions; `None` if there is none.
    pub max_sessions: Option<usize>,
    /// The backend's share of the logins, relative to the others'.
    pub weight: u32,
    /// Whether the backend serves only where the others can't.
    pub backup: bool,
    /// The last check of it; none if it isn't checked.
    pub check: Option<CheckView>,
    /// The login of its checks, if they log in.
    #[serde(skip)]
    pub check_login: Option<CheckLoginView>,
    /// From when on its certificate is valid, as last seen; none of one that was refused for its end.
    pub certificate_valid_from: Option<Moment>,
    /// When the backend's certificate expires.
    pub certificate_expires: Option<Moment>,
    /// How many days are left until then; negative behind it.
    pub certificate_days_left: Option<i64>,
}

/// The result of a check.
#[derive(Debug, Clone, Serialize)]
pub struct CheckView {
    /// When the check ended.
    pub at: Moment,
    /// How long the check took, in seconds.
    pub seconds: f64,
    /// The stage at which it failed; none if it passed.
    pub failed_at: Option<&'static str>,
    /// Whether the password of the checks was refused, so that they end before USER.
    pub login_refused: bool,
}

/// The login of the checks of a backend, for the command that probes it in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckLoginView {
    /// The user; where names aren't shown, the word for it.
    pub user: String,
    /// The file with the password, likewise.
    pub password_file: String,
    /// The directory that is listed after the login, if any; likewise.
    pub listed: Option<String>,
}

/// Every configured site, by name.
pub fn sites(pools: &Pools, metrics: &Metrics, max_sessions: usize) -> Vec<SiteView> {
    let backends = pools.summaries();
    let mut counts: HashMap<&str, BackendCounts> = HashMap::new();
    for backend in &backends {
        let counts = counts.entry(&backend.site).or_default();
        counts.add(backend.status);
    }
    let sites = pools.site_summaries().into_iter();
    let sites = sites.map(|summary| {
        let site = summary.site;
        let counts = counts.get(&*site.name).copied().unwrap_or_default();
        let SiteTotals {
            logins,
            failed_logins,
            complete_transfers,
            incomplete_transfers,
        } = metrics.site_totals(&site.name);
        let maintenance = match (&site.policy.maintenance, summary.is_in_maintenance) {
            (_, true) => Some("operator"),
            (Some(_), false) => Some("configuration"),
            (None, false) => None,
        };
        SiteView {
            site: site.name.clone(),
            hosts: site.hosts.iter().map(HostPattern::to_string).collect(),
            default: site.default,
            maintenance,
            sessions: summary.sessions,
            max_sessions,
            logins,
            failed_logins,
            complete_transfers,
            incomplete_transfers,
            backends: counts.all,
            backends_up: counts.up,
            backends_full: counts.full,
        }
    });
    sites.collect()
}

/// Every backend of every site.
pub fn backends(pools: &Pools, disclosure: Disclosure) -> Vec<BackendView> {
    pools
        .summaries()
        .into_iter()
        .map(|summary| BackendView::new(summary, disclosure))
        .collect()
}

impl BackendView {
    fn new(summary: BackendSummary, disclosure: Disclosure) -> Self {
        let login = summary.check_login.as_ref();
        let login_refused = login.is_some_and(|login| login.is_refused);
        let validity = summary.certificate;
        Self {
            site: summary.site,
            group: summary.group,
            backend: summary.label,
            address: summary.address,
            state: summary.status.as_str(),
            out_since: summary.out_for.map(Moment::ago),
            drained_by: summary.drained_by,
            sessions: summary.sessions,
            all_sessions: summary.all_sessions,
            max_sessions: summary.max_sessions,
            weight: summary.weight,
            backup: summary.backup,
            check: summary
                .last_check
                .map(|check| CheckView::new(check, login_refused)),
            check_login: login.map(|login| CheckLoginView::new(login, disclosure)),
            certificate_valid_from: validity.and_then(|it| it.not_before).map(Moment::new),
            certificate_expires: validity.map(|it| Moment::new(it.not_after)),
            certificate_days_left: validity.map(|it| days_until(it.not_after)),
        }
    }

    /// Whether the backend's certificate should have been renewed.
    pub fn certificate_is_due(&self, now: Moment) -> bool {
        let validity = self.certificate_expires.map(|end| Validity {
            not_before: self.certificate_valid_from.map(|start| start.0),
            not_after: end.0,
        });
        validity.is_some_and(|validity| validity.renewal_is_due(now.0))
    }
}

impl CheckView {
    fn new(check: LastCheck, login_refused: bool) -> Self {
        Self {
            at: Moment::ago(check.at.elapsed()),
            seconds: check.took.as_secs_f64(),
            failed_at: check.failed_at.map(CheckStage::as_str),
            login_refused,
        }
    }
}

impl CheckLoginView {
    fn new(login: &CheckLogin, disclosure: Disclosure) -> Self {
        match disclosure {
            Disclosure::Full => Self {
                user: login.user.clone(),
                password_file: escape_path(&login.password_file),
                listed: login.listed.clone(),
            },
            Disclosure::Summary => Self {
                user: "USER".to_owned(),
                password_file: "FILE".to_owned(),
                listed: login.listed.as_ref().map(|_| "PATH".to_owned()),
            },
        }
    }
}
