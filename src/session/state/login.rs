//! The login: from USER over the backend's connection to its 230.
//!
//! The backend is dialled on USER, when the site is known, and it alone says who may come in: its replies to USER, PASS
//! and ACCT are passed on as they are (a 331 may carry a challenge, a 230 may come without a password).

use super::stored::Replay;
use super::ways::BackendPorts;
use super::{Action, Dialled, Ending, LoginClock, Loss, Machine, Record, State};
use crate::ftp::answer;
use crate::ftp::command::Command;
use crate::ftp::refusal;
use crate::ftp::reply::{Class, Reply};
use crate::ftp::server::BackendProtection;
use crate::observe::metrics::LoginResult;
use crate::route::Route;

use super::logged_in::{DataPort, LoggedIn};
use super::restart::Restart;

/// A backend connection that nobody is logged in on.
#[derive(Debug)]
pub(super) struct Login {
    pub route: Route,
    ports: BackendPorts,
    protection: BackendProtection,
    step: Step,
    /// Settings that the backend took before login and need not be told again.
    accepted: Vec<Command>,
    /// The answer to USER that the backend's greeting was.
    welcome: Option<Reply>,
}

#[derive(Debug)]
enum Step {
    /// Waiting for the client's next command.
    Ready,
    /// The backend is told `sent`, then the rest, then USER.
    BeforeUser { sent: Command, rest: Replay },
    /// The backend is to answer USER; `former` is the login that holds if it refuses.
    User { former: Option<Route> },
    /// The backend is to answer PASS or ACCT.
    Password,
    /// Logged in; the backend is to answer PBSZ or PROT before the client hears of it.
    Protecting { welcome: Reply, told: Told },
    /// Logged in; the backend is told the rest before the client hears of it.
    AfterLogin { welcome: Reply, rest: Replay },
}

/// What the backend has been told of its data connections.
#[derive(Debug, Clone, Copy)]
enum Told {
    Pbsz,
    Prot,
}

impl Login {
    pub fn is_ready(&self) -> bool {
        matches!(self.step, Step::Ready)
    }
}

impl Machine {
    /// USER, logged in or not.
    pub(super) fn user(&mut self, command: Command) {
        if command.argument().is_empty() {
            return self.answer(answer::USER_ARGUMENT);
        }
        if self.terms.tls_required && !self.security.is_on() {
            self.push(Action::Asked(command));
            self.push(Action::Record(Record::Login(LoginResult::ClearText)));
            return self.answer(answer::POLICY_REQUIRES_TLS);
        }
        let route =
            self.terms
                .router
                .route(command.argument(), self.host.as_ref(), self.security.sni());
        self.push(Action::Asked(command));
        let Some(route) = route else {
            self.push(Action::Record(Record::Login(LoginResult::UnknownHost)));
            // The password that may follow is not for the backend of an earlier USER.
            if matches!(self.state, State::Login(_)) {
                self.push(Action::HangUp);
                self.state = State::NoBackend;
            }
            self.push(Action::Penalise(None));
            return self.answer(answer::HOST_EXPECTED);
        };
        match std::mem::replace(&mut self.state, State::NoBackend) {
            State::Login(login) if login.route.site.name == route.site.name => {
                self.push(Action::Route(route.clone()));
                self.state = State::Login(Login { route, ..login });
                self.send_user(None);
            }
            State::LoggedIn(logged_in) if logged_in.route.site.name == route.site.name => {
                if logged_in.data_port != DataPort::None {
                    // A lease that nobody will use keeps the port from others.
                    self.push(Action::DropData);
                }
                self.push(Action::Route(route.clone()));
                self.state = State::Login(Login {
                    route,
                    ports: logged_in.ports,
                    protection: BackendProtection::Settled,
                    step: Step::Ready,
                    accepted: Vec::new(),
                    welcome: None,
                });
                self.send_user(Some(logged_in.route));
            }
            // One login, one backend: nobody moves to another site inside a session.
            logged_in @ State::LoggedIn(_) => {
                self.state = logged_in;
                self.answer(answer::OTHER_SITE);
            }
            State::Login(_) => {
                self.push(Action::HangUp);
                self.dial(route);
            }
            State::NoBackend | State::Dialling(_) | State::Closed => self.dial(route),
        }
    }

    /// PASS and ACCT before login: the backend judges them, if there is one.
    pub(super) fn password(&mut self, command: Command) {
        let State::Login(login) = &mut self.state else {
            return self.answer(answer::USER_FIRST);
        };
        login.step = Step::Password;
        self.turn += 1;
        self.push(Action::Guess(command));
    }

    /// Whether the backend judges a password.
    pub fn is_guessing(&self) -> bool {
        matches!(&self.state, State::Login(login) if matches!(login.step, Step::Password))
    }

    fn dial(&mut self, route: Route) {
        self.restart = Restart::NOWHERE;
        self.state = State::Dialling(route.clone());
        self.push(Action::Dial(route));
    }

    pub(super) fn on_dialled(&mut self, dialled: Option<Dialled>) {
        let State::Dialling(route) = &self.state else {
            return;
        };
        let Some(Dialled {
            ipv6,
            welcome,
            protection,
            avoid,
        }) = dialled
        else {
            self.push(Action::Record(Record::Login(
                LoginResult::BackendUnavailable,
            )));
            return self.farewell(answer::SITE_UNAVAILABLE, Ending::BackendUnavailable);
        };
        self.state = State::Login(Login {
            route: route.clone(),
            ports: BackendPorts {
                mode: route.site.passive_mode,
                ipv6,
                avoid,
            },
            protection,
            step: Step::Ready,
            accepted: Vec::new(),
            welcome,
        });
        let replay = self.stored.before_user();
        self.tell_before_user(replay);
    }

