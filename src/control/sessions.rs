//! The live sessions, as `portcullis sessions` shows them.

use std::net::SocketAddr;

use serde::Deserialize;

use super::amount::span;
use super::answer::{ApiAnswer, List, Rounds};
use super::error::Unreadable;
use super::report::{Frame, Report};
use super::socket::Request;
use super::table::{Column, Table};

/// A filter for the sessions or transfers that are shown.
#[derive(Debug, Default)]
pub struct Filter {
    /// The site of the sessions.
    pub site: Option<String>,
    /// The client's address or network.
    pub client: Option<String>,
    /// The user of the sessions.
    pub user: Option<String>,
    /// The backend of the sessions.
    pub backend: Option<String>,
}

impl Filter {
    /// A request for what passes it.
    pub(super) fn request(&self, path: &'static str) -> Request {
        Request::list(path)
            .with("site", self.site.as_deref())
            .with("client", self.client.as_deref())
            .with("user", self.user.as_deref())
            .with("backend", self.backend.as_deref())
    }
}

/// The live sessions.
#[derive(Debug)]
pub struct Sessions {
    /// The filter for the sessions that are shown.
    pub filter: Filter,
}

/// The members of a session that are shown.
#[derive(Debug, Deserialize)]
struct Session {
    id: u64,
    client: SocketAddr,
    site: Option<String>,
    group: Option<String>,
    user: Option<String>,
    backend: Option<SocketAddr>,
    state: String,
    seconds: f64,
}

impl Report<1> for Sessions {
    fn requests(&self) -> [Request; 1] {
        [self.filter.request("/api/v1/sessions")]
    }

    fn text(&mut self, [answer]: &[ApiAnswer; 1], frame: &Frame) -> Result<String, Unreadable> {
        Ok(table(&answer.list("sessions")?, frame))
    }

    fn json(&self, [answer]: &[ApiAnswer; 1], rounds: Rounds) -> Result<String, Unreadable> {
        answer.json_lines("sessions", rounds)
    }
}

fn table(sessions: &List<Session>, frame: &Frame) -> String {
    if sessions.entries.is_empty() {
        return "no sessions\n".to_owned();
    }
    let mut table = Table::new([
        Column::number("ID"),
        Column::words("CLIENT"),
        Column::words("SITE"),
        Column::words("GROUP"),
        Column::words("USER"),
        Column::words("BACKEND"),
        Column::word("STATE"),
        Column::number("FOR"),
    ]);
    for session in &sessions.entries {
        table.push([
            session.id.to_string(),
            // Its port tells people nothing that the id doesn't.
            session.client.ip().to_string(),
            session.site.clone().unwrap_or_default(),
            session.group.clone().unwrap_or_default(),
            session.user.clone().unwrap_or_default(),
            session.backend.map(|it| it.to_string()).unwrap_or_default(),
            session.state.clone(),
            span(session.seconds),
        ]);
    }
    table.render(frame.width) + &sessions.rest()
}
