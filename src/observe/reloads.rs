//! The last reloads, and why those were refused that were: for operators who ask later.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::outcome::ReloadSubject;

/// How many are remembered.
const REMEMBERED: usize = 20;

/// The last reloads of the process, the latest first.
#[derive(Debug, Default)]
pub struct ReloadLog(Mutex<VecDeque<Reload>>);

/// One reload.
#[derive(Debug, Clone)]
pub struct Reload {
    /// When.
    pub at: SystemTime,
    /// Of what.
    pub subject: ReloadSubject,
    /// Why it was refused, if it was.
    pub refusal: Option<Refusal>,
    /// What was refused has been mended or replaced since.
    pub mended: bool,
}

/// Why a reload was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// With what the files say there, which may name users.
    pub text: String,
    /// Without.
    pub summary: String,
}

impl From<String> for Refusal {
    /// One that repeats nothing of a file.
    fn from(text: String) -> Self {
        Self {
            summary: text.clone(),
            text,
        }
    }
}

impl ReloadLog {
    /// One has ended now.
    pub fn record(&self, subject: ReloadSubject, refusal: Option<Refusal>) {
        let mut reloads = self.lock();
        reloads.truncate(REMEMBERED - 1);
        reloads.push_front(Reload {
            at: SystemTime::now(),
            subject,
            refusal,
            mended: false,
        });
    }

    /// What was last refused of this has been mended, or is refused again.
    pub fn set_mended(&self, subject: ReloadSubject, mended: bool) {
        let mut reloads = self.lock();
        if let Some(last) = reloads.iter_mut().find(|it| it.subject == subject) {
            last.mended = mended;
        }
    }

    /// Those that are remembered.
    pub fn entries(&self) -> Vec<Reload> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Reload>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_come_first_and_the_oldest_are_forgotten() {
        let log = ReloadLog::default();
        log.record(ReloadSubject::Certificate, None);
        for number in 0..REMEMBERED {
            log.record(
                ReloadSubject::Configuration,
                Some(number.to_string().into()),
            );
        }
        let entries = log.entries().into_iter();
        let reasons: Vec<_> = entries
            .map(|it| it.refusal.map(|refusal| refusal.text))
            .collect();
        assert_eq!(reasons.len(), REMEMBERED);
        assert_eq!(reasons[0].as_deref(), Some("19"));
        assert_eq!(reasons[REMEMBERED - 1].as_deref(), Some("0"));
    }
}
