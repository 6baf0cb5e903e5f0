//! Servers that send the reply to a transfer twice (dionaea did).
//!
//! Clients take the first one, and so does the verdict. The second one must not become the answer to the client's next
//! command, so a NOOP is sent as a fence: the same reply again before the NOOP's is dropped. Once a server is known to
//! do so, every transfer is followed by that fence, since the second reply may come late. A second reply in other words
//! is one that nothing asked for, and ends the session when the transfer has ended.

use super::context::Context;
use super::ready::{LoggedIn, Ready};
use super::{ProtocolError, State};
use crate::ftp::reply::{Class, Reply};

/// How often a reply may be repeated.
const MAX_ECHOES: u32 = 3;

/// State of the replies that a server sends twice.
#[derive(Debug, Default)]
pub(super) struct Echo {
    /// The reply to a transfer, if nothing has been sent since.
    last: Option<Reply>,
    repetition: Repetition,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Repetition {
    #[default]
    Once,
    Twice,
}

/// The replies that followed a transfer's 2xx before its data connections had ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Surplus {
    #[default]
    None,
    /// The same reply came again.
    Same,
    /// A different reply came.
    Other,
}

/// The backend is to answer a NOOP of ours, and may send a transfer's reply again before that.
#[derive(Debug)]
pub(super) struct Fenced {
    pub login: Box<LoggedIn>,
    reply: Reply,
    again: u32,
}

impl Echo {
    /// Something has been sent: the next reply may answer it.
    pub fn nothing_more_expected(&mut self) {
        self.last = None;
    }
}

impl State {
    /// A transfer is over, and the client has been sent this reply.
    pub fn after_final_reply(self, reply: Reply, surplus: Surplus, cx: &mut Context) -> Self {
        if surplus == Surplus::Same {
            cx.echo.repetition = Repetition::Twice;
        }
        match (surplus, cx.echo.repetition, self) {
            (Surplus::Other, _, state) => state.fail_backend(ProtocolError::UnsolicitedReply, cx),
            (_, Repetition::Twice, Self::Ready(ready)) => ready.fence_off(reply, cx),
            // The backend has been asked something already.
            (Surplus::Same, _, state) => state.fail_backend(ProtocolError::UnsolicitedReply, cx),
            (Surplus::None, _, state) => {
                cx.echo.last = matches!(state, Self::Ready(_)).then_some(reply);
                state
            }
        }
    }
}

impl Ready {
    /// An unsolicited reply: the client's next command might be answered by it.
    pub fn on_reply(self, reply: &Reply, cx: &mut Context) -> State {
        match cx.echo.last.take() {
            Some(last) if last == *reply => {
                cx.echo.repetition = Repetition::Twice;
                self.fence_off(last, cx)
            }
            _ => State::Ready(self).fail_backend(ProtocolError::UnsolicitedReply, cx),
        }
    }

    fn fence_off(self, reply: Reply, cx: &mut Context) -> State {
        cx.request(b"NOOP");
        State::Fenced(Fenced {
            login: self.login,
            reply,
            again: 0,
        })
    }
}

impl Fenced {
    pub fn on_reply(mut self, reply: &Reply, cx: &mut Context) -> State {
        if *reply == self.reply {
            self.again += 1;
            if self.again > MAX_ECHOES {
                return State::Fenced(self).fail_backend(ProtocolError::UnsolicitedReply, cx);
            }
        } else if reply.class() != Class::Preliminary {
            return State::Ready(Ready { login: self.login });
        }
        State::Fenced(self)
    }
}
