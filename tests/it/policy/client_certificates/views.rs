//! What operators see of clients' certificates: `check`, `explain`, the live view.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use testkit::certs::Authority;
use testkit::front::Front;
use time::Duration;

use super::*;
use crate::program::command;

/// What a command of the program prints about this world's configuration, and its exit code.
fn said(world: &World, arguments: &[&str]) -> (i32, String) {
    let (name, rest) = arguments.split_first().expect("a command");
    let output = command()
        .arg(name)
        .arg("--config")
        .arg(world.proxy.config_file())
        .args(rest)
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().expect("an exit code"), text)
}

#[test]
fn check_notes_what_shuts_clients_out() {
    let (front, partners) = (Front::new(&[]), Authority::new("Partners"));
    let others = Authority::new("Others");
    let list = front.directory().join("others.crl");
    fs::write(&list, others.revoke(&[], -Duration::DAY)).expect("writable");
    let passwords = front.directory().join("partners.pw");
    fs::write(&passwords, "acme:secret\n").expect("writable");
    fs::set_permissions(&passwords, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let asked = format!("crl: [{}], ask: optional", list.display());
    let world = World::of(
        front,
        partners,
        &asked,
        "{credentials: partners.pw}",
        |config, _| config,
    );
    let (code, text) = said(&world, &["check", "--format", "json"]);
    assert_eq!(code, 0, "{text}");
    for note in [
        "client_authority_without_crl",
        "crl_expired",
        "crl_of_no_authority",
        "credentials_readable",
    ] {
        assert!(text.contains(&format!("\"{note}\"")), "{note}: {text}");
    }
    assert!(!text.contains("client_authority_not_ca"), "{text}");
    assert!(text.contains("authority of clients CN=Partners"), "{text}");
    assert!(text.contains("1 password"), "{text}");

    fs::write(world.file("partners.pem"), world.good("a").pair.certificate).expect("writable");
    let (_, text) = said(&world, &["check"]);
    assert!(text.contains("(no CA:TRUE)"), "{text}");
    fs::write(world.file("partners.pem"), "none").expect("writable");
    let (code, text) = said(&world, &["check"]);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("problem: ") && text.contains("holds no certificate"),
        "{text}"
    );
}

#[test]
fn explain_says_which_certificate_a_user_needs() {
    let world = World::new("{user: email}");
    let (code, text) = said(&world, &["explain", "acme@partner.test"]);
    assert_eq!(code, 0, "{text}");
    let needed = "client certificate with the user among its e-mail addresses: required";
    assert!(text.contains(needed), "{text}");
    let (_, text) = said(&world, &["explain", "open.test|acme"]);
    assert!(!text.contains("client certificate"), "{text}");
}

#[test]
fn the_live_view_shows_certificates_where_names_are_shown() {
    for (status, shown) in [("full", true), ("summary", false)] {
        let world = World::with("optional", "{user: cn}", |config, _| {
            config.endpoint("status", status)
        });
        let acme = world.good("acme");
        let mut client = world.client(&TLS13, Some(&acme));
        client.login("acme", "secret");
        let (_, sessions) = world.proxy.get("/api/v1/sessions");
        assert_eq!(sessions.contains("CN=acme"), shown, "{sessions}");
        assert_eq!(sessions.contains("sha256:"), shown, "{sessions}");
    }
}
