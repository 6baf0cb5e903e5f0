//! Commands before login that Portcullis answers by itself: TLS, HOST, FEAT, settings, and everything that has to wait.
//!
//! There may be a backend already (USER was given, PASS not yet); what concerns only the client leg is the same then.

use std::net::IpAddr;

use super::{Action, Ending, Machine, Protection, Security, State};
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
            Verb::Opts => self.store_or(command, answer::OPTION_UNKNOWN),
            Verb::Clnt | Verb::Lang | Verb::Type | Verb::Stru | Verb::Mode => {
                self.store_or(command, answer::NOT_LOGGED_IN);
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

    /// AUTH (RFC 2228 §3, RFC 4217 §4).
    fn auth(&mut self, argument: &[u8]) {
        if self.is_secured() {
            return self.answer(answer::ALREADY_SECURE);
        }
        let protection = match argument.trim_ascii().to_ascii_uppercase().as_slice() {
            b"" => return self.answer(answer::AUTH_ARGUMENT),
            b"TLS" | b"TLS-C" => Protection::Clear,
            // In the drafts before RFC 4217, which IIS and ProFTPD still follow, these imply PROT P.
            b"SSL" | b"TLS-P" => Protection::Private,
            _ => return self.answer(answer::AUTH_UNKNOWN),
        };
        if !self.queue.is_empty() {
            // They came in clear text, behind AUTH, while a transfer ran: the same trap as in the driver's buffer.
            return self.farewell(answer::BYTES_BEHIND_AUTH, Ending::Abuse);
        }
        // What was said in clear text may have been said by anybody, so it's forgotten (RFC 4217 §4), but for HOST,
        // which RFC 7151 §3.2.2 shows in front of AUTH.
        if !matches!(self.state, State::NoBackend) {
            self.push(Action::DropData);
            self.push(Action::HangUp);
            self.state = State::NoBackend;
        }
        self.stored.clear();
        self.only_epsv = false;
        self.security = Security::Upgrading(protection);
        self.push(Action::StartTls);
    }

    pub(super) fn on_secured(&mut self, sni: Option<HostName>) {
        if let Security::Upgrading(protection) = self.security {
            self.security = Security::Secured {
                sni,
                pbsz: false,
                protection,
            };
        }
    }

    fn pbsz(&mut self, argument: &[u8]) {
        let number = std::str::from_utf8(argument.trim_ascii())
            .ok()
            // `parse` alone would take a sign as well.
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse::<u32>().ok());
        let answer = match (&mut self.security, number) {
            (Security::Clear | Security::Upgrading(_), _) => answer::NEEDS_AUTH,
            (Security::Secured { .. }, None) => answer::PBSZ_ARGUMENT,
            (Security::Secured { pbsz, .. }, Some(_)) => {
                *pbsz = true;
                answer::PBSZ_ACCEPTED
            }
        };
        self.answer(answer);
    }

    fn prot(&mut self, argument: &[u8]) {
        let Security::Secured {
            pbsz, protection, ..
        } = &mut self.security
        else {
            return self.answer(answer::NEEDS_AUTH);
        };
        let answer = if !*pbsz {
            answer::NEEDS_PBSZ
        } else {
            match argument.trim_ascii().to_ascii_uppercase().as_slice() {
                b"P" => {
                    *protection = Protection::Private;
                    answer::PROT_PRIVATE
                }
                b"C" if self.terms.data_required => answer::PROT_CLEAR_REFUSED,
                b"C" => {
                    *protection = Protection::Clear;
                    answer::PROT_CLEAR
                }
                b"S" | b"E" => answer::PROT_UNSUPPORTED,
                _ => answer::PROT_UNKNOWN,
            }
        };
        self.answer(answer);
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
            Err(answer) => answer,
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
        let sni = match &self.security {
            Security::Secured { sni, .. } => sni.as_ref(),
            Security::Clear | Security::Upgrading(_) => None,
        };
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

    fn store_or(&mut self, command: Command, otherwise: Answer) {
        let answer = if self.stored.keep(command) {
            answer::NOTED
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
