//! The login: from USER over the backend's connection to its 230.
//!
//! The backend is dialled on USER, when the site is known, and it alone decides about logins: its replies to USER, PASS
//! and ACCT are passed on as they are (a 331 may carry a challenge, a 230 may come without a password). A backend that
//! fails before its reply to USER is replaced by the site's next one.

use std::time::Duration;

use super::backend_context::BackendContext;
use super::context::{Context, LoginClock};
use super::pre_login::NoBackend;
use super::ready::{LoggedIn, Ready};
use super::restart_marker::RestartMarkers;
use super::settings::Replay;
use super::user::{Dialling, ResolvedUser};
use super::{Action, Dialled, Ending, ProtocolError, Record, State, security};
use crate::base::secret::Secret;
use crate::ftp::answer;
use crate::ftp::command::{Command, Verb};
use crate::ftp::port_methods::BackendPorts;
use crate::ftp::refusal;
use crate::ftp::reply::{Class, Reply};
use crate::ftp::server::{BackendProtection, NoUserReply};
use crate::outcome::LoginResult;
use crate::route::{Membership, Route};

/// Properties of the backend at the other end of the connection, independent of the login.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connection {
    pub ports: BackendPorts,
    pub restart_markers: RestartMarkers,
}

/// How the client of a login has proven its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginProof {
    /// The client has sent a password of its own, or what the backend has asked for.
    Password,
    /// The client has shown its certificate: the password was ours.
    Certificate,
}

/// A login that holds until the backend has taken another user.
#[derive(Debug)]
struct FormerLogin {
    route: Route,
    proof: LoginProof,
}

/// A backend connection without a login.
#[derive(Debug)]
pub(super) struct Login {
    route: Route,
    connection: Connection,
    protection: BackendProtection,
    choice: BackendChoice,
    step: LoginStep,
    /// Settings that the backend accepted before login and that are not replayed again.
    accepted: Vec<Command>,
    /// The answer to USER that the backend's greeting was.
    welcome: Option<Reply>,
    /// The backend's last reply to the login was 332.
    wants_account: bool,
    proof: LoginProof,
    backend: BackendContext,
}

/// Whether another backend may still take over.
#[derive(Debug, Clone, Copy)]
enum BackendChoice {
    /// The client has not been sent a reply to USER. The next backend takes over after this time, if there is one.
    Tentative { failover_timeout: Option<Duration> },
    /// The client has one, which may be a challenge, and its password is for the backend that it came from.
    Committed,
}

#[derive(Debug)]
enum LoginStep {
    /// Waiting for the client's next command.
    Ready,
    /// The backend is sent `sent`, then the rest, then USER.
    BeforeUser { sent: Command, remaining: Replay },
    /// The backend is to answer USER; `former` is the login that holds if it refuses.
    User { former: Option<FormerLogin> },
    /// The backend is to answer PASS, or an ACCT that it has asked for by 332.
    Password,
    /// The backend is to answer the PASS that we have sent for a user with the right certificate.
    Credentials,
    /// The backend is to answer an ACCT that it hasn't asked for.
    Account,
    /// Logged in; the backend is to answer PBSZ or PROT before the client gets the reply to its login.
    Protecting {
        welcome: Reply,
        command: ProtectionCommand,
    },
    /// Logged in; the backend is sent the rest before the client gets the reply to its login.
    AfterLogin {
        welcome: Reply,
        sent: Command,
        remaining: Replay,
    },
}

/// A command that makes a backend's data connections private; they are sent in this order.
#[derive(Debug, Clone, Copy)]
enum ProtectionCommand {
    Pbsz,
    Prot,
}

impl Dialling {
    pub fn on_site_full(self, cx: &mut Context) -> State {
        cx.push(Action::Record(Record::Login(LoginResult::SiteFull)));
        cx.close_with_reply(answer::SITE_FULL, Ending::SiteFull)
    }

    pub fn on_maintenance(self, cx: &mut Context) -> State {
        cx.push(Action::Record(Record::Login(LoginResult::Maintenance)));
        cx.close_with_reply(answer::SITE_IN_MAINTENANCE, Ending::Maintenance)
    }

    pub fn on_dialled(self, dialled: Option<Dialled>, cx: &mut Context) -> State {
        let Some(Dialled {
            ipv6,
            welcome,
            protection,
            avoid,
            failover_timeout,
        }) = dialled
        else {
            cx.push(Action::Record(Record::Login(
                LoginResult::BackendUnavailable,
            )));
            return cx.close_with_reply(answer::SITE_UNAVAILABLE, Ending::BackendUnavailable);
        };
        let ports = BackendPorts {
            mode: self.route.site.passive_mode,
            ipv6,
            avoid,
        };
        let login = Box::new(Login {
            route: self.route,
            connection: Connection {
                ports,
                restart_markers: RestartMarkers::NONE,
            },
            protection,
            choice: BackendChoice::Tentative { failover_timeout },
            step: LoginStep::Ready,
            accepted: Vec::new(),
            welcome,
            wants_account: false,
            proof: LoginProof::Password,
            backend: BackendContext::default(),
        });
        let replay = cx.settings.before_user(&login.route.site.policy.commands);
        login.replay_before_user(replay, cx)
    }
}

