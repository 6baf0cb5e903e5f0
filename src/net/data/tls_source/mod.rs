//! The reading side of a data connection under TLS.
//!
//! The usual relay is expensive for an upload: rustls reads its connection in pieces of 4 KiB, five system calls
//! for each record, each of which may wake the sender; and the bytes are copied from one buffer to the next three times.
//! So rustls is used without its own buffers here: as much is read as there is, decrypted in the buffer that it was read
//! into, and gathered there.

mod record_buffer;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::ops::DerefMut;
use std::task::{Context, Poll, ready};

use rustls::HandshakeKind;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedConnectionCommon, UnbufferedStatus, WriteTraffic,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::coop::poll_proceed;

use super::source::{Fill, SourceEnd, poll_read};
use crate::net::options;
use record_buffer::RecordBuffer;

/// One side of a TLS connection without buffers. rustls has two, of the same shape.
pub trait Unbuffered: DerefMut<Target = UnbufferedConnectionCommon<Self::Data>> {
    /// The data that rustls keeps for this side.
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

/// How many records are decrypted for one operation of a task's budget: a buffer of full ones counts as four.
const RECORDS_AN_OPERATION: usize = 8;

/// A TLS connection that is read to its end.
pub struct TlsSource<C> {
    socket: TcpStream,
    connection: C,
    incoming: RecordBuffer,
    /// Our records that have not been sent yet: of the handshake, and alerts.
    outgoing: Vec<u8>,
    /// How many records have been decrypted that don't count against the task's budget yet.
    uncounted: usize,
    state: ReadState,
}

#[derive(Debug)]
enum ReadState {
    Open,
    /// The peer has sent close_notify.
    Ended,
    /// The connection has failed: nothing after the gathered bytes can be trusted.
    Failed(io::Error),
}

/// The step that a connection needs before it can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextStep {
    /// More bytes from the peer have to be read.
    Read,
    /// The outgoing records have to be sent.
    Write,
    /// No step any more: the peer has sent close_notify.
    Ended,
}

impl TlsSource<UnbufferedServerConnection> {
    /// The certificates that the client has shown.
    pub(super) fn client_certificates(&self) -> &[CertificateDer<'static>] {
        self.connection.peer_certificates().unwrap_or_default()
    }
}

impl<C: Unbuffered> TlsSource<C> {
    /// Performs the handshake, for which `read` has been read already. `amend` is given our first records before they go out.
    pub(super) async fn handshake(
        socket: TcpStream,
        connection: C,
        read: &[u8],
        amend: impl Fn(&mut Vec<u8>),
    ) -> io::Result<Self> {
        let mut source = Self {
            socket,
            connection,
            incoming: RecordBuffer::holding(read),
            outgoing: Vec::new(),
            uncounted: 0,
            state: ReadState::Open,
        };
        source.run_handshake(amend).await?;
        // We have nothing more to say that would take the acknowledgement along, and a peer that leaves Nagle's algorithm on
        // keeps the beginning of its file back until its last handshake message has been acknowledged.
        let _ = options::quickack(&source.socket);
        Ok(source)
    }

    async fn run_handshake(&mut self, amend: impl Fn(&mut Vec<u8>)) -> io::Result<()> {
        let mut amend = Some(amend);
        loop {
            match self.advance(stay_idle) {
                Ok(NextStep::Write) => {
                    if let Some(amend) = amend.take() {
                        amend(&mut self.outgoing);
                    }
                    self.send().await?;
                }
                Ok(NextStep::Read) if !self.connection.is_handshaking() => return Ok(()),
                Ok(NextStep::Read) => {
                    let count = self.socket.read(self.incoming.spare()?).await?;
                    if count == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.incoming.read(count);
                }
                Ok(NextStep::Ended) if self.connection.is_handshaking() => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                // An empty file ends in the packet that ends the handshake.
                Ok(NextStep::Ended) => {
                    self.state = ReadState::Ended;
                    return Ok(());
                }
                Err(error) => {
                    self.try_send();
                    return Err(error);
                }
            }
        }
    }

