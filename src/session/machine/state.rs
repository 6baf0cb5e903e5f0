//! The states of a session, and what several of them take in the same way.
//!
//! A state consumes itself and returns the next one; its handlers stand beside it, in the module of its subject. An
//! event that the driver can't deliver in a state goes to [`Context::unexpected`].

use super::context::{ClientPresence, Context, LoginClock};
use super::data_port::{BackendPort, ClientPort, Listening};
use super::echo::Fenced;
use super::login::Login;
use super::pre_login::NoBackend;
use super::queue::QueuedLine;
use super::ready::{Feat, Forwarding, LoggedIn, Ready};
use super::restart_marker::Discarding;
use super::transfer::{Failure, Outcome, Transfer};
use super::user::Dialling;
use super::{
    Action, BadLine, DataEvent, Ending, Event, Machine, ProtocolError, Record, Stage, Wait,
};
use crate::ftp::answer;
use crate::ftp::command::{BadCommand, Command};
use crate::ftp::reply::Reply;
use crate::ftp::server::NoUserReply;
use crate::outcome::LoginResult;
use crate::route::Route;

/// How far the session has come. It is moved at each event, so what is large is in a box.
#[derive(Debug)]
pub(super) enum State {
    /// No USER has named a site yet, or what it named holds no more.
    NoBackend(NoBackend),
    /// The driver is on its way to the backend.
    Dialling(Dialling),
    /// The backend is connected, and the client not logged in.
    Login(Box<Login>),
    /// Logged in; the client's next command may come.
    Ready(Ready),
    /// The backend is to answer commands of the client's.
    Forwarding(Forwarding),
    /// The backend is to answer FEAT.
    Feat(Feat),
    /// The driver is to listen for the backend's data connection.
    Listening(Listening),
    /// The backend is to answer EPSV, PASV or PORT.
    BackendPort(BackendPort),
    /// The driver is to make the client's data port.
    ClientPort(ClientPort),
    /// The backend is to answer a command of ours, and its reply is ignored.
    Discarding(Discarding),
    /// The backend is to answer a NOOP of ours, and may repeat itself before that.
    Fenced(Fenced),
    /// A transfer is running.
    Transfer(Transfer),
    /// The session is over; the last action was [`Action::Close`].
    Closed,
}

const _: () = assert!(size_of::<State>() <= 80, "moved at each event");

impl Machine {
    /// Decides what follows from an event. Behind [`Action::Close`] nothing does.
    pub fn handle(&mut self, event: Event) {
        let state = std::mem::replace(&mut self.state, State::Closed);
        if !matches!(state, State::Closed) {
            let state = state.on(event, &mut self.cx);
            let state = state.end_with_backend(&mut self.cx);
            self.state = state.settle(&mut self.cx);
        }
    }
}

/// Dispatch of each event to the state's handler.
impl State {
    /// Handles an event; returns the next state.
    fn on(self, event: Event, cx: &mut Context) -> Self {
        match (event, self) {
            (Event::Command(command), state) => state.on_command(command, cx),
            (Event::Reply(reply), state) => state.on_reply(reply, cx),
            (Event::Data(event), Self::Transfer(transfer)) => transfer.on_data(event, cx),
            // The abort that it was for is over: the backend is gone.
            (Event::Data(DataEvent::BackendAccepted), state) => state,
            (Event::Prepared(prepared), Self::ClientPort(state)) => state.on_prepared(prepared, cx),
            (Event::Listening(at), Self::Listening(state)) => state.on_listening(at, cx),
            (Event::Listening(at), Self::Transfer(Transfer::AskingAgain(state))) => {
                state.on_listening(at, cx)
            }
            (Event::Dialled(dialled), Self::Dialling(state)) => state.on_dialled(dialled, cx),
            (Event::SiteFull, Self::Dialling(state)) => state.on_site_full(cx),
            (Event::Maintenance, Self::Dialling(state)) => state.on_maintenance(cx),
            (Event::Blocked, state) => state.on_blocked(cx),
            (Event::Secured { sni, certificate }, state) => state.on_secured(sni, certificate, cx),
            (Event::BadLine(bad), state) => state.on_bad_line(bad, cx),
            (Event::ClientEnded, state) => state.on_client_ended(cx),
            (Event::ClientGone, state) => state.on_client_gone(cx),
            (Event::BackendGone, state) => state.on_backend_gone(cx),
            (Event::Expired, Self::Transfer(transfer)) => transfer.on_expired(cx),
            (Event::Expired, state) => state.on_expired(cx),
            (Event::Drain, state) => state.on_drain(cx),
            (Event::DrainOver, state) => state.on_drain_over(cx),
            (Event::Terminate, state) => state.on_terminate(cx),
            (
                event @ (Event::Data(_)
                | Event::Prepared(_)
                | Event::Listening(_)
                | Event::Dialled(_)
                | Event::SiteFull
                | Event::Maintenance),
                state,
            ) => cx.unexpected(state, &format!("{event:?}")),
        }
    }

