//! What a session decides: a state machine without sockets, clock or tasks.
//!
//! Everything that happens to a session comes in as an [`Event`]; what is to be done about it comes out as [`Action`]s,
//! in order. The driver in [`session`](super) does nothing but turn the one into the other, so tests and fuzzers can
//! lead a session through any sequence of commands, replies and data events.
//!
//! The states, in the order in which a session passes through them:
//!
//! ```text
//! NoBackend ──USER──▶ Dialling ──greeting, TLS──▶ Login ──230──▶ LoggedIn ──QUIT──▶ Closed
//!   AUTH, FEAT, HOST,                             PASS, ACCT      commands pass;
//!   OPTS … answered here                                          data ports and transfers are ours
//! ```
//!
//! `before_login` and `login` hold the first three, `logged_in` the commands after login, `data_port` those for data ports,
//! which `ways` has the order of, `transfer` the one transfer that may run and its verdict, `queue` what waits for its end, `restart` the offset of the next one, `echo` what
//! a server says twice. TLS on the client's
//! control connection is apart from these states: `security` has it.

mod before_login;
mod data_port;
mod echo;
mod ending;
mod exchange;
mod logged_in;
mod login;
mod loss;
mod queue;
mod restart;
mod security;
mod stored;
#[cfg(test)]
mod tests;
mod transfer;
mod wait;
mod ways;

use std::net::IpAddr;
use std::sync::Arc;

use crate::announce::Announcements;
use crate::config::HostName;
use crate::ftp::answer::{self, Answer};
use crate::ftp::command::{BadCommand, Command};
use crate::ftp::reply::{Class, Reply};
use crate::observe::metrics::LoginResult;
use crate::route::{Route, Router};

use echo::Echo;
pub use ending::Ending;
pub use exchange::{
    Action, BackendData, BadLine, ClientData, DataEvent, Dialled, Event, Prepared, Protection,
    Record,
};
use logged_in::LoggedIn;
use login::Login;
pub use loss::{Loss, Stage};
use queue::{Queue, Queued};
use restart::Restart;
use security::{ChosenBy, Security};
use stored::Stored;
pub use transfer::{Cause, DataFailure};
pub use wait::{Clock, Wait};

/// What a session needs to know when it begins.
#[derive(Debug, Clone)]
pub struct Terms {
    /// What the client is greeted with, behind the 220.
    pub greeting: Arc<str>,
    /// Who serves which login.
    pub router: Arc<Router>,
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
    /// What the client is told of its data ports.
    pub announcements: Arc<Announcements>,
    /// The names under which the proxy itself is known: HOST with one of them chooses nothing.
    pub own_names: Arc<[HostName]>,
}

/// One session's decisions.
#[derive(Debug)]
pub struct Machine {
    terms: Terms,
    security: Security,
    /// The host that HOST named.
    host: Option<HostName>,
    /// Settings made before there was a backend to tell.
    stored: Stored,
    /// EPSV ALL was given; holds to the end of the session (RFC 2428 §4).
    only_epsv: bool,
    restart: Restart,
    state: State,
    login_clock: LoginClock,
    /// See [`Clock`].
    turn: u64,
    /// How many 1yz have come since the last other reply.
    preliminaries: u32,
    echo: Echo,
    queue: Queue,
    /// How many lines have been none so far.
    bad_lines: u32,
    client: Client,
    /// The process is to end, and so is the session, as soon as nothing runs.
    draining: bool,
    /// What came of the events so far, and hasn't been taken.
    actions: Vec<Action>,
}

/// Whether the client's control connection is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Present,
    /// It has ended on the client's side, or in all. What was begun goes on, and what was said before its end in order.
    Gone,
}

/// Whether the deadline for the login, counted from accept, still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LoginClock {
    Running,
    /// Somebody has logged in, be it that he does so again.
    Stopped,
}

/// How far the session is with its backend.
#[derive(Debug)]
enum State {
    NoBackend,
    /// The driver is on its way there.
    Dialling(Route),
    Login(Login),
    LoggedIn(LoggedIn),
    Closed,
}

impl Machine {
    /// A session on an explicit listener; the greeting is the first action.
    pub fn explicit(terms: Terms) -> Self {
        Self::new(terms, Security::Off)
    }

