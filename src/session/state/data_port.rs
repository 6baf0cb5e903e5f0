//! PASV, EPSV, PORT and EPRT: each leg gets a data port of its own, whatever the client asked for.
//!
//! The backend is asked at the moment the client asks, so that it sees commands in the client's order (RFC 3659 §5.3 wants
//! REST last before RETR), and as the client asks, so that what works directly works. Whatever it refuses then is asked
//! in another way, see `ways`; whether its port can be reached shows only later, see `transfer::again`.

use std::net::{IpAddr, SocketAddr};

use super::logged_in::{DataPort, Step};
use super::{Action, BackendData, ClientData, Machine, Prepared, Record, Terms};
use crate::ftp::address::{self, BadEprt, EpsvArgument};
use crate::ftp::answer;
use crate::ftp::command::{Command, Verb};
use crate::ftp::reply::{Class, Reply};
use crate::ftp::server::{Way, Ways};

/// What the client asked for with PASV, EPSV, PORT or EPRT, and how far the backend has been asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    client: ClientData,
    reply: PortReply,
    as_client: Way,
    /// How the backend was asked last.
    asked: Way,
    /// How it was asked so far.
    tried: Ways,
    /// What it refused, and not for the moment.
    refused: Ways,
    /// What led to a port that could not be reached.
    unreached: Ways,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PortReply {
    Pasv(std::net::Ipv4Addr),
    Epsv,
    Active,
}

impl Request {
    fn new(client: ClientData, reply: PortReply, as_client: Way) -> Self {
        Self {
            client,
            reply,
            as_client,
            asked: as_client,
            tried: Ways::NONE,
            refused: Ways::NONE,
            unreached: Ways::NONE,
        }
    }

    /// The port that the backend has named can't be reached.
    pub fn is_not_reached(&mut self) {
        self.unreached = self.unreached.and(self.asked);
    }

    /// What is to be avoided from now on, now that another way is known to be good.
    pub fn failed(&self) -> Ways {
        self.refused.and_all(self.unreached)
    }

    /// Where the backend's data connection comes from, as its reply has it; `None` if it gives none in this way.
    pub fn granted_by(&mut self, reply: &Reply) -> Option<BackendData> {
        let granted = match self.asked {
            Way::Active => (reply.class() == Class::Completion).then_some(BackendData::Active),
            Way::Epsv | Way::Pasv => address::announced(reply).map(BackendData::Passive),
        };
        // "Try again later" says nothing of what the server can do.
        if granted.is_none() && reply.class() != Class::TransientFailure {
            self.refused = self.refused.and(self.asked);
        }
        granted
    }
}

impl Machine {
    pub(super) fn data_port(&mut self, command: &Command) {
        // A new data port takes the place of the old one, and so does a refused one: a stale address must not be used.
        self.drop_data_port();
        match self.port_request(command) {
            Ok(Some(request)) => {
                if let Some(request) = self.ask_backend(request) {
                    self.set_step(Step::of(request));
                }
            }
            Ok(None) => {
                self.only_epsv = true;
                self.answer(answer::EPSV_ALL_OK);
            }
            Err(answer) => {
                let command = command.clone();
                self.push(Action::Record(Record::Refused { command, answer }));
                self.answer(answer);
            }
        }
    }

    fn drop_data_port(&mut self) {
        if let Some(logged_in) = self.logged_in()
            && logged_in.data_port != DataPort::None
        {
            logged_in.data_port = DataPort::None;
            self.push(Action::DropData);
        }
    }

    /// What the client asks for; `None` is EPSV ALL.
    fn port_request(&self, command: &Command) -> Result<Option<Request>, answer::Answer> {
        let argument = command.argument();
        if self.only_epsv && command.verb() != Verb::Epsv {
            return Err(answer::EPSV_ALL_GIVEN);
        }
        match command.verb() {
            Verb::Epsv => {
                match (address::parse_epsv(argument), self.terms.local.is_ipv4()) {
                    (EpsvArgument::All, _) => return Ok(None),
                    (EpsvArgument::Any, _)
                    | (EpsvArgument::Ipv4, true)
                    | (EpsvArgument::Ipv6, false) => {}
                    (EpsvArgument::Ipv6, true) => return Err(answer::ONLY_IPV4),
                    (EpsvArgument::Ipv4, false) => return Err(answer::ONLY_IPV6),
                    (EpsvArgument::Other, _) => return Err(answer::ADDRESS_SYNTAX),
                }
                let (client, reply) = (ClientData::Passive, PortReply::Epsv);
                Ok(Some(Request::new(client, reply, Way::Epsv)))
            }
            Verb::Pasv => {
                let IpAddr::V4(local) = self.terms.local else {
                    return Err(answer::PASV_NEEDS_IPV4);
                };
                let (client, reply) = (ClientData::Passive, PortReply::Pasv(local));
                Ok(Some(Request::new(client, reply, Way::Pasv)))
            }
            _ => self.active_request(command).map(Some),
        }
    }

