//! Tests of which client is sent which address, and of changes of a name's address.

use std::io;

use tokio::time::sleep;

use super::*;

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

async fn one_name(answers: &[&str]) -> (Announcements, Arc<AnnouncedName>) {
    let passive = Passive {
        reuse_delay: std::time::Duration::ZERO,
        ports: 50_000..=50_000,
        announced: to(named("ftp.test"), None),
        by_client: Vec::new(),
    };
    let announcements = announcements(&passive, answers).await;
    let name = announcements.names().next().expect("the name").clone();
    (announcements, name)
}

async fn again(
    name: &AnnouncedName,
    answers: Result<&[&str], io::ErrorKind>,
) -> Option<LookupChange> {
    let answers = match answers {
        Ok(answers) => Ok(answers.iter().map(|answer| ip(answer)).collect()),
        Err(kind) => Err(kind.into()),
    };
    name.refresh(|_| async { answers }).await
}

const ANYBODY: &str = "192.0.2.7";

#[tokio::test]
async fn the_first_rule_with_the_clients_network_counts_and_then_that_for_everybody() {
    let rule = |network: &str, announced| config::AnnouncedTo {
        networks: vec![network.parse().expect("a network")],
        announced,
    };
    let passive = Passive {
        reuse_delay: std::time::Duration::ZERO,
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
        reuse_delay: std::time::Duration::ZERO,
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
    let change = again(&name, Ok(&["192.0.2.2"])).await;
    assert!(
        matches!(change, Some(LookupChange::Changed { from, to }) if (from, to) == (v4("192.0.2.1"), v4("192.0.2.2")))
    );
    assert_eq!(announced(), Some(v4("192.0.2.2")));
}

#[tokio::test]
async fn shuffled_answers_are_no_news() {
    let (_announcements, name) = one_name(&["192.0.2.1", "192.0.2.2"]).await;
    let change = again(&name, Ok(&["192.0.2.2", "192.0.2.1"])).await;
    assert!(change.is_none());
    assert_eq!(name.address(), v4("192.0.2.1"));
}

#[tokio::test]
async fn the_last_good_answer_stays_and_failures_are_told_once() {
    let (_announcements, name) = one_name(&["192.0.2.1"]).await;
    let not_found = Err(io::ErrorKind::NotFound);
    for _ in 0..2 {
        assert!(matches!(
            again(&name, not_found).await,
            Some(LookupChange::Failed(_))
        ));
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
            Some(LookupChange::Recovered)
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
        reuse_delay: std::time::Duration::ZERO,
        ports: 50_000..=50_000,
        announced: to(name(0), None),
        by_client: (1..10).map(rule).collect(),
    };
    let slow = LOOKUP_TIMEOUT / 3;
    let began = Instant::now();
    let error = Announcements::new(&passive, |_| async {
        sleep(slow).await;
        Ok(vec![ip("192.0.2.1")])
    })
    .await
    .expect_err("ten times a third is too long");
    assert_eq!(began.elapsed(), LOOKUP_TIMEOUT);
    assert_eq!(
        error.to_string(),
        "ftp3.test, the name of the passive address, can't be resolved: no answer in time"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_fallen_silent_changes_nothing_and_is_told_of() {
    let (_announcements, name) = one_name(&["192.0.2.1"]).await;
    let began = Instant::now();
    let change = name.refresh(|_| std::future::pending()).await;
    assert!(matches!(change, Some(LookupChange::Failed(_))));
    assert_eq!(began.elapsed(), LOOKUP_TIMEOUT);
    assert_eq!(name.address(), v4("192.0.2.1"));
}

#[tokio::test]
async fn a_name_without_an_address_is_refused_from_the_beginning() {
    let passive = Passive {
        reuse_delay: std::time::Duration::ZERO,
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
