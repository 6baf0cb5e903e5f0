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
//! `before_login` and `login` hold the first three, `logged_in` the commands after login, `transfer` the one
//! transfer that may run and its verdict.

mod before_login;
mod logged_in;
mod login;
mod loss;
mod stored;
#[cfg(test)]
mod tests;
mod transfer;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;

use crate::announce::Announcements;
use crate::config::{HostName, Site};
use crate::ftp::answer::{self, Answer};
use crate::ftp::command::{BadCommand, Command, Direction, Verb};
use crate::ftp::reply::{Class, Reply};
use crate::observe::metrics::{LoginResult, Verdict};
use crate::route::{Route, Router};

use logged_in::LoggedIn;
use login::Login;
pub use loss::{Loss, Stage};
use stored::Stored;
pub use transfer::{DataEvent, DataFailure};

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The client sent a command.
    Command(Command),
    /// The client sent a line that is none.
    BadLine(BadLine),
    /// The client's control connection ended.
    ClientGone,
    /// The handshake that [`Action::StartTls`] asked for is done.
    Secured {
        /// The server name that the client sent, if it is a host name.
        sni: Option<HostName>,
    },
    /// The backend connection that [`Action::Dial`] asked for is ready for USER, or there is none.
    Dialled(Option<Dialled>),
    /// The guard lets the client try no further: what [`Action::Dial`] or [`Action::Penalise`] came upon.
    Blocked,
    /// The site of [`Action::Dial`] has as many sessions as it may.
    SiteFull,
    /// The backend sent a reply.
    Reply(Reply),
    /// The backend's control connection ended, or what came was no reply.
    BackendGone,
    /// The data port that [`Action::PrepareData`] asked for.
    Prepared(Prepared),
    /// Something happened to the transfer's data connections.
    Data(DataEvent),
    /// The time for [`Machine::wait`] is over.
    Expired,
    /// The process is to end: finish what runs, begin nothing.
    Drain,
}

/// A line that is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadLine {
    /// Over the limit.
    TooLong,
    /// Not in the form of a command.
    Malformed(BadCommand),
}

/// A backend connection that is ready for USER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialled {
    /// Whether its control connection runs over IPv6, where only EPSV makes sense.
    pub ipv6: bool,
    /// The 230 of a backend that lets everybody in without USER.
    pub welcome: Option<Reply>,
}

/// Something to do.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Send this reply to the client.
    Reply(Bytes),
    /// Answer AUTH and do the TLS handshake with the client; then comes [`Event::Secured`].
    StartTls,
    /// Connect to the site's backend; then comes [`Event::Dialled`], or [`Event::Blocked`] from the guard, or
    /// [`Event::SiteFull`].
    Dial(Route),
    /// A login has failed, at this site or at none: hold back what follows for as long as the guard says.
    Penalise(Option<Arc<Site>>),
    /// Send this line to the backend.
    Send(Bytes),
    /// Close the backend's control connection.
    HangUp,
    /// Connect to the backend's data port and make one for the client; then comes [`Event::Prepared`].
    PrepareData {
        /// The port that the backend announced.
        backend_port: u16,
        /// How the client's data connection comes to be.
        client: ClientData,
        /// Whether it is to be under TLS, as things stand.
        protection: Protection,
    },
    /// Bring the prepared data connections to life; then come [`Event::Data`]s.
    OpenData {
        /// Which way the bytes go.
        direction: Direction,
        /// Whether the client's data connection is under TLS.
        protection: Protection,
    },
    /// The transfer command is out: do the handshakes and let the bytes flow.
    BeginData,
    /// The source's end is good: end the sink's leg in order, too.
    ProceedData,
    /// Drop both data connections, with a reset to whoever is connected.
    DropData,
    /// Tell the metrics and the log.
    Record(Record),
    /// End the session.
    Close(Ending),
}

/// How the client's data connection comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientData {
    /// The client connects to us.
    Passive,
    /// We connect to the client.
    Active(SocketAddr),
}

/// What became of [`Action::PrepareData`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prepared {
    /// The client may connect to this port.
    Passive(u16),
    /// We'll connect to the client.
    Active,
    /// No passive port was free.
    NoPort,
}

/// The protection level of data connections (RFC 2228 §3, RFC 4217 §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// PROT C
    Clear,
    /// PROT P
    Private,
}