    /// A command, new or from the queue.
    pub fn on_command(self, command: Command, cx: &mut Context) -> Self {
        match self {
            Self::Ready(ready) => ready.on_command(command, cx),
            Self::Transfer(transfer) => transfer.on_command(command, cx),
            Self::NoBackend(state) if !cx.security.is_upgrading() => state.on_command(command, cx),
            Self::Login(login) if login.is_ready() => login.on_command(command, cx),
            state => cx.unexpected(state, "a command before its turn"),
        }
    }

    fn on_reply(self, reply: Reply, cx: &mut Context) -> Self {
        if cx.backend_end.is_some() {
            return self.fail_backend(ProtocolError::UnsolicitedReply, cx);
        }
        if reply.number() == 421 {
            return self.on_421(reply, cx);
        }
        if cx.count_preliminary(&reply) {
            return self.fail_backend(ProtocolError::TooManyPreliminaries, cx);
        }
        match self {
            Self::Login(login) => login.on_reply(reply, cx),
            Self::Ready(ready) => ready.on_reply(&reply, cx),
            Self::Forwarding(state) => state.on_reply(&reply, cx),
            Self::Feat(state) => state.on_reply(&reply, cx),
            Self::BackendPort(state) => state.on_reply(&reply, cx),
            Self::Discarding(state) => state.on_reply(&reply, cx),
            Self::Fenced(state) => state.on_reply(&reply, cx),
            Self::Transfer(transfer) => transfer.on_reply(reply, cx),
            // It was not asked for anything.
            Self::Listening(_) | Self::ClientPort(_) => {
                self.fail_backend(ProtocolError::UnsolicitedReply, cx)
            }
            Self::NoBackend(_) | Self::Dialling(_) | Self::Closed => {
                cx.unexpected(self, "a reply without a backend")
            }
        }
    }
}

/// Events that several states handle in the same way.
impl State {
    /// A line that is not a command, new or from the queue.
    pub fn on_bad_line(self, bad: BadLine, cx: &mut Context) -> Self {
        let answer = match bad {
            BadLine::Malformed(BadCommand::Empty) => return self,
            BadLine::Malformed(BadCommand::Http) => {
                if let Self::Transfer(transfer) = self {
                    transfer.abandon(Outcome::Failed(Failure::ClientGone), cx);
                }
                return cx.close(Ending::Abuse);
            }
            BadLine::TooLong => answer::LINE_TOO_LONG,
            BadLine::Malformed(BadCommand::ControlCharacter) => answer::BAD_CHARACTER,
            BadLine::Malformed(BadCommand::NoVerb) => answer::NOT_A_COMMAND,
        };
        if let Self::Transfer(_) = self {
            // In order: a 500 now would be taken for the transfer's end.
            cx.queue.push(QueuedLine::BadLine(bad));
            return self;
        }
        if !self.is_ready(cx) {
            return cx.unexpected(self, "a line before its turn");
        }
        if cx.refuses_bad_line(answer) {
            return cx.close_with_reply(answer::TOO_MANY_ERRORS, Ending::Abuse);
        }
        self
    }

    /// The guard blocks the client.
    pub fn on_blocked(self, cx: &mut Context) -> Self {
        match &self {
            Self::NoBackend(_) => {}
            Self::Login(login) if !login.is_authenticating() => {}
            // The password has not been sent.
            Self::Dialling(_) | Self::Login(_) => {
                cx.push(Action::Record(Record::Login(LoginResult::Blocked)));
            }
            // A USER without a site was one too many; the login that holds is untouched by that.
            _ => return self,
        }
        cx.close_with_reply(answer::TOO_MANY_FAILURES, Ending::Blocked)
    }

    pub fn on_expired(self, cx: &mut Context) -> Self {
        match (self.wait(cx), self) {
            (Wait::Login, state) => {
                if let Self::Login(login) = &state
                    && !login.is_ready()
                {
                    login.blame_backend(NoUserReply::Silent, cx);
                }
                cx.push(Action::Record(Record::Login(LoginResult::TimedOut)));
                cx.close_with_reply(answer::LOGIN_TIMEOUT, Ending::LoginTimeout)
            }
            (Wait::UserReply(_), Self::Login(login)) => login.dial_next(NoUserReply::Silent, cx),
            (Wait::Command, _) => cx.close_with_reply(answer::IDLE_TIMEOUT, Ending::Idle),
            (Wait::ReplyWhileDraining, state) => state.on_drain_over(cx),
            (Wait::Reply, state) => state
                .avoid_last_method(cx)
                .fail_backend(ProtocolError::ReplyTimeout, cx),
            (_, state) => cx.unexpected(state, "the end of a time that is not limited"),
        }
    }

