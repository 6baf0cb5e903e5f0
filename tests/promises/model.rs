//! The world around a session, as its driver sees it, and what has to hold in it whatever anybody does.
//!
//! It knows of the machine only what the driver knows: the events that it may deliver at a moment, and the actions that
//! come out. [`World::step`] panics where a promise is broken. The property tests beside it and the fuzz target
//! `session` share it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use portcullis::config::{HostName, HostPattern, SessionReuse, Site, UserForms};
use portcullis::ftp::answer;
use portcullis::ftp::command::{BadCommand, Command, Direction, Verb};
use portcullis::ftp::line::Line;
use portcullis::ftp::reply::{Class, Reply, ReplyParser};
use portcullis::observe::metrics::{LoginResult, Verdict};
use portcullis::route::Router;
use portcullis::session::state::{
    Action, BadLine, ClientData, DataEvent, Dialled, Event, Machine, Prepared, Protection, Record,
    Terms, Wait,
};

use crate::script::{Happening, Listener};

/// More commands than this wait for an answer only if something grows without bound: the transfer's own, ABOR, what is
/// queued behind them, and STATs.
const MOST_OWED: usize = 100;

/// More than this comes of one event only if something grows without bound.
const MOST_ACTIONS: usize = 120;

/// A session with everything around it.
pub struct World {
    machine: Machine,
    terms: Terms,
    closed: bool,
    owes: Owed,
    /// A login has just failed, and the guard may say that it was one too many.
    penalised: bool,

    client_gone: bool,
    tls: bool,
    private: bool,
    /// The argument of the last AUTH.
    auth: Vec<u8>,
    /// The lines that the client said since TLS began, or since the session did.
    heard: HashSet<Vec<u8>>,
    /// How many of them have no final reply yet.
    unanswered: usize,

    backend: Option<ReplyParser>,
    login: Login,
    port: bool,
    data: Data,
    transfer: Option<Transfer>,
    /// A transfer ended in the current batch of actions, and nobody has told the client how.
    untold: bool,
}

/// What the machine has asked for and the driver is about to answer, before anything else happens.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Owed {
    Nothing,
    Tls,
    Dial,
    Port(ClientData),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Login {
    Out,
    /// USER is with the backend again, and a refusal leaves the former login as it was.
    Again,
    In,
}

/// The data connections.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Data {
    None,
    Opening,
    Flowing,
    SourceEnded {
        proven: bool,
    },
    /// The sink's leg is being ended.
    Ending,
    Finished,
    Failed,
}

/// A transfer, from [`Action::OpenData`] to its record.
#[derive(Debug, Default)]
struct Transfer {
    upload: bool,
    private: bool,
    /// The backend has its command.
    begun: bool,
    /// The client has heard a 1yz.
    announced: bool,
    /// The backend has nothing more to say about it, or is gone.
    backend_is_done: bool,
    backend_completed: bool,
    abor_sent: bool,
    /// What the client said meanwhile, and has not been answered.
    aborts: usize,
    noops: usize,
    /// How many STATs the backend was sent meanwhile, and has not answered.
    stats: usize,
    /// What the client was told about it.
    told: Option<Told>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Told {
    Complete,
    Failed,
}

impl World {
    pub fn new(listener: Listener) -> Self {
        let terms = terms(listener);
        let (machine, tls) = match listener {
            Listener::Explicit | Listener::ClearAllowed | Listener::DataRequired => {
                (Machine::explicit(terms.clone()), false)
            }
            Listener::Implicit | Listener::Ipv6 => (Machine::implicit(terms.clone(), None), true),
        };
        let mut world = Self {
            machine,
            terms,
            closed: false,
            owes: Owed::Nothing,
            penalised: false,
            client_gone: false,
            tls,
            private: tls,
            auth: Vec::new(),
            heard: HashSet::new(),
            unanswered: 0,
            backend: None,
            login: Login::Out,
            port: false,
            data: Data::None,
            transfer: None,
            untold: false,
        };
        let greeting = world.machine.take_actions();
        let expected = Action::Reply(answer::SERVICE_READY.bytes().into());
        assert_eq!(greeting, [expected]);
        world
    }

    /// Whether the client is logged in.
    pub fn is_logged_in(&self) -> bool {
        self.login == Login::In
    }

    /// Whether a transfer's command is with the backend.
    pub fn is_transferring(&self) -> bool {
        self.transfer
            .as_ref()
            .is_some_and(|transfer| transfer.begun)
    }

