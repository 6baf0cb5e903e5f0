//! PASV, EPSV, PORT and EPRT: each leg gets a data port of its own, whatever the client asked for.
//!
//! The backend is asked at the moment the client asks, so that it gets commands in the client's order (RFC 3659 §5.3:
//! REST has to be last before RETR), and by the client's method, so that what works directly works. If it refuses, the
//! next method is tried, see `ftp::port_methods`; whether its port can be reached shows only later, see `transfer::opening`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use super::context::Context;
use super::ready::{LoggedIn, Ready};
use super::{Action, BackendData, ClientData, PreparedPort, Record, State};
use crate::ftp::address::{self, BadEprt, EpsvArgument};
use crate::ftp::answer::{self, Answer};
use crate::ftp::command::{Command, Verb};
use crate::ftp::port_methods::BackendPorts;
use crate::ftp::reply::{Class, Reply};
use crate::ftp::server::{PortMethod, PortMethods};
use crate::outcome::DataMode;

/// The meaning of a data port command.
enum PortCommand {
    /// EPSV ALL.
    OnlyEpsv,
    Request(PortRequest),
}

/// The data port that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortRequest {
    /// PASV, at the address that the client has connected to.
    Pasv(Ipv4Addr),
    Epsv,
    Port(SocketAddrV4),
    Eprt(SocketAddr),
}

/// The client's request for a data port, and how far the backend has been asked for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DataPortNegotiation {
    request: PortRequest,
    /// The method by which the backend was asked last.
    last_method: PortMethod,
    /// The methods by which the backend was asked so far.
    tried: PortMethods,
    /// The methods that the backend refused, and not for the moment.
    refused: PortMethods,
    /// The methods that led to a port that could not be reached.
    unreached: PortMethods,
}

/// The driver is to listen for the backend, which is then sent the address by PORT.
#[derive(Debug)]
pub(super) struct Listening {
    pub login: Box<LoggedIn>,
    negotiation: DataPortNegotiation,
}

/// The backend is to answer EPSV, PASV or PORT.
#[derive(Debug)]
pub(super) struct BackendPort {
    pub login: Box<LoggedIn>,
    negotiation: DataPortNegotiation,
}

/// The driver is to make the client's data port.
#[derive(Debug)]
pub(super) struct ClientPort {
    pub login: Box<LoggedIn>,
    negotiation: DataPortNegotiation,
}

/// A data port command, with no other one under way.
pub(super) fn begin(mut login: Box<LoggedIn>, command: &Command, cx: &mut Context) -> State {
    // A new data port replaces the old one, and so does a refused one: a stale address must not be used.
    login.drop_data_port(cx);
    match PortCommand::read(command, cx) {
        Ok(PortCommand::Request(request)) => {
            cx.restart_clock();
            match DataPortNegotiation::begin(request, login.connection.ports, cx) {
                Some(negotiation) => negotiation.wait_for_backend(login),
                None => no_backend_port(login, None, cx),
            }
        }
        Ok(PortCommand::OnlyEpsv) => {
            cx.only_epsv = true;
            cx.reply(answer::EPSV_ALL_OK);
            State::Ready(Ready { login })
        }
        Err(answer) => {
            let command = command.clone();
            cx.push(Action::Record(Record::Refused { command, answer }));
            cx.reply(answer);
            State::Ready(Ready { login })
        }
    }
}

impl PortCommand {
    fn read(command: &Command, cx: &Context) -> Result<Self, Answer> {
        let argument = command.argument();
        if cx.only_epsv && command.verb() != Verb::Epsv {
            return Err(answer::EPSV_ALL_GIVEN);
        }
        let request = match command.verb() {
            Verb::Epsv => match (address::parse_epsv(argument), cx.config.local.is_ipv4()) {
                (EpsvArgument::All, _) => return Ok(Self::OnlyEpsv),
                (EpsvArgument::Any, _)
                | (EpsvArgument::Ipv4, true)
                | (EpsvArgument::Ipv6, false) => PortRequest::Epsv,
                (EpsvArgument::Ipv6, true) => return Err(answer::ONLY_IPV4),
                (EpsvArgument::Ipv4, false) => return Err(answer::ONLY_IPV6),
                (EpsvArgument::Other, _) => return Err(answer::ADDRESS_SYNTAX),
            },
            Verb::Pasv => match cx.config.local {
                IpAddr::V4(local) => PortRequest::Pasv(local),
                IpAddr::V6(_) => return Err(answer::PASV_NEEDS_IPV4),
            },
            _ if !cx.config.active_mode => return Err(answer::ACTIVE_REFUSED),
            Verb::Port => {
                let target = address::parse_port(argument).ok_or(answer::ADDRESS_SYNTAX)?;
                PortRequest::Port(target)
            }
            _ => PortRequest::Eprt(address::parse_eprt(argument).map_err(|bad| match bad {
                BadEprt::Syntax => answer::ADDRESS_SYNTAX,
                BadEprt::Family => answer::EPRT_FAMILY,
            })?),
        };
        match request.client_data() {
            ClientData::Active(target)
                if !address::is_own_unprivileged(target, cx.config.client) =>
            {
                Err(answer::ADDRESS_REFUSED)
            }
            ClientData::Active(_) | ClientData::Passive => Ok(Self::Request(request)),
        }
    }
}

