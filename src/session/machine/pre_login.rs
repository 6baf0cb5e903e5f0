//! Commands before login that Portcullis answers by itself: HOST, FEAT, settings, and everything that has to wait.
//!
//! There may be a backend already (USER was given, PASS not yet); what concerns only the client leg is the same then.

use std::net::IpAddr;

use super::{Action, Ending, Machine, State};
use crate::config::HostName;
use crate::ftp::answer::{self, Answer};
use crate::ftp::command::{Command, Verb};
use crate::ftp::features;

impl Machine {
    pub(super) fn command_before_login(&mut self, command: Command) {
        match command.verb() {
            Verb::User => self.user(command),
            Verb::Pass | Verb::Acct => self.password(command),
            Verb::Host => self.host(&command),
            Verb::Feat => {
                let list = features::before_login(self.terms.active_mode);
                self.push(Action::Reply(list.into()));
            }
            Verb::Opts => self.store_or(command, answer::WISHED, answer::OPTION_UNKNOWN),
            Verb::Clnt | Verb::Lang => {
                self.store_or(command, answer::WISHED, answer::NOT_LOGGED_IN);
            }
            Verb::Type | Verb::Stru | Verb::Mode => {
                self.store_or(command, answer::NOTED, answer::NOT_LOGGED_IN);
            }
            Verb::Noop => self.answer(answer::NOOP_OK),
            Verb::Help => self.answer(answer::HELP_TEXT),
            Verb::Abor => self.answer(answer::NOTHING_TO_ABORT),
            Verb::Quit => self.farewell(answer::GOODBYE, Ending::Quit),
            _ => {
                if !self.local_command(&command) {
                    self.answer(answer::NOT_LOGGED_IN);
                }
            }
        }
    }

    /// Commands that concern only the client leg, before login and after; false if this is none of them.
    pub(super) fn local_command(&mut self, command: &Command) -> bool {
        match command.verb() {
            Verb::Auth => self.auth(command.argument()),
            Verb::Pbsz => self.pbsz(command.argument()),
            Verb::Prot => self.prot(command.argument()),
            Verb::Ccc => self.answer(answer::CCC_REFUSED),
            Verb::Protected => self.answer(answer::OTHER_MECHANISM),
            Verb::OtherDataPort | Verb::Rein => self.answer(answer::NOT_IMPLEMENTED),
            _ => return false,
        }
        true
    }

    /// HOST (RFC 7151).
    fn host(&mut self, command: &Command) {
        let answer = match self.chosen_by_host(command.argument()) {
            Ok(host) => {
                // The last HOST counts, and the login begins anew (§3, §4).
                if !matches!(self.state, State::NoBackend) {
                    self.push(Action::HangUp);
                    self.state = State::NoBackend;
                }
                self.host = host;
                answer::HOST_ACCEPTED
            }
            Err(answer) => {
                if answer == answer::HOST_UNKNOWN {
                    // A try, as USER with a host that no site has.
                    self.push(Action::Asked(command.clone()));
                    self.push(Action::Penalise(None));
                }
                answer
            }
        };
        self.answer(answer);
    }

    /// The host that an argument of HOST chooses: `None` for a name of the proxy itself, which chooses nothing.
    fn chosen_by_host(&self, argument: &[u8]) -> Result<Option<HostName>, Answer> {
        if let Some(address) = address_literal(argument) {
            // §3.1: the server's own address is a valid name for it, any other is not.
            let own = address == self.terms.local;
            return if own {
                Ok(None)
            } else {
                Err(answer::HOST_UNKNOWN)
            };
        }
        let host = HostName::parse(argument).ok_or(answer::HOST_SYNTAX)?;
        let sni = self.security.sni();
        let site_by_sni = sni.and_then(|sni| self.terms.router.site_of(sni));
        match (self.terms.router.site_of(&host), site_by_sni) {
            // §4: after a server name that chose a site, HOST must not choose another.
            (Some(site), Some(by_sni)) if site.name != by_sni.name => Err(answer::HOST_UNKNOWN),
            (Some(_), _) => Ok(Some(host)),
            // lftp sends HOST with the name that it connected to, whatever that is; FluentFTP gives up on a refusal.
            (None, _) if sni == Some(&host) || self.terms.own_names.contains(&host) => Ok(None),
            (None, _) => Err(answer::HOST_UNKNOWN),
        }
    }

    fn store_or(&mut self, command: Command, stored: Answer, otherwise: Answer) {
        let answer = if self.settings.keep(command) {
            stored
        } else {
            otherwise
        };
        self.answer(answer);
    }
}

/// An IPv4 address, or an IPv6 address in brackets.
fn address_literal(argument: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(argument).ok()?;
    match text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(inside) => inside.parse().ok().map(IpAddr::V6),
        None => text.parse().ok().map(IpAddr::V4),
    }
}
