//! The task of one transfer: it opens both legs, moves the bytes, and ends the sink's leg on order.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

use super::TransferContext;
use super::backend_leg::open_backend;
use super::client_connection::{ClientLeg, PreparedClient};
use super::client_leg::{Presence, failure_of, open_client};
use super::fault::FaultStage;
use super::leg::LegEnd;
use super::orders::{Order, OrderReceiver};
use super::stats::StatsRecorder;
use super::throttle::TransferThrottle;
use crate::backend::data::{DataEndpoint, PendingConnection, ReadyConnection};
use crate::base::shortage::is_shortage;
use crate::config::CloseNotify;
use crate::net::data::limited::limited_relay;
use crate::net::data::relay::{RelayEnd, RelayError, first_bytes, relay};
use crate::net::data::sink::Sink;
use crate::net::data::source::{PlainSource, Source, SourceEnd};
use crate::outcome::{Direction, Leg};
use crate::passive::AttributionWatch;
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
    /// Notified when the client's leg is open, or has failed.
    pub(super) client_opened: Arc<Notify>,
    /// Whether the client's connection is this transfer's. None where we connect to the client.
    pub(super) attribution: Option<AttributionWatch>,
    pub(super) moved: Arc<AtomicU64>,
}

/// An upload whose legs are open.
struct OpenUpload {
    client: Source,
    backend: Sink,
}

/// A download or a listing whose legs are open.
struct OpenDownload {
    backend: Source,
    client: Sink,
}

/// How much later than the end of its data connection a backend's refusal may arrive: ProFTPD ends the connection together with
/// its 550.
const REFUSAL_GRACE: Duration = Duration::from_secs(3);

impl Transfer {
    /// Opens what has been prepared, and does all the rest. Resolves only where the backend has refused the transfer and the
    /// client has closed its connection; else what is open stays so until the session drops this task: ABOR has to reach
    /// the backend before a reset.
    pub(super) async fn run(
        self,
        backend: PendingConnection,
        further: mpsc::Receiver<DataEndpoint>,
        client: PreparedClient,
    ) {
        let transfer = pin!(self.transfer(backend, further, client));
        tokio::select! {
            biased;
            () = transfer => {}
            // Another connection may come even when all bytes have gone, and before the client has its reply.
            failure = self.ambiguous() => self.fail(failure).await,
        }
    }

    async fn transfer(
        &self,
        backend: PendingConnection,
        further: mpsc::Receiver<DataEndpoint>,
        client: PreparedClient,
    ) {
        let mut client = ClientLeg::Prepared(client);
        let backend = self.succeed(self.reach(backend, further)).await;
        self.report_event(DataEvent::BackendOpen).await;
        match self.context.direction {
            Direction::Upload => {
                let Some(mut upload) = self.open_upload(backend, &mut client).await else {
                    return;
                };
                let moved = self.succeed(self.upload(&mut upload));
                if self.unless_refused(moved).await.is_none() {
                    drop(upload.backend);
                    return upload.client.close_after_refusal().await;
                }
                self.finish(upload.backend, Leg::Backend).await;
                // Its end has been answered, so that it is closed in order.
                drop(upload.client);
            }
            Direction::Download | Direction::Listing => {
                let Some(mut download) = self.open_download(backend, &mut client).await else {
                    return;
                };
                let moved = self.succeed(self.download(&mut download));
                if self.unless_refused(moved).await.is_none() {
                    drop(download.backend);
                    return download.client.close_after_refusal().await;
                }
                self.finish(download.client, Leg::Client).await;
                drop(download.backend);
            }
        }
        std::future::pending().await
    }

    /// The result of a step. Does not resolve after a failure, which is reported.
    async fn succeed<T>(&self, step: impl Future<Output = Result<T, DataFailure>>) -> T {
        match step.await {
            Ok(done) => done,
            Err(failure) => self.fail(failure).await,
        }
    }

