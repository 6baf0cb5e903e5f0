//! The ftpd of GNU inetutils, the BSD server of old: no FEAT of its own worth the name, no MLSD, and not a daemon. It is
//! run as inetd does: a process for each connection, whose standard input and output that connection is.
//!
//! User: `alice` with password `secret`, by a library that answers for the system's user database; her home is shown as
//! it is in the real file system. It needs root to become her.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use testkit::DEADLINE;
use testkit::programs;
use testkit::server::{PASSWORD_HASH, Place, USER};

/// The accepting half of inetd, for one service.
#[derive(Debug)]
pub struct Inetd {
    state: Arc<Mutex<State>>,
    acceptor: Option<JoinHandle<()>>,
    place: Place,
}

#[derive(Debug, Default)]
struct State {
    children: Vec<Child>,
    stopped: bool,
}

/// Starts to accept.
///
/// # Panics
/// If this isn't root.
pub fn start() -> Inetd {
    assert!(
        programs::is_root(),
        "inetutils-ftpd needs root: run make test as root"
    );
    let place = Place::claim();
    let (uid, gid) = place.owner();
    let passwd = format!(
        "root:x:0:0::/:/bin/sh\n{}:{PASSWORD_HASH}:{uid}:{gid}::{}:/bin/sh\n",
        USER.0,
        place.file("root")
    );
    let passwd = write(&place, "passwd", &passwd);
    let group = write(&place, "group", &format!("root:x:0:\nusers:x:{gid}:\n"));
    let listener = TcpListener::bind(place.address()).expect("the address is ours");
    let state = Arc::new(Mutex::new(State::default()));
    let acceptor = {
        let state = Arc::clone(&state);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let Ok(socket) = socket else { return };
                let mut state = state.lock().expect("nobody panics while holding it");
                if state.stopped {
                    return;
                }
                // Those that are done are waited for here, or they would stay in the process table.
                state
                    .children
                    .retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
                let child = session(socket, &passwd, &group).spawn();
                state.children.push(child.expect("the server starts"));
            }
        })
    };
    Inetd {
        state,
        acceptor: Some(acceptor),
        place,
    }
}

// Sessions that run as alice read these, too.
fn write(place: &Place, name: &str, content: &str) -> String {
    fs::write(place.directory().join(name), content).expect("the test's directory is writable");
    place.file(name)
}

fn session(socket: TcpStream, passwd: &str, group: &str) -> Command {
    let input = OwnedFd::from(socket);
    let output = input.try_clone().expect("the socket is open");
    let mut command = Command::new(programs::server_file("inetutils-ftpd/usr/sbin/ftpd"));
    command
        .args(["--auth=default"])
        .env("LD_PRELOAD", programs::nss_wrapper())
        .env("NSS_WRAPPER_PASSWD", passwd)
        .env("NSS_WRAPPER_GROUP", group)
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output))
        .stderr(Stdio::null());
    command
}

impl Inetd {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.place.address()
    }

    /// The user's home.
    pub fn root(&self) -> PathBuf {
        self.place.root()
    }
}

impl Drop for Inetd {
    fn drop(&mut self) {
        self.state
            .lock()
            .expect("nobody panics while holding it")
            .stopped = true;
        // Wakes the acceptor, which then sees that it is to stop.
        let _ = TcpStream::connect_timeout(&self.address(), DEADLINE);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        let mut state = self.state.lock().expect("nobody panics while holding it");
        for child in &mut state.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
