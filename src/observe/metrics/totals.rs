//! Totals of a site since the start, for the live view.

use super::Metrics;
use crate::outcome::{Direction, LoginResult, Verdict};

/// The totals of one site's clients since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SiteTotals {
    /// Logins that were accepted.
    pub logins: u64,
    /// Logins that were not, for whatever reason.
    pub failed_logins: u64,
    /// Transfers that were complete.
    pub complete_transfers: u64,
    /// Transfers that were not, aborted ones included.
    pub incomplete_transfers: u64,
}

impl Metrics {
    /// The number of transfers that run.
    pub fn running_transfers(&self) -> usize {
        usize::try_from(self.table.transfers_running.get()).unwrap_or(0)
    }

    /// The totals of a configured site.
    pub fn site_totals(&self, site: &str) -> SiteTotals {
        let site = self.site_label(site);
        let logins = |result: LoginResult| {
            let labels = [site, result.as_str()];
            self.table.logins.with_label_values(&labels).get()
        };
        let transfers = |verdict: Verdict| -> u64 {
            let of = |direction: &Direction| {
                let labels = [site, direction.as_str(), verdict.as_str()];
                self.table.transfers.with_label_values(&labels).get()
            };
            Direction::ALL.iter().map(of).sum()
        };
        let all_logins: u64 = LoginResult::ALL.iter().map(|it| logins(*it)).sum();
        let all_transfers: u64 = Verdict::ALL.iter().map(|it| transfers(*it)).sum();
        let (accepted, complete) = (logins(LoginResult::Accepted), transfers(Verdict::Complete));
        SiteTotals {
            logins: accepted,
            failed_logins: all_logins.saturating_sub(accepted),
            complete_transfers: complete,
            incomplete_transfers: all_transfers.saturating_sub(complete),
        }
    }
}
