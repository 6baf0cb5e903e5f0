//! Leads a session through a login, and reports what decided.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;

use super::Tables;
use crate::base::text::escape;
use crate::config::{self, HostName, Listener, TlsMode, is_in_any};
use crate::ftp::command::Command;
use crate::ftp::server::{BackendProtection, PortMethods};
use crate::policy::{CertificateRules, CertificateUser, ClientIdentity, CredentialFiles, Preset};
use crate::route::{Finding, Membership, Route, Rule};
use crate::session::machine::{self, Action, Dialled, Event, Machine, SessionConfig};
use crate::snapshot::own_names;
use crate::tls::{Asked, Verifies};

/// A login to be explained.
pub(super) struct Login<'a> {
    pub user: &'a str,
    pub listener: &'a Listener,
    pub client: IpAddr,
    pub sni: Option<HostName>,
    pub host: Option<&'a str>,
}

/// The course that a login would take.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    pub version: u32,
    pub served: bool,
    pub listener: SocketAddr,
    pub tls: &'static str,
    pub client: IpAddr,
    /// The certificate that the client is shown; `None` while the one that is ordered is not there yet.
    pub certificate: Option<Certificate>,
    /// The certificate shown instead to a client that can't verify signatures by its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_for_rsa: Option<Certificate>,
    /// The certificate shown if HOST comes after AUTH and not before it, where that makes a difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_before_host: Option<Certificate>,
    /// The reply to HOST, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_reply: Option<String>,
    pub rules: Vec<AppliedRule>,
    /// The reply that refuses the login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<ChosenSite>,
}

/// The certificate that the client is shown.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Certificate {
    /// The certificate's name in log and metrics.
    pub name: String,
    pub subject: String,
    pub names: String,
    pub key: &'static str,
}

/// The finding of a rule.
#[derive(Debug, Serialize)]
pub(super) struct AppliedRule {
    pub rule: &'static str,
    pub finding: String,
    /// Whether this rule is the one that counts.
    pub decides: bool,
}

/// The site that the login leads to.
#[derive(Debug, Serialize)]
pub(super) struct ChosenSite {
    pub name: String,
    /// The group whose backends are asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The user is in no group, and has to be in one.
    pub unknown_user: bool,
    /// The user without the host.
    pub user: String,
    /// The user name that the backend gets in USER; `None` if no backend is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_user: Option<String>,
    /// The backends in the order in which they are tried.
    pub backends: Vec<String>,
    pub balance: &'static str,
    pub data: DataPorts,
    pub policies: Vec<String>,
    pub limits: Vec<String>,
}

/// The replies to the client for its data connections.
#[derive(Debug, Serialize)]
pub(super) struct DataPorts {
    /// In the reply to PASV; none for the one that the client connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    pub first_port: u16,
    pub last_port: u16,
}

impl Explanation {
    pub fn is_served(&self) -> bool {
        self.served
    }
}

/// The session's behaviour as seen from its machine.
struct Seen {
    replies: Vec<String>,
    /// The route that it dials.
    dialled: Option<Route>,
    /// The route of a login that isn't dialled.
    refused: Option<Route>,
    /// The user name that the backend gets in USER.
    sent: Option<String>,
}

