//! Routing: from the names that a login carries to a site.
//!
//! One rule decides. The names are tried in this order, and the first that is present decides:
//!
//! 1. `host|user` in USER, split at the first `|`. IIS's own form. An unknown host, and an empty one, is refused.
//! 2. `host\user`, split at the first `\`, then `user@host`, split at the last `@`: each if it is switched on, and
//!    present only if the host is a configured one, since `DOMAIN\user` and mail addresses are user names too.
//! 3. HOST (RFC 7151). An unknown host is refused; the session answered 504 and forgot it already.
//! 4. SNI, present only if it names a site: clients send the name of the proxy there.
//! 5. The default site.
//!
//! A host is looked up as it is, then with any one first label. The rest is the user, byte for byte: nothing is
//! trimmed, decoded or split again. An empty user beside a host is `anonymous`, as with IIS.
//!
//! Within the site, the first group that has the user decides whose backends are asked.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

use memchr::{memchr, memrchr};

use crate::base::SiteId;
use crate::config::{Group, HostName, HostPattern, Site, UnknownUsers, UserForms};
use crate::policy::{UserFile, UserFiles};

/// The table of one configuration: which host leads to which site.
#[derive(Debug)]
pub struct Router {
    exact: HashMap<HostName, Destination>,
    /// The destinations of wildcards, by the name behind the wildcard label.
    any_label_before: HashMap<HostName, Destination>,
    default: Option<Destination>,
    forms: UserForms,
}

/// A site that logins lead to.
#[derive(Debug, Clone)]
struct Destination {
    id: SiteId,
    site: Arc<Site>,
    /// As `site.groups`: the file that has further users of each.
    user_files: Arc<[Option<Arc<UserFile>>]>,
}

/// The destination of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The id of the site that serves it.
    pub site_id: SiteId,
    /// The site as configured.
    pub site: Arc<Site>,
    /// The group of the site's backends that serve the user.
    pub membership: Membership,
    /// The client's user, without the host: opaque bytes.
    pub user: Vec<u8>,
    /// The host as the client named it, normalised; `None` at the default site of a login that named none.
    pub host: Option<HostName>,
    /// The rule that has chosen the site.
    pub rule: Rule,
}

/// A way of naming a site. They are tried in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// `host|user` in USER.
    HostBeforeBar,
    /// `host\user` in USER, where that is switched on.
    HostBeforeBackslash,
    /// `user@host` in USER, where that is switched on.
    HostBehindAt,
    /// HOST (RFC 7151).
    HostCommand,
    /// The server name of the TLS handshake (RFC 6066 §3).
    ServerName,
    /// No name: the site for logins that name no host.
    DefaultSite,
}

impl Rule {
    /// All of them, the one that is tried first in front.
    pub const ALL: [Self; 6] = [
        Self::HostBeforeBar,
        Self::HostBeforeBackslash,
        Self::HostBehindAt,
        Self::HostCommand,
        Self::ServerName,
        Self::DefaultSite,
    ];

    /// The form in which the site was named, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HostBeforeBar => "host|user",
            Self::HostBeforeBackslash => "host\\user",
            Self::HostBehindAt => "user@host",
            Self::HostCommand => "HOST",
            Self::ServerName => "SNI",
            Self::DefaultSite => "default site",
        }
    }
}

/// The finding of a rule in a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// No host; the next rule decides.
    Absent,
    /// A host that no site has, so the login is refused.
    Unknown,
    /// The site that it leads to.
    Site(Route),
}

/// The choice of a site's backends for a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// The site's own backends: the user is in no group.
    None,
    /// The backends of the group at this place of the site's groups.
    Group(usize),
    /// No backends, since the user is in no group and has to be in one. The login is to fail as that of such a user with a wrong
    /// password would, which is a matter of this group's backends.
    Refused(usize),
}

impl Membership {
    /// The place of the group whose backends are asked; `None` for the site's own.
    pub fn group(self) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Group(group) | Self::Refused(group) => Some(group),
        }
    }
}

impl Route {
    /// Whether both lead to the same backends.
    pub fn shares_backends_with(&self, other: &Self) -> bool {
        self.site_id == other.site_id && self.membership.group() == other.membership.group()
    }

    /// The argument of USER for the backend, from the site's template.
    pub fn backend_user(&self) -> Vec<u8> {
        let named = self.host.as_ref();
        let host = named
            .or_else(|| first_exact_host(&self.site))
            .map_or("", HostName::as_str);
        self.site.user.render(&self.user, host)
    }
}

impl Router {
    /// The table of these sites. The configuration guarantees that no host and no default occurs twice; otherwise the
    /// first would apply.
    pub fn new(
        sites: impl IntoIterator<Item = (SiteId, Arc<Site>)>,
        forms: UserForms,
        user_files: &UserFiles,
    ) -> Self {
        let mut router = Self {
            exact: HashMap::new(),
            any_label_before: HashMap::new(),
            default: None,
            forms,
        };
        for (id, site) in sites {
            let files = site.groups.iter().map(|group| {
                let path = group.users_file.as_deref()?;
                user_files.get(path).map(Arc::clone)
            });
            let destination = Destination {
                id,
                user_files: files.collect(),
                site,
            };
            let site = &destination.site;
            for host in &site.hosts {
                let (table, name) = match host {
                    HostPattern::Exact(name) => (&mut router.exact, name),
                    HostPattern::AnyLabelBefore(name) => (&mut router.any_label_before, name),
                };
                table
                    .entry(name.clone())
                    .or_insert_with(|| destination.clone());
            }
            if site.default {
                router.default.get_or_insert_with(|| destination.clone());
            }
        }
        router
    }

