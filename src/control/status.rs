//! The process on one screen, as `portcullis status` shows it: first what needs attention.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::amount::{count, since, span};
use super::answer::{ApiAnswer, List, Rounds};
use super::backends::Backend;
use super::error::Unreadable;
use super::report::{Frame, Report};
use super::socket::Request;
use crate::base::text::Masked;
use crate::base::wrap::push_wrapped;
use crate::tls::DEFAULT_NAME;

/// The column in which the values begin, behind their names.
const VALUE: usize = 14;
/// Number of problems shown, which leaves room for the rest on one screen.
const MAX_NEEDS: usize = 6;
/// Number of certificates shown, and of names of each.
const MAX_CERTIFICATES: usize = 20;
const MAX_NAMES: usize = 3;
/// Number of past refusals shown.
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
    /// Not sent by processes of earlier versions, which have no orders.
    #[serde(default)]
    acme: Option<Orders>,
    #[serde(default)]
    revocation_lists: Vec<RevocationList>,
    #[serde(default)]
    #[serde(rename = "own_certificates")]
    backend_client_certificates: Vec<Certificate>,
}

#[derive(Debug, Deserialize)]
struct RevocationList {
    file: String,
    next_update: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Orders {
    activity: String,
    names: String,
    next_attempt: Option<String>,
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
    /// An older process doesn't name them.
    #[serde(default)]
    name: String,
    file: String,
    /// The subject; this and the members after it are missing where nothing is served.
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    days_left: Option<i64>,
}

/// A problem that needs attention.
#[derive(Debug, Deserialize)]
struct Need {
    severity: String,
    what: String,
    reason: Option<String>,
    remedy: String,
}

/// All answers of the process.
struct Facts {
    overview: Overview,
    needs: List<Need>,
    certificates: List<Certificate>,
    sites: List<IgnoredAny>,
    backends: List<Backend>,
}

impl Report<5> for Status {
    fn requests(&self) -> [Request; 5] {
        [
            Request::read("/api/v1/config"),
            Request::list("/api/v1/attention"),
            Request::list("/api/v1/certificates"),
            Request::list("/api/v1/sites"),
            Backend::request(None),
        ]
    }

    fn text(
        &mut self,
        [config, attention, certificates, sites, backends]: &[ApiAnswer; 5],
        frame: &Frame,
    ) -> Result<String, Unreadable> {
        let facts = Facts {
            overview: config.member("config")?,
            needs: attention.list("attention")?,
            certificates: certificates.list("certificates")?,
            sites: sites.list("sites")?,
            backends: backends.list("backends")?,
        };
        Ok(screen(&facts, frame))
    }

    fn json(
        &self,
        [config, attention, certificates, sites, backends]: &[ApiAnswer; 5],
        _: Rounds,
    ) -> Result<String, Unreadable> {
        Ok(format!(
            "{{\"version\":1,\"config\":{},\"attention\":{},\"certificates\":{},\"sites\":{},\"backends\":{}}}\n",
            config.json("config")?,
            attention.json("attention")?,
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
    let needs = &facts.needs;
    if needs.total > 0 {
        lines.push("", 0);
        lines.push("needs attention:", 0);
        for need in needs.entries.iter().take(MAX_NEEDS) {
            lines.need(need);
        }
        if needs.total > MAX_NEEDS {
            lines.push(&format!("  … and {} more", needs.total - MAX_NEEDS), 4);
        }
    }
    lines.push("", 0);
    lines.facts(facts);
    lines.reloads(&overview.reloads, frame);
    lines.text
}

/// Text that is filled line by line.
struct Lines {
    text: String,
    width: usize,
}

impl Lines {
    /// Adds each line of a text, the parts that don't fit into the line indented by this width.
    fn push(&mut self, text: &str, indentation: usize) {
        if text.is_empty() {
            self.text.push('\n');
        }
        for line in text.lines() {
            let line = Masked(line).to_string();
            push_wrapped(&mut self.text, &line, indentation, self.width);
        }
    }

    fn need(&mut self, need: &Need) {
        self.push(&format!("  {}: {}", need.severity, need.what), 4);
        for line in need.reason.iter().flat_map(|reason| reason.lines()) {
            self.push(&format!("      {line}"), 6);
        }
        self.push(&format!("    {}", need.remedy), 4);
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
        let certificates = &facts.certificates;
        for certificate in certificates.entries.iter().take(MAX_CERTIFICATES) {
            self.fact(std::mem::take(&mut name), &validity(certificate));
        }
        if certificates.total > MAX_CERTIFICATES {
            let more = certificates.total - MAX_CERTIFICATES;
            self.fact("", &format!("… and {more} more"));
        }
        let mut name = "to backends";
        for certificate in overview
            .backend_client_certificates
            .iter()
            .take(MAX_CERTIFICATES)
        {
            self.fact(std::mem::take(&mut name), &validity(certificate));
        }
        let mut name = "revocation";
        for list in overview.revocation_lists.iter().take(MAX_CERTIFICATES) {
            let next = list.next_update.as_deref().unwrap_or("not said");
            let text = format!("{}: next update {next}", list.file);
            self.fact(std::mem::take(&mut name), &text);
        }
        if let Some(orders) = &overview.acme {
            self.fact("next order", &next(orders));
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
    let Certificate {
        name, file, names, ..
    } = certificate;
    let called = match name.as_str() {
        DEFAULT_NAME => format!("{file} (default)"),
        _ => file.clone(),
    };
    let subject = certificate.subject.as_slice();
    let names = if names.is_empty() { subject } else { names };
    let mut about = vec![certificate.days_left.map_or("not served".to_owned(), left)];
    about.extend(certificate.key.clone());
    about.extend(names.iter().take(MAX_NAMES).cloned());
    if names.len() > MAX_NAMES {
        about.push(format!("{} more names", names.len() - MAX_NAMES));
    }
    format!("{called}: {}", about.join(", "))
}

fn next(orders: &Orders) -> String {
    let what = match orders.activity.as_str() {
        "ordering" => "under way".to_owned(),
        "ordering_elsewhere" => "under way in another instance".to_owned(),
        _ => orders
            .next_attempt
            .clone()
            .unwrap_or_else(|| "none".to_owned()),
    };
    format!("{what}, for {}", orders.names)
}

fn left(days: i64) -> String {
    match days {
        0.. => format!("{} left", count(days, "day")),
        _ => "expired".to_owned(),
    }
}

/// Text to follow an event: how long ago it was.
fn ago(moment: &str, frame: &Frame) -> String {
    since(moment, frame.now).map_or_else(String::new, |span| format!(" {span} ago"))
}
