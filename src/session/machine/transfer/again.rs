//! Asking the backend for another data port when the one that it has named can't be reached.
//!
//! It shows at the transfer command, which the backend has not heard of by then: nothing is lost but time, and the client
//! keeps its own data connection. A firewall that opens only the ports that it reads in a 227 lets PASV through, and one
//! that opens nothing perhaps PORT.

use super::super::data_port::Request;
use super::super::logged_in::Step;
use super::super::rest::RestOffset;
use super::super::{Action, Machine};
use super::{DataFailure, Missing, Phase, Transfer};
use crate::ftp::reply::{Class, Reply};

impl Transfer {
    /// What the backend is asked for again, if it is.
    pub fn asks_again(&self) -> Option<Request> {
        match self.phase {
            Phase::Asking(request) => Some(request),
            Phase::Opening(_) | Phase::Running(_) | Phase::Aborting(_) => None,
        }
    }
}

impl Machine {
    /// The backend's data port can't be reached.
    pub(super) fn backend_not_reached(&mut self) {
        let Some(transfer) = self.transfer_mut() else {
            return;
        };
        if matches!(transfer.phase, Phase::Opening(Missing::Backend)) {
            transfer.request.is_not_reached();
            let request = transfer.request;
            self.ask_again(request);
        }
    }

    /// Asks in the next way, or fails the transfer. A server may forget a REST or RANG that isn't the last command before
    /// the transfer (RFC 3659 §5.3), and the file would begin where nobody expects it.
    pub(in super::super) fn ask_again(&mut self, request: Request) {
        let asked = if self.rest == RestOffset::NONE {
            self.ask_backend(request)
        } else {
            None
        };
        match (asked, self.transfer_mut()) {
            (Some(request), Some(transfer)) => transfer.phase = Phase::Asking(request),
            _ => {
                // The next transfer is to try what is left, though nobody knows whether that is better.
                if let Some(logged_in) = self.logged_in() {
                    let avoid = &mut logged_in.ports.avoid;
                    *avoid = avoid.and_all(request.failed());
                }
                self.fail_transfer(DataFailure::NoBackend);
            }
        }
    }

    pub(super) fn reply_to_asking(&mut self, mut request: Request, reply: &Reply) {
        if reply.class() == Class::Preliminary {
            return;
        }
        let Some(backend) = request.granted_by(reply) else {
            return self.ask_again(request);
        };
        if let Some(transfer) = self.transfer_mut() {
            transfer.request = request;
            transfer.phase = Phase::Opening(Missing::Backend);
            self.push(Action::RedialBackend(backend));
        }
    }

    /// The transfer is over, and the backend still owes the answer to what it was asked again. The client is not kept
    /// waiting, but its next command is.
    pub(super) fn owe_answer_to_asking(&mut self) {
        self.set_step(Step::ClearingOffset);
    }
}