impl Login {
    /// USER again on a connection that has a login, which holds until the backend has taken the new one.
    pub fn again(former: LoggedIn, route: Route, cx: &mut Context) -> State {
        let login = Box::new(Self {
            route,
            connection: former.connection,
            protection: BackendProtection::Settled,
            choice: BackendChoice::Committed,
            step: LoginStep::Ready,
            accepted: Vec::new(),
            welcome: None,
            wants_account: false,
            proof: LoginProof::Password,
            backend: former.backend.for_next_login(),
        });
        let former = FormerLogin {
            route: former.route,
            proof: former.proof,
        };
        login.send_user(Some(former), cx)
    }

    pub fn route(&self) -> &Route {
        &self.route
    }

    /// Whether the client's next command may come.
    pub fn is_ready(&self) -> bool {
        matches!(self.step, LoginStep::Ready)
    }

    /// Whether the backend is checking a password.
    pub fn is_authenticating(&self) -> bool {
        matches!(self.step, LoginStep::Password | LoginStep::Account)
    }

    pub fn on_command(mut self: Box<Self>, command: Command, cx: &mut Context) -> State {
        cx.restart_clock();
        match command.verb() {
            Verb::User => return self.on_user(command, cx),
            Verb::Auth => return security::on_auth(State::Login(self), command.argument(), cx),
            Verb::Quit => return cx.close_with_reply(answer::GOODBYE, Ending::Quit),
            Verb::Pass | Verb::Acct if self.is_too_long(command.line()) => {
                cx.reply(answer::LINE_TOO_LONG);
            }
            // The backend checks them, when the guard allows it.
            Verb::Pass | Verb::Acct => {
                cx.restart_clock();
                self.step = match command.verb() {
                    Verb::Acct if !self.wants_account => LoginStep::Account,
                    _ => LoginStep::Password,
                };
                let site = self.route.site_id;
                cx.push(match self.is_refused() {
                    true => Action::AuthenticateWithDecoy { command, site },
                    false => Action::Authenticate { command, site },
                });
            }
            Verb::Rein => {
                cx.push(Action::CloseBackend);
                return cx.reinitialise();
            }
            Verb::Host => match cx.choose_host(&command) {
                Ok(()) => {
                    // The login begins anew (RFC 7151 §4).
                    cx.push(Action::CloseBackend);
                    cx.reply(answer::HOST_ACCEPTED);
                    return State::NoBackend(NoBackend);
                }
                Err(answer) => cx.reply(answer),
            },
            _ => cx.answer_before_login(command),
        }
        State::Login(self)
    }

    /// Whether the site's rules for commands deny a line for its length.
    fn is_too_long(&self, line: &[u8]) -> bool {
        self.route.site.policy.commands.deny_length(line.len())
    }

    /// Whether the user may not log in, whatever the backend replies.
    fn is_refused(&self) -> bool {
        matches!(self.route.membership, Membership::Refused(_))
    }

    fn on_user(mut self: Box<Self>, command: Command, cx: &mut Context) -> State {
        match cx.resolve_user(command, None) {
            ResolvedUser::Refused => State::Login(self),
            ResolvedUser::NoSite => {
                // The password that may follow must not reach the backend of an earlier USER.
                cx.push(Action::CloseBackend);
                cx.refuse_unknown_host();
                State::NoBackend(NoBackend)
            }
            ResolvedUser::Site(route) if route.shares_backends_with(&self.route) => {
                if let Err(refused) = cx.admit_certificate(&route) {
                    // The same of the password that may follow.
                    cx.push(Action::CloseBackend);
                    cx.refuse_certificate(&route, refused);
                    return State::NoBackend(NoBackend);
                }
                self.route = route;
                self.send_user(None, cx)
            }
            ResolvedUser::Site(route) => {
                cx.push(Action::CloseBackend);
                Dialling::begin(route, cx)
            }
        }
    }

    fn replay_before_user(mut self: Box<Self>, mut remaining: Replay, cx: &mut Context) -> State {
        match remaining.next() {
            Some(sent) => {
                self.ask(sent.line(), cx);
                self.step = LoginStep::BeforeUser { sent, remaining };
                State::Login(self)
            }
            None => self.send_user(None, cx),
        }
    }

