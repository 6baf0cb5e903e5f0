//! Who may come in: how many sessions run at once, in all, for one client and at one site, and how many one client may
//! begin in a minute.
//!
//! Asked right after accept, before TLS or a backend costs anything. Behind a load balancer the client isn't known yet
//! by then: a place among all is reserved first, and becomes the client's once its address is there. A place at a site is
//! asked for when USER has named it, before its backend is dialled. The limits come with each question, so that a reload
//! changes them for new sessions and leaves the running ones alone.

mod pace;

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::config::{Limits, Site, is_in_any};

use pace::Pace;

/// Counts the sessions that run. Its memory grows with those, and is bounded for clients that came and went.
#[derive(Debug, Default)]
pub struct Limiter {
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    total: usize,
    /// Only clients with at least one session.
    by_client: HashMap<Client, usize>,
    /// Only sites with at least one session, by name: a reload makes other [`Site`]s of them.
    by_site: HashMap<String, usize>,
    pace: Pace,
}

impl Default for Open {
    fn default() -> Self {
        Self {
            total: 0,
            by_client: HashMap::new(),
            by_site: HashMap::new(),
            pace: Pace::new(),
        }
    }
}

/// Why a session isn't let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many sessions run as may run in all.
    #[error("too many sessions in all")]
    Total,
    /// As many sessions run as one client may have.
    #[error("too many sessions from this client")]
    PerClient,
    /// This client has begun as many sessions as it may in a minute.
    #[error("too many new sessions from this client")]
    Pace,
}

/// A place among all sessions for one whose client isn't known yet; given back when this is dropped.
#[derive(Debug)]
#[must_use = "dropping the place gives it back"]
pub struct Place {
    limiter: Arc<Limiter>,
}

/// A session's place, given back when this is dropped.
#[derive(Debug)]
#[must_use = "dropping the permit gives the session's place back"]
pub struct Permit {
    place: Place,
    client: Client,
}

/// A session's place at a site, given back when this is dropped.
#[derive(Debug)]
#[must_use = "dropping the place gives it back"]
pub struct SitePlace {
    limiter: Arc<Limiter>,
    site: Arc<Site>,
}

impl Limiter {
    /// No session runs yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a place for one session of `client`.
    ///
    /// # Errors
    /// If all places, or all that one client may have, are taken, or if it comes too often.
    pub fn admit(
        self: &Arc<Self>,
        client: IpAddr,
        limits: &Limits,
        now: Instant,
    ) -> Result<Permit, Refused> {
        self.reserve(limits)?.admit(client, limits, now)
    }

    /// Takes a place for a session of whoever it will turn out to be.
    ///
    /// # Errors
    /// If all places are taken.
    pub fn reserve(self: &Arc<Self>, limits: &Limits) -> Result<Place, Refused> {
        let mut open = self.lock();
        if open.total >= limits.sessions {
            return Err(Refused::Total);
        }
        open.total += 1;
        drop(open);
        Ok(Place {
            limiter: Arc::clone(self),
        })
    }

    /// A session of `client` dials a backend once more, which counts as a new session does.
    ///
    /// # Errors
    /// With the time to wait, if it comes too often.
    pub fn dial(&self, client: IpAddr, limits: &Limits, now: Instant) -> Result<(), Duration> {
        if is_in_any(client, &limits.allow) {
            return Ok(());
        }
        let per_minute = limits.sessions_per_client_per_minute;
        let pace = &mut self.lock().pace;
        pace.admit(Client::of(client), per_minute, now)
    }

    /// Takes a place at `site` for a session that runs; `None` if all that one site may have are taken.
    pub fn admit_to(self: &Arc<Self>, site: &Arc<Site>, limits: &Limits) -> Option<SitePlace> {
        let mut open = self.lock();
        match open.by_site.get_mut(&site.name) {
            Some(sessions) if *sessions >= limits.sessions_per_site => return None,
            Some(sessions) => *sessions += 1,
            None => {
                open.by_site.insert(site.name.clone(), 1);
            }
        }
        drop(open);
        Some(SitePlace {
            limiter: Arc::clone(self),
            site: Arc::clone(site),
        })
    }

    /// How many sessions run.
    pub fn open(&self) -> usize {
        self.lock().total
    }

    /// A panic elsewhere can't have left the counts half changed: nothing here panics between two changes.
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Makes it the place of a session of `client`.
    ///
    /// # Errors
    /// If all that one client may have are taken, or if it comes too often; then this place is free again.
    pub fn admit(self, client: IpAddr, limits: &Limits, now: Instant) -> Result<Permit, Refused> {
        let allowed = is_in_any(client, &limits.allow);
        let client = Client::of(client);
        let mut open = self.limiter.lock();
        let sessions = open.by_client.get(&client).copied().unwrap_or(0);
        if !allowed {
            if sessions >= limits.sessions_per_client {
                return Err(Refused::PerClient);
            }
            let per_minute = limits.sessions_per_client_per_minute;
            if open.pace.admit(client, per_minute, now).is_err() {
                return Err(Refused::Pace);
            }
        }
        open.by_client.insert(client, sessions + 1);
        drop(open);
        Ok(Permit {
            place: self,
            client,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.limiter.lock();
        open.total = open.total.saturating_sub(1);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        give_back(&mut self.place.limiter.lock().by_client, &self.client);
    }
}

impl Drop for SitePlace {
    fn drop(&mut self) {
        give_back(&mut self.limiter.lock().by_site, self.site.name.as_str());
    }
}

/// One session less, and nothing kept of whom has none.
fn give_back<K, Q>(sessions: &mut HashMap<K, usize>, whose: &Q)
where
    K: Borrow<Q> + Eq + Hash,
    Q: Eq + Hash + ?Sized,
{
    match sessions.get_mut(whose) {
        Some(count) if *count > 1 => *count -= 1,
        _ => {
            sessions.remove(whose);
        }
    }
}

#[cfg(test)]
mod tests;
