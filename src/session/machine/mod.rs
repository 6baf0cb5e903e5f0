//! The decisions of a session: a state machine without sockets, clock or tasks.
//!
//! Everything that happens to a session comes in as an [`Event`]; what is to be done about it comes out as [`Action`]s,
//! in order. The driver in [`session`](super) does nothing but turn the one into the other, so tests and fuzzers can
//! lead a session through any sequence of commands, replies and data events.
//!
//! The states, in the order in which a session passes through them:
//!
//! ```text
//! NoBackend ──USER──▶ Dialling ──greeting, TLS──▶ Login ──230──▶ Ready ──QUIT──▶ Closed
//!   AUTH, FEAT, HOST,                             PASS, ACCT      │ ▲
//!   OPTS … answered here                                          │ │ Forwarding        one command and its reply
//!                                                                 │ │ Feat              the same with FEAT, which is ours
//!                                                                 │ │ Listening, BackendPort, ClientPort     data ports
//!                                                                 │ │ Transfer          one transfer and its verdict
//!                                                                 └─┘ Discarding, Fenced     back into step after it
//! ```
//!
//! `state` has them all. [`Machine::handle`] hands an event to the state's own handler, which consumes the state and returns the
//! next one. `pre_login`, `user` and `login` hold the first three, `ready` the commands after login, `data_port` those for data
//! ports, whose methods [`port_methods`](crate::ftp::port_methods) orders, `transfer` the one transfer that may run and its
//! verdict, `restart_marker` the offset of the next one, `echo` the replies that a server sends twice, `backend_loss` the end of
//! a session whose backend is lost, `backend_context` what is only recorded. Anything apart from these states is in `context`:
//! TLS on the client's control connection (`security`), `settings` that wait for a backend, the `queue` of what waits for a
//! transfer's end.

mod action;
mod backend_context;
mod backend_loss;
mod context;
mod data_port;
mod echo;
mod ending;
mod event;
mod login;
mod pre_login;
mod protocol_error;
mod queue;
mod ready;
mod restart_marker;
mod security;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod transfer;
mod user;
mod wait;

use std::net::IpAddr;
use std::sync::Arc;

use crate::announce::Announcements;
use crate::config::{HostName, HostNames, Settings, Timeouts};
use crate::ftp::command::Command;
use crate::ftp::directory::Directory;
use crate::policy::{Admission, ClientIdentity, CredentialFiles};
use crate::route::{Route, Router};

pub use action::{Action, BackendData, ClientData, Protection, Record};
pub use backend_context::{FileChange, TransferDetails};
use context::{Context, LoginClock};
pub use ending::Ending;
pub use event::{BadLine, DataEvent, Dialled, Event, PreparedPort};
use pre_login::NoBackend;
pub use protocol_error::{ProtocolError, Stage};
use security::{ChosenBy, Security};
use state::State;
pub use transfer::{AbortedBy, DataFailure, Failure, Outcome};
pub use wait::{Clock, Deadline, Wait};

/// The settings that a session needs when it begins.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// The text of the greeting, after the code 220.
    pub greeting: Arc<str>,
    /// Routes logins to sites.
    pub router: Arc<Router>,
    /// Whether a certificate can be shown: one that is ordered may not be there yet.
    pub has_certificate: bool,
    /// Whether USER in clear text is refused.
    pub tls_required: bool,
    /// Whether transfers without PROT P are refused.
    pub data_required: bool,
    /// Whether PORT and EPRT are offered.
    pub active_mode: bool,
    /// The client's address, in canonical form.
    pub client: IpAddr,
    /// The address that the client connected to, in canonical form.
    pub local: IpAddr,
    /// The addresses and ports that the client is sent for its data ports.
    pub announcements: Arc<Announcements>,
    /// The names under which the proxy itself is known: HOST with one of them chooses nothing, unless a site has that name.
    pub own_names: Arc<HostNames>,
    /// All time limits.
    pub timeouts: Timeouts,
    /// The passwords of users with a proven certificate.
    pub credentials: CredentialFiles,
}

/// The tables of one configuration that sessions share and look things up in.
#[derive(Debug, Clone)]
pub struct SharedConfig {
    /// See [`SessionConfig::router`].
    pub router: Arc<Router>,
    /// See [`SessionConfig::announcements`].
    pub announcements: Arc<Announcements>,
    /// See [`SessionConfig::own_names`].
    pub own_names: Arc<HostNames>,
    /// See [`SessionConfig::credentials`].
    pub credentials: CredentialFiles,
    /// See [`SessionConfig::has_certificate`].
    pub has_certificate: bool,
}

impl SessionConfig {
    /// The settings of a session from `client` to the address `local`.
    pub fn new(settings: &Settings, tables: SharedConfig, [client, local]: [IpAddr; 2]) -> Self {
        Self {
            greeting: Arc::clone(&settings.greeting),
            router: tables.router,
            has_certificate: tables.has_certificate,
            tls_required: settings.tls.required,
            data_required: settings.tls.data_required,
            active_mode: settings.active_mode,
            client: client.to_canonical(),
            local: local.to_canonical(),
            announcements: tables.announcements,
            own_names: tables.own_names,
            timeouts: settings.timeouts,
            credentials: tables.credentials,
        }
    }
}

