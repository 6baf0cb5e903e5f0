//! The states of a session, and what several of them take in the same way.
//!
//! A state consumes itself and returns the next one; its handlers stand beside it, in the module of its subject. An
//! event that the driver can't deliver in a state goes to [`Context::unexpected`].

use super::context::{BackendEnd, ClientPresence, Context, LoginClock};
use super::data_port::{BackendPort, ClientPort, Listening};
use super::echo::Fenced;
use super::login::Login;
use super::pre_login::NoBackend;
use super::queue::QueuedLine;
use super::ready::{Feat, Forwarding, LoggedIn, Ready};
use super::rest::Discarding;
use super::transfer::{Failure, Outcome, Transfer};
use super::user::Dialling;
use super::{Action, BadLine, Ending, ProtocolError, Record, Stage, Wait};
use crate::ftp::answer;
use crate::ftp::command::BadCommand;
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
    /// Over; the last action was [`Action::Close`].
    Closed,
}

const _: () = assert!(size_of::<State>() <= 80, "moved at each event");

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

    /// The backend has enough to do, or ends the session.
    pub fn on_421(self, reply: Reply, cx: &mut Context) -> Self {
        match self {
            Self::Login(login) if login.failover_timeout().is_some() => {
                login.dial_next(NoUserReply::Busy(reply), cx)
            }
            state if state.is_confirmed_transfer() => state.postpone(BackendEnd::Said(reply), cx),
            state => state.close_by_backend(reply, cx),
        }
    }

    /// The backend ends the session; its reply is forwarded.
    fn close_by_backend(self, reply: Reply, cx: &mut Context) -> Self {
        if let Self::Login(login) = &self {
            login.blame_backend(NoUserReply::Busy(reply.clone()), cx);
        }
        cx.push(Action::DropData);
        cx.forward(&reply);
        match self {
            Self::Login(login) => login.record_interrupted_login(cx),
            Self::Transfer(transfer) => {
                transfer.record(Outcome::Failed(Failure::Reply(Box::new(reply))), cx);
            }
            _ => {}
        }
        cx.close(Ending::BackendClosed)
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
            (Wait::Reply, state) => state
                .avoid_last_method(cx)
                .drop_backend(ProtocolError::ReplyTimeout, cx),
            (_, Self::Transfer(transfer)) => transfer.on_expired(cx),
            (_, state) => cx.unexpected(state, "the end of a time that is not limited"),
        }
    }

    pub fn on_backend_gone(self, cx: &mut Context) -> Self {
        if self.is_confirmed_transfer() {
            return self.postpone(BackendEnd::Lost, cx);
        }
        self.avoid_last_method(cx).close_without_backend(cx)
    }

    fn is_confirmed_transfer(&self) -> bool {
        matches!(self, Self::Transfer(transfer) if transfer.is_confirmed())
    }

    /// The backend has said 2xx and is done, while bytes that it has sent are still on their way: vsftpd's idle timeout begins with
    /// its 226, and a server that shuts down lets a transfer finish and hangs up at once. The client gets its file first.
    fn postpone(self, end: BackendEnd, cx: &mut Context) -> Self {
        // Behind its 421 it may hang up.
        cx.backend_end.get_or_insert(end);
        self
    }

    /// Ends the session as the backend has, once nothing runs any more that it had done its part of.
    pub fn end_with_backend(self, cx: &mut Context) -> Self {
        if matches!(self, Self::Closed) || self.is_confirmed_transfer() {
            return self;
        }
        match cx.backend_end.take() {
            None => self,
            Some(BackendEnd::Said(reply)) => self.close_by_backend(reply, cx),
            Some(BackendEnd::Lost) => self.close_without_backend(cx),
        }
    }

    fn avoid_last_method(self, cx: &mut Context) -> Self {
        match self {
            Self::BackendPort(state) => Self::BackendPort(state.avoid_last_method(cx)),
            state => state,
        }
    }

    /// Drops the backend, and the session with it: there is no safe way to resynchronise.
    pub fn drop_backend(self, why: ProtocolError, cx: &mut Context) -> Self {
        if !matches!(self, Self::NoBackend(_) | Self::Dialling(_) | Self::Closed) {
            cx.push(Action::Record(Record::BackendLost(self.stage(), why)));
        }
        self.close_without_backend(cx)
    }

    fn close_without_backend(self, cx: &mut Context) -> Self {
        match self {
            Self::NoBackend(_) | Self::Dialling(_) | Self::Closed => {
                return cx.unexpected(self, "the loss of no backend");
            }
            Self::Login(login) if login.failover_timeout().is_some() => {
                return login.dial_next(NoUserReply::Lost, cx);
            }
            Self::Login(login) => {
                login.blame_backend(NoUserReply::Lost, cx);
                login.record_interrupted_login(cx);
            }
            Self::Transfer(transfer) => transfer.abandon(Outcome::Failed(Failure::BackendGone), cx),
            _ => {}
        }
        cx.close_with_reply(answer::SITE_LOST, Ending::BackendLost)
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

    /// What the session waits for.
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

    /// Where the login leads, once one has named a site.
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
        // Before the queue, which may hold the next transfer.
        if cx.draining && self.is_ready(cx) {
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