    /// The site that has `host`.
    pub fn site_of(&self, host: &HostName) -> Option<&Arc<Site>> {
        self.destination(host).map(|destination| &destination.site)
    }

    fn destination(&self, host: &HostName) -> Option<&Destination> {
        self.exact
            .get(host)
            .or_else(|| self.any_label_before.get(&host.parent()?))
    }

    /// The route of a login: `user_argument` is all that followed `USER `, `host` what an accepted HOST named, `sni` what
    /// the TLS handshake did. `None` if the name that decides leads nowhere, or if there is none and no default site.
    pub fn route(
        &self,
        user_argument: &[u8],
        host: Option<&HostName>,
        sni: Option<&HostName>,
    ) -> Option<Route> {
        for rule in Rule::ALL {
            match self.apply(rule, user_argument, host, sni) {
                Finding::Absent => {}
                Finding::Unknown => return None,
                Finding::Site(route) => return Some(route),
            }
        }
        None
    }

    /// Applies one rule to a login; the first that finds anything decides.
    pub fn apply(
        &self,
        rule: Rule,
        user_argument: &[u8],
        host: Option<&HostName>,
        sni: Option<&HostName>,
    ) -> Finding {
        match rule {
            Rule::HostBeforeBar => match split(user_argument, memchr(b'|', user_argument)) {
                None => Finding::Absent,
                Some((name, user)) => match self.configured(name) {
                    None => Finding::Unknown,
                    Some((name, to)) => {
                        Finding::Site(route(rule, to, or_anonymous(user), Some(name)))
                    }
                },
            },
            Rule::HostBeforeBackslash if self.forms.host_backslash_user => {
                let parts = split(user_argument, memchr(b'\\', user_argument));
                self.by_user_form(rule, parts)
            }
            Rule::HostBehindAt if self.forms.user_at_host => {
                let parts = split(user_argument, memrchr(b'@', user_argument));
                self.by_user_form(rule, parts.map(|(user, name)| (name, user)))
            }
            Rule::HostBeforeBackslash | Rule::HostBehindAt => Finding::Absent,
            Rule::HostCommand => match host {
                None => Finding::Absent,
                Some(name) => match self.destination(name) {
                    None => Finding::Unknown,
                    Some(to) => Finding::Site(route(rule, to, user_argument, Some(name.clone()))),
                },
            },
            Rule::ServerName => {
                let named = sni.and_then(|name| Some((name, self.destination(name)?)));
                named.map_or(Finding::Absent, |(name, to)| {
                    Finding::Site(route(rule, to, user_argument, Some(name.clone())))
                })
            }
            Rule::DefaultSite => self.default.as_ref().map_or(Finding::Absent, |to| {
                Finding::Site(route(rule, to, user_argument, None))
            }),
        }
    }

    /// A host and a user, if the host is a configured one.
    fn by_user_form(&self, rule: Rule, parts: Option<(&[u8], &[u8])>) -> Finding {
        let found = parts.and_then(|(name, user)| Some((self.configured(name)?, user)));
        found.map_or(Finding::Absent, |((name, to), user)| {
            Finding::Site(route(rule, to, or_anonymous(user), Some(name)))
        })
    }

    fn configured(&self, name: &[u8]) -> Option<(HostName, &Destination)> {
        let name = HostName::parse(name)?;
        let site = self.destination(&name)?;
        Some((name, site))
    }
}

impl Destination {
    fn membership(&self, user: &[u8]) -> Membership {
        let groups = &self.site.groups;
        if groups.is_empty() {
            return Membership::None;
        }
        let folded = user.to_ascii_lowercase();
        let is_member = |(group, file): (&Group, &Option<Arc<UserFile>>)| {
            group.users.contains(&folded)
                || file.as_ref().is_some_and(|file| file.contains(&folded))
        };
        match groups.iter().zip(&*self.user_files).position(is_member) {
            Some(group) => Membership::Group(group),
            None if self.site.unknown_users == UnknownUsers::Accept => Membership::None,
            // The same each time, as that of a user whom there is, for as long as the process runs.
            None => Membership::Refused(place_of(&folded, groups.len())),
        }
    }
}

/// A place below `places`, chosen by a hash that can't be computed outside of the process: which users are in a group could be
/// told from where they lead.
fn place_of(user: &[u8], places: usize) -> usize {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    usize::try_from(KEYS.hash_one(user) % places as u64).unwrap_or_default()
}

fn route(rule: Rule, to: &Destination, user: &[u8], host: Option<HostName>) -> Route {
    Route {
        site_id: to.id,
        site: Arc::clone(&to.site),
        membership: to.membership(user),
        user: user.to_vec(),
        host,
        rule,
    }
}

/// The parts before and after the byte at `separator`.
fn split(argument: &[u8], separator: Option<usize>) -> Option<(&[u8], &[u8])> {
    let (before, from) = argument.split_at_checked(separator?)?;
    Some((before, from.get(1..)?))
}

fn or_anonymous(user: &[u8]) -> &[u8] {
    if user.is_empty() { b"anonymous" } else { user }
}

fn first_exact_host(site: &Site) -> Option<&HostName> {
    site.hosts.iter().find_map(|host| match host {
        HostPattern::Exact(name) => Some(name),
        HostPattern::AnyLabelBefore(_) => None,
    })
}

#[cfg(test)]
mod tests;
