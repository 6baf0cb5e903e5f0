//! Rolling restarts of all instances under sessions in every phase: no login fails, and no transfer gets a wrong verdict.
//!
//! What has to become of a session depends on its phase, and on what its instance does meanwhile:
//!
//! | phase of the session | lame duck | drain | end of the drain |
//! |---|---|---|---|
//! | in a handshake, logging in | is served | 421 at its next command | 421 |
//! | idle | is served | 421 | – |
//! | told a data port, or connected to it, without a transfer | is served | 421, and a reset | – |
//! | in a transfer | is served | its transfer finishes, then 421 | 421, and a reset of both data connections |
//!
//! So no login fails if lame duck lasts until the balancer knows, and until the logins are done that it has sent before. The test
//! waits for both, and ends lame duck by a second signal: no time has to be long enough.

mod client;

use std::io::{Read, Write};
use std::net::IpAddr;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use testkit::proxy::{Proxy, Signal};
use testkit::script::{Gate, Script, Step, reply};
use testkit::wire::End;

use super::client::{FILE, Session, address};
use super::fleet::{Fleet, INSTANCES};

use client::{Client, Phase};

/// How many sessions there are all the time.
const SESSIONS: usize = 200;

/// How often all instances are restarted, one after the other.
const ROUNDS: usize = 10;

/// How many threads play the sessions.
const PLAYERS: usize = 8;

/// How many clients log in, download a file and leave, again and again.
const VISITORS: usize = 2;

/// The first half and the second one of what is transferred.
const HALVES: [&[u8]; 2] = [&[1; 20_000], &[2; 20_000]];

/// What all clients of the test have in common.
struct Play {
    fleet: Fleet,
    /// How many transfers each instance has been seen to complete since it started.
    complete: [AtomicUsize; INSTANCES],
    /// Held by each visitor during a visit, and by who waits for all visits that have begun.
    visit: RwLock<()>,
    visits: AtomicUsize,
    is_over: AtomicBool,
}

