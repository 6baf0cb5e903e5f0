//! A source under TLS against real handshakes: whole files, odd pieces, and every way to end.

use std::future::poll_fn;
use std::io::Write as _;
use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::task::yield_now;
use tokio_rustls::{TlsConnector, client};

use super::super::source::Source;
use super::*;
use crate::net::fixtures::connection;
use crate::tls;

static VERSIONS: [&SupportedProtocolVersion; 2] =
    [&rustls::version::TLS12, &rustls::version::TLS13];

/// A client under TLS, and what we see of it.
async fn client(
    version: &'static SupportedProtocolVersion,
) -> (client::TlsStream<TcpStream>, Source) {
    let (connecting, accepting) = handshake(version).await;
    tokio::try_join!(connecting, accepting).unwrap()
}

/// Both sides of a handshake that has not begun.
async fn handshake(
    version: &'static SupportedProtocolVersion,
) -> (
    impl Future<Output = io::Result<client::TlsStream<TcpStream>>>,
    impl Future<Output = io::Result<Source>>,
) {
    let (theirs, ours) = identity(version);
    let (socket, accepted) = connection().await;
    let name = ServerName::try_from("ftp.test").unwrap();
    (
        TlsConnector::from(Arc::new(theirs)).connect(name, socket),
        async move { Source::from_client(accepted, Arc::new(ours), &[], |_| {}).await },
    )
}

