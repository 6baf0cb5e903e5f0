//! Peers that are slow, stuck or never done, in every phase: each is ended by a deadline that its own bytes don't move,
//! and nobody else notices.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::DEADLINE;
use testkit::config::Site;
use testkit::front::Front;
use testkit::proxy::Proxy;
use testkit::raw::{Raw, open_data};
use testkit::resources;
use testkit::script::{Gate, Script, Step, reply};
use testkit::scripted::Backend;
use testkit::wire::{End, Wire};

use crate::program::{Before, Start};

/// Deadlines as the tests here set them. Long enough for a busy machine to get that far, and far shorter than what the
/// peers here would take.
const SHORT: &str = "3s";

/// What a deadline of [`SHORT`] may become on a busy machine.
const SOON: Duration = Duration::from_secs(12);

struct Deployment {
    front: Front,
    backend: Backend,
    proxy: Proxy,
}

impl Deployment {
    fn new(timeouts: &[&str], script: Script) -> Self {
        let front = Front::new(&[]);
        let backend = Backend::start(script);
        let mut config = front.config().passive_ports("50000-50009");
        for key in timeouts {
            config = config.timeout(key, SHORT);
        }
        let proxy = Proxy::start(config.site(&Site::default("site", backend.address())));
        Self {
            front,
            backend,
            proxy,
        }
    }
}

/// Sends a byte now and then until the other side ends, and says when that was.
fn dribble(address: SocketAddr, bytes: impl Iterator<Item = u8>) -> Duration {
    let mut socket = TcpStream::connect_timeout(&address, DEADLINE).expect("it accepts");
    let began = Instant::now();
    // The pause between two bytes is the wait for an end that doesn't come.
    let pause = Some(Duration::from_millis(100));
    socket.set_read_timeout(pause).expect("it isn't zero");
    let mut said = [0; 256];
    for byte in bytes {
        if socket.write_all(&[byte]).is_err() {
            return began.elapsed();
        }
        match socket.read(&mut said) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(1..) => {}
            Ok(0) | Err(_) => return began.elapsed(),
        }
    }
    panic!("nobody ended it after {:?}", began.elapsed());
}

#[test]
fn a_byte_now_and_then_does_not_move_a_deadline_before_login() {
    let deployment = Deployment::new(&["login", "tls_handshake"], Script::new());
    let (explicit, implicit) = (deployment.proxy.explicit(), deployment.proxy.implicit());
    // A record of TLS 1.0 that announces 16,000 bytes of ClientHello, and then takes its time.
    let hello = || [22, 3, 1, 0x3e, 0x80, 1, 0, 0x3e, 0x7c, 3, 3].into_iter();
    let endless = |byte: u8| std::iter::repeat_n(byte, 1_000);
    let attacks: [(SocketAddr, Box<dyn Iterator<Item = u8> + Send>); 5] = [
        (explicit, Box::new(endless(b'a'))),
        (explicit, Box::new(endless(b'\n'))),
        (explicit, Box::new(b"NOOP\r\n".repeat(200).into_iter())),
        (
            explicit,
            Box::new(b"AUTH TLS\r\n".iter().copied().chain(endless(b'x'))),
        ),
        (implicit, Box::new(hello().chain(endless(7)))),
    ];
    thread::scope(|scope| {
        for (number, (address, bytes)) in attacks.into_iter().enumerate() {
            scope.spawn(move || {
                let held = dribble(address, bytes);
                assert!(held < SOON, "number {number} held out {held:?}");
            });
        }
    });
    deployment
        .proxy
        .wait_for_metric("portcullis_sessions", |open| open == 0.0);
}

#[test]
fn a_handshake_that_never_begins_or_never_goes_on_ends_in_time() {
    let deployment = Deployment::new(&["tls_handshake"], Script::new());
    let mut silent = Wire::connect(deployment.proxy.implicit());
    let mut half = Wire::connect(deployment.proxy.implicit());
    half.write_all(&[22, 3, 1, 2, 0, 1, 0]).expect("it reads");
    let mut after_auth = Raw::connect(deployment.proxy.explicit());
    after_auth.expect(220);
    after_auth.command("AUTH TLS", 234);
    for peer in [&mut silent, &mut half] {
        let (bytes, end) = peer.read_to_end();
        assert_eq!((bytes.len(), end), (0, End::Fin));
    }
    assert_eq!(after_auth.end().0, b"");
    deployment.proxy.wait_for_logs(3, |line| {
        line.message() == "TLS handshake with the client took too long"
    });
}

