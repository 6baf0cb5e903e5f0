//! The task of a transfer, as its session sees it.

use std::io::{self, Read};
use std::net::SocketAddr;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::client_connection::{ClientArrival, PreparedClient};
use super::orders::{OrderReceiver, OrderState};
use super::running::{ClientPort, LATE_ARRIVAL, LONG_TRANSFER};
use super::*;
use crate::backend::data::{DataEndpoint, PendingConnection};
use crate::base::task::Task;
use crate::config::{BackendTls, ExpectedName, TlsMode, TlsVersion, Verify};
use crate::net::data::relay::StepTimeout;
use crate::observe::transfer_log::ToldOfContent;
use crate::passive::{Identity, LeaseRequest, PassiveListeners, PassivePorts};
use crate::session::Drain;
use crate::session::machine::{DataEvent, DataFailure};
use crate::tls::{BackendTlsClient, LoginId};

/// The data connections of a task that does this.
fn running<F>(task: impl FnOnce(mpsc::Sender<DataEvent>) -> F) -> RunningData
where
    F: Future<Output = ()> + Send + 'static,
{
    let (report, events) = mpsc::channel(4);
    RunningData {
        events: Some(events),
        order_sender: watch::Sender::new(OrderState::default()),
        ports: mpsc::channel(1).0,
        moved: Arc::default(),
        began: Instant::now(),
        port: None,
        throttled: None,
        acceptance: Acceptance::default(),
        faults: Faults::default(),
        stats: TransferStats::new(ToldOfContent::Nothing),
        tell_at: None,
        task: Task::spawn(task(report)),
    }
}

/// The next event of the transfer, if any.
async fn next(data: &mut RunningData) -> Option<DataEvent> {
    timeout(Duration::from_secs(1), data.event()).await.ok()
}

