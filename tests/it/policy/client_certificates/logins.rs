//! Which certificate lets which user in, and what is said where it doesn't.

use std::fs;
use std::io::Read;

use testkit::certs::{Authority, Pair, Validity};
use testkit::client_certs::Kind;
use testkit::content;
use testkit::front::Front;
use testkit::wire::Wire;

use super::*;

const REFUSAL: &str = "530 User cannot log in without the right client certificate.";

#[test]
fn a_user_with_his_own_certificate_logs_in_and_nobody_else_does() {
    let world = World::new("{user: cn}");
    let strangers = Authority::new("Partners");
    let acme = world.good("acme");
    for version in VERSIONS {
        let mut client = world.client(version, Some(&acme));
        client.login("ACME", "secret");
        client.command("PWD", 257);
        let expired = world.partners.issue_client("acme", Kind::Expired);
        let stranger = strangers.issue_client("acme", Kind::Good);
        let web = world.partners.issue_client("acme", Kind::ForServers);
        for (own, user, result) in [
            (None, "acme", "missing"),
            (Some(&acme), "bob", "other_user"),
            (Some(&expired), "acme", "expired"),
            (Some(&stranger), "acme", "unknown_ca"),
            (Some(&web), "acme", "purpose"),
        ] {
            let before = world.counted("only", result);
            let mut client = world.client(version, own);
            assert_eq!(client.command(&format!("USER {user}"), 530), REFUSAL);
            // The password that may follow leads nowhere.
            client.command("PASS secret", 503);
            assert_eq!(world.counted("only", result), before + 1.0, "{result}");
            let line = world.refusal(result);
            assert_eq!(line.field("user").as_deref(), Some(user));
            assert_eq!(line.field("client_certificate").is_some(), own.is_some());
        }
    }
    assert!(world.counted("only", "accepted") >= 2.0);
    let purpose = world.refusal("purpose").field("detail");
    assert!(purpose.is_some_and(|detail| detail.contains("`pinned`")));
    let line = world
        .proxy
        .wait_for_log(|line| line.message() == "logged in");
    let fingerprint = format!("sha256:{}", content::sha256(&acme.pair.der()));
    assert_eq!(line.field("client_fingerprint"), Some(fingerprint));
    assert_eq!(line.field("client_certificate").as_deref(), Some("CN=acme"));
    // No password but that of the right users has come to the backend.
    assert!(world.backend.users().iter().all(|user| user == "ACME"));
}

#[test]
fn a_certificate_is_bound_by_its_address_or_its_host_name_too() {
    for (rules, user) in [
        ("{user: email}", "acme@partner.test"),
        ("{user: dns}", "acme.partner.test"),
        ("{user: none}", "anybody"),
    ] {
        let world = World::new(rules);
        let acme = world.good("acme");
        assert_eq!(world.user(&TLS13, Some(&acme), user), 331, "{rules}");
        let other = if rules == "{user: none}" { 331 } else { 530 };
        assert_eq!(world.user(&TLS13, Some(&acme), "acme"), other, "{rules}");
        assert_eq!(world.user(&TLS13, None, user), 530, "{rules}");
    }
}

#[test]
fn a_pinned_certificate_is_good_whoever_has_issued_it_and_whatever_for() {
    let partners = Authority::new("Partners");
    let web = partners.issue_client("www", Kind::ForServers);
    let own = Pair::self_signed(&["partner"], Validity::Expired);
    let pin = |pair: &Pair| format!("\"sha256:{}\"", content::sha256(&pair.der()));
    let rules = format!(
        "{{pinned: {{Shop: {}, partner: [{}, {}]}}}}",
        pin(&web.pair),
        pin(&own),
        pin(&web.pair)
    );
    let world = World::of(
        Front::new(&[]),
        partners,
        "ask: optional",
        &rules,
        |it, _| it,
    );
    for version in VERSIONS {
        assert_eq!(world.user(version, Some(&web), "shop"), 331);
        let tls = RawTls::showing(&world.front.authority, NAME, &[version], &own);
        let mut client = Raw::connect_auth_tls(world.proxy.explicit(), &tls);
        client.login("partner", "secret");
        // A good certificate of the authority isn't that user's.
        assert_eq!(world.user(version, Some(&world.good("shop")), "shop"), 530);
        assert_eq!(world.user(version, Some(&world.good("acme")), "acme"), 331);
    }
}

#[test]
fn a_site_without_the_key_takes_no_notice_of_certificates() {
    let world = World::new("{user: cn}");
    let stranger = Authority::new("Strangers").issue_client("x", Kind::Expired);
    for version in VERSIONS {
        for own in [None, Some(&stranger)] {
            let mut client = world.client(version, own);
            client.login("open.test|acme", "secret");
        }
    }
    for result in ["missing", "expired", "unknown_ca", "accepted"] {
        assert_eq!(world.counted("open", result), 0.0, "{result}");
    }
}

#[test]
fn where_none_is_required_a_wrong_one_is_logged_and_a_password_does() {
    let world = World::new("{required: false, user: cn}");
    let acme = world.good("acme");
    for (own, user) in [(None, "bob"), (Some(&acme), "bob"), (Some(&acme), "acme")] {
        world.client(&TLS13, own).login(user, "secret");
    }
    assert_eq!(world.counted("only", "other_user"), 1.0);
    assert_eq!(world.counted("only", "accepted"), 1.0);
    assert_eq!(world.counted("only", "missing"), 0.0);
    let line = world.refusal("other_user");
    assert!(line.message().ends_with("the login continues without it"));
}

