//! USER: from its argument to the site, and to the driver, which is to dial one of that site's backends, unless the site's
//! policy forbids it.

use super::context::Context;
use super::pre_login::NoBackend;
use super::{Action, Ending, Record, State};
use crate::ftp::answer;
use crate::ftp::command::Command;
use crate::outcome::LoginResult;
use crate::route::Route;

/// What a USER names.
pub(super) enum ResolvedUser {
    /// Nothing: it has been refused.
    Refused,
    /// A host that no site has.
    NoSite,
    Site(Route),
}

/// The driver is on its way to the backend.
#[derive(Debug)]
pub(super) struct Dialling {
    pub route: Route,
}

impl NoBackend {
    pub fn on_user(self, command: Command, cx: &mut Context) -> State {
        match cx.resolve_user(command) {
            ResolvedUser::Refused => {}
            ResolvedUser::NoSite => cx.refuse_unknown_host(),
            ResolvedUser::Site(route) => return Dialling::begin(route, cx),
        }
        State::NoBackend(self)
    }
}

impl Context {
    /// The site that USER names, logged in or not.
    pub fn resolve_user(&mut self, command: Command) -> ResolvedUser {
        if command.argument().is_empty() {
            self.reply(answer::USER_ARGUMENT);
            return ResolvedUser::Refused;
        }
        if self.terms.tls_required && !self.security.is_on() {
            self.push(Action::LoginAttempt(command));
            self.push(Action::Record(Record::Login(LoginResult::ClearText)));
            self.reply(answer::POLICY_REQUIRES_TLS);
            return ResolvedUser::Refused;
        }
        let route =
            self.terms
                .router
                .route(command.argument(), self.host.as_ref(), self.security.sni());
        self.push(Action::LoginAttempt(command));
        match route {
            Some(route) => ResolvedUser::Site(route),
            None => {
                self.push(Action::Record(Record::Login(LoginResult::UnknownHost)));
                ResolvedUser::NoSite
            }
        }
    }

    /// The reply to a USER with an unknown host.
    pub fn refuse_unknown_host(&mut self) {
        self.push(Action::Penalise(None));
        self.reply(answer::HOST_EXPECTED);
    }
}

impl Dialling {
    /// Has the driver dial, if the site serves this client now.
    pub fn begin(route: Route, cx: &mut Context) -> State {
        let policy = &route.site.policy;
        if !policy.clients.admit(cx.terms.client) {
            let site = route.site_id;
            cx.push(Action::Route(route));
            cx.push(Action::Record(Record::Login(LoginResult::NotAllowed)));
            cx.push(Action::Penalise(Some(site)));
            cx.reply(answer::NOT_ALLOWED);
            return State::NoBackend(NoBackend);
        }
        if let Some(notice) = &policy.maintenance {
            let reply = notice.reply("421");
            cx.push(Action::Route(route));
            cx.push(Action::Record(Record::Login(LoginResult::Maintenance)));
            cx.push(Action::Reply(reply.into()));
            return cx.close(Ending::Maintenance);
        }
        cx.push(Action::Dial(route.clone()));
        State::Dialling(Self { route })
    }
}
