//! The task of one transfer: it opens both legs, moves the bytes, and ends the sink's leg on order.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::fault::FaultStage;
use super::legs::{OpenLeg, OpenLegs, open_client, secure_backend};
use super::orders::OrderReceiver;
use super::{Order, PreparedClient, TransferContext};
use crate::backend::data::{DataEndpoint, PendingConnection, ReadyConnection};
use crate::config::CloseNotify;
use crate::ftp::command::Direction;
use crate::net::relay::{RelayEnd, RelayError, first_bytes, relay};
use crate::net::source::{PlainSource, Source, SourceEnd};
use crate::net::stream::Stream;
use crate::observe::metrics::Leg;
use crate::passive::{Ambiguity, AttributionWatch};
use crate::session::machine::{DataEvent, DataFailure};
use crate::tls::DataTls;
use crate::tls::client_hello::{self, ClientHello};

/// A load balancer ends a connection that has stood still for its own time with FIN, as a client ends its file. Clients end
/// a file at once behind its last byte, and no balancer's time is as short as this.
const BALANCER_STALL: Duration = Duration::from_secs(2);

/// The task behind [`RunningData`].
pub(super) struct Transfer {
    pub(super) context: TransferContext,
    pub(super) client_tls: Option<DataTls>,
    pub(super) report: mpsc::Sender<DataEvent>,
    pub(super) orders: OrderReceiver,
    /// Whether the client's connection is this transfer's. None where we connect to the client.
    pub(super) attribution: Option<AttributionWatch>,
    pub(super) moved: Arc<AtomicU64>,
}

impl Transfer {
    /// Opens what has been prepared, and does all the rest.
    pub(super) async fn run(
        self,
        backend: PendingConnection,
        further: mpsc::Receiver<DataEndpoint>,
        mut client: PreparedClient,
    ) {
        let mut open = OpenLegs::default();
        let done = tokio::select! {
            biased;
            done = self.transfer(backend, further, &mut client, &mut open) => done,
            failure = self.ambiguous() => Err(failure),
        };
        match done {
            // Another connection may come before the client has its reply.
            Ok(()) => self.fail(self.ambiguous().await).await,
            Err(failure) => self.fail(failure).await,
        }
    }

    /// Resolves if the client's connection is ambiguous.
    async fn ambiguous(&self) -> DataFailure {
        match &self.attribution {
            Some(attribution) => failure_of(attribution.ambiguous().await),
            None => std::future::pending().await,
        }
    }

    /// Waits until the client's connection is certain to be this transfer's: all others at the port have been
    /// identified.
    async fn certain(&self) -> Result<(), DataFailure> {
        let Some(attribution) = &self.attribution else {
            return Ok(());
        };
        match timeout(self.context.timeouts.data_connect, attribution.settled()).await {
            Ok(settled) => settled.map_err(failure_of),
            Err(_) => Err(DataFailure::AnotherConnection),
        }
    }

    /// Never resolves: open connections stay open until the session drops this task. ABOR has to reach the backend
    /// before the reset.
    async fn fail<T>(&self, failure: DataFailure) -> T {
        self.report_event(DataEvent::Failed(failure)).await;
        std::future::pending().await
    }

    async fn report_event(&self, event: DataEvent) {
        // If the session has dropped this transfer, the channel is closed and this task is about to end, too.
        let _ = self.report.send(event).await;
    }

    async fn transfer(
        &self,
        backend: PendingConnection,
        further: mpsc::Receiver<DataEndpoint>,
        client: &mut PreparedClient,
        open: &mut OpenLegs,
    ) -> Result<(), DataFailure> {
        let backend = self.reach(backend, further).await?;
        self.report_event(DataEvent::BackendOpen).await;
        if self.context.direction == Direction::Upload {
            client.connected(&self.context).await?;
            if self.client_tls.is_none() {
                client.check_clear_text().await?;
            }
            self.report_event(DataEvent::ClientConnected).await;
        }
        self.orders.wait_for_order(Order::CommandSent).await;
        self.open(backend, client, open).await;
        match (&mut open.client, &mut open.backend) {
            (Some(OpenLeg::Source(client)), Some(OpenLeg::Sink(backend))) => {
                self.upload(client, backend).await?;
                self.finish(&mut open.backend, Leg::Backend).await
            }
            (Some(OpenLeg::Sink(client)), Some(OpenLeg::Source(backend))) => {
                self.download(client, backend).await?;
                self.finish(&mut open.client, Leg::Client).await
            }
            _ => Err(DataFailure::NoBackend),
        }
    }

