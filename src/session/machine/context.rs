//! Data that every state of a session may use and change: its configuration, what the client has sent about itself, and the
//! actions.

use std::collections::VecDeque;
use std::sync::Arc;

use super::echo::Echo;
use super::queue::Queue;
use super::security::Security;
use super::settings::DeferredSettings;
use super::{Action, Ending, Record, SessionConfig, State};
use crate::config::HostName;
use crate::ftp::answer::{self, Answer};
use crate::ftp::reply::{Class, MAX_PRELIMINARIES, Reply};
use crate::policy::ClientIdentity;

/// How many lines that are no commands a session may send.
pub(super) const MAX_BAD_LINES: u32 = 20;

/// Data that outlives each single state.
#[derive(Debug)]
pub(super) struct Context {
    pub config: SessionConfig,
    pub security: Security,
    /// The client's certificate as it counts for the next login, if it has expired since the handshake.
    pub lapsed_certificate: Option<Arc<ClientIdentity>>,
    /// The host that HOST named.
    pub host: Option<HostName>,
    /// The name of the proxy itself that HOST named instead.
    pub proxy_host: Option<HostName>,
    /// Settings made before there was a backend to send them to.
    pub settings: DeferredSettings,
    /// EPSV ALL was given; holds to the end of the session (RFC 2428 §4).
    pub only_epsv: bool,
    pub login_clock: LoginClock,
    /// See [`Clock`](super::Clock).
    pub restarts: u64,
    /// How many 1yz have followed each other.
    preliminaries: u32,
    pub echo: Echo,
    pub queue: Queue,
    /// How many lines have been no commands so far.
    bad_lines: u32,
    pub client: ClientPresence,
    /// How the backend has ended its control connection behind the 2xx of a transfer, whose data connections haven't ended yet.
    pub backend_end: Option<BackendEnd>,
    /// See [`Context::record_unexpected`].
    had_unexpected: bool,
    /// The process is to end, and so is the session, as soon as nothing runs.
    pub draining: bool,
    /// The actions that result from the events so far, and have not been taken.
    pub actions: VecDeque<Action>,
}

/// Whether the client's control connection is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientPresence {
    Present,
    /// The client has closed its side, or both. Running work goes on, and input from before the end is handled in order.
    Gone,
}

/// How a backend ends its control connection.
#[derive(Debug)]
pub(super) enum BackendEnd {
    /// The backend has sent this 421.
    Said(Reply),
    /// The backend has sent nothing.
    Lost,
}

/// Whether the deadline for the login, counted from accept, still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginClock {
    Running,
    /// A login has succeeded at least once.
    Stopped,
}

impl Context {
    pub fn new(config: SessionConfig, security: Security) -> Self {
        let greeting = answer::greeting(&config.greeting);
        Self {
            config,
            security,
            lapsed_certificate: None,
            host: None,
            proxy_host: None,
            settings: DeferredSettings::default(),
            only_epsv: false,
            login_clock: LoginClock::Running,
            restarts: 0,
            preliminaries: 0,
            echo: Echo::default(),
            queue: Queue::default(),
            bad_lines: 0,
            client: ClientPresence::Present,
            backend_end: None,
            had_unexpected: false,
            draining: false,
            actions: VecDeque::from([Action::Reply(greeting.into())]),
        }
    }

    /// The host of a site that HOST has named: last, or before the handshake, whose certificate is still that site's.
    pub fn site_host(&self) -> Option<&HostName> {
        self.host.as_ref().or(self.security.named_before())
    }

    pub fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// Sends the client a reply of our own.
    pub fn reply(&mut self, answer: Answer) {
        self.push(Action::Reply(answer.bytes().into()));
    }

    /// Sends the client a reply of the backend's.
    pub fn forward(&mut self, reply: &Reply) {
        self.push(Action::Reply(reply.bytes().clone()));
    }

    /// Sends the client a reply of the backend's where it has one, or else one of our own.
    pub fn forward_or(&mut self, reply: Option<&Reply>, otherwise: Answer) {
        match reply {
            Some(reply) => self.forward(reply),
            None => self.reply(otherwise),
        }
    }

    /// Sends the backend a line, for whose reply the time runs on.
    pub fn send(&mut self, line: &[u8]) {
        self.echo.nothing_more_expected();
        // Commands are free of line endings by construction, and so are user names, which are parts of one.
        self.push(Action::Send([line, b"\r\n"].concat().into()));
    }

    /// Sends the backend a line, whose reply has its own time.
    pub fn request(&mut self, line: &[u8]) {
        self.restart_clock();
        self.send(line);
    }

    /// The wait that begins now has its own time.
    pub fn restart_clock(&mut self) {
        self.restarts += 1;
    }

    /// Counts the 1yz that follow each other; true if this is one too many.
    pub fn count_preliminary(&mut self, reply: &Reply) -> bool {
        if reply.class() == Class::Preliminary {
            self.preliminaries += 1;
        } else {
            self.preliminaries = 0;
        }
        self.preliminaries > MAX_PRELIMINARIES
    }

    /// Answers a line that is not a command; true if the client has sent too many of them.
    pub fn refuses_bad_line(&mut self, answer: Answer) -> bool {
        self.reply(answer);
        self.restart_clock();
        self.bad_lines += 1;
        self.bad_lines >= MAX_BAD_LINES
    }

    /// Ends the session with a last reply.
    pub fn close_with_reply(&mut self, answer: Answer, ending: Ending) -> State {
        self.reply(answer);
        self.close(ending)
    }

    /// Ends the session.
    pub fn close(&mut self, ending: Ending) -> State {
        self.queue.clear();
        self.push(Action::Close(ending));
        State::Closed
    }

    /// An event that the driver can't deliver in this state: a fault of ours, which the tests and the fuzzer look for. In
    /// production it changes nothing but the log.
    pub fn unexpected(&mut self, state: State, event: &str) -> State {
        debug_assert!(false, "{event} came in {state:?}");
        self.record_unexpected(state.name(), event);
        state
    }

    /// The first of a session is recorded: each further one may be its consequence.
    pub fn record_unexpected(&mut self, state: &'static str, event: &str) {
        if !std::mem::replace(&mut self.had_unexpected, true) {
            let event = event.to_owned();
            self.push(Action::Record(Record::Unexpected { state, event }));
        }
    }
}
