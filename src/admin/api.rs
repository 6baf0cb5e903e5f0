//! Reading: `/api/v1/…`, as JSON.

use std::net::{IpAddr, SocketAddr};

use hyper::StatusCode;
use ipnet::IpNet;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value, json};

use super::query::Query;
use super::{Admin, HttpAnswer};
use crate::backend::Pools;
use crate::view::{self, Disclosure, Listed, ProcessView, SessionFilter};

/// In every answer: what it means never changes under the same number.
const VERSION: u32 = 1;

/// The parameters that choose sessions.
const SESSION_FILTER: [&str; 5] = ["limit", "site", "client", "user", "backend"];

/// The answer to a path under `/api/v1/`.
pub(super) fn read(
    admin: &Admin,
    path: &str,
    query: Option<&str>,
    disclosure: Disclosure,
) -> HttpAnswer {
    match answer(admin, path, query, disclosure) {
        Ok(Some(body)) => HttpAnswer::json(StatusCode::OK, body),
        Ok(None) => error(
            StatusCode::NOT_FOUND,
            "there are /api/v1/sessions, transfers, sites, backends, certificates, guard, config and attention",
        ),
        Err(what) => error(StatusCode::BAD_REQUEST, &what),
    }
}

fn answer(
    admin: &Admin,
    path: &str,
    query: Option<&str>,
    disclosure: Disclosure,
) -> Result<Option<String>, String> {
    let snapshot = admin.snapshot.load();
    let (runtime, sessions) = (&snapshot.runtime, &admin.shared.sessions);
    let known: &[&str] = match path {
        "sessions" | "transfers" => &SESSION_FILTER,
        "backends" => &["limit", "site"],
        "sites" | "certificates" | "guard" | "attention" => &["limit"],
        "config" => &[],
        _ => return Ok(None),
    };
    let query = Query::parse(query, known)?;
    let limit = query.limit()?;
    Ok(Some(match path {
        "sessions" => {
            let filter = filter(&query, disclosure, &runtime.pools)?;
            let listed = view::sessions(sessions, &filter, disclosure, limit);
            if listed.total == 0 {
                known_in(&query, &runtime.pools)?;
            }
            list(path, listed.total, &listed.items)
        }
        "transfers" => {
            let filter = filter(&query, disclosure, &runtime.pools)?;
            let listed = view::transfers(sessions, &filter, disclosure, limit);
            if listed.total == 0 {
                known_in(&query, &runtime.pools)?;
            }
            list(path, listed.total, &listed.items)
        }
        "sites" => cut(path, admin.sites(&snapshot), limit),
        "backends" => {
            let mut backends = view::backends(&runtime.pools, disclosure);
            known_in(&query, &runtime.pools)?;
            if let Some(site) = query.get("site") {
                backends.retain(|backend| backend.site == site);
            }
            cut(path, backends, limit)
        }
        "certificates" => {
            let all = view::certificates(&snapshot.certificates, disclosure);
            cut(path, all, limit)
        }
        "guard" => {
            let (guard, rules) = (&admin.shared.guard, &runtime.settings.guard);
            let Listed { items, total, .. } = view::guard(guard, rules, &runtime.pools, limit);
            list(path, total, &items)
        }
        "config" => object("config", &admin.overview(disclosure)),
        "attention" => {
            let needs = |process: ProcessView<'_>| view::attention(&process);
            cut(path, admin.of_process(&snapshot, disclosure, needs), limit)
        }
        _ => return Ok(None),
    }))
}

/// Whether the configuration has the site and the backend that the parameters name; addresses may be of backends that it no longer
/// has. An empty list for a name that is misspelt would look as if all was done.
fn known_in(query: &Query, pools: &Pools) -> Result<(), String> {
    if let Some(site) = query.get("site")
        && pools.sites().all(|(_, known)| known.name != site)
    {
        return Err(format!("there is no site {site:?}"));
    }
    let is_address =
        |text: &str| text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok();
    if let Some(backend) = query.get("backend")
        && !is_address(backend)
        && !pools.has_backend(backend)
    {
        return Err(format!("there is no backend {backend:?}"));
    }
    Ok(())
}

/// The sessions that the parameters choose. Where the names of users aren't shown, they can't be asked for either.
pub(super) fn filter(
    query: &Query,
    disclosure: Disclosure,
    pools: &Pools,
) -> Result<SessionFilter, String> {
    let owned = |name| query.get(name).map(str::to_owned);
    if disclosure == Disclosure::Summary && query.get("user").is_some() {
        return Err("users are not shown here: admin.status is `summary`".to_owned());
    }
    let client = query.get("client").map(|text| {
        let network = text
            .parse()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_: std::net::AddrParseError| {
            format!("client={text:?} isn't an address or a network")
        })
    });
    Ok(SessionFilter {
        site: owned("site"),
        client: client.transpose()?,
        user: owned("user"),
        backend: query.get("backend").map(|name| {
            let named = pools.address_of(name);
            named.unwrap_or_else(|| name.to_owned())
        }),
    })
}

fn cut<T: Serialize>(name: &str, mut items: Vec<T>, limit: usize) -> String {
    let total = items.len();
    items.truncate(limit);
    list(name, total, &items)
}

fn list<T: Serialize>(name: &str, total: usize, items: &[T]) -> String {
    written(name, items, Some(total))
}

fn object<T: Serialize>(name: &str, value: &T) -> String {
    written(name, value, None)
}

/// Written as it is, without a tree of values in between: there may be ten thousand sessions.
fn written<T: Serialize + ?Sized>(name: &str, value: &T, total: Option<usize>) -> String {
    let mut json = Vec::new();
    let mut writer = serde_json::Serializer::new(&mut json);
    let written = writer.serialize_map(None).and_then(|mut object| {
        object.serialize_entry("version", &VERSION)?;
        if let Some(total) = total {
            object.serialize_entry("total", &total)?;
        }
        object.serialize_entry(name, value)?;
        object.end()
    });
    written.expect("invariant: views have text as keys, and memory takes everything");
    String::from_utf8(json).expect("invariant: JSON is UTF-8")
}

/// The answer to an action that has been taken.
pub(super) fn done(mut object: Map<String, Value>) -> HttpAnswer {
    object.insert("version".to_owned(), json!(VERSION));
    HttpAnswer::json(StatusCode::OK, Value::Object(object).to_string())
}

/// The answer to an action that has not been taken, with the reason.
pub(super) fn error(status: StatusCode, what: &str) -> HttpAnswer {
    let object = json!({"version": VERSION, "error": what});
    HttpAnswer::json(status, object.to_string())
}