    /// Lets it happen, unless the driver could not deliver it at this moment.
    ///
    /// # Panics
    /// If what the machine makes of it breaks a promise.
    pub fn step(&mut self, happening: &Happening) {
        let Some(event) = self.event(happening) else {
            return;
        };
        self.note(&event);
        self.machine.handle(event);
        let actions = self.machine.take_actions();
        assert!(actions.len() <= MOST_ACTIONS, "{} actions", actions.len());
        for action in actions {
            assert!(!self.closed, "{action:?} after Close");
            self.see(action, happening);
        }
        self.settle();
    }

    /// What the driver would make of it now.
    fn event(&mut self, happening: &Happening) -> Option<Event> {
        let busy = self.owes != Owed::Nothing;
        let penalised = std::mem::take(&mut self.penalised);
        Some(match happening {
            Happening::Blocked if penalised => Event::Blocked,
            Happening::Blocked if self.owes == Owed::Dial => {
                self.owes = Owed::Nothing;
                Event::Blocked
            }
            Happening::SiteFull if self.owes == Owed::Dial => {
                self.owes = Owed::Nothing;
                Event::SiteFull
            }
            Happening::Answer(good) => return self.answer(*good),
            Happening::Welcome if self.owes == Owed::Dial => {
                self.owes = Owed::Nothing;
                self.dialled(Some(whole_reply(&Bytes::from("230 Welcome\r\n"))))
            }
            // Sending fails while the driver does what it was told.
            Happening::ClientGone if !self.client_gone => {
                self.client_gone = true;
                Event::ClientGone
            }
            Happening::DrainOver => Event::DrainOver,
            _ if busy => return None,
            Happening::Client(line) if self.hears_client() => {
                match Command::parse(Bytes::copy_from_slice(line)) {
                    Ok(command) => Event::Command(command),
                    Err(bad) => Event::BadLine(BadLine::Malformed(bad)),
                }
            }
            Happening::ClientTooLong if self.hears_client() => Event::BadLine(BadLine::TooLong),
            // In our own words about PROT: nobody could tell whose they are.
            Happening::Backend(line) if is_about_prot(&[line, &b"\r\n"[..]].concat()) => {
                return None;
            }
            Happening::Backend(line) => {
                let line = Line::Whole(Bytes::copy_from_slice(line));
                match self.backend.as_mut()?.push(line) {
                    Ok(reply) => Event::Reply(reply?),
                    Err(_) => return self.lose_backend(),
                }
            }
            Happening::BackendGone => return self.lose_backend(),
            Happening::Data(event) => {
                self.data = data_after(self.data, *event)?;
                Event::Data(*event)
            }
            Happening::Expired => Event::Expired,
            Happening::Drain => Event::Drain,
            Happening::Client(_)
            | Happening::ClientTooLong
            | Happening::ClientGone
            | Happening::Welcome
            | Happening::Blocked
            | Happening::SiteFull => return None,
        })
    }

    fn answer(&mut self, good: bool) -> Option<Event> {
        Some(match std::mem::replace(&mut self.owes, Owed::Nothing) {
            Owed::Nothing => return None,
            Owed::Tls if good => {
                self.tls = true;
                Event::Secured { sni: None }
            }
            // The driver ends the session then.
            Owed::Tls => {
                self.client_gone = true;
                Event::ClientGone
            }
            Owed::Dial if good => self.dialled(None),
            Owed::Dial => Event::Dialled(None),
            Owed::Port(client) => {
                self.port = good;
                Event::Prepared(match client {
                    _ if !good => Prepared::NoPort,
                    ClientData::Passive => Prepared::Passive(5000),
                    ClientData::Active(_) => Prepared::Active,
                })
            }
        })
    }

    fn dialled(&mut self, welcome: Option<Reply>) -> Event {
        self.backend = Some(ReplyParser::default());
        Event::Dialled(Some(Dialled {
            ipv6: self.terms.local.is_ipv6(),
            welcome,
        }))
    }

    fn hears_client(&self) -> bool {
        self.machine.wants_command() && !self.client_gone
    }

    fn lose_backend(&mut self) -> Option<Event> {
        self.backend.take().map(|_| Event::BackendGone)
    }

