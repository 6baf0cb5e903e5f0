//! The world around a session, as its driver sees it, and what has to hold in it whatever anybody does.
//!
//! It knows of the machine only what the driver knows: the events that it may deliver at a moment, and the actions that
//! come out. [`World::step`] panics where a promise is broken; `promises` has them.

mod promises;
pub mod script;

use std::collections::HashSet;
use std::iter;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use portcullis::base::SiteId;
use portcullis::config::{Group, HostPattern, Site, Timeouts, UnknownUsers, UserForms};
use portcullis::ftp::answer;
use portcullis::ftp::command::{BadCommand, Command, Verb};
use portcullis::ftp::line::Line;
use portcullis::ftp::reply::{Class, Reply, ReplyParser};
use portcullis::ftp::server::{BackendProtection, PortMethods};
use portcullis::policy::users::UserPattern;
use portcullis::policy::{
    ClientRules, CommandRules, CredentialFiles, DeniedCommand, Notice, Preset, SitePolicy,
    UserFiles,
};
use portcullis::route::{Route, Router};
use portcullis::session::machine::{
    Action, BadLine, ClientData, DataEvent, Deadline, Dialled, Event, Machine, PreparedPort,
    SessionConfig,
};

use script::{Happening, Listener};

/// More commands than this wait for an answer only if something grows without bound: the transfer's own, ABOR, what is
/// queued behind them, and STATs.
const MOST_OWED: usize = 100;

/// More than this comes of one event only if something grows without bound.
const MOST_ACTIONS: usize = 120;

/// A session with everything around it.
pub struct World {
    machine: Machine,
    config: SessionConfig,
    closed: bool,
    owes: Owed,
    /// A login has just failed, or is to be tried, and the guard may say that it is one too many.
    attempted: bool,

    /// It says no more.
    client_gone: bool,
    /// It hears no more, either.
    client_lost: bool,
    tls: bool,
    private: bool,
    /// The argument of the last AUTH.
    auth: Vec<u8>,
    /// The lines that the client said since TLS began, or since the session did.
    heard: HashSet<Vec<u8>>,
    /// How many of them have no final reply yet.
    unanswered: usize,

    backend: Option<ReplyParser>,
    trial: Trial,
    /// Where the last login led.
    route: Option<Route>,
    login: Login,
    port: bool,
    /// The driver listens for the backend, which is to be told, or to connect.
    listens: bool,
    data: Data,
    transfer: Option<Transfer>,
    restart: Restart,
    range: Restart,
    /// REST or RANG, which the backend has yet to accept or to refuse.
    asked_to_restart: Option<Verb>,
    /// A transfer ended in the current batch of actions, and the backend may still have it to send.
    unsettled: bool,
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
    /// Listening for the backend.
    Listening,
}

/// Whether the login stays with the backend.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trial {
    Over,
    /// It has not answered USER, and there is no other.
    Alone,
    /// Another one could take over, of which the client must not notice anything.
    OneOfSeveral,
    /// The same, and the client has heard something: only the end of the session is that.
    Told,
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
    /// It waits for another port of the backend.
    NotReached,
    /// The backend's is there, and the client's of an upload isn't.
    Halved,
    Flowing,
    SourceEnded {
        proven: bool,
    },
    /// The sink's leg is being ended.
    Ending,
    /// It has our end; a backend in clear text has yet to end it, too.
    Ended,
    Finished,
    Failed,
}

/// What part of the next file the backend would take.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Restart {
    Nowhere,
    /// What the client's REST or RANG said.
    Somewhere,
    /// The same behind a listing: it is for the transfer that follows.
    Held,
    /// The same, though the transfer that was meant has been answered without the backend.
    Stale,
}

