//! Commands after login: passed to the backend as they are, but for those about data connections, TLS and FEAT.
//!
//! One command is under way at a time; its reply goes back to the client byte for byte. Data port commands are taken
//! apart, see `data_port`.

use std::num::NonZeroUsize;

use super::backend_context::BackendContext;
use super::context::Context;
use super::data_port::{self, DataPortNegotiation};
use super::login::{Connection, Login, LoginProof};
use super::transfer;
use super::user::ResolvedUser;
use super::{Action, Ending, Record, State, security};
use crate::ftp::answer;
use crate::ftp::command::{Command, Verb};
use crate::ftp::features;
use crate::ftp::reply::{Class, Reply};
use crate::ftp::server::PortMethods;
use crate::policy::CommandRules;
use crate::route::Route;

/// A login that the backend has accepted. Each state behind the login holds it.
#[derive(Debug)]
pub(super) struct LoggedIn {
    pub route: Route,
    pub connection: Connection,
    /// The data port that the client has and no transfer has used yet, and how it was asked for.
    pub data_port: Option<DataPortNegotiation>,
    /// The last USER was refused: the password that may follow is not for this backend.
    pub user_refused: bool,
    pub proof: LoginProof,
    pub backend: BackendContext,
}

/// Waiting for the client's next command.
#[derive(Debug)]
pub(super) struct Ready {
    pub login: Box<LoggedIn>,
}

/// The backend is to answer commands of the client's.
#[derive(Debug)]
pub(super) struct Forwarding {
    pub login: Box<LoggedIn>,
    /// The number of replies: one, or the STATs that have outlasted a transfer.
    pub pending_replies: NonZeroUsize,
    /// The command, if its reply matters to the transfers that follow, or is recorded.
    pub tracked: Option<Command>,
}

/// The backend is to answer FEAT.
#[derive(Debug)]
pub(super) struct Feat {
    pub login: Box<LoggedIn>,
}

/// Whether these rules deny a command. Most sites have none.
pub(super) fn is_denied(rules: &CommandRules, command: &Command) -> bool {
    !rules.is_empty() && rules.deny(command.verb_text().as_bytes(), command.argument())
}

impl LoggedIn {
    fn new(
        route: Route,
        connection: Connection,
        proof: LoginProof,
        backend: BackendContext,
    ) -> Self {
        Self {
            route,
            connection,
            data_port: None,
            user_refused: false,
            proof,
            backend,
        }
    }

    /// Records that these methods have failed and another one works: the backend is asked by that one first from now on, in other
    /// sessions as well.
    pub fn avoid(&mut self, methods: PortMethods, cx: &mut Context) {
        let known = &mut self.connection.ports.avoid;
        let avoid = known.and_all(methods);
        if std::mem::replace(known, avoid) != avoid {
            cx.push(Action::Avoid(avoid));
        }
    }

    /// Whether the site denies a command to its clients.
    pub fn deny(&self, command: &Command) -> bool {
        is_denied(&self.route.site.policy.commands, command)
    }

    pub fn drop_data_port(&mut self, cx: &mut Context) {
        if self.data_port.take().is_some() {
            cx.push(Action::DropData);
        }
    }
}

impl Ready {
    /// The client's login has just been accepted.
    pub fn after_login(
        route: Route,
        connection: Connection,
        proof: LoginProof,
        backend: BackendContext,
    ) -> State {
        let login = Box::new(LoggedIn::new(route, connection, proof, backend));
        State::Ready(Self { login })
    }

    /// The backend has refused another user, and the login before holds.
    pub fn after_refused_user(
        route: Route,
        connection: Connection,
        proof: LoginProof,
        backend: BackendContext,
    ) -> State {
        let login = Box::new(LoggedIn {
            user_refused: true,
            ..LoggedIn::new(route, connection, proof, backend)
        });
        State::Ready(Self { login })
    }

