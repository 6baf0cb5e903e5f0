//! Listening sockets that a service manager has opened and passes on, as systemd does with those of `.socket` units
//! (sd_listen_fds(3)).
//!
//! They are found by the address that they are bound to, and not by their names: the configuration says what each address is
//! for. Each stays open here until the process ends, and is lent as a duplicate: what a reload releases, a later one may
//! want again, and this process could not open it by itself.

use std::collections::HashMap;
use std::env;
use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use socket2::{Protocol, SockRef};
use tokio::net::{TcpListener, UnixListener};

use super::listen;
use crate::base::text::escape_path;

/// More than any service manager passes. Each takes memory before it is looked at.
const MAX_SOCKETS: usize = 65_536;

/// The environment variables in which the service manager tells for which process its sockets are, and how many there are.
const PROCESS: &str = "LISTEN_PID";
const COUNT: &str = "LISTEN_FDS";

/// The sockets that were passed to this process.
#[derive(Debug, Default)]
pub struct InheritedSockets {
    tcp: HashMap<SocketAddr, StdTcpListener>,
    unix: HashMap<PathBuf, StdUnixListener>,
}

/// The address or path that a socket is bound to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum BoundTo {
    /// An address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// Why the sockets of a service manager can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InheritedError {
    /// The number of sockets can't be determined.
    #[error("LISTEN_FDS is {0:?}, which is no number of sockets; the service manager sets it")]
    Count(String),
    /// A socket is not one to accept from.
    #[error(
        "socket {number} of those that the service manager passes is no TCP or Unix socket to accept from: a .socket unit for \
         Portcullis has ListenStream= alone, with addresses or paths, and Accept=no"
    )]
    NotListening {
        /// The socket's number, from 1, in their order.
        number: usize,
    },
    /// A socket accepts clients of both families.
    #[error(
        "the socket {0} of the service manager takes IPv4 clients as well: set BindIPv6Only=ipv6-only in its .socket unit, and \
         add 0.0.0.0:{port} to it where IPv4 is served, as to `listeners`", port = .0.port()
    )]
    DualStack(SocketAddr),
    /// A socket is bound to an IPv4-mapped IPv6 address.
    #[error(
        "the socket {0} of the service manager is bound to an IPv4 address in the form of IPv6: write it as IPv4 in its .socket unit"
    )]
    Mapped(SocketAddr),
    /// Two sockets are bound to the same address or path, so it is ambiguous which is meant.
    #[error("the service manager passes the socket {0} twice: one .socket unit is enough for it")]
    Twice(BoundTo),
    /// Every user that may connect to it may take actions.
    #[error(
        "every user of this machine may connect to the socket {}: set SocketMode=0660 in its .socket unit", escape_path(.0)
    )]
    OpenToAll(PathBuf),
    /// Clients would connect to it, and get no answer.
    #[error(
        "the service manager passes the socket {socket}, which the configuration doesn't name: take it out of its .socket unit, or \
         name it in `listeners`, `passive.ports` or `admin`{}", near(.configured)
    )]
    NotConfigured {
        /// The socket that isn't configured.
        socket: BoundTo,
        /// The addresses configured with the same port.
        configured: Vec<SocketAddr>,
    },
    /// The operating system refuses.
    #[error("socket {number} of those that the service manager passes can't be used: {source}")]
    System {
        /// The socket's number, from 1, in their order.
        number: usize,
        /// The operating system's error.
        source: io::Error,
    },
}

/// The other addresses configured with a port, as text to follow an error.
fn near(configured: &[SocketAddr]) -> String {
    let addresses: Vec<_> = configured.iter().map(SocketAddr::to_string).collect();
    match addresses[..] {
        [] => String::new(),
        _ => format!(", which have {} at that port", addresses.join(", ")),
    }
}

impl fmt::Display for BoundTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => f.write_str(&escape_path(path)),
        }
    }
}