    /// A session on an implicit listener, after the handshake. PBSZ 0 and PROT P count as given (MS-FTPS §3.1).
    pub fn implicit(terms: Terms, sni: Option<HostName>) -> Self {
        Self::new(
            terms,
            Security::On {
                sni,
                protection: Protection::Private,
                chosen_by: ChosenBy::Default,
            },
        )
    }

    fn new(terms: Terms, security: Security) -> Self {
        let mut machine = Self {
            terms,
            security,
            host: None,
            stored: Stored::default(),
            only_epsv: false,
            restart: Restart::NOWHERE,
            state: State::NoBackend,
            login_clock: LoginClock::Running,
            turn: 0,
            preliminaries: 0,
            echo: Echo::default(),
            queue: Queue::default(),
            bad_lines: 0,
            client: Client::Present,
            draining: false,
            actions: Vec::new(),
        };
        let greeting = answer::greeting(&machine.terms.greeting);
        machine.push(Action::Reply(greeting.into()));
        machine
    }

    /// Takes what is to be done, in order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Whether the client's next command may be delivered.
    pub fn wants_command(&self) -> bool {
        self.is_ready()
            || self.transfer().is_some_and(|transfer| {
                if transfer.is_being_judged() {
                    self.queue.has_room_at_the_end()
                } else {
                    self.queue.has_room()
                }
            })
    }

    /// What the session waits for.
    pub fn wait(&self) -> Wait {
        match &self.state {
            State::LoggedIn(_) if self.has_orphan() => Wait::Orphan,
            State::LoggedIn(logged_in) => logged_in.wait(),
            State::Dialling(_) | State::Closed => Wait::Login,
            State::NoBackend | State::Login(_) => match self.login_clock {
                LoginClock::Running => Wait::Login,
                LoginClock::Stopped if self.is_ready() => Wait::Command,
                LoginClock::Stopped => Wait::Reply,
            },
        }
    }

    /// The same, with its beginning. What changes nothing gives nobody more time: neither a 1yz, nor what the client says
    /// while a transfer waits for its final reply.
    pub fn clock(&self) -> Clock {
        Clock {
            wait: self.wait(),
            turn: self.turn,
        }
    }

    /// How far the session has come.
    pub fn stage(&self) -> Stage {
        match &self.state {
            State::LoggedIn(logged_in) => logged_in.stage(),
            State::NoBackend | State::Dialling(_) | State::Login(_) | State::Closed => Stage::Login,
        }
    }

    /// Whether somebody has logged in before, so that the time for the login is over for good.
    pub fn has_been_logged_in(&self) -> bool {
        self.login_clock == LoginClock::Stopped
    }

    /// Whether the client has said PROT and so knows which protection its data connections have.
    pub fn has_chosen_protection(&self) -> bool {
        self.security.protection_is_the_clients()
    }

    /// The site of this session, once a login has named it.
    pub fn route(&self) -> Option<&Route> {
        match &self.state {
            State::NoBackend | State::Closed => None,
            State::Dialling(route) => Some(route),
            State::Login(login) => Some(&login.route),
            State::LoggedIn(logged_in) => Some(&logged_in.route),
        }
    }

    /// Decides what follows from an event.
    pub fn handle(&mut self, event: Event) {
        if matches!(self.state, State::Closed) {
            return;
        }
        match event {
            Event::Command(command) => self.on_command(command),
            Event::BadLine(bad) => self.on_bad_line(bad),
            Event::ClientEnded => self.on_client_ended(),
            Event::ClientGone => self.on_client_gone(),
            Event::Secured { sni } => self.on_secured(sni),
            Event::Dialled(dialled) => self.on_dialled(dialled),
            Event::Blocked => self.on_blocked(),
            Event::SiteFull => self.on_site_full(),
            Event::Reply(reply) => self.on_reply(reply),
            Event::BackendGone => {
                self.avoid_what_was_asked_last();
                self.close_without_backend();
            }
            Event::Listening(at) => self.on_listening(at),
            Event::Prepared(prepared) => self.on_prepared(prepared),
            Event::Data(event) => self.on_data(event),
            Event::Expired => self.on_expired(),
            Event::Drain => self.draining = true,
            Event::DrainOver => self.on_drain_over(),
        }
        // Before the queue, which may hold the next transfer.
        if self.draining && self.is_ready() {
            self.farewell(answer::SHUTTING_DOWN, Ending::Drain);
        }
        while self.is_ready()
            && let Some(queued) = self.queue.pop()
        {
            match queued {
                Queued::Command(command) => self.on_command(command),
                Queued::BadLine(bad) => self.on_bad_line(bad),
            }
        }
        if self.client == Client::Gone && self.is_ready() {
            self.close(Ending::ClientGone);
        }
    }