    /// Reaches the backend's data port, or another one that the session gets from it: nothing has been lost by then.
    async fn reach(
        &self,
        mut backend: PendingConnection,
        mut further: mpsc::Receiver<DataEndpoint>,
    ) -> Result<ReadyConnection, DataFailure> {
        loop {
            let (target, error) = match backend.ready().await {
                Ok(reached) => return Ok(reached),
                Err(failed) => failed.ok_or(DataFailure::Internal)?,
            };
            let announced = target.announced_elsewhere();
            tracing::warn!(
                session = self.context.session.0,
                site = self.context.site,
                dialled = %target,
                announced = announced.map(tracing::field::display),
                %error,
                "backend's data port not reached{}",
                if announced.is_some() {
                    ": it has announced another address than that of its control connection, which is not followed"
                } else {
                    ""
                }
            );
            self.report_event(DataEvent::BackendNotReached).await;
            // Without another one, the session drops this task.
            let port = further.recv().await.ok_or(DataFailure::NoBackend)?;
            backend = PendingConnection::start(port, self.context.timeouts.data_connect);
        }
    }

    /// Opens both legs side by side: the backend may wait for our hello as well as the client for its 150.
    async fn open(
        &self,
        backend: ReadyConnection,
        client: &mut PreparedClient,
        open: &mut OpenLegs,
    ) {
        let client_tls = self.client_tls.as_ref();
        let mut backend = pin!(async {
            // One that connects to us may do so before its 1yz or after it: until then it has the time for a reply.
            let socket = backend.connection(self.orders.backend_timed_out()).await;
            let socket = socket.map_err(|_| DataFailure::NoBackend)?;
            open.backend = Some(secure_backend(socket, &self.context, &self.orders).await?);
            Ok(())
        });
        let mut client = pin!(async {
            open.client = Some(open_client(client, client_tls, &self.context, &self.orders).await?);
            Ok(())
        });
        if let Err(failure) = tokio::try_join!(backend.as_mut(), client.as_mut()) {
            // While the other one is still here, in the middle of its handshake.
            self.fail(failure).await
        }
    }

    async fn upload(&self, client: &mut Source, backend: &mut Stream) -> Result<(), DataFailure> {
        let time_limit = self.context.timeouts.data_idle;
        let ended_at_once = match client {
            Source::Plain(plain) => self.check_for_client_hello(plain).await?,
            Source::FromClient(_) | Source::FromBufferedClient(_) | Source::FromBackend(_) => None,
        };
        let RelayEnd { end, stalled_since } = relay(client, backend, &self.orders, &self.moved)
            .await
            .map_err(|error| self.failure(error, Leg::Client))?;
        let stalled = ended_at_once
            .or(stalled_since)
            .is_some_and(|since| self.orders.stalled_for(since) >= BALANCER_STALL);
        let proven = match (end, self.context.close_notify) {
            (SourceEnd::CloseNotify, _) => true,
            (SourceEnd::Fin, _) | (SourceEnd::Unclean, CloseNotify::Optional) => false,
            (SourceEnd::Unclean, CloseNotify::Require) => return Err(DataFailure::ClientUnclean),
        };
        if !proven && stalled && self.is_relayed(client) {
            return Err(DataFailure::ClientStalled);
        }
        // Python's unwrap() waits for our close_notify before it reads the reply. How the client takes it doesn't
        // matter: all its bytes are here.
        let _ = timeout(time_limit, client.finish()).await;
        self.report_event(DataEvent::SourceEnded { proven }).await;
        Ok(())
    }