impl PortRequest {
    fn client_data(self) -> ClientData {
        match self {
            Self::Pasv(_) | Self::Epsv => ClientData::Passive,
            Self::Port(target) => ClientData::Active(target.into()),
            Self::Eprt(target) => ClientData::Active(target),
        }
    }

    /// How the backend is asked first: as the client asks, and for an active one in the passive way from the same RFC.
    fn method(self) -> PortMethod {
        match self {
            Self::Pasv(_) | Self::Port(_) => PortMethod::Pasv,
            Self::Epsv | Self::Eprt(_) => PortMethod::Epsv,
        }
    }
}

impl DataPortNegotiation {
    /// How the client's data connection is established.
    pub fn mode(&self) -> DataMode {
        match self.request.client_data() {
            ClientData::Passive => DataMode::Passive,
            ClientData::Active(_) => DataMode::Active,
        }
    }

    /// Asks the backend in the first way that there is, if there is one.
    fn begin(request: PortRequest, ports: BackendPorts, cx: &mut Context) -> Option<Self> {
        let initial = Self {
            request,
            last_method: request.method(),
            tried: PortMethods::NONE,
            refused: PortMethods::NONE,
            unreached: PortMethods::NONE,
        };
        initial.ask_next(ports, cx)
    }

    /// Asks the backend in the next way that there is, if there is one.
    pub fn ask_next(self, ports: BackendPorts, cx: &mut Context) -> Option<Self> {
        let last_method = self.next_method(ports)?;
        match last_method {
            PortMethod::Epsv => cx.send(b"EPSV"),
            PortMethod::Pasv => cx.send(b"PASV"),
            PortMethod::Active => cx.push(Action::ListenForBackend),
        }
        Some(Self {
            last_method,
            tried: self.tried.and(last_method),
            ..self
        })
    }

    fn next_method(&self, ports: BackendPorts) -> Option<PortMethod> {
        ports.next(self.request.method(), self.tried)
    }

    /// The port that the backend has named can't be reached.
    pub fn mark_unreached(&mut self) {
        self.unreached = self.unreached.and(self.last_method);
    }

    /// The methods to be avoided from now on, now that another one is known to work.
    pub fn failed(&self) -> PortMethods {
        self.refused.and_all(self.unreached)
    }

    /// The endpoint of the backend's data connection, by its reply; `None` if this method gets none.
    pub fn granted_by(&mut self, reply: &Reply) -> Option<BackendData> {
        let granted = match self.last_method {
            PortMethod::Active => {
                (reply.class() == Class::Completion).then_some(BackendData::Active)
            }
            PortMethod::Epsv | PortMethod::Pasv => {
                address::announced(reply).map(BackendData::Passive)
            }
        };
        // "Try again later" says nothing of what the server can do.
        if granted.is_none() && reply.class() != Class::TransientFailure {
            self.refused = self.refused.and(self.last_method);
        }
        granted
    }

    /// The state of a session whose backend was asked by this method.
    fn wait_for_backend(self, login: Box<LoggedIn>) -> State {
        let negotiation = self;
        match self.last_method {
            PortMethod::Active => State::Listening(Listening { login, negotiation }),
            PortMethod::Epsv | PortMethod::Pasv => {
                State::BackendPort(BackendPort { login, negotiation })
            }
        }
    }

    /// Whether nothing was asked of the backend, and there is nothing that it could be asked.
    fn is_unasked(&self, ports: BackendPorts) -> bool {
        let is_asked = |method| self.tried.has(method);
        !is_asked(PortMethod::Epsv)
            && !is_asked(PortMethod::Pasv)
            && self.next_method(ports).is_none()
    }