/// What the metrics and the log are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A login succeeded or failed.
    Login(LoginResult),
    /// A transfer is over.
    Transfer {
        /// The command that began it.
        command: Command,
        /// Which way its bytes went.
        direction: Direction,
        /// How it ended.
        verdict: Verdict,
        /// What ended it, if not the backend's own reply.
        failure: Option<DataFailure>,
    },
    /// The backend was given up.
    BackendLost(Stage, Loss),
    /// The backend refused both EPSV and PASV, the last time like this.
    NoDataPort(Reply),
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// QUIT.
    Quit,
    /// The client closed or lost its control connection.
    ClientGone,
    /// No command for too long.
    Idle,
    /// Not logged in in time.
    LoginTimeout,
    /// The client's TLS handshake failed.
    Handshake,
    /// The backend could not be reached or verified.
    BackendUnavailable,
    /// The backend said 421.
    BackendClosed,
    /// The backend's control connection ended or lost step.
    BackendLost,
    /// The process ends.
    Drain,
    /// Too much nonsense, HTTP, or bytes behind AUTH.
    Abuse,
    /// Too many failed logins.
    Blocked,
    /// Too many sessions at the site.
    SiteFull,
}

impl Ending {
    /// The word for it in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quit => "quit",
            Self::ClientGone => "client gone",
            Self::Idle => "idle timeout",
            Self::LoginTimeout => "login timeout",
            Self::Handshake => "tls handshake failed",
            Self::BackendUnavailable => "backend unavailable",
            Self::BackendClosed => "closed by backend",
            Self::BackendLost => "backend lost",
            Self::Drain => "drain",
            Self::Abuse => "abuse",
            Self::Blocked => "blocked",
            Self::SiteFull => "site full",
        }
    }
}

/// What the session waits for, which decides how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The login, counted from accept.
    Login,
    /// The client's next command.
    Command,
    /// The backend's reply to a command.
    Reply,
    /// The backend's reply after the data connections are done.
    FinalReply,
    /// An ABOR, or the end of the control connection, behind a plaintext upload's end.
    Grace,
    /// The backend's replies to ABOR.
    Abort,
    /// The data connections, which have deadlines of their own.
    Data,
}

/// What the session waits for, and since when: the time runs on until this is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// What for.
    pub wait: Wait,
    /// Since which command of the client's or, outside of transfers, of ours to the backend.
    turn: u64,
}

/// What a session needs to know when it begins.
#[derive(Debug, Clone)]
pub struct Terms {
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
    state: State,
    login_clock: LoginClock,
    /// See [`Clock`].
    turn: u64,
    /// How many 1yz have come since the last other reply.
    preliminaries: u32,
    /// What came during a transfer and has to wait for its end.
    queue: VecDeque<Queued>,
    bad_lines: u32,
    draining: bool,
    actions: Vec<Action>,
}

/// A line of the client's that waits for the end of a transfer.
#[derive(Debug)]
enum Queued {
    Command(Command),
    BadLine(BadLine),
}

/// Whether the deadline for the login, counted from accept, still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LoginClock {
    Running,
    /// Somebody has logged in, be it that he does so again.
    Stopped,
}

/// The client's control connection, as far as TLS goes.
#[derive(Debug)]
enum Security {
    Clear,
    /// AUTH was accepted; the handshake is under way.
    Upgrading(Protection),
    Secured {
        sni: Option<HostName>,
        pbsz: bool,
        protection: Protection,
    },
}

#[derive(Debug)]
enum State {
    NoBackend,
    Dialling(Route),
    Login(Login),
    LoggedIn(LoggedIn),
    Closed,
}

impl Machine {
    /// A session on an explicit listener; the greeting is the first action.
    pub fn explicit(terms: Terms) -> Self {
        Self::new(terms, Security::Clear)
    }

