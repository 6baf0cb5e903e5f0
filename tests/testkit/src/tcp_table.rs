//! The kernel's table of TCP connections.

use std::fs;
use std::net::SocketAddr;

/// Whether an end of a connection is there, with this address and port of its own and with these of the other end.
pub(super) fn has(own: SocketAddr, other: SocketAddr) -> bool {
    let ends = format!(" {} {} ", shown(own), shown(other));
    let table = match own {
        SocketAddr::V4(_) => "/proc/self/net/tcp",
        SocketAddr::V6(_) => "/proc/self/net/tcp6",
    };
    fs::read_to_string(table)
        .expect("every Linux has it")
        .contains(&ends)
}

/// As the table shows it: words of the address in the machine's byte order, and the port.
fn shown(end: SocketAddr) -> String {
    let octets = match end {
        SocketAddr::V4(end) => end.ip().octets().to_vec(),
        SocketAddr::V6(end) => end.ip().octets().to_vec(),
    };
    let words = octets.chunks_exact(4).map(|word| {
        let word = u32::from_ne_bytes(word.try_into().expect("four octets"));
        format!("{word:08X}")
    });
    format!("{}:{:04X}", words.collect::<String>(), end.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn both_ends_of_a_connection_are_there_until_it_is_closed() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).expect("a free port");
            let to = listener.local_addr().expect("it is bound");
            let client = TcpStream::connect(to).expect("it listens");
            let from = client.local_addr().expect("it is connected");
            assert!(has(from, to) && has(to, from));
            let _other = TcpStream::connect(to).expect("it listens");
            crate::wire::Wire::new(client).reset();
            assert!(!has(from, to) && !has(to, from));
        }
    }
}
