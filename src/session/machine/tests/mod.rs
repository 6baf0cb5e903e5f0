//! Dialogues with the state machine: what the client, the backend and the data connections say, and what comes of it.

mod abort;
mod before_login;
mod certificates;
mod data_ports;
mod host;
mod login;
mod policy;
mod records;
mod restart;
mod time;
mod transfers;
mod uploads;

use std::iter;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::context::MAX_BAD_LINES;
use super::*;
use crate::base::SiteId;
use crate::config::{HostName, HostNames, HostPattern, Site, Timeouts, UserForms};
use crate::ftp::command::{BadCommand, Command};
use crate::ftp::line::Line;
use crate::ftp::reply::{MAX_PRELIMINARIES, Reply, ReplyParser};
use crate::ftp::server::{BackendProtection, PortMethod, PortMethods};
use crate::outcome::Direction;
use crate::outcome::{LoginResult, Verdict};
use crate::policy::{CredentialFiles, UserFiles};

/// A session between a client, the sites `a` (default), `b` and `c`, and the machine.
pub(super) struct Session {
    pub machine: Machine,
    actions: Vec<Action>,
}

pub(super) const A: SiteId = SiteId(0);
pub(super) const B: SiteId = SiteId(1);
const C: SiteId = SiteId(2);

pub(super) fn site(name: &str, default: bool) -> Site {
    Site {
        default,
        hosts: vec![HostPattern::parse(&format!("{name}.lab")).expect("a host")],
        ..Site::named(name)
    }
}

pub(super) fn session_config() -> SessionConfig {
    let sites = [("a", true), ("b", false), ("c", false)];
    let sites = sites.map(|(name, default)| Arc::new(site(name, default)));
    let sites = [A, B, C].into_iter().zip(sites);
    SessionConfig {
        greeting: "hello".into(),
        router: Arc::new(Router::new(
            sites,
            UserForms::default(),
            &UserFiles::default(),
        )),
        has_certificate: true,
        tls_required: true,
        data_required: false,
        active_mode: true,
        client: ip("192.0.2.7"),
        local: ip("192.0.2.1"),
        announcements: Arc::default(),
        own_names: own_names(&["proxy.lab", "*.proxy.lab"]),
        timeouts: Timeouts::default(),
        credentials: CredentialFiles::default(),
    }
}

