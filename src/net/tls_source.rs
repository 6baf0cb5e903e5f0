//! The reading side of a data connection under TLS.
//!
//! What a relay usually does costs much for an upload: rustls reads its connection in pieces of 4 KiB, five system calls
//! for each record, each of which may wake the sender; and the bytes are copied from one buffer to the next three times.
//! So rustls is used without its own buffers here. As much is read as there is, decrypted, and gathered in the same
//! buffer, in front of what isn't decrypted yet:
//!
//! ```text
//! | gathered ->      | read and not decrypted ->      |
//! 0              HEADROOM
//! ```
//!
//! A record takes more room than what it holds, so the gathered bytes never reach the record that is next.

use std::fmt;
use std::io;
use std::ops::{DerefMut, Range};
use std::task::{Context, Poll, ready};

use rustls::HandshakeKind;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedConnectionCommon, UnbufferedStatus, WriteTraffic,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::options;
use super::source::{SourceEnd, Supply, poll_read};

/// One side of a TLS connection without buffers. rustls has two, of the same shape.
pub trait Unbuffered: DerefMut<Target = UnbufferedConnectionCommon<Self::Data>> {
    /// What rustls keeps for this side.
    type Data;

    /// Takes up what has arrived, see [`UnbufferedConnectionCommon`].
    fn process<'c, 'i>(&'c mut self, arrived: &'i mut [u8])
    -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Unbuffered for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        arrived: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(arrived)
    }
}

impl Unbuffered for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        arrived: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(arrived)
    }
}

/// A TLS connection that is read to its end.
pub struct TlsSource<C> {
    socket: TcpStream,
    connection: C,
    incoming: Incoming,
    /// Records of ours that have not gone out yet: of the handshake, alerts, the answer to a key update.
    outgoing: Vec<u8>,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    /// The peer has said close_notify.
    Ended,
    /// Nothing after the gathered bytes can be trusted.
    Failed(io::Error),
}

/// What a connection needs before it can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// More from the peer.
    Bytes,
    /// That the outgoing records go out.
    Sending,
    /// Nothing more: the peer has said close_notify.
    Nothing,
}

impl<C: Unbuffered> TlsSource<C> {
    /// Does the handshake, for which `read` has been read already.
    pub(super) async fn handshake(
        socket: TcpStream,
        connection: C,
        read: &[u8],
    ) -> io::Result<Self> {
        let mut source = Self {
            socket,
            connection,
            incoming: Incoming::holding(read),
            outgoing: Vec::new(),
            state: State::Open,
        };
        loop {
            match source.advance(silent) {
                Ok(Need::Sending) => source.send().await?,
                Ok(Need::Bytes) if !source.connection.is_handshaking() => return Ok(source),
                Ok(Need::Bytes) => {
                    let count = source.socket.read(source.incoming.room()).await?;
                    if count == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    source.incoming.arrived(count);
                }
                Ok(Need::Nothing) if source.connection.is_handshaking() => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                // An empty file ends in the packet that ends the handshake.
                Ok(Need::Nothing) => {
                    source.state = State::Ended;
                    return Ok(source);
                }
                Err(error) => {
                    source.send_at_once();
                    return Err(error);
                }
            }
        }
    }

    pub(super) fn handshake_kind(&self) -> Option<HandshakeKind> {
        self.connection.handshake_kind()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.incoming.buffer[..self.incoming.gathered]
    }

    pub(super) fn taken(&mut self) {
        self.incoming.gathered = 0;
    }

