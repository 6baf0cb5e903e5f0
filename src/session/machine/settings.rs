//! Settings that a client makes before a backend is known: OPTS, CLNT, LANG, TYPE, STRU, MODE.
//!
//! Many clients send some of these before USER (lftp, basic-ftp, Windows' ftp.exe). They are accepted at once and
//! replayed to the backend later: those that may matter to the login (the encoding of names, the language of replies)
//! before USER, the others, and those refused before USER, after it: vsftpd knows no CLNT before login, Pure-FTPd no
//! OPTS.

use std::collections::VecDeque;

use super::ready::is_denied;
use crate::ftp::command::{Command, Verb};
use crate::policy::CommandRules;

/// Settings in the order in which they were first made; a later one replaces an earlier of its kind.
#[derive(Debug, Default)]
pub(super) struct DeferredSettings(Vec<Command>);

/// Settings on their way to the backend, one at a time.
#[derive(Debug, Default)]
pub(super) struct Replay(VecDeque<Command>);

impl DeferredSettings {
    /// Keeps a setting; false if it is none that can be kept.
    pub fn keep(&mut self, command: Command) -> bool {
        let Some(kind) = kind(&command) else {
            return false;
        };
        match self
            .0
            .iter_mut()
            .find(|kept| self::kind(kept) == Some(kind))
        {
            Some(kept) => *kept = command,
            None => self.0.push(command),
        }
        true
    }

    /// Forgets everything, as AUTH demands (RFC 4217 §4).
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The settings that matter to the login, replayed to the backend before USER, but for those that the site denies.
    pub fn before_user(&self, rules: &CommandRules) -> Replay {
        Replay(
            self.allowed(rules)
                .filter(|command| matters_to_login(command))
                .cloned()
                .collect(),
        )
    }

    /// The settings to replay to the backend after login: everything that it has not `accepted` before, including what it refused
    /// and what was set since.
    pub fn after_login(&self, accepted: &[Command], rules: &CommandRules) -> Replay {
        Replay(
            self.allowed(rules)
                .filter(|command| !accepted.contains(command))
                .cloned()
                .collect(),
        )
    }

    fn allowed(&self, rules: &CommandRules) -> impl Iterator<Item = &Command> {
        self.0
            .iter()
            .filter(move |command| !is_denied(rules, command))
    }
}

impl Replay {
    /// The next setting to send.
    pub fn next(&mut self) -> Option<Command> {
        self.0.pop_front()
    }
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum SettingKind {
    Utf8,
    Mlst,
    Parameter(Verb),
}

fn kind(command: &Command) -> Option<SettingKind> {
    let argument = command.argument();
    let first_word = argument
        .split(|byte| *byte == b' ')
        .next()
        .unwrap_or_default();
    match command.verb() {
        Verb::Opts
            if first_word.eq_ignore_ascii_case(b"UTF8")
                || first_word.eq_ignore_ascii_case(b"UTF-8") =>
        {
            Some(SettingKind::Utf8)
        }
        Verb::Opts if first_word.eq_ignore_ascii_case(b"MLST") => Some(SettingKind::Mlst),
        verb @ (Verb::Clnt | Verb::Lang) => Some(SettingKind::Parameter(verb)),
        verb @ Verb::Type if is_type(argument) => Some(SettingKind::Parameter(verb)),
        verb @ Verb::Stru if argument.eq_ignore_ascii_case(b"F") => {
            Some(SettingKind::Parameter(verb))
        }
        verb @ Verb::Mode if argument.eq_ignore_ascii_case(b"S") => {
            Some(SettingKind::Parameter(verb))
        }
        _ => None,
    }
}

/// Whether RFC 959 §5.3.2 knows this type. A wrong one must not be accepted before a backend can check it.
fn is_type(argument: &[u8]) -> bool {
    let upper = argument.to_ascii_uppercase();
    match upper.as_slice() {
        b"I" | b"A" | b"E" | b"A N" | b"A T" | b"A C" | b"E N" | b"E T" | b"E C" => true,
        local => local
            .strip_prefix(b"L ")
            .is_some_and(|size| !size.is_empty() && size.iter().all(|byte| byte.is_ascii_digit())),
    }
}

fn matters_to_login(command: &Command) -> bool {
    matches!(
        kind(command),
        Some(SettingKind::Utf8 | SettingKind::Parameter(Verb::Clnt | Verb::Lang))
    )
}
