//! One session, from accept to goodbye.
//!
//! [`serve`] is the way of every session: TLS first on an implicit listener, then the loop that waits for whatever
//! happens next (a line, a reply, a data event, a deadline, the end of the process) and hands it to the [`state`] machine
//! as an event. `actions` does what the machine says. No decision is made here.
//!
//! [`dial`] leads to the backend, [`data`] holds the data connections, `penalty` is for failed logins, `summary` is what
//! the log says in the end.

mod actions;
mod client_tls;
pub mod data;
pub mod dial;
mod penalty;
pub mod state;
mod summary;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep_until};

use crate::config::ListenerTls;
use crate::ftp::command::{Command, Verb};
use crate::ftp::line::Line;
use crate::guard::{Guard, Trial};
use crate::limit::{Limiter, Permit, SitePlace};
use crate::live::Live;
use crate::net::control::ControlConnection;
use crate::net::options;
use crate::net::resolve::Resolver;
use crate::net::stream::Stream;
use crate::observe::metrics::{Metrics, OpenSession};
use crate::tls::{SessionId, SessionTls, Sessions};

use client_tls::handshake;
use data::{Order, PreparedData, RunningData};
use dial::BackendConnection;
use state::{BadLine, Clock, Ending, Event, Machine, Prepared, Terms, Wait};
use summary::Summary;

/// What all sessions of the process share and no reload changes.
#[derive(Debug)]
pub struct Shared {
    /// Where everything is counted.
    pub metrics: Arc<Metrics>,
    /// Who may come in.
    pub limiter: Arc<Limiter>,
    /// Who has guessed too often.
    pub guard: Guard,
    /// The TLS sessions that data connections may resume.
    pub tls_sessions: Arc<Sessions>,
    /// Where the names of backends lead.
    pub resolver: Arc<Resolver>,
    ids: AtomicU64,
}

impl Shared {
    /// For a process without sessions yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            limiter: Arc::new(Limiter::new()),
            guard: Guard::new(),
            tls_sessions: Arc::new(Sessions::new()),
            resolver: Arc::default(),
            ids: AtomicU64::new(1),
        }
    }
}

/// A connection that was accepted and admitted.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// Who connected, be it to the load balancer that relays the connection.
    pub client: SocketAddr,
    /// The address that the client connected to.
    pub local: IpAddr,
    /// The configured address of the listener, on which the passive ports listen, too.
    pub listener: SocketAddr,
    /// When TLS starts.
    pub tls: ListenerTls,
    /// Its place among the sessions.
    pub permit: Permit,
}

/// How far the end of the process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// Not at all.
    No,
    /// Transfers may finish.
    Begun,
    /// Time is over.
    Over,
}

/// Serves a session to its end.
pub async fn serve(
    accepted: Accepted,
    live: Arc<Live>,
    shared: Arc<Shared>,
    drain: watch::Receiver<Drain>,
) {
    let id = shared.ids.fetch_add(1, Ordering::Relaxed);
    let mut summary = Summary::new(
        id,
        accepted.client,
        accepted.listener,
        Arc::clone(&shared.metrics),
    );
    let _counted = shared.metrics.session(accepted.tls);
    let _permit = accepted.permit;
    if options::control(&accepted.stream).is_err() {
        return summary.write(Ending::ClientGone);
    }
    let policy = &live.policy;
    let tls = SessionTls::new(
        &live.tls,
        &shared.tls_sessions,
        SessionId(id),
        policy.settings.any_site_reuses_sessions(),
    );
    let terms = Terms {
        router: Arc::clone(&policy.router),
        tls_required: policy.settings.tls.required,
        data_required: policy.settings.tls.data_required,
        active_mode: policy.settings.active_mode,
        client: accepted.client.ip().to_canonical(),
        local: accepted.local.to_canonical(),
        announcements: Arc::clone(&policy.announcements),
        own_names: Arc::clone(&live.own_names),
    };
    let login_by = Instant::now() + policy.settings.timeouts.login;

    let (stream, machine) = match accepted.tls {
        ListenerTls::Explicit => (Stream::Plain(accepted.stream), Machine::explicit(terms)),
        ListenerTls::Implicit => {
            let patience = policy.settings.timeouts.tls_handshake;
            match handshake(accepted.stream, &tls, patience, &mut summary).await {
                Some((stream, sni)) => (stream, Machine::implicit(terms, sni)),
                None => return summary.write(Ending::Handshake),
            }
        }
    };
    let session = Session {
        client: Some(ControlConnection::with_client(stream)),
        client_end: ClientEnd::Open,
        place: None,
        backend: None,
        data: DataSide::None,
        machine,
        happened: VecDeque::new(),
        clock: None,
        deadline: login_by,
        login_by,
        trial: shared.guard.trial(b""),
        listener: accepted.listener,
        tls,
        live,
        shared,
        drain,
        summary,
    };
    session.run().await;
}

