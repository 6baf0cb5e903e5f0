//! The data connections of a session: made ready at PASV or PORT, opened by the transfer command, ended by the verdict.
//!
//! Both legs of one transfer live in one task, which reports [`DataEvent`]s and takes [`Order`]s. Whatever ends that
//! task without an order to proceed drops its sockets, and since their lingering is armed, both peers see a reset.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::ServerConnection;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::state::{DataEvent, DataFailure, Prepared};
use crate::config::Timeouts;
use crate::ftp::command::Direction;
use crate::net::connect;
use crate::net::relay::{Broken, SourceEnd, relay};
use crate::net::stream::Stream;
use crate::observe::metrics::{DataHandshake, Leg, Metrics};
use crate::passive::{Arrived, Caller, Lease};
use crate::tls::{BackendSessionTls, DataTls, SessionId};

/// Data connections between the data port command and the transfer command.
#[derive(Debug)]
pub struct PreparedData {
    backend: Task<io::Result<TcpStream>>,
    client: PreparedClient,
}

#[derive(Debug)]
enum PreparedClient {
    /// The client connects.
    Passive {
        /// The port that it may connect to; `None` if none became free in time.
        port: oneshot::Receiver<Option<u16>>,
        arrival: Task<Result<Guest, DataFailure>>,
        /// Whether somebody has been turned away there.
        strangers: watch::Receiver<bool>,
    },
    /// We connect when the transfer begins.
    Active { to: SocketAddr, from: IpAddr },
}

/// A client that has connected, and the lease with which another one may do so in its place.
#[derive(Debug)]
struct Guest {
    lease: Lease,
    arrived: Arrived,
}

/// The data connections of the running transfer.
#[derive(Debug)]
pub struct RunningData {
    events: mpsc::Receiver<DataEvent>,
    orders: mpsc::Sender<Order>,
    moved: Arc<AtomicU64>,
    began: Instant,
    _task: Task<()>,
}

/// What a transfer's task is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The transfer command is out.
    Begin,
    /// End the sink's leg in order.
    Proceed,
}

/// What a transfer needs to know about its legs.
#[derive(Debug)]
pub struct Legs {
    /// Which way the bytes go.
    pub direction: Direction,
    /// The backend leg's TLS.
    pub backend_tls: Option<BackendSessionTls>,
    /// All deadlines.
    pub timeouts: Timeouts,
    /// Where handshakes and the backend's manners are counted.
    pub metrics: Arc<Metrics>,
    /// The site's name, for the metrics.
    pub site: String,
    /// Whose transfer it is.
    pub session: SessionId,
}

/// A task that ends with its handle.
#[derive(Debug)]
struct Task<T> {
    handle: JoinHandle<T>,
    abort: AbortHandle,
}

