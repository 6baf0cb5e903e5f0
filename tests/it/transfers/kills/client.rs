//! The clients: curl and lftp, whose processes are killed, and a raw one that loses its sockets as a killed process
//! does, at a byte that it knows exactly.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use testkit::clients::{Client, ClientTls, DataMode, Login, Running};
use testkit::proxy::Proxy;
use testkit::raw::{RawTls, protect};
use testkit::wire::Wire;

use super::witness::Belief;
use super::{Deployment, Plan, Victim};

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Upload,
    Download,
}

/// Which client, and how it protects its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    RawPlain,
    RawTls12,
    RawTls13,
    CurlPlain,
    CurlTls,
    LftpPlain,
    LftpTls,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::RawPlain,
        Self::RawTls12,
        Self::RawTls13,
        Self::CurlPlain,
        Self::CurlTls,
        Self::LftpPlain,
        Self::LftpTls,
    ];
}

/// Runs a transfer; `strike` kills the backend or the proxy at its moment, and tells whether anybody was there.
pub fn run(
    plan: &Plan,
    deployment: &Deployment,
    proxy: &Proxy,
    strike: impl Fn() -> bool,
) -> Belief {
    let raw = |tls| raw(plan, deployment, proxy, tls, &strike);
    let program = |client, tls| program(plan, deployment, proxy, client, tls, &strike);
    match plan.kind {
        Kind::RawPlain => raw(None),
        Kind::RawTls12 => raw(Some(deployment.front.tls_of(&TLS12))),
        Kind::RawTls13 => raw(Some(deployment.front.tls_of(&TLS13))),
        Kind::CurlPlain => program(Client::Curl, ClientTls::Clear),
        Kind::CurlTls => program(Client::Curl, ClientTls::Explicit),
        Kind::LftpPlain => program(Client::Lftp, ClientTls::Clear),
        Kind::LftpTls => program(Client::Lftp, ClientTls::Explicit),
    }
}

/// USER and PASS for the plan's site.
fn login(plan: &Plan, deployment: &Deployment) -> (String, String) {
    let (site, server) = &deployment.servers[plan.backend];
    let user = format!("{site}.test|{}", server.user());
    (user, server.password().to_owned())
}

/// A real client's process.
fn program(
    plan: &Plan,
    deployment: &Deployment,
    proxy: &Proxy,
    client: Client,
    tls: ClientTls,
    strike: &impl Fn() -> bool,
) -> Belief {
    let (user, password) = login(plan, deployment);
    let mut login = Login::new(proxy.explicit(), &user, &password)
        .data(DataMode::Epsv)
        .rate(RATE);
    if tls != ClientTls::Clear {
        login = login
            .tls(tls, &deployment.front.ca())
            .name(testkit::front::NAME);
    }
    let mut running = match plan.way {
        Way::Upload => login.start_upload(client, &plan.content, &plan.name()),
        Way::Download => login.start_download(client, &plan.name()),
    };
    let on_disk = deployment.servers[plan.backend].1.root().join(plan.name());
    let moved = |running: &Running| match plan.way {
        Way::Upload => fs::metadata(&on_disk).map_or(0, |file| file.len()),
        Way::Download => running.received(),
    };
    let mut killed_at = None;
    // More bytes than there are never come: the last ones are the moment then.
    let moment = plan.after.min(plan.content.len()) as u64;
    while plan.victim != Victim::Nobody && !running.is_over() {
        let now = moved(&running);
        if now >= moment {
            spin(plan.spins);
            let hit = match plan.victim {
                Victim::Client => running.kill(),
                _ => strike(),
            };
            killed_at = hit.then_some(now as usize);
            break;
        }
        // Not to wait for anything, only to leave the processor to the transfer.
        thread::sleep(Duration::from_millis(1));
    }
    let outcome = running.wait();
    Belief {
        complete: outcome.code == 0,
        ended_in_order: false,
        content: outcome.content,
        killed_at,
        says: outcome.text,
    }
}

/// Our own client, in this process.
fn raw(
    plan: &Plan,
    deployment: &Deployment,
    proxy: &Proxy,
    tls: Option<RawTls>,
    strike: &impl Fn() -> bool,
) -> Belief {
    let mut belief = Belief::default();
    let told = converse(plan, deployment, proxy.explicit(), tls, strike, &mut belief);
    match told {
        Ok(reply) => {
            belief.complete = reply.starts_with("226");
            belief.says = reply;
        }
        Err(error) => belief.says = error.to_string(),
    }
    belief
}