impl Login<'_> {
    /// # Errors
    /// If USER or HOST can't be sent.
    pub fn explain(&self, tables: &Tables) -> Result<Explanation, String> {
        let mut machine = self.machine(tables);
        let mut host_reply = None;
        let mut accepted_host = None;
        if let Some(host) = self.host {
            let seen = lead(&mut machine, Event::Command(command("HOST", host)?));
            let reply = seen.replies.concat();
            if reply.starts_with("220") {
                // A name of the proxy itself chooses nothing.
                let host = HostName::parse(host.as_bytes());
                accepted_host = host.filter(|host| tables.router.site_of(host).is_some());
            }
            host_reply = Some(reply);
        }
        let seen = lead(&mut machine, Event::Command(command("USER", self.user)?));
        let served = seen.dialled.is_some();
        let sent = served.then(|| {
            let dialled = Event::Dialled(Some(Dialled {
                ipv6: false,
                welcome: None,
                protection: BackendProtection::Settled,
                avoid: PortMethods::NONE,
                failover_timeout: None,
            }));
            lead(&mut machine, dialled).sent.unwrap_or_default()
        });
        let route = seen.dialled.or(seen.refused);
        let asked = self.asked_before_handshake(tables);
        let certificate = self.certificate(tables, &asked, Verifies::Everything);
        let for_rsa = self.certificate(tables, &asked, Verifies::RsaAlone);
        let before_host = self.certificate(tables, &(None, None), Verifies::Everything);
        Ok(Explanation {
            version: 1,
            served: served
                && route
                    .as_ref()
                    .is_some_and(|route| !matches!(route.membership, Membership::Refused(_))),
            listener: self.listener.address,
            tls: self.listener.tls.as_str(),
            client: self.client,
            // Any other one is of no use to such a client.
            certificate_for_rsa: for_rsa
                .filter(|for_rsa| Some(for_rsa) != certificate.as_ref() && for_rsa.key == "rsa"),
            certificate_before_host: before_host
                .filter(|before_host| Some(before_host) != certificate.as_ref()),
            certificate,
            host_reply,
            rules: self.rules(tables, accepted_host.as_ref()),
            reply: (!served).then(|| seen.replies.concat()),
            site: route.map(|route| self.chosen(&route, sent, tables)),
        })
    }

    /// The hosts that HOST in front of AUTH names: that of a site, or of the proxy itself.
    fn asked_before_handshake(&self, tables: &Tables) -> (Option<HostName>, Option<HostName>) {
        let (TlsMode::Explicit, Some(host)) = (self.listener.tls, self.host) else {
            return (None, None);
        };
        let Ok(host) = command("HOST", host) else {
            return (None, None);
        };
        let mut machine = Machine::explicit(self.session_config(tables));
        lead(&mut machine, Event::Command(host));
        (machine.site_host().cloned(), machine.proxy_host().cloned())
    }

    fn certificate(
        &self,
        tables: &Tables,
        (site_host, proxy_host): &(Option<HostName>, Option<HostName>),
        verifies: Verifies,
    ) -> Option<Certificate> {
        let name = |host: &Option<HostName>| host.as_ref().map(|host| host.as_str().to_owned());
        let (site_host, proxy_host, server_name) =
            (name(site_host), name(proxy_host), name(&self.sni));
        let asked = Asked {
            site_host: site_host.as_deref(),
            server_name: server_name.as_deref(),
            proxy_host: proxy_host.as_deref(),
        };
        let schemes = verifies.schemes();
        let (source, pair) = tables.certificates.choose(&asked, &schemes, tables.now)?;
        Some(Certificate {
            name: source.name.to_string(),
            subject: pair.subject.clone(),
            names: pair.names_and_addresses(),
            key: pair.key_kind(),
        })
    }

    fn session_config(&self, tables: &Tables) -> SessionConfig {
        let shared = machine::SharedConfig {
            router: Arc::clone(&tables.router),
            announcements: Arc::clone(&tables.announcements),
            own_names: own_names(&tables.certificates),
            credentials: CredentialFiles::default(),
            // The outcome once there is a certificate.
            has_certificate: true,
        };
        let addresses = [self.client, self.listener.address.ip()];
        SessionConfig::new(&tables.settings, shared, addresses)
    }

    /// A session over TLS, greeted.
    fn machine(&self, tables: &Tables) -> Machine {
        let config = self.session_config(tables);
        let certificate = self.right_certificate(tables);
        let mut machine = match self.listener.tls {
            TlsMode::Implicit => Machine::implicit(config, self.sni.clone(), certificate),
            TlsMode::Explicit => {
                let mut machine = Machine::explicit(config);
                if let Ok(auth) = command("AUTH", "TLS") {
                    lead(&mut machine, Event::Command(auth));
                }
                let sni = self.sni.clone();
                lead(&mut machine, Event::Secured { sni, certificate });
                machine
            }
        };
        while machine.next_action().is_some() {}
        machine
    }

    /// The certificate that the site wants of this user, if it wants one: the client is taken to have it.
    fn right_certificate(&self, tables: &Tables) -> Option<Arc<ClientIdentity>> {
        let host = self.host.and_then(|host| HostName::parse(host.as_bytes()));
        let host = host.filter(|host| tables.router.site_of(host).is_some());
        let user = self.user.as_bytes();
        let route = (tables.router).route(user, host.as_ref(), self.sni.as_ref())?;
        let rules = route.site.policy.client_certificate.as_ref()?;
        Some(Arc::new(rules.right_for(&route.user)))
    }

    fn rules(&self, tables: &Tables, host: Option<&HostName>) -> Vec<AppliedRule> {
        let mut decided = false;
        let rules = Rule::ALL.map(|rule| {
            let found = (tables.router).apply(rule, self.user.as_bytes(), host, self.sni.as_ref());
            let decides = !decided && found != Finding::Absent;
            decided |= decides;
            AppliedRule {
                rule: rule.as_str(),
                finding: self.finding(rule, &found, &tables.settings, host),
                decides,
            }
        });
        rules.into()
    }

    fn finding(
        &self,
        rule: Rule,
        found: &Finding,
        settings: &config::Settings,
        host: Option<&HostName>,
    ) -> String {
        match found {
            Finding::Unknown => return "a host that no site has".to_owned(),
            Finding::Site(route) => {
                let named = route.host.as_ref();
                return match named {
                    Some(host) => format!("{host}, of site {}", route.site.name),
                    None => format!("site {}", route.site.name),
                };
            }
            Finding::Absent => {}
        }
        let forms = settings.user_forms;
        match rule {
            Rule::HostBeforeBar => "USER names no host",
            Rule::HostBeforeBackslash if !forms.host_backslash_user => "switched off",
            Rule::HostBehindAt if !forms.user_at_host => "switched off",
            Rule::HostBeforeBackslash | Rule::HostBehindAt => "no configured host in USER",
            Rule::HostCommand if self.host.is_some() && host.is_none() => "HOST names no site",
            Rule::HostCommand => "no HOST",
            Rule::ServerName if self.sni.is_some() => "no site's host",
            Rule::ServerName => "no server name",
            Rule::DefaultSite => "there is no default site",
        }
        .to_owned()
    }

    fn chosen(&self, route: &Route, sent: Option<String>, tables: &Tables) -> ChosenSite {
        let site = &route.site;
        let group = route.membership.group();
        let pool = tables.pools.of(route.site_id, group);
        let backends = match sent {
            Some(_) => pool.order(&route.user, self.client, Instant::now()),
            None => Vec::new(),
        };
        let group = group.and_then(|group| site.groups.get(group));
        ChosenSite {
            name: site.name.clone(),
            group: group.map(|group| group.name.clone()),
            unknown_user: matches!(route.membership, Membership::Refused(_)),
            user: escape(&route.user),
            sent_user: sent,
            backends: backends.iter().map(ToString::to_string).collect(),
            balance: site.balance.as_str(),
            data: self.data_ports(tables),
            policies: self.policies(route, &tables.settings),
            limits: self.limits(&tables.settings),
        }
    }

    fn data_ports(&self, tables: &Tables) -> DataPorts {
        let announced = &tables.announcements;
        let ports = &tables.settings.passive.ports;
        let local = self.listener.address.ip();
        let address = announced.address(self.client).map(IpAddr::V4);
        DataPorts {
            address: address.or((!local.is_unspecified()).then_some(local)),
            first_port: announced.port(self.client, *ports.start()),
            last_port: announced.port(self.client, *ports.end()),
        }
    }

    fn policies(&self, route: &Route, settings: &config::Settings) -> Vec<String> {
        let (site, user) = (&*route.site, route.user.as_slice());
        let policy = &site.policy;
        let mut all = vec![
            format!("session_reuse: {}", site.session_reuse.as_str()),
            format!("close_notify: {}", site.close_notify.as_str()),
            format!("passive_mode: {}", site.passive_mode.as_str()),
        ];
        if settings.tls.data_required {
            all.push("transfers without PROT P are refused".to_owned());
        }
        if !settings.active_mode {
            all.push("PORT and EPRT are switched off".to_owned());
        }
        if policy.clients != crate::policy::ClientRules::default() {
            let verdict = match policy.clients.admit(self.client) {
                true => "allowed",
                false => "not allowed",
            };
            all.push(format!("networks: {} is {verdict}", self.client));
        }
        match policy.commands.preset() {
            Some(Preset::ReadOnly) => all.push("commands: read_only".to_owned()),
            Some(Preset::UploadOnly) => all.push("commands: upload_only".to_owned()),
            None => {}
        }
        let denied: Vec<String> = policy.commands.denied().map(ToString::to_string).collect();
        if !denied.is_empty() {
            all.push(format!("commands denied: {}", denied.join(", ")));
        }
        if let Some(rules) = &policy.client_certificate {
            all.push(client_certificate(rules, user));
        }
        if policy.maintenance.is_some() {
            all.push("out of service".to_owned());
        }
        if policy.login_text.is_some() {
            all.push("a text before the login's reply".to_owned());
        }
        if let Some(rate) = policy.rates.site {
            all.push(format!("rate of the site: {rate}"));
        }
        if let Some(rate) = policy.rates.session {
            all.push(format!("rate of the session: {rate}"));
        }
        all
    }

    fn limits(&self, settings: &config::Settings) -> Vec<String> {
        let limits = &settings.limits;
        let mut all = vec![
            format!("{} sessions in all", limits.sessions),
            format!("{} at the site", limits.sessions_per_site),
        ];
        if !is_in_any(self.client, &limits.allow) {
            all.push(format!("{} of the client", limits.sessions_per_client));
            let pace = limits.sessions_per_client_per_minute;
            all.push(format!("{pace} begun by the client in a minute"));
        }
        if !is_in_any(self.client, &settings.guard.allow) {
            let failures = settings.guard.failures;
            all.push(format!("{failures} failed logins of the client"));
        }
        all
    }
}

