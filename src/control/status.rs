//! The process on one screen, as `portcullis status` shows it: first what needs attention.

use serde::Deserialize;

use super::amount::{count, since, span};
use super::answer::{Answer, List, Rounds};
use super::backends::Backend;
use super::error::Unreadable;
use super::report::{Frame, Report};
use super::socket::Request;
use crate::base::text::Masked;
use crate::base::wrap::push_wrapped;
use crate::tls::renewal_is_due;

/// Where the values begin, behind their names.
const VALUE: usize = 14;
/// As much of what needs attention as leaves room for the rest on one screen.
const MAX_NEEDS: usize = 12;
/// As many past refusals as are shown.
const MAX_REFUSALS: usize = 3;

/// The process as a whole.
#[derive(Debug)]
pub struct Status;

#[derive(Debug, Deserialize)]
struct Overview {
    version: String,
    config: String,
    uptime_seconds: f64,
    readiness: String,
    sessions: usize,
    max_sessions: usize,
    transfers: usize,
    listeners: Vec<Listening>,
    passive_ports: usize,
    reloads: Vec<Reload>,
}

#[derive(Debug, Deserialize)]
struct Listening {
    address: String,
    tls: String,
}

#[derive(Debug, Deserialize)]
struct Reload {
    at: String,
    subject: String,
    refused: Option<String>,
    stands: bool,
}

#[derive(Debug, Deserialize)]
struct Certificate {
    file: String,
    subject: String,
    days_left: i64,
}

#[derive(Debug, Deserialize)]
struct Site {
    site: String,
    maintenance: Option<String>,
    sessions: usize,
    max_sessions: usize,
}

/// All that the process has said.
struct Facts {
    overview: Overview,
    certificates: List<Certificate>,
    sites: List<Site>,
    backends: List<Backend>,
}

impl Report<4> for Status {
    fn requests(&self) -> [Request; 4] {
        [
            Request::read("/api/v1/config"),
            Request::list("/api/v1/certificates"),
            Request::list("/api/v1/sites"),
            Backend::request(None),
        ]
    }

    fn text(
        &mut self,
        [config, certificates, sites, backends]: &[Answer; 4],
        frame: &Frame,
    ) -> Result<String, Unreadable> {
        let facts = Facts {
            overview: config.member("config")?,
            certificates: certificates.list("certificates")?,
            sites: sites.list("sites")?,
            backends: backends.list("backends")?,
        };
        Ok(screen(&facts, frame))
    }

    fn json(
        &self,
        [config, certificates, sites, backends]: &[Answer; 4],
        _: Rounds,
    ) -> Result<String, Unreadable> {
        Ok(format!(
            "{{\"version\":1,\"config\":{},\"certificates\":{},\"sites\":{},\"backends\":{}}}\n",
            config.json("config")?,
            certificates.json("certificates")?,
            sites.json("sites")?,
            backends.json("backends")?,
        ))
    }
}

fn screen(facts: &Facts, frame: &Frame) -> String {
    let overview = &facts.overview;
    let mut lines = Lines {
        text: String::new(),
        width: frame.width,
    };
    lines.push(
        &format!(
            "portcullis {}, {}, up for {}",
            overview.version,
            overview.readiness,
            span(overview.uptime_seconds)
        ),
        2,
    );
    let needs = needs(facts, frame);
    if !needs.is_empty() {
        lines.push("", 0);
        lines.push("needs attention:", 0);
        for need in needs.iter().take(MAX_NEEDS) {
            lines.push(&format!("  {}", need.trim_end().replace('\n', "\n    ")), 4);
        }
        if needs.len() > MAX_NEEDS {
            lines.push(&format!("  … and {} more", needs.len() - MAX_NEEDS), 4);
        }
    }
    lines.push("", 0);
    lines.facts(facts);
    lines.reloads(&overview.reloads, frame);
    lines.text
}

