//! One data port for everybody: crowds of sessions share it, and every file reaches whom it is for.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use testkit::config::{Config, Site};
use testkit::content;
use testkit::front::Front;
use testkit::proxy::{LogLine, Proxy};
use testkit::raw::{Raw, RawTls, protect};
use testkit::script::Script;
use testkit::scripted::Backend;
use testkit::wire::{End, Wire};

use crate::program::Start;

/// How many files each session of a crowd transfers; every other one is an upload.
const FILES: usize = 20;

/// How many of them it transfers while others still log in. Only then it's known whether and how its client resumes: each
/// ticket of TLS 1.3 once, as rustls does it, and not only the latest, which shows when an upload has taken that.
const FIRST_FILES: usize = 3;

/// How many members of a crowd come at once.
const GROUP: usize = 50;

struct Deployment {
    front: Front,
    backend: Backend,
    proxy: Proxy,
}

impl Deployment {
    /// A proxy with one data port, and a backend with the files of so many sessions.
    fn new(sessions: usize, change: impl FnOnce(Config) -> Config) -> Self {
        let front = Front::new(&[]);
        let mut script = Script::new();
        for session in 0..sessions {
            for file in (0..FILES).step_by(2) {
                script = script.file(&name(session, file), file_of(session, file));
            }
        }
        let backend = Backend::start(script);
        let config = front
            .config()
            .passive_ports("50000")
            .limit("sessions_per_client", 10_000)
            .site(&Site::default("site", backend.address()));
        let proxy = Proxy::start(change(config));
        Self {
            front,
            backend,
            proxy,
        }
    }

    /// A member of a crowd from `address`, logged in to an account of its own.
    fn member(&self, number: usize, address: IpAddr, tls: RawTls) -> Member<'_> {
        self.session_of(&format!("user{number}"), number, address, tls)
    }

    fn session_of(&self, user: &str, number: usize, address: IpAddr, tls: RawTls) -> Member<'_> {
        let wire = Wire::connect_from(address, self.proxy.explicit());
        let mut control = Raw::over(wire);
        control.expect(220);
        control.auth_tls(&tls);
        control.login(user, "secret");
        control.protect_data();
        Member {
            deployment: self,
            number,
            address,
            control,
            tls,
        }
    }

    fn samples(&self, name: &str) -> f64 {
        self.proxy.metric(&format!("portcullis_{name}"))
    }

    fn complete(&self) -> f64 {
        let complete = |direction| {
            self.samples(&format!(
                "transfers_total{{direction=\"{direction}\",site=\"site\",verdict=\"complete\"}}"
            ))
        };
        complete("download") + complete("upload")
    }
}

struct Member<'a> {
    deployment: &'a Deployment,
    number: usize,
    address: IpAddr,
    control: Raw,
    tls: RawTls,
}

impl Member<'_> {
    /// Transfers a file of its own. Panics if it isn't just that file.
    fn transfer(&mut self, file: usize) {
        let port = self.control.epsv();
        self.transfer_at(port, file);
    }

    /// The same, with a data port that was asked for already.
    fn transfer_at(&mut self, port: SocketAddr, file: usize) {
        let name = name(self.number, file);
        let content = file_of(self.number, file);
        let mut data = Wire::connect_from(self.address, port);
        if file.is_multiple_of(2) {
            self.control.command(&format!("RETR {name}"), 150);
            protect(&mut data, &self.tls).expect("a handshake");
            let (received, end) = data.read_to_end();
            assert_eq!(end, End::CloseNotify, "{name}");
            assert!(received == content, "{name} is another file");
            self.control.expect(226);
        } else {
            self.control.command(&format!("STOR {name}"), 150);
            protect(&mut data, &self.tls).expect("a handshake");
            data.write_all(&content).expect("the proxy reads");
            data.end(End::CloseNotify).expect("the proxy is there");
            self.control.expect(226);
            assert!(
                self.deployment.backend.file(&name) == Some(content),
                "{name} is another file"
            );
        }
    }
}

fn name(session: usize, file: usize) -> String {
    format!("{session}-{file}")
}

fn file_of(session: usize, file: usize) -> Vec<u8> {
    let number = session * FILES + file;
    content::bytes(number as u64, 1_000 + number % 4_000)
}

