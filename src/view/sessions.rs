//! The live sessions, and the transfers that they run.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use super::{Listed, Moment};
use crate::base::text::escape;
use crate::config::TlsVersion;
use crate::session::info::{CurrentTransfer, SessionDetails, SessionInfo};
use crate::session::registry::SessionRegistry;
use crate::tls::client_certificates::shown_fingerprint;

/// Whether names of users and files are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disclosure {
    /// Names aren't shown: `admin.status: summary`.
    Summary,
    /// Names are shown.
    Full,
}

/// A live session, as shown.
#[derive(Debug, Clone, Serialize)]
pub struct SessionView {
    /// The session's number, as in the log.
    pub id: u64,
    /// The client's address.
    pub client: SocketAddr,
    /// The configured address of its listener.
    pub listener: SocketAddr,
    /// When the session began.
    pub since: Moment,
    /// The seconds since then.
    pub seconds: f64,
    /// The session's present activity.
    pub state: &'static str,
    /// The TLS version of its control connection; none in clear text.
    pub tls: Option<&'static str>,
    /// The certificate that its client has shown; none where names aren't shown.
    pub client_certificate: Option<ClientCertificateView>,
    /// The session's site, once a login has named one.
    pub site: Option<String>,
    /// The group of the session's user, if the user is in one.
    pub group: Option<String>,
    /// The session's user, escaped; `None` before USER, and where names aren't shown.
    pub user: Option<String>,
    /// Whether the login has succeeded.
    pub logged_in: bool,
    /// The address of its backend.
    pub backend: Option<SocketAddr>,
    /// The TLS version there; none in clear text.
    pub backend_tls: Option<&'static str>,
    /// The transfer that it runs.
    pub transfer: Option<TransferView>,
}

/// The certificate of a session's client, be it the right one or not.
#[derive(Debug, Clone, Serialize)]
pub struct ClientCertificateView {
    /// The certificate's subject.
    pub subject: String,
    /// The certificate's SHA-256, as the configuration has it.
    pub fingerprint: String,
}

/// A running transfer, as shown.
#[derive(Debug, Clone, Serialize)]
pub struct TransferView {
    /// The number of its session.
    pub session: u64,
    /// The client's address.
    pub client: SocketAddr,
    /// The session's site.
    pub site: Option<String>,
    /// The session's user, escaped; `None` where names aren't shown.
    pub user: Option<String>,
    /// The address of its backend.
    pub backend: Option<SocketAddr>,
    /// The command, for example `RETR`.
    pub command: String,
    /// The command's argument, escaped; `None` where names aren't shown.
    pub path: Option<String>,
    /// The direction of the bytes: `upload`, `download` or `listing`.
    pub direction: &'static str,
    /// The bytes moved so far.
    pub bytes: u64,
    /// The bytes that the transfer is to have, where the backend has announced it.
    pub size: Option<u64>,
    /// When the command came.
    pub since: Moment,
    /// The seconds since then.
    pub seconds: f64,
    /// The average rate since then, in bytes per second.
    pub bytes_per_second: f64,
}

/// A filter for sessions: those that match everything that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// The site of the sessions.
    pub site: Option<String>,
    /// The client's address, or a network that it is in.
    pub client: Option<IpNet>,
    /// The user, as it is shown.
    pub user: Option<String>,
    /// The backend, by address with or without port.
    pub backend: Option<String>,
}

impl SessionFilter {
    /// Whether a session matches the filter.
    pub fn admits(&self, info: &SessionInfo, details: &SessionDetails) -> bool {
        let site = details.site.as_ref().map(|site| site.name.as_str());
        let backend = details.backend.as_ref().map(|backend| backend.address);
        fits(self.site.as_ref(), |wanted| site == Some(wanted))
            && fits(self.client.as_ref(), |wanted| {
                wanted.contains(&info.client.ip())
            })
            && fits(self.user.as_ref(), |wanted| details.user == *wanted)
            && fits(self.backend.as_ref(), |wanted| {
                backend.is_some_and(|address| is_named(address, wanted))
            })
    }
}

fn fits<T>(wanted: Option<&T>, is: impl FnOnce(&T) -> bool) -> bool {
    wanted.is_none_or(is)
}

