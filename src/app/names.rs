//! Keeps the names of passive addresses up to date.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::sleep;

use crate::announce::{AnnouncedName, Announcements, LookupChange, LookupError, LookupResult};
use crate::config::{HostName, Passive};
use crate::net::resolve;
use crate::observe::reloads::ReloadLog;
use crate::outcome::ReloadSubject;

/// Often enough for addresses that change by night, and rarely enough for the name server.
const INTERVAL: Duration = Duration::from_secs(30);

/// Looks all names up.
///
/// # Errors
/// If one of them has no address.
pub async fn announcements(passive: &Passive) -> Result<Announcements, LookupError> {
    Announcements::new(passive, look_up).await
}

/// Looks the names up again and again, until no session announces them any more.
pub(super) fn start_refreshing(announcements: &Announcements, reloads: &Arc<ReloadLog>) {
    for name in announcements.names() {
        let refreshing =
            refresh_periodically(Arc::downgrade(name), look_up, INTERVAL, Arc::clone(reloads));
        tokio::spawn(refreshing);
    }
}

async fn refresh_periodically<F>(
    name: Weak<AnnouncedName>,
    look_up: impl Fn(HostName) -> F,
    interval: Duration,
    reloads: Arc<ReloadLog>,
) where
    F: Future<Output = LookupResult>,
{
    let mut failing: Option<Arc<str>> = None;
    loop {
        sleep(interval).await;
        let Some(name) = name.upgrade() else {
            // No client is sent an old address any more.
            if failing.is_some() {
                reloads.mend(ReloadSubject::PassiveAddress, failing);
            }
            return;
        };
        let Some(change) = name.refresh(&look_up).await else {
            continue;
        };
        let name = name.name();
        let refusal = match change {
            LookupChange::Changed { from, to } => {
                tracing::info!(%name, %from, %to, "passive address has changed");
                None
            }
            LookupChange::Recovered => {
                tracing::info!(%name, "passive address resolves again, unchanged");
                None
            }
            LookupChange::Failed(error) => {
                tracing::error!(%error, "passive address cannot be resolved, keeping the last one");
                Some(error.to_string().into())
            }
        };
        let name: Arc<str> = name.as_str().into();
        failing = refusal.is_some().then(|| Arc::clone(&name));
        reloads.record(ReloadSubject::PassiveAddress, Some(name), refusal);
    }
}

async fn look_up(name: HostName) -> LookupResult {
    let addresses = resolve::look_up(name.as_str(), 0).await?;
    Ok(addresses.iter().map(SocketAddr::ip).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Announced, AnnouncedAddress};
    use crate::observe::metrics::Metrics;
    use std::collections::VecDeque;
    use std::io;
    use std::net::IpAddr;
    use std::sync::Mutex;

    #[tokio::test]
    async fn a_name_is_followed_as_long_as_it_is_announced() {
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        let passive = Passive {
            reuse_delay: std::time::Duration::ZERO,
            ports: 50_000..=50_000,
            announced: Announced {
                address: AnnouncedAddress::Name(HostName::parse(b"ftp.test").expect("a name")),
                ports: None,
            },
            by_client: Vec::new(),
        };
        let announcements = Announcements::new(&passive, |_| async { Ok(vec![ip(1)]) })
            .await
            .expect("an address");
        let name = Arc::downgrade(announcements.names().next().expect("the name"));
        let lost = || Err(io::ErrorKind::NotFound.into());
        let answers = VecDeque::from([
            Ok(vec![ip(1)]),
            Ok(vec![ip(2)]),
            lost(),
            lost(),
            Ok(vec![ip(2)]),
            Ok(vec![ip(3)]),
            lost(),
        ]);
        // With the last answer the last session ends, and so does the task.
        let left = Mutex::new((answers, Some(announcements)));
        let look_up = |_| {
            let mut left = left.lock().expect("no holder panics");
            let answer = left.0.pop_front().expect("no further look-up");
            if left.0.is_empty() {
                left.1 = None;
            }
            async { answer }
        };
        let metrics = Arc::new(Metrics::new());
        refresh_periodically(
            name,
            look_up,
            Duration::from_millis(1),
            Arc::new(ReloadLog::new(Arc::clone(&metrics))),
        )
        .await;
        let rendered = metrics.render();
        for (result, count) in [("ok", 3), ("refused", 2)] {
            let line = format!(
                "portcullis_reloads_total{{result=\"{result}\",subject=\"passive_address\"}} {count}\n"
            );
            assert!(rendered.contains(&line), "{line}{rendered}");
        }
        // The last lookup has failed, and the name is not announced any more.
        let stands = "portcullis_reload_refused{subject=\"passive_address\"} 0\n";
        assert!(rendered.contains(stands), "{rendered}");
    }
}
