//! A source under TLS that reads through rustls' own buffers: slower than [`TlsSource`](super::tls_source), and rare. It is for
//! a client whose handshake was done before the direction of the transfer was known.

use std::io;
use std::task::{Context, Poll};

use super::source::{Fill, SourceEnd};
use crate::net::record_framing::RecordFraming;
use crate::net::stream::Stream;

/// A source that buffers decrypted bytes, for a client whose handshake was done before the direction was known.
#[derive(Debug)]
pub struct BufferedSource {
    stream: Stream,
    /// Framing of the bytes that rustls has been fed: rustls doesn't tell whether it waits for the rest of a record.
    framing: RecordFraming,
    buffer: Vec<u8>,
    /// The bytes in `buffer`.
    filled: usize,
}

impl BufferedSource {
    /// A source from a stream of which nothing has been read behind its last whole record.
    pub(super) fn new(stream: Stream, piece: usize) -> Self {
        Self {
            stream,
            framing: RecordFraming::default(),
            buffer: vec![0; piece],
            filled: 0,
        }
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The bytes that are there.
    pub(super) fn buffer(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// All of [`BufferedSource::buffer`] has been taken.
    pub(super) fn consume(&mut self) {
        self.filled = 0;
    }

    pub(super) async fn finish(&mut self) -> io::Result<()> {
        self.stream.finish().await
    }

    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Fill>> {
        if self.filled > 0 {
            return Poll::Ready(Ok(Fill::Bytes));
        }
        let read = self
            .stream
            .poll_read_records(context, &mut self.buffer, &mut self.framing);
        read.map(|read| match read {
            Ok(0) => Ok(Fill::End(SourceEnd::CloseNotify)),
            Ok(filled) => {
                self.filled = filled;
                Ok(Fill::Bytes)
            }
            // There are clients that end every file so, but none ends one within a record.
            Err(error)
                if error.kind() == io::ErrorKind::UnexpectedEof
                    && !self.framing.is_within_record() =>
            {
                Ok(Fill::End(SourceEnd::Unclean))
            }
            Err(error) => Err(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use rustls::ClientConnection;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;

    use super::*;
    use crate::net::fixtures::pair;

    /// The result at the end of a source whose client has sent a file in three records and `cut` bytes less of the last one.
    async fn end_behind(cut: usize) -> io::Result<(usize, SourceEnd)> {
        let (client, ours) = pair().await;
        let mut source = BufferedSource::new(ours, 1000);
        let mut records = Vec::new();
        let (mut socket, mut connection): (TcpStream, ClientConnection) = client.into_inner();
        for _ in 0..3 {
            io::Write::write_all(&mut connection.writer(), &[7; 5000])?;
            while connection.wants_write() {
                connection.write_tls(&mut records)?;
            }
        }
        socket.write_all(&records[..records.len() - cut]).await?;
        socket.shutdown().await?;
        let mut length = 0;
        loop {
            match poll_fn(|context| source.poll_fill(context)).await? {
                Fill::Bytes => {
                    length += source.buffer().len();
                    source.consume();
                }
                Fill::End(end) => return Ok((length, end)),
            }
        }
    }

    #[tokio::test]
    async fn a_fin_behind_a_record_is_an_unclean_end_and_one_within_a_record_an_error() {
        let whole = end_behind(0).await.unwrap();
        assert_eq!(whole, (15_000, SourceEnd::Unclean));
        for cut in [1, 100, 5_000, 5_017] {
            let error = end_behind(cut).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{cut}");
        }
    }

    #[tokio::test]
    async fn close_notify_is_the_end() {
        let (mut client, ours) = pair().await;
        let mut source = BufferedSource::new(ours, 1000);
        client.write_all(b"file").await.unwrap();
        client.shutdown().await.unwrap();
        let filled = poll_fn(|context| source.poll_fill(context)).await;
        assert_eq!(filled.unwrap(), Fill::Bytes);
        assert_eq!(source.buffer(), b"file");
        source.consume();
        let end = poll_fn(|context| source.poll_fill(context)).await;
        assert_eq!(end.unwrap(), Fill::End(SourceEnd::CloseNotify));
    }
}