impl InheritedSockets {
    /// Takes what was passed to this process, and nothing that was meant for another; the variables that announce it are
    /// removed from the environment then. Has to come first in the process: its descriptors are known by their numbers, and no
    /// other thread may look at the environment meanwhile.
    ///
    /// # Errors
    /// If one can't be used for what it seems to be.
    pub fn from_environment() -> Result<Self, InheritedError> {
        let process = env::var(PROCESS).ok();
        // The crate also takes sockets that are passed without a process id.
        if process.and_then(|id| id.parse().ok()) != Some(std::process::id()) {
            return Ok(Self::default());
        }
        let Some(count) = env::var_os(COUNT) else {
            return Ok(Self::default());
        };
        let count = count.to_string_lossy();
        if !count.parse().is_ok_and(|count: usize| count <= MAX_SOCKETS) {
            return Err(InheritedError::Count(count.into_owned()));
        }
        let mut passed = ListenFd::from_env();
        let mut sockets = Self::default();
        for index in 0..passed.len() {
            sockets.take(&mut passed, index)?;
        }
        Ok(sockets)
    }

    fn take(&mut self, passed: &mut ListenFd, index: usize) -> Result<(), InheritedError> {
        let number = index + 1;
        if let Ok(Some(listener)) = passed.take_tcp_listener(index) {
            self.add_tcp(listener, number)
        } else if let Ok(Some(listener)) = passed.take_unix_listener(index) {
            self.add_unix(listener, number)
        } else {
            Err(InheritedError::NotListening { number })
        }
    }

    fn add_tcp(&mut self, listener: StdTcpListener, number: usize) -> Result<(), InheritedError> {
        let fail = |source| InheritedError::System { number, source };
        let socket = SockRef::from(&listener);
        let protocol = socket.protocol().map_err(fail)?;
        if protocol != Some(Protocol::TCP) || !accepts(&listener).map_err(fail)? {
            return Err(InheritedError::NotListening { number });
        }
        let address = plain(listener.local_addr().map_err(fail)?);
        if let SocketAddr::V6(v6) = address {
            if v6.ip().to_ipv4_mapped().is_some() {
                return Err(InheritedError::Mapped(address));
            }
            if v6.ip().is_unspecified() && !socket.only_v6().map_err(fail)? {
                return Err(InheritedError::DualStack(address));
            }
        }
        listen::prepare(&listener).map_err(fail)?;
        match self.tcp.insert(address, listener) {
            None => Ok(()),
            Some(_) => Err(InheritedError::Twice(BoundTo::Tcp(address))),
        }
    }

    fn add_unix(&mut self, listener: StdUnixListener, number: usize) -> Result<(), InheritedError> {
        let fail = |source| InheritedError::System { number, source };
        let address = listener.local_addr().map_err(fail)?;
        let (Some(path), true) = (address.as_pathname(), accepts(&listener).map_err(fail)?) else {
            return Err(InheritedError::NotListening { number });
        };
        let mode = fs::metadata(path).map_err(fail)?.permissions().mode();
        // To connect is to write.
        if mode & 0o002 != 0 {
            return Err(InheritedError::OpenToAll(path.to_owned()));
        }
        listener.set_nonblocking(true).map_err(fail)?;
        match self.unix.insert(path.to_owned(), listener) {
            None => Ok(()),
            Some(_) => Err(InheritedError::Twice(BoundTo::Unix(path.to_owned()))),
        }
    }

    /// The number of sockets.
    pub fn count(&self) -> usize {
        self.tcp.len() + self.unix.len()
    }

    /// The one at this address, if it is there.
    pub(super) fn tcp(&self, address: SocketAddr) -> Option<io::Result<TcpListener>> {
        let held = self.tcp.get(&plain(address))?;
        Some(held.try_clone().and_then(TcpListener::from_std))
    }

