//! Backends with one fault each.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use testkit::closed_port::ClosedPort;
use testkit::script::{Gate, Script, ScriptTls, Step, reply};
use testkit::scripted::Backend;
use testkit::wire::End;

use super::client::{FILE, content};
use super::fault::{Fault, Phase};
use super::{Cell, Leg};

/// The text of its final replies, to tell them from the proxy's own.
pub const SAYS: &str = "says the backend";

/// A backend with the fault of one cell.
pub struct Faulty {
    address: SocketAddr,
    /// Opened when the reply before an unasked one has arrived.
    pub logged_in: Gate,
    /// Opened when the cell is over: ends the hanging.
    pub over: Gate,
    _backend: Option<Backend>,
    _closed: Option<ClosedPort>,
}

impl Faulty {
    /// Starts the cell's backend. `new` is for one that doesn't speak the proxy's version of TLS.
    pub fn start(cell: &Cell, tls: &Arc<ServerConfig>, new: &Arc<ServerConfig>) -> Self {
        let (logged_in, over) = (Gate::new(), Gate::new());
        let closed = match (cell.phase, cell.fault) {
            (Phase::Dial | Phase::DataDial, Fault::Refuse) => Some(ClosedPort::refusing()),
            (Phase::Dial | Phase::DataDial, Fault::Hang) => Some(ClosedPort::silent()),
            _ => None,
        };
        let script =
            Script::new()
                .file(FILE, content())
                .tls(match (cell.leg, cell.phase, cell.fault) {
                    (Leg::Plain, ..) => ScriptTls::None,
                    (Leg::Tls, Phase::Handshake, Fault::Refuse) => ScriptTls::Explicit(new.clone()),
                    (Leg::Tls, ..) => ScriptTls::Explicit(tls.clone()),
                });
        let data_port = closed.as_ref().map(ClosedPort::address);
        let backend = (cell.phase != Phase::Dial).then(|| {
            let faults = steps(cell, data_port, &logged_in, &over);
            let with_fault = |script: Script, (command, steps): (&str, Vec<Step>)| match command {
                "" => script.greeting(steps),
                command => script.on(command, steps),
            };
            Backend::start(faults.into_iter().fold(script, with_fault))
        });
        let address = backend.as_ref().map(Backend::address).or(data_port);
        Self {
            address: address.expect("a port is closed where there's no backend"),
            logged_in,
            over,
            _backend: backend,
            _closed: closed,
        }
    }