    /// Whether nothing is under way and the next command can be taken up.
    fn is_ready(&self) -> bool {
        match &self.state {
            State::NoBackend => !self.security.is_upgrading(),
            State::Login(login) => login.is_ready(),
            State::LoggedIn(logged_in) => logged_in.is_ready(),
            State::Dialling(_) | State::Closed => false,
        }
    }

    fn on_command(&mut self, command: Command) {
        if self.transfer().is_some() {
            return self.command_during_transfer(command);
        }
        if !self.is_ready() {
            return self.enqueue(command);
        }
        self.turn += 1;
        match self.state {
            State::LoggedIn(_) => self.command_after_login(command),
            _ => self.command_before_login(command),
        }
    }

    fn on_bad_line(&mut self, bad: BadLine) {
        let answer = match bad {
            BadLine::Malformed(BadCommand::Empty) => return,
            BadLine::Malformed(BadCommand::Http) => {
                if self.transfer().is_some() {
                    self.cut_transfer(Cause::ClientGone);
                }
                return self.close(Ending::Abuse);
            }
            // In order: a 500 now would be taken for the transfer's end.
            _ if !self.is_ready() => return self.queue.push(Queued::BadLine(bad)),
            BadLine::TooLong => answer::LINE_TOO_LONG,
            BadLine::Malformed(BadCommand::ControlCharacter) => answer::BAD_CHARACTER,
            BadLine::Malformed(BadCommand::NoVerb) => answer::NOT_A_COMMAND,
        };
        self.answer(answer);
        self.turn += 1;
        self.bad_lines += 1;
        if self.bad_lines >= MAX_BAD_LINES {
            self.farewell(answer::TOO_MANY_ERRORS, Ending::Abuse);
        }
    }

    fn on_reply(&mut self, reply: Reply) {
        if reply.number() == 421 {
            self.push(Action::DropData);
            self.push(Action::Reply(reply.bytes().clone()));
            self.break_off_login();
            self.record_cut(Cause::Reply(Box::new(reply)));
            return self.close(Ending::BackendClosed);
        }
        if reply.class() == Class::Preliminary {
            self.preliminaries += 1;
            if self.preliminaries > MAX_PRELIMINARIES {
                return self.lose_backend(Loss::Preliminaries);
            }
        } else {
            self.preliminaries = 0;
        }
        match self.state {
            State::Login(_) => self.reply_to_login(reply),
            State::LoggedIn(_) => self.reply_after_login(reply),
            State::NoBackend | State::Dialling(_) | State::Closed => {}
        }
    }

    fn on_expired(&mut self) {
        match self.wait() {
            Wait::Login => {
                self.push(Action::Record(Record::Login(LoginResult::TimedOut)));
                self.farewell(answer::LOGIN_TIMEOUT, Ending::LoginTimeout);
            }
            Wait::Command => self.farewell(answer::IDLE_TIMEOUT, Ending::Idle),
            Wait::Reply => {
                self.avoid_what_was_asked_last();
                self.lose_backend(Loss::Silence);
            }
            Wait::FinalReply | Wait::Grace | Wait::LastWord | Wait::SinkEnd | Wait::Abort => {
                self.transfer_expired()
            }
            Wait::Orphan => self.cut_with_client(),
            Wait::Data => {}
        }
    }

    fn enqueue(&mut self, command: Command) {
        self.queue.push(Queued::Command(command));
    }

    fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn answer(&mut self, answer: Answer) {
        self.push(Action::Reply(answer.bytes().into()));
    }

    fn pass(&mut self, reply: &Reply) {
        self.push(Action::Reply(reply.bytes().clone()));
    }

    fn send(&mut self, line: &[u8]) {
        if self.transfer().is_none() {
            self.turn += 1;
        }
        self.echo.nothing_more_expected();
        // Commands are free of line endings by construction, and so are user names, which come out of one.
        self.push(Action::Send([line, b"\r\n"].concat().into()));
    }
}

/// How many lines that are no commands a session may send.
const MAX_BAD_LINES: u32 = 20;

/// How many 1yz may follow each other. RFC 959 §4.2 allows one for each command; without a bound, a backend could keep a
/// session busy for ever.
const MAX_PRELIMINARIES: u32 = 16;