#[test]
fn a_login_in_clear_text_has_no_certificate() {
    let world = World::new("{user: cn}");
    let mut client = Raw::connect(world.proxy.explicit());
    client.expect(220);
    client.command("USER acme", 530);
    client.login("open.test|acme", "secret");
}

#[test]
fn another_user_on_the_same_connection_needs_a_certificate_of_his_own() {
    let world = World::new("{user: cn}");
    let acme = world.good("acme");
    let mut client = world.client(&TLS13, Some(&acme));
    client.command("USER acme", 331);
    client.command("USER bob", 530);
    client.command("PASS secret", 503);
    client.login("acme", "secret");
    client.command("USER bob", 530);
    client.command("PASS secret", 503);
    // The login before holds.
    client.command("PWD", 257);
    assert!(world.backend.users().iter().all(|user| user == "acme"));
}

#[test]
fn refused_certificates_are_failed_logins_to_the_guard() {
    let world = World::with("optional", "{user: cn}", |config, _| {
        config.set("guard", "{failures: 3, delay: 1ms, max_delay: 1ms}")
    });
    let acme = world.good("acme");
    let mut client = world.client(&TLS13, Some(&acme));
    for user in ["a", "b"] {
        client.command(&format!("USER {user}"), 530);
    }
    client.command("USER c", 530);
    client.expect(421);
    let refused = "portcullis_logins_total{result=\"not_allowed\",site=\"only\"}";
    assert_eq!(world.proxy.metric(refused), 3.0);
}

#[test]
fn where_all_are_asked_strictly_the_handshake_fails_without_a_good_one() {
    let world = World::with("required", "{user: cn}", |config, _| config);
    let stranger = Authority::new("Strangers").issue_client("acme", Kind::Good);
    for version in VERSIONS {
        for (own, result) in [(None, "missing"), (Some(&stranger), "unknown_ca")] {
            let before = world.counted("none", result);
            let mut client = Wire::connect(world.proxy.implicit());
            // In TLS 1.3 the client is done before the proxy has looked at its certificate.
            let shaken = client.handshake(world.tls(version, own).connection());
            let greeting = shaken.and_then(|()| client.read(&mut [0; 99]));
            assert!(greeting.is_err(), "{greeting:?}");
            world.proxy.wait_for_metric(
                &format!(
                    "portcullis_client_certificates_total{{result=\"{result}\",site=\"none\"}}"
                ),
                |count| count == before + 1.0,
            );
            let failed = world.proxy.wait_for_log(|line| {
                line.message() == "TLS handshake with the client failed"
                    && line.field("result").as_deref() == Some(result)
            });
            let (subject, detail) = match own {
                None => (None, None),
                Some(_) => (
                    Some("CN=acme (key not verified)"),
                    Some("issued by unknown CN=Strangers"),
                ),
            };
            assert_eq!(failed.field("client_certificate").as_deref(), subject);
            assert_eq!(failed.field("detail").as_deref(), detail);
            assert_eq!(failed.field("client_fingerprint").is_some(), own.is_some());
        }
        let acme = world.good("acme");
        world.client(version, Some(&acme)).login("acme", "secret");
        // A site that demands none has a good one all the same.
        let mut client = world.client(version, Some(&acme));
        client.login("open.test|bob", "secret");
    }
}

#[test]
fn a_password_of_ours_logs_the_user_in() {
    let world = World::of(
        Front::new(&[]),
        Authority::new("Partners"),
        "ask: optional",
        "{user: cn, credentials: partners.pw}",
        |config, front| {
            let file = front.directory().join("partners.pw");
            fs::write(file, "# partners\nAcme:secret\nbob:outdated\n").expect("writable");
            config.log("debug")
        },
    );
    for version in VERSIONS {
        let acme = world.good("acme");
        let mut client = world.client(version, Some(&acme));
        client.command("USER acme", 230);
        client.command("PWD", 257);
        // Some clients say it all the same, and the backend hears nothing of it.
        client.command("PASS whatever", 230);
        client.command("PWD", 257);
    }
    let passwords = world.backend.commands();
    let passwords = passwords.iter().filter(|line| line.starts_with("PASS"));
    assert!(passwords.eq(["PASS secret", "PASS secret"].iter()));

    // Who has a certificate and no password in the file says its own.
    let carol = world.good("carol");
    world.client(&TLS13, Some(&carol)).login("carol", "secret");

    let bob = world.good("bob");
    let mut client = world.client(&TLS13, Some(&bob));
    client.command("USER bob", 421);
    let line = world
        .proxy
        .wait_for_log(|line| line.message().contains("client_certificate.credentials"));
    assert_eq!(line.field("user").as_deref(), Some("bob"));
    assert_eq!(line.field("reply").as_deref(), Some("530"));
    for line in world.proxy.log_lines() {
        let line = format!("{line:?}");
        assert!(
            !line.contains("outdated") && !line.contains("PASS secret"),
            "{line}"
        );
    }
    let delayed = "portcullis_guard_total{action=\"delayed\",site=\"only\"}";
    assert_eq!(world.proxy.metric(delayed), 0.0);
}