/// The certificate that the site requires of a user.
fn client_certificate(rules: &CertificateRules, user: &[u8]) -> String {
    let folded = user.to_ascii_lowercase();
    let which = match rules.user {
        _ if rules.pinned.contains_key(folded.as_slice()) => "pinned for the user",
        CertificateUser::Cn => "with the user as its common name",
        CertificateUser::Email => "with the user among its e-mail addresses",
        CertificateUser::Dns => "with the user among its DNS names",
        CertificateUser::None => "of any user",
    };
    let need = match rules.required {
        true => "required",
        false => "optional",
    };
    let password = match rules.credentials {
        Some(_) => "; `credentials` may have the password",
        None => "",
    };
    format!("client certificate {which}: {need}{password}")
}

fn command(verb: &str, argument: &str) -> Result<Command, String> {
    let line = format!("{verb} {argument}");
    Command::parse(Bytes::from(line.into_bytes())).map_err(|error| {
        format!(
            "`{}` can't be sent as {verb}: {error}",
            escape(argument.as_bytes())
        )
    })
}

/// Makes the machine handle an event; returns the replies and routes that follow.
fn lead(machine: &mut Machine, event: Event) -> Seen {
    machine.handle(event);
    let mut seen = Seen {
        replies: Vec::new(),
        dialled: None,
        refused: None,
        sent: None,
    };
    while let Some(action) = machine.next_action() {
        match action {
            Action::Reply(reply) => {
                let reply = String::from_utf8_lossy(&reply).replace("\r\n", "\n");
                seen.replies.push(reply.trim_end().to_owned());
            }
            Action::LoginAttempt { route, .. } => seen.refused = route.map(|route| *route),
            Action::Dial => seen.dialled = seen.refused.take(),
            Action::Send(line) => {
                let user = line.trim_ascii_end().strip_prefix(b"USER ");
                seen.sent = user.map(escape).or(seen.sent);
            }
            _ => {}
        }
    }
    seen
}
