//! Clients with failed logins, as `portcullis guard` shows them.

use serde::Deserialize;

use super::amount::span;
use super::answer::{ApiAnswer, List, Rounds};
use super::error::Unreadable;
use super::report::{Frame, Report};
use super::socket::Request;
use super::table::{Column, Table};

/// The clients whose failed logins count.
#[derive(Debug)]
pub struct Guard;

/// The members of a client that are shown.
#[derive(Debug, Deserialize)]
struct Guarded {
    client: String,
    site: Option<String>,
    failures: u32,
    blocked_seconds: Option<f64>,
}

impl Report<1> for Guard {
    fn requests(&self) -> [Request; 1] {
        [Request::list("/api/v1/guard")]
    }

    fn text(&mut self, [answer]: &[ApiAnswer; 1], frame: &Frame) -> Result<String, Unreadable> {
        Ok(table(&answer.list("guard")?, frame))
    }

    fn json(&self, [answer]: &[ApiAnswer; 1], rounds: Rounds) -> Result<String, Unreadable> {
        answer.json_lines("guard", rounds)
    }
}

fn table(clients: &List<Guarded>, frame: &Frame) -> String {
    if clients.entries.is_empty() {
        return "no failed logins\n".to_owned();
    }
    let mut table = Table::new([
        Column::words("CLIENT"),
        Column::words("SITE"),
        Column::number("FAILURES"),
        Column::number("BLOCKED FOR"),
    ]);
    for client in &clients.entries {
        table.push([
            client.client.clone(),
            client.site.clone().unwrap_or_default(),
            client.failures.to_string(),
            client.blocked_seconds.map(span).unwrap_or_default(),
        ]);
    }
    table.render(frame.width) + &clients.rest()
}
