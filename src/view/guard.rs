//! Clients with failed logins.

use std::time::Instant;

use serde::Serialize;

use super::Listed;
use crate::backend::Pools;
use crate::config::GuardRules;
use crate::guard::Guard;

/// The failed logins of one client at one site.
#[derive(Debug, Clone, Serialize)]
pub struct GuardView {
    /// The client's address; of IPv6, its network.
    pub client: String,
    /// The site; none for logins that led to none.
    pub site: Option<String>,
    /// How many failures count at the moment.
    pub failures: u32,
    /// For how long the client is blocked yet, in seconds; `None` if it isn't.
    pub blocked_seconds: Option<f64>,
}

/// Clients with failures that count, the blocked ones first.
pub fn guard(guard: &Guard, rules: &GuardRules, pools: &Pools, limit: usize) -> Listed<GuardView> {
    let mut records = guard.records(rules, Instant::now());
    records.sort_by_key(|record| std::cmp::Reverse((record.blocked_for, record.failures)));
    let mut listed = Listed::at_most(limit);
    for record in records {
        listed.add(|| GuardView {
            client: record.client.to_string(),
            site: record.site.map(|site| pools.site_name(site).to_owned()),
            failures: record.failures,
            blocked_seconds: (!record.blocked_for.is_zero())
                .then_some(record.blocked_for.as_secs_f64()),
        });
    }
    listed
}
