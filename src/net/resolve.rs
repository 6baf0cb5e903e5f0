//! Name lookup; concurrent lookups of one backend's name share a single query.
//!
//! getaddrinfo(3) blocks a thread until the name server has answered or its own timeout is over, even when the result
//! is no longer needed. The runtime has 512 such threads in all: a name server that does not answer would use up all of
//! them, by the logins of one site or by the checks of many, and block other sites' lookups, the metrics and the certificate
//! watch. So one lookup of a name runs at a time, and only so many lookups at all.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;

/// Who needs the answer. Lookups of either kind have threads of their own, so that they never wait for the other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Urgency {
    /// A login, a reload or an order waits for it.
    Awaited,
    /// A check of a backend, of which there may be one for each name.
    Background,
}

/// How many lookups run that somebody waits for.
static AWAITED: Semaphore = Semaphore::const_new(192);

/// How many others run. They come in waves, one for each backend, and the next one is in time for the next check.
static BACKGROUND: Semaphore = Semaphore::const_new(64);

impl Urgency {
    fn threads(self) -> &'static Semaphore {
        match self {
            Self::Awaited => &AWAITED,
            Self::Background => &BACKGROUND,
        }
    }
}

/// Does on a thread what blocks, once one of these is free. It is in use until that is done, also if nobody waits any longer.
async fn on_one_of<T: Send + 'static>(
    threads: &'static Semaphore,
    blocking: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let thread = threads.acquire().await.map_err(io::Error::other)?;
    let done = spawn_blocking(move || {
        let done = blocking();
        drop(thread);
        done
    });
    done.await.map_err(io::Error::other)?
}

/// The addresses of a host, for one who waits for them, in the order in which they are to be tried. An IP address is its own.
///
/// # Errors
/// If the name can't be resolved, or to nothing.
pub async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    ask(host, port, Urgency::Awaited).await
}

async fn ask(host: &str, port: u16, urgency: Urgency) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => {
            let name = (host.to_owned(), port);
            let blocking = move || Ok(name.to_socket_addrs()?.collect());
            on_one_of(urgency.threads(), blocking).await?
        }
    };
    if addresses.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ));
    }
    Ok(addresses)
}

/// Looks names up for any number of sessions. Nothing is kept once it is answered: how long a name may be believed is the
/// system's affair.
#[derive(Debug, Default)]
pub struct Resolver {
    /// No more than twice as many as there are backends in configurations.
    running: Mutex<HashMap<Question, SharedLookup>>,
}

/// Name, port, and for whom. A lookup in the background may have yet to begin, and nobody waits for that.
type Question = (String, u16, Urgency);

/// `None` until the lookup is done. All waiting tasks get the same error, so it is shared.
type SharedLookup = watch::Receiver<Option<Result<Vec<SocketAddr>, Arc<io::Error>>>>;

impl Resolver {
    /// As [`look_up`], by the look-up of this name that is under way if there is one.
    ///
    /// # Errors
    /// As [`look_up`].
    pub async fn resolve(
        self: &Arc<Self>,
        host: &str,
        port: u16,
        urgency: Urgency,
    ) -> io::Result<Vec<SocketAddr>> {
        if host.parse::<IpAddr>().is_ok() {
            // No thread, no task.
            return look_up(host, port).await;
        }
        let start =
            |(host, port, urgency): Question| async move { ask(&host, port, urgency).await };
        self.share((host.to_owned(), port, urgency), start).await
    }

