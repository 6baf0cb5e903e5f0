//! One session, from accept to goodbye.
//!
//! [`serve`] is the way of every session: TLS first on an implicit listener, then the loop. `driver` waits for whatever happens
//! next (a line, a reply, a data event, a deadline, the end of the process), the state [`machine`] decides what it means, and
//! `driver` does what the machine decides. No decision is made here.
//!
//! `backend_side` leads to the [backend](crate::backend), `client_tls` to TLS with the client; `data_side` makes, opens and
//! drops the data connections that [`transfer`] holds; `login_guard` is for failed logins, `events_from_machine` for
//! what is kept of all that.
//!
//! A session's identity is in its [`info`], which the [`registry`] of live sessions shares; what it has to report goes to its
//! `events`, which makes log lines and metrics of it, and lines of transfer logs. `dialogue` is every line of both legs, for the
//! log.

mod backend_side;
mod client_handshake;
mod client_tls;
mod data_side;
mod dialogue;
mod driver;
mod events;
mod events_from_machine;
pub mod info;
mod interrupt;
mod login_guard;
pub mod machine;
pub mod registry;
mod shared;
pub mod transfer;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::backend::{Backend, BackendConnection, Selection, SiteSlot};
use crate::config::TlsMode;
use crate::ftp::shown::Repeats;
use crate::guard::AttemptFingerprint;
use crate::limit::{Permit, SessionBandwidth};
use crate::net::control::ControlConnection;
use crate::net::options;
use crate::net::stream::Stream;
use crate::snapshot::Snapshot;
use crate::tls::{BeforeHandshake, SessionTls};

use client_tls::{SecuredClient, handshake};
use data_side::DataSide;
pub use dialogue::ShownDialogue;
use driver::{ClientEnd, DeadlineCheck};
use events::{EventSink, SessionEvent, Transfers};
use info::SessionInfo;
use interrupt::{Patience, cut};
use login_guard::RunningAttempt;
use machine::{Clock, Ending, Event, Machine, Protection, SessionConfig, SharedConfig};
use registry::Registration;
pub use shared::Shared;
use transfer::Lingering;

/// A connection that was accepted and admitted.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// The client's address, also behind a load balancer.
    pub client: SocketAddr,
    /// The address that the client connected to.
    pub destination: SocketAddr,
    /// The configured address of the listener, on which the passive ports listen, too.
    pub listener: SocketAddr,
    /// When TLS starts.
    pub tls: TlsMode,
    /// The connection's slot among the sessions.
    pub permit: Permit,
}

/// The progress of the process' end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// The process is not ending.
    No,
    /// The process is ending; transfers may finish.
    Begun,
    /// The process is ending, and the time for transfers is over.
    Over,
}

/// Serves a session to its end.
pub async fn serve(
    accepted: Accepted,
    snapshot: Arc<Snapshot>,
    shared: Arc<Shared>,
    drain: watch::Receiver<Drain>,
) {
    let mut registration = shared.sessions.register(accepted.client, accepted.listener);
    let info = Arc::clone(&registration.info);
    let events = EventSink::new(Arc::clone(&info), accepted.destination, &shared);
    let ended_early = |ending| {
        events.write(&SessionEvent::Ended {
            ending,
            transfers: &Transfers::default(),
            resumption: None,
        });
    };
    let _counted = shared.metrics.session(accepted.tls);
    if options::control(&accepted.stream).is_err() {
        return ended_early(Ending::ClientGone);
    }
    let runtime = &snapshot.runtime;
    // Which site it will be for isn't known yet.
    let reused = runtime.settings.any_site_reuses_sessions();
    let tls_sessions = reused.then_some(&shared.tls_sessions);
    let tls = SessionTls::new(&snapshot.tls, tls_sessions, info.id);
    let addresses = [accepted.client.ip(), accepted.destination.ip()];
    let config = session_config(&snapshot, addresses);
    let login_expires_at = Instant::now() + runtime.settings.timeouts.login;

    let (stream, machine) = match accepted.tls {
        TlsMode::Explicit => (Stream::Plain(accepted.stream), Machine::explicit(config)),
        TlsMode::Implicit if snapshot.certificates.is_empty() => {
            return ended_early(Ending::NoCertificate);
        }
        TlsMode::Implicit => {
            if tls.chooses_certificate() {
                tls.before_handshake(BeforeHandshake {
                    site_host: None,
                    proxy_host: None,
                    now: SystemTime::now(),
                });
            }
            let time_limit = runtime.settings.timeouts.tls_handshake;
            let clients = &snapshot.clients;
            let handshake = handshake(accepted.stream, &tls, clients, time_limit, &info, &events);
            let secured = tokio::select! {
                secured = handshake => secured,
                cut = cut(&mut registration, &drain, Patience::ForClient) => return ended_early(cut.ending()),
            };
            match secured {
                Some(SecuredClient {
                    stream,
                    sni,
                    certificate,
                }) => (stream, Machine::implicit(config, sni, certificate)),
                None => return ended_early(Ending::Handshake),
            }
        }
    };
    let session = Session {
        client: Some(ControlConnection::with_client(stream)),
        client_end: ClientEnd::Open,
        permit: Some(accepted.permit),
        previous_dial: PreviousDial::None,
        site_slot: None,
        backend: None,
        selection: None,
        dialled: None,
        backend_listener: None,
        data: DataSide::None,
        prepared_for: Protection::Clear,
        lingering: Lingering::new(drain.clone(), Arc::clone(&shared.deliveries)),
        bandwidth: None,
        machine,
        pending_events: VecDeque::new(),
        clock: None,
        deadline_check: DeadlineCheck::First,
        moved: 0,
        deadline: Some(login_expires_at),
        login_expires_at,
        awaits_login_since: Some(info.since),
        login_began: Instant::now(),
        fingerprint: shared.guard.fingerprint(b""),
        attempt: None,
        tls,
        snapshot,
        shared,
        drain,
        transfers: Transfers::default(),
        repeats: Repeats::default(),
        events,
        destination: accepted.destination,
        info,
        registration,
    };
    session.run().await;
}

