//! Actions: what operators change of the running process, over the Unix socket alone. Each leaves a line in the log, with the
//! user who has done it.

use std::net::IpAddr;

use hyper::StatusCode;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::access::Operator;
use super::query::Query;
use super::{Admin, HttpAnswer, api};
use crate::base::SessionId;
use crate::base::text::escape;
use crate::command::Command;
use crate::view::Disclosure;

/// The action that others wait for in a task: it takes as long as files and name servers do.
pub(super) const RELOAD: &str = "reload";

/// Why an action was not taken.
#[derive(Debug)]
enum Refused {
    /// The request itself is wrong.
    Request(String),
    /// The request names something that doesn't exist.
    NotFound(String),
    /// The process can't take the action now, or what is asked for is refused.
    Conflict(String),
}

impl From<String> for Refused {
    fn from(what: String) -> Self {
        Self::Request(what)
    }
}

/// The result: a sentence for people, and numbers.
struct Done {
    text: String,
    more: Map<String, Value>,
}

impl From<String> for Done {
    fn from(text: String) -> Self {
        Self {
            text,
            more: Map::new(),
        }
    }
}

/// Makes the process read its configuration again.
pub(super) async fn act_on_process(
    admin: &Admin,
    operator: Operator,
    query: Option<&str>,
) -> HttpAnswer {
    let result = reload(admin, query).await;
    answer(operator, RELOAD, query, result)
}

/// Takes any other action of a path under `/api/v1/`. Some look at each session or record.
pub(super) fn act(
    admin: &Admin,
    operator: Operator,
    path: &str,
    query: Option<&str>,
) -> HttpAnswer {
    let result = match path {
        "sessions/end" => end(admin, query),
        "backends/drain" => drain(admin, query),
        "backends/ready" => ready(admin, query),
        "sites/maintenance" => maintenance(admin, query),
        "guard/forget" => forget(admin, query),
        "dialogue" => dialogue(admin, query),
        "log-level" => log_level(admin, query),
        _ => Err(Refused::NotFound(
            "there are sessions/end, backends/drain, backends/ready, sites/maintenance, guard/forget, dialogue, log-level and reload"
                .to_owned(),
        )),
    };
    answer(operator, path, query, result)
}

/// Logs the result of an action, and returns it.
fn answer(
    operator: Operator,
    path: &str,
    query: Option<&str>,
    result: Result<Done, Refused>,
) -> HttpAnswer {
    let (uid, pid) = (operator.uid, operator.pid);
    let parameters = query.map(|query| escape(query.as_bytes()));
    let (status, what) = match result {
        Ok(Done { text, mut more }) => {
            tracing::info!(
                uid,
                pid,
                action = path,
                parameters,
                result = text,
                "operator's action"
            );
            more.insert("done".to_owned(), json!(text));
            return api::done(more);
        }
        Err(Refused::Request(what)) => (StatusCode::BAD_REQUEST, what),
        Err(Refused::NotFound(what)) => (StatusCode::NOT_FOUND, what),
        Err(Refused::Conflict(what)) => (StatusCode::CONFLICT, what),
    };
    tracing::warn!(
        uid,
        pid,
        action = path,
        parameters,
        error = what,
        "operator's action refused"
    );
    api::error(status, &what)
}

/// Ends one session, or all of a user, a client or a backend.
fn end(admin: &Admin, query: Option<&str>) -> Result<Done, Refused> {
    let known = ["id", "site", "client", "user", "backend"];
    let query = Query::parse(query, &known)?;
    let registry = &admin.shared.sessions;
    if let Some(id) = query.parsed::<u64>("id", "the number of a session")? {
        if known[1..].iter().any(|name| query.get(name).is_some()) {
            return Err("an id names one session: leave the other parameters out"
                .to_owned()
                .into());
        }
        return match registry.end(SessionId(id)) {
            true => Ok(ended(1, format!("session {id} is ending"))),
            false => Err(Refused::NotFound(format!("there is no session {id}"))),
        };
    }
    // A whole site's is what maintenance is for, and no parameter at all would be every session.
    if ["client", "user", "backend"]
        .iter()
        .all(|name| query.get(name).is_none())
    {
        return Err("name an id, a user, a client or a backend"
            .to_owned()
            .into());
    }
    let snapshot = admin.snapshot.load();
    let filter = api::filter(&query, Disclosure::Full, &snapshot.runtime.pools)?;
    let sessions = registry.sessions();
    let found = sessions
        .iter()
        .filter(|info| filter.admits(info, &info.details()));
    match found.filter(|info| registry.end(info.id)).count() {
        0 => Err(Refused::NotFound("there is no such session".to_owned())),
        1 => Ok(ended(1, "1 session is ending".to_owned())),
        count => Ok(ended(count, format!("{count} sessions are ending"))),
    }
}

fn ended(count: usize, text: String) -> Done {
    Done {
        text,
        more: Map::from_iter([("ended".to_owned(), json!(count))]),
    }
}

