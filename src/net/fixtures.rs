//! Connections for the tests of this module and the ones below it.

use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::stream::Stream;
use crate::tls;

/// Both ends of a connection: the client's first.
pub async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    (client, listener.accept().await.unwrap().0)
}

/// The client's and the server's end of a TLS connection, of TLS 1.2 so that neither sends tickets.
pub async fn ends() -> (client::TlsStream<TcpStream>, server::TlsStream<TcpStream>) {
    let identity = rcgen::generate_simple_self_signed(vec!["ftp.test".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(identity.cert.der().clone()).unwrap();
    let accepting = ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![identity.cert.der().clone()],
            PrivateKeyDer::try_from(identity.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let connecting = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (socket, accepted) = connection().await;
    let name = ServerName::try_from("ftp.test").unwrap();
    tokio::try_join!(
        TlsConnector::from(Arc::new(connecting)).connect(name, socket),
        TlsAcceptor::from(Arc::new(accepting)).accept(accepted),
    )
    .unwrap()
}

/// A client, and our end of its connection.
pub async fn pair() -> (client::TlsStream<TcpStream>, Stream) {
    let (client, server) = ends().await;
    (client, Stream::ToClient(Box::new(server)))
}
