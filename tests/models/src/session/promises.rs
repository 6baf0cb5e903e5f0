//! The promises: what has to hold of every action, and between events.

use std::net::SocketAddr;

use bytes::Bytes;
use portcullis::ftp::address;
use portcullis::ftp::answer;
use portcullis::ftp::command::{Command, Verb};
use portcullis::ftp::reply::{Class, Reply};
use portcullis::ftp::server::PortMethods;
use portcullis::outcome::{Direction, LoginResult};
use portcullis::route::Membership;
use portcullis::session::machine::{
    Action, BackendData, ClientData, Outcome, Protection, Record, SessionConfig, Stage, Wait,
};

use super::script::Happening;
use super::{
    Data, Login, Owed, Restart, Told, Transfer, Trial, World, is_about_prot, listened, whole_reply,
};

impl World {
    /// The machine has something done.
    pub(super) fn see(&mut self, action: Action, happening: &Happening) {
        match action {
            Action::Reply(bytes) => {
                if self.trial == Trial::OneOfSeveral {
                    self.trial = Trial::Told;
                }
                self.see_reply(&bytes, happening);
            }
            Action::StartTls => {
                assert!(!self.tls, "TLS within TLS");
                // With 234, which the driver sends.
                self.count_final_reply(b"234");
                self.private = matches!(&self.auth[..], b"SSL" | b"TLS-P");
                // RFC 4217 §4: what was said in clear text may have been said by anybody.
                self.heard.clear();
                self.owes = Owed::Tls;
            }
            Action::Record(Record::Certificate(_) | Record::CredentialsRefused(_)) => {
                panic!("no site of this world knows certificates")
            }
            Action::Dial => {
                assert!(self.may_log_in(), "dials for a login in clear text");
                let route = self.route.as_ref().expect("the site that is dialled");
                let policy = &route.site.policy;
                assert!(
                    policy.clients.admit(self.config.client),
                    "of a network that is refused"
                );
                assert_eq!(policy.maintenance, None, "out of service");
                self.backend = None;
                (self.restart, self.range) = (Restart::Nowhere, Restart::Nowhere);
                self.login = Login::Out;
                self.owes = Owed::Dial;
            }
            Action::BackendFailed(_) => assert_ne!(self.trial, Trial::Over, "the login stays"),
            Action::DialNext => {
                assert_eq!(self.trial, Trial::OneOfSeveral, "the login stays");
                self.trial = Trial::Over;
                self.backend = None;
                self.owes = Owed::Dial;
            }
            Action::CommitBackend => {
                assert_ne!(self.trial, Trial::Over, "kept twice");
                self.trial = Trial::Over;
            }
            Action::LoginAttempt { command, route } => {
                assert!(self.heard.contains(command.line()));
                self.route = route.map(|route| *route).or(self.route.take());
            }
            Action::FormerLogin(route) => self.route = Some(route),
            Action::Authenticate { command, .. } => {
                assert_eq!(self.trial, Trial::Over, "a password on trial");
                assert!(!self.is_refused());
                self.attempted = true;
                self.see_sent(&[command.line(), b"\r\n"].concat().into());
            }
            Action::AuthenticateWithDecoy { .. } => {
                assert_eq!(self.trial, Trial::Over, "a password on trial");
                assert!(self.is_refused());
                self.attempted = true;
            }
            Action::DelayAfterFailure(_) => self.attempted = true,
            Action::CloseBackend => {
                self.backend = None;
                self.login = Login::Out;
            }
            Action::Send(line) => self.see_sent(&line),
            Action::ListenForBackend => {
                assert!(self.is_logged_in());
                self.listens = true;
                self.owes = Owed::Listening;
            }
            Action::ReplaceBackendData(backend) => {
                self.see_backend_data(backend);
                assert_eq!(self.data, Data::NotReached);
                self.data = Data::Opening;
            }
            Action::Avoid(methods) => assert_ne!(methods, PortMethods::NONE),
            Action::PrepareData {
                backend,
                client,
                protection,
            } => {
                assert!(self.is_logged_in() && self.transfer.is_none());
                assert_eq!(protection == Protection::Private, self.private);
                self.see_backend_data(backend);
                if let ClientData::Active(to) = client {
                    assert_eq!(to.ip(), self.config.client, "bounced");
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
                assert!(self.private || !self.config.data_required, "in clear text");
                self.port = false;
                self.restart_begins();
                self.data = Data::Opening;
                self.transfer = Some(Transfer {
                    upload: direction == Direction::Upload,
                    ..Transfer::default()
                });
            }
            Action::CommandSent => {
                assert_eq!(self.data, Data::Flowing, "begins without its connections");
                self.running().begun = true;
            }
            Action::TransferStarted | Action::TransferSize(_) => assert!(self.running().begun),
            Action::FinishSink => self.see_proceed(happening),
            Action::ReportAcceptance => {
                let transfer = self.running();
                assert!(transfer.begun && !transfer.abor_sent && !transfer.accepted);
                transfer.acceptance_asked = true;
            }
            Action::DropData | Action::RefuseData => {
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
                assert!(self.may_log_in() && !self.is_refused());
                self.login = Login::In;
            }
            Action::Record(
                Record::Login(_)
                | Record::LoginRefused { .. }
                | Record::Refused { .. }
                | Record::Unexpected { .. }
                | Record::BackendLost(..)
                | Record::NoDataPort(_)
                | Record::FileChanged(_),
            ) => {}
            Action::Record(Record::Denied(command)) => {
                assert!(self.denies(&command));
                if command.verb().transfer().is_some() {
                    self.restart_begins();
                    self.restart_is_over();
                }
            }
            Action::Record(Record::Transfer { outcome, .. }) => {
                let transfer = self.running();
                let told = transfer.told;
                let over = transfer.nothing_to_abort && transfer.accepted;
                self.unsettled = transfer.abor_sent && !transfer.abort_told && !over;
                assert_eq!(outcome == Outcome::Complete, told == Some(Told::Complete));
                self.untold = told.is_none();
                self.restart_is_over();
                self.transfer = None;
                self.data = Data::None;
            }
            Action::Close(_) => {
                assert!(self.transfer.is_none(), "a transfer without a verdict");
                self.closed = true;
            }
        }
    }

    /// Whether the site denies this to its clients.
    fn denies(&self, command: &Command) -> bool {
        let rules = self.route.as_ref().map(|route| &route.site.policy.commands);
        rules.is_some_and(|rules| rules.deny(command.verb_text().as_bytes(), command.argument()))
    }

    /// Whether the user may not log in, whatever the backend says.
    fn is_refused(&self) -> bool {
        let membership = self.route.as_ref().map(|route| route.membership);
        matches!(membership, Some(Membership::Refused(_)))
    }

    /// The backend's data connection: never to a port of the system's services, and from where it has been told.
    fn see_backend_data(&mut self, backend: BackendData) {
        match backend {
            BackendData::Passive(announced) => assert!(announced.port >= 1024),
            BackendData::Active => assert!(std::mem::take(&mut self.listens)),
        }
    }

    /// The client hears something: whole replies, no more final ones than it sent commands, and no 2yz about a transfer
    /// that has not earned it.
    fn see_reply(&mut self, bytes: &Bytes, happening: &Happening) {
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
        if [answer::PROT_REQUIRED, answer::DATA_PORT_FIRST]
            .iter()
            .any(|ours| ours.bytes() == *bytes)
        {
            self.restart_begins();
            self.restart_is_over();
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
                // A backend that has confirmed a file doesn't have to close it.
                let closes_late = data == Data::Ended && *happening == Happening::Expired;
                assert!(
                    data == Data::Finished || closes_late,
                    "{bytes:?} for half a file"
                );
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

    /// A transfer begins that those behind a listing are for.
    fn restart_begins(&mut self) {
        self.replace_restart(Restart::Held, Restart::Somewhere);
    }

    fn replace_restart(&mut self, former: Restart, new: Restart) {
        for kept in [&mut self.restart, &mut self.range] {
            if *kept == former {
                *kept = new;
            }
        }
    }

    /// The client's REST and RANG were for a transfer that has been answered.
    fn restart_is_over(&mut self) {
        self.replace_restart(Restart::Somewhere, Restart::Stale);
    }

    /// What the backend has refused leaves what it held before.
    pub(super) fn restart_is_answered(&mut self, reply: &Reply) {
        if reply.class() == Class::Preliminary {
            return;
        }
        let kept = match self.asked_to_restart.take() {
            Some(Verb::Rest) => &mut self.restart,
            Some(_) => &mut self.range,
            None => return,
        };
        if !reply.class().is_failure() {
            *kept = Restart::Somewhere;
        }
    }

    fn see_restart(&mut self, command: &Command) {
        let forgets = [&b"REST 0"[..], b"RANG 1 0"].contains(&command.line());
        assert!(
            forgets || ![self.restart, self.range].contains(&Restart::Stale),
            "{command:?} while an offset or a range is left over"
        );
        self.asked_to_restart = None;
        match command.verb() {
            Verb::Rest if forgets => self.restart = Restart::Nowhere,
            Verb::Rang if forgets => self.range = Restart::Nowhere,
            verb @ (Verb::Rest | Verb::Rang) => self.asked_to_restart = Some(verb),
            // Servers keep both across a listing.
            verb if verb.transfer() == Some(Direction::Listing) => {
                self.replace_restart(Restart::Somewhere, Restart::Held);
            }
            verb if verb.transfer().is_some() => {
                (self.restart, self.range) = (Restart::Nowhere, Restart::Nowhere);
            }
            _ => {}
        }
    }

    /// The backend is told something: one line, the client's own or one of ours, and before the login nothing but what
    /// leads there.
    fn see_sent(&mut self, bytes: &Bytes) {
        assert!(self.may_log_in(), "{bytes:?} was said in clear text");
        let line = bytes.strip_suffix(b"\r\n").expect("a line");
        assert!(!line.iter().any(|byte| b"\r\n\0".contains(byte)));
        let command = Command::parse(Bytes::copy_from_slice(line)).expect("a command");
        assert!(!self.denies(&command), "{bytes:?} is denied");
        self.see_restart(&command);
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
                let ours = self.is_logged_in()
                    && ([&b"EPSV"[..], b"PASV", b"NOOP", b"REST 0", b"RANG 1 0"].contains(&line)
                        || self.listens && names_listener(&command, &self.config));
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
            assert!(proven || !client_gone);
        } else {
            assert!(
                transfer.backend_completed,
                "the end before the backend's 2yz"
            );
        }
        self.data = Data::Ending;
    }

    /// What holds between events.
    pub(super) fn settle(&mut self) {
        let untold = std::mem::take(&mut self.untold);
        let unsettled = std::mem::take(&mut self.unsettled);
        if self.closed {
            assert!(!self.machine.wants_command());
            return;
        }
        assert!(
            !unsettled,
            "the backend may send an aborted file with the next"
        );
        assert!(
            !untold,
            "the client waits for its transfer's reply for ever"
        );
        assert_ne!(
            self.trial,
            Trial::Told,
            "the client hears of a backend that may be replaced"
        );
        let transferring = self.machine.stage() == Stage::Transfer;
        assert_eq!(transferring, self.transfer.is_some());
        if self.machine.wants_command() && self.transfer.is_none() {
            assert_eq!(self.unanswered, 0, "a command without a reply");
        }
        if self.machine.wait() == Wait::Data {
            assert!(
                matches!(self.owes, Owed::Port(_))
                    || matches!(
                        self.data,
                        Data::Opening | Data::Halved | Data::Flowing | Data::Ending
                    )
                    || self.owes == Owed::Listening,
                "waits for data connections that are {:?}",
                self.data
            );
        }
    }
}

/// Whether this is PORT or EPRT with the address where the driver listens.
fn names_listener(command: &Command, config: &SessionConfig) -> bool {
    let named = match command.verb() {
        Verb::Port => address::parse_port(command.argument()).map(SocketAddr::from),
        Verb::Eprt => address::parse_eprt(command.argument()).ok(),
        _ => None,
    };
    named == Some(listened(config))
}
