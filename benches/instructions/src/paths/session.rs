//! Dialogues, led through the state machine as its driver does.

use std::hint::black_box;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use portcullis::base::SiteId;
use portcullis::config::{Timeouts, UserForms};
use portcullis::ftp::command::Command;
use portcullis::ftp::reply::Reply;
use portcullis::ftp::server::{BackendProtection, PortMethods};
use portcullis::policy::{CredentialFiles, UserFiles};
use portcullis::route::Router;
use portcullis::session::machine::{
    DataEvent, Dialled, Event, Machine, PreparedPort, SessionConfig, Stage,
};

use super::protocol::{read, site};
use crate::valgrind::counted_from_here;

/// From the greeting to 230.
pub fn login(rounds: u32) -> io::Result<()> {
    let login = Login::new();
    let config = session_config();
    counted_from_here(rounds, &mut || {
        black_box(login.play(&config));
    });
    Ok(())
}

/// A command to the backend and its reply back.
pub fn forwarded_command(rounds: u32) -> io::Result<()> {
    let mut machine = Login::new().play(&session_config());
    let (pwd, answer) = (command("PWD"), read("257 \"/\" is the current directory."));
    counted_from_here(rounds, &mut || {
        tell(&mut machine, Event::Command(pwd.clone()));
        tell(&mut machine, Event::Reply(answer.clone()));
    });
    Ok(())
}

/// EPSV and RETR, to the 226.
pub fn transfer(rounds: u32) -> io::Result<()> {
    let mut machine = Login::new().play(&session_config());
    let (epsv, retr) = (command("EPSV"), command("RETR outgoing/report.pdf"));
    let port = read("229 Entering Extended Passive Mode (|||50000|)");
    let (begun, done) = (read("150 Here it comes."), read("226 Transfer complete."));
    counted_from_here(rounds, &mut || {
        for event in [
            Event::Command(epsv.clone()),
            Event::Reply(port.clone()),
            Event::Prepared(PreparedPort::Passive(50000)),
            Event::Command(retr.clone()),
            Event::Data(DataEvent::BackendOpen),
            Event::Reply(begun.clone()),
            Event::Data(DataEvent::SourceEnded { proven: true }),
            Event::Reply(done.clone()),
            Event::Data(DataEvent::Finished),
        ] {
            tell(&mut machine, event);
        }
    });
    assert!(machine.wants_command() && machine.stage() == Stage::Command);
    Ok(())
}

struct Login {
    user: Command,
    pass: Command,
    password: Reply,
    welcome: Reply,
}

impl Login {
    fn new() -> Self {
        Self {
            user: command("USER site0.example.com|alice"),
            pass: command("PASS correct horse"),
            password: read("331 Please specify the password."),
            welcome: read("230 Login successful."),
        }
    }

    fn play(&self, config: &SessionConfig) -> Machine {
        let mut machine = Machine::implicit(config.clone(), None, None);
        do_everything(&mut machine);
        for event in [
            Event::Command(self.user.clone()),
            Event::Dialled(Some(Dialled {
                ipv6: false,
                welcome: None,
                protection: BackendProtection::Settled,
                avoid: PortMethods::NONE,
                failover_timeout: None,
            })),
            Event::Reply(self.password.clone()),
            Event::Command(self.pass.clone()),
            Event::Reply(self.welcome.clone()),
        ] {
            tell(&mut machine, event);
        }
        machine
    }
}

fn tell(machine: &mut Machine, event: Event) {
    machine.handle(event);
    do_everything(machine);
    black_box(machine.wants_command());
}

fn do_everything(machine: &mut Machine) {
    while let Some(action) = machine.next_action() {
        black_box(action);
    }
}

fn command(line: &str) -> Command {
    Command::parse(Bytes::copy_from_slice(line.as_bytes())).expect("a command")
}

fn session_config() -> SessionConfig {
    SessionConfig {
        greeting: "hello".into(),
        router: Arc::new(Router::new(
            [(SiteId(0), site(0, "{user}"))],
            UserForms::default(),
            &UserFiles::default(),
        )),
        has_certificate: true,
        tls_required: true,
        data_required: false,
        active_mode: true,
        client: Ipv4Addr::new(192, 0, 2, 7).into(),
        local: Ipv4Addr::new(192, 0, 2, 1).into(),
        announcements: Arc::default(),
        own_names: Arc::default(),
        timeouts: Timeouts::default(),
        credentials: CredentialFiles::default(),
    }
}
