//! A name that is announced, and the address that it has now.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::config::{HostName, is_reachable};

/// Time limit for a name server.
pub(super) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The result of a name lookup.
pub type LookupResult = io::Result<Vec<IpAddr>>;

/// A name and its last good answer.
#[derive(Debug)]
pub struct AnnouncedName {
    name: HostName,
    address: AtomicU32,
    failing: AtomicBool,
}

/// Why a name has no address to announce.
#[derive(Debug, thiserror::Error)]
#[error("{name}, the name of the passive address, can't be resolved: {cause}")]
pub struct LookupError {
    /// The name.
    pub name: HostName,
    /// The error of the resolver.
    #[source]
    pub cause: io::Error,
}

/// The result of a later lookup, where it changes something.
#[derive(Debug)]
pub enum LookupChange {
    /// The name has another address.
    Changed {
        /// The address that was announced.
        from: Ipv4Addr,
        /// The address that is announced from now on.
        to: Ipv4Addr,
    },
    /// The last look-up succeeded and this one failed; the address stays.
    Failed(LookupError),
    /// Look-ups succeed again, with the address that was announced all the while.
    Recovered,
}

impl AnnouncedName {
    /// Looks the name up for the first time.
    pub(super) async fn new<F>(
        name: HostName,
        look_up: &impl Fn(HostName) -> F,
        by: Instant,
    ) -> Result<Self, LookupError>
    where
        F: Future<Output = LookupResult>,
    {
        let addresses = addresses(&name, look_up(name.clone()), by).await?;
        Ok(Self {
            address: AtomicU32::new(addresses[0].to_bits()),
            failing: AtomicBool::new(false),
            name,
        })
    }

    /// The name.
    pub fn name(&self) -> &HostName {
        &self.name
    }

    /// The address that is announced.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.load(Ordering::Relaxed))
    }

    /// Looks the name up again and announces the result.
    ///
    /// The address that is announced stays as long as it is among the answers: name servers shuffle them.
    pub async fn refresh<F>(&self, look_up: impl FnOnce(HostName) -> F) -> Option<LookupChange>
    where
        F: Future<Output = LookupResult>,
    {
        let by = Instant::now() + LOOKUP_TIMEOUT;
        let found = addresses(&self.name, look_up(self.name.clone()), by).await;
        let was_failing = self.failing.swap(found.is_err(), Ordering::Relaxed);
        let from = self.address();
        match found {
            Ok(addresses) if !addresses.contains(&from) => {
                let to = addresses[0];
                self.address.store(to.to_bits(), Ordering::Relaxed);
                Some(LookupChange::Changed { from, to })
            }
            Ok(_) => was_failing.then_some(LookupChange::Recovered),
            Err(error) => (!was_failing).then_some(LookupChange::Failed(error)),
        }
    }
}

/// The IPv4 addresses of an answer, never none.
async fn addresses(
    name: &HostName,
    answer: impl Future<Output = LookupResult>,
    by: Instant,
) -> Result<Vec<Ipv4Addr>, LookupError> {
    let failed = |cause| LookupError {
        name: name.clone(),
        cause,
    };
    let answer = timeout_at(by, answer)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
        .map_err(failed)?;
    let reachable: Vec<Ipv4Addr> = answer
        .into_iter()
        .filter_map(|address| match address.to_canonical() {
            IpAddr::V4(address) => is_reachable(address).then_some(address),
            IpAddr::V6(_) => None,
        })
        .collect();
    if reachable.is_empty() {
        return Err(failed(io::Error::new(
            io::ErrorKind::NotFound,
            "it has no IPv4 address that clients can connect to",
        )));
    }
    Ok(reachable)
}
