//! Data connections of logins that rest on a certificate.

use testkit::raw::{open_data, protect};
use testkit::wire::End;

use super::*;

/// RETR of the file with this TLS on its data connection: the reply behind the 150.
fn download(client: &mut Raw, tls: &RawTls) -> u16 {
    let mut data = open_data(client.epsv());
    client.command("RETR file", 150);
    if protect(&mut data, tls).is_ok() {
        let (content, end) = data.read_to_end();
        if end == End::CloseNotify {
            assert_eq!(content, b"content");
        }
    }
    client.reply().code
}

#[test]
fn a_full_handshake_has_to_show_the_same_certificate_and_a_resumed_one_none() {
    let world = World::new("{user: cn}");
    let own = world.good("acme");
    let others = world.good("acme");
    for version in VERSIONS {
        let tls = world.tls(version, Some(&own));
        let mut client = Raw::connect_auth_tls(world.proxy.explicit(), &tls);
        client.login("acme", "secret");
        client.protect_data();
        assert_eq!(download(&mut client, &tls), 226, "resumed");
        let full = tls.without_resumption();
        assert_eq!(download(&mut client, &full), 226, "full, the same");
        for other in [Some(&others), None] {
            let stranger = world.tls(version, other).without_resumption();
            assert_eq!(download(&mut client, &stranger), 522, "{version:?}");
        }
        assert_eq!(download(&mut client, &tls), 226, "resumed again");
    }
    let reason = "client did not show the certificate of its control connection";
    let line = world.proxy.wait_for_log(|line| {
        line.field("reason")
            .is_some_and(|text| text.starts_with(reason))
    });
    assert_eq!(line.field("verdict").as_deref(), Some("failed_client"));
}

#[test]
fn an_upload_is_bound_as_well() {
    let world = World::new("{user: cn}");
    let own = world.good("acme");
    for version in VERSIONS {
        let tls = world.tls(version, Some(&own));
        let mut client = Raw::connect_auth_tls(world.proxy.explicit(), &tls);
        client.login("acme", "secret");
        client.protect_data();
        for (name, tls, code) in [
            ("own", tls.without_resumption(), 226),
            (
                "stranger",
                world.tls(version, None).without_resumption(),
                522,
            ),
        ] {
            let mut data = open_data(client.epsv());
            client.command(&format!("STOR {name}"), 150);
            if protect(&mut data, &tls).is_ok() {
                let _ = std::io::Write::write_all(&mut data, b"new content");
                let _ = data.end(End::CloseNotify);
            }
            assert_eq!(client.reply().code, code);
        }
        assert_eq!(world.backend.file("own"), Some(b"new content".to_vec()));
        let stranger = world.backend.file("stranger").unwrap_or_default();
        assert_eq!(stranger, b"");
    }
}

#[test]
fn data_connections_of_other_sites_are_asked_for_nothing() {
    let world = World::new("{user: cn}");
    let own = world.good("acme");
    for version in VERSIONS {
        let tls = world.tls(version, Some(&own));
        let mut client = Raw::connect_auth_tls(world.proxy.explicit(), &tls);
        client.login("open.test|bob", "secret");
        client.protect_data();
        let stranger = world.tls(version, None).without_resumption();
        assert_eq!(download(&mut client, &stranger), 226);
    }
}
