//! What clients are told of the passive ports, which behind NAT are reached at another address and by other numbers than
//! those listened on.
//!
//! An address may be given as a name. Its answer is looked up before the first client asks, and again and again by a task
//! of the process; a look-up that fails changes nothing. So there always is an address, and no reply waits for a name
//! server.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::{Instant, timeout_at};

use crate::config::{self, AnnouncedAddress, HostName, Passive, is_reachable};

/// What every client is told, by its address. By default: the address that it connected to, and ports as they are.
#[derive(Debug, Default)]
pub struct Announcements {
    /// The first port that is listened on.
    first: u16,
    everybody: Announced,
    by_client: Vec<(Vec<IpNet>, Announced)>,
}

#[derive(Debug, Default)]
struct Announced {
    address: Address,
    ports: Option<RangeInclusive<u16>>,
}

#[derive(Debug, Default)]
enum Address {
    #[default]
    Control,
    Ip(Ipv4Addr),
    Name(Arc<Name>),
}

/// A name and its last good answer.
#[derive(Debug)]
pub struct Name {
    name: HostName,
    address: AtomicU32,
    failing: AtomicBool,
}

/// Why a name has no address to announce.
#[derive(Debug, thiserror::Error)]
#[error("{name}, the name of the passive address, can't be resolved: {cause}")]
pub struct LookUpError {
    /// The name.
    pub name: HostName,
    /// What the resolver said.
    #[source]
    pub cause: io::Error,
}

/// What a further look-up brought that is worth telling.
#[derive(Debug)]
pub enum News {
    /// The name has another address.
    Moved {
        /// The address that was announced.
        from: Ipv4Addr,
        /// The address that is announced from now on.
        to: Ipv4Addr,
    },
    /// The last look-up succeeded and this one failed; the address stays.
    Lost(LookUpError),
    /// Look-ups succeed again, with the address that was announced all the while.
    Back,
}

impl Announcements {
    /// Looks all names up, in five seconds at most.
    ///
    /// # Errors
    /// If one of them has no address by then.
    pub async fn new<F>(
        passive: &Passive,
        look_up: impl Fn(HostName) -> F,
    ) -> Result<Self, LookUpError>
    where
        F: Future<Output = io::Result<Vec<IpAddr>>>,
    {
        // For all of them, or a start and a reload would take longer the more names there are.
        let by = Instant::now() + LOOK_UP_PATIENCE;
        let mut by_client = Vec::new();
        for rule in &passive.by_client {
            let announced = Announced::new(&rule.announced, &look_up, by).await?;
            by_client.push((rule.networks.clone(), announced));
        }
        Ok(Self {
            first: *passive.ports.start(),
            everybody: Announced::new(&passive.announced, &look_up, by).await?,
            by_client,
        })
    }

    /// The address for a 227 reply to `client`; `None`: the one that it connected to.
    pub fn address(&self, client: IpAddr) -> Option<Ipv4Addr> {
        match &self.to(client).address {
            Address::Control => None,
            Address::Ip(address) => Some(*address),
            Address::Name(name) => Some(name.address()),
        }
    }

    /// The number by which `client` reaches the port that is `listened` on.
    pub fn port(&self, client: IpAddr, listened: u16) -> u16 {
        let announced = self.to(client).ports.as_ref();
        announced
            .and_then(|ports| ports.start().checked_add(listened.checked_sub(self.first)?))
            .unwrap_or(listened)
    }

    /// Every name whose address may change.
    pub fn names(&self) -> impl Iterator<Item = &Arc<Name>> {
        let by_client = self.by_client.iter().map(|(_, announced)| announced);
        by_client
            .chain([&self.everybody])
            .filter_map(|announced| match &announced.address {
                Address::Name(name) => Some(name),
                Address::Control | Address::Ip(_) => None,
            })
    }

    fn to(&self, client: IpAddr) -> &Announced {
        let client = client.to_canonical();
        self.by_client
            .iter()
            .find(|(networks, _)| networks.iter().any(|network| network.contains(&client)))
            .map_or(&self.everybody, |(_, announced)| announced)
    }
}

impl Announced {
    async fn new<F>(
        announced: &config::Announced,
        look_up: &impl Fn(HostName) -> F,
        by: Instant,
    ) -> Result<Self, LookUpError>
    where
        F: Future<Output = io::Result<Vec<IpAddr>>>,
    {
        Ok(Self {
            address: match &announced.address {
                AnnouncedAddress::Control => Address::Control,
                AnnouncedAddress::Ip(address) => Address::Ip(*address),
                AnnouncedAddress::Name(name) => {
                    Address::Name(Arc::new(Name::new(name.clone(), look_up, by).await?))
                }
            },
            ports: announced.ports.clone(),
        })
    }
}