#[test]
fn a_handshake_on_a_data_connection_that_never_begins_costs_only_the_transfer() {
    let script = Script::new().file("file", "content");
    let deployment = Deployment::new(&["tls_handshake"], script);
    let mut session = deployment.front.session(&deployment.proxy, "alice");
    let mut data = open_data(session.control.epsv());
    session.control.command("RETR file", 150);
    session.control.expect(522);
    assert_eq!(data.read_to_end(), (Vec::new(), End::Reset));
    assert_eq!(session.download("file"), b"content");
}

#[test]
fn a_data_connection_that_stands_still_on_either_leg_ends_the_transfer_and_not_the_session() {
    let gate = Gate::new();
    let held = gate.clone();
    let script = Script::new()
        .file("big", vec![7; 30_000_000])
        // A listing that never goes on.
        .on(
            "LIST",
            [
                reply("150 here it comes"),
                Step::OpenData,
                Step::Send(b"first\r\n".to_vec()),
                Step::Wait(held),
                Step::EndData(End::Reset),
                reply("426 gone"),
            ],
        );
    let deployment = Deployment::new(&["data_idle"], script);
    let (front, proxy) = (&deployment.front, &deployment.proxy);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut sends_nothing = front.session(proxy, "alice");
            let mut data = sends_nothing.begin("STOR new");
            sends_nothing.control.expect(426);
            assert_eq!(data.read_to_end().1, End::Reset);
            sends_nothing.control.command("PWD", 257);
        });
        scope.spawn(|| {
            let mut takes_nothing = front.session(proxy, "alice");
            let mut data = takes_nothing.begin("RETR big");
            // This backend takes the reset badly: that it is gone may be known before what went before it.
            let answer = takes_nothing.control.reply();
            assert!([421, 426].contains(&answer.code), "{}", answer.text);
            assert_eq!(data.read_to_end().1, End::Reset);
        });
        scope.spawn(|| {
            let mut session = front.session(proxy, "alice");
            let mut data = session.begin("LIST");
            let (listed, end) = data.read_to_end();
            assert_eq!((&listed[..], end), (&b"first\r\n"[..], End::Reset));
            gate.open();
            session.control.expect(426);
            session.control.command("PWD", 257);
        });
    });
    assert_eq!(deployment.backend.wait_for_upload(1).end, End::Reset);
}

#[test]
fn an_endless_line_at_full_speed_neither_moves_the_deadline_nor_grows_the_memory() {
    let deployment = Deployment::new(&["login"], Script::new());
    let before = resources::peak_memory(&deployment.proxy);
    let mut clear = Raw::connect(deployment.proxy.explicit());
    clear.expect(220);
    let began = Instant::now();
    let mut socket = clear.wire().socket().try_clone().expect("it is open");
    let pouring = thread::spawn(move || {
        let mut poured = 0_u64;
        while socket.write_all(&[b'x'; 64 * 1024]).is_ok() {
            poured += 64 * 1024;
        }
        poured
    });
    let answer = clear.expect(421);
    assert!(answer.contains("Login took too long"), "{answer}");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let grown = resources::peak_memory(&deployment.proxy).saturating_sub(before);
    let poured = pouring.join().expect("no panic");
    assert!(poured > 10_000_000, "only {poured} bytes went out");
    assert!(grown < 2_000_000, "{grown} bytes more after {poured}");
}

#[test]
fn a_client_that_never_reads_is_not_read_either() {
    let deployment = Deployment::new(&[], Script::new());
    let before = resources::peak_memory(&deployment.proxy);
    let mut client = Raw::over(Wire::connect_narrow(deployment.proxy.explicit()));
    client.wire().flood(&b"FEAT\r\n".repeat(10_000));
    let grown = resources::peak_memory(&deployment.proxy).saturating_sub(before);
    assert!(grown < 2_000_000, "{grown} bytes more");
    client.expect(220);
    for _ in 0..20 {
        client.expect(211);
    }
    client.close(End::Reset);
    deployment
        .proxy
        .wait_for_metric("portcullis_sessions", |open| open == 0.0);
}

