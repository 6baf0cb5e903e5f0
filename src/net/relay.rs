//! The byte pump: from one data connection to the other until the source ends, and how it ended.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::stream::Stream;

/// How a source ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceEnd {
    /// With close_notify: nothing is missing.
    CloseNotify,
    /// With a FIN on a plain connection: all that plain FTP has.
    Fin,
    /// With a FIN under TLS, without close_notify: a cut cable looks the same.
    Unclean,
}

/// Why a relay broke off.
#[derive(Debug)]
pub enum Broken {
    /// The source's connection failed.
    Source(io::Error),
    /// The source sent nothing for too long.
    SourceIdle,
    /// The sink's connection failed.
    Sink(io::Error),
    /// The sink took nothing for too long.
    SinkIdle,
}

/// Copies from `source` to `sink` until the source ends; then every byte is with the sink's kernel. Nothing is closed.
///
/// `idle` bounds each step on either side, and `moved` counts the bytes as they go.
///
/// # Errors
/// If either side fails or stands still.
pub async fn relay(
    source: &mut Stream,
    sink: &mut Stream,
    idle: Duration,
    moved: &AtomicU64,
) -> Result<SourceEnd, Broken> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = timeout(idle, source.read(&mut buffer))
            .await
            .map_err(|_| Broken::SourceIdle)?;
        let count = match read {
            Ok(0) if source.is_tls() => return Ok(SourceEnd::CloseNotify),
            Ok(0) => return Ok(SourceEnd::Fin),
            Ok(count) => count,
            Err(error) if source.is_tls() && error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(SourceEnd::Unclean);
            }
            Err(error) => return Err(Broken::Source(error)),
        };
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let taken = within(idle, sink.write(rest)).await?;
            rest = &rest[taken..];
        }
        // rustls keeps what the socket did not take at once; "with the sink" must mean with its kernel.
        within(idle, sink.flush()).await?;
        moved.fetch_add(count as u64, Ordering::Relaxed);
    }
}

async fn within<T>(idle: Duration, step: impl Future<Output = io::Result<T>>) -> Result<T, Broken> {
    match timeout(idle, step).await {
        Ok(result) => result.map_err(Broken::Sink),
        Err(_) => Err(Broken::SinkIdle),
    }
}

/// Four TLS records: at tokio's usual 8 KiB the CPU cost of a download under TLS is up to twice as high.
const BUFFER: usize = 64 * 1024;