/// What an operator should look at, the process first.
fn needs(facts: &Facts, frame: &Frame) -> Vec<String> {
    let overview = &facts.overview;
    let mut needs = Vec::new();
    if overview.readiness != "ready" {
        needs.push(format!(
            "new clients: the process is {}",
            overview.readiness
        ));
    }
    for reload in overview.reloads.iter().filter(|reload| reload.stands) {
        if let Some(why) = &reload.refused {
            needs.push(format!(
                "{} refused{}, the one before stays in use: {why}",
                reload.subject,
                ago(&reload.at, frame)
            ));
        }
    }
    if overview.sessions >= overview.max_sessions {
        needs.push(format!(
            "all {} sessions are taken: further clients are refused",
            overview.max_sessions
        ));
    }
    for certificate in &facts.certificates.entries {
        if renewal_is_due(certificate.days_left) {
            needs.push(format!("certificate {}", validity(certificate)));
        }
    }
    for site in &facts.sites.entries {
        let name = &site.site;
        if let Some(by) = &site.maintenance {
            needs.push(format!("site {name}: out of service by {by}"));
        }
        if site.sessions >= site.max_sessions {
            let max = site.max_sessions;
            needs.push(format!("site {name}: all {max} sessions are taken"));
        }
    }
    for backend in &facts.backends.entries {
        let state = (!backend.is_up()).then(|| {
            let mut state = vec![backend.state.clone()];
            state.extend(backend.reason(frame.now));
            state.join(", ")
        });
        let certificate = backend
            .certificate_days_left
            .filter(|days| renewal_is_due(*days))
            .map(|days| format!("certificate: {}", left(days)));
        for what in [state, certificate].into_iter().flatten() {
            needs.push(format!("{}: {what}", backend.name()));
        }
    }
    needs
}

/// Text that is filled line by line.
struct Lines {
    text: String,
    width: usize,
}

impl Lines {
    /// Adds each line of a text, the parts that don't fit into the line indented by so much.
    fn push(&mut self, text: &str, indentation: usize) {
        if text.is_empty() {
            self.text.push('\n');
        }
        for line in text.lines() {
            let line = Masked(line).to_string();
            push_wrapped(&mut self.text, &line, indentation, self.width);
        }
    }

    fn fact(&mut self, name: &str, value: &str) {
        self.push(&format!("{name:VALUE$}{value}"), VALUE);
    }

    fn facts(&mut self, facts: &Facts) {
        let overview = &facts.overview;
        self.fact(
            "sessions",
            &format!("{} of {}", overview.sessions, overview.max_sessions),
        );
        self.fact("transfers", &overview.transfers.to_string());
        let backends = &facts.backends.entries;
        let up = backends.iter().filter(|backend| backend.is_up()).count();
        self.fact("sites", &facts.sites.total.to_string());
        self.fact("backends", &format!("{up} of {} up", backends.len()));
        let mut name = "certificates";
        for certificate in &facts.certificates.entries {
            self.fact(std::mem::take(&mut name), &validity(certificate));
        }
        let listeners: Vec<String> = overview
            .listeners
            .iter()
            .map(|it| format!("{} {}", it.address, it.tls))
            .collect();
        self.fact("listeners", &listeners.join(", "));
        self.fact("passive ports", &overview.passive_ports.to_string());
        self.fact("configuration", &overview.config);
    }

    /// The last one, and past refusals; the one that stands is above.
    fn reloads(&mut self, reloads: &[Reload], frame: &Frame) {
        if let Some(last) = reloads.first() {
            let outcome = match last.refused {
                None => "in force",
                Some(_) => "refused",
            };
            let ago = ago(&last.at, frame);
            self.fact("last reload", &format!("{}, {outcome}{ago}", last.subject));
        }
        let past = reloads.iter().filter(|reload| !reload.stands);
        let refused = past.filter_map(|reload| Some((reload, reload.refused.as_ref()?)));
        for (reload, why) in refused.take(MAX_REFUSALS) {
            let (ago, first) = (
                ago(&reload.at, frame),
                why.lines().next().unwrap_or_default(),
            );
            self.fact("refused", &format!("{}{ago}: {first}", reload.subject));
        }
    }
}

fn validity(certificate: &Certificate) -> String {
    let Certificate { file, subject, .. } = certificate;
    format!("{file} ({subject}): {}", left(certificate.days_left))
}

fn left(days: i64) -> String {
    match days {
        0.. => format!("{} left", count(days, "day")),
        _ => "expired".to_owned(),
    }
}

/// Behind what happened then.
fn ago(moment: &str, frame: &Frame) -> String {
    since(moment, frame.now).map_or_else(String::new, |span| format!(" {span} ago"))
}