impl Play {
    fn new(fleet: Fleet) -> Self {
        Self {
            fleet,
            complete: Default::default(),
            visit: RwLock::new(()),
            visits: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    /// A transfer was complete for its client.
    fn is_complete(&self, instance: usize) {
        self.complete[instance].fetch_add(1, Ordering::Relaxed);
    }

    /// A client that comes, downloads and leaves until the end.
    fn visit(&self, from: IpAddr) {
        while !self.is_over.load(Ordering::Relaxed) {
            let visit = self.visit.read().expect("no visitor fails");
            let mut session = Session::start(&self.fleet, from, "visitor");
            self.is_complete(session.download(&self.fleet));
            session.quit();
            self.visits.fetch_add(1, Ordering::Relaxed);
            drop(visit);
            // Not to wait for anything, only to leave the processor to the others.
            thread::sleep(Duration::from_millis(30));
        }
    }

    /// Waits until all visits are over that have begun by now.
    fn wait_for_visits(&self) {
        drop(self.visit.write().expect("no visitor fails"));
    }
}

/// Ends the visits, also where the test fails.
struct Visits<'a>(&'a Play);

impl Drop for Visits<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

/// The name of a file that no download gets whole before the gate of this restart is open.
fn held(restart: usize) -> String {
    format!("held-{restart}")
}

/// A server that holds the second half of such files back.
fn script(gates: &[Gate]) -> Script {
    let script = Script::new().file(FILE.0, FILE.1);
    gates
        .iter()
        .enumerate()
        .fold(script, |script, (restart, gate)| {
            let steps = [
                reply("150 here it comes"),
                Step::OpenData,
                Step::Send(HALVES[0].to_vec()),
                Step::Wait(gate.clone()),
                Step::Send(HALVES[1].to_vec()),
                Step::EndData(End::Fin),
                reply("226 done"),
            ];
            script.on(&format!("RETR {}", held(restart)), steps)
        })
}

/// Has all clients that are chosen do something, several at a time.
fn each(
    clients: &mut [Client],
    chosen: impl Fn(&Client) -> bool,
    what: impl Fn(&mut Client) + Sync,
) {
    let mut chosen: Vec<&mut Client> = clients.iter_mut().filter(|one| chosen(one)).collect();
    let share = chosen.len().div_ceil(PLAYERS).max(1);
    thread::scope(|scope| {
        for part in chosen.chunks_mut(share) {
            let what = &what;
            scope.spawn(move || part.iter_mut().for_each(|client| what(client)));
        }
    });
}

/// How many such lines the log of an instance has.
fn lines(proxy: &Proxy, message: &str) -> usize {
    let lines = proxy.log_lines();
    lines
        .iter()
        .filter(|line| line.message() == message)
        .count()
}

/// Asks an instance to end; it serves on until it is asked again.
fn begin_lame_duck(proxy: &Proxy) {
    proxy.signal(Signal::Terminate);
    proxy.wait_for_log(|line| line.message().starts_with("shutdown requested: not ready"));
}

/// Restarts an instance while all clients are in their phases.
fn restart(play: &Play, clients: &mut [Client], number: usize, gate: &Gate) {
    let leaving = number % INSTANCES;
    each(
        clients,
        |_| true,
        |client| client.enter(client.phase_of(number), play, number),
    );
    for phase in Phase::ALL {
        let there = clients.iter().filter(|client| client.is_in(phase)).count();
        assert_eq!(there, SESSIONS / Phase::ALL.len(), "{phase:?}");
    }
    let mut proxy = play.fleet.take(leaving);

    // Lame duck: all goes on, and HAProxy sends nobody here once it knows.
    begin_lame_duck(&proxy);
    play.fleet.wait_for(leaving, "DOWN");
    play.wait_for_visits();
    each(
        clients,
        |client| client.is_in(Phase::Handshake),
        |client| client.go_on(play),
    );
    let goes_on = |client: &Client| client.is_at(leaving) && !client.is_in(Phase::Transfer);
    each(
        clients,
        |client| goes_on(client) && client.is_eager(),
        |client| client.go_on(play),
    );

    // Drain: who is in no transfer is sent away, and who is in one when that is finished.
    proxy.signal(Signal::Terminate);
    proxy.wait_for_log(|line| line.message() == "draining");
    each(clients, goes_on, Client::is_sent_away);
    gate.open();
    each(
        clients,
        |client| client.is_at(leaving),
        |client| {
            client.go_on(play);
            client.is_sent_away();
        },
    );
    assert_eq!(proxy.wait_exit(), Some(0));

    // What it has written down is what its clients have seen.
    let seen = play.complete[leaving].swap(0, Ordering::Relaxed);
    assert_eq!(lines(&proxy, "transfer complete"), seen);
    assert_eq!(lines(&proxy, "transfer not complete"), 0);
    assert_eq!(lines(&proxy, "login failed"), 0);

    // Those of the other instances have noticed nothing.
    each(clients, Client::is_there, |client| client.go_on(play));
    play.fleet.start_again(leaving);
    each(
        clients,
        |client| !client.is_there(),
        |client| client.arrive(play),
    );
}

#[test]
fn ten_rolling_restarts_under_two_hundred_sessions_fail_no_login_and_no_transfer() {
    let gates: Vec<Gate> = (0..ROUNDS * INSTANCES).map(|_| Gate::new()).collect();
    let play = Play::new(Fleet::start(script(&gates), |yaml| yaml));
    let mut clients: Vec<Client> = (0..SESSIONS).map(Client::new).collect();
    each(&mut clients, |_| true, |client| client.arrive(&play));
    thread::scope(|scope| {
        for number in 0..VISITORS {
            let play = &play;
            scope.spawn(move || play.visit(address(1000 + number)));
        }
        let _visits = Visits(&play);
        for (number, gate) in gates.iter().enumerate() {
            let before = play.visits.load(Ordering::Relaxed);
            restart(&play, &mut clients, number, gate);
            assert!(
                play.visits.load(Ordering::Relaxed) > before,
                "nobody came meanwhile"
            );
        }
    });
}

#[test]
fn a_transfer_that_the_end_of_the_drain_cuts_off_is_complete_for_nobody() {
    let gate = Gate::new();
    let fleet = Fleet::start(script(std::slice::from_ref(&gate)), |yaml| {
        yaml.replace("timeouts:\n", "timeouts:\n  drain: 300ms\n")
    });
    let leaving = 2;
    let begun = |command: &str| {
        let mut session = Session::start_at(&fleet, leaving, address(1), "alice");
        let at = session.control.epsv();
        let mut data = session.connect(at);
        session.begin(command, &mut data);
        (session, data)
    };
    let (uploading, mut upload) = begun("STOR stored");
    upload.write_all(HALVES[0]).expect("the proxy reads");
    let (downloading, mut download) = begun(&format!("RETR {}", held(0)));
    let mut first = vec![0; HALVES[0].len()];
    download.read_exact(&mut first).expect("the first half");
    let mut proxy = fleet.take(leaving);
    begin_lame_duck(&proxy);
    proxy.signal(Signal::Terminate);
    for mut data in [upload, download] {
        let (content, end) = data.read_to_end();
        assert_eq!(content, b"");
        // A reset of Portcullis, which HAProxy makes a FIN.
        assert_ne!(end, End::CloseNotify);
    }
    assert_eq!(
        fleet.backend.wait_for_upload_by("STOR stored").end,
        End::Reset
    );
    for mut session in [uploading, downloading] {
        session.control.expect(421);
    }
    assert_eq!(proxy.wait_exit(), Some(0));
    assert_eq!(lines(&proxy, "transfer not complete"), 2);
    gate.open();
}
