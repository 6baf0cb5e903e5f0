//! The live sessions of the process: to list them, and to end one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::info::SessionInfo;
use crate::base::{GlobalSessionId, InstanceId, SessionId};

/// All live sessions, by their numbers.
#[derive(Debug)]
pub struct SessionRegistry {
    instance: InstanceId,
    next_id: AtomicU64,
    live: Mutex<BTreeMap<SessionId, LiveSession>>,
}

/// A live session, as the rest of the process sees it.
#[derive(Debug)]
struct LiveSession {
    info: Arc<SessionInfo>,
    /// `None` once it has been used.
    end: Option<oneshot::Sender<()>>,
}

// What is kept for each session, and its names of at most 257 bytes: under 1 KiB.
const _: () = assert!(size_of::<SessionInfo>() + size_of::<LiveSession>() <= 320);

/// A session's place in the [`SessionRegistry`], for as long as this lives.
#[derive(Debug)]
pub(super) struct Registration {
    pub info: Arc<SessionInfo>,
    registry: Arc<SessionRegistry>,
    /// `None` once it has been received.
    end: Option<oneshot::Receiver<()>>,
}

impl Default for SessionRegistry {
    fn default() -> Self {
        Self {
            instance: InstanceId::random(),
            next_id: AtomicU64::new(1),
            live: Mutex::default(),
        }
    }
}

impl SessionRegistry {
    /// A new session, with a number that none has had before.
    pub(super) fn register(
        self: &Arc<Self>,
        client: SocketAddr,
        listener: SocketAddr,
    ) -> Registration {
        let id = SessionId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let global_id = GlobalSessionId {
            instance: self.instance,
            session: id,
        };
        let info = Arc::new(SessionInfo::new(global_id, client, listener));
        let (end, end_receiver) = oneshot::channel();
        let session = LiveSession {
            info: Arc::clone(&info),
            end: Some(end),
        };
        self.live().insert(id, session);
        Registration {
            info,
            registry: Arc::clone(self),
            end: Some(end_receiver),
        }
    }

    /// The id of this process.
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// The live sessions, the oldest first.
    pub fn sessions(&self) -> Vec<Arc<SessionInfo>> {
        let live = self.live();
        live.values().map(|it| Arc::clone(&it.info)).collect()
    }

    /// Ends this session: its client gets a 421, and a transfer that runs is cut and not complete. Returns whether there is
    /// such a session; it may be about to end already.
    pub fn end(&self, id: SessionId) -> bool {
        let mut live = self.live();
        let Some(session) = live.get_mut(&id) else {
            return false;
        };
        if let Some(end) = session.end.take() {
            // If it is not received any more, the session is saying goodbye.
            let _ = end.send(());
        }
        true
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<SessionId, LiveSession>> {
        // A panic elsewhere leaves the map whole.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// Resolves once, when the session is to end. May be cancelled.
    pub async fn end_requested(&mut self) {
        let Some(end) = &mut self.end else {
            return std::future::pending().await;
        };
        // Its sender is in the registry as long as this lives, unless it has been used.
        let _ = end.await;
        self.end = None;
    }

    /// Resolves when the session is to end, and at once from then on. May be cancelled.
    pub async fn ended(&mut self) {
        if self.end.is_some() {
            self.end_requested().await;
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.live().remove(&self.info.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(registry: &Arc<SessionRegistry>) -> Registration {
        let client = "[::ffff:192.0.2.7]:50000".parse().expect("an address");
        registry.register(client, "192.0.2.1:21".parse().expect("an address"))
    }

    /// Whether the end of a session has been requested and not been seen.
    async fn is_to_end(session: &mut Registration) -> bool {
        tokio::select! {
            biased;
            () = session.end_requested() => true,
            () = std::future::ready(()) => false,
        }
    }

    fn listed(registry: &SessionRegistry) -> Vec<u64> {
        registry.sessions().iter().map(|it| it.id.0).collect()
    }

    #[test]
    fn a_session_is_listed_while_it_lives() {
        let registry = Arc::new(SessionRegistry::default());
        let first = register(&registry);
        let second = register(&registry);
        assert_eq!(listed(&registry), [1, 2]);
        assert_eq!(first.info.client.to_string(), "192.0.2.7:50000");
        drop(first);
        assert_eq!(listed(&registry), [2]);
        drop(second);
        assert_eq!(listed(&registry), [0; 0]);
        assert_eq!(register(&registry).info.id, SessionId(3));
    }

    #[tokio::test]
    async fn only_the_session_that_is_named_is_to_end_and_only_once() {
        let registry = Arc::new(SessionRegistry::default());
        let mut session = register(&registry);
        let mut other = register(&registry);
        assert!(!is_to_end(&mut session).await);
        assert!(registry.end(session.info.id));
        assert!(registry.end(session.info.id));
        assert!(is_to_end(&mut session).await);
        assert!(!is_to_end(&mut session).await);
        // Other waits are over from then on.
        session.ended().await;
        session.ended().await;
        assert!(!is_to_end(&mut other).await);
        let id = session.info.id;
        drop(session);
        assert!(!registry.end(id));
    }
}