    pub(super) fn poll_supply(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Supply>> {
        loop {
            match &mut self.state {
                State::Open => {}
                _ if self.incoming.gathered > 0 => return Poll::Ready(Ok(Supply::Bytes)),
                State::Ended => return Poll::Ready(Ok(Supply::End(SourceEnd::CloseNotify))),
                State::Failed(error) => {
                    let kind = error.kind();
                    return Poll::Ready(Err(std::mem::replace(error, kind.into())));
                }
            }
            match self.advance(silent) {
                Ok(Need::Sending) => self.send_at_once(),
                Ok(Need::Nothing) => self.state = State::Ended,
                Ok(Need::Bytes) if self.incoming.gathered > 0 => {
                    return Poll::Ready(Ok(Supply::Bytes));
                }
                Ok(Need::Bytes) => {
                    let room = self.incoming.room();
                    match ready!(poll_read(&mut self.socket, context, room))? {
                        0 => return Poll::Ready(Ok(Supply::End(SourceEnd::Unclean))),
                        count => self.incoming.arrived(count),
                    }
                }
                Err(error) => {
                    self.send_at_once();
                    self.state = State::Failed(error);
                }
            }
        }
    }

    /// Takes up what has been read, for as long as that leads anywhere. `speak` is called when it is our turn.
    fn advance(
        &mut self,
        speak: impl Fn(WriteTraffic<'_, C::Data>, &mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<Need> {
        loop {
            let (mut room, arrived) = self.incoming.split();
            let UnbufferedStatus { mut discard, state } = self.connection.process(arrived);
            let need = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        room.gather(record.payload)?;
                        discard += record.discard;
                    }
                    None
                }
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    encode(data, &mut self.outgoing)?;
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    Some(Need::Sending)
                }
                Ok(ConnectionState::BlockedHandshake) => Some(Need::Bytes),
                Ok(ConnectionState::WriteTraffic(turn)) => {
                    speak(turn, &mut self.outgoing)?;
                    Some(Need::Bytes)
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Some(Need::Nothing),
                // Early data, which no configuration of ours offers.
                Ok(_) => return Err(io::ErrorKind::Unsupported.into()),
                Err(error) => {
                    self.incoming.discard(discard);
                    self.encode_alert()?;
                    return Err(invalid(error));
                }
            };
            self.incoming.discard(discard);
            if let Some(need) = need {
                return Ok(need);
            }
        }
    }

    /// Takes the alert that rustls has ready after an error. Only that: then it would take the wrong record up again.
    fn encode_alert(&mut self) -> io::Result<()> {
        let (_, arrived) = self.incoming.split();
        match self.connection.process(arrived).state {
            Ok(ConnectionState::EncodeTlsData(alert)) => encode(alert, &mut self.outgoing),
            _ => Ok(()),
        }
    }

    async fn send(&mut self) -> io::Result<()> {
        self.socket.write_all(&self.outgoing).await?;
        self.outgoing.clear();
        Ok(())
    }

    /// Sends what the socket takes without waiting. In the middle of a file that is an alert, or the answer to a key
    /// update: whether it arrives decides nothing.
    fn send_at_once(&mut self) {
        if let Ok(count) = self.socket.try_write(&self.outgoing) {
            self.outgoing.drain(..count);
        }
    }

    pub(super) async fn finish(&mut self) -> io::Result<()> {
        while self.advance(close_notify)? == Need::Sending {}
        options::orderly(&self.socket)?;
        options::hold_for_fin(&self.socket)?;
        self.send().await?;
        self.socket.shutdown().await
    }
}

fn silent<Data>(_: WriteTraffic<'_, Data>, _: &mut Vec<u8>) -> io::Result<()> {
    Ok(())
}

fn close_notify<Data>(mut turn: WriteTraffic<'_, Data>, outgoing: &mut Vec<u8>) -> io::Result<()> {
    append(outgoing, |room| match turn.queue_close_notify(room) {
        Err(EncryptError::InsufficientSize(needed)) => Ok(Err(needed)),
        other => other.map(Ok),
    })
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, outgoing: &mut Vec<u8>) -> io::Result<()> {
    append(outgoing, |room| match data.encode(room) {
        Err(EncodeError::InsufficientSize(needed)) => Ok(Err(needed)),
        other => other.map(Ok),
    })
}

