//! Leases and connections over real sockets of this machine.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::base::{SessionId, SiteId};
use crate::tls::{ClientCache, LoginId};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const MOMENT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(10);

async fn one_port() -> (PassiveListeners, PassivePorts) {
    let mut listeners = PassiveListeners::new(Arc::default(), Arc::default());
    let ports = listeners.open([LOCAL], &(0..=0)).await.unwrap();
    (listeners, ports)
}

fn request(client: IpAddr, identity: Identity) -> LeaseRequest {
    LeaseRequest {
        client,
        account: LoginId::of(Some(SiteId(0)), b"user"),
        identity,
        reuse_delay: MOMENT,
    }
}

fn named() -> Identity {
    Identity::Named(ClientCache::new(SessionId(1)))
}

async fn lease(ports: &PassivePorts, client: IpAddr) -> Lease {
    let request = request(client, Identity::Address);
    let lease = ports.lease(LOCAL, request, LONG).await;
    lease.expect("a port")
}

async fn no_lease(ports: &PassivePorts, client: IpAddr) -> bool {
    let request = request(client, Identity::Address);
    ports.lease(LOCAL, request, MOMENT).await.is_err()
}

async fn connect_from(from: &str, port: u16) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket
        .bind(SocketAddr::new(from.parse().unwrap(), 0))
        .unwrap();
    socket.connect((LOCAL, port).into()).await.unwrap()
}

async fn arrival(lease: &mut Lease) -> DataConnection {
    match timeout(LONG, lease.event()).await.unwrap() {
        Some(LeaseEvent::Connected(arrived)) => arrived,
        other => panic!("{other:?}"),
    }
}