/// What a session holds; what it decides is in `machine`.
struct Session {
    /// `None` only while its TLS handshake runs, and after that has failed.
    client: Option<ControlConnection>,
    client_end: ClientEnd,
    /// From the dialling of its site's backend until that is hung up on.
    place: Option<(SitePlace, OpenSession)>,
    backend: Option<BackendConnection>,
    data: DataSide,
    machine: Machine,
    /// Events that came out of actions and wait for the machine.
    happened: VecDeque<Event>,
    /// What the deadline is for; none if it's over.
    clock: Option<Clock>,
    deadline: Instant,
    login_by: Instant,
    /// What the login that is under way tries.
    trial: Trial,
    listener: SocketAddr,
    tls: SessionTls,
    live: Arc<Live>,
    shared: Arc<Shared>,
    drain: watch::Receiver<Drain>,
    summary: Summary,
}

/// Whether the machine knows that the client's connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientEnd {
    Open,
    Told,
}

#[derive(Debug)]
enum DataSide {
    None,
    /// The client's data port is being leased.
    Preparing(PreparedData),
    Prepared(PreparedData),
    Running(RunningData),
}

impl DataSide {
    /// The next event. May be cancelled.
    async fn event(&mut self) -> Event {
        match self {
            Self::Running(running) => Event::Data(running.event().await),
            Self::Preparing(data) => {
                let prepared = data.prepared().await;
                if let Self::Preparing(data) = std::mem::replace(self, Self::None) {
                    *self = Self::Prepared(data);
                }
                Event::Prepared(prepared)
            }
            Self::None | Self::Prepared(_) => std::future::pending().await,
        }
    }

    fn order(&self, order: Order) {
        if let Self::Running(running) = self {
            running.order(order);
        }
    }
}

impl Session {
    async fn run(mut self) {
        let ending = loop {
            if let Some(ending) = self.act().await {
                break ending;
            }
            self.arm();
            let Some(event) = self.next_event().await else {
                continue;
            };
            self.machine.handle(event);
            // A further USER for the same site dials nobody, but changes who is named in the log.
            if let Some(route) = self.machine.route() {
                self.summary.site(route);
            }
        };
        // The sockets of a transfer are reset before the control connections say goodbye.
        self.data = DataSide::None;
        self.summary.write(ending);
        let backend = self.backend.take();
        let client = self.client.take();
        tokio::join!(
            async {
                if let Some(backend) = backend {
                    backend.close().await;
                }
            },
            async {
                if let Some(client) = client {
                    client.close().await;
                }
            }
        );
    }

    /// Starts the time for what the machine waits for, unless it runs already.
    fn arm(&mut self) {
        let clock = self.machine.clock();
        if self.clock.replace(clock) == Some(clock) {
            return;
        }
        let timeouts = &self.live.policy.settings.timeouts;
        let patience = match clock.wait {
            Wait::Login => {
                self.deadline = self.login_by;
                return;
            }
            Wait::Command => timeouts.idle,
            Wait::Reply => timeouts.backend_reply,
            Wait::FinalReply => timeouts.final_reply,
            Wait::Grace => UPLOAD_GRACE,
            Wait::Abort => ABORT_PATIENCE,
            Wait::Data => NO_DEADLINE,
        };
        self.deadline = Instant::now() + patience;
    }