    /// The one under this name, if it is there.
    pub fn unix(&self, path: &Path) -> Option<io::Result<UnixListener>> {
        let held = self.unix.get(&absolute(path))?;
        Some(held.try_clone().and_then(UnixListener::from_std))
    }

    /// The sockets that are bound to none of `addresses`, nor to `path`.
    pub fn not_among(&self, addresses: &[SocketAddr], path: Option<&Path>) -> Vec<BoundTo> {
        let wanted = |address: &SocketAddr| addresses.iter().any(|it| plain(*it) == *address);
        let tcp = self.tcp.keys().filter(|address| !wanted(address));
        let path = path.map(absolute);
        let unix = self.unix.keys();
        let unix = unix.filter(|held| Some(*held) != path.as_ref());
        let mut unwanted: Vec<_> = tcp
            .map(|address| BoundTo::Tcp(*address))
            .chain(unix.map(|path| BoundTo::Unix(path.clone())))
            .collect();
        unwanted.sort_unstable();
        unwanted
    }
}

/// As a service manager binds sockets. A name in the configuration may be relative.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl BoundTo {
    /// The error that neither `addresses` nor a path of the configuration name this one.
    pub fn not_configured(self, addresses: &[SocketAddr]) -> InheritedError {
        let mut configured = Vec::new();
        if let Self::Tcp(own) = self {
            configured.extend(addresses.iter().filter(|it| it.port() == own.port()));
        }
        InheritedError::NotConfigured {
            socket: self,
            configured,
        }
    }
}

fn accepts(socket: &impl AsFd) -> io::Result<bool> {
    SockRef::from(socket).is_listener()
}