#[test]
fn many_who_say_nothing_cost_little_and_keep_nobody_out() {
    const CROWD: usize = 400;
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new().file("file", "content"));
    let proxy = front.before_with(backend.address(), |config| {
        config.limit("sessions_per_client", CROWD + 10)
    });
    let (memory, descriptors) = (
        resources::peak_memory(&proxy),
        resources::descriptors(&proxy),
    );
    let crowd: Vec<Wire> = (0..CROWD)
        .map(|number| {
            let mut peer = Wire::connect(if number % 2 == 0 {
                proxy.explicit()
            } else {
                proxy.implicit()
            });
            let start: &[u8] = [&b""[..], b"\x16\x03\x01", b"N", b"\x16"][number % 4];
            peer.write_all(start).expect("it reads");
            peer
        })
        .collect();
    proxy.wait_for_metric("portcullis_sessions", |open| open >= CROWD as f64 / 2.0);
    let mut session = front.session(&proxy, "alice");
    assert_eq!(session.download("file"), b"content");
    let each = resources::peak_memory(&proxy).saturating_sub(memory) / CROWD as u64;
    assert!(each < 64 * 1024, "{each} bytes for each");
    session.control.command("QUIT", 221);
    drop((crowd, session));
    resources::wait_for_descriptors(&proxy, descriptors);
    proxy.wait_for_metric("portcullis_sessions", |open| open == 0.0);
}

/// Ends a thread's work when the test does, however that is.
struct UntilDropped(Arc<AtomicBool>);

impl Drop for UntilDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn whoever_connects_and_goes_leaves_nothing_behind() {
    const TIMES: usize = 500;
    let deployment = Deployment::new(&[], Script::new().file("file", "content"));
    let proxy = &deployment.proxy;
    let descriptors = resources::descriptors(proxy);
    let mut session = deployment.front.session(proxy, "alice");
    thread::scope(|scope| {
        let over = UntilDropped(Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&over.0);
        let good = scope.spawn(move || {
            let mut transfers = 0;
            while !told.load(Ordering::SeqCst) || transfers == 0 {
                assert_eq!(session.download("file"), b"content");
                transfers += 1;
            }
            session.control.command("QUIT", 221);
        });
        for number in 0..TIMES {
            let mut peer = Wire::connect(if number % 2 == 0 {
                proxy.explicit()
            } else {
                proxy.implicit()
            });
            match number % 5 {
                0 => peer.reset(),
                1 => drop(peer.write_all(b"QUIT\r\n")),
                2 => drop(peer.write_all(b"GET / HTTP/1.1\r\n\r\n")),
                3 => drop(peer.write_all(&[22, 3, 1, 2])),
                _ => drop(peer.fin()),
            }
        }
        drop(over);
        good.join().expect("no transfer fails");
    });
    resources::wait_for_descriptors(proxy, descriptors);
    proxy.wait_for_metric("portcullis_sessions", |open| open == 0.0);
    assert_eq!(
        deployment.backend.connections(),
        1,
        "nobody is dialled for them"
    );
    let lines = proxy.log_lines();
    let loud = lines.iter().filter(|line| {
        let level = line.field("level");
        level.as_deref() == Some("WARN") || level.as_deref() == Some("ERROR")
    });
    // Only that they were too many at once, if they were, and what this machine is short of.
    let other: Vec<_> = loud
        .filter(|line| line.message() != "session refused")
        .filter(|line| !line.message().contains("file descriptors"))
        .collect();
    assert!(other.is_empty(), "{other:?}");
}

#[test]
fn one_session_that_asks_for_port_after_port_holds_one() {
    const TIMES: usize = 500;
    let deployment = Deployment::new(&[], Script::new().file("file", "content"));
    let mut session = deployment.front.session(&deployment.proxy, "alice");
    let descriptors = resources::descriptors(&deployment.proxy);
    for _ in 0..TIMES {
        session.control.epsv();
    }
    let in_use = "portcullis_passive_ports_in_use";
    // The port before the last is given back by the task that waited there, which is ended but not waited for.
    deployment
        .proxy
        .wait_for_metric(in_use, |ports| ports == 1.0);
    // That of the connection to the port that the backend opened last.
    resources::wait_for_descriptors(&deployment.proxy, descriptors + 1);
    let mut other = deployment.front.session(&deployment.proxy, "bob");
    assert_eq!(other.download("file"), b"content");
    assert_eq!(session.download("file"), b"content");
    deployment
        .proxy
        .wait_for_metric(in_use, |ports| ports == 0.0);
    for client in [&mut session, &mut other] {
        client.control.command("QUIT", 221);
    }
    let exhausted = "portcullis_passive_exhausted_total";
    assert_eq!(deployment.proxy.metric(exhausted), 0.0);
}
