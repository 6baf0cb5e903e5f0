//! Commands after login: passed to the backend as they are, but for those about data connections, TLS and FEAT.
//!
//! One command is under way at a time; its reply goes back to the client byte for byte. Data port commands are taken
//! apart: the client's leg and the backend's each get a data port of their own, whatever the client asked for, and the
//! backend is asked at the moment the client asks, so that it sees commands in the client's order (RFC 3659 §5.3 wants
//! REST last before RETR).

use std::net::IpAddr;

use super::transfer::Transfer;
use super::{
    Action, ClientData, Ending, Loss, Machine, Prepared, Record, Stage, State, Terms, Wait,
};
use crate::ftp::address::{self, BadEprt, EpsvArgument};
use crate::ftp::answer;
use crate::ftp::command::{Command, Verb};
use crate::ftp::features;
use crate::ftp::reply::{Class, Reply};
use crate::route::Route;

/// A session with a backend that has let the client in.
#[derive(Debug)]
pub(super) struct LoggedIn {
    pub route: Route,
    pub passive: BackendPassive,
    pub(super) step: Step,
    /// A data port has been given to the client and no transfer has used it yet.
    pub(super) data_port: DataPort,
}

/// How the backend is asked for a data port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BackendPassive {
    /// EPSV, and PASV if it's refused.
    EpsvFirst,
    /// EPSV was refused.
    PasvOnly,
    /// IPv6, where PASV has no meaning.
    EpsvOnly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataPort {
    None,
    Prepared,
}

#[derive(Debug)]
pub(super) enum Step {
    /// Waiting for the client's next command.
    Ready,
    /// The backend is to answer this many commands that were passed on: one, or STATs that outlasted a transfer.
    Passed(usize),
    /// The backend is to answer FEAT.
    Feat,
    /// The backend is to answer EPSV or PASV.
    BackendPort {
        request: PortRequest,
        asked: Asked,
    },
    /// The driver is to make the client's data port.
    ClientPort(PortRequest),
    /// The backend is to answer a REST of ours.
    Rewinding,
    Transfer(Transfer),
}

/// What the client asked for with PASV, EPSV, PORT or EPRT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PortRequest {
    client: ClientData,
    reply: PortReply,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PortReply {
    Pasv(std::net::Ipv4Addr),
    Epsv,
    Active,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Epsv,
    Pasv,
}

impl LoggedIn {
    pub fn new(route: Route, passive: BackendPassive) -> Self {
        Self {
            route,
            passive,
            step: Step::Ready,
            data_port: DataPort::None,
        }
    }

    pub fn is_ready(&self) -> bool {
        matches!(self.step, Step::Ready)
    }

    pub fn wait(&self) -> Wait {
        match &self.step {
            Step::Ready => Wait::Command,
            Step::Passed(_) | Step::Feat | Step::Rewinding | Step::BackendPort { .. } => {
                Wait::Reply
            }
            // A turn at a passive port has a deadline of its own, and is nothing that the backend is late with.
            Step::ClientPort(_) => Wait::Data,
            Step::Transfer(transfer) => transfer.wait(),
        }
    }

    pub fn stage(&self) -> Stage {
        match &self.step {
            Step::Ready | Step::Passed(_) | Step::Feat | Step::Rewinding => Stage::Command,
            Step::BackendPort { .. } | Step::ClientPort(_) => Stage::DataPort,
            Step::Transfer(_) => Stage::Transfer,
        }
    }
}

impl Machine {
    fn logged_in(&mut self) -> Option<&mut LoggedIn> {
        match &mut self.state {
            State::LoggedIn(logged_in) => Some(logged_in),
            _ => None,
        }
    }

    pub(super) fn set_step(&mut self, step: Step) {
        if let Some(logged_in) = self.logged_in() {
            logged_in.step = step;
        }
    }

    pub(super) fn command_after_login(&mut self, command: Command) {
        if command.verb().transfer().is_some() {
            return self.begin_transfer(command);
        }
        match command.verb() {
            Verb::User => self.user(command),
            Verb::Host => self.answer(answer::HOST_TOO_LATE),
            Verb::Quit => {
                self.send(command.line());
                self.farewell(answer::GOODBYE, Ending::Quit);
            }
            Verb::Feat => {
                self.send(command.line());
                self.set_step(Step::Feat);
            }
            Verb::Pasv | Verb::Epsv | Verb::Port | Verb::Eprt => self.data_port(&command),
            // Blocks and compression in MODE B and C carry their own end of file; data connections would stay open.
            Verb::Mode if !matches!(command.argument(), b"S" | b"s" | b"Z" | b"z") => {
                self.answer(answer::MODE_UNSUPPORTED);
            }
            _ => {
                if !self.local_command(&command) {
                    self.note_restart(&command);
                    self.send(command.line());
                    self.set_step(Step::Passed(1));
                }
            }
        }
    }

    fn data_port(&mut self, command: &Command) {
        // A new data port takes the place of the old one, and so does a refused one: a stale address must not be used.
        self.drop_data_port();
        let request = match self.port_request(command) {
            Ok(Some(request)) => request,
            Ok(None) => {
                self.only_epsv = true;
                return self.answer(answer::EPSV_ALL_OK);
            }
            Err(answer) => {
                let command = command.clone();
                self.push(Action::Record(Record::Refused { command, answer }));
                return self.answer(answer);
            }
        };
        let Some(logged_in) = self.logged_in() else {
            return;
        };
        match logged_in.passive {
            BackendPassive::EpsvFirst | BackendPassive::EpsvOnly => {
                self.ask_for_port(request, Asked::Epsv)
            }
            BackendPassive::PasvOnly => self.ask_for_port(request, Asked::Pasv),
        }
    }