/// The address without the parts that don't matter to where a socket listens.
fn plain(mut address: SocketAddr) -> SocketAddr {
    if let SocketAddr::V6(v6) = &mut address {
        v6.set_flowinfo(0);
    }
    address
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use socket2::{Domain, Socket, Type};

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_socket_is_found_by_a_relative_name_of_its_path() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("admin.sock");
        let name = Path::new("admin.sock");
        let mut sockets = InheritedSockets::default();
        let listener = StdUnixListener::bind(&path).expect("the directory is ours");
        // As if the process ran in that directory.
        sockets.unix.insert(absolute(name), listener);
        assert_eq!(sockets.not_among(&[], Some(name)), []);
        assert_eq!(sockets.not_among(&[], Some(&absolute(name))), []);
        assert_eq!(sockets.not_among(&[], None).len(), 1);
    }

    fn bound(to: &str, more: impl FnOnce(&Socket)) -> Socket {
        let to = address(to);
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))
            .expect("a socket");
        more(&socket);
        socket.bind(&to.into()).expect("a free port");
        socket
    }

    fn listening(to: &str, more: impl FnOnce(&Socket)) -> StdTcpListener {
        let socket = bound(to, more);
        socket.listen(1).expect("it is bound");
        socket.into()
    }

    fn refusal(listener: StdTcpListener) -> String {
        let refused = InheritedSockets::default().add_tcp(listener, 3);
        refused.expect_err("not for us").to_string()
    }

    #[tokio::test]
    async fn one_is_lent_any_number_of_times_and_stays_open_between() {
        let listener = listening("127.0.0.1:0", |_| {});
        let at = listener.local_addr().expect("bound");
        let mut sockets = InheritedSockets::default();
        sockets.add_tcp(listener, 1).expect("as it should be");
        for _ in 0..3 {
            let lent = sockets.tcp(at).expect("it is there").expect("a duplicate");
            let client = TcpStream::connect(at).expect("it listens");
            let (_served, peer) = lent.accept().await.expect("a connection");
            assert_eq!(peer, client.local_addr().expect("connected"));
        }
        drop(TcpStream::connect(at).expect("it listens still"));
        assert!(sockets.tcp(address("127.0.0.1:1")).is_none());
        assert_eq!(sockets.count(), 1);
    }

    #[test]
    fn it_gets_the_options_of_our_own() {
        let listener = listening("127.0.0.1:0", |socket| {
            socket.set_reuse_port(true).expect("set");
        });
        listen::prepare(&listener).expect("prepared");
        let socket = SockRef::from(&listener);
        assert!(socket.reuse_address().expect("known"));
        assert!(!socket.reuse_port().expect("known"));
        assert!(socket.nonblocking().expect("known"));
        assert!(socket.is_listener().expect("known"));
    }

    #[test]
    fn ipv6_that_takes_ipv4_is_refused_and_said_what_to_do() {
        let both = listening("[::]:0", |socket| {
            socket.set_only_v6(false).expect("set");
        });
        assert!(refusal(both).contains("BindIPv6Only=ipv6-only"));
        let mapped = listening("[::ffff:127.0.0.1]:0", |socket| {
            socket.set_only_v6(false).expect("set");
        });
        assert!(refusal(mapped).contains("write it as IPv4"));
        let mut sockets = InheritedSockets::default();
        for (to, only_v6) in [("[::]:0", true), ("[::1]:0", false)] {
            let one = listening(to, |socket| socket.set_only_v6(only_v6).expect("set"));
            sockets.add_tcp(one, 1).expect("IPv6 alone");
        }
    }

    #[test]
    fn what_does_not_accept_is_refused() {
        let silent = bound("127.0.0.1:0", |_| {});
        assert!(refusal(silent.into()).starts_with("socket 3 of those"));
        let listener = listening("127.0.0.1:0", |_| {});
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("accepted");
        let connection: std::os::fd::OwnedFd = client.into();
        assert!(refusal(connection.into()).contains("Accept=no"));
    }

    #[test]
    fn two_at_one_address_are_refused() {
        let reuse = |socket: &Socket| socket.set_reuse_port(true).expect("set");
        let first = listening("127.0.0.1:0", reuse);
        let at = first.local_addr().expect("bound");
        let second = listening(&at.to_string(), reuse);
        let mut sockets = InheritedSockets::default();
        sockets.add_tcp(first, 1).expect("the first one");
        let error = sockets.add_tcp(second, 2).expect_err("the second one");
        assert!(error.to_string().contains(&format!("{at} twice")));
    }

    #[test]
    fn a_unix_socket_for_everybody_is_refused() {
        let directory = tempfile::tempdir().expect("a folder");
        let path = directory.path().join("admin.sock");
        let mut sockets = InheritedSockets::default();
        for (mode, is_taken) in [(0o666, false), (0o662, false), (0o660, true)] {
            let _ = fs::remove_file(&path);
            let listener = StdUnixListener::bind(&path).expect("a socket");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
            let taken = sockets.add_unix(listener, 1);
            assert_eq!(taken.is_ok(), is_taken, "{mode:o}: {taken:?}");
        }
        assert_eq!(sockets.not_among(&[], Some(&path)), []);
        assert_eq!(sockets.not_among(&[], None), [BoundTo::Unix(path)]);
    }

    #[test]
    fn what_is_not_configured_is_told_with_what_is_at_that_port() {
        let mut sockets = InheritedSockets::default();
        let listener = listening("127.0.0.1:0", |_| {});
        let at = listener.local_addr().expect("bound");
        sockets.add_tcp(listener, 1).expect("as it should be");
        assert_eq!(sockets.not_among(&[at], None), []);
        let wildcard = SocketAddr::new(address("0.0.0.0:0").ip(), at.port());
        let configured = [address("127.0.0.1:1"), wildcard];
        let unwanted = sockets.not_among(&configured, None);
        assert_eq!(unwanted, [BoundTo::Tcp(at)]);
        let error = unwanted[0].clone().not_configured(&configured).to_string();
        assert!(
            error.contains(&format!("passes the socket {at}, which")),
            "{error}"
        );
        assert!(
            error.ends_with(&format!("which have {wildcard} at that port")),
            "{error}"
        );
    }
}