    /// The result of a step; none if the backend refuses the transfer first.
    async fn unless_refused<T>(&self, step: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = step => Some(done),
            () = self.orders.refused() => None,
        }
    }

    /// Resolves if the client's connection is ambiguous.
    async fn ambiguous(&self) -> DataFailure {
        match &self.attribution {
            Some(attribution) => failure_of(attribution.ambiguous().await),
            None => std::future::pending().await,
        }
    }

    /// Whether the client's connection is ambiguous by now.
    async fn not_ambiguous(&self) -> Result<(), DataFailure> {
        tokio::select! {
            biased;
            failure = self.ambiguous() => Err(failure),
            () = std::future::ready(()) => Ok(()),
        }
    }

    /// Waits until the client's connection is certain to be this transfer's: all others at the port have been
    /// identified.
    async fn certain(&self) -> Result<(), DataFailure> {
        let Some(attribution) = &self.attribution else {
            return Ok(());
        };
        match timeout(self.context.timeouts.data_connect, attribution.decided()).await {
            Ok(decided) => decided.map_err(failure_of),
            Err(_) => Err(DataFailure::AnotherConnection),
        }
    }

    /// Never resolves: open connections stay open until the session drops this task.
    async fn fail<T>(&self, failure: DataFailure) -> T {
        if failure.may_be_a_refusal() {
            // With the reply, the session takes the refusal and not this.
            let begun = self.orders.wait_for_order(Order::TransferStarted);
            let _ = timeout(REFUSAL_GRACE, begun).await;
        }
        self.report_event(DataEvent::Failed(failure)).await;
        std::future::pending().await
    }

    async fn report_event(&self, event: DataEvent) {
        // If the session has dropped this transfer, the channel is closed and this task is about to end, too.
        let _ = self.report.send(event).await;
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
            if is_shortage(&error) {
                tracing::warn!(
                    session = self.context.session.0,
                    id = self.context.sent_id.map(tracing::field::display),
                    site = self.context.site,
                    dialled = %target,
                    %error,
                    "connecting to the backend's data port failed on this machine"
                );
                // Another port of the backend is no better.
                return Err(DataFailure::Shortage);
            }
            let announced = target.announced_elsewhere();
            tracing::warn!(
                session = self.context.session.0,
                id = self.context.sent_id.map(tracing::field::display),
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

    /// Opens both legs of an upload, side by side: the backend may wait for our ClientHello as well as the client for its
    /// 150. The command goes out when the client has connected, and has the answer to its ClientHello if that has arrived
    /// by then: a client that gets its 150 within its handshake may end an empty file without close_notify (basic-ftp on
    /// Node.js), and one whose command is refused may take the reset for the reply (curl).
    async fn open_upload(
        &self,
        backend: ReadyConnection,
        client: &mut ClientLeg,
    ) -> Option<OpenUpload> {
        self.succeed(client.connected(&self.context)).await;
        if self.client_tls.is_none() {
            self.succeed(client.check_clear_text()).await;
        }
        let presence = Presence::new();
        let backend = async {
            // A connection that has been reset by now, or that another one makes ambiguous, would cost the file.
            self.succeed(presence.wait()).await;
            self.succeed(self.not_ambiguous()).await;
            self.report_event(DataEvent::ClientConnected).await;
            self.orders.wait_for_order(Order::CommandSent).await;
            self.succeed(open_backend(backend, &self.context, &self.orders))
                .await
        };
        let (client, backend) = self.open_both(client, &presence, backend).await?;
        Some(OpenUpload { client, backend })
    }

    /// Opens both legs of a download, side by side, when the command has been sent.
    async fn open_download(
        &self,
        backend: ReadyConnection,
        client: &mut ClientLeg,
    ) -> Option<OpenDownload> {
        self.orders.wait_for_order(Order::CommandSent).await;
        let presence = Presence::new();
        let backend = self.succeed(open_backend(backend, &self.context, &self.orders));
        let (client, backend) = self.open_both(client, &presence, backend).await?;
        Some(OpenDownload { backend, client })
    }

    /// Opens both legs. None where the backend refuses the transfer meanwhile, when the client has closed its connection: that
    /// is accepted, and its handshake completed, since curl would take a reset in it for the reply.
    async fn open_both<E: LegEnd, B>(
        &self,
        client: &mut ClientLeg,
        presence: &Presence,
        backend: impl Future<Output = B>,
    ) -> Option<(E, B)> {
        let tls = self.client_tls.as_ref();
        let opening = open_client(client, presence, tls, &self.context, &self.orders);
        let mut opening = pin!(opening);
        // The result of `opening`, once there is one: it may have failed when the refusal comes.
        let mut client = None;
        let both = async {
            let opened = async {
                let opened = client.insert(opening.as_mut().await);
                self.client_opened.notify_one();
                if let Err(failure) = opened {
                    self.fail::<()>(*failure).await;
                }
            };
            tokio::join!(biased; opened, backend).1
        };
        if let Some(backend) = self.unless_refused(both).await {
            return Some((client?.ok()?, backend));
        }
        let client = match client {
            Some(opened) => opened,
            None => opening.await,
        };
        self.client_opened.notify_one();
        if let Ok(client) = client {
            client.close_after_refusal().await;
        }
        None
    }

    async fn upload(&self, upload: &mut OpenUpload) -> Result<(), DataFailure> {
        let OpenUpload { client, backend } = upload;
        let time_limit = self.context.timeouts.data_idle;
        let ended_at_once = match client {
            Source::Plain(plain) => self.check_for_client_hello(plain).await?,
            Source::FromClient(_) | Source::FromBufferedClient(_) | Source::FromBackend(_) => None,
        };
        let RelayEnd { end, stalled_since } = self
            .relay(client, backend)
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

    async fn download(&self, download: &mut OpenDownload) -> Result<(), DataFailure> {
        let OpenDownload { backend, client } = download;
        let time_limit = self.context.timeouts.data_idle;
        let ended = self
            .relay(backend, client)
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

    async fn relay(&self, source: &mut Source, sink: &mut Sink) -> Result<RelayEnd, RelayError> {
        let TransferContext {
            metrics,
            site,
            direction,
            limits,
            stats,
            ..
        } = &self.context;
        let recorder = StatsRecorder {
            moved: &self.moved,
            stats,
        };
        // Rare parts are in a box, since they would make every transfer's task larger.
        match limits {
            None if stats.is_of_content() => {
                Box::pin(relay(source, sink, &self.orders, &recorder)).await
            }
            None => relay(source, sink, &self.orders, &*self.moved).await,
            Some(limits) => {
                let throttle = TransferThrottle::new(limits, metrics, site, *direction);
                if stats.is_of_content() {
                    let orders = &self.orders;
                    Box::pin(limited_relay(source, sink, orders, &recorder, &throttle)).await
                } else {
                    let (orders, moved) = (&self.orders, &*self.moved);
                    Box::pin(limited_relay(source, sink, orders, moved, &throttle)).await
                }
            }
        }
    }

    /// Ends the sink's leg when the verdict is in.
    async fn finish(&self, mut sink: Sink, leg: Leg) {
        self.orders.wait_for_order(Order::FinishSink).await;
        self.succeed(self.certain()).await;
        self.succeed(self.end(&mut sink, leg)).await;
        if leg == Leg::Backend && !sink.is_tls() {
            self.report_event(DataEvent::Ended).await;
            // A kernel resets a connection that is closed with bytes unread. The session says how long this may take.
            let closed = async { sink.drain().await.map_err(|error| self.lost(leg, &error)) };
            self.succeed(closed).await;
        } else {
            self.context.lingering.add_sink(sink);
        }
        self.report_event(DataEvent::Finished).await;
    }

    async fn end(&self, sink: &mut Sink, leg: Leg) -> Result<(), DataFailure> {
        match timeout(self.context.timeouts.data_idle, sink.finish()).await {
            Ok(ended) => ended.map_err(|error| self.lost(leg, &error)),
            Err(_) => Err(idle(leg)),
        }
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
            _ if is_shortage(error) => DataFailure::Shortage,
            Leg::Client => DataFailure::ClientLost,
            Leg::Backend => DataFailure::BackendLost,
        }
    }
}

fn idle(leg: Leg) -> DataFailure {
    match leg {
        Leg::Client => DataFailure::ClientIdle,
        Leg::Backend => DataFailure::BackendIdle,
    }
}
