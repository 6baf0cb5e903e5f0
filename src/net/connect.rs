//! Connections that Portcullis opens: to backends, and to clients in active mode. And those that backends open in theirs.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::deadline::input_timeout;
use super::listen::{Pause, concerns_one_connection};
use super::options;
use crate::base::shortage::is_shortage;

/// How long an address is tried before the next one is as well (RFC 8305 §8).
const HEAD_START: Duration = Duration::from_millis(250);

/// Opens a control connection to the first of these addresses that answers.
///
/// # Errors
/// As [`first_of`].
pub async fn control(addresses: &[SocketAddr], time_limit: Duration) -> io::Result<TcpStream> {
    let stream = first_of(addresses, time_limit).await?;
    options::control(&stream)?;
    Ok(stream)
}

/// Connects to the first of these addresses that answers. They race (RFC 8305 §5): each gets a head start before the next one is
/// tried as well, so that an IPv6 address that leads nowhere costs a fraction of a second.
///
/// # Errors
/// That of the last address that failed.
pub async fn first_of(addresses: &[SocketAddr], time_limit: Duration) -> io::Result<TcpStream> {
    let connected = match addresses {
        // Nothing to race with: no task.
        [only] => input_timeout(time_limit, TcpStream::connect(only)).await,
        _ => input_timeout(time_limit, race(addresses)).await,
    };
    connected.unwrap_or_else(|late| Err(late.into()))
}

async fn race(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut untried = interleaved(addresses).into_iter();
    // Dropping it ends the attempts that have lost.
    let mut attempts = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address to connect to");
    loop {
        match untried.next() {
            Some(address) => {
                attempts.spawn(TcpStream::connect(address));
            }
            None if attempts.is_empty() => return Err(last),
            None => {}
        }
        let head_start = async {
            match untried.len() {
                0 => std::future::pending().await,
                _ => sleep(HEAD_START).await,
            }
        };
        tokio::select! {
            biased;
            Some(ended) = attempts.join_next() => match ended {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(panicked) => last = io::Error::other(panicked),
            },
            () = head_start => {}
        }
    }
}

/// The families in turn, beginning with that of the first address (RFC 8305 §4).
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first = addresses.first().map(SocketAddr::is_ipv6);
    let (mut one, mut other): (VecDeque<SocketAddr>, VecDeque<SocketAddr>) = addresses
        .iter()
        .partition(|address| Some(address.is_ipv6()) == first);
    let mut order = Vec::with_capacity(addresses.len());
    while !(one.is_empty() && other.is_empty()) {
        order.extend(one.pop_front());
        order.extend(other.pop_front());
    }
    order
}

/// Opens a data connection to a backend, and sends the PROXY header that it begins with, if any. It comes from the address that
/// the control connection comes from, which IIS compares: both are routed to the same one.
///
/// Not bound to that address: binding takes a port for all peers alike, for a minute after an upload, too. Some 28,000
/// uploads a minute would exhaust them; unbound, that many are available for each backend's port.
///
/// # Errors
/// Those of `connect(2)`, and of `send(2)` if there is a header. Of those for which this machine is to blame, the one that
/// still prevented a connection at the end of the time.
pub async fn data_to_backend(
    to: SocketAddr,
    header: Option<Vec<u8>>,
    time_limit: Duration,
) -> io::Result<TcpStream> {
    let header = header.as_deref();
    let connect = || async move {
        let mut stream = data_socket(to)?.connect(to).await?;
        if let Some(header) = header {
            stream.write_all(header).await?;
        }
        Ok(stream)
    };
    beyond_shortages(time_limit, connect).await
}

/// Connects; and again, with pauses, for as long as it is this machine that lacks something, which other connections that end
/// give back.
async fn beyond_shortages<F>(time_limit: Duration, connect: impl Fn() -> F) -> io::Result<TcpStream>
where
    F: Future<Output = io::Result<TcpStream>>,
{
    let mut shortage = None;
    let connecting = async {
        let mut pause = Pause::default();
        loop {
            match connect().await {
                Err(error) if is_shortage(&error) => shortage = Some(error),
                done => return done,
            }
            pause.wait().await;
            shortage = None;
        }
    };
    match input_timeout(time_limit, connecting).await {
        Ok(done) => done,
        Err(late) => Err(shortage.unwrap_or_else(|| late.into())),
    }
}

