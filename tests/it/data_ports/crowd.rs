//! Accounts of one address that share data ports over a network with latency, where clients die, leave, are refused and
//! ask again, and strays come between: whoever is told 226 has its own file.
//!
//! With `PORTCULLIS_CROWD_TRANSFERS=1000000` in its environment it plays as many; else some hundreds.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use testkit::config::Site;
use testkit::content;
use testkit::front::Front;
use testkit::proxy::Proxy;
use testkit::raw::{Raw, RawTls, protect};
use testkit::script::Script;
use testkit::scripted::Backend;
use testkit::wire::{End, Wire};

use crate::program::Start;

const ACCOUNTS: usize = 20;

/// Half a round trip.
const LATENCY: Duration = Duration::from_millis(4);

/// Longer than any connection of these clients is late.
const REUSE_DELAY: &str = "60ms";

/// How clients protect their data connections.
#[derive(Clone, Copy)]
enum Kind {
    Clear,
    Tls(&'static SupportedProtocolVersion, Resumption),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Resumption {
    Never,
    Always,
}

struct Crowd {
    front: Front,
    backend: Backend,
    proxy: Proxy,
    kind: Kind,
    left: AtomicUsize,
    seen: Mutex<BTreeMap<Seen, usize>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Right,
    /// Told 226, and it is another file.
    Wrong,
    /// Of a client that had shown that it resumes.
    FailedNamed,
    FailedOther,
    Died,
    Left,
    Refused,
    AskedAgain,
    Stray,
}

impl Crowd {
    fn new(kind: Kind, ports: &str, transfers: usize) -> Self {
        let front = Front::new(&[]);
        let mut script = Script::new();
        for account in 0..ACCOUNTS {
            script = script.file(&download_of(account), file_of(account, 0));
        }
        let backend = Backend::start(script);
        let config = front
            .config()
            .passive_ports(ports)
            .reuse_delay(REUSE_DELAY)
            .limit("sessions_per_client", 10_000)
            .site(&Site::default("site", backend.address()))
            .tls("required", "false");
        Self {
            proxy: Proxy::start(config),
            front,
            backend,
            kind,
            left: AtomicUsize::new(transfers),
            seen: Mutex::default(),
        }
    }

    /// Everybody transfers until there have been enough, and each says what has been seen.
    fn run(self) -> BTreeMap<Seen, usize> {
        thread::scope(|scope| {
            for account in 0..ACCOUNTS {
                let crowd = &self;
                scope.spawn(move || Member::new(crowd, account).run());
            }
        });
        self.seen.into_inner().expect("no member panicked")
    }

    fn note(&self, seen: Seen) {
        let mut all = self.seen.lock().expect("no member panicked");
        *all.entry(seen).or_default() += 1;
    }
}

/// One account's client, which logs in again when it has left or died.
struct Member<'a> {
    crowd: &'a Crowd,
    account: usize,
    dice: u64,
    files: usize,
    /// rustls uses each ticket of TLS 1.3 once, and uploads bring none: after four in a row it could not resume.
    uploads_in_a_row: usize,
    session: Option<Session>,
}

struct Session {
    control: Raw,
    tls: Option<RawTls>,
    /// A ClientHello that names the session, for late connections. In TLS 1.3 it would take a ticket that is missing later.
    hello: Option<Vec<u8>>,
    has_resumed: bool,
}

/// A transfer that was told anything but 226, or whose data connection broke: what was seen.
struct Failed(String);

impl Failed {
    fn new(what: impl std::fmt::Debug) -> Self {
        Self(format!("{what:?}"))
    }
}

impl<'a> Member<'a> {
    fn new(crowd: &'a Crowd, account: usize) -> Self {
        Self {
            crowd,
            account,
            dice: 0x9E37_79B9_7F4A_7C15 ^ (account as u64 + 1),
            files: 0,
            uploads_in_a_row: 0,
            session: None,
        }
    }

    fn run(mut self) {
        while self.take_one() {
            match self.roll(40) {
                0 => self.dies(),
                1 => self.leaves(),
                2 | 3 => self.is_refused(),
                4 => self.asks_again(),
                5 => self.sends_a_stray(),
                _ => {}
            }
            let named = self.session().has_resumed;
            let seen = match self.transfers() {
                Ok(true) => Seen::Right,
                Ok(false) => Seen::Wrong,
                Err(Failed(what)) if named => {
                    let client = self.session().address();
                    println!("account {}, {client}: {what}", self.account);
                    Seen::FailedNamed
                }
                Err(Failed(_)) => Seen::FailedOther,
            };
            self.crowd.note(seen);
        }
    }

