//! Options that are set on sockets, and why.

use std::io;
use std::net::Shutdown;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};

/// Interval of keepalive probes on an idle control connection.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How long sent bytes may stay unacknowledged before the peer counts as lost.
const PEER_SILENCE: Duration = Duration::from_secs(180);

/// Margin by which the kernel's time for a standstill is longer than ours, which knows what to report to whom.
const MARGIN: Duration = Duration::from_secs(60);

/// The kernel counts milliseconds in 31 bits.
const MAX_USER_TIMEOUT: Duration = Duration::from_secs(24 * 24 * 60 * 60);

/// Sets the options of a control connection, on either leg.
///
/// # Errors
/// Those of `setsockopt(2)`; the peer may be gone already.
pub fn control(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    // NAT gateways drop idle control connections during a long transfer.
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE),
    )?;
    socket.set_tcp_user_timeout(Some(PEER_SILENCE))?;
    // Python's abort() sends all of ABOR as urgent data; out of line it would arrive mangled.
    socket.set_out_of_band_inline(true)
}

/// Sets the options of a data connection that was accepted or is connected.
///
/// Lingering is off and armed: until [`finish`] is called, whatever ends this socket (an error, a panic, `kill -9`)
/// reaches the peer as a reset. A FIN is a promise that the file is complete.
///
/// # Errors
/// Those of `setsockopt(2)`.
pub fn data(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_user_timeout(Some(PEER_SILENCE))
}

/// As [`data`], before the connection exists.
///
/// # Errors
/// Those of `setsockopt(2)`.
pub fn data_before_connect(socket: &TcpSocket) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_user_timeout(Some(PEER_SILENCE))
}

/// Sets TCP_USER_TIMEOUT above the time that a transfer may stall. To the kernel a peer that doesn't read looks like
/// one that is gone.
///
/// # Errors
/// Those of `setsockopt(2)`.
pub fn set_stall_timeout(stream: &TcpStream, idle: Duration) -> io::Result<()> {
    let silence = idle.saturating_add(MARGIN).min(MAX_USER_TIMEOUT);
    if silence <= PEER_SILENCE {
        return Ok(());
    }
    SockRef::from(stream).set_tcp_user_timeout(Some(silence))
}

/// Bounds the bytes that the kernel receives ahead to about this many.
///
/// # Errors
/// Those of `setsockopt(2)`.
pub fn set_receive_buffer(stream: &TcpStream, bytes: usize) -> io::Result<()> {
    SockRef::from(stream).set_recv_buffer_size(bytes)
}

/// Ends our direction of a data connection as a complete one: disarms the reset and sends FIN, which takes along what
/// [`cork`] has held back. There is nothing to wait for in between, so no FIN is sent by accident.
///
/// # Errors
/// If the peer has reset the connection, also since the last write: shutdown(2) alone would find no connection, and
/// tokio takes that for success.
pub fn finish(stream: &TcpStream) -> io::Result<()> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    let socket = SockRef::from(stream);
    socket.set_linger(None)?;
    socket.shutdown(Shutdown::Write)
}

/// Acknowledges what has been read at once, which the kernel likes to put off for 40 ms and do with our next write.
///
/// # Errors
/// Those of `setsockopt(2)`.
pub fn quickack(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_tcp_quickack(true)
}

/// Holds what is written from here on back until FIN takes it along: close_notify and FIN are one segment then, and wake
/// the peer once.
///
/// # Errors
/// Those of `setsockopt(2)`.
pub fn cork(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_tcp_cork(true)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_kernel_bears_a_standstill_for_longer_than_we_do() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = listener.local_addr().unwrap();
        for (idle, silence) in [(1, 180), (120, 180), (121, 181), (3600, 3660)] {
            let stream = TcpStream::connect(peer).await.unwrap();
            data(&stream).unwrap();
            set_stall_timeout(&stream, Duration::from_secs(idle)).unwrap();
            let set = SockRef::from(&stream).tcp_user_timeout().unwrap();
            assert_eq!(set, Some(Duration::from_secs(silence)), "{idle}");
        }
        let stream = TcpStream::connect(peer).await.unwrap();
        // More than the kernel can count.
        set_stall_timeout(&stream, Duration::MAX).unwrap();
    }
}