fn session_config(snapshot: &Snapshot, addresses: [IpAddr; 2]) -> SessionConfig {
    let runtime = &snapshot.runtime;
    let shared = SharedConfig {
        router: Arc::clone(&runtime.router),
        announcements: Arc::clone(&runtime.announcements),
        own_names: Arc::clone(&snapshot.own_names),
        credentials: runtime.credentials.clone(),
        has_certificate: !snapshot.certificates.is_empty(),
    };
    SessionConfig::new(&runtime.settings, shared, addresses)
}

/// A session's resources; its decisions are in `machine`.
struct Session {
    /// `None` only while its TLS handshake runs, and after that has failed.
    client: Option<ControlConnection>,
    client_end: ClientEnd,
    /// The slot among all sessions and the client's own, held until the goodbye.
    permit: Option<Permit>,
    previous_dial: PreviousDial,
    /// The slot among the site's sessions, held from the dialling of its backend until that connection is closed.
    site_slot: Option<SiteSlot>,
    backend: Option<BackendConnection>,
    /// The site's backends that may take the login over, until it stays with one.
    selection: Option<Selection>,
    /// The site's backend that was dialled last.
    dialled: Option<Arc<Backend>>,
    /// Our listener for the backend's data connection, kept until the next one is prepared.
    backend_listener: Option<TcpListener>,
    data: DataSide,
    /// The PROT level when the client's data port was asked for.
    prepared_for: Protection,
    /// Data connections of transfers that are over.
    lingering: Lingering,
    /// The bandwidth that the session's transfers share, from the first one on that is limited.
    bandwidth: Option<Arc<SessionBandwidth>>,
    machine: Machine,
    /// Events that result from actions and wait for the machine.
    pending_events: VecDeque<Event>,
    /// The clock of the deadline; `None` once that is over.
    clock: Option<Clock>,
    /// `None` if it is unlimited.
    deadline: Option<Instant>,
    deadline_check: DeadlineCheck,
    /// How many bytes an upload had moved when its client disconnected.
    moved: u64,
    login_expires_at: Instant,
    /// Since it was accepted, until its first login has succeeded.
    awaits_login_since: Option<Instant>,
    /// When the last USER came.
    login_began: Instant,
    /// The fingerprint of the login attempt that is under way.
    fingerprint: AttemptFingerprint,
    /// The attempt from PASS to the backend's answer.
    attempt: Option<RunningAttempt>,
    tls: SessionTls,
    snapshot: Arc<Snapshot>,
    shared: Arc<Shared>,
    drain: watch::Receiver<Drain>,
    transfers: Transfers,
    /// What the replies to the last command may repeat of it.
    repeats: Repeats,
    events: EventSink,
    /// The address that the client connected to.
    destination: SocketAddr,
    info: Arc<SessionInfo>,
    registration: Registration,
}

/// Whether the session has dialled a backend before.
#[derive(Debug)]
enum PreviousDial {
    /// The first dial is paid for with the session.
    None,
    /// A former backend connection may still be closing, with its slot at the site.
    Closing(JoinHandle<()>),
    /// The former backend connection is closed, or there was none.
    Closed,
}
