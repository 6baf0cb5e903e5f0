//! A client that is there all the time, in one phase or another.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};

use testkit::wire::{End, Wire};

use super::super::client::{Arriving, Session, address};
use super::{HALVES, Play, held};

/// How many clients have one address.
const CLIENTS_PER_ADDRESS: usize = 4;

/// What a client is doing when an instance is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Idle,
    ToldPort,
    Connected,
    Transfer,
    Handshake,
}

impl Phase {
    pub const ALL: [Self; 5] = [
        Self::Idle,
        Self::ToldPort,
        Self::Connected,
        Self::Transfer,
        Self::Handshake,
    ];
}

pub struct Client {
    number: usize,
    state: State,
}

enum State {
    Away,
    Handshake(Arriving),
    There(Session, usize, Doing),
}

/// What is under way in a session.
enum Doing {
    Nothing,
    ToldPort(SocketAddr),
    Connected(Wire),
    Uploading(Wire, String),
    Downloading(Wire),
}

impl Client {
    pub fn new(number: usize) -> Self {
        Self {
            number,
            state: State::Away,
        }
    }

    /// The phase in which the client meets this restart: another one each time, for whichever instance.
    pub fn phase_of(&self, restart: usize) -> Phase {
        Phase::ALL[(self.number + restart) % Phase::ALL.len()]
    }

    /// Whether it goes on by itself while its instance is a lame duck: half of each phase.
    pub fn is_eager(&self) -> bool {
        (self.number / Phase::ALL.len()).is_multiple_of(2)
    }

    pub fn is_in(&self, phase: Phase) -> bool {
        phase
            == match &self.state {
                State::Away => return false,
                State::Handshake(_) => Phase::Handshake,
                State::There(_, _, doing) => match doing {
                    Doing::Nothing => Phase::Idle,
                    Doing::ToldPort(_) => Phase::ToldPort,
                    Doing::Connected(_) => Phase::Connected,
                    Doing::Uploading(..) | Doing::Downloading(_) => Phase::Transfer,
                },
            }
    }

    /// Whether its session is at this instance.
    pub fn is_at(&self, instance: usize) -> bool {
        matches!(self.state, State::There(_, at, _) if at == instance)
    }

    pub fn is_there(&self) -> bool {
        matches!(self.state, State::There(..))
    }

    /// Logs in, with a handshake that is to come or a new connection. That has to succeed, and a transfer as well.
    pub fn arrive(&mut self, play: &Play) {
        let arriving = match std::mem::replace(&mut self.state, State::Away) {
            State::Handshake(arriving) => arriving,
            State::Away => Arriving::connect(&play.fleet, self.address()),
            State::There(..) => panic!("client {} is there", self.number),
        };
        let mut session = arriving.log_in(&format!("user{}", self.number));
        let instance = session.download(&play.fleet);
        play.is_complete(instance);
        self.state = State::There(session, instance, Doing::Nothing);
    }

    /// From idle to this phase, where it stays.
    pub fn enter(&mut self, phase: Phase, play: &Play, restart: usize) {
        let (mut session, instance) = self.session();
        let told = |session: &mut Session| {
            let at = session.control.epsv();
            assert_eq!(play.fleet.owner(at), instance);
            at
        };
        let connected = |session: &mut Session| {
            let at = told(session);
            session.connect(at)
        };
        let doing = match phase {
            Phase::Handshake => {
                session.quit();
                let arriving = Arriving::connect(&play.fleet, self.address());
                self.state = State::Handshake(arriving);
                return;
            }
            Phase::Idle => Doing::Nothing,
            Phase::ToldPort => Doing::ToldPort(told(&mut session)),
            Phase::Connected => Doing::Connected(connected(&mut session)),
            Phase::Transfer => {
                let mut data = connected(&mut session);
                if self.number.is_multiple_of(2) {
                    let name = format!("of-{}-{restart}", self.number);
                    session.begin(&format!("STOR {name}"), &mut data);
                    data.write_all(HALVES[0]).expect("the proxy reads");
                    Doing::Uploading(data, name)
                } else {
                    session.begin(&format!("RETR {}", held(restart)), &mut data);
                    let mut first = vec![0; HALVES[0].len()];
                    data.read_exact(&mut first).expect("the first half");
                    assert!(first == HALVES[0]);
                    Doing::Downloading(data)
                }
            }
        };
        self.state = State::There(session, instance, doing);
    }

    /// On to idle: all that it has begun has to succeed.
    pub fn go_on(&mut self, play: &Play) {
        if self.is_in(Phase::Handshake) {
            return self.arrive(play);
        }
        let State::There(mut session, instance, doing) =
            std::mem::replace(&mut self.state, State::Away)
        else {
            panic!("client {} is away", self.number)
        };
        let transfers = !matches!(doing, Doing::Nothing);
        match doing {
            Doing::Nothing => drop(session.control.command("NOOP", 200)),
            Doing::ToldPort(at) => session.download_by(session.connect(at)),
            Doing::Connected(data) => session.download_by(data),
            Doing::Uploading(data, name) => {
                session.finish_upload(data, HALVES[1]);
                assert!(play.fleet.backend.file(&name) == Some(HALVES.concat()));
            }
            Doing::Downloading(data) => assert!(session.finish_download(data) == HALVES[1]),
        }
        if transfers {
            play.is_complete(instance);
        }
        self.state = State::There(session, instance, Doing::Nothing);
    }

    /// Its instance drains, and it is in no transfer: it has to be told, and gets no byte of a file.
    pub fn is_sent_away(&mut self) {
        let State::There(mut session, _, doing) = std::mem::replace(&mut self.state, State::Away)
        else {
            panic!("client {} is away", self.number)
        };
        let text = session.control.expect(421);
        assert!(text.contains("shutting down"), "{text}");
        assert_eq!(session.control.end().0, b"");
        if let Doing::Connected(mut data) = doing {
            let (content, end) = data.read_to_end();
            assert_eq!(content, b"");
            // A reset of Portcullis, which HAProxy makes a FIN; there is no TLS on it yet.
            assert!(matches!(end, End::Fin | End::Reset));
        }
    }

    fn session(&mut self) -> (Session, usize) {
        match std::mem::replace(&mut self.state, State::Away) {
            State::There(session, instance, Doing::Nothing) => (session, instance),
            _ => panic!("client {} isn't idle", self.number),
        }
    }

    fn address(&self) -> IpAddr {
        address(self.number / CLIENTS_PER_ADDRESS)
    }
}