/// Does something with each member of a crowd at the same time.
fn at_once<T: Send, R: Send>(members: Vec<T>, act: impl Fn(T) -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let act = &act;
        let running: Vec<_> = members
            .into_iter()
            .map(|member| {
                thread::Builder::new()
                    .stack_size(512 * 1024)
                    .spawn_scoped(scope, move || act(member))
                    .expect("a thread")
            })
            .collect();
        let ended: Vec<_> = running.into_iter().map(|thread| thread.join()).collect();
        ended
            .into_iter()
            .map(|outcome| outcome.expect("every member gets its files"))
            .collect()
    })
}

/// Runs a crowd: in groups, its members log in and transfer the first files, and when all have, they transfer the others together.
///
/// Until it is known of clients of one address that they resume, they take turns at the port: in a crowd that has come at once, the
/// last one would wait for as long as the machine takes for all the others.
fn crowd(
    deployment: &Deployment,
    sessions: usize,
    address: impl Fn(usize) -> IpAddr + Sync,
    tls: impl Fn() -> RawTls + Sync,
) {
    let numbers: Vec<usize> = (0..sessions).collect();
    let mut members = Vec::new();
    for group in numbers.chunks(GROUP) {
        members.extend(at_once(group.to_vec(), |number| {
            let mut member = deployment.member(number, address(number), tls());
            (0..FIRST_FILES).for_each(|file| member.transfer(file));
            member
        }));
    }
    at_once(members, |mut member| {
        (FIRST_FILES..FILES).for_each(|file| member.transfer(file));
    });
    assert_eq!(deployment.complete(), (sessions * FILES) as f64);
    assert_eq!(deployment.samples("passive_exhausted_total"), 0.0);
    assert_eq!(deployment.samples("passive_strangers_total"), 0.0);
    deployment
        .proxy
        .wait_for_metric("portcullis_passive_ports_in_use", |ports| ports == 0.0);
}

fn five_hundred_of_one_address(version: &'static SupportedProtocolVersion) {
    const SESSIONS: usize = 500;
    let deployment = Deployment::new(SESSIONS, |config| config);
    let address = deployment.proxy.explicit().ip();
    crowd(
        &deployment,
        SESSIONS,
        |_| address,
        || deployment.front.tls_of(version),
    );
    let resumed = deployment.samples("data_tls_handshakes_total{kind=\"resumed\",leg=\"client\"}");
    assert_eq!(resumed, (SESSIONS * FILES) as f64);
}

#[test]
fn five_hundred_sessions_of_one_address_share_a_port_in_tls_1_2() {
    five_hundred_of_one_address(&TLS12);
}

#[test]
fn five_hundred_sessions_of_one_address_share_a_port_in_tls_1_3() {
    five_hundred_of_one_address(&TLS13);
}

fn fifty_addresses(version: &'static SupportedProtocolVersion) {
    const SESSIONS: usize = 50;
    let deployment = Deployment::new(SESSIONS, |config| config);
    let address = |number| IpAddr::from([127, 45, 0, 1 + number as u8]);
    crowd(&deployment, SESSIONS, address, || {
        deployment.front.tls_of(version).without_resumption()
    });
    let full = deployment.samples("data_tls_handshakes_total{kind=\"full\",leg=\"client\"}");
    assert_eq!(full, (SESSIONS * FILES) as f64);
}

#[test]
fn clients_that_never_resume_share_a_port_from_fifty_addresses() {
    fifty_addresses(&TLS12);
    fifty_addresses(&TLS13);
}

#[test]
fn a_client_that_never_resumes_waits_until_its_neighbours_transfer_is_over() {
    let deployment = Deployment::new(2, |config| config);
    let address = deployment.proxy.explicit().ip();
    let tls = || deployment.front.tls_of(&TLS13).without_resumption();
    let mut first = deployment.member(0, address, tls());
    let mut second = deployment.member(1, address, tls());
    let port = first.control.epsv();
    second.control.send("EPSV");
    deployment.backend.wait_for_commands("EPSV", 2);
    first.transfer_at(port, 0);
    assert!(second.control.expect(229).contains("|||50000|"));
    second.transfer_at(port, 0);
}