pub(super) fn ipv6_terms() -> SessionConfig {
    SessionConfig {
        client: ip("2001:db8::7"),
        local: ip("2001:db8::1"),
        ..session_config()
    }
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(super) fn host(name: &str) -> HostName {
    HostName::parse(name.as_bytes()).expect("a host name")
}

fn own_names(patterns: &[&str]) -> Arc<HostNames> {
    let patterns = patterns.iter().filter_map(|it| HostPattern::parse(it));
    Arc::new(patterns.collect())
}

pub(super) fn reply(text: &str) -> Reply {
    let line = Line::Whole(Bytes::copy_from_slice(text.as_bytes()));
    ReplyParser::default()
        .push(line)
        .expect("a reply")
        .expect("a whole reply")
}

pub(super) fn command(line: &str) -> Command {
    Command::parse(Bytes::copy_from_slice(line.as_bytes())).expect("a command")
}

impl Session {
    pub fn of(machine: Machine) -> Self {
        let mut session = Self {
            machine,
            actions: Vec::new(),
        };
        session.collect();
        session
    }

    /// An explicit listener, greeted.
    pub fn explicit() -> Self {
        let mut session = Self::of(Machine::explicit(session_config()));
        assert_eq!(session.replies(), ["220 hello"]);
        session
    }

    /// An implicit listener, greeted.
    pub fn implicit() -> Self {
        Self::implicit_with(session_config(), None)
    }

    pub fn implicit_with(config: SessionConfig, sni: Option<&str>) -> Self {
        let mut session = Self::of(Machine::implicit(config, sni.map(host), None));
        session.actions.clear();
        session
    }

    /// Logged in at site `a` in clear text, which the configuration allows.
    pub fn logged_in_in_clear_text() -> Self {
        let config = SessionConfig {
            tls_required: false,
            ..session_config()
        };
        let mut session = Self::of(Machine::explicit(config));
        session.client("USER al").dialled(false).backend("230 In");
        session.actions.clear();
        session
    }

    /// A session logged in at site `a`.
    pub fn logged_in() -> Self {
        Self::logged_in_with(session_config(), false)
    }

    pub fn logged_in_with(config: SessionConfig, ipv6: bool) -> Self {
        let mut session = Self::implicit_with(config, None);
        session.client("USER al").dialled(ipv6).backend("230 In");
        session.actions.clear();
        session
    }

    /// A session with a data port and a transfer command that the backend has.
    pub fn running(transfer: &str) -> Self {
        let mut session = Self::opening(transfer);
        session.connected(transfer);
        assert_eq!(session.sent(), [transfer]);
        session.actions.clear();
        session
    }

    /// As [`running`](Self::running), with PROT C.
    pub fn running_in_clear_text(transfer: &str) -> Self {
        let mut session = Self::logged_in();
        session.client("PROT C");
        session.client("EPSV").backend("229 x (|||2000|)");
        session
            .prepared(PreparedPort::Passive(5000))
            .client(transfer);
        session.connected(transfer).actions();
        session
    }

    /// All data connections are there that the command waits for.
    pub fn connected(&mut self, transfer: &str) -> &mut Self {
        self.data(DataEvent::BackendOpen);
        if command(transfer).verb().transfer() == Some(Direction::Upload) {
            self.data(DataEvent::ClientConnected);
        }
        self
    }

    /// With a transfer command that waits for the backend's data connection.
    pub fn opening(transfer: &str) -> Self {
        let mut session = Self::logged_in();
        session
            .client("EPSV")
            .backend("229 x (|||2000|)")
            .prepared(PreparedPort::Passive(5000))
            .client(transfer);
        session.actions.clear();
        session
    }

    pub fn event(&mut self, event: Event) -> &mut Self {
        self.machine.handle(event);
        self.collect();
        self
    }

    fn collect(&mut self) {
        self.actions
            .extend(iter::from_fn(|| self.machine.next_action()));
    }

    pub fn client(&mut self, line: &str) -> &mut Self {
        assert!(self.machine.wants_command(), "{line} is not wanted");
        self.event(Event::Command(command(line)))
    }

    pub fn backend(&mut self, text: &str) -> &mut Self {
        self.event(Event::Reply(reply(text)))
    }

    pub fn dialled(&mut self, ipv6: bool) -> &mut Self {
        self.event(Event::Dialled(Some(Dialled {
            ipv6,
            welcome: None,
            protection: BackendProtection::Settled,
            avoid: PortMethods::NONE,
            failover_timeout: None,
        })))
    }

    /// The backend is ready for USER, and another one could take over after two seconds.
    pub fn dialled_one_of_several(&mut self) -> &mut Self {
        self.event(Event::Dialled(Some(Dialled {
            ipv6: false,
            welcome: None,
            protection: BackendProtection::Settled,
            avoid: PortMethods::NONE,
            failover_timeout: Some(Duration::from_secs(2)),
        })))
    }

    pub fn welcomed(&mut self, text: &str) -> &mut Self {
        self.event(Event::Dialled(Some(Dialled {
            ipv6: false,
            welcome: Some(reply(text)),
            protection: BackendProtection::Settled,
            avoid: PortMethods::NONE,
            failover_timeout: None,
        })))
    }

    pub fn prepared(&mut self, prepared: PreparedPort) -> &mut Self {
        self.event(Event::Prepared(prepared))
    }

    pub fn data(&mut self, event: DataEvent) -> &mut Self {
        self.event(Event::Data(event))
    }

    /// The whole AUTH dialogue.
    pub fn secured(&mut self, auth: &str, sni: Option<&str>) -> &mut Self {
        self.client(auth);
        assert!(self.actions().contains(&Action::StartTls), "{auth}");
        self.event(Event::Secured {
            sni: sni.map(host),
            certificate: None,
        })
    }

    /// Everything decided since the last look.
    pub fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// The client's replies since the last call; discards everything else.
    pub fn replies(&mut self) -> Vec<String> {
        self.texts(|action| match action {
            Action::Reply(bytes) => Some(bytes),
            _ => None,
        })
    }

    /// The lines sent to the backend since the last call; the rest stays queued.
    pub fn sent(&self) -> Vec<String> {
        let sent = self.actions.iter().filter_map(|action| match action {
            Action::Send(bytes) => Some(text(bytes)),
            Action::Authenticate { command, .. } => {
                Some(String::from_utf8_lossy(command.line()).into_owned())
            }
            Action::AuthenticateWithDecoy { command, .. } => {
                Some(format!("{} decoy", command.verb_text()))
            }
            _ => None,
        });
        sent.collect()
    }

    fn texts(&mut self, which: impl Fn(&Action) -> Option<&Bytes>) -> Vec<String> {
        let actions = self.actions();
        actions.iter().filter_map(which).map(text).collect()
    }

    /// The codes of what the client was sent since the last call.
    pub fn codes(&mut self) -> Vec<u16> {
        let replies = self.replies();
        replies
            .iter()
            .map(|reply| reply[..3].parse().expect("a code"))
            .collect()
    }

    /// The code that the client gets for a command answered without a backend.
    pub fn answer(&mut self, line: &str) -> u16 {
        self.client(line);
        assert_eq!(self.sent(), [""; 0], "{line}");
        match self.codes()[..] {
            [code] => code,
            ref codes => panic!("{line}: {codes:?}"),
        }
    }

    /// How the session ended, if it did; the rest stays queued.
    pub fn ending(&self) -> Option<Ending> {
        self.actions.iter().find_map(|action| match action {
            Action::Close(ending) => Some(*ending),
            _ => None,
        })
    }

    /// The site that is dialled; the rest stays queued.
    pub fn dials(&self) -> Vec<String> {
        let mut site = None;
        let dials = self.actions.iter().filter_map(|action| match action {
            Action::LoginAttempt {
                route: Some(route), ..
            } => {
                site = Some(route.site.name.clone());
                None
            }
            Action::Dial => site.clone(),
            _ => None,
        });
        dials.collect()
    }

    /// The verdict on the transfer; the rest stays queued.
    pub fn verdict(&self) -> Option<Verdict> {
        self.actions.iter().find_map(|action| match action {
            Action::Record(Record::Transfer { outcome, .. }) => Some(outcome.verdict()),
            _ => None,
        })
    }

    /// How the transfer ended; the rest stays queued.
    pub fn outcome(&self) -> Option<Outcome> {
        self.actions.iter().find_map(|action| match action {
            Action::Record(Record::Transfer { outcome, .. }) => Some(outcome.clone()),
            _ => None,
        })
    }

    /// Whether nothing is under way.
    pub fn is_ready(&self) -> bool {
        self.machine.state.is_ready(&self.machine.cx)
    }

    pub fn has(&self, action: &Action) -> bool {
        self.actions.contains(action)
    }
}

fn text(bytes: &Bytes) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    text.strip_suffix("\r\n").expect("a whole line").to_owned()
}