    /// Remembers what the client and the backend said.
    fn note(&mut self, event: &Event) {
        match event {
            Event::Command(command) => {
                self.unanswered += 1;
                self.heard.insert(command.line().to_vec());
                if command.verb() == Verb::Auth {
                    self.auth = command.argument().trim_ascii().to_ascii_uppercase();
                }
                if let Some(transfer) = &mut self.transfer {
                    match command.verb() {
                        Verb::Abor => transfer.aborts += 1,
                        Verb::Noop => transfer.noops += 1,
                        _ => {}
                    }
                }
            }
            // RFC 959 knows no empty line, and a browser is hung up on.
            Event::BadLine(BadLine::Malformed(BadCommand::Empty | BadCommand::Http)) => {}
            Event::BadLine(_) => self.unanswered += 1,
            Event::Reply(reply) => self.note_reply(reply),
            Event::BackendGone => {
                if let Some(transfer) = &mut self.transfer {
                    transfer.backend_is_done = true;
                }
            }
            _ => {}
        }
        assert!(self.unanswered <= MOST_OWED, "commands pile up");
    }

    fn note_reply(&mut self, reply: &Reply) {
        if reply.class() == Class::Preliminary {
            return;
        }
        if self.login == Login::Again {
            self.login = match reply.class().is_failure() {
                true => Login::In,
                false => Login::Out,
            };
        }
        let Some(transfer) = &mut self.transfer else {
            return;
        };
        // 211 to 213 answer a STAT, and some servers say 200 before their 150.
        let of_transfer = match reply.number() {
            200 => transfer.announced || self.data != Data::Flowing,
            number => !matches!(number, 211..=213),
        };
        if transfer.begun && of_transfer {
            transfer.backend_is_done = true;
            transfer.backend_completed |= reply.class() == Class::Completion;
        }
    }

    fn see(&mut self, action: Action, happening: &Happening) {
        match action {
            Action::Reply(bytes) => self.see_reply(&bytes),
            Action::StartTls => {
                assert!(!self.tls, "TLS within TLS");
                // With 234, which the driver sends.
                self.count_final_reply(b"234");
                self.private = matches!(&self.auth[..], b"SSL" | b"TLS-P");
                // RFC 4217 §4: what was said in clear text may have been said by anybody.
                self.heard.clear();
                self.owes = Owed::Tls;
            }
            Action::Dial(route) => {
                assert!(self.may_log_in(), "dials for a login in clear text");
                assert!(["a", "b", "c"].contains(&route.site.name.as_str()));
                self.backend = None;
                self.login = Login::Out;
                self.owes = Owed::Dial;
            }
            Action::Penalise(_) => self.penalised = true,
            Action::HangUp => {
                self.backend = None;
                self.login = Login::Out;
            }
            Action::Send(line) => self.see_sent(&line),
            Action::PrepareData {
                backend_port,
                client,
                protection,
            } => {
                assert!(self.is_logged_in() && self.transfer.is_none());
                assert_eq!(protection == Protection::Private, self.private);
                assert!(backend_port >= 1024);
                if let ClientData::Active(to) = client {
                    assert_eq!(to.ip(), self.terms.client, "bounced");
                    assert!(to.port() >= 1024);
                }
                self.owes = Owed::Port(client);
            }
            Action::OpenData {
                direction,
                protection,
            } => {
                assert!(self.port && self.is_logged_in());
                assert!(self.transfer.is_none() && self.data == Data::None);
                assert_eq!(protection == Protection::Private, self.private);
                assert!(self.private || !self.terms.data_required, "in clear text");
                self.port = false;
                self.data = Data::Opening;
                self.transfer = Some(Transfer {
                    upload: direction == Direction::Upload,
                    private: protection == Protection::Private,
                    ..Transfer::default()
                });
            }
            Action::BeginData => {
                self.running().begun = true;
            }
            Action::ExpectData => assert!(self.running().begun),
            Action::ProceedData => self.see_proceed(happening),
            Action::DropData => {
                let running = self.transfer.as_ref().filter(|transfer| transfer.begun);
                assert!(
                    self.data == Data::None
                        || running.is_none_or(|it| it.backend_is_done || it.abor_sent),
                    "a reset that the backend may take for the end of the file"
                );
                self.data = Data::None;
                self.port = false;
            }
            Action::Record(Record::Login(LoginResult::Accepted)) => {
                assert!(self.may_log_in());
                self.login = Login::In;
            }
            Action::Record(Record::Login(_) | Record::BackendLost(..) | Record::NoDataPort(_)) => {}
            Action::Record(Record::Transfer { verdict, .. }) => {
                let told = self.running().told;
                assert_eq!(verdict == Verdict::Complete, told == Some(Told::Complete));
                self.untold = told.is_none();
                self.transfer = None;
                self.data = Data::None;
            }
            Action::Close(_) => {
                assert!(self.transfer.is_none(), "a transfer without a verdict");
                self.closed = true;
            }
        }
    }