/// FileZilla, lftp and WinSCP with parallel connections.
#[test]
fn sessions_of_one_account_whose_clients_resume_hold_a_port_together() {
    for version in [&TLS12, &TLS13] {
        let deployment = Deployment::new(3, |config| config.timeout("data_port", "200ms"));
        let address = deployment.proxy.explicit().ip();
        let tls = || deployment.front.tls_of(version);
        let mut members: Vec<Member> = (0..3)
            .map(|number| deployment.session_of("alice", number, address, tls()))
            .collect();
        for member in &mut members {
            // Shows that its client resumes, and passes over the others' sessions.
            member.transfer(0);
        }
        // Downloads: they bring new tickets to clients that use each one once.
        for file in [2, 4, 6, 8] {
            let ports: Vec<_> = members
                .iter_mut()
                .map(|member| member.control.epsv())
                .collect();
            for (member, port) in members.iter_mut().zip(ports).rev() {
                member.transfer_at(port, file);
            }
        }
    }
}

/// `curl --parallel` and rclone keep the TLS sessions of all their control connections in one place and present any of
/// them: a connection for one session's file could pass for another's.
#[test]
fn sessions_that_share_a_cache_never_hold_a_port_together_and_those_of_another_client_do() {
    for version in [&TLS12, &TLS13] {
        let deployment = Deployment::new(3, |config| config.timeout("data_port", "200ms"));
        let address = deployment.proxy.explicit().ip();
        let shared = deployment.front.tls_of(version);
        let mut first = deployment.session_of("alice", 0, address, shared.clone());
        let mut second = deployment.session_of("alice", 1, address, shared);
        let mut other = deployment.session_of("bob", 2, address, deployment.front.tls_of(version));
        for member in [&mut first, &mut second, &mut other] {
            member.transfer(0);
        }
        let port = first.control.epsv();
        second.control.command("EPSV", 425);
        other.transfer(2);
        first.transfer_at(port, 2);
        for file in 1..4 {
            second.transfer(file);
        }
    }
}

#[test]
fn a_client_that_waits_too_long_for_its_neighbour_is_told_425_and_counted() {
    let deployment = Deployment::new(2, |config| config.timeout("data_port", "200ms"));
    let address = deployment.proxy.explicit().ip();
    let tls = || deployment.front.tls_of(&TLS13).without_resumption();
    let mut first = deployment.member(0, address, tls());
    // It has yet to show that it doesn't resume either, and isn't let in to do so: its connection would spoil the first one's.
    let mut second = deployment.member(1, address, tls());
    let port = first.control.epsv();
    second.control.command("EPSV", 425);
    assert_eq!(deployment.samples("passive_exhausted_total"), 1.0);
    let told = |line: &LogLine| line.message().starts_with("no passive port became free");
    deployment.proxy.wait_for_log(told);
    first.transfer_at(port, 0);
    second.transfer(0);
}

#[test]
fn a_file_that_begins_like_tls_is_uploaded_in_clear_text_beside_a_pending_session() {
    let deployment = Deployment::new(2, |config| config);
    let address = deployment.proxy.explicit().ip();
    let mut neighbour = deployment.member(0, address, deployment.front.tls_of(&TLS13));
    let mut member = deployment.member(1, address, deployment.front.tls_of(&TLS13));
    for file in 0..3 {
        neighbour.transfer(file);
    }
    member.control.command("PROT C", 200);
    for content in [
        &b"\x16"[..],
        b"\x16\x03",
        b"\x16\x03\x01\x00\x05\x02, no hello",
        b"\x16 is SYN",
    ] {
        let port = member.control.epsv();
        let pending = neighbour.control.epsv();
        let mut data = Wire::connect_from(address, port);
        member.control.send("STOR like-tls");
        data.write_all(content).expect("the proxy reads");
        data.fin().expect("the proxy is there");
        // Until its connection is there, this one could be the neighbour's.
        neighbour.transfer_at(pending, 0);
        member.control.expect(150);
        member.control.expect(226);
        assert_eq!(
            deployment.backend.file("like-tls").as_deref(),
            Some(content)
        );
    }
}