/// The final reply to the transfer, or how it ended without.
fn converse(
    plan: &Plan,
    deployment: &Deployment,
    address: SocketAddr,
    tls: Option<RawTls>,
    strike: &impl Fn() -> bool,
    belief: &mut Belief,
) -> io::Result<String> {
    let mut control = Control::connect(address)?;
    control.reply()?;
    if let Some(tls) = &tls {
        control.ask("AUTH TLS")?;
        protect(&mut control.wire, tls)?;
    }
    let (user, password) = login(plan, deployment);
    control.ask(&format!("USER {user}"))?;
    control.ask(&format!("PASS {password}"))?;
    control.ask("TYPE I")?;
    if tls.is_some() {
        control.ask("PBSZ 0")?;
        control.ask("PROT P")?;
    }
    let port = control.ask("EPSV")?;
    let port = port.split('|').nth(3).and_then(|port| port.parse().ok());
    let port: u16 = port.ok_or(io::ErrorKind::InvalidData)?;
    let socket = TcpStream::connect((address.ip(), port))?;
    let mut data = Wire::new(socket);
    control.ask(&match plan.way {
        Way::Upload => format!("STOR {}", plan.name()),
        Way::Download => format!("RETR {}", plan.name()),
    })?;
    if let Some(tls) = &tls {
        protect(&mut data, tls)?;
    }
    let mut moment = Moment {
        plan,
        strike,
        over: plan.victim == Victim::Nobody,
    };
    match plan.way {
        Way::Upload => {
            for chunk in moment.chunks() {
                if moment.has_come(chunk.start, belief) {
                    return Err(die(plan, control, data));
                }
                data.write_all(&plan.content[chunk])?;
            }
            if moment.has_come(plan.content.len(), belief) {
                return Err(die(plan, control, data));
            }
            data.finish()?;
            if moment.has_come(plan.content.len() + 1, belief) {
                return Err(die(plan, control, data));
            }
            // The proxy's end, as it comes.
            let _ = io::copy(&mut data, &mut io::sink());
        }
        Way::Download => {
            let mut buffer = vec![0; CHUNK];
            loop {
                if moment.has_come(belief.content.len(), belief) {
                    return Err(die(plan, control, data));
                }
                match data.read(&mut buffer)? {
                    0 => break,
                    count => belief.content.extend_from_slice(&buffer[..count]),
                }
            }
            belief.ended_in_order = true;
            if moment.has_come(plan.content.len() + 1, belief) {
                return Err(die(plan, control, data));
            }
        }
    }
    drop(data);
    control.reply()
}

/// When the plan's victim is to be killed.
struct Moment<'a, F> {
    plan: &'a Plan,
    strike: &'a F,
    over: bool,
}

impl<F: Fn() -> bool> Moment<'_, F> {
    /// The content in pieces, cut where the moment is.
    fn chunks(&self) -> Vec<std::ops::Range<usize>> {
        let length = self.plan.content.len();
        let mut cuts: Vec<usize> = (0..length).step_by(CHUNK).collect();
        cuts.extend([self.plan.after.min(length), length]);
        cuts.sort_unstable();
        cuts.dedup();
        cuts.windows(2).map(|ends| ends[0]..ends[1]).collect()
    }

    /// Kills the victim if its moment has come; true if it's the client.
    fn has_come(&mut self, moved: usize, belief: &mut Belief) -> bool {
        if self.over || moved < self.plan.after {
            return false;
        }
        self.over = true;
        spin(self.plan.spins);
        let client = self.plan.victim == Victim::Client;
        if client || (self.strike)() {
            belief.killed_at = Some(moved);
        }
        client
    }
}

/// What the kernel does with the sockets of a killed process, which has them in the order in which it has opened them,
/// or in another.
fn die(plan: &Plan, control: Control, data: Wire) -> io::Error {
    if plan.data_first {
        drop(data);
        drop(control);
    } else {
        drop(control);
        drop(data);
    }
    io::Error::other("killed")
}

fn spin(times: u64) {
    for _ in 0..times {
        thread::yield_now();
    }
}

/// A control connection that breaks off without failing the test.
struct Control {
    wire: Wire,
    buffer: Vec<u8>,
}

impl Control {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            wire: Wire::new(TcpStream::connect(address)?),
            buffer: Vec::new(),
        })
    }

    /// Sends a command, and gives the first reply to it, which must not be a failure.
    fn ask(&mut self, line: &str) -> io::Result<String> {
        self.wire.write_all(format!("{line}\r\n").as_bytes())?;
        let reply = self.reply()?;
        if reply.starts_with(['4', '5']) {
            return Err(io::Error::other(reply));
        }
        Ok(reply)
    }

    /// The last line of the next reply.
    fn reply(&mut self) -> io::Result<String> {
        loop {
            let line = self.line()?;
            let code = line.get(..3).unwrap_or_default();
            let last = line.as_bytes().get(3) == Some(&b' ');
            if last && code.bytes().all(|byte| byte.is_ascii_digit()) {
                return Ok(line);
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            let mut chunk = [0; 1024];
            match self.wire.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.buffer.extend_from_slice(&chunk[..count]),
            }
        }
    }
}

/// Bytes a second of the real clients, so that there is a middle to be killed in.
const RATE: u32 = 3_000_000;

/// What the raw client moves at once.
const CHUNK: usize = 16 * 1024;