    fn take_one(&self) -> bool {
        let left = &self.crowd.left;
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(1)
        })
        .is_ok()
    }

    /// xorshift: any course of events, and the same one each time for each account.
    fn roll(&mut self, sides: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % sides
    }

    fn session(&mut self) -> &mut Session {
        let (crowd, account) = (self.crowd, self.account);
        self.session
            .get_or_insert_with(|| Session::log_in(crowd, account))
    }

    /// A file up or down; whether it is the right one.
    fn transfers(&mut self) -> Result<bool, Failed> {
        let (crowd, account) = (self.crowd, self.account);
        let (upload, eager) = (self.roll(2) == 0, self.roll(2) == 0);
        let upload = upload && self.uploads_in_a_row < 3;
        self.uploads_in_a_row = if upload { self.uploads_in_a_row + 1 } else { 0 };
        self.files += 1;
        let file = self.files;
        let session = self.session();
        let port = session.port().ok_or_else(|| Failed::new("no port"))?;
        let command = if upload {
            format!("STOR {}", upload_of(account, file))
        } else {
            format!("RETR {}", download_of(account))
        };
        if eager {
            // FileZilla's way: the command overtakes the connection.
            session.control.send(&command);
        }
        travel();
        let data = Wire::try_connect_from(crowd.proxy.explicit().ip(), port);
        if !eager {
            session.control.send(&command);
        }
        let mut data = data.map_err(Failed::new);
        let begun = session.told();
        if begun != 150 {
            return Err(Failed::new((begun, "instead of 150", &command)));
        }
        travel();
        let moved = data
            .as_mut()
            .map_err(|failed| Failed(failed.0.clone()))
            .and_then(|data| {
                if let Some(tls) = &session.tls {
                    protect(data, tls).map_err(Failed::new)?;
                }
                if upload {
                    data.write_all(&file_of(account, file))
                        .map_err(Failed::new)?;
                    Ok(None)
                } else {
                    Ok(Some(data.read_to_end()))
                }
            });
        let resumed = data.as_ref().is_ok_and(Wire::resumed);
        let orderly = if session.tls.is_some() {
            End::CloseNotify
        } else {
            End::Fin
        };
        if let Ok(data) = data {
            let _ = data.end(orderly);
        }
        let told = session.told();
        session.has_resumed = resumed;
        if told != 226 {
            return Err(Failed::new((
                told,
                "instead of 226",
                &command,
                moved.map(|_| ()).map_err(|failed| failed.0),
            )));
        }
        Ok(match moved? {
            Some((received, end)) => end == orderly && received == file_of(account, 0),
            None => crowd.backend.file(&upload_of(account, file)) == Some(file_of(account, file)),
        })
    }

    /// Is killed as soon as it has connected: its kernel resets both connections.
    fn dies(&mut self) {
        if let Some(port) = self.session().port() {
            travel();
            let data = Wire::try_connect_from(self.crowd.proxy.explicit().ip(), port);
            if let Some(session) = self.session.take() {
                session.control.close(End::Reset);
            }
            if let Ok(data) = data {
                data.reset();
            }
        }
        self.session = None;
        self.crowd.note(Seen::Died);
    }

    /// Says QUIT while its connection is on its way.
    fn leaves(&mut self) {
        if let Some(port) = self.session().port() {
            self.session().control.send("QUIT");
            self.connects_late(port);
        }
        self.session = None;
        self.crowd.note(Seen::Left);
    }

    /// Asks for a file that is not there; the 550 overtakes the connection, which may even name the session.
    fn is_refused(&mut self) {
        let session = self.session();
        if let Some(port) = session.port() {
            session.control.send("RETR missing");
            session.told();
            self.connects_late(port);
        }
        self.crowd.note(Seen::Refused);
    }

    fn asks_again(&mut self) {
        let session = self.session();
        if let Some(port) = session.port() {
            session.control.send("NOOP");
            session.told();
            self.connects_late(port);
        }
        self.crowd.note(Seen::AskedAgain);
    }

    fn connects_late(&mut self, port: SocketAddr) {
        let (from, named) = (self.crowd.proxy.explicit().ip(), self.roll(2) == 0);
        let hello = self.session().hello.clone();
        thread::sleep(LATENCY);
        if let Ok(mut data) = Wire::try_connect_from(from, port)
            && named
            && let Some(hello) = hello
        {
            let _ = data.send_below_tls(&hello);
        }
    }

    fn sends_a_stray(&mut self) {
        let session = self.session();
        if let Some(port) = session.port() {
            let from = self.crowd.proxy.explicit().ip();
            let _ = Wire::try_connect_from(from, port);
        }
        self.crowd.note(Seen::Stray);
    }
}

