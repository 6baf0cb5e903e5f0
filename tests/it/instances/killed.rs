//! An instance that dies by `kill -9`: nothing fails but its own sessions, and nothing truncated is called complete.

use std::io::{Read, Write};
use std::thread;

use testkit::proxy::Signal;
use testkit::raw::protect;
use testkit::script::{Gate, Script, Step, reply};
use testkit::wire::{End, Wire};

use super::client::{FILE, Session, address};
use super::fleet::{Fleet, INSTANCES};

/// The first half and the second one of what is transferred.
const HALVES: [&[u8]; 2] = [&[1; 40_000], &[2; 40_000]];

/// Who dies.
const VICTIM: usize = 1;

/// How a client's data connections are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Data {
    Private,
    Clear,
}

/// A client of each phase, at one instance.
struct Clients {
    instance: usize,
    idle: Session,
    told_a_port: (Session, std::net::SocketAddr),
    connected: (Session, Wire),
    uploading: (Session, Wire),
    downloading: (Session, Wire),
}

impl Clients {
    fn at(fleet: &Fleet, instance: usize, data: Data) -> Self {
        let mut number = 10 * instance;
        let mut session = || {
            number += 1;
            let mut session = Session::start_at(fleet, instance, address(number), "alice");
            if data == Data::Clear {
                session.control.command("PROT C", 200);
            }
            session
        };
        let connected = |session: &mut Session| {
            let at = session.control.epsv();
            session.connect(at)
        };
        let begun = |session: &mut Session, command: &str| {
            let mut wire = connected(session);
            session.control.command(command, 150);
            if data == Data::Private {
                protect(&mut wire, &session.tls).expect("a handshake");
            }
            wire
        };
        let idle = session();
        let mut one = session();
        let told_a_port = one.control.epsv();
        let told_a_port = (one, told_a_port);
        let mut one = session();
        let wire = connected(&mut one);
        let waiting = (one, wire);
        let mut one = session();
        let mut wire = begun(&mut one, &format!("STOR upload-{instance}"));
        wire.write_all(HALVES[0]).expect("the proxy reads");
        let uploading = (one, wire);
        let mut one = session();
        let mut wire = begun(&mut one, "RETR held");
        let mut first = vec![0; HALVES[0].len()];
        wire.read_exact(&mut first).expect("the first half");
        assert_eq!(first, HALVES[0]);
        Self {
            instance,
            idle,
            told_a_port,
            connected: waiting,
            uploading,
            downloading: (one, wire),
        }
    }

    /// Each goes on to its end, which has to be a good one.
    fn finish(mut self, fleet: &Fleet, data: Data) {
        let end = match data {
            Data::Private => End::CloseNotify,
            Data::Clear => End::Fin,
        };
        self.idle.control.command("NOOP", 200);
        let retrieve = |session: &mut Session, mut wire: Wire| {
            session.control.command(&format!("RETR {}", FILE.0), 150);
            if data == Data::Private {
                protect(&mut wire, &session.tls).expect("a handshake");
            }
            assert_eq!(wire.read_to_end(), (FILE.1.to_vec(), end));
            session.control.expect(226);
        };
        let (mut session, at) = self.told_a_port;
        let wire = session.connect(at);
        retrieve(&mut session, wire);
        let (mut session, wire) = self.connected;
        retrieve(&mut session, wire);
        let (mut session, mut wire) = self.uploading;
        wire.write_all(HALVES[1]).expect("the proxy reads");
        wire.end(end).expect("the proxy is there");
        session.control.expect(226);
        let stored = fleet.backend.file(&format!("upload-{}", self.instance));
        assert_eq!(stored, Some(HALVES.concat()));
        let (mut session, mut wire) = self.downloading;
        assert_eq!(wire.read_to_end(), (HALVES[1].to_vec(), end));
        session.control.expect(226);
    }

    /// Their instance is dead: each sees it, and none takes anything for complete.
    fn lose(self, fleet: &Fleet) {
        let [idle, told, waiting, uploading, downloading] = [
            self.idle,
            self.told_a_port.0,
            self.connected.0,
            self.uploading.0,
            self.downloading.0,
        ];
        let wires = [self.connected.1, self.uploading.1];
        let mut download = self.downloading.1;
        // HAProxy ends with FIN what the dead one's kernel has reset: under TLS that is no end, and in clear text the reply is
        // missing.
        let (rest, end) = download.read_to_end();
        assert_eq!(rest, b"");
        assert_ne!(end, End::CloseNotify, "half a file doesn't look whole");
        for mut wire in wires {
            let (content, end) = wire.read_to_end();
            assert_eq!(content, b"");
            assert_ne!(end, End::CloseNotify);
        }
        for session in [idle, told, waiting, uploading, downloading] {
            let (said, _) = session.control.end();
            assert_eq!(said, b"", "the dead say nothing");
        }
        let upload = fleet
            .backend
            .wait_for_upload_by(&format!("STOR upload-{}", self.instance));
        assert_eq!(upload.end, End::Reset, "nor does half an upload");
    }
}

/// What is in clear text resumes nothing.
fn with_clear_text(yaml: &str) -> String {
    let yaml = yaml.replace("session_reuse: require", "session_reuse: prefer");
    yaml.replace("data_required: true", "data_required: false")
}

#[test]
fn when_one_is_killed_only_its_own_sessions_fail_and_none_of_them_looks_complete() {
    for data in [Data::Private, Data::Clear] {
        let gate = Gate::new();
        let held = [
            reply("150 here it comes"),
            Step::OpenData,
            Step::Send(HALVES[0].to_vec()),
            Step::Wait(gate.clone()),
            Step::Send(HALVES[1].to_vec()),
            Step::EndData(End::Fin),
            reply("226 done"),
        ];
        let script = Script::new().file(FILE.0, FILE.1).on("RETR held", held);
        let fleet = Fleet::start(script, |yaml| match data {
            Data::Private => yaml,
            Data::Clear => with_clear_text(&yaml),
        });
        let mut all: Vec<Clients> = (0..INSTANCES)
            .map(|instance| Clients::at(&fleet, instance, data))
            .collect();
        let lost = all.remove(VICTIM);
        let mut killed = fleet.take(VICTIM);
        killed.signal(Signal::Kill);
        assert_eq!(killed.wait_exit(), None);
        // HAProxy has yet to notice, and whoever comes to the dead one is taken to another.
        thread::scope(|scope| {
            for number in 0..12 {
                let fleet = &fleet;
                scope.spawn(move || {
                    let session = Session::start(fleet, address(100 + number), "bob");
                    assert_ne!(session.instance(fleet), VICTIM);
                });
            }
        });
        gate.open();
        lost.lose(&fleet);
        for clients in all {
            clients.finish(&fleet, data);
        }
        fleet.wait_for(VICTIM, "DOWN");
        fleet.start_again(VICTIM);
        Session::start_at(&fleet, VICTIM, address(1), "alice").quit();
    }
}

/// HAProxy makes a FIN of a client's reset that comes right behind its data.
#[test]
fn an_upload_that_its_client_resets_is_complete_for_nobody_and_none_goes_in_clear_text() {
    let fleet = Fleet::start(Script::new(), |yaml| yaml);
    let mut session = Session::start(&fleet, address(1), "alice");
    let at = session.control.epsv();
    let mut upload = session.connect(at);
    session.begin("STOR stored", &mut upload);
    upload.write_all(HALVES[0]).expect("the proxy reads");
    upload.reset();
    session.control.expect(426);
    assert_eq!(fleet.backend.wait_for_upload(1).end, End::Reset);

    session.control.command("PROT C", 534);
}
