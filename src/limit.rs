//! Who may come in: how many sessions run at once, in all, for one client and at one site.
//!
//! Asked right after accept, before TLS or a backend costs anything. Behind a load balancer the client isn't known yet
//! by then: a place among all is reserved first, and becomes the client's once its address is there. A place at a site is
//! asked for when USER has named it, before its backend is dialled. The limits come with each question, so that a reload
//! changes them for new sessions and leaves the running ones alone.

use crate::client::Client;
use crate::config::{Limits, Site};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts the sessions that run. Its memory grows with those, never with the clients that came and went.
#[derive(Debug, Default)]
pub struct Limiter {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    /// Only clients with at least one session.
    by_client: HashMap<Client, usize>,
    /// Only sites with at least one session, by name: a reload makes other [`Site`]s of them.
    by_site: HashMap<String, usize>,
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
    /// If all places, or all that one client may have, are taken.
    pub fn admit(self: &Arc<Self>, client: IpAddr, limits: &Limits) -> Result<Permit, Refused> {
        self.reserve(limits)?.admit(client, limits)
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
    /// If all that one client may have are taken; then this place is free again.
    pub fn admit(self, client: IpAddr, limits: &Limits) -> Result<Permit, Refused> {
        let client = Client::of(client);
        let mut open = self.limiter.lock();
        let sessions = open.by_client.get(&client).copied().unwrap_or(0);
        if sessions >= limits.sessions_per_client {
            return Err(Refused::PerClient);
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
mod tests {
    use super::*;
    use crate::config::{SessionReuse, UserTemplate};

    const LIMITS: Limits = Limits {
        sessions: 3,
        sessions_per_site: 2,
        sessions_per_client: 2,
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn refused(result: Result<Permit, Refused>) -> Option<Refused> {
        result.err()
    }

    #[test]
    fn a_client_gets_its_share_and_no_more() {
        let limiter = Arc::new(Limiter::new());
        let _held = [
            limiter.admit(ip("10.0.0.1"), &LIMITS),
            limiter.admit(ip("10.0.0.1"), &LIMITS),
        ];
        assert_eq!(
            refused(limiter.admit(ip("10.0.0.1"), &LIMITS)),
            Some(Refused::PerClient)
        );
        assert_eq!(refused(limiter.admit(ip("10.0.0.2"), &LIMITS)), None);
        assert_eq!(
            limiter.open(),
            2,
            "the other client's permit was dropped at once"
        );
    }

    #[test]
    fn the_total_is_for_everybody() {
        let limiter = Arc::new(Limiter::new());
        let _held: Vec<_> = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
            .map(|client| limiter.admit(ip(client), &LIMITS))
            .into();
        assert_eq!(
            refused(limiter.admit(ip("10.0.0.4"), &LIMITS)),
            Some(Refused::Total)
        );
    }

    #[test]
    fn who_is_not_known_yet_takes_a_place_among_all_and_no_clients() {
        let limiter = Arc::new(Limiter::new());
        let mut places: Vec<_> = (0..3).flat_map(|_| limiter.reserve(&LIMITS)).collect();
        assert_eq!(places.len(), 3);
        assert_eq!(
            limiter.reserve(&LIMITS).err(),
            Some(Refused::Total),
            "they are bounded, too"
        );
        assert!(limiter.lock().by_client.is_empty());

        let mut admit = || {
            places
                .pop()
                .expect("one is left")
                .admit(ip("10.0.0.1"), &LIMITS)
        };
        let _held = [admit(), admit()];
        assert_eq!(refused(admit()), Some(Refused::PerClient));
        assert_eq!(limiter.open(), 2, "the place of the refused one is free");
    }

    #[test]
    fn a_dropped_permit_makes_room_and_leaves_nothing_behind() {
        let limiter = Arc::new(Limiter::new());
        for last in 0..=255 {
            let permits = [(); 2].map(|()| {
                limiter
                    .admit(IpAddr::from([10, 0, 0, last]), &LIMITS)
                    .expect("a place")
            });
            assert_eq!(limiter.open(), 2);
            drop(permits);
        }
        assert_eq!(limiter.open(), 0);
        assert!(limiter.lock().by_client.is_empty());
    }

    #[test]
    fn spellings_of_one_address_are_one_client() {
        let limiter = Arc::new(Limiter::new());
        let _held = [
            limiter.admit(ip("10.0.0.1"), &LIMITS),
            limiter.admit(ip("::ffff:10.0.0.1"), &LIMITS),
        ];
        assert_eq!(
            refused(limiter.admit(ip("10.0.0.1"), &LIMITS)),
            Some(Refused::PerClient)
        );
    }

    #[test]
    fn an_ipv6_64_is_one_client() {
        let limiter = Arc::new(Limiter::new());
        let _held = [
            limiter.admit(ip("2001:db8:0:1::1"), &LIMITS),
            limiter.admit(ip("2001:db8:0:1:ffff::2"), &LIMITS),
        ];
        assert_eq!(
            refused(limiter.admit(ip("2001:db8:0:1::3"), &LIMITS)),
            Some(Refused::PerClient)
        );
        assert_eq!(refused(limiter.admit(ip("2001:db8:0:2::1"), &LIMITS)), None);
    }

    #[test]
    fn lower_limits_after_a_reload_hold_for_new_sessions() {
        let limiter = Arc::new(Limiter::new());
        let held = [
            limiter.admit(ip("10.0.0.1"), &LIMITS),
            limiter.admit(ip("10.0.0.2"), &LIMITS),
        ];
        let lower = Limits {
            sessions: 1,
            sessions_per_client: 1,
            ..LIMITS
        };
        assert_eq!(
            refused(limiter.admit(ip("10.0.0.3"), &lower)),
            Some(Refused::Total)
        );
        drop(held);
        assert_eq!(refused(limiter.admit(ip("10.0.0.3"), &lower)), None);
    }

    fn site(name: &str) -> Arc<Site> {
        Arc::new(Site {
            name: name.to_owned(),
            default: false,
            hosts: Vec::new(),
            backends: Vec::new(),
            user: UserTemplate::default(),
            session_reuse: SessionReuse::Prefer,
        })
    }

    #[test]
    fn a_site_gets_its_share_and_leaves_the_rest_to_the_others() {
        let limiter = Arc::new(Limiter::new());
        let (one, other) = (site("one"), site("other"));
        let held = [(); 2].map(|()| limiter.admit_to(&one, &LIMITS));
        assert!(held.iter().all(Option::is_some));
        assert!(limiter.admit_to(&one, &LIMITS).is_none());
        assert!(limiter.admit_to(&other, &LIMITS).is_some());
        drop(held);
        assert!(limiter.admit_to(&one, &LIMITS).is_some());
        assert!(limiter.lock().by_site.is_empty());
    }

    #[test]
    fn a_site_is_known_by_its_name_across_reloads() {
        let limiter = Arc::new(Limiter::new());
        let _held = [(); 2].map(|()| limiter.admit_to(&site("one"), &LIMITS));
        assert!(limiter.admit_to(&site("one"), &LIMITS).is_none());
        let higher = Limits {
            sessions_per_site: 3,
            ..LIMITS
        };
        assert!(limiter.admit_to(&site("one"), &higher).is_some());
    }

    #[test]
    fn a_panic_elsewhere_does_not_close_the_door() {
        let limiter = Arc::new(Limiter::new());
        let poisoner = Arc::clone(&limiter);
        let panicked = std::thread::spawn(move || {
            let _guard = poisoner.open.lock();
            panic!("with the lock held");
        })
        .join();
        assert!(panicked.is_err() && limiter.open.is_poisoned());
        assert!(limiter.admit(ip("10.0.0.1"), &LIMITS).is_ok());
        assert_eq!(limiter.open(), 0);
    }
}