/// A client's side of one TLS version, and ours.
fn identity(version: &'static SupportedProtocolVersion) -> (ClientConfig, ServerConfig) {
    let identity = rcgen::generate_simple_self_signed(vec!["ftp.test".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(identity.cert.der().clone()).unwrap();
    let ours = ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![identity.cert.der().clone()],
            PrivateKeyDer::try_from(identity.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let theirs = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (theirs, ours)
}

/// The bytes of a source until its end, and the end or the error.
async fn read_to_end(source: &mut Source) -> (Vec<u8>, io::Result<SourceEnd>) {
    let mut all = Vec::new();
    loop {
        match poll_fn(|context| source.poll_fill(context)).await {
            Ok(Fill::Bytes) => {
                all.extend_from_slice(source.buffer());
                source.consume();
            }
            Ok(Fill::End(end)) => return (all, Ok(end)),
            Err(error) => return (all, Err(error)),
        }
    }
}

fn file(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[tokio::test]
async fn a_file_arrives_whole_in_pieces_of_any_size_and_close_notify_is_its_end() {
    let file = file(1 << 20);
    for version in VERSIONS {
        for piece in [1000, 16 * 1024, 100_000] {
            let (mut client, mut ours) = client(version).await;
            let sending = async {
                for piece in file.chunks(piece) {
                    client.write_all(piece).await.unwrap();
                }
                client.shutdown().await.unwrap();
            };
            let ((), (received, end)) = tokio::join!(sending, read_to_end(&mut ours));
            assert!(received == file);
            assert_eq!(end.unwrap(), SourceEnd::CloseNotify);
        }
    }
}

#[tokio::test]
async fn records_of_one_byte_leave_other_tasks_their_turn() {
    const RECORDS: usize = 100_000;
    /// Of a whole buffer, and of what the budget allows beyond.
    const MOST_AT_ONCE: usize = 25_000;
    let (mut client, mut ours) = client(&rustls::version::TLS13).await;
    let (_, theirs) = client.get_mut();
    let mut records = Vec::new();
    for _ in 0..RECORDS {
        theirs.writer().write_all(b"x").unwrap();
        theirs.write_tls(&mut records).unwrap();
    }
    theirs.send_close_notify();
    theirs.write_tls(&mut records).unwrap();
    let sending = tokio::spawn(async move {
        client.get_mut().0.write_all(&records).await.unwrap();
        client
    });
    // The kernel has all that it takes then.
    for _ in 0..100 {
        yield_now().await;
    }
    let mut received = 0;
    let mut is_over = false;
    while !is_over {
        let before = received;
        // One turn of the task.
        poll_fn(|context| {
            while let Poll::Ready(fill) = ours.poll_fill(context) {
                if let Fill::End(_) = fill.unwrap() {
                    is_over = true;
                    break;
                }
                received += ours.buffer().len();
                ours.consume();
            }
            Poll::Ready(())
        })
        .await;
        assert!(received - before <= MOST_AT_ONCE, "{}", received - before);
        yield_now().await;
    }
    assert_eq!(received, RECORDS);
    sending.await.unwrap();
}

#[tokio::test]
async fn a_file_may_end_in_the_packet_that_ends_the_handshake() {
    for file in [&b""[..], b"a short one"] {
        let (connecting, accepting) = handshake(&rustls::version::TLS13).await;
        let sending = async {
            // All of it before we are asked again.
            let mut client = connecting.await?;
            client.write_all(file).await?;
            client.shutdown().await?;
            Ok(client)
        };
        let (_client, mut ours) = tokio::try_join!(sending, accepting).unwrap();
        let (received, end) = read_to_end(&mut ours).await;
        assert_eq!(received, file);
        assert_eq!(end.unwrap(), SourceEnd::CloseNotify);
    }
}

#[tokio::test]
async fn an_end_without_close_notify_is_told_after_the_last_byte() {
    for version in VERSIONS {
        let (mut client, mut ours) = client(version).await;
        client.write_all(b"half a file").await.unwrap();
        client.flush().await.unwrap();
        client.get_mut().0.shutdown().await.unwrap();
        let (received, end) = read_to_end(&mut ours).await;
        assert_eq!(received, b"half a file");
        assert_eq!(end.unwrap(), SourceEnd::Unclean);
    }
}

#[tokio::test]
async fn an_end_within_a_record_is_an_error_after_the_last_whole_one() {
    for version in VERSIONS {
        let (mut client, mut ours) = client(version).await;
        client.write_all(b"half a file").await.unwrap();
        client.flush().await.unwrap();
        let socket = client.get_mut().0;
        socket.write_all(b"\x17\x03\x03\x40").await.unwrap();
        socket.shutdown().await.unwrap();
        let (received, end) = read_to_end(&mut ours).await;
        assert_eq!(received, b"half a file");
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}

#[tokio::test]
async fn a_message_in_endless_pieces_is_refused() {
    let (mut peer, ours) = connection().await;
    let announced = b"\x16\x03\x01\x00\x04\x01\x00\xff\xff";
    let piece = b"\x16\x03\x01\x00\x01\x00".repeat(1000);
    let sending = async {
        peer.write_all(announced).await?;
        loop {
            peer.write_all(&piece).await?;
        }
    };
    let (_, config) = identity(&rustls::version::TLS13);
    let accepting = Source::from_client(ours, Arc::new(config), &[], |_| {});
    let error = tokio::select! {
        Err::<(), _>(error) = sending => error,
        accepted = accepting => accepted.unwrap_err(),
    };
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
}

#[tokio::test]
async fn our_direction_ends_with_close_notify() {
    for version in VERSIONS {
        let (mut client, mut ours) = client(version).await;
        client.write_all(b"a file").await.unwrap();
        client.shutdown().await.unwrap();
        read_to_end(&mut ours).await.1.unwrap();
        ours.finish().await.unwrap();
        // Anything but close_notify would be an error.
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_client_may_change_its_keys_in_the_middle_of_a_file() {
    let (mut client, mut ours) = client(&rustls::version::TLS13).await;
    let half = file(100_000);
    let sending = async {
        client.write_all(&half).await.unwrap();
        client.get_mut().1.refresh_traffic_keys().unwrap();
        client.write_all(&half).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let ((), (received, end)) = tokio::join!(sending, read_to_end(&mut ours));
    assert!(received == [&half[..], &half[..]].concat());
    assert_eq!(end.unwrap(), SourceEnd::CloseNotify);
}

#[tokio::test]
async fn a_forged_record_is_an_error_here_and_an_alert_there() {
    for version in VERSIONS {
        let (mut client, mut ours) = client(version).await;
        if version == &rustls::version::TLS13 {
            // The answer to this is ready, and would go out before the alert.
            client.get_mut().1.refresh_traffic_keys().unwrap();
            client.flush().await.unwrap();
        }
        client
            .get_mut()
            .0
            .write_all(b"\x17\x03\x03\x00\x20 not what the key would have made")
            .await
            .unwrap();
        let (received, end) = read_to_end(&mut ours).await;
        assert_eq!(received, b"");
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let told = client.read(&mut [0]).await.unwrap_err().to_string();
        assert!(told.contains("BadRecordMac"), "{told}");
    }
}

#[tokio::test]
async fn a_reset_is_an_error_of_its_own() {
    for version in VERSIONS {
        let (client, mut ours) = client(version).await;
        crate::net::options::data(client.get_ref().0).unwrap();
        drop(client);
        let (_, end) = read_to_end(&mut ours).await;
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