#[tokio::test(start_paused = true)]
async fn a_task_that_dies_has_failed() {
    let mut data = running(|report| async move {
        report.send(DataEvent::BackendOpen).await.unwrap();
        panic!("as a bug would");
    });
    assert_eq!(next(&mut data).await, Some(DataEvent::BackendOpen));
    let failed = DataEvent::Failed(DataFailure::Internal);
    assert_eq!(next(&mut data).await, Some(failed));
    assert_eq!(next(&mut data).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_has_finished_says_no_more() {
    let mut data = running(|report| async move {
        report.send(DataEvent::Finished).await.unwrap();
        std::future::pending().await
    });
    assert_eq!(next(&mut data).await, Some(DataEvent::Finished));
    assert_eq!(next(&mut data).await, None);
}

/// Every time is this one.
fn timeouts(all: Duration) -> Timeouts {
    Timeouts {
        tls_handshake: all,
        login: all,
        idle: all,
        data_port: all,
        data_connect: all,
        data_idle: all,
        final_reply: all,
        drain: all,
        lame_duck: all,
        backend_connect: all,
        backend_reply: all,
        backend_attempt: None,
    }
}

fn context(
    direction: Direction,
    backend_tls: Option<BackendSessionTls>,
    timeouts: Timeouts,
) -> TransferContext {
    let acceptance = Acceptance::of(backend_tls.as_ref());
    TransferContext {
        direction,
        backend_tls,
        timeouts,
        silence: timeouts.tls_handshake,
        metrics: Arc::new(Metrics::new()),
        site: "site".to_owned(),
        session: SessionId(1),
        sent_id: None,
        client: [127, 0, 0, 1].into(),
        close_notify: CloseNotify::Require,
        lingering: Lingering::new(watch::channel(Drain::No).1, Arc::default()),
        acceptance,
        faults: Faults::default(),
        limits: None,
        stats: TransferStats::new(ToldOfContent::Nothing),
    }
}

fn passive(to: SocketAddr) -> DataEndpoint {
    DataEndpoint::Passive {
        to,
        announced: None,
        header: None,
    }
}

#[tokio::test]
async fn a_task_that_dies_on_its_way_to_the_backend_is_not_the_backends_fault() {
    let timeouts = timeouts(Duration::from_secs(30));
    let nobody = SocketAddr::from(([127, 0, 0, 1], 0));
    let (order_sender, orders) = OrderReceiver::channel(&timeouts);
    let data = PreparedData {
        backend: PendingConnection::panicking(),
        client: PreparedClient::Active {
            to: nobody,
            from: nobody.ip(),
        },
        lease: None,
        order_sender,
        orders,
    };
    let mut data = data.open(context(Direction::Download, None, timeouts), None);
    let failed = DataEvent::Failed(DataFailure::Internal);
    assert_eq!(data.event().await, failed);
}

#[tokio::test]
async fn a_task_that_dies_waiting_for_the_client_is_not_the_clients_fault() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = listener.local_addr().unwrap();
    let timeouts = timeouts(Duration::from_secs(30));
    let leasing = async { panic!("as a bug would") };
    let data = PreparedData::passive(passive(backend), leasing, None, &timeouts);
    let mut data = data.open(context(Direction::Download, None, timeouts), None);
    assert_eq!(data.event().await, DataEvent::BackendOpen);
    data.order(Order::CommandSent);
    let failed = DataEvent::Failed(DataFailure::Internal);
    assert_eq!(data.event().await, failed);
}

#[tokio::test]
async fn a_backend_in_its_handshake_hears_of_a_client_that_failed_from_the_session_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = listener.local_addr().unwrap();
    let closed = {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        gone.local_addr().unwrap()
    };
    let timeouts = timeouts(Duration::from_secs(30));
    let tls = BackendTls {
        start: TlsMode::Explicit,
        verify: Verify::None,
        server_name: ExpectedName::Is("be1.test".to_owned()),
        max_version: TlsVersion::V1_3,
        client_certificate: None,
    };
    let tls = BackendTlsClient::new(&tls).unwrap().session();
    let context = context(Direction::Download, Some(tls), timeouts);
    let data = PreparedData::active(passive(backend), closed, closed.ip(), &timeouts);
    let mut data = data.open(context, None);
    assert_eq!(data.event().await, DataEvent::BackendOpen);
    let (backend, _) = listener.accept().await.unwrap();
    data.order(Order::CommandSent);
    assert_eq!(
        data.event().await,
        DataEvent::Failed(DataFailure::ClientUnreachable)
    );
    // Below tokio, which may not have looked yet.
    let mut backend = backend.into_std().unwrap();
    let silent = loop {
        match backend.read(&mut [0; 4096]) {
            Ok(count) => assert_ne!(count, 0),
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(silent, io::ErrorKind::WouldBlock);

    drop(data);
    let mut backend = TcpStream::from_std(backend).unwrap();
    let reset = AsyncReadExt::read(&mut backend, &mut [0])
        .await
        .unwrap_err();
    assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn nobody_stands_still_before_the_backend_begins() {
    let timeouts = Timeouts {
        data_idle: Duration::from_secs(2),
        ..timeouts(Duration::from_secs(20))
    };
    let (order_sender, orders) = OrderReceiver::channel(&timeouts);
    let began = Instant::now();
    assert_eq!(orders.deadline(began), began + Duration::from_secs(20));
    assert!(!orders.has_transfer_started());

    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(orders.stalled_for(began), Duration::from_secs(5));
    order_sender.send_modify(|last| {
        last.record(Order::TransferStarted);
    });
    let begun = Instant::now();
    assert!(orders.has_transfer_started());
    assert_eq!(orders.deadline(began), begun + Duration::from_secs(2));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(orders.stalled_for(began), Duration::from_secs(1));
    // An order behind it doesn't begin the time anew.
    order_sender.send_modify(|last| {
        last.record(Order::FinishSink);
    });
    assert_eq!(orders.deadline(began), begun + Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_transfer_is_told_of_once_when_it_has_run_for_a_minute() {
    let mut data = running(|_| std::future::pending());
    data.tell_at = Some(Instant::now() + LONG_TRANSFER);
    let minute = Duration::from_secs(60);
    let within = |time| timeout(time, data.tell_at());
    assert!(within(minute - Duration::from_secs(1)).await.is_err());
    assert!(within(Duration::from_secs(2)).await.is_ok());
    data.note_told();
    assert!(timeout(60 * minute, data.tell_at()).await.is_err());
}

/// The only port, leased to a transfer that has been refused, and a request for it of another session.
struct Refused {
    ports: PassivePorts,
    request: LeaseRequest,
    port: ClientPort,
    arrival: watch::Sender<ClientArrival>,
    opened: Arc<Notify>,
    _listeners: PassiveListeners,
}

impl Refused {
    async fn new() -> Self {
        let local = IpAddr::from([127, 0, 0, 1]);
        let mut listeners = PassiveListeners::new(Arc::default(), Arc::default());
        let ports = listeners.open([local], &(0..=0)).await.unwrap();
        let request = LeaseRequest {
            client: local,
            account: LoginId::of(None, b"user"),
            identity: Identity::Address,
            reuse_delay: Duration::ZERO,
        };
        let lease = ports.lease(local, request, MINUTE).await.unwrap();
        let (arrival_sender, arrival) = watch::channel(ClientArrival::Pending);
        let opened = Arc::new(Notify::new());
        Self {
            port: ClientPort {
                lease: lease.hold(),
                arrival,
                opened: Arc::clone(&opened),
            },
            ports,
            request,
            arrival: arrival_sender,
            opened,
            _listeners: listeners,
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn the_port_of_a_refused_transfer_is_left_to_a_session_that_waits_for_it() {
    let refused = Refused::new().await;
    let began = Instant::now();
    let next = refused
        .ports
        .lease(refused.request.client, refused.request, MINUTE);
    let (next, ()) = tokio::join!(next, refused.port.release());
    assert!(next.is_ok());
    assert!(began.elapsed() < LATE_ARRIVAL);
}

/// The handshake proves whose connection it is, so that the port needs no cooldown.
#[tokio::test(start_paused = true)]
async fn the_port_of_a_refused_transfer_is_left_when_the_client_that_has_come_is_done() {
    let refused = Refused::new().await;
    refused.arrival.send_replace(ClientArrival::Connected);
    let began = Instant::now();
    let next = refused
        .ports
        .lease(refused.request.client, refused.request, MINUTE);
    let done = async {
        sleep(LATE_ARRIVAL / 2).await;
        refused.opened.notify_one();
    };
    let (next, (), ()) = tokio::join!(next, refused.port.release(), done);
    assert!(next.is_ok());
    assert_eq!(began.elapsed(), LATE_ARRIVAL / 2);
}
