//! The backends of all sites, as `portcullis backends` shows them.

use jiff::Timestamp;
use serde::Deserialize;

use super::amount::{count, since};
use super::answer::{ApiAnswer, List, Rounds};
use super::error::Unreadable;
use super::report::{Frame, Report};
use super::socket::Request;
use super::table::{Column, Table};

/// The backends.
#[derive(Debug)]
pub struct Backends {
    /// The site whose backends are shown; `None` for all.
    pub site: Option<String>,
}

/// The members of a backend that are shown.
#[derive(Debug, Deserialize)]
pub(super) struct Backend {
    site: String,
    group: Option<String>,
    backend: String,
    address: String,
    pub state: String,
    out_since: Option<String>,
    drained_by: Option<String>,
    sessions: usize,
    all_sessions: usize,
    max_sessions: Option<usize>,
    backup: bool,
    check: Option<Check>,
    pub certificate_days_left: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Check {
    at: String,
    failed_at: Option<String>,
    login_refused: bool,
}

impl Backend {
    /// Whether the backend is neither out nor drained.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.state.as_str(), "up" | "full")
    }

    /// The request for all, or one site's.
    pub(super) fn request(site: Option<&str>) -> Request {
        Request::list("/api/v1/backends").with("site", site)
    }

    /// Why the backend is in its state, as far as that is known.
    pub(super) fn reason(&self, now: Timestamp) -> Vec<String> {
        let out_since = self.out_since.as_deref();
        let out = out_since.and_then(|moment| since(moment, now));
        let check = self.check.as_ref();
        let failed_at = check.and_then(|it| it.failed_at.as_deref());
        let is_refused = check.is_some_and(|it| it.login_refused);
        [
            self.drained_by.as_ref().map(|by| format!("by {by}")),
            out.map(|span| format!("for {span}")),
            failed_at.map(|stage| format!("fails at {stage}")),
            is_refused.then(|| "password of its checks refused".to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn checked(&self, now: Timestamp) -> Option<String> {
        let ago = since(&self.check.as_ref()?.at, now)?;
        Some(format!("{ago} ago"))
    }

    fn sessions(&self) -> String {
        match self.max_sessions {
            Some(max) if self.all_sessions == self.sessions => format!("{}/{max}", self.sessions),
            _ => self.sessions.to_string(),
        }
    }

    /// How far the backend's limit is used up, where other sites have a part in that.
    fn use_by_all_sites(&self) -> Option<String> {
        let max = self.max_sessions?;
        let all = self.all_sessions;
        (all != self.sessions).then(|| format!("all sites {all}/{max}"))
    }
}

impl Report<1> for Backends {
    fn requests(&self) -> [Request; 1] {
        [Backend::request(self.site.as_deref())]
    }

    fn text(&mut self, [answer]: &[ApiAnswer; 1], frame: &Frame) -> Result<String, Unreadable> {
        Ok(table(&answer.list("backends")?, frame))
    }

    fn json(&self, [answer]: &[ApiAnswer; 1], rounds: Rounds) -> Result<String, Unreadable> {
        answer.json_lines("backends", rounds)
    }
}

fn table(backends: &List<Backend>, frame: &Frame) -> String {
    if backends.entries.is_empty() {
        return "no backends\n".to_owned();
    }
    let mut table = Table::new([
        Column::words("SITE"),
        Column::words("GROUP"),
        Column::words("BACKEND"),
        Column::words("ADDRESS"),
        Column::word("STATE"),
        Column::number("SESSIONS"),
        Column::word("CHECKED"),
        Column::number("CERT"),
        Column::words("NOTES"),
    ]);
    for backend in &backends.entries {
        let is_named = backend.address != backend.backend;
        let mut notes = backend.reason(frame.now);
        notes.extend(backend.use_by_all_sites());
        notes.extend(backend.backup.then(|| "backup".to_owned()));
        let days_left = backend.certificate_days_left;
        table.push([
            backend.site.clone(),
            backend.group.clone().unwrap_or_default(),
            backend.backend.clone(),
            Some(&backend.address)
                .filter(|_| is_named)
                .cloned()
                .unwrap_or_default(),
            backend.state.clone(),
            backend.sessions(),
            backend.checked(frame.now).unwrap_or_default(),
            days_left.map(|days| count(days, "day")).unwrap_or_default(),
            notes.join(", "),
        ]);
    }
    table.render(frame.width) + &backends.rest()
}
