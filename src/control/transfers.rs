//! The running transfers, as `portcullis transfers` shows them.

use std::collections::HashMap;
use std::net::SocketAddr;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::amount;
use super::answer::{ApiAnswer, List, Rounds};
use super::error::Unreadable;
use super::report::{Frame, Report};
use super::sessions::Filter;
use super::socket::Request;
use super::table::{Column, Table};

/// The running transfers.
#[derive(Debug)]
pub struct Transfers {
    filter: Filter,
    /// The transfers of the round before, by their sessions.
    before: HashMap<u64, Transfer>,
}

/// The members of a transfer that are shown.
#[derive(Debug, Deserialize)]
struct Transfer {
    session: u64,
    client: SocketAddr,
    site: Option<String>,
    user: Option<String>,
    command: String,
    path: Option<String>,
    bytes: u64,
    size: Option<u64>,
    since: String,
    seconds: f64,
    bytes_per_second: f64,
}

impl Transfer {
    /// Whether `later` is the same transfer a round later, and not the session's next.
    fn is_same(&self, later: &Self) -> bool {
        let began = |transfer: &Self| transfer.since.parse::<Timestamp>();
        let (Ok(began), Ok(later_began)) = (began(self), began(later)) else {
            return false;
        };
        // Whole seconds: what is rounded may be rounded up the next time.
        let apart = began.duration_since(later_began).abs();
        apart <= SignedDuration::from_secs(1) && self.path == later.path
    }
}

impl Transfers {
    /// A report of the transfers that pass the filter.
    pub fn new(filter: Filter) -> Self {
        Self {
            filter,
            before: HashMap::new(),
        }
    }

    /// The rate of a transfer: since the round before, if it was there; else on average since it began.
    fn rate(&self, transfer: &Transfer) -> f64 {
        let before = self.before.get(&transfer.session);
        let since_before = before
            .filter(|before| before.is_same(transfer))
            .and_then(|before| {
                let seconds = transfer.seconds - before.seconds;
                let bytes = transfer.bytes.checked_sub(before.bytes)?;
                (seconds > 0.0).then(|| bytes as f64 / seconds)
            });
        since_before.unwrap_or(transfer.bytes_per_second)
    }

    fn table(&self, transfers: &List<Transfer>, frame: &Frame) -> String {
        if transfers.entries.is_empty() {
            return "no transfers\n".to_owned();
        }
        let mut table = Table::new([
            Column::number("ID"),
            Column::words("CLIENT"),
            Column::words("SITE"),
            Column::words("USER"),
            Column::word("VERB"),
            Column::path("PATH"),
            Column::number("BYTES"),
            Column::number("DONE"),
            Column::number("RATE"),
            Column::number("LEFT"),
        ]);
        for transfer in &transfers.entries {
            let rate = self.rate(transfer);
            let left = amount::time_left(transfer.bytes, transfer.size, rate);
            table.push([
                transfer.session.to_string(),
                transfer.client.ip().to_string(),
                transfer.site.clone().unwrap_or_default(),
                transfer.user.clone().unwrap_or_default(),
                transfer.command.clone(),
                transfer.path.clone().unwrap_or_default(),
                amount::bytes(transfer.bytes),
                amount::share(transfer.bytes, transfer.size).unwrap_or_default(),
                amount::rate(rate),
                left.map(amount::span).unwrap_or_default(),
            ]);
        }
        table.render(frame.width) + &transfers.rest()
    }
}

impl Report<1> for Transfers {
    fn requests(&self) -> [Request; 1] {
        [self.filter.request("/api/v1/transfers")]
    }

    fn text(&mut self, [answer]: &[ApiAnswer; 1], frame: &Frame) -> Result<String, Unreadable> {
        let transfers = answer.list("transfers")?;
        let text = self.table(&transfers, frame);
        let entries = transfers.entries.into_iter();
        self.before = entries.map(|it| (it.session, it)).collect();
        Ok(text)
    }

    fn json(&self, [answer]: &[ApiAnswer; 1], rounds: Rounds) -> Result<String, Unreadable> {
        answer.json_lines("transfers", rounds)
    }
}