impl<T: Send + 'static> Task<T> {
    fn spawn(future: impl Future<Output = T> + Send + 'static) -> Self {
        let handle = tokio::spawn(future);
        Self {
            abort: handle.abort_handle(),
            handle,
        }
    }

    /// `None` if the task panicked.
    async fn join(&mut self) -> Option<T> {
        (&mut self.handle).await.ok()
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

impl PreparedData {
    /// Begins to connect to the backend's data port, and to lease a port for the client and wait there for it.
    pub fn passive(
        backend: SocketAddr,
        backend_from: IpAddr,
        leasing: impl Future<Output = Option<Lease>> + Send + 'static,
        timeouts: &Timeouts,
    ) -> Self {
        let patience = timeouts.data_connect;
        let (announce, port) = oneshot::channel();
        let (turned_away, strangers) = watch::channel(false);
        let arrival = async move {
            let lease = leasing.await;
            let _ = announce.send(lease.as_ref().map(Lease::port));
            let lease = lease.ok_or(DataFailure::NoClient)?;
            let on_stranger = || {
                turned_away.send_replace(true);
            };
            guest(lease, Instant::now() + patience, on_stranger).await
        };
        Self {
            backend: connect_backend(backend, backend_from, patience),
            client: PreparedClient::Passive {
                port,
                arrival: Task::spawn(arrival),
                strangers,
            },
        }
    }

    /// Begins to connect to the backend's data port; the client is connected to when the transfer begins.
    pub fn active(
        backend: SocketAddr,
        backend_from: IpAddr,
        to: SocketAddr,
        from: IpAddr,
        timeouts: &Timeouts,
    ) -> Self {
        Self {
            backend: connect_backend(backend, backend_from, timeouts.data_connect),
            client: PreparedClient::Active { to, from },
        }
    }

    /// Waits for the client's data port, unless it has been waited for. May be cancelled.
    pub async fn prepared(&mut self) -> Prepared {
        match &mut self.client {
            PreparedClient::Active { .. } => Prepared::Active,
            PreparedClient::Passive { port, .. } => match port.await {
                Ok(Some(port)) => Prepared::Passive(port),
                Ok(None) | Err(_) => Prepared::NoPort,
            },
        }
    }

    /// Starts the transfer's task; without `client_tls` the client leg is plain.
    pub fn open(self, legs: Legs, client_tls: Option<DataTls>) -> RunningData {
        // As many as there can be, so that the task never waits for the session.
        let (report, events) = mpsc::channel(4);
        let (orders, told) = mpsc::channel(2);
        let moved = Arc::new(AtomicU64::new(0));
        let transfer = Transfer {
            prepared: self,
            legs,
            client_tls,
            report,
            told,
            moved: Arc::clone(&moved),
        };
        RunningData {
            events,
            orders,
            moved,
            began: Instant::now(),
            _task: Task::spawn(transfer.run()),
        }
    }
}

/// Right after the backend's 227 or 229: vsftpd, ProFTPD and Pure-FTPd send no 150 before the connection is there.
fn connect_backend(
    to: SocketAddr,
    from: IpAddr,
    patience: Duration,
) -> Task<io::Result<TcpStream>> {
    Task::spawn(async move { timeout(patience, connect::data(to, from)).await? })
}

impl RunningData {
    /// The next event. May be cancelled.
    pub async fn event(&mut self) -> DataEvent {
        match self.events.recv().await {
            Some(event) => event,
            // The task is over and has said all it had to say.
            None => std::future::pending().await,
        }
    }

    /// Tells the transfer's task.
    pub fn order(&self, order: Order) {
        // There are never more orders than the channel holds; a task that is over needs none.
        let _ = self.orders.try_send(order);
    }

    /// How many bytes have gone from the source to the sink so far.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// How long ago the transfer command came.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

/// The task behind [`RunningData`].
struct Transfer {
    prepared: PreparedData,
    legs: Legs,
    client_tls: Option<DataTls>,
    report: mpsc::Sender<DataEvent>,
    told: mpsc::Receiver<Order>,
    moved: Arc<AtomicU64>,
}

/// The connections of both legs, as far as they are open.
#[derive(Debug, Default)]
struct OpenLegs {
    client: Option<Stream>,
    backend: Option<Stream>,
}

impl Drop for OpenLegs {
    fn drop(&mut self) {
        // An upload that is broken off has never read from its backend.
        if let Some(backend) = &mut self.backend {
            backend.keep_tickets();
        }
    }
}

impl Transfer {
    async fn run(mut self) {
        let mut open = OpenLegs::default();
        if let Err(failure) = self.transfer(&mut open).await {
            self.tell(DataEvent::Failed(failure)).await;
            // The legs stay open until the session drops this task: the backend has to hear ABOR before the reset.
            std::future::pending().await
        }
    }

    async fn tell(&self, event: DataEvent) {
        // Nobody listens any more once the session has dropped this transfer, and then this task ends, too.
        let _ = self.report.send(event).await;
    }

    async fn ordered(&mut self, order: Order) {
        loop {
            match self.told.recv().await {
                Some(told) if told == order => return,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }

    async fn transfer(&mut self, open: &mut OpenLegs) -> Result<(), DataFailure> {
        let socket = match self.prepared.backend.join().await {
            Some(Ok(socket)) => socket,
            Some(Err(error)) => {
                tracing::warn!(site = %self.legs.site, %error, "backend's data port not reached");
                return Err(DataFailure::NoBackend);
            }
            None => return Err(DataFailure::NoBackend),
        };
        self.tell(DataEvent::BackendOpen).await;
        self.ordered(Order::Begin).await;

        let backend = async {
            open.backend = Some(secure_backend(socket, &self.legs).await?);
            Ok(())
        };
        let client = async {
            open.client = Some(
                open_client(
                    &mut self.prepared.client,
                    self.client_tls.as_ref(),
                    &self.legs,
                )
                .await?,
            );
            Ok(())
        };
        // Side by side: the backend may wait for our hello as well as the client for its 150. The backend first: its
        // socket has to be among the open legs when the client fails at once, or it would be reset before ABOR is said.
        tokio::try_join!(biased; backend, client)?;
        let (Some(client), Some(backend)) = (&mut open.client, &mut open.backend) else {
            return Err(DataFailure::NoBackend);
        };
        match self.legs.direction {
            Direction::Upload => {
                self.upload(client, backend).await?;
                self.finish(&mut open.backend, Leg::Backend).await
            }
            Direction::Download | Direction::Listing => {
                self.download(client, backend).await?;
                self.finish(&mut open.client, Leg::Client).await
            }
        }
    }

    async fn upload(&self, client: &mut Stream, backend: &mut Stream) -> Result<(), DataFailure> {
        let patience = self.legs.timeouts.data_idle;
        let end = relay(client, backend, patience, &self.moved)
            .await
            .map_err(|broken| failure(broken, Leg::Client))?;
        let proven = match end {
            SourceEnd::CloseNotify => true,
            SourceEnd::Fin => false,
            SourceEnd::Unclean => return Err(DataFailure::ClientUnclean),
        };
        // Python's unwrap() waits for our close_notify before it reads the reply. How the client takes it doesn't
        // matter: all its bytes are here.
        let _ = timeout(patience, client.finish()).await;
        self.tell(DataEvent::SourceEnded { proven }).await;
        Ok(())
    }

    async fn download(&self, client: &mut Stream, backend: &mut Stream) -> Result<(), DataFailure> {
        let patience = self.legs.timeouts.data_idle;
        let end = relay(backend, client, patience, &self.moved)
            .await
            .map_err(|broken| failure(broken, Leg::Backend))?;
        if end == SourceEnd::Unclean {
            // IIS never sends close_notify. Its 226 decides; without one nothing here is complete.
            self.legs.metrics.backend_unclean_close(&self.legs.site);
        }
        // At once: ProFTPD keeps its 226 back until its peer has closed.
        let _ = timeout(patience, backend.finish()).await;
        self.tell(DataEvent::SourceEnded { proven: true }).await;
        Ok(())
    }

    /// Ends the sink's leg when the verdict is in.
    async fn finish(&mut self, sink: &mut Option<Stream>, leg: Leg) -> Result<(), DataFailure> {
        self.ordered(Order::Proceed).await;
        let Some(stream) = sink else {
            return Ok(());
        };
        match timeout(self.legs.timeouts.data_idle, stream.finish()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(lost(leg)),
            Err(_) => return Err(idle(leg)),
        }
        // On its own, since the session goes on: the peer may still have to read, and a reset would take it away.
        if let Some(mut stream) = sink.take() {
            tokio::spawn(async move {
                let _ = timeout(LINGER, stream.drain()).await;
            });
        }
        self.tell(DataEvent::Finished).await;
        Ok(())
    }
}

async fn secure_backend(socket: TcpStream, legs: &Legs) -> Result<Stream, DataFailure> {
    let Some(tls) = &legs.backend_tls else {
        return Ok(Stream::Plain(socket));
    };
    let handshake = TlsConnector::from(tls.config()).connect(tls.server_name(), socket);
    let stream = match timeout(legs.timeouts.tls_handshake, handshake).await {
        Ok(Ok(stream)) => Stream::ToBackend(Box::new(stream)),
        Ok(Err(error)) => {
            let fault = crate::tls::explain(&error);
            tracing::warn!(site = %legs.site, error = %fault, "backend's data connection: TLS handshake failed");
            legs.metrics
                .data_handshake(Leg::Backend, DataHandshake::Failed);
            return Err(DataFailure::BackendHandshake);
        }
        Err(_) => {
            legs.metrics
                .data_handshake(Leg::Backend, DataHandshake::Failed);
            return Err(DataFailure::BackendHandshake);
        }
    };
    legs.metrics.data_handshake(Leg::Backend, kind(&stream));
    Ok(stream)
}

async fn open_client(
    prepared: &mut PreparedClient,
    tls: Option<&DataTls>,
    legs: &Legs,
) -> Result<Stream, DataFailure> {
    match prepared {
        PreparedClient::Passive {
            arrival, strangers, ..
        } => {
            // If it is the client itself that doesn't resume, it should not wait long for being told. Counted from here:
            // before the reply to the transfer command many clients begin no handshake.
            let not_resumed = async {
                if strangers.wait_for(|came| *came).await.is_err() {
                    std::future::pending::<()>().await;
                }
                sleep(PATIENCE_AFTER_A_STRANGER).await;
            };
            let guest = tokio::select! {
                biased;
                guest = arrival.join() => guest.ok_or(DataFailure::NoClient)??,
                () = not_resumed => return Err(DataFailure::NotResumed),
            };
            let_in(guest, tls, legs).await
        }
        PreparedClient::Active { to, from } => {
            let connecting = connect::data(*to, *from);
            let stream = match timeout(legs.timeouts.data_connect, connecting).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(_)) | Err(_) => return Err(DataFailure::NoClient),
            };
            let read = Vec::new();
            secure_client(Arrived { stream, read }, tls, legs).await
        }
    }
}

/// Waits for the client at its port. Where it has to name its session, others are turned away and it is waited for: they
/// may have come to steal its place.
async fn guest(
    mut lease: Lease,
    deadline: Instant,
    on_stranger: impl Fn(),
) -> Result<Guest, DataFailure> {
    let mut failure = DataFailure::NoClient;
    loop {
        match lease.caller(deadline).await {
            Some(Caller::Arrived(arrived)) => return Ok(Guest { lease, arrived }),
            Some(Caller::TurnedAway) => {
                failure = DataFailure::NotResumed;
                on_stranger();
            }
            None => return Err(failure),
        }
    }
}

/// Does the handshake with whoever came; where only the session's client is accepted, with whoever comes after it, too.
async fn let_in(
    mut guest: Guest,
    tls: Option<&DataTls>,
    legs: &Legs,
) -> Result<Stream, DataFailure> {
    loop {
        let Guest { mut lease, arrived } = guest;
        let failure = match secure_client(arrived, tls, legs).await {
            Ok(stream) => return Ok(stream),
            Err(failure) => failure,
        };
        let goes_on = tls.is_some_and(DataTls::demands_proof) && lease.again(legs.session);
        if !goes_on {
            return Err(failure);
        }
        let deadline = Instant::now() + PATIENCE_AFTER_A_STRANGER;
        guest = self::guest(lease, deadline, || {})
            .await
            .map_err(|_| failure)?;
    }
}

async fn secure_client(
    arrived: Arrived,
    tls: Option<&DataTls>,
    legs: &Legs,
) -> Result<Stream, DataFailure> {
    let Arrived { stream, read } = arrived;
    let Some(tls) = tls else {
        // PROT C after a PASV under PROT P: what was read as a ClientHello would be missing in the file.
        return if read.is_empty() {
            Ok(Stream::Plain(stream))
        } else {
            Err(DataFailure::NoClient)
        };
    };
    let connection = tls.connection();
    let accepting = TlsAcceptor::from(connection.config())
        .accept_with(stream, |handshake| take_up(handshake, &read));
    let Ok(Ok(stream)) = timeout(legs.timeouts.tls_handshake, accepting).await else {
        legs.metrics
            .data_handshake(Leg::Client, DataHandshake::Failed);
        return Err(DataFailure::ClientHandshake);
    };
    let stream = Stream::ToClient(Box::new(stream));
    legs.metrics.data_handshake(Leg::Client, kind(&stream));
    if tls.accepts(connection.proof(stream.handshake_kind())) {
        Ok(stream)
    } else {
        Err(DataFailure::NotResumed)
    }
}

/// Gives a handshake the bytes of it that have been read already.
fn take_up(handshake: &mut ServerConnection, mut read: &[u8]) {
    while !read.is_empty() {
        // What is wrong with them is said again, and to the client as an alert, as soon as the handshake goes on.
        if !matches!(handshake.read_tls(&mut read), Ok(1..))
            || handshake.process_new_packets().is_err()
        {
            return;
        }
    }
}

fn kind(stream: &Stream) -> DataHandshake {
    match stream.handshake_kind() {
        Some(rustls::HandshakeKind::Resumed) => DataHandshake::Resumed,
        _ => DataHandshake::Full,
    }
}

fn failure(broken: Broken, source: Leg) -> DataFailure {
    let sink = match source {
        Leg::Client => Leg::Backend,
        Leg::Backend => Leg::Client,
    };
    match broken {
        Broken::Source(_) => lost(source),
        Broken::SourceIdle => idle(source),
        Broken::Sink(_) => lost(sink),
        Broken::SinkIdle => idle(sink),
    }
}

fn lost(leg: Leg) -> DataFailure {
    match leg {
        Leg::Client => DataFailure::ClientLost,
        Leg::Backend => DataFailure::BackendLost,
    }
}

fn idle(leg: Leg) -> DataFailure {
    match leg {
        Leg::Client => DataFailure::ClientIdle,
        Leg::Backend => DataFailure::BackendIdle,
    }
}

/// How long the right client is waited for after the wrong one has come to its port.
const PATIENCE_AFTER_A_STRANGER: Duration = Duration::from_secs(3);

/// How long the peer may take to end its side after we ended ours.
const LINGER: Duration = Duration::from_secs(5);
