//! `portcullis explain`: what would become of a login, by the configuration alone.
//!
//! The decisions are made by the code that makes them in sessions: the router, and the session's state machine, which is
//! led through HOST and USER. Nothing is dialled and no port is opened; name servers are asked for what a session would know
//! of them. The state of a running process (failed logins, sessions that are open, backends that are out) is not looked at.
//!
//! `decision` leads the machine and puts together what follows, and `text` writes it down.

mod decision;
mod text;

use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use crate::announce::Announcements;
use crate::app::names;
use crate::backend::{Pools, Registry};
use crate::base::text::escape;
use crate::config::{self, HostName, Settings, Source};
use crate::policy::UserFiles;
use crate::route::Router;
use crate::tls::CertificateSet;

use decision::Login;

/// The login to explain.
#[derive(Debug)]
pub struct Request<'a> {
    /// The configuration.
    pub config: &'a Source,
    /// The argument of USER.
    pub user: &'a str,
    /// The address of the listener; the first one if there is none.
    pub listener: Option<SocketAddr>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The server name of the TLS handshake.
    pub sni: Option<&'a str>,
    /// The argument of HOST.
    pub host: Option<&'a str>,
    /// The format of the result.
    pub format: Format,
}

/// The format of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text for people.
    Human,
    /// A single JSON object.
    Json,
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The login would reach a backend.
    Served,
    /// The login would be refused before.
    Refused,
    /// The configuration or the arguments can't be used.
    Unusable(String),
}

/// All that a login is decided by.
struct Tables {
    settings: Settings,
    certificates: Arc<CertificateSet>,
    /// The time by which certificates count as expired.
    now: SystemTime,
    pools: Pools,
    router: Arc<Router>,
    announcements: Arc<Announcements>,
}

/// Explains a login on `output`.
pub fn run(request: &Request<'_>, output: &mut impl Write) -> Outcome {
    match explain(request, output) {
        Ok(outcome) => outcome,
        Err(Unusable(why)) => Outcome::Unusable(why),
    }
}

/// Why nothing can be explained.
struct Unusable(String);

impl Unusable {
    fn because(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

fn explain(request: &Request<'_>, output: &mut impl Write) -> Result<Outcome, Unusable> {
    let tables = tables(request.config)?;
    let listener = listener(request, &tables.settings)?;
    let login = Login {
        user: request.user,
        listener,
        client: request.client.unwrap_or(Ipv4Addr::LOCALHOST.into()),
        sni: request.sni.map(server_name).transpose()?,
        host: request.host,
    };
    let explanation = login.explain(&tables).map_err(Unusable)?;
    let written = match request.format {
        Format::Human => text::write(&explanation, output),
        Format::Json => serde_json::to_writer(&mut *output, &explanation)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(output)),
    };
    written.map_err(Unusable::because)?;
    Ok(match explanation.is_served() {
        true => Outcome::Served,
        false => Outcome::Refused,
    })
}

fn tables(config: &Source) -> Result<Tables, Unusable> {
    let settings = config.load().map_err(Unusable::because)?;
    let now = SystemTime::now();
    let certificates = CertificateSet::load(&settings.tls, now).map_err(Unusable::because)?;
    let registry = Arc::<Registry>::default();
    let pools = Pools::load(&settings.sites, &registry).map_err(Unusable::because)?;
    let user_files = UserFiles::load(settings.users_files(), &UserFiles::default());
    let user_files = user_files.map_err(Unusable::because)?.apply();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Unusable(format!("the runtime can't be started: {error}")))?;
    let announcements = runtime.block_on(async {
        pools.discover(&settings.dns_servers, &registry).await;
        names::announcements(&settings.passive).await
    });
    // A name lookup that is still running has no task left waiting for its result.
    runtime.shutdown_background();
    Ok(Tables {
        router: Arc::new(Router::new(pools.sites(), settings.user_forms, &user_files)),
        announcements: Arc::new(announcements.map_err(Unusable::because)?),
        certificates: Arc::new(certificates),
        now,
        pools,
        settings,
    })
}

fn listener<'s>(
    request: &Request<'_>,
    settings: &'s Settings,
) -> Result<&'s config::Listener, Unusable> {
    let all = &settings.listeners;
    let found = match request.listener {
        None => all.first(),
        Some(address) => all.iter().find(|listener| listener.address == address),
    };
    found.ok_or_else(|| {
        let all: Vec<String> = all.iter().map(|it| it.address.to_string()).collect();
        Unusable(format!(
            "--listener: the configuration has no such listener; it has {}",
            all.join(", ")
        ))
    })
}

fn server_name(text: &str) -> Result<HostName, Unusable> {
    HostName::parse(text.as_bytes()).ok_or_else(|| {
        let text = escape(text.as_bytes());
        Unusable(format!("--sni: `{text}` isn't a host name"))
    })
}
