//! The results of orders, for the live view.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// The state of orders at the moment; `None` where no certificate is ordered.
#[derive(Debug, Default)]
pub struct Status(Mutex<Option<Report>>);

/// The state of orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The present activity.
    pub activity: Activity,
    /// The names that are ordered.
    pub names: String,
    /// When the next order begins, or could.
    pub next_attempt: Option<SystemTime>,
    /// How many orders have failed in a row.
    pub failures: u32,
    /// The stage and the error of the last order, if it has failed; `None` once one has succeeded.
    pub last_failure: Option<(String, String)>,
    /// The reason why no order can begin.
    pub trouble: Option<String>,
}

/// The present activity of orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Nothing is done before the next attempt.
    Waiting,
    /// An order is under way.
    Ordering,
    /// Another instance with the same directory is making an order.
    Elsewhere,
    /// The directory can't be used.
    Unusable,
}

impl Activity {
    /// The activity's text in the live view.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ordering => "ordering",
            Self::Elsewhere => "ordering_elsewhere",
            Self::Unusable => "unusable",
        }
    }
}

impl Status {
    /// The state of orders; `None` where no certificate is ordered.
    pub fn report(&self) -> Option<Report> {
        self.lock().clone()
    }

    /// Sets the present state.
    pub fn set(&self, report: Report) {
        *self.lock() = Some(report);
    }

    /// Records that no certificate is ordered.
    pub fn clear(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Report>> {
        // Every change is a single one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
