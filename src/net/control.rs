//! A control connection: lines in, bytes out, each with its bound.

use std::io;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;
use tokio::time::timeout;

use super::stream::Stream;
use crate::ftp::line::{Line, LineBuffer, MAX_COMMAND_LINE, MAX_REPLY_LINE};

/// How long a peer may take for what it is sent on a control connection.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a peer may take to end its side of a control connection after we ended ours.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A control connection of either leg.
#[derive(Debug)]
pub struct ControlConnection {
    stream: Stream,
    peer: Peer,
    lines: LineBuffer,
    /// The end of the connection: `UnexpectedEof` if the peer closed it.
    end: Option<Arc<io::Error>>,
    write_state: WriteState,
}

/// Whether the peer can still be sent anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriteState {
    Open,
    /// A write has failed: the peer may have part of the last message, and would take what follows for the rest of it.
    Failed,
}

/// The kind of peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    Client,
    Backend,
}

impl ControlConnection {
    /// With a client, whose lines are commands.
    pub fn with_client(stream: Stream) -> Self {
        Self::new(stream, Peer::Client, MAX_COMMAND_LINE)
    }

    /// With a backend, whose lines are replies.
    pub fn with_backend(stream: Stream) -> Self {
        Self::new(stream, Peer::Backend, MAX_REPLY_LINE)
    }

    fn new(stream: Stream, peer: Peer, line_limit: usize) -> Self {
        Self {
            stream,
            peer,
            lines: LineBuffer::new(line_limit),
            end: None,
            write_state: WriteState::Open,
        }
    }

    /// The connection below.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Returns the socket for a TLS handshake.
    ///
    /// # Errors
    /// If bytes have been read and not consumed: they came in clear text, behind a command that asks for TLS, and a man
    /// in the middle may have injected them (CVE-2011-0411, CVE-2021-22947). Also if the connection is under TLS. The
    /// connection is returned, to be closed.
    pub fn into_clear_socket(self) -> Result<TcpStream, Box<Self>> {
        match self.stream {
            Stream::Plain(socket) if self.lines.is_empty() => Ok(socket),
            stream => Err(Box::new(Self { stream, ..self })),
        }
    }

    /// Waits for more bytes. Returns at the end of the connection, too, and never again after it. May be cancelled.
    pub async fn fill(&mut self) {
        if self.end.is_some() || !self.lines.has_room() {
            return std::future::pending().await;
        }
        // How a control connection ends makes a difference only to the log: lftp, Python and wget close theirs without
        // close_notify.
        match self.read().await {
            Ok(0) => self.end = Some(Arc::new(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(error) => self.end = Some(Arc::new(error)),
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        let (Stream::Plain(socket), Peer::Client) = (&self.stream, self.peer) else {
            return self.stream.read_buf(self.lines.unread()).await;
        };
        // tokio's own read takes a short one for the last and waits for the network. TCP reads short at the urgent mark,
        // too, and an ABOR that was sent as urgent data would lie behind it until the client says something else. No
        // reply is urgent data, so a backend is spared the second read.
        loop {
            // `readable` counts nothing against the task's budget, unlike tokio's own reads. A client that sends faster than
            // it is read would keep the thread, and with it the timers and sessions that wait for that thread.
            consume_budget().await;
            socket.readable().await?;
            match socket.try_read_buf(self.lines.unread()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    /// Whether something has arrived at the socket that has not been read, be it the end of the connection. tokio may not
    /// have noticed yet.
    pub fn has_unread(&self) -> bool {
        let peeked = SockRef::from(self.stream.socket()).peek(&mut [MaybeUninit::uninit()]);
        self.end.is_none() && !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Takes the next complete line that has arrived.
    pub fn next_line(&mut self) -> Option<Line> {
        self.lines.next_line()
    }

    /// Whether the line that is arriving is over the limit already, however it ends.
    pub fn line_is_too_long(&self) -> bool {
        self.lines.is_swallowing()
    }

    /// The bytes that have arrived and are no line yet.
    pub fn peek(&self) -> &[u8] {
        self.lines.peek()
    }

    /// Whether the connection is over and no line of it is left.
    pub fn is_over(&mut self) -> bool {
        self.end().is_some()
    }

    /// How the connection ended, once no line of it is left: `UnexpectedEof` if the peer closed it.
    pub fn end(&mut self) -> Option<Arc<io::Error>> {
        let end = self.end.as_ref().filter(|_| !self.lines.has_line());
        end.map(Arc::clone)
    }

    /// Sends bytes, all of them.
    ///
    /// # Errors
    /// If the peer is gone, or hasn't taken them after [`WRITE_TIMEOUT`]; then nothing more can be sent.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if std::mem::replace(&mut self.write_state, WriteState::Failed) == WriteState::Failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let sending = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(WRITE_TIMEOUT, sending).await??;
        self.write_state = WriteState::Open;
        Ok(())
    }

    /// Ends the connection in order, without waiting long for the peer to do the same.
    ///
    /// Bytes that the peer has sent are read first: closing a socket with bytes unread resets it, and a client might lose the
    /// last reply.
    pub async fn close(mut self) {
        let closing = async {
            if self.stream.shutdown().await.is_ok() {
                let _ = self.stream.drain().await;
            }
        };
        // A peer that does not end its side is left to its own devices.
        let _ = timeout(CLOSE_TIMEOUT, closing).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::net::fixtures::connection;

    /// On one thread, where a task that never yields keeps all others from running.
    #[tokio::test]
    async fn a_client_that_sends_faster_than_it_is_read_leaves_other_tasks_their_turn() {
        let (peer, socket) = connection().await;
        let mut arrived = 0;
        peer.writable().await.unwrap();
        while let Ok(count) = peer.try_write(&[b'x'; 64 * 1024]) {
            arrived += count;
        }
        let mut control = ControlConnection::with_client(Stream::Plain(socket));
        let other = tokio::spawn(std::future::ready(()));
        let mut read = 0;
        while !other.is_finished() {
            control.lines = LineBuffer::new(MAX_COMMAND_LINE);
            control.fill().await;
            read += control.peek().len();
            assert!(
                read < arrived / 2,
                "{read} bytes of {arrived} without a turn"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_after_its_time() {
        let (peer, socket) = connection().await;
        let mut control = ControlConnection::with_client(Stream::Plain(socket));
        let began = Instant::now();
        // More than the buffers of both kernels hold.
        let error = control.send(&vec![b'x'; 50_000_000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= WRITE_TIMEOUT);
        let error = control.send(b"221 behind half a reply").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        drop(peer);
    }
}
