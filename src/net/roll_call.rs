//! Whether the tasks that accept connections are alive: each is called now and then, and answers wherever it waits for the
//! next connection. One that hangs, or has panicked, doesn't.
//!
//! It is for the watchdog of a service manager. Where there is none, nobody calls, and no task takes part.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Calls the tasks that take part.
#[derive(Debug)]
pub struct RollCall {
    /// The number of the last call.
    calls: watch::Sender<u64>,
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    by_number: HashMap<u64, Member>,
    next: u64,
}

#[derive(Debug)]
struct Member {
    address: SocketAddr,
    /// The last call that it has answered.
    answered: Arc<AtomicU64>,
}

/// A task's part in it, which ends when this is dropped; but not by a panic: a task that has panicked stays away.
#[derive(Debug)]
pub struct Presence {
    roll_call: Arc<RollCall>,
    number: u64,
    calls: watch::Receiver<u64>,
    answered: Arc<AtomicU64>,
}

impl Default for RollCall {
    fn default() -> Self {
        Self {
            calls: watch::channel(0).0,
            members: Mutex::default(),
        }
    }
}

impl RollCall {
    /// The part of the task that accepts at this address, from now on.
    pub fn join(self: &Arc<Self>, address: SocketAddr) -> Presence {
        let calls = self.calls.subscribe();
        let answered = Arc::new(AtomicU64::new(*calls.borrow()));
        let member = Member {
            address,
            answered: Arc::clone(&answered),
        };
        let mut members = self.members();
        let number = members.next;
        members.next += 1;
        members.by_number.insert(number, member);
        drop(members);
        Presence {
            roll_call: Arc::clone(self),
            number,
            calls,
            answered,
        }
    }

    /// Calls, and gives the addresses of those that have not answered the call before.
    pub fn call(&self) -> Vec<SocketAddr> {
        let last = *self.calls.borrow();
        let members = self.members();
        let silent = members.by_number.values().filter(|member| {
            // One that has joined since has nothing to answer.
            member.answered.load(Ordering::Relaxed) < last
        });
        let mut silent: Vec<_> = silent.map(|member| member.address).collect();
        drop(members);
        silent.sort_unstable();
        self.calls.send_replace(last + 1);
        silent
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Presence {
    /// Answers calls for as long as it is polled.
    pub(super) async fn answer(&mut self) -> Infallible {
        loop {
            if self.calls.changed().await.is_err() {
                // Nobody calls any more.
                return std::future::pending().await;
            }
            let call = *self.calls.borrow_and_update();
            self.answered.store(call, Ordering::Relaxed);
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.roll_call.members().by_number.remove(&self.number);
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

    /// Lets all others run until they wait.
    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    fn acceptor(roll_call: &Arc<RollCall>) -> (Acceptor, SocketAddr) {
        let listener = listen::bind(ANYWHERE).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let acceptor = Acceptor::new(listener).answering(Some(roll_call.join(address)));
        (acceptor, address)
    }

    #[tokio::test]
    async fn a_loop_that_waits_for_connections_answers_and_one_that_hangs_does_not() {
        let roll_call = Arc::new(RollCall::default());
        let (mut acceptor, address) = acceptor(&roll_call);
        let (go_on, hanging) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let first = acceptor.accept().await.expect("a connection");
            let _ = hanging.await;
            let second = acceptor.accept().await.expect("a connection");
            drop((first, second));
        });
        for _ in 0..3 {
            assert_eq!(roll_call.call(), []);
            settle().await;
        }
        let first = TcpStream::connect(address).await.expect("accepted");
        // Accepted by the time that a call finds nobody.
        let hung = async {
            while roll_call.call().is_empty() {
                settle().await;
            }
        };
        timeout(Duration::from_secs(20), hung)
            .await
            .expect("it hangs");
        settle().await;
        assert_eq!(roll_call.call(), [address]);
        go_on.send(()).expect("it waits for this");
        settle().await;
        // It has answered the latest call, as soon as it could.
        assert_eq!(roll_call.call(), []);
        let second = TcpStream::connect(address).await.expect("accepted");
        task.await.expect("no panic");
        drop((first, second));
    }

    #[tokio::test]
    async fn a_loop_that_was_ended_is_not_missed_and_one_that_panicked_is() {
        let roll_call = Arc::new(RollCall::default());
        let (mut closed, _) = acceptor(&roll_call);
        let closing = tokio::spawn(async move { closed.accept().await.map(drop) });
        let (mut broken, address) = acceptor(&roll_call);
        let breaking = tokio::spawn(async move {
            drop(broken.accept().await);
            panic!("as a bug would");
        });
        settle().await;
        closing.abort();
        assert!(closing.await.expect_err("aborted").is_cancelled());
        let _client = TcpStream::connect(address).await.expect("accepted");
        assert!(breaking.await.expect_err("panicked").is_panic());
        roll_call.call();
        assert_eq!(roll_call.call(), [address]);
    }

    #[tokio::test]
    async fn who_joins_after_a_call_is_not_missed_at_the_next() {
        let roll_call = Arc::new(RollCall::default());
        roll_call.call();
        let _late = acceptor(&roll_call);
        assert_eq!(roll_call.call(), []);
        assert_eq!(roll_call.call().len(), 1);
    }
}
