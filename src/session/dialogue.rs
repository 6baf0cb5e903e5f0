//! The dialogue of both legs in the log, line by line: at level debug, and for the clients of one network at any level.
//!
//! Passwords are not in it: the argument of PASS and ACCT and of what might be one of them misspelt, and what the replies to them
//! repeat of it.

use std::net::IpAddr;

use arc_swap::ArcSwapOption;
use ipnet::IpNet;
use tracing::Level;

use super::Session;
use super::machine::Stage;
use crate::base::secret::Secret;
use crate::base::text::escape;
use crate::config::is_in_any;
use crate::ftp::command::{Command, Verb};
use crate::ftp::shown::{HIDDEN, MAX_LINES, Repeats};
use crate::outcome::Leg;

/// The name by which directives of the log's filter refer to the dialogue.
const TARGET: &str = "portcullis::dialogue";

/// The clients whose dialogue is logged whatever the log's level is.
#[derive(Debug, Default)]
pub struct ShownDialogue(ArcSwapOption<IpNet>);

impl ShownDialogue {
    /// From now on logs the dialogue of this network's clients, or of none.
    pub fn show(&self, network: Option<IpNet>) {
        self.0.store(network.map(Into::into));
    }

    fn is_of(&self, client: IpAddr) -> bool {
        let network = self.0.load();
        network
            .as_deref()
            .is_some_and(|network| is_in_any(client, std::slice::from_ref(network)))
    }
}

/// The direction of a line.
#[derive(Debug, Clone, Copy)]
enum Way {
    From,
    To,
}

impl Session {
    /// The client has sent a command.
    pub(super) fn show_command(&mut self, command: &Command) {
        if !self.shows_dialogue() {
            return;
        }
        let shown = shown(command, self.is_logged_in());
        // It may be answered here, with nothing sent to the backend.
        self.repeats = repeats(command, shown);
        self.show(Leg::Client, Way::From, &text(command, shown));
    }

    /// The backend is sent a line.
    pub(super) fn show_sent(&mut self, line: &[u8]) {
        self.repeats = Repeats::Unknown;
        // The log has a word about a refused login whether the dialogue is shown or not.
        if !self.shows_dialogue() && self.machine.stage() != Stage::Login {
            return;
        }
        let line = line.trim_ascii_end().to_vec();
        // None but a command is ever sent.
        let Ok(command) = Command::parse(line.into()) else {
            return;
        };
        let shown = shown(&command, self.is_logged_in());
        self.repeats = repeats(&command, shown);
        if self.shows_dialogue() {
            self.show(Leg::Backend, Way::To, &text(&command, shown));
        }
    }

    /// The client is sent a reply.
    pub(super) fn show_reply(&self, reply: &[u8]) {
        self.show_lines(Leg::Client, Way::To, reply);
    }

    /// The backend has sent one.
    pub(super) fn show_received(&self, reply: &[u8]) {
        self.show_lines(Leg::Backend, Way::From, reply);
    }

    fn show_lines(&self, leg: Leg, way: Way, reply: &[u8]) {
        if !self.shows_dialogue() {
            return;
        }
        for line in reply
            .trim_ascii_end()
            .split(|byte| *byte == b'\n')
            .take(MAX_LINES)
        {
            self.show(leg, way, &self.repeats.line(line.trim_ascii_end()));
        }
    }

    /// Whether no login is under way, and one has succeeded.
    fn is_logged_in(&self) -> bool {
        self.info.is_logged_in() && self.machine.stage() != Stage::Login
    }

    fn shows_dialogue(&self) -> bool {
        tracing::enabled!(target: TARGET, Level::DEBUG)
            || self.shared.dialogue.is_of(self.info.client.ip())
    }

    fn show(&self, leg: Leg, way: Way, line: &str) {
        let (session, client, leg) = (self.info.id.0, self.info.client, leg.as_str());
        let way = match way {
            Way::From => "from",
            Way::To => "to",
        };
        if self.shared.dialogue.is_of(client.ip()) {
            tracing::info!(target: TARGET, session, %client, line, "{way} {leg}");
        } else {
            tracing::debug!(target: TARGET, session, %client, line, "{way} {leg}");
        }
    }
}

/// The part of an argument that may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Argument<'a> {
    Shown(&'a [u8]),
    Secret,
}

fn shown(command: &Command, is_logged_in: bool) -> Argument<'_> {
    match command.verb() {
        Verb::Pass | Verb::Acct | Verb::Protected => Argument::Secret,
        // A slip in PASS.
        Verb::Other if !is_logged_in => Argument::Secret,
        _ => Argument::Shown(command.shown_argument()),
    }
}

/// What the reply to this command may repeat of it.
fn repeats(command: &Command, shown: Argument<'_>) -> Repeats {
    match (command.verb(), shown) {
        (Verb::Pass | Verb::Acct, _) => Repeats::Secret(Secret::new(command.argument().to_vec())),
        (_, Argument::Shown(argument)) if argument == command.argument() => Repeats::Nothing,
        _ => Repeats::Unknown,
    }
}

fn text(command: &Command, argument: Argument<'_>) -> String {
    let verb = command.verb_text();
    match argument {
        // A password that stands alone in its line.
        Argument::Secret if command.verb() == Verb::Other => HIDDEN.to_owned(),
        Argument::Secret if command.argument().is_empty() => verb.to_owned(),
        Argument::Secret => format!("{verb} {HIDDEN}"),
        Argument::Shown(b"") => verb.to_owned(),
        Argument::Shown(argument) => format!("{verb} {}", escape(argument)),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_dialogue_of_one_network_is_shown_until_it_is_switched_off() {
        let dialogue = ShownDialogue::default();
        let [inside, outside]: [IpAddr; 2] =
            ["192.0.2.7", "198.51.100.7"].map(|it| it.parse().expect("an address"));
        assert!(!dialogue.is_of(inside));
        dialogue.show(Some("192.0.2.0/24".parse().expect("a network")));
        assert!(dialogue.is_of(inside) && !dialogue.is_of(outside));
        dialogue.show(None);
        assert!(!dialogue.is_of(inside));
    }

    #[test]
    fn no_password_is_shown() {
        let line = |line: &str, is_logged_in| {
            let line = Bytes::copy_from_slice(line.as_bytes());
            let command = Command::parse(line).expect("a command");
            text(&command, shown(&command, is_logged_in))
        };
        for (sent, before, after) in [
            ("PASS secret", "PASS ***", "PASS ***"),
            ("acct secret", "acct ***", "acct ***"),
            ("PASS", "PASS", "PASS"),
            ("XPASS secret", "***", "XPASS secret"),
            ("hunter2", "***", "hunter2"),
            ("ADAT secret", "ADAT ***", "ADAT ***"),
            ("USER alice", "USER alice", "USER alice"),
            ("SITE PSWD a b", "SITE PSWD", "SITE PSWD"),
            ("CWD a\u{1b}b", "CWD a\\x1bb", "CWD a\\x1bb"),
        ] {
            assert_eq!(line(sent, false), before);
            assert_eq!(line(sent, true), after);
        }
    }
}
