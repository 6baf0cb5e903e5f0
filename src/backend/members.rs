//! The backends of a site at the moment, and whose turn it is among them.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::balance::{self, Candidate, Rotation};
use super::checked::Availability;
use super::site_backend::Backend;
use crate::config::Balance;

/// A site's backends: as configured and, where they are discovered by DNS, as found.
#[derive(Debug)]
pub(super) struct Members {
    /// The backends in the order of the configuration.
    backends: Vec<Arc<Backend>>,
    rotation: Mutex<Rotation>,
}

impl Members {
    pub fn new(backends: Vec<Arc<Backend>>) -> Self {
        Self {
            rotation: Mutex::new(Rotation::new(backends.len())),
            backends,
        }
    }

    /// All backends.
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// The backends that may serve a new login, in the order in which they are to be tried.
    pub fn candidates(&self, balance: Balance, login_key: u64, now: Instant) -> Vec<Arc<Backend>> {
        let open = self.backends.iter().enumerate();
        let open = open.filter(|(_, backend)| backend.takes_logins());
        let candidates: Vec<Candidate> = open
            .map(|(index, backend)| backend.candidate(index, now))
            .collect();
        let order = balance::order(balance, &candidates, login_key, &self.rotation);
        order
            .into_iter()
            .map(|position| Arc::clone(&self.backends[candidates[position].index]))
            .collect()
    }

    /// Whether none that takes logins is up.
    pub fn are_out(&self) -> bool {
        let mut open = self.backends.iter();
        !open.any(|backend| backend.takes_logins() && backend.availability() == Availability::Up)
    }
}