    /// Waits for the next event; `None` if nothing came of what was read.
    async fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.happened.pop_front() {
                return Some(event);
            }
            if let Some(event) = self.event_from_backend() {
                return Some(event);
            }
            if let Some(event) = self.event_from_client() {
                return Some(event);
            }
            let client_fills = async {
                match &mut self.client {
                    Some(client) => client.fill().await,
                    None => std::future::pending().await,
                }
            };
            let backend_fills = async {
                match &mut self.backend {
                    Some(backend) => backend.fill().await,
                    None => std::future::pending().await,
                }
            };
            // In this order, or a peer that never stops sending keeps the session from all that stands below it.
            tokio::select! {
                biased;
                () = sleep_until(self.deadline) => return Some(self.expired().await),
                Ok(()) = self.drain.changed() => match *self.drain.borrow_and_update() {
                    Drain::No => {}
                    Drain::Begun => return Some(Event::Drain),
                    Drain::Over => {
                        self.machine.drain_is_over();
                        return None;
                    }
                },
                // First what the backend said before its data connection ended: a 200 in front of a 150 is no final reply.
                () = backend_fills => {}
                event = self.data.event() => {
                    if let Event::Prepared(Prepared::NoPort) = event {
                        self.shared.metrics.passive_exhausted();
                        self.summary.no_port();
                    }
                    return Some(event);
                }
                () = client_fills => {}
            }
        }
    }

    /// The deadline is over.
    async fn expired(&mut self) -> Event {
        if self.machine.wait() == Wait::Grace
            && let Some(client) = &mut self.client
        {
            // What has come behind an upload's end counts, however late it is before somebody looks.
            client.fill_now().await;
            if let Some(event) = self.event_from_client() {
                return event;
            }
        }
        self.clock = None;
        Event::Expired
    }

    fn event_from_backend(&mut self) -> Option<Event> {
        match self.backend.as_mut()?.next_reply() {
            Ok(None) => None,
            Ok(Some(reply)) => Some(Event::Reply(reply)),
            Err(reason) => {
                self.summary.backend_lost(self.machine.stage(), reason);
                self.backend = None;
                Some(Event::BackendGone)
            }
        }
    }

    fn event_from_client(&mut self) -> Option<Event> {
        let client = self.client.as_mut()?;
        // Before lines are looked for: every ClientHello holds an LF, the number of the extension supported_groups.
        if !client.stream().is_tls() && client.peek().first() == Some(&TLS_HANDSHAKE_RECORD) {
            if self.client_end == ClientEnd::Open {
                tracing::info!(
                    session = self.summary.id(),
                    client = %self.summary.client(),
                    "client speaks TLS without AUTH; it may want an implicit listener"
                );
            }
            return self.client_is_gone();
        }
        if self.machine.wants_command()
            && let Some(line) = client.next_line()
        {
            return Some(match line {
                Line::TooLong => Event::BadLine(BadLine::TooLong),
                Line::Whole(line) => match Command::parse(line) {
                    Ok(command) => {
                        match command.verb() {
                            Verb::User => {
                                self.summary.asked_for(command.argument());
                                self.trial = self.shared.guard.trial(command.argument());
                            }
                            Verb::Pass | Verb::Acct => self.trial.secret(command.argument()),
                            _ => {}
                        }
                        Event::Command(command)
                    }
                    Err(bad) => Event::BadLine(BadLine::Malformed(bad)),
                },
            });
        }
        if client.is_over() {
            self.client_is_gone()
        } else {
            None
        }
    }

    fn client_is_gone(&mut self) -> Option<Event> {
        match std::mem::replace(&mut self.client_end, ClientEnd::Told) {
            ClientEnd::Open => Some(Event::ClientGone),
            ClientEnd::Told => None,
        }
    }
}

/// The first byte of a ClientHello: record type 22.
const TLS_HANDSHAKE_RECORD: u8 = 0x16;

/// How long a plaintext upload's end waits for an ABOR or the control connection's end, which travel on another
/// connection: lftp's ^C says ABOR and then closes its data connection as if the file were whole.
const UPLOAD_GRACE: Duration = Duration::from_millis(50);

/// How long a backend may take to answer ABOR.
const ABORT_PATIENCE: Duration = Duration::from_secs(10);

/// The transfer's task has deadlines for everything it does; this is only far away.
const NO_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);