    /// The result of the running look-up of this name, or of a new one.
    async fn share<F>(
        self: &Arc<Self>,
        question: Question,
        start: impl FnOnce(Question) -> F,
    ) -> io::Result<Vec<SocketAddr>>
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        let mut lookup_result = self.join_or_begin(question, start);
        let result = lookup_result.wait_for(Option::is_some).await;
        match result.as_deref() {
            Ok(Some(Ok(addresses))) => Ok(addresses.clone()),
            Ok(Some(Err(error))) => Err(io::Error::new(error.kind(), Arc::clone(error))),
            Ok(None) | Err(_) => Err(io::Error::other("the look-up broke off")),
        }
    }

    /// A new lookup runs in its own task, which goes on when the waiting tasks have given up: later calls wait for the
    /// same one.
    fn join_or_begin<F>(
        self: &Arc<Self>,
        question: Question,
        start: impl FnOnce(Question) -> F,
    ) -> SharedLookup
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        let mut running = self.lock();
        if let Some(lookup_result) = running.get(&question)
            // Closed without an answer: it broke off.
            && lookup_result.has_changed().is_ok()
        {
            return lookup_result.clone();
        }
        let (sender, lookup_result) = watch::channel(None);
        running.insert(question.clone(), lookup_result.clone());
        let lookup = start(question.clone());
        let resolver = Arc::clone(self);
        tokio::spawn(async move {
            let result = lookup.await.map_err(Arc::new);
            // Removed first, so that a call from now on does not get an old result.
            resolver.lock().remove(&question);
            sender.send_replace(Some(result));
        });
        lookup_result
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Question, SharedLookup>> {
        // Every change is a single insertion or removal.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A name server that answers on request, and counts its queries.
    struct Server {
        resolver: Arc<Resolver>,
        asked: Arc<AtomicUsize>,
        answers: Arc<Semaphore>,
    }

    impl Server {
        fn silent() -> Self {
            Self {
                resolver: Arc::default(),
                asked: Arc::default(),
                answers: Arc::new(Semaphore::new(0)),
            }
        }

        async fn look_up(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
            self.look_up_for(Urgency::Awaited, host).await
        }

        async fn look_up_for(&self, urgency: Urgency, host: &str) -> io::Result<Vec<SocketAddr>> {
            let answers = Arc::clone(&self.answers);
            self.resolver
                .share((host.to_owned(), 21, urgency), |(name, _, _)| {
                    self.asked.fetch_add(1, Ordering::Relaxed);
                    async move {
                        answers
                            .acquire()
                            .await
                            .expect("it is never closed")
                            .forget();
                        match name.as_str() {
                            "unknown.test" => Err(io::Error::other("no such name")),
                            _ => Ok(vec![SocketAddr::from(([192, 0, 2, 1], 21))]),
                        }
                    }
                })
                .await
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }
    }

    /// Polls a lookup once, and drops it.
    async fn give_up(server: &Server, host: &str) {
        tokio::select! {
            biased;
            _ = server.look_up(host) => panic!("the server is silent"),
            () = std::future::ready(()) => {}
        }
    }

    #[tokio::test]
    async fn a_name_whose_server_is_silent_takes_one_look_up_however_many_ask_and_give_up() {
        let server = Server::silent();
        for _ in 0..1_000 {
            give_up(&server, "slow.test").await;
        }
        assert_eq!(server.asked(), 1);
        let (one, other, ()) = tokio::join!(
            biased;
            server.look_up("slow.test"),
            server.look_up("slow.test"),
            async { server.answers.add_permits(1) },
        );
        for addresses in [one, other] {
            let address = SocketAddr::from(([192, 0, 2, 1], 21));
            assert_eq!(addresses.expect("an answer"), [address]);
        }
        assert_eq!(server.asked(), 1);
    }

    #[tokio::test]
    async fn names_do_not_wait_for_each_other_and_are_asked_for_anew_each_time() {
        let server = Server::silent();
        give_up(&server, "slow.test").await;
        // The first of these is for the first caller.
        server.answers.add_permits(4);
        for _ in 0..2 {
            assert!(server.look_up("other.test").await.is_ok());
        }
        assert!(server.look_up("slow.test").await.is_ok());
        assert_eq!(server.asked(), 4);
        assert!(server.resolver.lock().is_empty());
    }

    #[tokio::test]
    async fn everybody_who_waits_is_told_why_there_is_no_address() {
        let server = Server::silent();
        server.answers.add_permits(1);
        let (one, other) = tokio::join!(
            biased;
            server.look_up("unknown.test"),
            server.look_up("unknown.test")
        );
        for outcome in [one, other] {
            assert_eq!(outcome.unwrap_err().to_string(), "no such name");
        }
        assert_eq!(server.asked(), 1);
    }

    #[tokio::test]
    async fn an_address_is_its_own_answer() {
        let resolver = Arc::new(Resolver::default());
        for (host, address) in [("192.0.2.1", "192.0.2.1:21"), ("::1", "[::1]:21")] {
            let addresses = resolver.resolve(host, 21, Urgency::Background).await;
            let addresses = addresses.expect("no look-up");
            assert_eq!(addresses, [address.parse().expect("an address")]);
        }
    }

    #[tokio::test]
    async fn a_login_does_not_wait_for_a_check_that_has_asked_for_the_same_name() {
        let server = Server::silent();
        tokio::select! {
            biased;
            _ = server.look_up_for(Urgency::Background, "slow.test") => panic!("the server is silent"),
            () = std::future::ready(()) => {}
        }
        give_up(&server, "slow.test").await;
        assert_eq!(server.asked(), 2);
    }

    #[tokio::test]
    async fn a_look_up_that_is_given_up_has_its_thread_until_the_name_server_has_answered() {
        static ONE: Semaphore = Semaphore::const_new(1);
        let (answer, answered) = std::sync::mpsc::channel::<()>();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let silent = on_one_of(&ONE, move || {
            let _ = begun.send(());
            let _ = answered.recv();
            Ok(())
        });
        tokio::select! {
            biased;
            _ = silent => panic!("it is not answered"),
            _ = has_begun => {}
        }
        let mut next = std::pin::pin!(on_one_of(&ONE, || Ok(())));
        tokio::select! {
            biased;
            _ = &mut next => panic!("the thread is in use"),
            () = std::future::ready(()) => {}
        }
        drop(answer);
        assert!(next.await.is_ok());
    }

    #[tokio::test]
    async fn look_ups_without_an_answer_leave_threads_to_everything_else() {
        // Those of the runtime, unless it is told otherwise.
        let threads = 512;
        let taken =
            [Urgency::Awaited, Urgency::Background].map(|it| it.threads().available_permits());
        assert!(taken.iter().sum::<usize>() <= threads / 2, "{taken:?}");
    }
}