/// The state machine of one session, which makes its decisions.
#[derive(Debug)]
pub struct Machine {
    state: State,
    cx: Context,
}

impl Machine {
    /// A session on an explicit listener; the greeting is the first action.
    pub fn explicit(config: SessionConfig) -> Self {
        Self::new(config, Security::Off)
    }

    /// A session on an implicit listener, after the handshake. PBSZ 0 and PROT P are in force (MS-FTPS §3.1).
    pub fn implicit(
        config: SessionConfig,
        sni: Option<HostName>,
        certificate: Option<Arc<ClientIdentity>>,
    ) -> Self {
        Self::new(
            config,
            Security::On {
                sni,
                certificate,
                named_before: None,
                protection: Protection::Private,
                chosen_by: ChosenBy::Default,
            },
        )
    }

    fn new(config: SessionConfig, security: Security) -> Self {
        Self {
            state: State::NoBackend(NoBackend),
            cx: Context::new(config, security),
        }
    }

    /// The next action to carry out; all actions come before the next event.
    pub fn next_action(&mut self) -> Option<Action> {
        self.cx.actions.pop_front()
    }

    /// Whether the session is over, as soon as the actions that are left have been done.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether [`Event::Drain`] would end the session now, if it isn't over.
    pub fn ends_with_drain(&self) -> bool {
        self.state.ends_with_drain(&self.cx)
    }

    /// Whether the client's next command may be delivered.
    pub fn wants_command(&self) -> bool {
        match &self.state {
            State::Transfer(transfer) if transfer.awaits_verdict() => {
                self.cx.queue.has_room_while_judging()
            }
            State::Transfer(_) => self.cx.queue.has_room(),
            state => state.is_ready(&self.cx),
        }
    }

    /// The reason for which the session waits.
    pub fn wait(&self) -> Wait {
        self.state.wait(&self.cx)
    }

    /// The time limit for that.
    pub fn deadline(&self) -> Deadline {
        self.wait().deadline(&self.cx.config.timeouts)
    }

    /// The reason for which the session waits, with its beginning. An event that changes nothing extends no deadline: neither a
    /// 1yz, nor a command while a transfer waits for its final reply.
    pub fn clock(&self) -> Clock {
        Clock {
            wait: self.wait(),
            restarts: self.cx.restarts,
        }
    }

    /// The stage of the session.
    pub fn stage(&self) -> Stage {
        self.state.stage()
    }

    /// Whether a login has succeeded before, so that the time for the login is over for good.
    pub fn has_been_logged_in(&self) -> bool {
        self.cx.login_clock == LoginClock::Stopped
    }

    /// Whether the backend has ended the session, of which the client isn't informed before it has its file.
    pub fn has_backend_ended(&self) -> bool {
        self.cx.backend_end.is_some()
    }

    /// Whether the backend is checking a password.
    pub fn is_authenticating(&self) -> bool {
        matches!(&self.state, State::Login(login) if login.is_authenticating())
    }

    /// Whether the client has sent PROT and so knows which protection its data connections have.
    pub fn has_chosen_protection(&self) -> bool {
        self.cx.security.is_protection_chosen()
    }

    /// The command of the transfer that runs, and the directory that its path counts from.
    pub fn running_transfer(&self) -> Option<(&Command, &Directory)> {
        match &self.state {
            State::Transfer(transfer) => {
                Some((transfer.command(), &transfer.login().backend.directory))
            }
            _ => None,
        }
    }

    /// The server name of the client's TLS handshake, if it is a host name.
    pub fn server_name(&self) -> Option<&HostName> {
        self.cx.security.sni()
    }

    /// The host of a site that HOST named.
    pub fn site_host(&self) -> Option<&HostName> {
        self.cx.host.as_ref()
    }

    /// The name of the proxy itself that HOST named.
    pub fn proxy_host(&self) -> Option<&HostName> {
        self.cx.proxy_host.as_ref()
    }

    /// The protection level of data connections at present.
    pub fn protection(&self) -> Protection {
        self.cx.security.protection()
    }

    /// The certificate of the client has expired since the handshake, and counts as `lapsed` for each login from now on.
    pub fn certificate_has_lapsed(&mut self, lapsed: Arc<ClientIdentity>) {
        self.cx.lapsed_certificate = Some(lapsed);
    }

    /// The certificate that the login rests on, if its data connections have to show that, too.
    pub fn login_certificate(&self) -> Option<&ClientIdentity> {
        let route = self.route()?;
        let rules = route.site.policy.client_certificate.as_ref()?;
        // As it was in the handshake: a login that rests on it is bound to it when it has expired, too.
        let certificate = self.cx.security.certificate();
        let is_proven = rules.admit(certificate, &route.user) == Admission::Proven;
        certificate.filter(|_| rules.binds_data() && is_proven)
    }

    /// The site of this session, once a login has named it.
    pub fn route(&self) -> Option<&Route> {
        self.state.route()
    }
}