#[test]
fn a_port_cools_down_for_every_client_after_the_start_since_a_connection_of_before_may_be_on_its_way()
 {
    let began = Instant::now();
    let deployment = Deployment::new(2, |config| config.reuse_delay("1s"));
    let address = deployment.proxy.explicit().ip();
    let mut member = deployment.member(0, address, deployment.front.tls_of(&TLS13));
    member.transfer(0);
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_client_that_hangs_up_while_it_waits_for_a_port_is_let_go_at_once() {
    let deployment = Deployment::new(2, |config| config.timeout("data_port", "1h"));
    let address = deployment.proxy.explicit().ip();
    let tls = || deployment.front.tls_of(&TLS13).without_resumption();
    let mut first = deployment.member(0, address, tls());
    let mut second = deployment.member(1, address, tls());
    let port = first.control.epsv();
    second.control.send("EPSV");
    deployment.backend.wait_for_commands("EPSV", 2);
    second.control.close(End::Fin);
    let ended = |line: &LogLine| line.message() == "session ended";
    let line = deployment.proxy.wait_for_log(ended);
    assert_eq!(line.field("ending").as_deref(), Some("client gone"));
    first.transfer_at(port, 0);
}

#[test]
fn a_neighbour_with_a_session_of_its_own_steals_nothing_where_proof_is_required() {
    let deployment = Deployment::new(2, |config| config.tls("session_reuse", "require"));
    let address = deployment.proxy.explicit().ip();
    for version in [&TLS12, &TLS13] {
        let mut victim = deployment.member(0, address, deployment.front.tls_of(version));
        // Logged in as well, and with tickets of its own to show.
        let thief = deployment.member(1, address, deployment.front.tls_of(version));
        let mut silent = Vec::new();
        for file in 0..FILES {
            let port = victim.control.epsv();
            // Says nothing, says nonsense, shows no ticket, shows its own.
            silent.push(Wire::connect_from(address, port));
            let mut nonsense = Wire::connect_from(address, port);
            nonsense
                .write_all(b"GET / HTTP/1.0\r\n\r\n")
                .expect("it is open");
            assert_eq!(nonsense.read_to_end(), (Vec::new(), End::Reset));
            for tls in [thief.tls.without_resumption(), thief.tls.clone()] {
                let mut stolen = Wire::connect_from(address, port);
                assert!(protect(&mut stolen, &tls).is_err(), "let in");
            }
            victim.transfer_at(port, file);
        }
    }
    let strangers = (2 * 4 * FILES) as f64;
    deployment
        .proxy
        .wait_for_metric("portcullis_passive_strangers_total", |count| {
            count == strangers
        });
}

#[test]
fn thieves_in_a_crowd_get_nothing() {
    const SESSIONS: usize = 40;
    let deployment = Deployment::new(SESSIONS, |config| config.tls("session_reuse", "require"));
    let address = deployment.proxy.explicit().ip();
    let port = (address, 50_000).into();
    let over = AtomicBool::new(false);
    let stolen = thread::scope(|scope| {
        // Of the same address without a ticket, and of another.
        let thieves = [address, IpAddr::from([127, 46, 0, 1])].map(|from| {
            let (deployment, over) = (&deployment, &over);
            scope.spawn(move || {
                let mut let_in = 0;
                while !over.load(Ordering::Relaxed) {
                    let tls = deployment.front.tls_of(&TLS13);
                    let stolen = Wire::try_connect_from(from, port)
                        .and_then(|mut data| protect(&mut data, &tls));
                    let_in += usize::from(stolen.is_ok());
                }
                let_in
            })
        });
        let crowd = scope.spawn(|| {
            at_once((0..SESSIONS).collect(), |number| {
                let mut member =
                    deployment.member(number, address, deployment.front.tls_of(&TLS13));
                (0..FILES).for_each(|file| member.transfer(file));
            })
        });
        let outcome = crowd.join();
        over.store(true, Ordering::Relaxed);
        let stolen = thieves.map(|thief| thief.join().expect("a thief doesn't panic"));
        outcome.expect("every member gets its files");
        stolen
    });
    assert_eq!(stolen, [0, 0]);
    assert_eq!(deployment.complete(), (SESSIONS * FILES) as f64);
}