    fn send_user(mut self: Box<Self>, former: Option<FormerLogin>, cx: &mut Context) -> State {
        // A USER before it may have been answered with 332 behind a password of ours.
        self.proof = LoginProof::Password;
        if let Some(welcome) = self.welcome.take() {
            return self.on_login_reply(Verb::User, welcome, cx);
        }
        self.ask(
            &[b"USER ", self.route.backend_user().as_slice()].concat(),
            cx,
        );
        self.step = LoginStep::User { former };
        State::Login(self)
    }

    /// Sends the backend a line before it has answered USER.
    fn ask(&self, line: &[u8], cx: &mut Context) {
        match self.failover_timeout() {
            // All of it together has the time that is left of the attempt.
            Some(_) => cx.send(line),
            None => cx.request(line),
        }
    }

    /// How long the backend may take to answer what it is asked, before another one takes over; `None` if none may.
    pub fn failover_timeout(&self) -> Option<Duration> {
        match self.choice {
            BackendChoice::Tentative { failover_timeout } => failover_timeout,
            BackendChoice::Committed => None,
        }
    }

    /// The next backend takes over, and the client knows nothing of this one.
    pub fn dial_next(self, why: NoUserReply, cx: &mut Context) -> State {
        self.blame_backend(why, cx);
        cx.push(Action::DialNext);
        State::Dialling(Dialling { route: self.route })
    }

    /// The backend has failed, which counts where it had yet to answer USER.
    pub fn blame_backend(&self, why: NoUserReply, cx: &mut Context) {
        if let BackendChoice::Tentative { .. } = self.choice {
            cx.push(Action::BackendFailed(why));
        }
    }

    fn commit_backend(&mut self, cx: &mut Context) {
        if let BackendChoice::Tentative { .. } =
            std::mem::replace(&mut self.choice, BackendChoice::Committed)
        {
            cx.push(Action::CommitBackend);
        }
    }

    pub fn on_reply(mut self: Box<Self>, reply: Reply, cx: &mut Context) -> State {
        if reply.class() == Class::Preliminary {
            // No login command has one (RFC 959 §6); what matters is what follows.
            return State::Login(self);
        }
        match std::mem::replace(&mut self.step, LoginStep::Ready) {
            LoginStep::BeforeUser { sent, remaining } => {
                if !reply.class().is_failure() {
                    self.accepted.push(sent);
                }
                self.replay_before_user(remaining, cx)
            }
            LoginStep::User {
                former: Some(former),
            } if reply.class().is_failure() => {
                // vsftpd: "530 Can't change to another user." The old login holds.
                cx.push(Action::FormerLogin(former.route.clone()));
                cx.forward(&reply);
                Ready::after_refused_user(former.route, self.connection, former.proof, self.backend)
            }
            LoginStep::User { .. } if reply.number() == 331 => {
                match cx.proven_password(&self.route) {
                    Some(password) => self.send_password(&password, cx),
                    None => self.on_login_reply(Verb::User, reply, cx),
                }
            }
            LoginStep::Credentials if reply.class().is_failure() => {
                self.on_refused_credentials(reply, cx)
            }
            // Superfluous for every user: Pure-FTPd says so to each ACCT.
            LoginStep::Account if reply.number() == 202 => {
                cx.forward(&reply);
                State::Login(self)
            }
            LoginStep::User { .. } => self.on_login_reply(Verb::User, reply, cx),
            LoginStep::Credentials | LoginStep::Password => {
                self.on_login_reply(Verb::Pass, reply, cx)
            }
            LoginStep::Account => self.on_login_reply(Verb::Acct, reply, cx),
            LoginStep::AfterLogin {
                welcome,
                sent,
                remaining,
            } => {
                // Settings change no files.
                let _ = self.backend.on_reply(sent, &reply);
                self.replay_after_login(welcome, remaining, cx)
            }
            step @ LoginStep::Protecting { .. } if reply.class() != Class::Completion => {
                self.step = step;
                State::Login(self).fail_backend(ProtocolError::ProtectionRefused, cx)
            }
            LoginStep::Protecting { welcome, command } => match command {
                ProtectionCommand::Pbsz => self.protect(welcome, ProtectionCommand::Prot, cx),
                ProtectionCommand::Prot => {
                    self.protection = BackendProtection::Settled;
                    self.welcome(welcome, cx)
                }
            },
            // Nothing was asked, so the backend is not synchronised.
            LoginStep::Ready => {
                State::Login(self).fail_backend(ProtocolError::UnsolicitedReply, cx)
            }
        }
    }

