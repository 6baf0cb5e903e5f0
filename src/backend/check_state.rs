//! State of a site's checks that lasts as long as the process: the results for each backend, when the next check is due, and
//! whether the probe's password has been refused.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::checked::Checked;
use crate::base::fair_queue::FairQueue;
use crate::config::{BackendTls, Checks, PassiveMode, Probe, SentProxyProtocol};
use crate::outcome::CheckStage;

/// How long no check logs in after the probe's password was refused. Servers and directories lock accounts after a few
/// failures within some ten minutes, and block addresses (Active Directory, IIS' `denyByFailure`, fail2ban).
pub const PAUSE: Duration = Duration::from_secs(10 * 60);

/// The checks of one backend, as one site makes them.
#[derive(Debug, Default)]
pub struct CheckState(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The settings that the counts and the schedule belong to.
    settings: Option<CheckSettings>,
    checked: Checked,
    due: Option<Instant>,
    last: Option<LastCheck>,
}

/// The last check of a backend.
#[derive(Debug, Clone, Copy)]
pub struct LastCheck {
    /// When the check ended.
    pub at: Instant,
    /// How long the check took.
    pub took: Duration,
    /// The stage at which it failed, if it did.
    pub failed_at: Option<CheckStage>,
}

/// All that a check depends on. A change in it makes another check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckSettings {
    /// The checks to make, and their interval.
    pub checks: Checks,
    /// How the backend is connected to.
    pub tls: Option<BackendTls>,
    /// The PROXY headers that it is sent.
    pub proxy_protocol: Option<SentProxyProtocol>,
    /// The way in which the backend is asked for data connections.
    pub passive_mode: PassiveMode,
}

/// The logins of a site's checks.
#[derive(Debug, Default)]
pub struct ProbeLogins {
    /// Lets the checks log in one at a time.
    pub queue: FairQueue,
    /// Whether a login may be made.
    pub pause: ProbePause,
}

/// The last refusal of the password of a site's probe. The backends of a site may have one account database: so this is
/// the site's, and not each backend's.
#[derive(Debug, Default)]
pub struct ProbePause(Mutex<Option<Refusal>>);

#[derive(Debug)]
struct Refusal {
    probe: Probe,
    until: Instant,
}

impl CheckState {
    /// Checks with these settings begin, or go on if they were these before. Returns when the next one is due: `first`
    /// for new ones.
    pub fn begin(&self, settings: CheckSettings, first: Instant) -> Instant {
        let mut inner = self.lock();
        if inner.settings.as_ref() != Some(&settings) {
            inner.checked.begin_anew();
            inner.settings = Some(settings);
            inner.due = None;
        }
        *inner.due.get_or_insert(first)
    }

    /// Notes when the next check is due, for checks that go on after a reload.
    pub fn set_due(&self, at: Instant) {
        self.lock().due = Some(at);
    }

    /// Notes a check that has ended.
    pub fn set_last(&self, last: LastCheck) {
        self.lock().last = Some(last);
    }

    /// The last one that ended.
    pub fn last(&self) -> Option<LastCheck> {
        self.lock().last
    }

    /// The results of the checks so far.
    pub fn checked(&self) -> Checked {
        self.lock().checked
    }

    /// Notes a check's result.
    pub fn record<R>(&self, record: impl FnOnce(&mut Checked) -> R) -> R {
        record(&mut self.lock().checked)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProbePause {
    /// Whether a check may log in with this account now.
    pub fn allows(&self, probe: &Probe, now: Instant) -> bool {
        let refusal = self.lock();
        !refusal
            .as_ref()
            .is_some_and(|refusal| refusal.is_of(probe) && now < refusal.until)
    }

    /// Whether the last login with this account was refused, however long ago.
    pub fn stands_against(&self, probe: &Probe) -> bool {
        let refusal = self.lock();
        refusal.as_ref().is_some_and(|refusal| refusal.is_of(probe))
    }

    /// A backend has refused it; returns whether that is news.
    pub fn refused(&self, probe: &Probe, now: Instant) -> bool {
        let former = self.lock().replace(Refusal {
            probe: probe.clone(),
            until: now + PAUSE,
        });
        !former.is_some_and(|former| former.is_of(probe))
    }

    /// A backend has accepted it.
    pub fn accepted(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Refusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refusal {
    /// Whether this probe is the one refused: another password, or another account, has not been.
    fn is_of(&self, probe: &Probe) -> bool {
        self.probe.user == probe.user && self.probe.password.secret == probe.password.secret
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;
    use crate::config::{CheckLevel, SecretFile};

    const SECOND: Duration = Duration::from_secs(1);

    fn settings(interval: Duration) -> CheckSettings {
        CheckSettings {
            checks: Checks {
                level: CheckLevel::Greeting,
                interval,
                fall: 1,
                rise: 1,
            },
            tls: None,
            proxy_protocol: None,
            passive_mode: PassiveMode::Auto,
        }
    }

    fn probe(password: &str) -> Probe {
        Probe {
            user: "probe".to_owned(),
            password: SecretFile {
                path: "probe.pw".into(),
                secret: Secret::new(password.into()),
            },
            path: "/".to_owned(),
        }
    }

    #[test]
    fn a_reload_that_changes_no_checks_keeps_their_schedule_and_their_counts() {
        let (state, now) = (CheckState::default(), Instant::now());
        assert_eq!(state.begin(settings(SECOND), now), now);
        state.set_due(now + SECOND);
        state.record(|checked| checked.failed(2, now));
        assert_eq!(state.begin(settings(SECOND), now), now + SECOND);
        assert!(state.checked().is_changing());

        let soon = now + SECOND / 2;
        assert_eq!(state.begin(settings(2 * SECOND), soon), soon);
        assert!(!state.checked().is_changing(), "others begin anew");
    }

    #[test]
    fn a_refused_password_is_not_sent_for_ten_minutes_and_another_one_at_once() {
        let (pause, now) = (ProbePause::default(), Instant::now());
        assert!(pause.allows(&probe("a"), now));
        assert!(pause.refused(&probe("a"), now));
        assert!(!pause.allows(&probe("a"), now + PAUSE - SECOND));
        assert!(pause.allows(&probe("a"), now + PAUSE));
        assert!(pause.allows(&probe("b"), now));
        assert!(pause.stands_against(&probe("a")));
        assert!(!pause.stands_against(&probe("b")));
        pause.accepted();
        assert!(!pause.stands_against(&probe("a")));
    }

    #[test]
    fn a_password_that_is_refused_again_is_news_only_after_it_was_accepted_or_changed() {
        let (pause, now) = (ProbePause::default(), Instant::now());
        assert!(pause.refused(&probe("a"), now));
        assert!(!pause.refused(&probe("a"), now + PAUSE));
        assert!(!pause.allows(&probe("a"), now + PAUSE + SECOND));
        assert!(pause.refused(&probe("b"), now));
        pause.accepted();
        assert!(pause.refused(&probe("b"), now));
    }
}