/// Appends a record, of which rustls says how much room it needs when it finds too little.
fn append<E: std::error::Error + Send + Sync + 'static>(
    outgoing: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> Result<Result<usize, InsufficientSizeError>, E>,
) -> io::Result<()> {
    let end = outgoing.len();
    let mut room = 0;
    loop {
        outgoing.resize(end + room, 0);
        match write(&mut outgoing[end..]).map_err(io::Error::other)? {
            Ok(written) => {
                outgoing.truncate(end + written);
                return Ok(());
            }
            Err(InsufficientSizeError { required_size }) => room = required_size,
        }
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<C> fmt::Debug for TlsSource<C> {
    /// Without the bytes. rustls' unbuffered connections have nothing to show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSource")
            .field("socket", &self.socket)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// The buffer, see the picture above.
struct Incoming {
    buffer: Vec<u8>,
    /// How many decrypted bytes there are, from the beginning.
    gathered: usize,
    /// What has arrived and is not decrypted.
    arrived: Range<usize>,
    /// Whether the last read took all the room: then there may be more.
    filled: bool,
}

impl Incoming {
    fn holding(read: &[u8]) -> Self {
        let mut buffer = vec![0; HEADROOM + FIRST_READ.max(read.len())];
        let arrived = HEADROOM..HEADROOM + read.len();
        buffer[arrived.clone()].copy_from_slice(read);
        Self {
            buffer,
            gathered: 0,
            arrived,
            filled: false,
        }
    }

    /// Where the next read may put its bytes. Never nothing: rustls takes no message of more than 64 KiB, and leaves no
    /// whole record.
    fn room(&mut self) -> &mut [u8] {
        let start = self.gathered + HEADROOM;
        if self.arrived.start > start {
            let left = self.arrived.len();
            self.buffer.copy_within(self.arrived.clone(), start);
            self.arrived = start..start + left;
        }
        let free = self.buffer.len() - self.arrived.end;
        if free < FIRST_READ || (self.filled && self.buffer.len() < LARGEST) {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        &mut self.buffer[self.arrived.end..]
    }

    fn arrived(&mut self, count: usize) {
        self.arrived.end += count;
        self.filled = self.arrived.end == self.buffer.len();
    }

    /// The room for decrypted bytes, and what is to be decrypted.
    fn split(&mut self) -> (Room<'_>, &mut [u8]) {
        let (front, rest) = self.buffer.split_at_mut(self.arrived.start);
        let room = Room {
            front,
            gathered: &mut self.gathered,
        };
        (room, &mut rest[..self.arrived.len()])
    }

    fn discard(&mut self, count: usize) {
        self.arrived.start += count;
    }
}

/// Where decrypted bytes are gathered.
struct Room<'a> {
    front: &'a mut [u8],
    gathered: &'a mut usize,
}

impl Room<'_> {
    fn gather(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = *self.gathered + bytes.len();
        self.front
            .get_mut(*self.gathered..end)
            .ok_or(io::ErrorKind::InvalidData)?
            .copy_from_slice(bytes);
        *self.gathered = end;
        Ok(())
    }
}

/// What the largest record holds (RFC 8446 section 5.1).
const HEADROOM: usize = 16 * 1024;

/// One record, with room for what follows it.
const FIRST_READ: usize = 20 * 1024;

/// Where files are large. The more bytes are sent at once, the more seldom the receiver has to be woken. It is a tenth of
/// what the kernel keeps for such a connection.
const LARGEST: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
    use tokio::net::TcpListener;
    use tokio_rustls::{TlsConnector, client};

    use super::super::source::Source;
    use super::*;
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

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let name = ServerName::try_from("ftp.test").unwrap();
        (
            TlsConnector::from(Arc::new(theirs)).connect(name, socket),
            async move { Source::from_client(accepted, Arc::new(ours), &[]).await },
        )
    }

    /// What a source gives until its end, and the end or the error in its place.
    async fn read_to_end(source: &mut Source) -> (Vec<u8>, io::Result<SourceEnd>) {
        let mut all = Vec::new();
        loop {
            match poll_fn(|context| source.poll_supply(context)).await {
                Ok(Supply::Bytes) => {
                    all.extend_from_slice(source.bytes());
                    source.taken();
                }
                Ok(Supply::End(end)) => return (all, Ok(end)),
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
}
