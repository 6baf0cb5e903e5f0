//! Which certificate a client is shown, by SNI and HOST, and which site it gets by USER.

use super::*;

/// HOST in front of AUTH, SNI, USER; the certificate, the site.
type Row = (
    Option<&'static str>,
    Option<&'static str>,
    &'static str,
    &'static str,
    &'static str,
);

const TABLE: [Row; 17] = [
    (None, None, "alice", "central", "a"),
    (None, Some(NAME), "alice", "central", "a"),
    (None, Some("unknown.test"), "alice", "central", "a"),
    (None, Some("ftpb.test"), "alice", "b", "b"),
    (None, Some("FTPB.Test"), "alice", "b", "b"),
    (None, Some("x.branch.test"), "alice", "b", "b"),
    (None, Some("x.y.branch.test"), "alice", "central", "a"),
    (None, Some("ftpc.test"), "alice", "c", "c"),
    // USER comes when the certificate has been shown.
    (None, Some("ftpb.test"), "ftpc.test|alice", "b", "c"),
    (None, None, "ftpc.test|alice", "central", "c"),
    // A name that no site has.
    (None, Some("other.test"), "alice", "other", "a"),
    (Some("other.test"), None, "alice", "other", "a"),
    (Some("any.own.test"), None, "alice", "other", "a"),
    // HOST has chosen the site, and so the certificate.
    (Some("ftpb.test"), None, "alice", "b", "b"),
    (Some("ftpb.test"), Some("ftpc.test"), "alice", "b", "b"),
    // HOST has chosen nothing.
    (Some("other.test"), Some("ftpc.test"), "alice", "c", "c"),
    (Some(NAME), Some("ftpb.test"), "alice", "b", "b"),
];

#[test]
fn server_name_and_host_choose_the_certificate_that_goes_with_the_site_on_data_connections_too() {
    let deployment = Deployment::new();
    for version in [&TLS12, &TLS13] {
        for (host, sni, user, certificate, site) in TABLE {
            let row = format!("HOST {host:?}, SNI {sni:?}, USER {user}");
            let tls = RawTls::careless(sni, &[version]);
            let mut client = Raw::connect(deployment.proxy.explicit());
            client.expect(220);
            if let Some(host) = host {
                client.command(&format!("HOST {host}"), 220);
            }
            client.auth_tls(&tls);
            let shown = client.wire().peer_certificate().expect("a certificate");
            assert_eq!(deployment.called(&shown), certificate, "{row}");
            assert_eq!(deployment.site_of(&mut client, user), site, "{row}");
            client.protect_data();
            for name in [None, sni, Some("ftpc.test")] {
                let mut data = open_data(client.epsv());
                client.command("RETR file", 150);
                let tls = RawTls::careless(name, &[version]);
                protect(&mut data, &tls).expect("a handshake");
                assert!(!data.resumed());
                assert_eq!(data.peer_certificate().as_ref(), Some(&shown), "{row}");
                assert_eq!(data.read_to_end(), (b"content".to_vec(), End::CloseNotify));
                client.expect(226);
            }
            if host.is_none() {
                let mut client = Raw::connect_tls(deployment.proxy.implicit(), &tls);
                client.expect(220);
                let shown = client.wire().peer_certificate().expect("a certificate");
                assert_eq!(deployment.called(&shown), certificate, "implicit, {row}");
                assert_eq!(
                    deployment.site_of(&mut client, user),
                    site,
                    "implicit, {row}"
                );
            }
        }
    }
}

#[test]
fn host_behind_the_handshake_leads_to_no_other_site_than_host_before_it() {
    let deployment = Deployment::new();
    for sni in [None, Some("ftpc.test")] {
        let mut client = Raw::connect(deployment.proxy.explicit());
        client.expect(220);
        client.command("HOST ftpb.test", 220);
        client.auth_tls(&RawTls::careless(sni, &[&TLS13]));
        let shown = client.wire().peer_certificate().expect("a certificate");
        assert_eq!(deployment.called(&shown), "b");
        client.command("HOST ftpc.test", 504);
        assert_eq!(deployment.site_of(&mut client, "alice"), "b");
    }
}

#[test]
fn a_refused_host_and_one_behind_auth_choose_no_certificate() {
    let deployment = Deployment::new();
    let tls = RawTls::careless(None, &[&TLS13]);
    let mut client = Raw::connect(deployment.proxy.explicit());
    client.expect(220);
    client.command("HOST ftpb.test", 220);
    client.command("HOST unknown.test", 504);
    client.command("HOST [::1]", 504);
    client.auth_tls(&tls);
    // What was refused changes nothing.
    let shown = client.wire().peer_certificate().expect("a certificate");
    assert_eq!(deployment.called(&shown), "b");

    let mut client = Raw::connect(deployment.proxy.explicit());
    client.expect(220);
    client.command("HOST ftpb.test", 220);
    client.command("REIN", 220);
    client.auth_tls(&tls);
    let shown = client.wire().peer_certificate().expect("a certificate");
    assert_eq!(deployment.called(&shown), "central");
    client.command("HOST ftpb.test", 220);
    assert_eq!(deployment.site_of(&mut client, "alice"), "b");
}
