//! A session's identity: what its decisions, its records and listings of live sessions ask for.
//!
//! A [`SessionInfo`] is shared by the session's task, which alone writes it, and by the [registry](super::registry). Changes
//! are written when a login, a backend or the state changes, and none as bytes move.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::machine::{Machine, Stage, Wait};
use crate::backend::BackendConnection;
use crate::base::address::canonical;
use crate::base::text::{escape, shown_part};
use crate::base::{GlobalSessionId, InstanceId, SessionId};
use crate::config::{HostName, NO_SITE, Site, TlsVersion};
use crate::ftp::command::Command;
use crate::outcome::Direction;
use crate::policy::ClientIdentity;
use crate::route::{Membership, Route, Rule};
use crate::tls::LoginId;

/// Identity and progress of a session.
#[derive(Debug)]
pub struct SessionInfo {
    /// The session's number.
    pub id: SessionId,
    /// The process that it is one of.
    instance: InstanceId,
    /// The client's address, in canonical form.
    pub client: SocketAddr,
    /// The configured address of the listener.
    pub listener: SocketAddr,
    /// When the session began.
    pub since: Instant,
    state: AtomicU8,
    /// The number of the client's commands that were refused here, apart from those that the site denies.
    refused_commands: AtomicU32,
    current: Mutex<Current>,
}

/// The details that change in the course of a session.
#[derive(Debug, Default)]
struct Current {
    client_tls: Option<TlsVersion>,
    /// The certificate that the client has shown.
    certificate: Option<Arc<ClientIdentity>>,
    /// The argument of the last USER, as much of it as is ever shown: all that is known of a login without a site.
    user_argument: Box<[u8]>,
    login: Option<Login>,
    backend: Option<BackendInfo>,
    logged_in: bool,
    /// In a box: most sessions have none.
    transfer: Option<Box<CurrentTransfer>>,
}

impl Current {
    /// The user without the host if the login leads to a site, and else all of USER's argument.
    fn user(&self) -> &[u8] {
        let login = self.login.as_ref();
        login.map_or(&self.user_argument, |login| &login.user)
    }
}

/// The transfer that a session runs.
#[derive(Debug, Clone)]
pub struct CurrentTransfer {
    /// The verb of its command.
    pub command: String,
    /// The command's argument, as much of it as is ever shown.
    pub argument: Box<[u8]>,
    /// The direction in which the bytes flow.
    pub direction: Direction,
    /// When the command came.
    pub since: Instant,
    /// How many bytes have gone from the source to the sink.
    pub moved: Arc<AtomicU64>,
    /// The bytes that the transfer is to have, where the backend has announced it.
    pub size: Option<u64>,
}

/// A session's details at one moment.
#[derive(Debug, Clone)]
pub struct SessionDetails {
    /// The TLS of the client's control connection; none in clear text.
    pub client_tls: Option<TlsVersion>,
    /// The certificate that its client has shown.
    pub certificate: Option<Arc<ClientIdentity>>,
    /// The session's site.
    pub site: Option<Arc<Site>>,
    /// The place of its user's group among the site's, if the user is in one.
    pub group: Option<usize>,
    /// The session's user, escaped: without the host if the login leads to a site, and else all of USER's argument.
    pub user: String,
    /// The backend that it was connected to last.
    pub backend: Option<BackendInfo>,
    /// Whether a login has succeeded.
    pub logged_in: bool,
    /// The transfer that it runs.
    pub transfer: Option<CurrentTransfer>,
}

/// The site and group that the last login which named a site leads to, with the rule and host that chose it.
#[derive(Debug)]
struct Login {
    site: Arc<Site>,
    /// The place of the user's group among the site's, if the user is in one.
    group: Option<usize>,
    account: LoginId,
    /// The user without the host, as much of it as is ever shown.
    user: Box<[u8]>,
    /// The host that was named, if one was.
    host: Option<HostName>,
    /// The rule that has chosen the site.
    rule: Rule,
}

/// The backend of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendInfo {
    /// The backend's address.
    pub address: SocketAddr,
    /// The label of the backend's entry in the configuration, as in the metrics.
    pub name: Arc<str>,
    /// The TLS of its control connection; `None` in clear text.
    pub tls: Option<TlsVersion>,
}

/// The name of a session's site, as label and as log field; [`NO_SITE`] before a login has named one.
#[derive(Debug, Clone)]
pub struct SiteName(Option<Arc<Site>>);