    pub fn on_command(mut self, command: Command, cx: &mut Context) -> State {
        cx.restart_clock();
        if self.login.deny(&command) {
            return self.refuse_denied(command, cx);
        }
        if let Some(direction) = command.verb().transfer() {
            return transfer::begin(self.login, command, direction, cx);
        }
        match command.verb() {
            Verb::User => self.on_user(command, cx),
            Verb::Auth => security::on_auth(State::Ready(self), command.argument(), cx),
            Verb::Host => self.answer(answer::HOST_TOO_LATE, cx),
            Verb::Pass | Verb::Acct if self.login.user_refused => {
                self.answer(answer::USER_FIRST, cx)
            }
            // Some clients send it whatever the reply to USER was.
            Verb::Pass if self.login.proof == LoginProof::Certificate => {
                self.answer(answer::LOGGED_IN_ALREADY, cx)
            }
            Verb::Rein => {
                self.login.drop_data_port(cx);
                cx.push(Action::CloseBackend);
                cx.reinitialise()
            }
            Verb::Quit => {
                cx.request(command.line());
                cx.close_with_reply(answer::GOODBYE, Ending::Quit)
            }
            Verb::Feat => {
                cx.request(command.line());
                State::Feat(Feat { login: self.login })
            }
            Verb::Pasv | Verb::Epsv | Verb::Port | Verb::Eprt => {
                data_port::begin(self.login, &command, cx)
            }
            // Blocks and compression in MODE B and C carry their own end of file; data connections would stay open.
            Verb::Mode if !matches!(command.argument(), b"S" | b"s" | b"Z" | b"z") => {
                self.answer(answer::MODE_UNSUPPORTED, cx)
            }
            _ if cx.answers_for_client_leg(&command) => State::Ready(self),
            _ => {
                cx.request(command.line());
                State::Forwarding(Forwarding {
                    login: self.login,
                    pending_replies: NonZeroUsize::MIN,
                    tracked: Some(command).filter(BackendContext::is_about),
                })
            }
        }
    }

    /// The backend hears nothing of it.
    fn refuse_denied(mut self, command: Command, cx: &mut Context) -> State {
        let is_transfer = command.verb().transfer().is_some();
        // A client that has its answer can see it counted.
        cx.push(Action::Record(Record::Denied(command)));
        cx.reply(answer::COMMAND_DENIED);
        match is_transfer {
            true => {
                self.login.connection.restart_markers.begin_transfer();
                self.login.clear_restart_markers(cx)
            }
            false => State::Ready(self),
        }
    }

    fn answer(self, answer: answer::Answer, cx: &mut Context) -> State {
        cx.reply(answer);
        State::Ready(self)
    }

    fn on_user(mut self, command: Command, cx: &mut Context) -> State {
        match cx.resolve_user(command, Some(&self.login.route)) {
            ResolvedUser::Refused => {
                self.login.user_refused = true;
                State::Ready(self)
            }
            ResolvedUser::NoSite => {
                self.login.user_refused = true;
                cx.refuse_unknown_host();
                State::Ready(self)
            }
            ResolvedUser::Site(route) if route.shares_backends_with(&self.login.route) => {
                if let Err(refused) = cx.admit_certificate(&route) {
                    cx.refuse_certificate(&route, refused);
                    cx.push(Action::FormerLogin(self.login.route.clone()));
                    self.login.user_refused = true;
                    return State::Ready(self);
                }
                // An unused lease would keep the port from others.
                self.login.drop_data_port(cx);
                Login::again(*self.login, route, cx)
            }
            // One login, one backend: a session never moves to another site, or to another group's backends.
            ResolvedUser::Site(_) => {
                self.login.user_refused = true;
                self.answer(answer::OTHER_SITE, cx)
            }
        }
    }
}

impl Forwarding {
    pub fn on_reply(self, reply: &Reply, cx: &mut Context) -> State {
        match (reply.class(), reply.number()) {
            (Class::Preliminary, _) => {
                cx.forward(reply);
                return State::Forwarding(self);
            }
            // Some command opened a data port that we don't know of: its address must not reach the client.
            (_, 227..=229) => cx.reply(answer::NOT_IMPLEMENTED),
            _ => cx.forward(reply),
        }
        let Self {
            mut login,
            pending_replies,
            tracked,
        } = self;
        if let Some(command) = tracked {
            login.connection.restart_markers.on_reply(&command, reply);
            if let Some(change) = login.backend.on_reply(command, reply) {
                cx.push(Action::Record(Record::FileChanged(change)));
            }
        }
        match NonZeroUsize::new(pending_replies.get() - 1) {
            Some(pending_replies) => State::Forwarding(Self {
                login,
                pending_replies,
                tracked: None,
            }),
            None => State::Ready(Ready { login }),
        }
    }
}

impl Feat {
    pub fn on_reply(self, reply: &Reply, cx: &mut Context) -> State {
        if reply.class() == Class::Preliminary {
            return State::Feat(self);
        }
        let rules = &self.login.route.site.policy.commands;
        let is_offered = |feature: &[u8]| !rules.deny_feature(feature);
        let list = features::after_login(reply, cx.config.active_mode, is_offered);
        cx.push(Action::Reply(list.into()));
        State::Ready(Ready { login: self.login })
    }
}