    /// Without TLS, an upload that begins with a complete ClientHello comes from a client that speaks TLS: it may not
    /// have noticed that its PROT P was refused. Returns since when the client had stalled, if it has ended meanwhile.
    async fn check_for_client_hello(
        &self,
        client: &mut PlainSource,
    ) -> Result<Option<Instant>, DataFailure> {
        let decided = |bytes: &[u8]| client_hello::read(bytes) != ClientHello::Incomplete;
        let stalled_since = first_bytes(client, decided, &self.orders)
            .await
            .map_err(|error| self.failure(error, Leg::Client))?;
        match client_hello::read(client.buffer()) {
            ClientHello::Names(_) => Err(DataFailure::UnexpectedTls),
            ClientHello::Incomplete | ClientHello::Other => Ok(stalled_since),
        }
    }

    /// Whether a load balancer has made the client's data connection.
    fn is_relayed(&self, client: &Source) -> bool {
        let peer = client.socket().peer_addr();
        peer.is_ok_and(|peer| peer.ip().to_canonical() != self.context.client)
    }

    async fn download(&self, client: &mut Stream, backend: &mut Source) -> Result<(), DataFailure> {
        let time_limit = self.context.timeouts.data_idle;
        let ended = relay(backend, client, &self.orders, &self.moved)
            .await
            .map_err(|error| self.failure(error, Leg::Backend))?;
        if ended.end == SourceEnd::Unclean {
            // IIS never sends close_notify. Its 226 decides; without one nothing here is complete.
            self.context
                .metrics
                .backend_unclean_close(&self.context.site);
        }
        // At once: ProFTPD keeps its 226 back until its peer has closed.
        let _ = timeout(time_limit, backend.finish()).await;
        self.report_event(DataEvent::SourceEnded { proven: true })
            .await;
        Ok(())
    }

    /// Ends the sink's leg when the verdict is in.
    async fn finish(&self, sink: &mut Option<OpenLeg>, leg: Leg) -> Result<(), DataFailure> {
        self.orders.wait_for_order(Order::FinishSink).await;
        self.certain().await?;
        let Some(OpenLeg::Sink(stream)) = sink else {
            return Ok(());
        };
        match timeout(self.context.timeouts.data_idle, stream.finish()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(self.lost(leg, &error)),
            Err(_) => return Err(idle(leg)),
        }
        if leg == Leg::Backend && !stream.is_tls() {
            self.report_event(DataEvent::Ended).await;
            // A kernel resets a connection that is closed with bytes unread. The session says how long this may take.
            let closed = stream.drain().await;
            closed.map_err(|error| self.lost(leg, &error))?;
        } else if let Some(OpenLeg::Sink(stream)) = sink.take() {
            self.context.lingering.add(stream);
        }
        self.report_event(DataEvent::Finished).await;
        Ok(())
    }

    fn failure(&self, error: RelayError, source: Leg) -> DataFailure {
        let sink = match source {
            Leg::Client => Leg::Backend,
            Leg::Backend => Leg::Client,
        };
        match error {
            RelayError::SourceIdle | RelayError::SinkIdle
                if !self.orders.has_transfer_started() =>
            {
                DataFailure::NoFinalReply
            }
            RelayError::Source(error) => self.lost(source, &error),
            RelayError::SourceIdle => idle(source),
            RelayError::Sink(error) => self.lost(sink, &error),
            RelayError::SinkIdle => idle(sink),
        }
    }

    fn lost(&self, leg: Leg, error: &io::Error) -> DataFailure {
        self.context.record_fault(leg, FaultStage::Transfer, error);
        match leg {
            Leg::Client => DataFailure::ClientLost,
            Leg::Backend => DataFailure::BackendLost,
        }
    }
}

pub(super) fn failure_of(ambiguity: Ambiguity) -> DataFailure {
    match ambiguity {
        Ambiguity::AnotherConnection => DataFailure::AnotherConnection,
        Ambiguity::LateConnection => DataFailure::LateConnection,
        Ambiguity::Withdrawn => DataFailure::PortWithdrawn,
    }
}

fn idle(leg: Leg) -> DataFailure {
    match leg {
        Leg::Client => DataFailure::ClientIdle,
        Leg::Backend => DataFailure::BackendIdle,
    }
}
