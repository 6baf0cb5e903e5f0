//! What holds whatever anybody says, in any order that the driver could deliver.

use proptest::prelude::*;

use super::*;

/// One thing to happen; what the driver could not deliver at that moment is left out.
#[derive(Debug, Clone)]
enum Happening {
    Command(&'static str),
    BadLine(BadLine),
    Reply(&'static str),
    Data(DataEvent),
    /// The answer to Dial, PrepareData or StartTls, good or bad.
    Answer(bool),
    /// The guard's answer to Dial or Penalise.
    Blocked,
    Expired,
    Drain,
    DrainOver,
    ClientGone,
    BackendGone,
}

const COMMANDS: &[&str] = &[
    "USER al",
    "USER b.lab|al",
    "USER x.lab|al",
    "PASS p",
    "AUTH TLS",
    "PBSZ 0",
    "PROT P",
    "PROT C",
    "HOST b.lab",
    "OPTS UTF8 ON",
    "CLNT x",
    "TYPE I",
    "FEAT",
    "EPSV",
    "EPSV",
    "PASV",
    "EPSV ALL",
    "PORT 192,0,2,7,8,0",
    "PORT 1,2,3,4,5,6",
    "RETR x",
    "RETR x",
    "STOR x",
    "STOR x",
    "LIST",
    "ABOR",
    "ABOR",
    "NOOP",
    "STAT",
    "QUIT",
    "PWD",
    "REIN",
];
const REPLIES: &[&str] = &[
    "150 x",
    "150 x",
    "200 x",
    "200 x",
    "211 x",
    "213 x",
    "225 x",
    "226 x",
    "226 x",
    "227 x (1,2,3,4,8,0)",
    "229 x (|||2000|)",
    "229 x (|||2000|)",
    "230 x",
    "230 x",
    "331 x",
    "350 x",
    "421 x",
    "425 x",
    "426 x",
    "500 x",
    "502 x",
    "530 x",
    "550 x",
];
const DATA: &[DataEvent] = &[
    DataEvent::BackendOpen,
    DataEvent::BackendOpen,
    DataEvent::SourceEnded { proven: true },
    DataEvent::SourceEnded { proven: false },
    DataEvent::Finished,
    DataEvent::Finished,
    DataEvent::Failed(DataFailure::ClientLost),
    DataEvent::Failed(DataFailure::BackendLost),
];

fn happening() -> impl Strategy<Value = Happening> {
    use proptest::sample::select;
    prop_oneof![
        30 => select(COMMANDS).prop_map(Happening::Command),
        2 => select(&[BadLine::TooLong, BadLine::Malformed(BadCommand::Http), BadLine::Malformed(BadCommand::Empty)][..])
            .prop_map(Happening::BadLine),
        30 => select(REPLIES).prop_map(Happening::Reply),
        25 => select(DATA).prop_map(Happening::Data),
        15 => prop::bool::weighted(0.9).prop_map(Happening::Answer),
        2 => Just(Happening::Blocked),
        2 => Just(Happening::Expired),
        1 => Just(Happening::Drain),
        1 => Just(Happening::DrainOver),
        1 => Just(Happening::ClientGone),
        1 => Just(Happening::BackendGone),
    ]
}

/// The driver's side of things, as far as it can be seen from the machine's actions.
struct World {
    machine: Machine,
    owes: Owed,
    penalised: bool,
    tls: bool,
    backend: bool,
    logged_in: bool,
    closed: bool,
    data: DataSide,
    upload: bool,
    backend_done: bool,
    abor_sent: bool,
    begun: bool,
    proceeded: bool,
    finished: bool,
    client_gone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Owed {
    Nothing,
    Tls,
    Dial,
    Port(ClientData),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum DataSide {
    None,
    Opening,
    Flowing,
    SourceEnded,
    Over,
}

impl World {
    fn new(machine: Machine, tls: bool) -> Self {
        let mut world = Self {
            machine,
            owes: Owed::Nothing,
            penalised: false,
            tls,
            backend: false,
            logged_in: false,
            closed: false,
            data: DataSide::None,
            upload: false,
            backend_done: false,
            abor_sent: false,
            begun: false,
            proceeded: false,
            finished: false,
            client_gone: false,
        };
        world.machine.take_actions();
        world
    }

    /// The event that the driver would deliver now, if any.
    fn event(&mut self, happening: &Happening) -> Option<Event> {
        // The driver does these before it looks at anything else.
        let busy = self.owes != Owed::Nothing;
        let penalised = std::mem::replace(&mut self.penalised, false);
        Some(match happening {
            Happening::Blocked if penalised => Event::Blocked,
            Happening::Blocked if self.owes == Owed::Dial => {
                self.owes = Owed::Nothing;
                Event::Blocked
            }
            Happening::Answer(good) => match std::mem::replace(&mut self.owes, Owed::Nothing) {
                Owed::Nothing => return None,
                Owed::Tls => {
                    self.tls = true;
                    Event::Secured { sni: None }
                }
                Owed::Dial => {
                    self.backend = *good;
                    Event::Dialled(good.then_some(Dialled {
                        ipv6: false,
                        welcome: None,
                    }))
                }
                Owed::Port(ClientData::Passive) if *good => {
                    Event::Prepared(Prepared::Passive(5000))
                }
                Owed::Port(ClientData::Active(_)) if *good => Event::Prepared(Prepared::Active),
                Owed::Port(_) => Event::Prepared(Prepared::NoPort),
            },
            _ if busy => return None,
            Happening::Command(line) if self.machine.wants_command() && !self.client_gone => {
                Event::Command(command(line))
            }
            Happening::BadLine(bad) if self.machine.wants_command() && !self.client_gone => {
                Event::BadLine(*bad)
            }
            Happening::Reply(text) if self.backend => {
                let reply = reply(text);
                Event::Reply(reply)
            }
            Happening::BackendGone if self.backend => {
                self.backend = false;
                Event::BackendGone
            }
            Happening::Data(event) => {
                self.data = match (event, self.data) {
                    (DataEvent::BackendOpen, DataSide::Opening) => DataSide::Flowing,
                    (DataEvent::SourceEnded { .. }, DataSide::Flowing) => DataSide::SourceEnded,
                    (DataEvent::Finished, DataSide::SourceEnded) if self.proceeded => {
                        self.finished = true;
                        DataSide::Over
                    }
                    (
                        DataEvent::Failed(_),
                        DataSide::Opening | DataSide::Flowing | DataSide::SourceEnded,
                    ) => DataSide::Over,
                    _ => return None,
                };
                Event::Data(*event)
            }
            Happening::Expired => Event::Expired,
            Happening::Drain => Event::Drain,
            Happening::ClientGone if !self.client_gone => {
                self.client_gone = true;
                Event::ClientGone
            }
            _ => return None,
        })
    }

    fn step(&mut self, happening: &Happening) -> Result<(), TestCaseError> {
        if matches!(happening, Happening::DrainOver) {
            self.machine.drain_is_over();
        } else {
            let Some(event) = self.event(happening) else {
                return Ok(());
            };
            if let Event::Reply(reply) = &event {
                self.backend_done |= self.begun && !reply_goes_on(reply);
            }
            self.backend_done |= matches!(event, Event::BackendGone);
            self.machine.handle(event);
        }
        for action in self.machine.take_actions() {
            prop_assert!(!self.closed, "{action:?} after Close");
            self.see(action)?;
        }
        prop_assert!(
            self.machine.wait() != Wait::Data || matches!(self.machine.state, State::LoggedIn(_))
        );
        prop_assert!(
            self.machine.wait() != Wait::Data || self.data != DataSide::None,
            "waits for data connections that are not there"
        );
        prop_assert!(!self.closed || !self.machine.wants_command());
        Ok(())
    }

    fn see(&mut self, action: Action) -> Result<(), TestCaseError> {
        match action {
            Action::StartTls => self.owes = Owed::Tls,
            Action::Dial(route) => {
                prop_assert!(self.tls, "dials for a login in clear text");
                prop_assert!(["a", "b", "c"].contains(&route.site.name.as_str()));
                self.owes = Owed::Dial;
                self.backend = false;
            }
            Action::Penalise(_) => self.penalised = true,
            Action::HangUp => self.backend = false,
            Action::Send(line) => {
                let verb = line
                    .split(|byte| b" \r".contains(byte))
                    .next()
                    .unwrap_or_default();
                let login: &[&[u8]] = &[
                    b"USER", b"PASS", b"ACCT", b"OPTS", b"CLNT", b"LANG", b"TYPE",
                ];
                prop_assert!(
                    self.logged_in || login.contains(&verb),
                    "{line:?} before login"
                );
                prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
                self.abor_sent |= verb == b"ABOR";
            }
            Action::PrepareData { client, .. } => self.owes = Owed::Port(client),
            Action::OpenData { direction, .. } => {
                prop_assert_eq!(self.data, DataSide::None);
                self.data = DataSide::Opening;
                self.upload = direction == Direction::Upload;
                self.begun = false;
                self.backend_done = false;
                self.abor_sent = false;
                self.proceeded = false;
                self.finished = false;
            }
            Action::BeginData => self.begun = true,
            Action::ProceedData => {
                prop_assert_eq!(self.data, DataSide::SourceEnded);
                prop_assert!(
                    self.upload || self.backend_done,
                    "the client's end before the backend's 2xx"
                );
                self.proceeded = true;
            }
            Action::DropData => {
                let running = self.begun && self.data != DataSide::None;
                prop_assert!(
                    !running || self.backend_done || self.abor_sent,
                    "reset without ABOR"
                );
                self.data = DataSide::None;
            }
            Action::Record(Record::Login(LoginResult::Accepted)) => self.logged_in = true,
            Action::Record(Record::Transfer { verdict, .. }) => {
                if verdict == Verdict::Complete {
                    prop_assert!(self.proceeded && self.finished && self.backend_done);
                }
                self.data = DataSide::None;
            }
            Action::Close(_) => self.closed = true,
            Action::Reply(_) | Action::Record(_) => {}
        }
        Ok(())
    }
}

/// Whether more is to come for a transfer after this reply: a 1yz, or the answer to a STAT.
fn reply_goes_on(reply: &Reply) -> bool {
    reply.class() == crate::ftp::reply::Class::Preliminary || matches!(reply.number(), 211..=213)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_order_of_events_breaks_a_promise(
        implicit in any::<bool>(),
        happenings in proptest::collection::vec(happening(), 0..120),
    ) {
        let machine = if implicit {
            Machine::implicit(terms(), None)
        } else {
            Machine::explicit(terms())
        };
        let mut world = World::new(machine, implicit);
        for happening in &happenings {
            world.step(happening)?;
        }
    }

    /// From a running transfer, where most that can go wrong goes wrong.
    #[test]
    fn a_transfer_is_complete_only_with_all_three_signs(
        upload in any::<bool>(),
        happenings in proptest::collection::vec(happening(), 0..40),
    ) {
        let mut world = World::new(Machine::implicit(terms(), None), true);
        for first in [
            Happening::Command("USER al"), Happening::Answer(true), Happening::Reply("230 x"),
            Happening::Command("EPSV"), Happening::Reply("229 x (|||2000|)"), Happening::Answer(true),
            Happening::Command(if upload { "STOR x" } else { "RETR x" }),
            Happening::Data(DataEvent::BackendOpen),
        ] {
            world.step(&first)?;
        }
        prop_assert!(world.begun);
        for happening in &happenings {
            world.step(happening)?;
        }
    }

    /// Each command that the client sends gets one final reply, a transfer that is aborted included.
    #[test]
    fn the_client_never_hears_more_final_replies_than_it_sent_commands(
        happenings in proptest::collection::vec(happening(), 0..120),
    ) {
        let mut session = Session::logged_in();
        let mut world = World::new(std::mem::replace(&mut session.machine, Machine::explicit(terms())), true);
        (world.backend, world.logged_in) = (true, true);
        let mut owed = 0i64;
        for happening in &happenings {
            if matches!(happening, Happening::DrainOver) {
                continue;
            }
            let Some(event) = world.event(happening) else { continue };
            owed += i64::from(matches!(event, Event::Command(_) | Event::BadLine(BadLine::TooLong)));
            world.machine.handle(event);
            for action in world.machine.take_actions() {
                if let Action::Reply(bytes) = &action {
                    let unasked = bytes.starts_with(b"421");
                    owed -= i64::from(!bytes.starts_with(b"1") && !unasked);
                    prop_assert!(owed >= 0, "{bytes:?} answers nothing");
                }
                let _ = world.see(action);
            }
        }
    }
}
