//! Servers that say the reply to a transfer twice (dionaea did).
//!
//! Clients take the first one, and so does the verdict. The second one must not become the answer to the client's next
//! command, so a NOOP goes out as a fence: what is the same reply again in front of its answer is dropped. Once a server
//! is known to do so, every transfer is followed by that fence, since the second reply may come late. A second reply in
//! other words is one that nothing asked for, and ends the session when the transfer has ended.

use super::logged_in::Step;
use super::{Machine, ProtocolError};
use crate::ftp::reply::{Class, Reply};

/// What is known of a server's second replies.
#[derive(Debug, Default)]
pub(super) struct Echo {
    /// The reply to a transfer, if nothing has been sent since.
    last: Option<Reply>,
    habit: Habit,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Habit {
    #[default]
    Once,
    Twice,
}

/// What came behind a transfer's 2xx before its data connections had ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Surplus {
    #[default]
    None,
    /// The same again.
    Same,
    /// Something else.
    Other,
}

impl Echo {
    /// Something has been sent: what comes now may be its answer.
    pub fn nothing_more_expected(&mut self) {
        self.last = None;
    }
}

impl Machine {
    /// A transfer is over, and the client has been told so in these words.
    pub(super) fn over_with(&mut self, reply: Reply, surplus: Surplus) {
        if surplus == Surplus::Same {
            self.echo.habit = Habit::Twice;
        }
        let is_ready = self.logged_in().is_some_and(|it| it.is_ready());
        match (surplus, self.echo.habit) {
            (Surplus::Other, _) => self.drop_backend(ProtocolError::UnsolicitedReply),
            (_, Habit::Twice) if is_ready => self.fence_off(reply),
            // The backend has been asked something already.
            (Surplus::Same, Habit::Once | Habit::Twice) => {
                self.drop_backend(ProtocolError::UnsolicitedReply)
            }
            (Surplus::None, _) => self.echo.last = is_ready.then_some(reply),
        }
    }

    /// A reply that nothing has asked for.
    pub(super) fn unasked(&mut self, reply: &Reply) {
        match self.echo.last.take() {
            Some(last) if last == *reply => {
                self.echo.habit = Habit::Twice;
                self.fence_off(last);
            }
            _ => self.drop_backend(ProtocolError::UnsolicitedReply),
        }
    }

    fn fence_off(&mut self, reply: Reply) {
        self.send(b"NOOP");
        self.set_step(Step::Fenced { reply, again: 0 });
    }

    pub(super) fn reply_to_fence(&mut self, reply: &Reply) {
        let Some(logged_in) = self.logged_in() else {
            return;
        };
        let Step::Fenced {
            reply: twice,
            again,
        } = &mut logged_in.step
        else {
            return;
        };
        if reply == twice {
            *again += 1;
            if *again > MAX_ECHOES {
                self.drop_backend(ProtocolError::UnsolicitedReply);
            }
        } else if reply.class() != Class::Preliminary {
            self.set_step(Step::Ready);
        }
    }
}

/// How often a reply may come again.
const MAX_ECHOES: u32 = 3;
