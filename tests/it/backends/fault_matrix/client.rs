//! Leads a session to the step where its backend fails, and looks at what client and operator learn.

use std::time::{Duration, Instant};

use testkit::content;
use testkit::proxy::LogLine;
use testkit::raw::{Raw, Reply, open_data};
use testkit::wire::{End, Wire};

use super::backend::{Faulty, SAYS};
use super::fault::{Fault, Logged, Phase, Told};
use super::{Cell, Deployment};

/// The file that every backend has.
pub const FILE: &str = "file";

/// Its content.
pub fn content() -> Vec<u8> {
    content::bytes(9, 60_000)
}

/// Plays a cell for the `round`th time.
///
/// # Panics
/// If it isn't as the table has it.
pub fn play(cell: &Cell, faulty: &Faulty, deployment: &Deployment, round: usize) {
    faulty.logged_in.shut();
    faulty.over.shut();
    let mut client = deployment.front.explicit(&deployment.proxy);
    let data = lead(cell, faulty, &mut client);
    let began = Instant::now();
    told(cell.outcome.told, client);
    let took = began.elapsed();
    assert!(took < LIMIT, "it took {took:?}");
    faulty.over.open();
    if let Some(mut data) = data {
        assert_eq!(data.read_to_end().1, End::Reset, "data");
    }
    let site = cell.site();
    // Reading every line as JSON takes longer than all the rest.
    let quoted = format!("\"site\":\"{site}\"");
    let wanted = |line: &LogLine| line.text.contains(&quoted) && is(line, cell.outcome.logged);
    deployment.proxy.wait_for_logs(round, wanted);
}

/// Gets to the step where the backend fails. Gives the data connection if the client has opened one.
fn lead(cell: &Cell, faulty: &Faulty, client: &mut Raw) -> Option<Wire> {
    let user = format!("{}.test|alice", cell.site());
    match cell.phase {
        Phase::Dial | Phase::Greeting | Phase::Auth | Phase::Handshake | Phase::User => {
            client.send(&format!("USER {user}"));
            return None;
        }
        Phase::Pass => {
            client.command(&format!("USER {user}"), 331);
            client.send("PASS secret");
            return None;
        }
        _ => client.login(&user, "secret"),
    }
    match cell.phase {
        Phase::Idle if cell.fault == Fault::Hang => client.send("NOOP"),
        Phase::Idle => faulty.logged_in.open(),
        Phase::Pasv => client.send("EPSV"),
        _ => {
            let data = open_data(client.epsv());
            client.send(&format!("RETR {FILE}"));
            return Some(data);
        }
    }
    None
}

/// Reads what the client is told, and sees the session end as it should.
fn told(told: Told, mut client: Raw) {
    let Reply { code, text } = loop {
        let reply = client.reply();
        if reply.code >= 200 {
            break reply;
        }
    };
    let (number, own) = match told {
        Told::Unavailable | Told::LoginTimeout | Told::Lost => (421, true),
        Told::Closed => (421, false),
        Told::Passed(number) => (number, false),
        Told::Own(number) => (number, true),
    };
    assert_eq!(code, number, "{text}");
    assert_eq!(!text.ends_with(SAYS), own, "{text}");
    match told {
        Told::Passed(_) | Told::Own(_) => {
            client.command("NOOP", 200);
            client.command("QUIT", 221);
        }
        Told::Unavailable => assert!(text.contains("not available"), "{text}"),
        Told::LoginTimeout => assert!(text.contains("Login took too long"), "{text}"),
        Told::Lost => assert!(text.contains("was lost"), "{text}"),
        Told::Closed => {}
    }
    assert_eq!(client.end(), (Vec::new(), End::CloseNotify));
}

fn is(line: &LogLine, logged: Logged) -> bool {
    let says = |message: &str, field: &str, value: &str| {
        line.message() == message && line.field(field).as_deref() == Some(value)
    };
    match logged {
        Logged::Dial(stage) => says("backend not available", "stage", stage),
        Logged::DialOrConnect(stage) => {
            is(line, Logged::Dial(stage)) || is(line, Logged::Dial("connect"))
        }
        Logged::Login(result) => says("login failed", "result", result),
        Logged::Loss(stage) => says("backend's control connection lost", "stage", stage),
        Logged::NoDataPort => line.message() == "backend opened no data port",
        Logged::Transfer(reason) => says("transfer not complete", "reason", reason),
        Logged::Verdict(verdict) => says("transfer not complete", "verdict", verdict),
        Logged::Ended(ending) => says("session ended", "ending", ending),
    }
}

/// How long a client may have to wait for its reply: the longest of the configured timeouts, and the ten seconds that a
/// backend has for ABOR.
const LIMIT: Duration = Duration::from_secs(20);
