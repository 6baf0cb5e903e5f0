//! A crowd of clients that mean no good: five thousand connections that keep a place each and give nothing for it, and a
//! flood of handshakes. A process of its own, so that its priority can be lower than that of the good client.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::certificate::SERVER_NAME;

/// Whom they attack.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Target {
    /// The explicit listener.
    explicit: SocketAddr,
    /// The implicit listener.
    implicit: SocketAddr,
}

/// How a connection is kept without giving anything.
#[derive(Debug, Clone, Copy)]
enum Nuisance {
    /// Never says a word after the greeting.
    Silent,
    /// Says a word that never ends, a byte a second.
    Dribbling,
    /// Never begins the handshake.
    NoHello,
    /// Sends half a ClientHello.
    HalfHello,
    /// Does the handshake and never logs in.
    NoLogin,
}

impl Nuisance {
    const ALL: [Self; 5] = [
        Self::Silent,
        Self::Dribbling,
        Self::NoHello,
        Self::HalfHello,
        Self::NoLogin,
    ];
}

/// Attacks until the process is killed.
pub async fn attack(target: Target) -> io::Result<()> {
    let tls = careless()?;
    let hello = hello(&tls)?;
    for number in 0..CROWD {
        let nuisance = Nuisance::ALL[number % Nuisance::ALL.len()];
        let (tls, hello) = (Arc::clone(&tls), Arc::clone(&hello));
        tokio::spawn(async move {
            loop {
                // However it ends, the next one takes its place.
                let _ = annoy(nuisance, target, source(CROWD_NET, number), &tls, &hello).await;
                sleep(REST).await;
            }
        });
        if number % RAMP == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    }
    flood(target, tls).await
}

async fn annoy(
    nuisance: Nuisance,
    target: Target,
    from: Ipv4Addr,
    tls: &Arc<ClientConfig>,
    hello: &[u8],
) -> io::Result<()> {
    let to = match nuisance {
        Nuisance::Silent | Nuisance::Dribbling => target.explicit,
        Nuisance::NoHello | Nuisance::HalfHello | Nuisance::NoLogin => target.implicit,
    };
    let mut socket = connect(from, to).await?;
    match nuisance {
        Nuisance::Silent | Nuisance::NoHello => wait_for_end(&mut socket).await,
        Nuisance::Dribbling => loop {
            socket.write_all(b"N").await?;
            if let Ok(ended) = timeout(Duration::from_secs(1), wait_for_end(&mut socket)).await {
                return ended;
            }
        },
        Nuisance::HalfHello => {
            socket.write_all(&hello[..hello.len() / 2]).await?;
            wait_for_end(&mut socket).await
        }
        Nuisance::NoLogin => {
            let mut stream = TlsConnector::from(Arc::clone(tls))
                .connect(name()?, socket)
                .await?;
            let mut waste = [0; 256];
            while stream.read(&mut waste).await? > 0 {}
            Ok(())
        }
    }
}

/// Full handshakes at a steady rate; each connection is dropped at once after its own.
async fn flood(target: Target, tls: Arc<ClientConfig>) -> io::Result<()> {
    let mut tick = interval(Duration::from_secs(1) / HANDSHAKES_A_SECOND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    for number in 0.. {
        tick.tick().await;
        let place = Arc::clone(&places).acquire_owned().await;
        let tls = Arc::clone(&tls);
        tokio::spawn(async move {
            let _place = place;
            if let Ok(socket) = connect(source(FLOOD_NET, number), target.implicit).await {
                let _ = TlsConnector::from(tls).connect(name()?, socket).await;
            }
            io::Result::Ok(())
        });
    }
    Ok(())
}

async fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

async fn wait_for_end(socket: &mut TcpStream) -> io::Result<()> {
    let mut waste = [0; 256];
    while socket.read(&mut waste).await? > 0 {}
    Ok(())
}

/// So many addresses that none needs more sessions than one client may have.
fn source(net: u8, number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, net, 0, 1 + (number % ADDRESSES) as u8)
}

fn name() -> io::Result<ServerName<'static>> {
    ServerName::try_from(SERVER_NAME).map_err(io::Error::other)
}

/// The bytes with which a handshake begins.
fn hello(tls: &Arc<ClientConfig>) -> io::Result<Arc<[u8]>> {
    let mut connection =
        ClientConnection::new(Arc::clone(tls), name()?).map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes)?;
    Ok(bytes.into())
}

/// TLS of somebody who doesn't care whom he talks to, and saves the time for it.
fn careless() -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    });
    let mut tls = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Careless(provider)))
        .with_no_client_auth();
    tls.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(tls))
}

#[derive(Debug)]
struct Careless(Arc<CryptoProvider>);

impl ServerCertVerifier for Careless {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// How many connections are kept.
pub const CROWD: usize = 5_000;

/// How many handshakes are asked for besides.
pub const HANDSHAKES_A_SECOND: u32 = 200;

/// So many connections are opened at a time in the beginning.
const RAMP: usize = 20;

/// Before a connection that was ended is replaced.
const REST: Duration = Duration::from_millis(10);

/// How many handshakes may be under way.
const AT_ONCE: usize = 200;

const ADDRESSES: usize = 100;
const CROWD_NET: u8 = 1;
const FLOOD_NET: u8 = 2;