    /// The client hears something: whole replies, no more final ones than it sent commands, and no 2yz about a transfer
    /// that has not earned it.
    fn see_reply(&mut self, bytes: &Bytes) {
        let reply = whole_reply(bytes);
        if reply.class() == Class::Preliminary {
            assert!(self.unanswered > 0, "{bytes:?} answers nothing");
            if let Some(transfer) = &mut self.transfer {
                transfer.announced = true;
            }
            return;
        }
        // 421 may come unasked (RFC 959 §5.4).
        if reply.number() != 421 {
            self.count_final_reply(bytes);
        }
        if is_about_prot(bytes) {
            self.private = *bytes == answer::PROT_PRIVATE.bytes();
        }
        let data = self.data;
        let Some(transfer) = &mut self.transfer else {
            return;
        };
        match reply.class() {
            Class::Completion if *bytes == answer::NOOP_OK.bytes() && transfer.noops > 0 => {
                transfer.noops -= 1;
            }
            Class::Completion if matches!(reply.number(), 211..=213) && transfer.stats > 0 => {
                transfer.stats -= 1;
            }
            Class::Completion if transfer.told == Some(Told::Failed) && transfer.aborts > 0 => {
                transfer.aborts -= 1;
            }
            Class::Completion => {
                assert_eq!(transfer.told, None, "{bytes:?} after the transfer's reply");
                assert!(transfer.begun && transfer.backend_completed, "{bytes:?}");
                assert_eq!(data, Data::Finished, "{bytes:?} for half a file");
                transfer.told = Some(Told::Complete);
            }
            Class::Intermediate | Class::Preliminary => panic!("{bytes:?} to a transfer"),
            Class::TransientFailure | Class::PermanentFailure => {
                // "Not here": to a STAT, but before the 1yz it may be the transfer's refusal.
                let of_stat = transfer.announced && matches!(reply.number(), 500..=504);
                if of_stat && transfer.stats > 0 {
                    transfer.stats -= 1;
                } else {
                    assert_ne!(transfer.told, Some(Told::Complete), "{bytes:?}");
                    transfer.told = Some(Told::Failed);
                }
            }
        }
    }

    fn count_final_reply(&mut self, bytes: &[u8]) {
        assert!(
            self.unanswered > 0,
            "{:?} answers nothing",
            bytes.escape_ascii()
        );
        self.unanswered -= 1;
    }

    /// The backend is told something: one line, the client's own or one of ours, and before the login nothing but what
    /// leads there.
    fn see_sent(&mut self, bytes: &Bytes) {
        assert!(self.may_log_in(), "{bytes:?} was said in clear text");
        let line = bytes.strip_suffix(b"\r\n").expect("a line");
        assert!(!line.iter().any(|byte| b"\r\n\0".contains(byte)));
        let command = Command::parse(Bytes::copy_from_slice(line)).expect("a command");
        if self.login != Login::In {
            let leads_to_login = match command.verb() {
                Verb::User | Verb::Pass | Verb::Acct | Verb::Clnt | Verb::Lang => true,
                Verb::Opts => command.argument().to_ascii_uppercase().starts_with(b"UTF"),
                _ => false,
            };
            assert!(leads_to_login, "{bytes:?} before login");
        }
        match command.verb() {
            // The user is what stands behind the host's name, or IIS's word for nobody.
            Verb::User => {
                let user = command.argument();
                let named = |line: &Vec<u8>| {
                    line.to_ascii_uppercase().starts_with(b"USER ") && line.ends_with(user)
                };
                assert!(
                    user == b"anonymous" || self.heard.iter().any(named),
                    "{bytes:?}"
                );
                self.login = match self.login {
                    Login::In => Login::Again,
                    Login::Out | Login::Again => Login::Out,
                };
            }
            Verb::Abor if self.transfer.is_some() => self.running().abor_sent = true,
            _ => {
                let ours = self.is_logged_in() && [&b"EPSV"[..], b"PASV", b"NOOP"].contains(&line);
                assert!(ours || self.heard.contains(line), "{bytes:?} is nobody's");
                if let Some(transfer) = &mut self.transfer {
                    transfer.stats += usize::from(command.verb() == Verb::Stat);
                }
            }
        }
    }

