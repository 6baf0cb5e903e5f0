//! Opens the backend's leg of a transfer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::TcpStream;

use super::TransferContext;
use super::fault::FaultStage;
use super::leg::{LegEnd, secure, set_options};
use super::orders::OrderReceiver;
use crate::backend::data::ReadyConnection;
use crate::base::shortage::is_shortage;
use crate::net::deadline::elapsed;
use crate::outcome::Leg;
use crate::session::machine::DataFailure;
use crate::tls::BackendSessionTls;

/// Whether the backend has accepted its data connection for the transfer. That the kernels have connected does not show it, and in
/// clear text nothing does before the first byte.
#[derive(Debug, Clone, Default)]
pub struct Acceptance(Option<Arc<AtomicBool>>);

impl Acceptance {
    /// Of a transfer whose backend's leg has this TLS, if any.
    pub fn of(tls: Option<&BackendSessionTls>) -> Self {
        Self(tls.map(|_| Arc::default()))
    }

    fn note(&self) {
        if let Some(shown) = &self.0 {
            shown.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it has been shown so far.
    pub fn is_shown(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|shown| shown.load(Ordering::Relaxed))
    }
}

/// Waits for the backend's connection, and does the handshake if the leg is under TLS.
pub(super) async fn open_backend<E: LegEnd>(
    backend: ReadyConnection,
    context: &TransferContext,
    orders: &OrderReceiver,
) -> Result<E, DataFailure> {
    // A backend that connects to us may do so before its 1yz or after it: until then it has the time for a reply.
    let socket = backend.connection(orders.backend_timed_out()).await;
    let socket = socket.map_err(|error| {
        let (stage, failure) = if is_shortage(&error) {
            (FaultStage::Accept, DataFailure::Shortage)
        } else {
            (FaultStage::Connect, DataFailure::BackendDidNotConnect)
        };
        context.record_fault(Leg::Backend, stage, &error);
        failure
    })?;
    secure_backend(socket, context, orders).await
}

async fn secure_backend<E: LegEnd>(
    socket: TcpStream,
    context: &TransferContext,
    orders: &OrderReceiver,
) -> Result<E, DataFailure> {
    set_options(&socket, context);
    let Some(tls) = &context.backend_tls else {
        return Ok(E::plain(socket, Vec::new()));
    };
    let handshake = E::to_backend(socket, tls.config(), tls.server_name());
    let handshake = context.lingering.complete(handshake);
    let too_late = async {
        if let Err(silent) = orders.transfer_started().await {
            return silent;
        }
        elapsed(context.timeouts.tls_handshake).await;
        DataFailure::BackendHandshake
    };
    let done = secure(handshake, too_late, Leg::Backend, context).await?;
    // One that came before the 1yz shows less: the backend may have lost the connection again before it read the command.
    if done.is_ok() && orders.has_transfer_started() {
        context.acceptance.note();
    }
    done.map_err(|error| {
        context.record_fault(Leg::Backend, FaultStage::Handshake, &error);
        DataFailure::BackendHandshake
    })
}