    /// A session on an implicit listener, after the handshake. PBSZ 0 and PROT P count as given (MS-FTPS §3.1).
    pub fn implicit(terms: Terms, sni: Option<HostName>) -> Self {
        Self::new(
            terms,
            Security::Secured {
                sni,
                pbsz: true,
                protection: Protection::Private,
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
            state: State::NoBackend,
            login_clock: LoginClock::Running,
            turn: 0,
            preliminaries: 0,
            queue: VecDeque::new(),
            bad_lines: 0,
            draining: false,
            actions: Vec::new(),
        };
        machine.answer(answer::SERVICE_READY);
        machine
    }

    /// Takes what is to be done, in order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Whether the client's next command may be delivered.
    pub fn wants_command(&self) -> bool {
        self.is_ready()
            || (self.transfer().is_some()
                && self.queue.len() < MAX_QUEUED
                && !self.quit_is_queued())
    }

    /// What the session waits for.
    pub fn wait(&self) -> Wait {
        match &self.state {
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

    /// The site of this session, once a login has named it.
    pub fn route(&self) -> Option<&Route> {
        match &self.state {
            State::NoBackend | State::Closed => None,
            State::Dialling(route) => Some(route),
            State::Login(login) => Some(&login.route),
            State::LoggedIn(logged_in) => Some(&logged_in.route),
        }
    }

    /// Whether a transfer is under way.
    pub fn is_transferring(&self) -> bool {
        self.transfer().is_some()
    }

    /// Decides what follows from an event.
    pub fn handle(&mut self, event: Event) {
        if matches!(self.state, State::Closed) {
            return;
        }
        match event {
            Event::Command(command) => self.on_command(command),
            Event::BadLine(bad) => self.on_bad_line(bad),
            Event::ClientGone => self.on_client_gone(),
            Event::Secured { sni } => self.on_secured(sni),
            Event::Dialled(dialled) => self.on_dialled(dialled),
            Event::Blocked => self.on_blocked(),
            Event::SiteFull => self.on_site_full(),
            Event::Reply(reply) => self.on_reply(reply),
            Event::BackendGone => self.close_without_backend(),
            Event::Prepared(prepared) => self.on_prepared(prepared),
            Event::Data(event) => self.on_data(event),
            Event::Expired => self.on_expired(),
            Event::Drain => self.draining = true,
        }
        // Before the queue, which may hold the next transfer.
        if self.draining && self.is_ready() {
            self.farewell(answer::SHUTTING_DOWN, Ending::Drain);
        }
        while self.is_ready()
            && let Some(queued) = self.queue.pop_front()
        {
            match queued {
                Queued::Command(command) => self.on_command(command),
                Queued::BadLine(bad) => self.on_bad_line(bad),
            }
        }
    }

    /// Whether nothing is under way and the next command can be taken up.
    fn is_ready(&self) -> bool {
        match &self.state {
            State::NoBackend => !matches!(self.security, Security::Upgrading(_)),
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
            self.queue.push_back(Queued::Command(command));
            return;
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
                    self.cut_transfer(Verdict::FailedClient);
                }
                return self.close(Ending::Abuse);
            }
            // In order: a 500 now would be taken for the transfer's end.
            _ if !self.is_ready() => return self.queue.push_back(Queued::BadLine(bad)),
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

    fn on_client_gone(&mut self) {
        if self.transfer().is_some() {
            if self.quit_is_queued() {
                // QUIT and then the end of the connection is in order: RFC 959 §4.1.1 lets the transfer finish.
                return;
            }
            // The control connection's loss is ABOR and QUIT together; the transfer must not look complete.
            self.cut_transfer(Verdict::FailedClient);
        }
        self.close(Ending::ClientGone);
    }

    fn on_reply(&mut self, reply: Reply) {
        if reply.number() == 421 {
            self.push(Action::DropData);
            self.push(Action::Reply(reply.bytes().clone()));
            self.record_cut(Verdict::FailedBackend);
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
            Wait::Reply => self.lose_backend(Loss::Silence),
            Wait::FinalReply | Wait::Grace | Wait::Abort => self.transfer_expired(),
            Wait::Data => {}
        }
    }

    /// Gives the backend up.
    fn lose_backend(&mut self, why: Loss) {
        if matches!(self.state, State::Login(_) | State::LoggedIn(_)) {
            let record = Record::BackendLost(self.stage(), why);
            self.push(Action::Record(record));
        }
        self.close_without_backend();
    }

    fn close_without_backend(&mut self) {
        match self.state {
            State::NoBackend | State::Dialling(_) | State::Closed => {}
            State::Login(_) | State::LoggedIn(_) => {
                if self.transfer().is_some() {
                    self.cut_transfer(Verdict::FailedBackend);
                }
                self.answer(answer::SITE_LOST);
                self.close(Ending::BackendLost);
            }
        }
    }

    fn is_secured(&self) -> bool {
        matches!(self.security, Security::Secured { .. })
    }

    fn protection(&self) -> Protection {
        match self.security {
            Security::Secured { protection, .. } => protection,
            Security::Clear | Security::Upgrading(_) => Protection::Clear,
        }
    }

    fn quit_is_queued(&self) -> bool {
        self.queue.iter().any(
            |queued| matches!(queued, Queued::Command(command) if command.verb() == Verb::Quit),
        )
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
        // Commands are free of line endings by construction, and so are user names, which come out of one.
        self.push(Action::Send([line, b"\r\n"].concat().into()));
    }

    fn farewell(&mut self, answer: Answer, ending: Ending) {
        self.answer(answer);
        self.close(ending);
    }

    fn close(&mut self, ending: Ending) {
        self.state = State::Closed;
        self.queue.clear();
        self.push(Action::Close(ending));
    }
}

/// How many commands may wait for the end of a transfer; more stay in the network.
const MAX_QUEUED: usize = 16;

/// How many lines that are no commands a session may send.
const MAX_BAD_LINES: u32 = 20;

/// How many 1yz may follow each other. RFC 959 §4.2 allows one for each command; without a bound, a backend could keep a
/// session busy for ever.
const MAX_PRELIMINARIES: u32 = 16;
