//! Commands before login that Portcullis answers by itself: HOST, FEAT, settings, and everything that has to wait.
//!
//! There may be a backend already (USER was given, PASS not yet): see `login`. Commands that concern only the client leg
//! are the same then, and after the login as well.

use std::net::IpAddr;

use super::context::Context;
use super::{Action, Ending, State, security};
use crate::config::HostName;
use crate::ftp::answer::{self, Answer};
use crate::ftp::command::{Command, Verb};
use crate::ftp::features;

/// The choice that HOST makes.
#[derive(Debug, PartialEq, Eq)]
enum Chosen {
    /// The site that has this host.
    Site(HostName),
    /// No site: HOST names the proxy itself, by an address or by this name.
    Proxy(Option<HostName>),
}

/// A session without a backend.
#[derive(Debug)]
pub(super) struct NoBackend;

impl NoBackend {
    pub fn on_command(self, command: Command, cx: &mut Context) -> State {
        cx.restart_clock();
        match command.verb() {
            Verb::User => return self.on_user(command, cx),
            Verb::Auth => {
                return security::on_auth(State::NoBackend(self), command.argument(), cx);
            }
            Verb::Quit => return cx.close_with_reply(answer::GOODBYE, Ending::Quit),
            Verb::Rein => return cx.reinitialise(),
            Verb::Pass | Verb::Acct => cx.reply(answer::USER_FIRST),
            Verb::Host => {
                let answer = cx.choose_host(&command);
                cx.reply(answer.err().unwrap_or(answer::HOST_ACCEPTED));
            }
            _ => cx.answer_before_login(command),
        }
        State::NoBackend(self)
    }
}

impl Context {
    /// Answers a command before the login that changes no state.
    pub fn answer_before_login(&mut self, command: Command) {
        match command.verb() {
            Verb::Feat => {
                let list = features::before_login(self.config.active_mode);
                self.push(Action::Reply(list.into()));
            }
            Verb::Opts => self.defer_or(command, answer::WISHED, answer::OPTION_UNKNOWN),
            Verb::Clnt | Verb::Lang => {
                self.defer_or(command, answer::WISHED, answer::NOT_LOGGED_IN);
            }
            Verb::Type | Verb::Stru | Verb::Mode => {
                self.defer_or(command, answer::NOTED, answer::NOT_LOGGED_IN);
            }
            Verb::Noop => self.reply(answer::NOOP_OK),
            Verb::Help => self.reply(answer::HELP_TEXT),
            Verb::Abor => self.reply(answer::NOTHING_TO_ABORT),
            _ => {
                if !self.answers_for_client_leg(&command) {
                    self.reply(answer::NOT_LOGGED_IN);
                }
            }
        }
    }

    /// Answers a command that concerns only the client leg, before login and after; false if this is none of them. AUTH
    /// changes the state, and is not among them.
    pub fn answers_for_client_leg(&mut self, command: &Command) -> bool {
        let answer = match command.verb() {
            Verb::Pbsz => self.security.pbsz(command.argument()),
            Verb::Prot => {
                let data_required = self.config.data_required;
                self.security.prot(command.argument(), data_required)
            }
            Verb::Ccc => answer::CCC_REFUSED,
            Verb::Protected => answer::OTHER_MECHANISM,
            Verb::OtherDataPort => answer::NOT_IMPLEMENTED,
            _ => return false,
        };
        self.reply(answer);
        true
    }

    /// REIN (RFC 959 §4.1.1): back to before USER and HOST (RFC 7151 §3.1), under the same TLS and so for the site of its
    /// certificate.
    pub fn reinitialise(&mut self) -> State {
        self.host = None;
        self.proxy_host = None;
        self.settings.clear();
        self.only_epsv = false;
        self.reply(answer::REINITIALISED);
        State::NoBackend(NoBackend)
    }

    /// HOST (RFC 7151): the last one counts. Returns the answer to one that does not.
    pub fn choose_host(&mut self, command: &Command) -> Result<(), Answer> {
        let chosen = self.chosen_by_host(command.argument());
        if chosen == Err(answer::HOST_UNKNOWN) {
            // A try, as USER with a host that no site has.
            self.push(Action::LoginAttempt {
                command: command.clone(),
                route: None,
            });
            self.push(Action::DelayAfterFailure(None));
        }
        (self.host, self.proxy_host) = match chosen? {
            Chosen::Site(host) => (Some(host), None),
            Chosen::Proxy(host) => (None, host),
        };
        Ok(())
    }

    /// The choice that an argument of HOST makes.
    fn chosen_by_host(&self, argument: &[u8]) -> Result<Chosen, Answer> {
        if let Some(address) = address_literal(argument) {
            // §3.1: the server's own address is a valid name for it, any other is not.
            let own = address == self.config.local;
            return if own {
                Ok(Chosen::Proxy(None))
            } else {
                Err(answer::HOST_UNKNOWN)
            };
        }
        let host = HostName::parse(argument).ok_or(answer::HOST_SYNTAX)?;
        let router = &self.config.router;
        match router.site_of(&host) {
            // §4: once the handshake has been for a site, HOST must not choose another. The client compares the certificate that it
            // was shown with the HOST.
            Some(site) => {
                let named = [self.security.sni(), self.security.named_before()];
                let sites = named.into_iter().flatten();
                let mut sites = sites.filter_map(|named| router.site_of(named));
                if sites.any(|named| named.name != site.name) {
                    return Err(answer::HOST_UNKNOWN);
                }
                Ok(Chosen::Site(host))
            }
            // lftp sends HOST with the name that it connected to, whatever that is; FluentFTP gives up on a refusal.
            None if self.security.sni() == Some(&host) || self.config.own_names.cover(&host) => {
                Ok(Chosen::Proxy(Some(host)))
            }
            None => Err(answer::HOST_UNKNOWN),
        }
    }

    fn defer_or(&mut self, command: Command, deferred: Answer, otherwise: Answer) {
        let answer = if self.settings.keep(command) {
            deferred
        } else {
            otherwise
        };
        self.reply(answer);
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