impl Session {
    fn log_in(crowd: &Crowd, account: usize) -> Self {
        let tls = match crowd.kind {
            Kind::Clear => None,
            Kind::Tls(version, Resumption::Always) => Some(crowd.front.tls_of(version)),
            Kind::Tls(version, Resumption::Never) => {
                Some(crowd.front.tls_of(version).without_resumption())
            }
        };
        let address = crowd.proxy.explicit();
        let mut control = Raw::over(Wire::connect_from(address.ip(), address));
        control.expect(220);
        if let Some(tls) = &tls {
            control.auth_tls(tls);
        }
        control.login(&format!("user{account}"), "secret");
        if tls.is_some() {
            control.protect_data();
        }
        let names_it_again = matches!(crowd.kind, Kind::Tls(version, _) if *version == TLS12);
        let hello = tls.as_ref().filter(|_| names_it_again).map(RawTls::hello);
        Self {
            control,
            tls,
            hello,
            has_resumed: false,
        }
    }

    fn address(&self) -> SocketAddr {
        let socket = self.control.wire().socket();
        socket.local_addr().expect("a connected socket")
    }

    /// The code of the next reply; 0 if the proxy has ended the session instead.
    fn told(&mut self) -> u16 {
        self.control.reply_or_end().map_or(0, |reply| reply.code)
    }

    /// EPSV; none if no port became free.
    fn port(&mut self) -> Option<SocketAddr> {
        travel();
        self.control.send("EPSV");
        let reply = self.control.reply_or_end()?;
        let number = reply.text.rsplit("|||").next()?.split('|').next()?.parse();
        let ip = self.control.wire().socket().peer_addr().ok()?.ip();
        (reply.code == 229).then_some(SocketAddr::new(ip, number.ok()?))
    }
}

/// What is tested is that nothing is mixed up although everything takes its time.
fn travel() {
    thread::sleep(LATENCY);
}

fn download_of(account: usize) -> String {
    format!("down-{account}")
}

fn upload_of(account: usize, file: usize) -> String {
    format!("up-{account}-{}", file % 50)
}

fn file_of(account: usize, file: usize) -> Vec<u8> {
    content::bytes((account * 1_000_003 + file) as u64, 500 + file % 500)
}

fn transfers() -> usize {
    let asked = std::env::var("PORTCULLIS_CROWD_TRANSFERS");
    asked.map_or(400, |count| count.parse().expect("a number of transfers"))
}

/// Nothing is ever another file, and a client that resumes its TLS session gets what it asked for.
fn play(kind: Kind, ports: &str) {
    let seen = Crowd::new(kind, ports, transfers()).run();
    println!("{ports}: {seen:?}");
    let count = |what| seen.get(&what).copied().unwrap_or_default();
    assert_eq!(count(Seen::Wrong), 0, "{seen:?}");
    assert_eq!(count(Seen::FailedNamed), 0, "{seen:?}");
    assert!(count(Seen::Right) > 0, "{seen:?}");
}

const ONE: &str = "50000";
const EIGHT: &str = "50000-50007";

#[test]
fn clients_in_clear_text_get_their_own_files_or_none() {
    play(Kind::Clear, ONE);
    play(Kind::Clear, EIGHT);
}

#[test]
fn clients_that_never_resume_get_their_own_files_or_none() {
    for version in [&TLS12, &TLS13] {
        play(Kind::Tls(version, Resumption::Never), ONE);
        play(Kind::Tls(version, Resumption::Never), EIGHT);
    }
}

#[test]
fn clients_that_resume_get_their_own_files_or_none() {
    for version in [&TLS12, &TLS13] {
        play(Kind::Tls(version, Resumption::Always), ONE);
        play(Kind::Tls(version, Resumption::Always), EIGHT);
    }
}
