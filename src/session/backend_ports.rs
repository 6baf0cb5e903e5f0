//! What sessions have found out about data ports of backends, for those that come after them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Backend;
use crate::ftp::server::Ways;

/// The ways in which backends are not to be asked for data ports.
#[derive(Debug, Default)]
pub(super) struct BackendPorts(Mutex<HashMap<(String, u16), Known>>);

#[derive(Debug, Clone, Copy)]
struct Known {
    avoid: Ways,
    since: Instant,
}

impl BackendPorts {
    /// What is to be avoided with this backend.
    pub fn avoid(&self, backend: &Backend, now: Instant) -> Ways {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .get(&key(backend))
            .filter(|known| now.saturating_duration_since(known.since) < FORGOTTEN)
            .map_or(Ways::NONE, |known| known.avoid)
    }

    /// Remembers that; tells whether it was not known.
    pub fn remember(&self, backend: &Backend, avoid: Ways, now: Instant) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Backends are the operator's; only one who reloads all day with ever others comes here.
        if known.len() >= MAX_BACKENDS {
            known.clear();
        }
        let since = now;
        let former = known.insert(key(backend), Known { avoid, since });
        former.is_none_or(|former| former.avoid != avoid)
    }
}

fn key(backend: &Backend) -> (String, u16) {
    (backend.host.clone(), backend.port)
}

/// After this time a server is asked as the client asks again: it may have been mended.
const FORGOTTEN: Duration = Duration::from_secs(60 * 60);

/// More backends than any configuration has.
const MAX_BACKENDS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::server::Way;

    fn backend(port: u16) -> Backend {
        Backend {
            host: "10.0.0.10".to_owned(),
            port,
            tls: None,
        }
    }

    #[test]
    fn what_a_session_has_learned_holds_for_its_backend_and_for_an_hour() {
        let ports = BackendPorts::default();
        let now = Instant::now();
        let avoid = Ways::NONE.and(Way::Epsv);
        assert!(ports.remember(&backend(21), avoid, now));
        assert!(!ports.remember(&backend(21), avoid, now));
        assert_eq!(ports.avoid(&backend(21), now), avoid);
        assert_eq!(ports.avoid(&backend(22), now), Ways::NONE);
        let much_later = now + FORGOTTEN;
        assert_eq!(ports.avoid(&backend(21), much_later), Ways::NONE);
    }

    #[test]
    fn no_number_of_backends_makes_it_grow_without_bound() {
        let ports = BackendPorts::default();
        let now = Instant::now();
        for port in 1..=u16::MAX {
            ports.remember(&backend(port), Ways::NONE.and(Way::Pasv), now);
        }
        assert!(ports.0.lock().unwrap().len() <= MAX_BACKENDS);
    }
}