/// Listens for a backend's data connection in active mode; the returned address is the one for PORT.
///
/// # Errors
/// Those of `bind(2)` and `listen(2)`.
pub async fn listen_for_backend(at: IpAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(SocketAddr::new(at, 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Waits for the data connection of the backend at `from` until that `timed_out`, and resets connections from other addresses.
/// Accepting goes on after errors, with pauses, as at listeners for clients.
///
/// # Errors
/// If the time is over: that of `accept(2)` which prevented a connection until then.
pub async fn data_from_backend(
    listener: &TcpListener,
    from: IpAddr,
    timed_out: impl Future<Output = ()>,
) -> io::Result<TcpStream> {
    let mut failure = None;
    tokio::select! {
        biased;
        accepted = accept_from(listener, from, &mut failure) => accepted,
        () = timed_out => Err(failure.unwrap_or_else(|| io::ErrorKind::TimedOut.into())),
    }
}

/// Accepts the connection from this address; `failure` is what prevents that at the moment.
async fn accept_from(
    listener: &TcpListener,
    from: IpAddr,
    failure: &mut Option<io::Error>,
) -> io::Result<TcpStream> {
    let mut pause = Pause::default();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if concerns_one_connection(&error) => continue,
            Err(error) => {
                *failure = Some(error);
                pause.wait().await;
                *failure = None;
                continue;
            }
        };
        // Armed before anything else: a stranger is reset by being dropped.
        let armed = options::data(&stream);
        if peer.ip().to_canonical() == from.to_canonical() {
            return armed.map(|()| stream);
        }
        // Any host can make any number of them.
        tracing::debug!(%peer, backend = %from, "data connection from another address than the backend's reset");
    }
}

/// Opens a data connection to a client in active mode, from the address that it has connected to: clients such as
/// commons-net compare the two. Behind a load balancer that address may be of another family, and is of no use then.
///
/// # Errors
/// Those of `bind(2)` and `connect(2)`. Of those for which this machine is to blame, the one that still prevented a connection at
/// the end of the time.
pub async fn data_to_client(
    to: SocketAddr,
    from: IpAddr,
    time_limit: Duration,
) -> io::Result<TcpStream> {
    let connect = || async move {
        let socket = data_socket(to)?;
        if from.is_ipv4() == to.is_ipv4() {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        socket.connect(to).await
    };
    beyond_shortages(time_limit, connect).await
}

fn data_socket(to: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if to.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    options::data_before_connect(&socket)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn the_families_of_a_name_take_turns() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (a, b) = (address("[2001:db8::1]:21"), address("[2001:db8::2]:21"));
        let (c, d) = (address("192.0.2.1:21"), address("192.0.2.2:21"));
        assert_eq!(interleaved(&[a, b, c, d]), [a, c, b, d]);
        assert_eq!(interleaved(&[c, a, b]), [c, a, b]);
        assert_eq!(interleaved(&[]), []);
    }

    #[tokio::test]
    async fn an_address_that_refuses_makes_room_for_the_next_at_once() {
        let closed = {
            let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
            gone.local_addr().unwrap()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let stream = control(&[closed, open], Duration::from_secs(2))
            .await
            .unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
        let refused = control(&[closed, closed], Duration::from_secs(2)).await;
        assert_eq!(
            refused.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
    }

    #[tokio::test]
    async fn a_connection_is_made_as_soon_as_this_machine_has_what_it_lacked() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let left = std::sync::atomic::AtomicUsize::new(3);
        let connect = || async {
            let count = left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            match count {
                1 => TcpStream::connect(open).await,
                _ => Err(rustix::io::Errno::MFILE.into()),
            }
        };
        let stream = beyond_shortages(Duration::from_secs(2), connect).await;
        assert_eq!(stream.unwrap().peer_addr().unwrap(), open);
    }

    #[tokio::test]
    async fn what_this_machine_lacks_to_the_end_of_the_time_is_the_error() {
        let to = SocketAddr::from(([127, 0, 0, 1], 1));
        // No address of this machine.
        let from = IpAddr::from([192, 0, 2, 1]);
        let time_limit = Duration::from_millis(50);
        let error = data_to_client(to, from, time_limit).await.unwrap_err();
        assert!(is_shortage(&error), "{error}");
        let from = IpAddr::from([127, 0, 0, 1]);
        let error = data_to_client(to, from, time_limit).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn an_address_that_says_nothing_leaves_time_for_the_next() {
        // With a queue of no length that holds one connection, Linux leaves every further one without an answer.
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        silent
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        silent.listen(0).unwrap();
        let first = silent.local_addr().unwrap().as_socket().unwrap();
        let _queued = TcpStream::connect(first).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let second = listener.local_addr().unwrap();

        let time_limit = Duration::from_secs(2);
        let stream = control(&[first, second], time_limit).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), second);
        let error = control(&[first], Duration::from_millis(50))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