impl SiteName {
    /// The name for a session whose login leads to no site.
    pub const NONE: Self = Self(None);
}

impl Deref for SiteName {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.as_ref().map_or(NO_SITE, |site| &site.name)
    }
}

/// A session's present activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SessionState {
    /// The TLS handshake of an implicit listener.
    Handshake,
    /// The login is not complete yet.
    Login,
    /// The client's next command is awaited.
    Idle,
    /// The backend is to answer a command.
    Command,
    /// A data port is being prepared.
    DataPort,
    /// A transfer is running.
    Transfer,
    /// The session's connections are being closed.
    Closing,
}

impl CurrentTransfer {
    /// A transfer that begins now; `moved` counts its bytes.
    pub(super) fn new(command: &Command, direction: Direction, moved: Arc<AtomicU64>) -> Self {
        Self {
            command: command.verb_text().to_owned(),
            argument: shown_part(command.argument()).into(),
            direction,
            since: Instant::now(),
            moved,
            size: None,
        }
    }
}

impl SessionState {
    const ALL: [Self; 7] = [
        Self::Handshake,
        Self::Login,
        Self::Idle,
        Self::Command,
        Self::DataPort,
        Self::Transfer,
        Self::Closing,
    ];

    /// The state that the machine is in.
    pub(super) fn of(machine: &Machine) -> Self {
        match machine.stage() {
            _ if machine.is_closed() => Self::Closing,
            Stage::Login => Self::Login,
            Stage::Command if machine.wait() == Wait::Command => Self::Idle,
            Stage::Command => Self::Command,
            Stage::DataPort => Self::DataPort,
            Stage::Transfer => Self::Transfer,
        }
    }

    /// The state's text in listings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Login => "login",
            Self::Idle => "idle",
            Self::Command => "command",
            Self::DataPort => "data port",
            Self::Transfer => "transfer",
            Self::Closing => "closing",
        }
    }
}

impl SessionInfo {
    pub(super) fn new(id: GlobalSessionId, client: SocketAddr, listener: SocketAddr) -> Self {
        Self {
            id: id.session,
            instance: id.instance,
            client: canonical(client),
            listener,
            since: Instant::now(),
            state: AtomicU8::new(SessionState::Handshake as u8),
            refused_commands: AtomicU32::new(0),
            current: Mutex::default(),
        }
    }

    /// Counts one more command of the client that was refused here; returns how many were before.
    pub(super) fn count_refused_command(&self) -> u32 {
        self.refused_commands.fetch_add(1, Ordering::Relaxed)
    }

    /// The session's present activity.
    pub fn state(&self) -> SessionState {
        let state = self.state.load(Ordering::Relaxed);
        SessionState::ALL[usize::from(state)]
    }

    /// The session's id as backends are sent it by the PROXY protocol.
    pub fn global_id(&self) -> GlobalSessionId {
        GlobalSessionId {
            instance: self.instance,
            session: self.id,
        }
    }

    /// The session's id as in [`global_id`](Self::global_id), if its site has backends that are sent PROXY headers: only they
    /// have seen it.
    pub fn sent_id(&self) -> Option<GlobalSessionId> {
        let current = self.current();
        let mut backends = current.login.as_ref()?.site.all_backends();
        let sent = backends.any(|it| it.proxy_protocol.is_some());
        sent.then(|| self.global_id())
    }

    /// All that changes in it, as it is now.
    pub fn details(&self) -> SessionDetails {
        let current = self.current();
        let login = current.login.as_ref();
        SessionDetails {
            client_tls: current.client_tls,
            certificate: current.certificate.clone(),
            site: login.map(|login| Arc::clone(&login.site)),
            group: login.and_then(|login| login.group),
            user: escape(current.user()),
            backend: current.backend.clone(),
            logged_in: current.logged_in,
            transfer: current.transfer.as_deref().cloned(),
        }
    }

    /// The TLS of the client's control connection; `None` in clear text.
    pub fn client_tls(&self) -> Option<TlsVersion> {
        self.current().client_tls
    }

    /// The certificate that the client has shown.
    pub fn certificate(&self) -> Option<Arc<ClientIdentity>> {
        self.current().certificate.clone()
    }

    /// The name of its site.
    pub fn site_name(&self) -> SiteName {
        let site = self.current().login.as_ref().map(|it| Arc::clone(&it.site));
        SiteName(site)
    }