    pub(super) fn handshake_kind(&self) -> Option<HandshakeKind> {
        self.connection.handshake_kind()
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// How many bytes have been read of the socket, and are less than a record.
    pub(super) fn undecrypted(&self) -> usize {
        self.incoming.undecrypted()
    }

    pub(super) fn buffer(&self) -> &[u8] {
        self.incoming.plaintext()
    }

    pub(super) fn consume(&mut self) {
        self.incoming.clear_plaintext();
    }

    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Fill>> {
        loop {
            match &mut self.state {
                ReadState::Open => {}
                _ if !self.incoming.plaintext().is_empty() => return Poll::Ready(Ok(Fill::Bytes)),
                ReadState::Ended => return Poll::Ready(Ok(Fill::End(SourceEnd::CloseNotify))),
                ReadState::Failed(error) => {
                    let kind = error.kind();
                    return Poll::Ready(Err(std::mem::replace(error, kind.into())));
                }
            }
            match self.advance(stay_idle) {
                Ok(NextStep::Write) => self.try_send(),
                Ok(NextStep::Ended) => self.state = ReadState::Ended,
                Ok(NextStep::Read) if !self.incoming.plaintext().is_empty() => {
                    return Poll::Ready(Ok(Fill::Bytes));
                }
                Ok(NextStep::Read) => {
                    self.count_records(context);
                    let spare = self.incoming.spare()?;
                    match ready!(poll_read(&mut self.socket, context, spare))? {
                        0 => return Poll::Ready(self.cut_off()),
                        count => self.incoming.read(count),
                    }
                }
                Err(error) => {
                    self.try_send();
                    self.state = ReadState::Failed(error);
                }
            }
        }
    }

    /// Counts the decrypted records against the task's budget. A read counts as one operation, however many records it brings, and
    /// those of one byte are 22,000 in a buffer.
    fn count_records(&mut self, context: &mut Context<'_>) {
        let operations = self.uncounted / RECORDS_AN_OPERATION;
        self.uncounted %= RECORDS_AN_OPERATION;
        for _ in 0..operations {
            match poll_proceed(context) {
                Poll::Ready(operation) => operation.made_progress(),
                // The budget is used up: the next read yields.
                Poll::Pending => return,
            }
        }
    }

    /// What a FIN without close_notify means. There are servers that end every file so, but none ends one within a record.
    fn cut_off(&self) -> io::Result<Fill> {
        if self.incoming.is_empty() {
            Ok(Fill::End(SourceEnd::Unclean))
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Processes what has been read, as far as possible. `on_idle` is called when nothing is left to process.
    fn advance(
        &mut self,
        on_idle: impl Fn(WriteTraffic<'_, C::Data>, &mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<NextStep> {
        loop {
            let (mut spare, arrived) = self.incoming.split();
            let UnbufferedStatus { mut discard, state } = self.connection.process(arrived);
            let next = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        spare.append(record.payload)?;
                        discard += record.discard;
                        self.uncounted += 1;
                    }
                    None
                }
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    encode(data, &mut self.outgoing)?;
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    Some(NextStep::Write)
                }
                Ok(ConnectionState::BlockedHandshake) => Some(NextStep::Read),
                Ok(ConnectionState::WriteTraffic(turn)) => {
                    on_idle(turn, &mut self.outgoing)?;
                    Some(NextStep::Read)
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Some(NextStep::Ended),
                // Early data, which no configuration of ours offers.
                Ok(_) => return Err(io::ErrorKind::Unsupported.into()),
                Err(error) => {
                    self.incoming.discard(discard);
                    self.encode_alert()?;
                    return Err(invalid(error));
                }
            };
            self.incoming.discard(discard);
            if let Some(next) = next {
                return Ok(next);
            }
        }
    }

    /// Takes the alert that rustls has for its error, and nothing more: then it would take the wrong record up again.
    fn encode_alert(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            let (_, arrived) = self.incoming.split();
            match self.connection.process(arrived).state {
                Ok(ConnectionState::EncodeTlsData(record)) => encode(record, &mut self.outgoing)?,
                _ => break,
            }
        }
        Ok(())
    }

    async fn send(&mut self) -> io::Result<()> {
        self.socket.write_all(&self.outgoing).await?;
        self.outgoing.clear();
        Ok(())
    }

    /// Sends what the socket takes without waiting. In the middle of a file that is an alert: whether it arrives decides
    /// nothing.
    fn try_send(&mut self) {
        if let Ok(count) = self.socket.try_write(&self.outgoing) {
            self.outgoing.drain(..count);
        }
    }

    pub(super) async fn finish(&mut self) -> io::Result<()> {
        while self.advance(close_notify)? == NextStep::Write {}
        options::cork(&self.socket)?;
        self.send().await?;
        options::finish(&self.socket)
    }
}

fn stay_idle<Data>(_: WriteTraffic<'_, Data>, _: &mut Vec<u8>) -> io::Result<()> {
    Ok(())
}

fn close_notify<Data>(mut turn: WriteTraffic<'_, Data>, outgoing: &mut Vec<u8>) -> io::Result<()> {
    append(outgoing, |spare| match turn.queue_close_notify(spare) {
        Err(EncryptError::InsufficientSize(needed)) => Ok(Err(needed)),
        other => other.map(Ok),
    })
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, outgoing: &mut Vec<u8>) -> io::Result<()> {
    append(outgoing, |spare| match data.encode(spare) {
        Err(EncodeError::InsufficientSize(needed)) => Ok(Err(needed)),
        other => other.map(Ok),
    })
}

/// Appends a record; if the space is too small, rustls reports the size that it needs.
fn append<E: std::error::Error + Send + Sync + 'static>(
    outgoing: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> Result<Result<usize, InsufficientSizeError>, E>,
) -> io::Result<()> {
    let end = outgoing.len();
    let mut spare = 0;
    loop {
        outgoing.resize(end + spare, 0);
        match write(&mut outgoing[end..]).map_err(io::Error::other)? {
            Ok(written) => {
                outgoing.truncate(end + written);
                return Ok(());
            }
            Err(InsufficientSizeError { required_size }) => spare = required_size,
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
