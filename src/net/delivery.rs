//! What peers have yet to acknowledge of what was sent to them. The kernel goes on sending for a process that has ended, but not
//! for a container that is taken down, whose network ends with it.
//!
//! The table of the kernel is read for that, since asking it for one socket takes unsafe code.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

/// The connections of this network namespace, over IPv4 and over IPv6.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// How often it is looked whether all is delivered.
const INTERVAL: Duration = Duration::from_millis(100);

/// How many times in a row a connection has to be missing among those that aren't: the kernel shows its table in pieces, and where
/// others end between two of them, one may be left out.
const CONFIRMATIONS: usize = 2;

/// A connection, by the address and the port of either end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ends {
    local: (IpAddr, u16),
    peer: (IpAddr, u16),
}

impl Ends {
    /// None if the connection is over.
    pub fn of(socket: &TcpStream) -> Option<Self> {
        Some(Self {
            local: end(socket.local_addr().ok()?),
            peer: end(socket.peer_addr().ok()?),
        })
    }
}

/// Waits for peers, and reads the table once for all who wait.
#[derive(Debug, Default)]
pub struct Deliveries {
    last: Mutex<Option<Table>>,
    waiting: AtomicUsize,
}

/// The connections that had something undelivered at this time.
#[derive(Debug, Clone)]
struct Table {
    read_at: Instant,
    undelivered: Arc<HashSet<Ends>>,
}

impl Deliveries {
    /// Waits until the peer has acknowledged everything, FIN included, or the connection is over. Resolves at once where the kernel
    /// doesn't say.
    pub async fn delivered(&self, connection: Ends) {
        let _counted = Counted::new(&self.waiting);
        let mut confirmations = 0;
        while confirmations < CONFIRMATIONS {
            let asked = Instant::now();
            sleep(INTERVAL).await;
            match self.undelivered_since(asked).await {
                Ok(undelivered) if undelivered.contains(&connection) => confirmations = 0,
                Ok(_) => confirmations += 1,
                Err(error) => {
                    tracing::debug!(%error, "not known whether all is delivered");
                    return;
                }
            }
        }
    }

    /// How many connections are waited for.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// As the kernel says it at `time` or later.
    async fn undelivered_since(&self, time: Instant) -> io::Result<Arc<HashSet<Ends>>> {
        let mut last = self.last.lock().await;
        if let Some(table) = &*last
            && time <= table.read_at
        {
            return Ok(Arc::clone(&table.undelivered));
        }
        let read_at = Instant::now();
        let undelivered = spawn_blocking(undelivered).await??;
        let table = last.insert(Table {
            read_at,
            undelivered: Arc::new(undelivered),
        });
        Ok(Arc::clone(&table.undelivered))
    }
}

/// One that waits.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connections that have something undelivered. Blocks.
fn undelivered() -> io::Result<HashSet<Ends>> {
    let mut all = HashSet::new();
    for table in TABLES {
        match fs::read_to_string(table) {
            Ok(table) => all.extend(table.lines().filter_map(undelivered_in)),
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && table != TABLES[0] => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// The connection that a line of the table is about, if it has something undelivered.
fn undelivered_in(line: &str) -> Option<Ends> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = parse_end(fields.next()?)?;
    let peer = parse_end(fields.next()?)?;
    let _state = fields.next()?;
    let (unacknowledged, _unread) = fields.next()?.split_once(':')?;
    (u32::from_str_radix(unacknowledged, 16).ok()? != 0).then_some(Ends { local, peer })
}

/// An address as the kernel writes it: words of 32 bits in the order of the machine, and the port.
fn parse_end(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let digits = address.get(8 * index..8 * (index + 1))?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.as_flattened().try_into().ok()?;
            IpAddr::from(bytes)
        }
        _ => return None,
    };
    Some(end(SocketAddr::new(address, port)))
}

/// As one of a socket for both, which has IPv4 addresses within IPv6, is compared.
fn end(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_the_table_are_understood() {
        let ends = |local: &str, peer: &str| Ends {
            local: end(local.parse().unwrap()),
            peer: end(peer.parse().unwrap()),
        };
        for (line, expected) in [
            (
                "   1: 0104A8C0:0015 0200A8C0:D431 04 0002F3A0:00000000 01:00000014 00000000     0        0 5 2 0 20 4 24 10 -1",
                Some(ends("192.168.4.1:21", "192.168.0.2:54321")),
            ),
            (
                "   2: B80D0120000000000000000001000000:0015 0000000000000000FFFF00000200A8C0:D431 05 00000001:00000000 00:0 0 0 0 1",
                Some(ends("[2001:db8::1]:21", "192.168.0.2:54321")),
            ),
            (
                "   3: 0104A8C0:0015 0200A8C0:D431 05 00000000:00000007 00:0 0 0 0 1",
                None,
            ),
            (
                "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when",
                None,
            ),
            (
                "   4: 0104A8:0015 0200A8C0:D431 04 0002F3A0:00000000 01:0",
                None,
            ),
            ("", None),
        ] {
            assert_eq!(undelivered_in(line), expected, "{line}");
        }
    }

    #[tokio::test]
    async fn what_a_peer_does_not_take_is_undelivered_until_it_does() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address).await else {
                // A machine without IPv6.
                continue;
            };
            let peer = TcpStream::connect(listener.local_addr().unwrap());
            let (mut peer, (socket, _)) = (peer.await.unwrap(), listener.accept().await.unwrap());
            let connection = Ends::of(&socket).unwrap();
            assert!(!undelivered().unwrap().contains(&connection));
            socket.writable().await.unwrap();
            let mut sent = 0;
            while let Ok(count) = socket.try_write(&[0; 65_536]) {
                sent += count;
            }
            assert!(undelivered().unwrap().contains(&connection));

            let deliveries = Deliveries::default();
            let reading = async {
                let mut buffer = vec![0; sent];
                peer.read_exact(&mut buffer).await.unwrap();
            };
            tokio::select! {
                biased;
                () = deliveries.delivered(connection) => panic!("it hasn't been read"),
                () = async { sleep(3 * INTERVAL).await; assert_eq!(deliveries.waiting(), 1) } => {}
            }
            assert_eq!(deliveries.waiting(), 0);
            tokio::join!(deliveries.delivered(connection), reading);
            drop(socket);
        }
    }
}
