//! USER: from its argument to the site, and to the driver, which is to dial one of that site's backends, unless the site's
//! policy forbids it.

use super::context::Context;
use super::pre_login::NoBackend;
use super::{Action, Ending, Record, State};
use crate::base::secret::Secret;
use crate::ftp::answer;
use crate::ftp::command::Command;
use crate::outcome::LoginResult;
use crate::policy::Admission;
use crate::route::{Membership, Route};

/// The meaning of a USER's argument.
pub(super) enum ResolvedUser {
    /// The USER has been refused.
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
        match cx.resolve_user(command, None) {
            ResolvedUser::Refused => {}
            ResolvedUser::NoSite => cx.refuse_unknown_host(),
            ResolvedUser::Site(route) => return Dialling::begin(route, cx),
        }
        State::NoBackend(self)
    }
}

impl Context {
    /// The site that USER names; `former` is that of the login that holds, and which is not left for another.
    pub fn resolve_user(&mut self, command: Command, former: Option<&Route>) -> ResolvedUser {
        if command.argument().is_empty() {
            self.reply(answer::USER_ARGUMENT);
            return ResolvedUser::Refused;
        }
        if self.config.tls_required && !self.security.is_on() {
            self.push(Action::LoginAttempt {
                command,
                route: None,
            });
            self.push(Action::Record(Record::Login(LoginResult::ClearText)));
            self.reply(answer::POLICY_REQUIRES_TLS);
            return ResolvedUser::Refused;
        }
        let route =
            self.config
                .router
                .route(command.argument(), self.site_host(), self.security.sni());
        let leads_there = |route: &&Route| former.is_none_or(|it| route.shares_backends_with(it));
        self.push(Action::LoginAttempt {
            command,
            route: route.as_ref().filter(leads_there).cloned().map(Box::new),
        });
        match route {
            Some(route) => ResolvedUser::Site(route),
            None => {
                self.push(Action::Record(Record::Login(LoginResult::UnknownHost)));
                ResolvedUser::NoSite
            }
        }
    }

    /// The decision about the client's certificate of the site that a login leads to.
    pub fn admission(&self, route: &Route) -> Admission {
        let lapsed = self.lapsed_certificate.as_deref();
        let certificate = lapsed.or(self.security.certificate());
        match &route.site.policy.client_certificate {
            Some(rules) => rules.admit(certificate, &route.user),
            None => Admission::NotAsked,
        }
    }

    /// Whether the route's site lets the client in as far as certificates go: to be asked before each USER that a backend is
    /// sent. The driver knows of the route already.
    pub fn admit_certificate(&mut self, route: &Route) -> Result<(), Admission> {
        match self.admission(route) {
            Admission::NotAsked => Ok(()),
            admitted @ (Admission::Proven | Admission::Ignored(_)) => {
                self.push(Action::Record(Record::Certificate(admitted)));
                Ok(())
            }
            refused @ Admission::Refused(_) => Err(refused),
        }
    }

    /// The reply to a USER of a site that doesn't let the client in. It is a failed try, so that names of users are not guessed
    /// at less of a price than with a password.
    pub fn refuse_certificate(&mut self, route: &Route, refused: Admission) {
        self.push(Action::Record(Record::Certificate(refused)));
        self.push(Action::Record(Record::Login(LoginResult::NotAllowed)));
        self.push(Action::DelayAfterFailure(Some(route.site_id)));
        self.reply(answer::CERTIFICATE_REQUIRED);
    }

    /// The password by which the user is logged in, if the certificate is proof enough.
    pub fn proven_password(&self, route: &Route) -> Option<Secret> {
        let rules = route.site.policy.client_certificate.as_ref()?;
        let file = rules.credentials.as_deref()?;
        let is_refused = matches!(route.membership, Membership::Refused(_));
        if is_refused || self.admission(route) != Admission::Proven {
            return None;
        }
        self.config.credentials.password(file, &route.user)
    }

    /// The reply to a USER with an unknown host.
    pub fn refuse_unknown_host(&mut self) {
        self.push(Action::DelayAfterFailure(None));
        self.reply(answer::HOST_EXPECTED);
    }
}

impl Dialling {
    /// Makes the driver dial, if the site serves this client now.
    pub fn begin(route: Route, cx: &mut Context) -> State {
        let policy = &route.site.policy;
        if !policy.clients.admit(cx.config.client) {
            cx.push(Action::Record(Record::Login(LoginResult::NotAllowed)));
            cx.push(Action::DelayAfterFailure(Some(route.site_id)));
            cx.reply(answer::NOT_ALLOWED);
            return State::NoBackend(NoBackend);
        }
        if let Err(refused) = cx.admit_certificate(&route) {
            cx.refuse_certificate(&route, refused);
            return State::NoBackend(NoBackend);
        }
        if let Some(notice) = &policy.maintenance {
            let reply = notice.reply("421");
            cx.push(Action::Record(Record::Login(LoginResult::Maintenance)));
            cx.push(Action::Reply(reply.into()));
            return cx.close(Ending::Maintenance);
        }
        cx.push(Action::Dial);
        State::Dialling(Self { route })
    }
}