    /// Who is logged in already stays so.
    pub(super) fn on_blocked(&mut self) {
        match self.state {
            State::Dialling(_) => {
                self.push(Action::Record(Record::Login(LoginResult::Blocked)));
            }
            // The password has not gone out.
            State::Login(_) if self.is_guessing() => {
                self.push(Action::Record(Record::Login(LoginResult::Blocked)));
            }
            State::NoBackend | State::Login(_) => {}
            State::LoggedIn(_) | State::Closed => return,
        }
        self.farewell(answer::TOO_MANY_FAILURES, Ending::Blocked);
    }

    pub(super) fn on_site_full(&mut self) {
        if matches!(self.state, State::Dialling(_)) {
            self.push(Action::Record(Record::Login(LoginResult::SiteFull)));
            self.farewell(answer::SITE_FULL, Ending::SiteFull);
        }
    }

    fn tell_before_user(&mut self, mut rest: Replay) {
        let Some(sent) = rest.next() else {
            return self.send_user(None);
        };
        self.send(sent.line());
        if let State::Login(login) = &mut self.state {
            login.step = Step::BeforeUser { sent, rest };
        }
    }

    fn send_user(&mut self, former: Option<Route>) {
        let State::Login(login) = &mut self.state else {
            return;
        };
        if let Some(welcome) = login.welcome.take() {
            return self.login_reply(welcome);
        }
        login.step = Step::User { former };
        let line = [b"USER ", login.route.backend_user().as_slice()].concat();
        self.send(&line);
    }

    pub(super) fn reply_to_login(&mut self, reply: Reply) {
        let State::Login(login) = &mut self.state else {
            return;
        };
        if reply.class() == Class::Preliminary {
            // No login command has one (RFC 959 §6); what matters is what follows.
            return;
        }
        match std::mem::replace(&mut login.step, Step::Ready) {
            Step::BeforeUser { sent, rest } => {
                if !reply.class().is_failure() {
                    login.accepted.push(sent);
                }
                self.tell_before_user(rest);
            }
            Step::User {
                former: Some(former),
            } if reply.class().is_failure() => {
                // vsftpd: "530 Can't change to another user." The old login holds.
                let ports = login.ports;
                self.push(Action::Route(former.clone()));
                self.state = State::LoggedIn(LoggedIn::new(former, ports));
                self.pass(&reply);
            }
            Step::User { .. } | Step::Password => self.login_reply(reply),
            Step::AfterLogin { welcome, rest } => self.tell_after_login(welcome, rest),
            Step::Protecting { .. } if reply.class() != Class::Completion => {
                login.step = Step::Password;
                self.lose_backend(Loss::Unprotected);
            }
            Step::Protecting { welcome, told } => match told {
                Told::Pbsz => self.protect(welcome, Told::Prot),
                Told::Prot => {
                    login.protection = BackendProtection::Settled;
                    self.welcome(welcome);
                }
            },
            // Nothing was asked, so the backend is out of step.
            Step::Ready => self.lose_backend(Loss::Unasked),
        }
    }

    fn login_reply(&mut self, reply: Reply) {
        let State::Login(login) = &mut self.state else {
            return;
        };
        match reply.class() {
            // 230, 232 (RFC 2228), and 202 to a superfluous ACCT or PASS.
            Class::Completion if login.protection == BackendProtection::AfterLogin => {
                self.protect(reply, Told::Pbsz);
            }
            Class::Completion => self.welcome(reply),
            Class::TransientFailure | Class::PermanentFailure => {
                let site = login.route.site_id;
                let user = login.route.backend_user();
                let is_guess = refusal::is_about_credentials(&reply, user.as_slice());
                self.push(Action::Record(Record::Login(LoginResult::Rejected)));
                if is_guess {
                    self.push(Action::Penalise(Some(site)));
                }
                self.pass(&reply);
            }
            // 331, 332, 336: the client's turn.
            Class::Intermediate | Class::Preliminary => self.pass(&reply),
        }
    }

    /// Says PBSZ 0 or PROT P to a backend that takes them only behind a login: nobody's data goes to it in clear text.
    fn protect(&mut self, welcome: Reply, told: Told) {
        if let State::Login(login) = &mut self.state {
            login.step = Step::Protecting { welcome, told };
            self.send(match told {
                Told::Pbsz => b"PBSZ 0",
                Told::Prot => b"PROT P",
            });
        }
    }

    /// The login is done.
    fn welcome(&mut self, welcome: Reply) {
        if let State::Login(login) = &self.state {
            let replay = self.stored.after_login(&login.accepted);
            self.push(Action::Record(Record::Login(LoginResult::Accepted)));
            self.tell_after_login(welcome, replay);
        }
    }

    fn tell_after_login(&mut self, welcome: Reply, mut rest: Replay) {
        let State::Login(login) = &mut self.state else {
            return;
        };
        match rest.next() {
            Some(setting) => {
                login.step = Step::AfterLogin { welcome, rest };
                self.send(setting.line());
            }
            None => {
                self.state = State::LoggedIn(LoggedIn::new(login.route.clone(), login.ports));
                self.login_clock = LoginClock::Stopped;
                // Told once; a later login on this connection finds the backend as the client has set it since.
                self.stored.clear();
                self.pass(&welcome);
            }
        }
    }
}
