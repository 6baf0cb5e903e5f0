//! The loss of the backend: it sends 421, ends its connection, or is dropped since it can't be understood any more.

use super::context::{BackendEnd, Context};
use super::transfer::{Failure, Outcome};
use super::{Action, Ending, ProtocolError, Record, State};
use crate::ftp::answer;
use crate::ftp::reply::Reply;
use crate::ftp::server::NoUserReply;

impl State {
    /// The backend has enough to do, or ends the session.
    pub fn on_421(self, reply: Reply, cx: &mut Context) -> Self {
        match self {
            Self::Login(login) if login.failover_timeout().is_some() => {
                login.dial_next(NoUserReply::Busy(reply), cx)
            }
            state if state.is_confirmed_transfer() => state.postpone(BackendEnd::Said(reply), cx),
            state => state.close_after_421(reply, cx),
        }
    }

    /// The backend ends the session; its reply is forwarded.
    fn close_after_421(self, reply: Reply, cx: &mut Context) -> Self {
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

    pub fn on_backend_gone(self, cx: &mut Context) -> Self {
        if self.is_confirmed_transfer() {
            return self.postpone(BackendEnd::Lost, cx);
        }
        self.avoid_last_method(cx).close_after_loss(cx)
    }

    fn is_confirmed_transfer(&self) -> bool {
        matches!(self, Self::Transfer(transfer) if transfer.is_confirmed())
    }

    /// The backend has sent 2xx and is done, while bytes that it has sent are still on their way: vsftpd's idle timeout begins
    /// with its 226, and a server that shuts down lets a transfer finish and hangs up at once. The client gets its file first.
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
            Some(BackendEnd::Said(reply)) => self.close_after_421(reply, cx),
            Some(BackendEnd::Lost) => self.close_after_loss(cx),
        }
    }

    pub fn avoid_last_method(self, cx: &mut Context) -> Self {
        match self {
            Self::BackendPort(state) => Self::BackendPort(state.avoid_last_method(cx)),
            state => state,
        }
    }

    /// Fails the backend, and the session with it: there is no safe way to resynchronise.
    pub fn fail_backend(self, why: ProtocolError, cx: &mut Context) -> Self {
        if !matches!(self, Self::NoBackend(_) | Self::Dialling(_) | Self::Closed) {
            cx.push(Action::Record(Record::BackendLost(self.stage(), why)));
        }
        self.close_after_loss(cx)
    }

    fn close_after_loss(self, cx: &mut Context) -> Self {
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
}
