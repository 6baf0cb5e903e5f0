//! The backend's 2xx to a transfer, until the data connections have borne it out.

use super::super::echo::Surplus;
use super::super::{State, context::Context};
use super::{Details, Outcome};
use crate::ftp::reply::Reply;

/// The backend calls the transfer complete.
#[derive(Debug)]
pub(super) struct Confirmed {
    reply: Reply,
    /// The backend's replies after that one.
    surplus: Surplus,
}

/// The backend sends one reply after the other, which would keep the session from its data connections.
pub(super) struct TooManyReplies;

impl Confirmed {
    pub fn new(reply: Reply) -> Self {
        Self {
            reply,
            surplus: Surplus::None,
        }
    }

    /// Records another 2xx. The first one counts; this one is handled when the transfer has ended.
    pub fn repeat(&mut self, reply: &Reply) -> Result<(), TooManyReplies> {
        self.surplus = match self.surplus {
            Surplus::None if *reply == self.reply => Surplus::Same,
            Surplus::None | Surplus::Same => Surplus::Other,
            Surplus::Other => return Err(TooManyReplies),
        };
        Ok(())
    }

    /// Passes the 2xx on: the data connections have ended as they should.
    pub fn conclude(self, details: Box<Details>, cx: &mut Context) -> State {
        cx.forward(&self.reply);
        let code = self.reply.number();
        details
            .end(Outcome::Complete, code, cx)
            .after_final_reply(self.reply, self.surplus, cx)
    }
}