    /// Handles the backend's reply to `command`, or its greeting that stands for one.
    fn on_login_reply(mut self: Box<Self>, command: Verb, reply: Reply, cx: &mut Context) -> State {
        self.commit_backend(cx);
        self.wants_account = reply.number() == 332;
        match reply.class() {
            Class::Completion if self.is_refused() => return self.refuse(cx),
            // 230, 232 (RFC 2228), and 202 to a superfluous PASS.
            Class::Completion if self.protection == BackendProtection::AfterLogin => {
                return self.protect(reply, ProtectionCommand::Pbsz, cx);
            }
            Class::Completion => return self.welcome(reply, cx),
            Class::TransientFailure | Class::PermanentFailure => {
                let user = self.route.backend_user();
                let result = match self.is_refused() {
                    true => LoginResult::NotAllowed,
                    false => LoginResult::Rejected,
                };
                cx.push(Action::Record(Record::LoginRefused {
                    result,
                    command,
                    reply: reply.clone(),
                }));
                if refusal::is_about_credentials(&reply, user.as_slice()) {
                    cx.push(Action::DelayAfterFailure(Some(self.route.site_id)));
                }
                cx.forward(&reply);
            }
            // 331, 332, 336: the client's turn.
            Class::Intermediate | Class::Preliminary => cx.forward(&reply),
        }
        State::Login(self)
    }

    /// Logs in a user with a proven certificate. The client gets the reply to PASS for that to its USER, and need
    /// not send one (RFC 4217 §3); the backend's 230 stays one, since some clients know no 232.
    fn send_password(mut self: Box<Self>, password: &Secret, cx: &mut Context) -> State {
        self.commit_backend(cx);
        self.proof = LoginProof::Certificate;
        self.step = LoginStep::Credentials;
        cx.request(&[b"PASS ", password.expose()].concat());
        State::Login(self)
    }

    /// The client has done nothing wrong: the file of passwords has another one than the backend, or this one is full. 421, so
    /// that no client asks its user for a password.
    fn on_refused_credentials(self: Box<Self>, reply: Reply, cx: &mut Context) -> State {
        if refusal::is_about_credentials(&reply, self.route.backend_user().as_slice()) {
            let code = reply.number();
            cx.push(Action::Record(Record::CredentialsRefused(code)));
        }
        cx.push(Action::Record(Record::LoginRefused {
            result: LoginResult::Rejected,
            command: Verb::Pass,
            reply,
        }));
        cx.close_with_reply(answer::SITE_UNAVAILABLE, Ending::BackendUnavailable)
    }

    /// A backend that takes any password, or none, has let a user in who may not.
    fn refuse(self: Box<Self>, cx: &mut Context) -> State {
        cx.push(Action::Record(Record::Login(LoginResult::NotAllowed)));
        cx.push(Action::CloseBackend);
        cx.push(Action::DelayAfterFailure(Some(self.route.site_id)));
        cx.reply(answer::NOT_ALLOWED);
        State::NoBackend(NoBackend)
    }

    /// Sends PBSZ 0 or PROT P to a backend that accepts them only after the login: no data is sent to it in clear text.
    fn protect(
        mut self: Box<Self>,
        welcome: Reply,
        command: ProtectionCommand,
        cx: &mut Context,
    ) -> State {
        cx.request(match command {
            ProtectionCommand::Pbsz => b"PBSZ 0",
            ProtectionCommand::Prot => b"PROT P",
        });
        self.step = LoginStep::Protecting { welcome, command };
        State::Login(self)
    }

    /// Completes the login.
    fn welcome(self: Box<Self>, welcome: Reply, cx: &mut Context) -> State {
        let rules = &self.route.site.policy.commands;
        let replay = cx.settings.after_login(&self.accepted, rules);
        cx.push(Action::Record(Record::Login(LoginResult::Accepted)));
        self.replay_after_login(welcome, replay, cx)
    }

    fn replay_after_login(
        mut self: Box<Self>,
        welcome: Reply,
        mut remaining: Replay,
        cx: &mut Context,
    ) -> State {
        if let Some(setting) = remaining.next() {
            cx.request(setting.line());
            self.step = LoginStep::AfterLogin {
                welcome,
                sent: setting,
                remaining,
            };
            return State::Login(self);
        }
        cx.login_clock = LoginClock::Stopped;
        // Replayed once; a later login on this connection keeps the settings that the client has made since.
        cx.settings.clear();
        match &self.route.site.policy.login_text {
            Some(text) => {
                let code = welcome.number().to_string();
                let reply = text.before(&code, welcome.bytes());
                cx.push(Action::Reply(reply.into()));
            }
            None => cx.forward(&welcome),
        }
        let Self {
            route,
            connection,
            proof,
            backend,
            ..
        } = *self;
        Ready::after_login(route, connection, proof, backend)
    }

    /// The login ends without the backend's judgement, if one is under way.
    pub fn record_interrupted_login(&self, cx: &mut Context) {
        if !self.is_ready() {
            cx.push(Action::Record(Record::Login(
                LoginResult::BackendUnavailable,
            )));
        }
    }
}