    /// Whether nothing is under way and the next command can be taken up.
    pub fn is_ready(&self, cx: &Context) -> bool {
        match self {
            Self::Ready(_) => true,
            Self::NoBackend(_) => !cx.security.is_upgrading(),
            Self::Login(login) => login.is_ready(),
            _ => false,
        }
    }

    /// The reason for which the session waits.
    pub fn wait(&self, cx: &Context) -> Wait {
        if let Self::Login(login) = self
            && let Some(time) = login.failover_timeout()
        {
            return Wait::UserReply(time);
        }
        match self {
            Self::NoBackend(_) | Self::Login(_) => match cx.login_clock {
                LoginClock::Running => Wait::Login,
                LoginClock::Stopped if self.is_ready(cx) => Wait::Command,
                LoginClock::Stopped => Wait::Reply,
            },
            Self::Dialling(_) | Self::Closed => Wait::Login,
            Self::Ready(_) => Wait::Command,
            Self::Forwarding(_) | Self::Feat(_) | Self::Discarding(_) | Self::Fenced(_)
                if cx.draining =>
            {
                Wait::ReplyWhileDraining
            }
            Self::Forwarding(_)
            | Self::Feat(_)
            | Self::BackendPort(_)
            | Self::Discarding(_)
            | Self::Fenced(_) => Wait::Reply,
            // A turn at a passive port has a deadline of its own, and is nothing that the backend is late with.
            Self::Listening(_) | Self::ClientPort(_) => Wait::Data,
            Self::Transfer(transfer) => transfer.wait(cx),
        }
    }

    /// How far the session has come, for the log.
    pub fn stage(&self) -> Stage {
        match self {
            Self::NoBackend(_) | Self::Dialling(_) | Self::Login(_) | Self::Closed => Stage::Login,
            Self::Ready(_)
            | Self::Forwarding(_)
            | Self::Feat(_)
            | Self::Discarding(_)
            | Self::Fenced(_) => Stage::Command,
            Self::Listening(_) | Self::BackendPort(_) | Self::ClientPort(_) => Stage::DataPort,
            Self::Transfer(_) => Stage::Transfer,
        }
    }

    /// The state's name, for the record of an event that it can't handle.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoBackend(_) => "NoBackend",
            Self::Dialling(_) => "Dialling",
            Self::Login(_) => "Login",
            Self::Ready(_) => "Ready",
            Self::Forwarding(_) => "Forwarding",
            Self::Feat(_) => "Feat",
            Self::Listening(_) => "Listening",
            Self::BackendPort(_) => "BackendPort",
            Self::ClientPort(_) => "ClientPort",
            Self::Discarding(_) => "Discarding",
            Self::Fenced(_) => "Fenced",
            Self::Transfer(Transfer::Opening(_)) => "Opening",
            Self::Transfer(Transfer::AskingAgain(_)) => "AskingAgain",
            Self::Transfer(Transfer::Upload(_)) => "Upload",
            Self::Transfer(Transfer::Download(_)) => "Download",
            Self::Transfer(Transfer::Aborting(_)) => "Aborting",
            Self::Closed => "Closed",
        }
    }

    /// The route of the login, once one has named a site.
    pub fn route(&self) -> Option<&Route> {
        let logged_in: &LoggedIn = match self {
            Self::NoBackend(_) | Self::Closed => return None,
            Self::Dialling(state) => return Some(&state.route),
            Self::Login(login) => return Some(login.route()),
            Self::Ready(state) => &state.login,
            Self::Forwarding(state) => &state.login,
            Self::Feat(state) => &state.login,
            Self::Listening(state) => &state.login,
            Self::BackendPort(state) => &state.login,
            Self::ClientPort(state) => &state.login,
            Self::Discarding(state) => &state.login,
            Self::Fenced(state) => &state.login,
            Self::Transfer(transfer) => transfer.login(),
        };
        Some(&logged_in.route)
    }

    /// Takes up what has waited for the end of what was under way.
    pub fn settle(mut self, cx: &mut Context) -> Self {
        if matches!(self, Self::Closed) {
            return self;
        }
        // Before the queue, which may hold the next transfer.
        if cx.draining && self.ends_with_drain(cx) {
            return cx.close_with_reply(answer::SHUTTING_DOWN, Ending::Drain);
        }
        while self.is_ready(cx)
            && let Some(line) = cx.queue.pop()
        {
            self = match line {
                QueuedLine::Command(command) => self.on_command(command, cx),
                QueuedLine::BadLine(bad) => self.on_bad_line(bad, cx),
            };
        }
        if cx.client == ClientPresence::Gone && self.is_ready(cx) {
            return cx.close(Ending::ClientGone);
        }
        self
    }
}
