//! Ports at which nothing accepts connections.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// A port at which no connection can be made, and that no other process gets meanwhile.
#[derive(Debug)]
pub struct ClosedPort {
    socket: Socket,
    // Held for as long as the port is to be silent.
    queue: Vec<TcpStream>,
}

impl ClosedPort {
    /// Connections are refused: no process listens.
    pub fn refusing() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).expect("a free port");
        Self {
            socket,
            queue: Vec::new(),
        }
    }

    /// Connections get no answer: the accept queue is full.
    pub fn silent() -> Self {
        let mut closed = Self::refusing();
        closed.socket.listen(0).expect("it is bound");
        let address = closed.address();
        // Those for whom there is room are answered at once.
        while let Ok(socket) = TcpStream::connect_timeout(&address, ANSWERED) {
            closed.queue.push(socket);
        }
        closed
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        let address = self.socket.local_addr().expect("it is bound");
        address.as_socket().expect("it is one of IPv4")
    }
}

/// How soon a connection is made on the loopback, if it is.
const ANSWERED: Duration = Duration::from_millis(500);