impl Name {
    async fn new<F>(
        name: HostName,
        look_up: &impl Fn(HostName) -> F,
        by: Instant,
    ) -> Result<Self, LookUpError>
    where
        F: Future<Output = io::Result<Vec<IpAddr>>>,
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

    /// Looks the name up once more and announces what it finds.
    ///
    /// The address that is announced stays as long as it is among the answers: name servers shuffle them.
    pub async fn look_up_again<F>(&self, look_up: impl FnOnce(HostName) -> F) -> Option<News>
    where
        F: Future<Output = io::Result<Vec<IpAddr>>>,
    {
        let by = Instant::now() + LOOK_UP_PATIENCE;
        let found = addresses(&self.name, look_up(self.name.clone()), by).await;
        let was_failing = self.failing.swap(found.is_err(), Ordering::Relaxed);
        let from = self.address();
        match found {
            Ok(addresses) if !addresses.contains(&from) => {
                let to = addresses[0];
                self.address.store(to.to_bits(), Ordering::Relaxed);
                Some(News::Moved { from, to })
            }
            Ok(_) => was_failing.then_some(News::Back),
            Err(error) => (!was_failing).then_some(News::Lost(error)),
        }
    }
}

/// The IPv4 addresses of an answer, never none.
async fn addresses(
    name: &HostName,
    answer: impl Future<Output = io::Result<Vec<IpAddr>>>,
    by: Instant,
) -> Result<Vec<Ipv4Addr>, LookUpError> {
    let failed = |cause| LookUpError {
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

/// How long a name server may take.
const LOOK_UP_PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn v4(text: &str) -> Ipv4Addr {
        text.parse().expect("an address")
    }

    fn to(address: AnnouncedAddress, ports: Option<RangeInclusive<u16>>) -> config::Announced {
        config::Announced { address, ports }
    }

    fn named(name: &str) -> AnnouncedAddress {
        AnnouncedAddress::Name(HostName::parse(name.as_bytes()).expect("a name"))
    }

    async fn announcements(passive: &Passive, answers: &[&str]) -> Announcements {
        let answers: Vec<IpAddr> = answers.iter().map(|answer| ip(answer)).collect();
        Announcements::new(passive, |_| async { Ok(answers.clone()) })
            .await
            .expect("answers")
    }

    async fn one_name(answers: &[&str]) -> (Announcements, Arc<Name>) {
        let passive = Passive {
            ports: 50_000..=50_000,
            announced: to(named("ftp.test"), None),
            by_client: Vec::new(),
        };
        let announcements = announcements(&passive, answers).await;
        let name = announcements.names().next().expect("the name").clone();
        (announcements, name)
    }

    async fn again(name: &Name, answers: Result<&[&str], io::ErrorKind>) -> Option<News> {
        let answers = match answers {
            Ok(answers) => Ok(answers.iter().map(|answer| ip(answer)).collect()),
            Err(kind) => Err(kind.into()),
        };
        name.look_up_again(|_| async { answers }).await
    }

    const ANYBODY: &str = "192.0.2.7";

    #[tokio::test]
    async fn the_first_rule_with_the_clients_network_counts_and_then_that_for_everybody() {
        let rule = |network: &str, announced| config::AnnouncedTo {
            networks: vec![network.parse().expect("a network")],
            announced,
        };
        let passive = Passive {
            ports: 50_000..=50_099,
            announced: to(
                AnnouncedAddress::Ip(v4("203.0.113.10")),
                Some(60_000..=60_099),
            ),
            by_client: vec![
                rule("10.1.0.0/16", to(AnnouncedAddress::Control, None)),
                rule("10.0.0.0/8", to(named("inner.test"), Some(40_000..=40_099))),
                rule("fd00::/8", to(AnnouncedAddress::Control, None)),
            ],
        };
        let announcements = announcements(&passive, &["10.9.9.9"]).await;
        for (client, address, port) in [
            ("10.1.2.3", None, 50_017),
            ("::ffff:10.1.2.3", None, 50_017),
            ("10.2.2.3", Some(v4("10.9.9.9")), 40_017),
            ("fd00::1", None, 50_017),
            (ANYBODY, Some(v4("203.0.113.10")), 60_017),
            ("2001:db8::1", Some(v4("203.0.113.10")), 60_017),
        ] {
            assert_eq!(announcements.address(ip(client)), address, "{client}");
            assert_eq!(announcements.port(ip(client), 50_017), port, "{client}");
        }
    }

    #[tokio::test]
    async fn every_port_has_one_announced_for_it() {
        let passive = Passive {
            ports: 50_000..=50_001,
            announced: to(AnnouncedAddress::Control, Some(65_534..=65_535)),
            by_client: Vec::new(),
        };
        let announcements = announcements(&passive, &[]).await;
        let port = |listened| announcements.port(ip(ANYBODY), listened);
        assert_eq!((port(50_000), port(50_001)), (65_534, 65_535));
    }

    #[tokio::test]
    async fn a_name_is_announced_by_the_address_that_it_has_now() {
        let (announcements, name) = one_name(&["2001:db8::1", "192.0.2.1"]).await;
        let announced = || announcements.address(ip(ANYBODY));
        assert_eq!(announced(), Some(v4("192.0.2.1")));
        let news = again(&name, Ok(&["192.0.2.2"])).await;
        assert!(
            matches!(news, Some(News::Moved { from, to }) if (from, to) == (v4("192.0.2.1"), v4("192.0.2.2")))
        );
        assert_eq!(announced(), Some(v4("192.0.2.2")));
    }

    #[tokio::test]
    async fn shuffled_answers_are_no_news() {
        let (_announcements, name) = one_name(&["192.0.2.1", "192.0.2.2"]).await;
        let news = again(&name, Ok(&["192.0.2.2", "192.0.2.1"])).await;
        assert!(news.is_none());
        assert_eq!(name.address(), v4("192.0.2.1"));
    }

    #[tokio::test]
    async fn the_last_good_answer_stays_and_failures_are_told_once() {
        let (_announcements, name) = one_name(&["192.0.2.1"]).await;
        let not_found = Err(io::ErrorKind::NotFound);
        for _ in 0..2 {
            assert!(matches!(again(&name, not_found).await, Some(News::Lost(_))));
            assert!(again(&name, not_found).await.is_none());
            // As good as no answer.
            assert!(
                again(&name, Ok(&["2001:db8::1", "0.0.0.0"]))
                    .await
                    .is_none()
            );
            assert_eq!(name.address(), v4("192.0.2.1"));
            assert!(matches!(
                again(&name, Ok(&["192.0.2.1"])).await,
                Some(News::Back)
            ));
            assert!(again(&name, Ok(&["192.0.2.1"])).await.is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_names_there_are_a_silent_server_is_waited_for_once() {
        let name = |number: u32| named(&format!("ftp{number}.test"));
        let rule = |number: u32| config::AnnouncedTo {
            networks: vec![format!("10.{number}.0.0/16").parse().expect("a network")],
            announced: to(name(number), None),
        };
        let passive = Passive {
            ports: 50_000..=50_000,
            announced: to(name(0), None),
            by_client: (1..10).map(rule).collect(),
        };
        let slow = LOOK_UP_PATIENCE / 3;
        let began = Instant::now();
        let error = Announcements::new(&passive, |_| async {
            sleep(slow).await;
            Ok(vec![ip("192.0.2.1")])
        })
        .await
        .expect_err("ten times a third is too long");
        assert_eq!(began.elapsed(), LOOK_UP_PATIENCE);
        assert_eq!(
            error.to_string(),
            "ftp3.test, the name of the passive address, can't be resolved: no answer in time"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_has_fallen_silent_changes_nothing_and_is_told_of() {
        let (_announcements, name) = one_name(&["192.0.2.1"]).await;
        let began = Instant::now();
        let news = name.look_up_again(|_| std::future::pending()).await;
        assert!(matches!(news, Some(News::Lost(_))));
        assert_eq!(began.elapsed(), LOOK_UP_PATIENCE);
        assert_eq!(name.address(), v4("192.0.2.1"));
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_refused_from_the_beginning() {
        let passive = Passive {
            ports: 50_000..=50_000,
            announced: to(named("ftp.test"), None),
            by_client: Vec::new(),
        };
        let error = Announcements::new(&passive, |_| async { Ok(vec![ip("2001:db8::1")]) })
            .await
            .expect_err("no IPv4 address");
        assert_eq!(
            error.to_string(),
            "ftp.test, the name of the passive address, can't be resolved: it has no IPv4 address that clients can \
             connect to"
        );
    }
}