fn is_named(address: SocketAddr, wanted: &str) -> bool {
    wanted.parse() == Ok(address)
        || wanted
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip == address.ip().to_canonical())
}

impl SessionView {
    fn new(info: &SessionInfo, details: SessionDetails, disclosure: Disclosure) -> Self {
        let transfer = details.transfer.as_ref();
        let transfer =
            transfer.map(|transfer| TransferView::new(info, &details, transfer, disclosure));
        let group = details
            .group
            .and_then(|group| details.site.as_ref()?.groups.get(group))
            .map(|group| group.name.clone());
        let age = info.since.elapsed();
        Self {
            id: info.id.0,
            client: info.client,
            listener: info.listener,
            since: Moment::ago(age),
            seconds: age.as_secs_f64(),
            state: info.state().as_str(),
            tls: details.client_tls.map(TlsVersion::as_str),
            client_certificate: certificate_of(&details, disclosure),
            site: site_of(&details),
            group,
            user: user_of(&details, disclosure),
            logged_in: details.logged_in,
            backend: details.backend.as_ref().map(|backend| backend.address),
            backend_tls: details
                .backend
                .and_then(|backend| backend.tls)
                .map(TlsVersion::as_str),
            transfer,
        }
    }
}

impl TransferView {
    fn new(
        info: &SessionInfo,
        details: &SessionDetails,
        transfer: &CurrentTransfer,
        disclosure: Disclosure,
    ) -> Self {
        let age = transfer.since.elapsed();
        let bytes = transfer.moved.load(Ordering::Relaxed);
        Self {
            session: info.id.0,
            client: info.client,
            site: site_of(details),
            user: user_of(details, disclosure),
            backend: details.backend.as_ref().map(|backend| backend.address),
            command: transfer.command.clone(),
            path: (disclosure == Disclosure::Full).then(|| escape(&transfer.argument)),
            direction: transfer.direction.as_str(),
            bytes,
            size: transfer.size,
            since: Moment::ago(age),
            seconds: age.as_secs_f64(),
            bytes_per_second: rate(bytes, age),
        }
    }
}

fn site_of(details: &SessionDetails) -> Option<String> {
    details.site.as_ref().map(|site| site.name.clone())
}

fn user_of(details: &SessionDetails, disclosure: Disclosure) -> Option<String> {
    let is_shown = disclosure == Disclosure::Full && !details.user.is_empty();
    is_shown.then(|| details.user.clone())
}

fn certificate_of(
    details: &SessionDetails,
    disclosure: Disclosure,
) -> Option<ClientCertificateView> {
    let shown = details.certificate.as_deref();
    let shown = shown.filter(|_| disclosure == Disclosure::Full)?;
    Some(ClientCertificateView {
        subject: shown.subject.clone(),
        fingerprint: shown_fingerprint(shown),
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate need not be exact to the last byte"
)]
fn rate(bytes: u64, time: Duration) -> f64 {
    // A transfer that has just begun has no rate yet.
    let seconds = time.as_secs_f64().max(0.001);
    bytes as f64 / seconds
}

/// The live sessions that a filter admits, the oldest first.
pub fn sessions(
    registry: &SessionRegistry,
    filter: &SessionFilter,
    disclosure: Disclosure,
    limit: usize,
) -> Listed<SessionView> {
    let mut listed = Listed::at_most(limit);
    for info in registry.sessions() {
        let details = info.details();
        if filter.admits(&info, &details) {
            listed.add(|| SessionView::new(&info, details, disclosure));
        }
    }
    listed
}

/// The running transfers of the sessions that `filter` matches.
pub fn transfers(
    registry: &SessionRegistry,
    filter: &SessionFilter,
    disclosure: Disclosure,
    limit: usize,
) -> Listed<TransferView> {
    let mut listed = Listed::at_most(limit);
    for info in registry.sessions() {
        let details = info.details();
        if let Some(transfer) = &details.transfer
            && filter.admits(&info, &details)
        {
            listed.add(|| TransferView::new(&info, &details, transfer, disclosure));
        }
    }
    listed
}