    fn active_request(&self, command: &Command) -> Result<Request, answer::Answer> {
        if !self.terms.active_mode {
            return Err(answer::ACTIVE_REFUSED);
        }
        // Of the passive ways, the one from the same RFC.
        let (target, as_client) = if command.verb() == Verb::Port {
            let target = address::parse_port(command.argument()).ok_or(answer::ADDRESS_SYNTAX)?;
            (target.into(), Way::Pasv)
        } else {
            let target = address::parse_eprt(command.argument()).map_err(|bad| match bad {
                BadEprt::Syntax => answer::ADDRESS_SYNTAX,
                BadEprt::Family => answer::EPRT_FAMILY,
            })?;
            (target, Way::Epsv)
        };
        if !address::is_own_unprivileged(target, self.terms.client) {
            return Err(answer::ADDRESS_REFUSED);
        }
        let client = ClientData::Active(target);
        Ok(Request::new(client, PortReply::Active, as_client))
    }

    /// Asks the backend in the next way that there is, if there is one.
    pub(super) fn ask_backend(&mut self, request: Request) -> Option<Request> {
        let ports = self.logged_in()?.ports;
        let asked = ports.next(request.as_client, request.tried)?;
        match asked {
            Way::Epsv => self.send(b"EPSV"),
            Way::Pasv => self.send(b"PASV"),
            Way::Active => self.push(Action::ListenForBackend),
        }
        Some(Request {
            asked,
            tried: request.tried.and(asked),
            ..request
        })
    }

    /// The driver listens for the backend, or can't.
    pub(super) fn on_listening(&mut self, at: Option<SocketAddr>) {
        if let Some(request) = self.transfer().and_then(|transfer| transfer.asks_again()) {
            match at {
                Some(at) => self.tell_port(at),
                None => self.ask_again(request),
            }
        } else if let Some(logged_in) = self.logged_in()
            && let Step::Listening(request) = logged_in.step
        {
            match at {
                Some(at) => {
                    self.tell_port(at);
                    self.set_step(Step::BackendPort(request));
                }
                None => self.ask_next_way(request, None),
            }
        }
    }

    /// PORT, or EPRT where that has no meaning.
    fn tell_port(&mut self, at: SocketAddr) {
        let line = match (at.ip().to_canonical(), at.port()) {
            (IpAddr::V4(ip), port) => address::port_command(ip, port),
            (IpAddr::V6(ip), port) => address::eprt_command(ip, port),
        };
        self.send(line.as_bytes());
    }

    pub(super) fn backend_port_reply(&mut self, mut request: Request, reply: &Reply) {
        if reply.class() == Class::Preliminary {
            // None of these commands has one (RFC 959 §6); what follows is the answer.
            return;
        }
        let Some(backend) = request.granted_by(reply) else {
            return self.ask_next_way(request, Some(reply));
        };
        if backend != BackendData::Active {
            // Whether the backend gets through to us shows only later.
            self.avoid(request.refused);
        }
        let protection = self.security.protection();
        self.push(Action::PrepareData {
            backend,
            client: request.client,
            protection,
        });
        self.set_step(Step::ClientPort(request));
    }

    fn ask_next_way(&mut self, request: Request, last: Option<&Reply>) {
        if let Some(request) = self.ask_backend(request) {
            return self.set_step(Step::of(request));
        }
        self.push(Action::Record(Record::NoDataPort(last.cloned())));
        self.answer(answer::NO_BACKEND_PORT);
        self.set_step(Step::Ready);
    }

    /// These ways lead nowhere, and another one does: the backend is asked in that one at once from now on, in other
    /// sessions as well.
    pub(super) fn avoid(&mut self, ways: Ways) {
        if let Some(logged_in) = self.logged_in() {
            let avoid = logged_in.ports.avoid.and_all(ways);
            if std::mem::replace(&mut logged_in.ports.avoid, avoid) != avoid {
                self.push(Action::Avoid(avoid));
            }
        }
    }

    /// The backend has ended its connection, or answers no more. Some do at EPSV, and there PASV comes first from now on. It
    /// may have been chance, so nothing that is known to fail, or that needs a way in to us, takes its place.
    pub(super) fn avoid_what_was_asked_last(&mut self) {
        if let Some(logged_in) = self.logged_in()
            && let Step::BackendPort(request) = logged_in.step
            && let ports = logged_in.ports
            && let Some(next @ (Way::Epsv | Way::Pasv)) =
                ports.next(request.as_client, request.tried)
            && !ports.avoid.has(next)
        {
            self.avoid(request.refused.and(request.asked));
        }
    }

    pub(super) fn on_prepared(&mut self, prepared: Prepared) {
        let Some(logged_in) = self.logged_in() else {
            return;
        };
        let Step::ClientPort(request) = logged_in.step else {
            return;
        };
        logged_in.step = Step::Ready;
        logged_in.data_port = DataPort::Prepared(request);
        match (prepared, request.reply) {
            (Prepared::Passive(listened), reply) => {
                let Terms {
                    announcements,
                    client,
                    ..
                } = &self.terms;
                let port = announcements.port(*client, listened);
                let reply = match reply {
                    PortReply::Pasv(local) => {
                        let address = announcements.address(*client).unwrap_or(local);
                        address::reply_227(address, port)
                    }
                    PortReply::Epsv | PortReply::Active => address::reply_229(port),
                };
                self.push(Action::Reply(reply.into()));
            }
            (Prepared::Active, _) => self.answer(answer::PORT_ACCEPTED),
            (Prepared::NoPort, _) => {
                self.drop_data_port();
                self.answer(answer::NO_PASSIVE_PORT);
            }
        }
    }
}

impl Step {
    /// What a backend that was asked for a data port is waited for.
    fn of(request: Request) -> Self {
        match request.asked {
            Way::Active => Self::Listening(request),
            Way::Epsv | Way::Pasv => Self::BackendPort(request),
        }
    }
}
