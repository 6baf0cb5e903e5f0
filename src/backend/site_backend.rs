//! One backend, as one site has it, with its slots for sessions.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::backend_state::BackendState;
use super::balance::Candidate;
use super::check_state::{CheckSettings, CheckState};
use super::checked::Availability;
use super::servers::Server;
use super::site_backend_state::SiteBackendState;
use super::site_state::SiteState;
use super::statuses::Statuses;
use super::upstream_tls::UpstreamTls;
use crate::base::BackendId;
use crate::config;
use crate::ftp::server::PortMethods;
use crate::observe::metrics::{BackendSession, Metrics};

/// Backups come behind every priority that SRV records have.
const BACKUP_TIER: u32 = 1 << 16;

/// One of a site's backends: its settings, its server, and the state that lasts across reloads.
#[derive(Debug)]
pub struct Backend {
    pub(super) settings: config::Backend,
    /// The server's host, port and addresses.
    pub(super) server: Server,
    /// The id of this server.
    pub(super) id: BackendId,
    /// The states of this backend and its siblings, if it was discovered by DNS.
    pub(super) statuses: Option<Arc<Statuses>>,
    /// TLS settings; `None` for a backend in clear text.
    pub(super) tls: Option<UpstreamTls>,
    /// The backend's checks, if it is checked.
    pub(super) checks: Option<BackendChecks>,
    /// The site's name, for log and metrics.
    pub(super) site: String,
    /// The name or address of its entry as configured, for metrics.
    pub(super) label: Arc<str>,
    /// See [`Candidate::identity`].
    pub(super) identity: u64,
    pub(super) state: Arc<BackendState>,
    /// The state of this backend at this site alone.
    pub(super) at_site: Arc<SiteBackendState>,
}

/// The checks of one backend, as one site makes them.
#[derive(Debug)]
pub(super) struct BackendChecks {
    pub settings: CheckSettings,
    pub state: Arc<CheckState>,
    pub site: Arc<SiteState>,
}

/// A session's slot at a backend; released when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it frees the slot"]
pub struct BackendSlot {
    backend: Arc<Backend>,
    metrics: Arc<Metrics>,
    _counted: BackendSession,
}

impl Backend {
    /// Whether new logins may come to it, by the configuration and by the operators.
    pub(super) fn takes_logins(&self) -> bool {
        self.settings.takes_logins() && !self.at_site.drained.load(Ordering::Relaxed)
    }

    pub(super) fn candidate(&self, index: usize, now: Instant) -> Candidate {
        let availability = self.availability();
        let backup = if self.settings.backup { BACKUP_TIER } else { 0 };
        let sessions = self.state.sessions();
        Candidate {
            index,
            weight: self.server.weight.unwrap_or(self.settings.weight),
            tier: self.server.tier + backup,
            sessions,
            full: self
                .settings
                .max_sessions
                .is_some_and(|limit| sessions >= limit),
            out_for: availability
                .out_since()
                .map(|since| now.saturating_duration_since(since)),
            down: matches!(availability, Availability::Down { .. }),
            identity: self.identity,
        }
    }

    /// Takes a slot for a session; `None` if it has no free one.
    pub(super) fn acquire(self: &Arc<Self>, metrics: &Arc<Metrics>) -> Option<BackendSlot> {
        if !self.state.acquire(self.limit()) {
            return None;
        }
        self.at_site.count();
        let slot = BackendSlot {
            backend: Arc::clone(self),
            metrics: Arc::clone(metrics),
            _counted: metrics.session_at_backend(&self.site, &self.label),
        };
        self.report_if_limited(metrics);
        Some(slot)
    }

    /// The limit of the site's sessions at this backend according to the configuration in use: a waiting login may be of an
    /// earlier one.
    fn limit(&self) -> Option<usize> {
        let mut limit = self.settings.max_sessions;
        if limit.is_some() {
            self.state.for_each_shown(|backend| {
                if backend.site == self.site {
                    limit = backend.settings.max_sessions;
                }
            });
        }
        limit
    }

    /// Whether the backend is shown a certificate of ours, if it asks for one.
    pub(super) fn shows_certificate(&self) -> bool {
        let tls = self.tls.as_ref();
        tls.is_some_and(|tls| tls.client.certificate().is_some())
    }

    /// The label of its entry in metrics: its name, or its address as configured.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// The time that the backend needs between its reply to AUTH and the handshake, as earlier sessions have found out.
    pub(super) fn tls_delay(&self) -> Duration {
        self.state.tls_delay.get(Instant::now())
    }

    /// Remembers that the backend needs this delay.
    pub(super) fn learn_tls_delay(&self, delay: Duration) {
        if self.state.tls_delay.learn(delay, Instant::now()) {
            let (site, milliseconds) = (&self.site, delay.as_millis());
            tracing::info!(site, backend = %self, milliseconds, "backend needs a delay between AUTH and TLS");
        }
    }

    /// The ways in which it is not to be asked for data connections, as earlier sessions have found out.
    pub fn avoided(&self, now: Instant) -> PortMethods {
        self.state.avoided.get(now)
    }

    /// Remembers these methods as ones to avoid in later sessions; returns whether they are new.
    pub fn avoid(&self, methods: PortMethods, now: Instant) -> bool {
        self.state.avoided.learn(methods, now)
    }
}

impl Drop for BackendSlot {
    fn drop(&mut self) {
        self.backend.at_site.release();
        // Wakes those that wait for a slot, so it comes last.
        self.backend.state.release();
        self.backend.report_if_limited(&self.metrics);
    }
}

impl fmt::Display for Backend {
    /// Writes the backend's address, and its label in the configuration if that differs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.server.endpoint.to_string();
        f.write_str(&address)?;
        if address == *self.label {
            return Ok(());
        }
        write!(f, " ({})", self.label)
    }
}
