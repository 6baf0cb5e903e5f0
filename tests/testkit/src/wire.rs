//! A blocking connection, plain or TLS, of a test's own: it shows how the other side ended, and can end in every way.
//!
//! rustls' own stream types are too polite for that. Every wait is bounded by [`DEADLINE`].

use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::{Connection, HandshakeKind, ProtocolVersion};
use socket2::{Domain, Socket, Type};

use super::DEADLINE;
use super::poll::poll;
use super::tcp_table;

/// How one side of a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// TLS close_notify; the orderly end of a TLS connection.
    CloseNotify,
    /// FIN: the orderly end of a plain connection, a truncation on a TLS one.
    Fin,
    /// RST.
    Reset,
}

/// A connection.
#[derive(Debug)]
pub struct Wire {
    socket: TcpStream,
    tls: Option<Box<Connection>>,
}

impl Wire {
    /// Takes over a connected socket.
    pub fn new(socket: TcpStream) -> Self {
        set_deadline(&socket, DEADLINE);
        socket.set_nodelay(true).expect("the socket is open");
        Self { socket, tls: None }
    }

    /// Connects.
    pub fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect_timeout(&address, DEADLINE);
        Self::new(socket.unwrap_or_else(|error| panic!("connect to {address}: {error}")))
    }

    /// Connects with the smallest buffers that the kernel gives, so that a peer who doesn't read is felt at once.
    pub fn connect_narrow(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket.set_recv_buffer_size(1).expect("it is open");
        socket.set_send_buffer_size(1).expect("it is open");
        socket.connect(&address.into()).expect("it accepts");
        Self::new(socket.into())
    }

    /// Sends these bytes again and again, until the peer has taken none of them for a second, since it can't get rid of what
    /// it has to say to them; returns how many it took.
    pub fn flood(&self, bytes: &[u8]) -> usize {
        let mut sender = &self.socket;
        let patience = Some(Duration::from_secs(1));
        sender.set_write_timeout(patience).expect("it isn't zero");
        let mut sent = 0;
        let stuck = loop {
            match sender.write(bytes) {
                Ok(taken) => sent += taken,
                Err(error) => break error,
            }
            assert!(sent < 100_000_000, "it is read, though it reads no answer");
        };
        assert_eq!(stuck.kind(), io::ErrorKind::WouldBlock);
        sent
    }

    /// Connects from this address.
    pub fn connect_from(from: IpAddr, to: SocketAddr) -> Self {
        Self::try_connect_from(from, to)
            .unwrap_or_else(|error| panic!("connect from {from} to {to}: {error}"))
    }

    /// The same, where it may be reset at once.
    ///
    /// # Errors
    /// Those of `bind(2)` and `connect(2)`.
    pub fn try_connect_from(from: IpAddr, to: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect_timeout(&to.into(), DEADLINE)?;
        Ok(Self::new(socket.into()))
    }

    /// Starts TLS and completes the handshake.
    ///
    /// # Errors
    /// As reading; a refused handshake is [`io::ErrorKind::InvalidData`].
    pub fn handshake(&mut self, connection: impl Into<Connection>) -> io::Result<()> {
        self.handshake_behind(b"", connection)
    }

    /// The same with `before` in front of the first byte, sent in one piece with it.
    ///
    /// # Errors
    /// As reading; a refused handshake is [`io::ErrorKind::InvalidData`].
    pub fn handshake_behind(
        &mut self,
        before: &[u8],
        connection: impl Into<Connection>,
    ) -> io::Result<()> {
        let tls = self.tls.insert(Box::new(connection.into()));
        let mut first = before.to_vec();
        while tls.wants_write() {
            tls.write_tls(&mut first)?;
        }
        self.socket.write_all(&first)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut Uninterrupted(&self.socket))?;
        }
        flush(tls, &self.socket)
    }

    /// Reads until the other side ends: what came, and how it ended.
    ///
    /// A fatal alert, or what else breaks TLS, is no end yet: what counts is how the socket ends behind it.
    ///
    /// # Panics
    /// If it doesn't end in time.
    pub fn read_to_end(&mut self) -> (Vec<u8>, End) {
        self.read_to_end_by(16 * 1024)
    }

    /// The same, so many bytes at a time.
    ///
    /// # Panics
    /// If it doesn't end in time.
    pub fn read_to_end_by(&mut self, count: usize) -> (Vec<u8>, End) {
        let mut content = Vec::new();
        let mut buffer = vec![0; count];
        loop {
            match self.read(&mut buffer) {
                Ok(0) if self.tls.is_some() => return (content, End::CloseNotify),
                Ok(0) => return (content, End::Fin),
                Ok(count) => content.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.tls = None;
                    return (content, self.read_to_end().1);
                }
                Err(error) => return (content, end_of(&error)),
            }
        }
    }

    /// Sends these bytes again and again until the other side ends, and tells how it did.
    ///
    /// # Panics
    /// If it doesn't end in time.
    pub fn pour(&mut self, bytes: &[u8]) -> End {
        loop {
            if let Err(error) = self.write_all(bytes) {
                return end_of(&error);
            }
        }
    }

    /// Sends bytes below TLS, where they are no record of it.
    ///
    /// # Errors
    /// If the connection is gone already.
    pub fn send_below_tls(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Sends a fatal alert, as a peer does that can't decrypt what it got.
    ///
    /// # Errors
    /// If the connection is gone already, or has no TLS.
    pub fn alert(&mut self) -> io::Result<()> {
        let tls = self.tls.as_mut().ok_or(io::ErrorKind::Unsupported)?;
        // A record of application data, version and length, that no key of this session made.
        let mut record = &[[23, 3, 3, 0, 32].as_slice(), &[0; 32]].concat()[..];
        tls.read_tls(&mut record)?;
        tls.process_new_packets()
            .expect_err("nothing decrypts to that");
        flush(tls, &self.socket)
    }

    /// Ends this side as it should be: close_notify if there is TLS, then FIN. The other side can still send.
    ///
    /// # Errors
    /// If the connection is gone already.
    pub fn finish(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            flush(tls, &self.socket)?;
        }
        self.fin()
    }

    /// Ends this side with a FIN alone; on a TLS connection that is a truncation.
    ///
    /// # Errors
    /// If the connection is gone already.
    pub fn fin(&mut self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    /// Ends both directions with a RST, which has arrived when this returns: under load the kernel delivers it later, and what is
    /// sent behind it on another connection may overtake it.
    pub fn reset(self) {
        let (own, peer) = (self.socket.local_addr(), self.socket.peer_addr());
        socket2::SockRef::from(&self.socket)
            .set_linger(Some(Duration::ZERO))
            .expect("the socket is open");
        drop(self.socket);
        let (Ok(own), Ok(peer)) = (own, peer) else {
            return; // The other side was the first.
        };
        poll(|| match tcp_table::has(peer, own) {
            true => Err("the other end is not reset".to_owned()),
            false => Ok(()),
        });
    }

    /// Ends this side in the given way.
    ///
    /// # Errors
    /// If the connection is gone already.
    pub fn end(mut self, end: End) -> io::Result<()> {
        match end {
            End::CloseNotify => self.finish()?,
            End::Fin => self.fin()?,
            End::Reset => {
                self.reset();
                return Ok(());
            }
        }
        // Closing with unread input would turn the FIN into a RST: wait for the other side's end, however it comes.
        let _ = io::copy(&mut self, &mut io::sink());
        Ok(())
    }

    /// The handshake was an abbreviated one: this connection resumed an earlier session.
    pub fn resumed(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|tls| tls.handshake_kind() == Some(HandshakeKind::Resumed))
    }

    /// The version of TLS, if there is any.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.tls.as_ref().and_then(|tls| tls.protocol_version())
    }

    /// The other side's leaf certificate in DER, if there is any.
    pub fn peer_certificate(&self) -> Option<Vec<u8>> {
        let chain = self.tls.as_ref()?.peer_certificates()?;
        chain.first().map(|leaf| leaf.to_vec())
    }

    /// The socket beneath, for what this type has no name for.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return Uninterrupted(&self.socket).read(buffer);
        };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            flush(tls, &self.socket)?;
            tls.read_tls(&mut Uninterrupted(&self.socket))?;
            let outcome = tls.process_new_packets();
            if let Err(error) = outcome {
                // The other side learns by an alert what was wrong, if it is still there.
                let _ = flush(tls, &self.socket);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return Uninterrupted(&self.socket).write(buffer);
        };
        let count = tls.writer().write(buffer)?;
        flush(tls, &self.socket)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// The cryptography that tests use on their side.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn flush(tls: &mut Connection, socket: &TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(&mut Uninterrupted(socket))?;
    }
    Ok(())
}

/// A socket that goes on after a signal. With a deadline, the kernel ends reads and writes with EINTR when the process has been
/// stopped for a while, whatever handlers there are (signal(7)): machines are frozen and thawed.
struct Uninterrupted<'a>(&'a TcpStream);

impl Read for Uninterrupted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| self.0.read(buffer))
    }
}

impl Write for Uninterrupted<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        uninterrupted(|| self.0.write(buffer))
    }

    /// rustls writes an alert behind other records once, and so in one piece with them.
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        uninterrupted(|| self.0.write_vectored(buffers))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn set_deadline(socket: &TcpStream, deadline: Duration) {
    socket
        .set_read_timeout(Some(deadline))
        .expect("the deadline isn't zero");
    socket
        .set_write_timeout(Some(deadline))
        .expect("the deadline isn't zero");
}

fn end_of(error: &io::Error) -> End {
    match error.kind() {
        // The error of rustls when the socket ends before close_notify came.
        io::ErrorKind::UnexpectedEof => End::Fin,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => End::Reset,
        _ => panic!("the other side neither sent nor ended: {error}"),
    }
}
