//! The load client: FTP over implicit TLS, the same dialogue through a relay, or no TLS at all.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::certificate::SERVER_NAME;

/// What stands between the client and the backend.
#[derive(Debug, Clone)]
pub struct Route {
    /// Where control connections go.
    pub control: SocketAddr,
    /// How data goes.
    pub data: DataRoute,
    /// `None`: no TLS.
    pub tls: Option<ClientConfig>,
}

/// How a session's data goes.
#[derive(Debug, Clone, Copy)]
pub enum DataRoute {
    /// By EPSV, as the control connection says.
    Ftp,
    /// To a fixed port, since the relay doesn't know what the control connection says.
    Fixed(SocketAddr),
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

type Connection = BufReader<Box<dyn Duplex>>;

/// A session that is logged in.
pub struct Session {
    control: Connection,
    data: DataRoute,
    /// Holds the TLS sessions that data connections resume.
    data_tls: Option<Arc<ClientConfig>>,
}

impl Session {
    /// Connects, does a full handshake, and logs in.
    pub async fn login(route: &Route) -> io::Result<Self> {
        let own = |tls: &ClientConfig| {
            let mut tls = tls.clone();
            tls.resumption = Resumption::in_memory_sessions(2);
            Arc::new(tls)
        };
        let tls = route.tls.as_ref().map(own);
        let data_tls = match route.data {
            DataRoute::Ftp => tls.clone(),
            // Another port of a relay has other ticket keys.
            DataRoute::Fixed(_) => route.tls.as_ref().map(own),
        };
        let (control, _) = connect(route.control, tls.as_ref(), 512).await?;
        let mut session = Self {
            control,
            data: route.data,
            data_tls,
        };
        session.expect(220).await?;
        session.command("USER bench", 331).await?;
        session.command("PASS bench", 230).await?;
        Ok(session)
    }

    /// Makes data connections private, where the way to say so is FTP's.
    pub async fn protect(&mut self) -> io::Result<()> {
        if let (DataRoute::Ftp, Some(_)) = (self.data, &self.data_tls) {
            self.command("PBSZ 0", 200).await?;
            self.command("PROT P", 200).await?;
        }
        Ok(())
    }

    /// Says a command and waits for its reply.
    pub async fn command(&mut self, command: &str, number: u16) -> io::Result<String> {
        self.control
            .write_all(format!("{command}\r\n").as_bytes())
            .await?;
        self.control.flush().await?;
        self.expect(number).await
    }

    async fn expect(&mut self, number: u16) -> io::Result<String> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.control.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line.get(3..4) == Some(" ") && line.starts_with(|first: char| first.is_ascii_digit())
            {
                break;
            }
        }
        if line.starts_with(&number.to_string()) {
            Ok(line)
        } else {
            Err(io::Error::other(format!("wanted {number}, got {line:?}")))
        }
    }

    /// Downloads so many bytes; says whether the data connection resumed.
    pub async fn download(&mut self, bytes: u64) -> io::Result<Handshake> {
        let (mut data, handshake) = self
            .open(&format!("RETR {bytes}"), &format!("GET {bytes}\n"))
            .await?;
        let received = discard(&mut data).await?;
        if received != bytes {
            return Err(io::Error::other(format!(
                "{received} of {bytes} bytes came"
            )));
        }
        data.shutdown().await?;
        if let DataRoute::Ftp = self.data {
            self.expect(226).await?;
        }
        Ok(handshake)
    }

    /// Uploads so many bytes; says whether the data connection resumed.
    pub async fn upload(&mut self, bytes: u64) -> io::Result<Handshake> {
        static CONTENT: [u8; CHUNK] = [b'x'; CHUNK];
        let (mut data, handshake) = self.open("STOR bench", &format!("PUT {bytes}\n")).await?;
        let mut left = bytes;
        while left > 0 {
            let next = left.min(CHUNK as u64);
            data.write_all(&CONTENT[..next as usize]).await?;
            left -= next;
        }
        data.flush().await?;
        match self.data {
            DataRoute::Ftp => {
                data.shutdown().await?;
                // How the server ends its side tells nothing: ProFTPD may leave our close_notify unread, and then it is a
                // reset.
                let _ = discard(&mut data).await;
                self.expect(226).await?;
            }
            // A relay needn't pass on one direction's end, so the backend counts.
            DataRoute::Fixed(_) => {
                let mut line = String::new();
                data.read_line(&mut line).await?;
                if line != "ok\n" {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                data.shutdown().await?;
            }
        }
        Ok(handshake)
    }

    async fn open(&mut self, command: &str, request: &str) -> io::Result<(Connection, Handshake)> {
        match self.data {
            DataRoute::Ftp => {
                let reply = self.command("EPSV", 229).await?;
                let port = reply
                    .split('|')
                    .nth(3)
                    .and_then(|port| port.parse::<u16>().ok())
                    .ok_or_else(|| io::Error::other(format!("no port in {reply:?}")))?;
                self.control
                    .write_all(format!("{command}\r\n").as_bytes())
                    .await?;
                self.control.flush().await?;
                let address = (Ipv4Addr::LOCALHOST, port).into();
                // Servers differ in whether 150 comes before or after the handshake.
                let tls = self.data_tls.clone();
                let (opened, ()) =
                    tokio::try_join!(connect(address, tls.as_ref(), CHUNK), async {
                        self.expect(150).await.map(drop)
                    })?;
                Ok(opened)
            }
            DataRoute::Fixed(address) => {
                let mut opened = connect(address, self.data_tls.as_ref(), CHUNK).await?;
                opened.0.write_all(request.as_bytes()).await?;
                opened.0.flush().await?;
                Ok(opened)
            }
        }
    }

    /// Says goodbye.
    pub async fn quit(mut self) -> io::Result<()> {
        self.command("QUIT", 221).await?;
        self.control.shutdown().await
    }
}

/// How a connection's TLS came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// There is none.
    Plain,
    /// With a certificate.
    Full,
    /// From an earlier session.
    Resumed,
}

async fn connect(
    address: SocketAddr,
    tls: Option<&Arc<ClientConfig>>,
    buffer: usize,
) -> io::Result<(Connection, Handshake)> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let Some(tls) = tls else {
        return Ok((
            BufReader::with_capacity(buffer, Box::new(socket)),
            Handshake::Plain,
        ));
    };
    let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::clone(tls))
        .connect(name, socket)
        .await?;
    let handshake = match stream.get_ref().1.handshake_kind() {
        Some(HandshakeKind::Resumed) => Handshake::Resumed,
        _ => Handshake::Full,
    };
    Ok((
        BufReader::with_capacity(buffer, Box::new(stream)),
        handshake,
    ))
}

/// Reads to the end, and says how much came.
async fn discard(data: &mut Connection) -> io::Result<u64> {
    let mut received = 0;
    loop {
        let count = data.fill_buf().await?.len();
        if count == 0 {
            return Ok(received);
        }
        received += count as u64;
        data.consume(count);
    }
}

const CHUNK: usize = 64 * 1024;