fn drain(admin: &Admin, query: Option<&str>) -> Result<Done, Refused> {
    let query = Query::parse(query, &["site", "backend"])?;
    let (site, backend) = (query.required("site")?, query.required("backend")?);
    let pools = &admin.snapshot.load().runtime.pools;
    let report = pools
        .drain(site, backend, &admin.shared.metrics)
        .map_err(|error| Refused::NotFound(error.to_string()))?;
    let sessions = match report.sessions {
        0 => "the site has no sessions there".to_owned(),
        1 => "the site's 1 session there goes on".to_owned(),
        count => format!("the site's {count} sessions there go on"),
    };
    let others = match report.others {
        true => "",
        false => "; no other backend of the site takes logins, so that they get 421 now",
    };
    Ok(Done {
        text: format!(
            "backend {backend} of site {site} takes no new logins, and {sessions}{others}"
        ),
        more: Map::from_iter([("sessions".to_owned(), json!(report.sessions))]),
    })
}

fn ready(admin: &Admin, query: Option<&str>) -> Result<Done, Refused> {
    let query = Query::parse(query, &["site", "backend"])?;
    let (site, backend) = (query.required("site")?, query.required("backend")?);
    let pools = &admin.snapshot.load().runtime.pools;
    pools
        .undrain(site, backend, &admin.shared.metrics)
        .map_err(|error| Refused::NotFound(error.to_string()))?;
    Ok(format!("backend {backend} of site {site} takes logins").into())
}

fn maintenance(admin: &Admin, query: Option<&str>) -> Result<Done, Refused> {
    let query = Query::parse(query, &["site", "state"])?;
    let (site, state) = (query.required("site")?, query.required("state")?);
    let on = match state {
        "on" => true,
        "off" => false,
        _ => return Err(format!("state={state:?} is neither on nor off").into()),
    };
    let snapshot = admin.snapshot.load();
    let pools = &snapshot.runtime.pools;
    let configured = snapshot.runtime.settings.sites.iter();
    let is_configured = configured
        .filter(|one| one.name == site)
        .any(|one| one.policy.maintenance.is_some());
    if !on && is_configured {
        return Err(Refused::Conflict(format!(
            "site {site} is out of service by the configuration (`maintenance`): take that out and reload"
        )));
    }
    let changed = pools
        .set_maintenance(site, on)
        .map_err(|error| Refused::NotFound(error.to_string()))?;
    let already = if changed { "" } else { " already" };
    Ok(match on {
        true => {
            format!("site {site} is{already} out of service: logins get 421, and sessions go on")
        }
        false => format!("site {site} is{already} in service"),
    }
    .into())
}

fn forget(admin: &Admin, query: Option<&str>) -> Result<Done, Refused> {
    let query = Query::parse(query, &["client", "site"])?;
    let client = query.required("client")?;
    // IPv6 clients are counted by their network, and shown so.
    let address = client.strip_suffix("/64").unwrap_or(client);
    let client: IpAddr = address
        .parse()
        .map_err(|_| format!("client={client:?} isn't an IP address"))?;
    let pools = &admin.snapshot.load().runtime.pools;
    let site = query.get("site").map(|name| pools.site_id(name));
    let site = site
        .transpose()
        .map_err(|error| Refused::NotFound(error.to_string()))?;
    match admin.shared.guard.forget(client.to_canonical(), site) {
        0 => Err(Refused::NotFound(format!(
            "{client} has no failed logins that count"
        ))),
        _ => Ok(format!("the failed logins of {client} are forgotten").into()),
    }
}

/// Shows the dialogue of one network's clients in the log, or no longer.
fn dialogue(admin: &Admin, query: Option<&str>) -> Result<Done, Refused> {
    let query = Query::parse(query, &["client"])?;
    if query.required("client")? == "off" {
        admin.shared.dialogue.show(None);
        return Ok("no client's dialogue is logged".to_owned().into());
    }
    let snapshot = admin.snapshot.load();
    let filter = api::filter(&query, Disclosure::Full, &snapshot.runtime.pools)?;
    let network = filter.client;
    admin.shared.dialogue.show(network);
    let shown = network.map(|it| it.to_string()).unwrap_or_default();
    Ok(format!("the dialogue of clients from {shown} is logged, without passwords").into())
}

/// Changes what is logged until the process ends.
fn log_level(admin: &Admin, query: Option<&str>) -> Result<Done, Refused> {
    let query = Query::parse(query, &["level"])?;
    let level = query.required("level")?;
    let set = admin.log.set(level);
    set.map_err(|error| Refused::Request(error.to_string()))?;
    Ok(format!("what is logged is {level} now").into())
}

async fn reload(admin: &Admin, query: Option<&str>) -> Result<Done, Refused> {
    Query::parse(query, &[])?;
    let ending = || Refused::Conflict("the process is shutting down".to_owned());
    let (answer, result) = oneshot::channel();
    let sent = admin.commands.send(Command::Reload(answer)).await;
    sent.map_err(|_| ending())?;
    match result.await {
        Ok(Ok(())) => Ok("the configuration is in force for new sessions"
            .to_owned()
            .into()),
        Ok(Err(refusal)) => Err(Refused::Conflict(refusal)),
        Err(_) => Err(ending()),
    }
}
