//! Connections that Portcullis opens: to backends, and to clients in active mode.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream, lookup_host};

use super::options;

/// The addresses of a backend, in the order in which they are to be tried. An IP address needs no look-up.
///
/// # Errors
/// If the name can't be resolved, or to nothing.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => lookup_host((host, port)).await?.collect(),
    };
    if addresses.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ));
    }
    Ok(addresses)
}

/// Opens a control connection to the first of these addresses that answers.
///
/// # Errors
/// That of the last address tried.
pub async fn control(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address to connect to");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                options::control(&stream)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Opens a data connection from the address that the control connection uses: IIS and clients such as commons-net
/// compare the two. Behind a load balancer that address may be of another family, and is of no use then.
///
/// # Errors
/// Those of `bind(2)` and `connect(2)`.
pub async fn data(to: SocketAddr, from: IpAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    options::data_before_connect(&socket)?;
    // Binding takes a port for all peers alike, unless it may be shared; each would be gone for a minute after its
    // transfer, and all of them after 28,000.
    socket.set_reuseaddr(true)?;
    if from.is_ipv4() == to.is_ipv4() {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    socket.connect(to).await
}
