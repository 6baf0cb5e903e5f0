//! The fault that broke a transfer's data connections, kept until the session takes the failure.
//!
//! A server that refuses a transfer closes its data connection as well, and its reply may arrive later. The session
//! handles replies first; a fault that it never takes is a consequence of the refusal, and is not logged.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::display;

use super::TransferContext;
use crate::base::{GlobalSessionId, SessionId};
use crate::outcome::Leg;
use crate::tls::{self, HandshakeFault};

/// The faults of one transfer: at most one for each leg.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Vec<ConnectionFault>>>);

#[derive(Debug)]
struct ConnectionFault {
    session: SessionId,
    sent_id: Option<GlobalSessionId>,
    site: String,
    leg: Leg,
    stage: FaultStage,
    error: HandshakeFault,
}

/// The phase of a data connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum FaultStage {
    /// The peer was to connect to us.
    Connect,
    /// It may have done so, and could not be accepted.
    Accept,
    Handshake,
    Transfer,
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Vec<ConnectionFault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs the faults.
    pub(super) fn log(&self) {
        for fault in self.lock().drain(..) {
            fault.log();
        }
    }
}

impl TransferContext {
    /// Notes what a leg failed with.
    pub(super) fn record_fault(&self, leg: Leg, stage: FaultStage, error: &io::Error) {
        self.faults.lock().push(ConnectionFault {
            session: self.session,
            sent_id: self.sent_id,
            site: self.site.clone(),
            leg,
            stage,
            error: tls::classify_error(error),
        });
    }
}

impl ConnectionFault {
    /// The transfer's own line names the connection that failed, this one the cause.
    fn log(&self) {
        let Self {
            session: SessionId(session),
            sent_id,
            site,
            leg,
            stage,
            error,
        } = self;
        let id = sent_id.map(display);
        match (stage, leg) {
            (FaultStage::Connect, _) => {
                tracing::warn!(session, id, site, leg = leg.as_str(), %error, "no data connection came to where PORT said");
            }
            (FaultStage::Accept, _) => {
                tracing::warn!(session, id, site, leg = leg.as_str(), %error, "accepting a data connection failed");
            }
            (FaultStage::Handshake, Leg::Backend) => {
                tracing::warn!(session, id, site, %error, "backend's data connection: TLS handshake failed");
            }
            (FaultStage::Handshake, Leg::Client) => {
                tracing::info!(session, id, site, %error, "client's data connection: TLS handshake failed");
            }
            // What operators can do something about.
            (FaultStage::Transfer, _) if *error == HandshakeFault::Renegotiation => {
                tracing::warn!(session, id, site, leg = leg.as_str(), %error, "data connection broke");
            }
            (FaultStage::Transfer, _) => {
                tracing::info!(session, id, site, leg = leg.as_str(), %error, "data connection broke");
            }
        }
    }
}