    fn ask_by_next_method(
        self,
        login: Box<LoggedIn>,
        last: Option<&Reply>,
        cx: &mut Context,
    ) -> State {
        cx.restart_clock();
        match self.ask_next(login.connection.ports, cx) {
            Some(negotiation) => negotiation.wait_for_backend(login),
            None => no_backend_port(login, last, cx),
        }
    }
}

/// No method is left to ask the backend for a data port.
fn no_backend_port(login: Box<LoggedIn>, last: Option<&Reply>, cx: &mut Context) -> State {
    cx.push(Action::Record(Record::NoDataPort(last.cloned())));
    cx.reply(answer::NO_BACKEND_PORT);
    State::Ready(Ready { login })
}

impl Listening {
    /// The driver listens for the backend, or can't.
    pub fn on_listening(self, at: Option<SocketAddr>, cx: &mut Context) -> State {
        let Self { login, negotiation } = self;
        match at {
            Some(at) => {
                cx.restart_clock();
                send_port(at, cx);
                State::BackendPort(BackendPort { login, negotiation })
            }
            None if negotiation.is_unasked(login.connection.ports) => {
                // The fault is this machine's, and the log has it.
                cx.reply(answer::NO_PASSIVE_PORT);
                State::Ready(Ready { login })
            }
            None => negotiation.ask_by_next_method(login, None, cx),
        }
    }
}

/// PORT, or EPRT where that has no meaning.
pub(super) fn send_port(at: SocketAddr, cx: &mut Context) {
    cx.send(address::active_command(at).as_bytes());
}

impl BackendPort {
    pub fn on_reply(self, reply: &Reply, cx: &mut Context) -> State {
        if reply.class() == Class::Preliminary {
            // None of these commands has one (RFC 959 §6); what follows is the answer.
            return State::BackendPort(self);
        }
        let Self {
            mut login,
            mut negotiation,
        } = self;
        let Some(backend) = negotiation.granted_by(reply) else {
            return negotiation.ask_by_next_method(login, Some(reply), cx);
        };
        if backend != BackendData::Active {
            // Whether the backend gets through to us shows only later.
            login.avoid(negotiation.refused, cx);
        }
        cx.push(Action::PrepareData {
            backend,
            client: negotiation.request.client_data(),
            protection: cx.security.protection(),
        });
        State::ClientPort(ClientPort { login, negotiation })
    }

    /// The backend has closed its connection, or no longer replies. Some do so at EPSV, and get PASV first from now on.
    /// It may have been chance, so a method that is known to fail, or that needs inbound connections, does not replace
    /// it.
    pub fn avoid_last_method(mut self, cx: &mut Context) -> Self {
        let negotiation = &self.negotiation;
        let ports = self.login.connection.ports;
        if let Some(next @ (PortMethod::Epsv | PortMethod::Pasv)) = negotiation.next_method(ports)
            && !ports.avoid.has(next)
        {
            self.login
                .avoid(negotiation.refused.and(negotiation.last_method), cx);
        }
        self
    }
}

impl ClientPort {
    pub fn on_prepared(self, prepared: PreparedPort, cx: &mut Context) -> State {
        match (prepared, self.negotiation.request) {
            (PreparedPort::Passive(listened), PortRequest::Pasv(local)) => {
                let (announcements, client) = (&cx.config.announcements, cx.config.client);
                let address = announcements.address(client).unwrap_or(local);
                let reply = address::reply_227(address, announcements.port(client, listened));
                cx.push(Action::Reply(reply.into()));
            }
            (PreparedPort::Passive(listened), PortRequest::Epsv) => {
                let port = cx.config.announcements.port(cx.config.client, listened);
                cx.push(Action::Reply(address::reply_229(port).into()));
            }
            (PreparedPort::Active, PortRequest::Port(_) | PortRequest::Eprt(_)) => {
                cx.reply(answer::PORT_ACCEPTED);
            }
            (PreparedPort::NoPort, _) => {
                cx.push(Action::DropData);
                cx.reply(answer::NO_PASSIVE_PORT);
                return State::Ready(Ready { login: self.login });
            }
            (PreparedPort::Passive(_), PortRequest::Port(_) | PortRequest::Eprt(_))
            | (PreparedPort::Active, PortRequest::Pasv(_) | PortRequest::Epsv) => {
                return cx.unexpected(State::ClientPort(self), "a data port of the other kind");
            }
        }
        let Self {
            mut login,
            negotiation,
        } = self;
        login.data_port = Some(negotiation);
        State::Ready(Ready { login })
    }
}