    /// The sink is about to see an end of file in order.
    fn see_proceed(&mut self, happening: &Happening) {
        let Data::SourceEnded { proven } = self.data else {
            panic!("an end of file while data is {:?}", self.data);
        };
        let client_gone = self.client_gone;
        let transfer = self.running();
        if transfer.upload {
            // It is believed after a moment without an ABOR; the bare FIN of a client that is gone, never.
            assert_eq!(*happening, Happening::Expired);
            assert!(proven || !client_gone || transfer.private);
        } else {
            assert!(
                transfer.backend_completed,
                "the end before the backend's 2yz"
            );
        }
        self.data = Data::Ending;
    }

    /// What holds between events.
    fn settle(&mut self) {
        let untold = std::mem::take(&mut self.untold);
        if self.closed {
            assert!(!self.machine.wants_command());
            return;
        }
        assert!(
            !untold,
            "the client waits for its transfer's reply for ever"
        );
        assert_eq!(self.machine.is_transferring(), self.transfer.is_some());
        if self.machine.wants_command() && self.transfer.is_none() {
            assert_eq!(self.unanswered, 0, "a command without a reply");
        }
        if self.machine.wait() == Wait::Data {
            assert!(
                matches!(self.data, Data::Opening | Data::Flowing | Data::Ending),
                "waits for data connections that are {:?}",
                self.data
            );
        }
    }

    fn may_log_in(&self) -> bool {
        self.tls || !self.terms.tls_required
    }

    fn running(&mut self) -> &mut Transfer {
        self.transfer.as_mut().expect("a transfer")
    }
}

fn is_about_prot(reply: &[u8]) -> bool {
    [answer::PROT_PRIVATE, answer::PROT_CLEAR]
        .iter()
        .any(|ours| ours.bytes() == reply)
}

/// What the data connections are after an event, if they can tell of it now.
fn data_after(data: Data, event: DataEvent) -> Option<Data> {
    match (event, data) {
        (DataEvent::BackendOpen, Data::Opening) => Some(Data::Flowing),
        (DataEvent::SourceEnded { proven }, Data::Flowing) => Some(Data::SourceEnded { proven }),
        (DataEvent::Finished, Data::Ending) => Some(Data::Finished),
        (
            DataEvent::Failed(_),
            Data::Opening | Data::Flowing | Data::SourceEnded { .. } | Data::Ending,
        ) => Some(Data::Failed),
        _ => None,
    }
}

/// The reply that these bytes are, all of them.
fn whole_reply(bytes: &Bytes) -> Reply {
    let text = bytes.strip_suffix(b"\r\n").expect("whole lines");
    let mut parser = ReplyParser::default();
    let mut lines = text.split(|byte| *byte == b'\n');
    let reply = lines.find_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = Line::Whole(Bytes::copy_from_slice(line));
        parser.push(line).expect("a reply")
    });
    assert_eq!(lines.next(), None, "more than one reply: {bytes:?}");
    reply.expect("a whole reply")
}

fn terms(listener: Listener) -> Terms {
    let site = |name: &str, default| {
        Arc::new(Site {
            name: name.to_owned(),
            default,
            hosts: vec![HostPattern::parse(&format!("{name}.lab")).expect("a host")],
            backends: Vec::new(),
            user: "{user}".parse().expect("a template"),
            session_reuse: SessionReuse::Prefer,
        })
    };
    let sites = [site("a", true), site("b", false), site("c", false)];
    let (client, local) = match listener {
        Listener::Ipv6 => ("2001:db8::7", "2001:db8::1"),
        Listener::Explicit
        | Listener::ClearAllowed
        | Listener::DataRequired
        | Listener::Implicit => ("192.0.2.7", "192.0.2.1"),
    };
    let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
    Terms {
        router: Arc::new(Router::new(&sites, UserForms::default())),
        tls_required: listener != Listener::ClearAllowed,
        data_required: listener == Listener::DataRequired,
        active_mode: true,
        client: ip(client),
        local: ip(local),
        announcements: Arc::default(),
        own_names: Arc::new([HostName::parse(b"proxy.lab").expect("a host name")]),
    }
}