/// A transfer, from [`Action::OpenData`] to its record.
#[derive(Debug, Default)]
struct Transfer {
    upload: bool,
    /// The backend has its command.
    begun: bool,
    /// The client has heard a 1yz.
    announced: bool,
    /// The backend has nothing more to say about it, or is gone.
    backend_is_done: bool,
    backend_completed: bool,
    abor_sent: bool,
    /// The driver has been asked whether the backend has accepted its data connection, and has not told.
    acceptance_asked: bool,
    /// The backend has shown that it has accepted its data connection.
    accepted: bool,
    /// What the backend has said behind ABOR tells of the transfer.
    abort_told: bool,
    /// The backend has said 225 behind ABOR.
    nothing_to_abort: bool,
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
    /// A session that begins on this listener.
    pub fn new(listener: Listener) -> Self {
        let config = session_config(listener);
        let (machine, tls) = match listener {
            Listener::Explicit | Listener::ClearAllowed | Listener::DataRequired => {
                (Machine::explicit(config.clone()), false)
            }
            Listener::Implicit | Listener::Ipv6 => {
                (Machine::implicit(config.clone(), None, None), true)
            }
        };
        let mut world = Self {
            machine,
            config,
            closed: false,
            owes: Owed::Nothing,
            attempted: false,
            client_gone: false,
            client_lost: false,
            tls,
            private: tls,
            auth: Vec::new(),
            heard: HashSet::new(),
            unanswered: 0,
            backend: None,
            trial: Trial::Over,
            route: None,
            login: Login::Out,
            port: false,
            listens: false,
            data: Data::None,
            transfer: None,
            restart: Restart::Nowhere,
            range: Restart::Nowhere,
            asked_to_restart: None,
            unsettled: false,
            untold: false,
        };
        let greeting = Action::Reply(answer::greeting("hello").into());
        assert_eq!(world.machine.next_action(), Some(greeting));
        assert_eq!(world.machine.next_action(), None);
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
        let actions: Vec<Action> = iter::from_fn(|| self.machine.next_action()).collect();
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
        let attempted = std::mem::take(&mut self.attempted);
        Some(match happening {
            Happening::Blocked if attempted => Event::Blocked,
            Happening::Blocked if self.owes == Owed::Dial => {
                self.owes = Owed::Nothing;
                Event::Blocked
            }
            // It waited for its turn in vain.
            Happening::Expired if self.owes == Owed::Dial => {
                self.owes = Owed::Nothing;
                Event::Expired
            }
            Happening::SiteFull if self.owes == Owed::Dial => {
                self.owes = Owed::Nothing;
                Event::SiteFull
            }
            Happening::Maintenance if self.owes == Owed::Dial => {
                self.owes = Owed::Nothing;
                Event::Maintenance
            }
            Happening::Answer(good) => return self.answer(*good),
            Happening::Welcome if self.owes == Owed::Dial => {
                self.owes = Owed::Nothing;
                self.dialled(Some(whole_reply(&Bytes::from("230 Welcome\r\n"))), None)
            }
            Happening::OneOfSeveral if self.owes == Owed::Dial => {
                self.owes = Owed::Nothing;
                self.dialled(None, Some(Duration::from_secs(2)))
            }
            // Sending fails while the driver does what it was told.
            Happening::ClientGone if !self.client_lost => {
                (self.client_gone, self.client_lost) = (true, true);
                Event::ClientGone
            }
            Happening::ClientEnded if !self.client_gone && !busy => {
                self.client_gone = true;
                Event::ClientEnded
            }
            Happening::DrainOver => Event::DrainOver,
            Happening::Terminate => Event::Terminate,
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
                    Ok(reply) => {
                        let reply = reply?;
                        self.restart_is_answered(&reply);
                        Event::Reply(reply)
                    }
                    Err(_) => return self.lose_backend(),
                }
            }
            Happening::BackendGone => return self.lose_backend(),
            Happening::Data(DataEvent::BackendAccepted) => {
                let transfer = self.transfer.as_mut()?;
                if !std::mem::take(&mut transfer.acceptance_asked) {
                    return None;
                }
                transfer.accepted = true;
                Event::Data(DataEvent::BackendAccepted)
            }
            Happening::Data(event) => {
                let upload = self.transfer.as_ref().is_some_and(|it| it.upload);
                self.data = data_after(self.data, upload, *event)?;
                Event::Data(*event)
            }
            Happening::Expired if self.machine.deadline() == Deadline::Never => return None,
            Happening::Expired => Event::Expired,
            Happening::Drain => Event::Drain,
            Happening::Client(_)
            | Happening::ClientTooLong
            | Happening::ClientEnded
            | Happening::ClientGone
            | Happening::Welcome
            | Happening::OneOfSeveral
            | Happening::Blocked
            | Happening::SiteFull
            | Happening::Maintenance => return None,
        })
    }

    fn answer(&mut self, good: bool) -> Option<Event> {
        Some(match std::mem::replace(&mut self.owes, Owed::Nothing) {
            Owed::Nothing => return None,
            Owed::Tls if good => {
                self.tls = true;
                Event::Secured {
                    sni: None,
                    certificate: None,
                }
            }
            // The driver ends the session then.
            Owed::Tls => {
                (self.client_gone, self.client_lost) = (true, true);
                Event::ClientGone
            }
            Owed::Dial if good => self.dialled(None, None),
            Owed::Dial => Event::Dialled(None),
            Owed::Listening => Event::Listening(good.then(|| listened(&self.config))),
            Owed::Port(client) => {
                self.port = good;
                Event::Prepared(match client {
                    _ if !good => PreparedPort::NoPort,
                    ClientData::Passive => PreparedPort::Passive(5000),
                    ClientData::Active(_) => PreparedPort::Active,
                })
            }
        })
    }

    fn dialled(&mut self, welcome: Option<Reply>, failover_timeout: Option<Duration>) -> Event {
        self.backend = Some(ReplyParser::default());
        self.trial = match failover_timeout {
            Some(_) => Trial::OneOfSeveral,
            None => Trial::Alone,
        };
        Event::Dialled(Some(Dialled {
            ipv6: self.config.local.is_ipv6(),
            welcome,
            protection: BackendProtection::Settled,
            avoid: PortMethods::NONE,
            failover_timeout,
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
            if let Some(transfer) = &mut self.transfer {
                transfer.accepted |= reply.number() == 125;
            }
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
        if transfer.abor_sent {
            transfer.nothing_to_abort |= reply.number() == 225;
            transfer.abort_told |= !matches!(reply.number(), 200..=225 | 500..=504);
        }
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

    fn may_log_in(&self) -> bool {
        self.tls || !self.config.tls_required
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
fn data_after(data: Data, upload: bool, event: DataEvent) -> Option<Data> {
    match (event, data) {
        (DataEvent::BackendOpen, Data::Opening) if upload => Some(Data::Halved),
        (DataEvent::BackendOpen, Data::Opening) => Some(Data::Flowing),
        (DataEvent::BackendNotReached, Data::Opening) => Some(Data::NotReached),
        (DataEvent::ClientConnected, Data::Halved) => Some(Data::Flowing),
        (DataEvent::SourceEnded { proven }, Data::Flowing) => Some(Data::SourceEnded { proven }),
        (DataEvent::Ended, Data::Ending) if upload => Some(Data::Ended),
        (DataEvent::Finished, Data::Ending | Data::Ended) => Some(Data::Finished),
        (
            DataEvent::Failed(_),
            Data::Opening
            | Data::NotReached
            | Data::Halved
            | Data::Flowing
            | Data::SourceEnded { .. }
            | Data::Ending
            | Data::Ended,
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

/// Where the driver listens for the backend.
fn listened(config: &SessionConfig) -> SocketAddr {
    SocketAddr::new(config.local, 6000)
}

/// Three sites for everybody, and one for each thing that a site may not allow.
fn sites() -> Vec<Arc<Site>> {
    let site = |name: &str, default| Site {
        default,
        hosts: vec![HostPattern::parse(&format!("{name}.lab")).expect("a host")],
        ..Site::named(name)
    };
    let denied = |text| DeniedCommand::new(text).expect("a command");
    let read_only = SitePolicy {
        commands: CommandRules::new(Some(Preset::ReadOnly), vec![denied("STAT"), denied("CLNT")]),
        login_text: Some(Notice::new("Hello.\n230 Hello.").expect("a text")),
        ..SitePolicy::default()
    };
    let elsewhere = vec!["198.51.100.0/24".parse().expect("a network")];
    let other_networks = SitePolicy {
        clients: ClientRules::new(Some(elsewhere), Vec::new()).expect("somebody"),
        ..SitePolicy::default()
    };
    let out_of_service = SitePolicy {
        maintenance: Some(Notice::new("Back\non Monday.").expect("a text")),
        ..SitePolicy::default()
    };
    let group = Group {
        name: "known".to_owned(),
        users: [UserPattern::new("al").expect("a name")]
            .into_iter()
            .collect(),
        users_file: None,
        backends: Vec::new(),
    };
    let sites = [
        site("a", true),
        site("b", false),
        site("c", false),
        Site {
            policy: read_only,
            ..site("read-only", false)
        },
        Site {
            policy: other_networks,
            ..site("elsewhere", false)
        },
        Site {
            policy: out_of_service,
            ..site("down", false)
        },
        Site {
            groups: vec![group],
            unknown_users: UnknownUsers::Refuse,
            ..site("grouped", false)
        },
    ];
    sites.into_iter().map(Arc::new).collect()
}

fn session_config(listener: Listener) -> SessionConfig {
    let (client, local) = match listener {
        Listener::Ipv6 => ("2001:db8::7", "2001:db8::1"),
        Listener::Explicit
        | Listener::ClearAllowed
        | Listener::DataRequired
        | Listener::Implicit => ("192.0.2.7", "192.0.2.1"),
    };
    let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
    SessionConfig {
        greeting: "hello".into(),
        router: Arc::new(Router::new(
            (0..).map(SiteId).zip(sites()),
            UserForms::default(),
            &UserFiles::default(),
        )),
        has_certificate: true,
        tls_required: listener != Listener::ClearAllowed,
        data_required: listener == Listener::DataRequired,
        active_mode: true,
        client: ip(client),
        local: ip(local),
        announcements: Arc::default(),
        own_names: Arc::new(HostPattern::parse("proxy.lab").into_iter().collect()),
        timeouts: Timeouts::default(),
        credentials: CredentialFiles::default(),
    }
}