    /// The name of its user's group, if the user is in one.
    pub fn group_name(&self) -> Option<String> {
        let current = self.current();
        let login = current.login.as_ref()?;
        let group = login.site.groups.get(login.group?)?;
        Some(group.name.clone())
    }

    /// The session's user, escaped: without the host if the login leads to a site, and else all of USER's argument.
    pub fn user(&self) -> String {
        escape(self.current().user())
    }

    /// The session's user as it was sent, as much of it as is ever shown.
    pub fn user_bytes(&self) -> Box<[u8]> {
        self.current().user().into()
    }

    /// The host that has led to its site, if one was named.
    pub fn host(&self) -> Option<HostName> {
        self.current().login.as_ref()?.host.clone()
    }

    /// The rule that has chosen the session's site.
    pub fn rule(&self) -> Option<Rule> {
        self.current().login.as_ref().map(|login| login.rule)
    }

    /// The argument of the last USER, escaped. It may lead nowhere while an earlier login holds.
    pub fn user_argument(&self) -> String {
        escape(&self.current().user_argument)
    }

    /// The account that the login leads to, as a number.
    pub fn account(&self) -> LoginId {
        let current = self.current();
        let login = current.login.as_ref();
        login.map_or_else(|| LoginId::of(None, &[]), |login| login.account)
    }

    /// The backend that it was connected to last.
    pub fn backend(&self) -> Option<BackendInfo> {
        self.current().backend.clone()
    }

    /// Whether a login has succeeded.
    pub fn is_logged_in(&self) -> bool {
        self.current().logged_in
    }

    pub(super) fn set_state(&self, state: SessionState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// The client's control connection is under TLS.
    pub(super) fn set_client_tls(&self, version: TlsVersion) {
        self.current().client_tls = Some(version);
    }

    /// The client has shown this certificate.
    pub(super) fn set_certificate(&self, certificate: Arc<ClientIdentity>) {
        self.current().certificate = Some(certificate);
    }

    /// A USER has arrived; it may name no site.
    pub(super) fn set_user_argument(&self, argument: &[u8]) {
        self.current().user_argument = shown_part(argument).into();
    }

    /// Records the route of the login.
    pub(super) fn set_route(&self, route: &Route) {
        self.current().login = Some(Login {
            site: Arc::clone(&route.site),
            group: match route.membership {
                Membership::Group(group) => Some(group),
                Membership::None | Membership::Refused(_) => None,
            },
            account: LoginId::of(Some(route.site_id), &route.user),
            user: shown_part(&route.user).into(),
            host: route.host.clone(),
            rule: route.rule,
        });
    }

    pub(super) fn set_backend(&self, backend: &BackendConnection) {
        self.current().backend = Some(BackendInfo {
            address: backend.address,
            name: Arc::clone(backend.backend.label()),
            tls: backend.stream().tls_version(),
        });
    }

    /// Records that a transfer begins.
    pub(super) fn set_transfer(&self, transfer: CurrentTransfer) {
        self.current().transfer = Some(Box::new(transfer));
    }

    /// Records how many bytes the running transfer is to have, as the backend has announced it.
    pub(super) fn set_transfer_size(&self, size: u64) {
        if let Some(transfer) = &mut self.current().transfer {
            transfer.size = Some(size);
        }
    }

    /// Records that the transfer is over.
    pub(super) fn clear_transfer(&self) {
        self.current().transfer = None;
    }

    pub(super) fn set_logged_out(&self) {
        self.current().logged_in = false;
    }

    pub(super) fn set_logged_in(&self) {
        self.current().logged_in = true;
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // Each change is one assignment: what a panic has left is whole.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> SessionInfo {
        let address = "192.0.2.1:21".parse().expect("an address");
        let id = GlobalSessionId {
            instance: InstanceId::random(),
            session: SessionId(1),
        };
        SessionInfo::new(id, address, address)
    }

    #[test]
    fn every_state_is_read_as_it_was_written() {
        let info = info();
        for state in SessionState::ALL {
            info.set_state(state);
            assert_eq!(info.state(), state);
        }
    }

    #[test]
    fn a_long_user_name_is_kept_as_far_as_it_is_shown() {
        let info = info();
        for length in [255, 256, 257, 4096] {
            let name = vec![b'\x1b'; length];
            info.set_user_argument(&name);
            assert_eq!(info.user(), escape(&name));
            assert!(info.current().user_argument.len() <= 257);
        }
    }
}