async fn is_reset(mut stream: TcpStream) -> bool {
    let end = stream.read(&mut [0; 1]).await;
    end.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

#[tokio::test]
async fn a_lease_brings_the_connection_of_its_client() {
    let (_listeners, ports) = one_port().await;
    let mut lease = lease(&ports, LOCAL).await;
    let client = connect_from("127.0.0.1", lease.port()).await;
    let arrived = arrival(&mut lease).await.stream;
    assert_eq!(arrived.peer_addr().unwrap(), client.local_addr().unwrap());
}

#[tokio::test]
async fn clients_of_different_addresses_share_one_port() {
    let (_listeners, ports) = one_port().await;
    let mut first = lease(&ports, LOCAL).await;
    let mut second = lease(&ports, "127.0.0.2".parse().unwrap()).await;
    assert_eq!(first.port(), second.port());
    let client = connect_from("127.0.0.2", second.port()).await;
    let arrived = arrival(&mut second).await.stream;
    assert_eq!(arrived.peer_addr().unwrap(), client.local_addr().unwrap());
    assert!(timeout(MOMENT, first.event()).await.is_err());
}

#[tokio::test]
async fn a_second_lease_of_the_same_address_waits_until_the_first_is_complete() {
    let (_listeners, ports) = one_port().await;
    let mut first = lease(&ports, LOCAL).await;
    let _client = connect_from("127.0.0.1", first.port()).await;
    arrival(&mut first).await;
    assert!(no_lease(&ports, LOCAL).await);
    let (_second, ()) = tokio::join!(lease(&ports, LOCAL), async { first.hold().complete() });
}

#[tokio::test]
async fn a_port_that_was_too_few_says_how_many_are_needed() {
    let (_listeners, ports) = one_port().await;
    let _first = lease(&ports, LOCAL).await;
    let request = request(LOCAL, Identity::Address);
    let refused = ports.lease(LOCAL, request, MOMENT).await;
    assert_eq!(
        refused.err(),
        Some(NoPort {
            needed: 2,
            ports: 1
        })
    );
}

#[tokio::test]
async fn a_second_connection_makes_the_first_one_doubtful() {
    let (_listeners, ports) = one_port().await;
    let mut lease = lease(&ports, LOCAL).await;
    let _client = connect_from("127.0.0.1", lease.port()).await;
    arrival(&mut lease).await;
    let attribution = lease.attribution();
    assert_eq!(attribution.decided().await, Ok(()));
    assert!(is_reset(connect_from("127.0.0.1", lease.port()).await).await);
    assert_eq!(attribution.ambiguous().await, Ambiguity::AnotherConnection);
}

#[tokio::test]
async fn a_port_cools_down_where_a_connection_waits_until_it_can_be_accepted() {
    let (_listeners, ports) = one_port().await;
    let mut lease = lease(&ports, LOCAL).await;
    let _client = connect_from("127.0.0.1", lease.port()).await;
    arrival(&mut lease).await;
    assert!(!lease.is_starved());
    ports.dispatcher.on_shortage(ports.addresses()[0]);
    assert!(lease.is_starved());
    lease.hold().complete();
    assert!(no_lease(&ports, LOCAL).await);
}

#[tokio::test]
async fn a_dropped_lease_frees_its_port_and_one_given_up_in_the_queue_leaves_nothing() {
    let (_listeners, ports) = one_port().await;
    let held = lease(&ports, LOCAL).await;
    for _ in 0..3 {
        assert!(no_lease(&ports, LOCAL).await);
    }
    drop(held);
    drop(lease(&ports, LOCAL).await);
    assert!(ports.dispatcher.is_empty());
}

#[tokio::test]
async fn a_stranger_is_reset_and_the_lease_stays() {
    let (_listeners, ports) = one_port().await;
    let mut lease = lease(&ports, LOCAL).await;
    for _ in 0..3 {
        assert!(is_reset(connect_from("127.0.0.3", lease.port()).await).await);
    }
    let _client = connect_from("127.0.0.1", lease.port()).await;
    arrival(&mut lease).await;
}

#[tokio::test]
async fn a_stranger_is_who_has_no_lease_at_the_port_and_not_who_connects_to_it_twice() {
    let (_listeners, ports) = one_port().await;
    let lease = lease(&ports, LOCAL).await;
    let request = request("127.0.0.3".parse().unwrap(), Identity::Address);
    let mut shared = ports.lease(LOCAL, request, LONG).await.unwrap();
    assert_eq!(shared.port(), lease.port());
    let _first = connect_from("127.0.0.3", lease.port()).await;
    arrival(&mut shared).await;
    assert!(is_reset(connect_from("127.0.0.3", lease.port()).await).await);
    assert_eq!(lease.stranger(), None);
    assert!(is_reset(connect_from("127.0.0.4", lease.port()).await).await);
    assert_eq!(lease.stranger(), Some("127.0.0.4".parse().unwrap()));
}

#[tokio::test]
async fn a_connection_that_names_nobody_is_turned_away_where_a_name_is_demanded() {
    let (_listeners, ports) = one_port().await;
    let request = request(LOCAL, named());
    let mut lease = ports.lease(LOCAL, request, LONG).await.unwrap();
    for _ in 0..20 {
        let mut stranger = connect_from("127.0.0.1", lease.port()).await;
        stranger.write_all(b"no ClientHello").await.unwrap();
        assert!(is_reset(stranger).await);
    }
    let told = timeout(LONG, lease.event()).await.unwrap();
    assert!(matches!(told, Some(LeaseEvent::Refused(None))));
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_reset_with_the_lease() {
    let (_listeners, ports) = one_port().await;
    let request = request(LOCAL, named());
    let lease = ports.lease(LOCAL, request, LONG).await.unwrap();
    let silent = connect_from("127.0.0.1", lease.port()).await;
    lease.unassigned().any().await;
    drop(lease);
    assert!(is_reset(silent).await);
    assert!(ports.dispatcher.is_empty());
}

#[tokio::test]
async fn what_is_no_hello_is_left_unread() {
    let (_listeners, ports) = one_port().await;
    let _named = ports.lease(LOCAL, request(LOCAL, named()), LONG).await;
    let unproven = Identity::Unproven(ClientCache::new(SessionId(2)));
    let later = request("127.0.0.2".parse().unwrap(), unproven);
    let mut lease = ports.lease(LOCAL, later, LONG).await.unwrap();
    let mut client = connect_from("127.0.0.2", lease.port()).await;
    client.write_all(b"no ClientHello").await.unwrap();
    let mut arrived = arrival(&mut lease).await;
    assert_eq!(arrived.read, b"");
    let mut read = [0; 14];
    arrived.stream.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"no ClientHello");
}

#[tokio::test]
async fn a_reload_keeps_the_ports_that_stay_or_come_back() {
    let (mut listeners, former) = one_port().await;
    let mut lease = lease(&former, LOCAL).await;
    let number = lease.port();
    let later = listeners.open([LOCAL], &(0..=0)).await.unwrap();
    drop(former);
    assert_eq!(later.addresses(), [SocketAddr::new(LOCAL, number)]);
    let _client = connect_from("127.0.0.1", number).await;
    arrival(&mut lease).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_was_given_up_a_moment_ago_can_be_opened_again() {
    let mut listeners = PassiveListeners::new(Arc::default(), Arc::default());
    // Another test's connection may have any number on 127.0.0.1, and another process this test.
    let [.., high, low] = std::process::id().to_be_bytes();
    let own = IpAddr::from([127, 88, high, low]);
    for _ in 0..200 {
        let ports = listeners.open([own], &(50_000..=50_000)).await;
        drop(ports.expect("no other socket has it"));
    }
}

#[tokio::test]
async fn a_lease_hears_whether_others_of_its_address_want_a_port() {
    let (_listeners, ports) = one_port().await;
    let held = lease(&ports, LOCAL).await;
    let _of_another_address = lease(&ports, "127.0.0.2".parse().unwrap()).await;
    let mut contention = held.contention();
    assert!(timeout(MOMENT, contention.contended()).await.is_err());
    tokio::select! {
        _ = lease(&ports, LOCAL) => panic!("there is one port"),
        contention = timeout(LONG, contention.contended()) => contention.unwrap(),
    }
    // The lease has ended meanwhile.
    assert!(timeout(MOMENT, contention.contended()).await.is_err());
}

#[tokio::test]
async fn a_lease_hears_of_those_who_have_yet_to_say_whose_connection_theirs_is() {
    let (_listeners, ports) = one_port().await;
    let request = request(LOCAL, named());
    let lease = ports.lease(LOCAL, request, LONG).await.expect("a port");
    let mut unassigned = lease.unassigned();
    let silent = unassigned.exclusive_or_silent(MOMENT);
    assert!(timeout(MOMENT * 3, silent).await.is_err());

    let client = connect_from("127.0.0.1", lease.port()).await;
    timeout(LONG, unassigned.exclusive_or_silent(MOMENT))
        .await
        .unwrap();
    drop(client);
    let gone = async {
        unassigned
            .0
            .wait_for(|unassigned| unassigned.all == 0)
            .await
            .is_ok()
    };
    assert!(timeout(LONG, gone).await.unwrap());
}

#[tokio::test]
async fn a_wildcard_and_one_of_its_addresses_have_their_ports_in_common() {
    let wildcards = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let locals = [LOCAL, Ipv6Addr::LOCALHOST.into()];
    for (wildcard, local) in wildcards.into_iter().zip(locals) {
        for order in [[wildcard, local], [local, wildcard]] {
            let mut listeners = PassiveListeners::new(Arc::default(), Arc::default());
            let ports = listeners.open(order, &(0..=0)).await.unwrap();
            let [port] = ports.addresses()[..] else {
                panic!("{:?}", ports.addresses())
            };
            for listener in order {
                assert_eq!(ports.bound_address(listener), wildcard);
                let request = request(local, Identity::Address);
                let mut lease = ports.lease(listener, request, LONG).await.expect("a port");
                assert_eq!(lease.port(), port.port());
                let _client = TcpStream::connect((local, port.port())).await.unwrap();
                arrival(&mut lease).await;
            }
        }
    }
}

#[tokio::test]
async fn a_reload_may_put_an_address_beside_its_wildcard_and_in_its_place() {
    let wildcard = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let mut listeners = PassiveListeners::new(Arc::default(), Arc::default());
    let (number, first) = loop {
        let free = std::net::TcpListener::bind((wildcard, 0)).unwrap();
        let number = free.local_addr().unwrap().port();
        drop(free);
        // Another process may have been quicker.
        if let Ok(ports) = listeners.open([wildcard], &(number..=number)).await {
            break (number, ports);
        }
    };
    let beside = listeners.open([LOCAL, wildcard], &(number..=number)).await;
    let instead = listeners.open([LOCAL], &(number..=number)).await;
    for ports in [first, beside.unwrap(), instead.unwrap()] {
        assert_eq!(ports.addresses(), [SocketAddr::new(wildcard, number)]);
    }
}
