//! One transfer and its data connections: made ready at PASV or PORT, opened by the transfer command, ended by the verdict.
//!
//! `prepared` holds a transfer's data connections before the command, `running` the session's side of them after it. Both legs
//! live in one task (`task`), which reports [`DataEvent`](super::machine::DataEvent)s and takes [`Order`]s. `client_leg` accepts
//! and authenticates the client, `backend_leg` does its part with the backend, and what they become is a
//! [source](crate::net::data::source::Source) and a [sink](crate::net::data::sink::Sink). Whatever ends the task drops its
//! sockets, and while the lingering of one is armed, its peer sees a reset. The sink's is armed until the order to finish it; the
//! source's only until the source has ended and been answered with our own end.

mod backend_leg;
mod client_arrival;
mod client_connection;
mod client_leg;
mod early;
mod fault;
mod leg;
mod lingering;
mod orders;
mod prepared;
mod running;
mod stats;
mod task;
mod throttle;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{GlobalSessionId, SessionId};
use crate::config::{CloseNotify, Timeouts};
use crate::observe::metrics::Metrics;
use crate::outcome::Direction;
use crate::tls::BackendSessionTls;

pub use backend_leg::Acceptance;
pub use early::EarlyHandshake;
pub use fault::Faults;
pub use lingering::Lingering;
pub use orders::Order;
pub use prepared::PreparedData;
pub use running::RunningData;
pub use stats::TransferStats;
pub use throttle::{ThrottledTime, TransferLimits};

/// The parts of a session that a transfer's task needs.
#[derive(Debug)]
pub struct TransferContext {
    /// The direction of the bytes.
    pub direction: Direction,
    /// The backend leg's TLS.
    pub backend_tls: Option<BackendSessionTls>,
    /// All deadlines.
    pub timeouts: Timeouts,
    /// How long the client may send nothing on a connection under TLS, once the transfer has begun.
    pub silence: Duration,
    /// Counts handshakes and unclean ends.
    pub metrics: Arc<Metrics>,
    /// The site's name, for the metrics.
    pub site: String,
    /// The session of the transfer.
    pub session: SessionId,
    /// The session's id as its backend knows it, if it was sent it: for the log.
    pub sent_id: Option<GlobalSessionId>,
    /// The client's address, which is not that of a load balancer's connection.
    pub client: IpAddr,
    /// How an upload under TLS has to end.
    pub close_notify: CloseNotify,
    /// The finished sinks that are left to be drained.
    pub lingering: Lingering,
    /// Whether the backend has accepted its data connection.
    pub acceptance: Acceptance,
    /// The faults that broke the connections.
    pub faults: Faults,
    /// The limits of its rate, if it is limited.
    pub limits: Option<TransferLimits>,
    /// The measurements for the transfer's records.
    pub stats: TransferStats,
}

#[cfg(test)]
mod tests;