    /// Where it listens, or doesn't.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What the backend does differently: at which commands, the greeting being the empty one, and what.
fn steps(
    cell: &Cell,
    data_port: Option<SocketAddr>,
    logged_in: &Gate,
    over: &Gate,
) -> Vec<(&'static str, Vec<Step>)> {
    let Cell { phase, fault, .. } = *cell;
    let orderly = match cell.leg {
        Leg::Plain => End::Fin,
        Leg::Tls => End::CloseNotify,
    };
    let fails = on_control(cell, over);
    let after = |steps: &[Step]| [steps, &fails].concat();
    let begins = reply("150 here it comes");
    match phase {
        Phase::Dial => Vec::new(),
        Phase::Greeting => vec![("", fails)],
        Phase::Auth => vec![("AUTH", fails)],
        Phase::Handshake if fault == Fault::Refuse => Vec::new(),
        Phase::Handshake => {
            let hello = [reply("234 go"), Step::AwaitCommand];
            vec![("AUTH", [&hello[..], &in_handshake(fault, over)].concat())]
        }
        Phase::User => vec![("USER", fails)],
        Phase::Pass => vec![("PASS", fails)],
        Phase::Idle if fault == Fault::Hang => vec![("NOOP", fails)],
        Phase::Idle => vec![(
            "PASS",
            after(&[Step::Default, Step::Wait(logged_in.clone())]),
        )],
        Phase::Pasv => {
            let no_port = ("PORT", vec![reply("502 no active mode")]);
            vec![("EPSV", fails.clone()), ("PASV", fails), no_port]
        }
        Phase::DataDial => match data_port {
            Some(address) => {
                let port = address.port();
                let here = vec![reply(&format!("229 here (|||{port}|)"))];
                let no_port = ("PORT", vec![reply("502 no active mode")]);
                vec![("EPSV", here.clone()), ("PASV", here), no_port]
            }
            None => vec![("RETR", at_data_dial(fault))],
        },
        Phase::DataHandshake => {
            let opened = [begins, Step::OpenClearData];
            vec![("RETR", [&opened[..], &in_data_handshake(fault)].concat())]
        }
        Phase::MidTransfer => {
            let half = content()[..content().len() / 2].to_vec();
            let begun = [begins, Step::OpenData, Step::Send(half)];
            vec![(
                "RETR",
                match fault {
                    // Until the reset, so that it hears ABOR.
                    Fault::Hang => [&begun[..], &[Step::Receive]].concat(),
                    _ => after(&begun),
                },
            )]
        }
        Phase::FinalReply => vec![(
            "RETR",
            after(&[
                begins,
                Step::OpenData,
                Step::Send(content()),
                Step::EndData(orderly),
            ]),
        )],
    }
}

/// The fault in place of a reply.
fn on_control(cell: &Cell, over: &Gate) -> Vec<Step> {
    let says = |number: u16| vec![reply(&format!("{number} {SAYS}"))];
    let (transient, permanent, no_answer) = match cell.phase {
        Phase::Greeting => (421, 530, "120 soon\r\n"),
        Phase::User | Phase::Pass => (430, 530, "150 soon\r\n"),
        Phase::Idle => (421, 500, "250 and another one\r\n"),
        Phase::Pasv => (425, 500, "150 soon\r\n"),
        Phase::MidTransfer | Phase::FinalReply => (451, 552, "150 soon\r\n"),
        _ => (431, 534, "150 soon\r\n"),
    };
    match cell.fault {
        Fault::Hang => vec![Step::Wait(over.clone())],
        Fault::Reset => vec![Step::End(End::Reset)],
        Fault::Fin => vec![Step::End(End::Fin)],
        Fault::Garbage => vec![Step::Bytes(b"2who are you?\r\n".to_vec())],
        Fault::Transient => says(transient),
        Fault::Permanent => says(permanent),
        Fault::FloodByBytes => vec![Step::Flood(vec![b'2'; 64 * 1024])],
        Fault::FloodByLines => vec![Step::Flood(b"250-on and on\r\n".repeat(4096))],
        Fault::FloodByReplies => vec![Step::Flood(no_answer.as_bytes().repeat(4096))],
        Fault::Refuse => Vec::new(),
    }
}

/// The fault in place of a ServerHello on the control connection.
fn in_handshake(fault: Fault, over: &Gate) -> Vec<Step> {
    match fault {
        Fault::Hang => vec![Step::Wait(over.clone())],
        Fault::Reset => vec![Step::End(End::Reset)],
        Fault::Fin => vec![Step::End(End::Fin)],
        Fault::FloodByBytes => vec![Step::Flood(HELLO_REQUEST.repeat(4096))],
        _ => vec![reply("500 what is TLS?")],
    }
}

/// The fault in place of a ServerHello on the data connection.
fn in_data_handshake(fault: Fault) -> Vec<Step> {
    let sends = |bytes: &[u8]| vec![Step::Send(bytes.to_vec()), Step::Receive];
    match fault {
        Fault::Hang => vec![Step::Receive],
        Fault::Reset => vec![Step::EndData(End::Reset)],
        Fault::Fin => vec![Step::EndData(End::Fin)],
        Fault::FloodByBytes => vec![Step::Pour(HELLO_REQUEST.repeat(4096))],
        Fault::Refuse => sends(HANDSHAKE_FAILURE),
        _ => sends(b"500 what is TLS?\r\n"),
    }
}

/// The fault at a data port that is there.
fn at_data_dial(fault: Fault) -> Vec<Step> {
    let ends = |end| {
        let begins = reply("150 here it comes");
        let broken = reply(&format!("426 {SAYS}"));
        vec![begins, Step::OpenClearData, Step::EndData(end), broken]
    };
    match fault {
        Fault::Reset => ends(End::Reset),
        Fault::Fin => ends(End::Fin),
        Fault::Permanent => vec![reply(&format!("550 {SAYS}"))],
        _ => vec![reply(&format!("425 {SAYS}"))],
    }
}

/// A TLS record with a message that asks for a handshake: it may come at any time, and says nothing.
const HELLO_REQUEST: &[u8] = &[22, 3, 3, 0, 4, 0, 0, 0, 0];

/// A TLS record with a fatal alert.
const HANDSHAKE_FAILURE: &[u8] = &[21, 3, 3, 0, 2, 2, 40];
