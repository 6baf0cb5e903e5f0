//! Admission limits: how many sessions run at once, in all and for one client, and how many one client may begin in a
//! minute. How many are at one site is counted with [that site](crate::backend).
//!
//! Checked right after accept, before TLS or a backend costs anything. Behind a load balancer the client isn't known
//! yet by then: a slot among all sessions is reserved first, and assigned to the client once its address is known. The
//! limits are passed in with each call, so that a reload changes them for new sessions and leaves the running ones
//! alone.
//!
//! `bandwidth` is how fast their transfers may be.

mod bandwidth;
mod rate;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::ClientKey;
use crate::config::{Limits, is_in_any};
use crate::outcome::LimitExceeded;

pub use bandwidth::{SessionBandwidth, SiteBandwidth, TransferBandwidth};
use rate::RateLimiter;

/// Counts the sessions that run. Its memory grows with those, and is bounded for clients that came and went.
#[derive(Debug, Default)]
pub struct Limiter {
    open: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    total: usize,
    /// Session counts by client; only clients with at least one session are in it.
    by_client: HashMap<ClientKey, usize>,
    rate: RateLimiter,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            total: 0,
            by_client: HashMap::new(),
            rate: RateLimiter::new(),
        }
    }
}

/// A slot among all sessions for a client that isn't known yet; released when this is dropped.
#[derive(Debug)]
#[must_use = "dropping the reservation frees the slot"]
pub struct Reservation {
    limiter: Arc<Limiter>,
}

/// A session's slot, released when this is dropped.
#[derive(Debug)]
#[must_use = "dropping the permit frees the slot"]
pub struct Permit {
    reservation: Reservation,
    client: ClientKey,
}

impl Limiter {
    /// A limiter without sessions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a slot for one session of `client`.
    ///
    /// # Errors
    /// If all slots, or all that one client may have, are taken, or if the client begins sessions too often.
    pub fn admit(
        self: &Arc<Self>,
        client: IpAddr,
        limits: &Limits,
        now: Instant,
    ) -> Result<Permit, LimitExceeded> {
        self.reserve(limits)?.admit(client, limits, now)
    }

    /// Takes a slot for a session whose client is not known yet.
    ///
    /// # Errors
    /// If all slots are taken.
    pub fn reserve(self: &Arc<Self>, limits: &Limits) -> Result<Reservation, LimitExceeded> {
        let mut open = self.lock();
        if open.total >= limits.sessions {
            return Err(LimitExceeded::Total);
        }
        open.total += 1;
        drop(open);
        Ok(Reservation {
            limiter: Arc::clone(self),
        })
    }

    /// A session of `client` dials a backend once more, which counts as a new session does.
    ///
    /// # Errors
    /// With the time to wait, if it dials too often.
    pub fn dial(&self, client: IpAddr, limits: &Limits, now: Instant) -> Result<(), Duration> {
        if is_in_any(client, &limits.allow) {
            return Ok(());
        }
        let per_minute = limits.sessions_per_client_per_minute;
        let rate = &mut self.lock().rate;
        rate.admit(ClientKey::of(client), per_minute, now)
    }

    /// The number of sessions that run.
    pub fn open(&self) -> usize {
        self.lock().total
    }

    /// A panic elsewhere can't have left the counts half changed: nothing here panics between two changes.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// Assigns the slot to a session of `client`.
    ///
    /// # Errors
    /// If the client has all the sessions that it may have, or begins them too often; then the slot is free again.
    pub fn admit(
        self,
        client: IpAddr,
        limits: &Limits,
        now: Instant,
    ) -> Result<Permit, LimitExceeded> {
        let allowed = is_in_any(client, &limits.allow);
        let client = ClientKey::of(client);
        let mut open = self.limiter.lock();
        let sessions = open.by_client.get(&client).copied().unwrap_or(0);
        if !allowed {
            if sessions >= limits.sessions_per_client {
                return Err(LimitExceeded::PerClient);
            }
            let per_minute = limits.sessions_per_client_per_minute;
            if open.rate.admit(client, per_minute, now).is_err() {
                return Err(LimitExceeded::Rate);
            }
        }
        open.by_client.insert(client, sessions + 1);
        drop(open);
        Ok(Permit {
            reservation: self,
            client,
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut open = self.limiter.lock();
        open.total = open.total.saturating_sub(1);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let sessions = &mut self.reservation.limiter.lock().by_client;
        match sessions.get_mut(&self.client) {
            Some(count) if *count > 1 => *count -= 1,
            // Nothing is kept of a client that has none.
            _ => {
                sessions.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests;
