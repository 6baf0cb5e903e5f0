//! The data connections of a session: made ready at PASV or PORT, opened by the transfer command, ended by the verdict.
//!
//! Both legs of one transfer live in one task, which reports [`DataEvent`]s and takes [`Order`]s. Whatever ends that
//! task without an order to proceed drops its sockets, and since their lingering is armed, both peers see a reset.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::state::{DataEvent, DataFailure};
use crate::config::{SessionReuse, Timeouts};
use crate::ftp::command::Direction;
use crate::net::connect;
use crate::net::relay::{Broken, SourceEnd, relay};
use crate::net::stream::Stream;
use crate::observe::metrics::{DataHandshake, Leg, Metrics};
use crate::passive::Lease;
use crate::tls::binding::Proof;
use crate::tls::{BackendSessionTls, DataTls};

/// Data connections between the data port command and the transfer command.
#[derive(Debug)]
pub struct PreparedData {
    backend: Task<io::Result<TcpStream>>,
    client: PreparedClient,
}

#[derive(Debug)]
enum PreparedClient {
    /// The client connects; `None` if it didn't in time.
    Passive(Task<Option<TcpStream>>),
    /// We connect when the transfer begins.
    Active { to: SocketAddr, from: IpAddr },
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
}

/// TLS for one data connection of the client leg.
#[derive(Debug)]
pub struct ClientTls {
    /// The configuration, and what its handshake proves.
    pub data: DataTls,
    /// What the site demands of it.
    pub reuse: SessionReuse,
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
    /// Begins to connect to the backend's data port, and waits for the client's connection on `lease`.
    pub fn passive(
        backend: SocketAddr,
        backend_from: IpAddr,
        mut lease: Lease,
        timeouts: &Timeouts,
    ) -> Self {
        let patience = timeouts.data_connect;
        Self {
            backend: connect_backend(backend, backend_from, patience),
            client: PreparedClient::Passive(Task::spawn(async move {
                lease.connection(patience).await
            })),
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

    /// Starts the transfer's task; without `client_tls` the client leg is plain.
    pub fn open(self, legs: Legs, client_tls: Option<ClientTls>) -> RunningData {
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
    client_tls: Option<ClientTls>,
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
                open_client(&mut self.prepared.client, &mut self.client_tls, &self.legs).await?,
            );
            Ok(())
        };
        // Side by side: the backend may wait for our hello as well as the client for its 150.
        tokio::try_join!(client, backend)?;
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
    tls: &mut Option<ClientTls>,
    legs: &Legs,
) -> Result<Stream, DataFailure> {
    let Legs {
        timeouts, metrics, ..
    } = legs;
    let socket = match prepared {
        PreparedClient::Passive(arrival) => arrival
            .join()
            .await
            .flatten()
            .ok_or(DataFailure::NoClient)?,
        PreparedClient::Active { to, from } => {
            match timeout(timeouts.data_connect, connect::data(*to, *from)).await {
                Ok(Ok(socket)) => socket,
                Ok(Err(_)) | Err(_) => return Err(DataFailure::NoClient),
            }
        }
    };
    let Some(ClientTls { data, reuse }) = tls.take() else {
        return Ok(Stream::Plain(socket));
    };
    let Ok(Ok(stream)) = timeout(
        timeouts.tls_handshake,
        TlsAcceptor::from(data.config()).accept(socket),
    )
    .await
    else {
        metrics.data_handshake(Leg::Client, DataHandshake::Failed);
        return Err(DataFailure::ClientHandshake);
    };
    let stream = Stream::ToClient(Box::new(stream));
    metrics.data_handshake(Leg::Client, kind(&stream));
    if data.proof(stream.handshake_kind()) == Proof::Nothing && reuse == SessionReuse::Require {
        return Err(DataFailure::NotResumed);
    }
    Ok(stream)
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

/// How long the peer may take to end its side after we ended ours.
const LINGER: Duration = Duration::from_secs(5);
