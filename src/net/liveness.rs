//! Liveness probes of the tasks that accept connections: each is probed at an interval, and answers wherever it waits for the
//! next connection. One that hangs, or has panicked, doesn't.
//!
//! They are for the watchdog of a service manager. Where there is none, there are no probes, and no task is registered.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Probes the registered tasks.
#[derive(Debug)]
pub struct Liveness {
    /// The number of the last probe.
    probes: watch::Sender<u64>,
    tasks: Mutex<Tasks>,
}

#[derive(Debug, Default)]
struct Tasks {
    by_number: HashMap<u64, Task>,
    next: u64,
}

#[derive(Debug)]
struct Task {
    address: SocketAddr,
    /// The last probe that it has answered.
    answered: Arc<AtomicU64>,
}

/// The registration of a task, which ends when this is dropped; but not by a panic: a task that has panicked is to be missed.
#[derive(Debug)]
pub struct LivenessHandle {
    liveness: Arc<Liveness>,
    number: u64,
    probes: watch::Receiver<u64>,
    answered: Arc<AtomicU64>,
}

impl Default for Liveness {
    fn default() -> Self {
        Self {
            probes: watch::channel(0).0,
            tasks: Mutex::default(),
        }
    }
}

impl Liveness {
    /// Registers the task that accepts at this address.
    pub fn register(self: &Arc<Self>, address: SocketAddr) -> LivenessHandle {
        let probes = self.probes.subscribe();
        let answered = Arc::new(AtomicU64::new(*probes.borrow()));
        let task = Task {
            address,
            answered: Arc::clone(&answered),
        };
        let mut tasks = self.tasks();
        let number = tasks.next;
        tasks.next += 1;
        tasks.by_number.insert(number, task);
        drop(tasks);
        LivenessHandle {
            liveness: Arc::clone(self),
            number,
            probes,
            answered,
        }
    }

    /// Sends a probe, and returns the addresses of the tasks that have not answered the one before.
    pub fn probe(&self) -> Vec<SocketAddr> {
        let last = *self.probes.borrow();
        let tasks = self.tasks();
        let silent = tasks.by_number.values().filter(|task| {
            // One that was registered since has nothing to answer.
            task.answered.load(Ordering::Relaxed) < last
        });
        let mut silent: Vec<_> = silent.map(|task| task.address).collect();
        drop(tasks);
        silent.sort_unstable();
        self.probes.send_replace(last + 1);
        silent
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LivenessHandle {
    /// Answers probes for as long as it is polled.
    pub(super) async fn answer(&mut self) -> Infallible {
        loop {
            if self.probes.changed().await.is_err() {
                // There are no more probes.
                return std::future::pending().await;
            }
            let probe = *self.probes.borrow_and_update();
            self.answered.store(probe, Ordering::Relaxed);
        }
    }
}

impl Drop for LivenessHandle {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.liveness.tasks().by_number.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpStream;
    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;
    use crate::net::listen::{self, Acceptor};

    const ANYWHERE: SocketAddr = SocketAddr::new(
        std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1)),
        0,
    );

    /// Lets all other tasks run until they wait.
    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    fn acceptor(liveness: &Arc<Liveness>) -> (Acceptor, SocketAddr) {
        let listener = listen::bind(ANYWHERE).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let acceptor = Acceptor::new(listener).with_liveness(Some(liveness.register(address)));
        (acceptor, address)
    }

    #[tokio::test]
    async fn a_loop_that_waits_for_connections_answers_and_one_that_hangs_does_not() {
        let liveness = Arc::new(Liveness::default());
        let (mut acceptor, address) = acceptor(&liveness);
        let (go_on, hanging) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let first = acceptor.accept().await.expect("a connection");
            let _ = hanging.await;
            let second = acceptor.accept().await.expect("a connection");
            drop((first, second));
        });
        for _ in 0..3 {
            assert_eq!(liveness.probe(), []);
            settle().await;
        }
        let first = TcpStream::connect(address).await.expect("accepted");
        // Accepted by the time that a probe is not answered.
        let hung = async {
            while liveness.probe().is_empty() {
                settle().await;
            }
        };
        timeout(Duration::from_secs(20), hung)
            .await
            .expect("it hangs");
        settle().await;
        assert_eq!(liveness.probe(), [address]);
        go_on.send(()).expect("it waits for this");
        settle().await;
        // It has answered the latest probe, as soon as it could.
        assert_eq!(liveness.probe(), []);
        let second = TcpStream::connect(address).await.expect("accepted");
        task.await.expect("no panic");
        drop((first, second));
    }

    #[tokio::test]
    async fn a_loop_that_was_ended_is_not_missed_and_one_that_panicked_is() {
        let liveness = Arc::new(Liveness::default());
        let (mut closed, _) = acceptor(&liveness);
        let closing = tokio::spawn(async move { closed.accept().await.map(drop) });
        let (mut broken, address) = acceptor(&liveness);
        let breaking = tokio::spawn(async move {
            drop(broken.accept().await);
            panic!("as a bug would");
        });
        settle().await;
        closing.abort();
        assert!(closing.await.expect_err("aborted").is_cancelled());
        let _client = TcpStream::connect(address).await.expect("accepted");
        assert!(breaking.await.expect_err("panicked").is_panic());
        liveness.probe();
        assert_eq!(liveness.probe(), [address]);
    }

    #[tokio::test]
    async fn a_task_registered_after_a_probe_is_not_missed_at_the_next() {
        let liveness = Arc::new(Liveness::default());
        liveness.probe();
        let _late = acceptor(&liveness);
        assert_eq!(liveness.probe(), []);
        assert_eq!(liveness.probe().len(), 1);
    }
}
