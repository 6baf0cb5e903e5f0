//! The sites and their backends.

use std::collections::HashMap;

use serde::Serialize;

use super::{Moment, days_until};
pub use crate::backend::DrainedBy;
use crate::backend::{BackendSummary, LastCheck, Pools};
use crate::config::HostPattern;
use crate::observe::metrics::{Metrics, SiteTotals};
use crate::outcome::{BackendStatus, CheckStage};

/// One configured site.
#[derive(Debug, Clone, Serialize)]
pub struct SiteView {
    /// Its name.
    pub site: String,
    /// The hosts that lead to it.
    pub hosts: Vec<String>,
    /// Whether logins without a host lead to it.
    pub default: bool,
    /// What keeps it out of service: `configuration` or `operator`; none if it serves.
    pub maintenance: Option<&'static str>,
    /// Its sessions, from the dialling of a backend on.
    pub sessions: usize,
    /// How many there may be.
    pub max_sessions: usize,
    /// Logins that were accepted since the start.
    pub logins: u64,
    /// Logins that failed since the start, for whatever reason.
    pub failed_logins: u64,
    /// Transfers that were complete since the start.
    pub complete_transfers: u64,
    /// Transfers that were not, aborted ones included.
    pub incomplete_transfers: u64,
    /// How many backends it has.
    pub backends: usize,
    /// How many of them take logins.
    pub backends_up: usize,
}

/// One backend of one site.
#[derive(Debug, Clone, Serialize)]
pub struct BackendView {
    /// The site's name.
    pub site: String,
    /// The group whose backend it is, if it isn't the site's own.
    pub group: Option<String>,
    /// As configured: its name, address or record.
    pub backend: String,
    /// Its address.
    pub address: String,
    /// `up`, `down`, `ejected`, `drain` or `full`.
    pub state: &'static str,
    /// Since when it has been out; none if it isn't.
    pub out_since: Option<Moment>,
    /// What keeps logins from it, if anything does.
    pub drained_by: Option<DrainedBy>,
    /// Its sessions, of all sites that have it.
    pub sessions: usize,
    /// How many there may be; none if there is no limit.
    pub max_sessions: Option<usize>,
    /// Its share of the logins.
    pub weight: u32,
    /// Whether it serves only where the others can't.
    pub backup: bool,
    /// The last check of it; none if it isn't checked.
    pub check: Option<CheckView>,
    /// When its certificate expires, as last seen.
    pub certificate_expires: Option<Moment>,
    /// How many days are left until then; negative behind it.
    pub certificate_days_left: Option<i64>,
}

/// The result of a check.
#[derive(Debug, Clone, Serialize)]
pub struct CheckView {
    /// When it ended.
    pub at: Moment,
    /// How long it took.
    pub seconds: f64,
    /// The stage at which it failed; none if it passed.
    pub failed_at: Option<&'static str>,
}

/// Every configured site, by name.
pub fn sites(pools: &Pools, metrics: &Metrics, max_sessions: usize) -> Vec<SiteView> {
    let backends = pools.summaries();
    let mut counts: HashMap<&str, (usize, usize)> = HashMap::new();
    for backend in &backends {
        let (all, up) = counts.entry(&backend.site).or_default();
        *all += 1;
        *up += usize::from(backend.status == BackendStatus::Up);
    }
    let sites = pools.site_summaries().into_iter();
    let sites = sites.map(|summary| {
        let site = summary.site;
        let (backends, backends_up) = counts.get(&*site.name).copied().unwrap_or_default();
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
            backends,
            backends_up,
        }
    });
    sites.collect()
}

/// Every backend of every site.
pub fn backends(pools: &Pools) -> Vec<BackendView> {
    pools
        .summaries()
        .into_iter()
        .map(BackendView::from)
        .collect()
}

impl From<BackendSummary> for BackendView {
    fn from(summary: BackendSummary) -> Self {
        Self {
            site: summary.site,
            group: summary.group,
            backend: summary.label,
            address: summary.address,
            state: summary.status.as_str(),
            out_since: summary.out_for.map(Moment::ago),
            drained_by: summary.drained_by,
            sessions: summary.sessions,
            max_sessions: summary.max_sessions,
            weight: summary.weight,
            backup: summary.backup,
            check: summary.last_check.map(CheckView::from),
            certificate_expires: summary.certificate_expires.map(Moment::new),
            certificate_days_left: summary.certificate_expires.map(days_until),
        }
    }
}

impl From<LastCheck> for CheckView {
    fn from(check: LastCheck) -> Self {
        Self {
            at: Moment::ago(check.at.elapsed()),
            seconds: check.took.as_secs_f64(),
            failed_at: check.failed_at.map(CheckStage::as_str),
        }
    }
}