    fn drop_data_port(&mut self) {
        if let Some(logged_in) = self.logged_in()
            && logged_in.data_port == DataPort::Prepared
        {
            logged_in.data_port = DataPort::None;
            self.push(Action::DropData);
        }
    }

    /// What the client asks for; `None` is EPSV ALL.
    fn port_request(&self, command: &Command) -> Result<Option<PortRequest>, answer::Answer> {
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
                Ok(Some(PortRequest {
                    client: ClientData::Passive,
                    reply: PortReply::Epsv,
                }))
            }
            Verb::Pasv => {
                let IpAddr::V4(local) = self.terms.local else {
                    return Err(answer::PASV_NEEDS_IPV4);
                };
                Ok(Some(PortRequest {
                    client: ClientData::Passive,
                    reply: PortReply::Pasv(local),
                }))
            }
            _ => self.active_request(command).map(Some),
        }
    }

    fn active_request(&self, command: &Command) -> Result<PortRequest, answer::Answer> {
        if !self.terms.active_mode {
            return Err(answer::ACTIVE_REFUSED);
        }
        let target = if command.verb() == Verb::Port {
            address::parse_port(command.argument())
                .ok_or(answer::ADDRESS_SYNTAX)?
                .into()
        } else {
            address::parse_eprt(command.argument()).map_err(|bad| match bad {
                BadEprt::Syntax => answer::ADDRESS_SYNTAX,
                BadEprt::Family => answer::EPRT_FAMILY,
            })?
        };
        if !address::is_own_unprivileged(target, self.terms.client) {
            return Err(answer::ADDRESS_REFUSED);
        }
        Ok(PortRequest {
            client: ClientData::Active(target),
            reply: PortReply::Active,
        })
    }

    fn ask_for_port(&mut self, request: PortRequest, asked: Asked) {
        self.send(match asked {
            Asked::Epsv => b"EPSV",
            Asked::Pasv => b"PASV",
        });
        self.set_step(Step::BackendPort { request, asked });
    }

    pub(super) fn reply_after_login(&mut self, reply: Reply) {
        let Some(logged_in) = self.logged_in() else {
            return;
        };
        match &logged_in.step {
            Step::Passed(owed) => {
                let owed = *owed;
                self.passed_reply(owed, reply);
            }
            Step::Feat => {
                if reply.class() != Class::Preliminary {
                    let list = features::after_login(&reply, self.terms.active_mode);
                    self.push(Action::Reply(list.into()));
                    self.set_step(Step::Ready);
                }
            }
            // Even a refusal says that there is no offset any more: of a server that knows no REST, none ever was.
            Step::Rewinding => {
                if reply.class() != Class::Preliminary {
                    self.set_step(Step::Ready);
                }
            }
            Step::BackendPort { request, asked } => {
                let (request, asked) = (*request, *asked);
                self.backend_port_reply(request, asked, &reply);
            }
            Step::Transfer(_) => self.reply_during_transfer(reply),
            // Nothing was asked: whoever goes on now may take this for the answer to something else.
            Step::Ready | Step::ClientPort(_) => self.lose_backend(Loss::Unasked),
        }
    }

    fn passed_reply(&mut self, owed: usize, reply: Reply) {
        let next = match owed {
            0 | 1 => Step::Ready,
            _ => Step::Passed(owed - 1),
        };
        match (reply.class(), reply.number()) {
            (Class::Preliminary, _) => self.pass(&reply),
            // Some command opened a data port that we don't know of: its address must not reach the client.
            (_, 227..=229) => {
                self.answer(answer::NOT_IMPLEMENTED);
                self.set_step(next);
            }
            _ => {
                self.pass(&reply);
                self.set_step(next);
            }
        }
    }

    fn backend_port_reply(&mut self, request: PortRequest, asked: Asked, reply: &Reply) {
        if reply.class() == Class::Preliminary {
            // Neither command has one (RFC 959 §6); what follows is the answer.
            return;
        }
        if let Some(backend_port) = address::announced_port(reply) {
            let protection = self.security.protection();
            self.push(Action::PrepareData {
                backend_port,
                client: request.client,
                protection,
            });
            return self.set_step(Step::ClientPort(request));
        }
        let Some(logged_in) = self.logged_in() else {
            return;
        };
        let may_ask_again = asked == Asked::Epsv && logged_in.passive == BackendPassive::EpsvFirst;
        if may_ask_again && reply.class() == Class::PermanentFailure {
            logged_in.passive = BackendPassive::PasvOnly;
            return self.ask_for_port(request, Asked::Pasv);
        }
        self.push(Action::Record(Record::NoDataPort(reply.clone())));
        self.answer(answer::NO_BACKEND_PORT);
        self.set_step(Step::Ready);
    }

    pub(super) fn on_prepared(&mut self, prepared: Prepared) {
        let Some(logged_in) = self.logged_in() else {
            return;
        };
        let Step::ClientPort(request) = logged_in.step else {
            return;
        };
        logged_in.step = Step::Ready;
        logged_in.data_port = DataPort::Prepared;
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
