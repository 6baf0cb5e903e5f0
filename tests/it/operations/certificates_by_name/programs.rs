//! Real programs that ask for a certificate by name.

use testkit::clients::filezilla::{Engine, EngineTls, Job};

use super::*;

/// What openssl's client is shown, with these further arguments.
fn openssl(address: SocketAddr, arguments: &[&str]) -> CertificateDer<'static> {
    let output = Command::new(program("openssl"))
        .args(["s_client", "-connect"])
        .arg(address.to_string())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("openssl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    CertificateDer::from_pem_slice(text.as_bytes())
        .unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn openssl_is_shown_the_certificate_of_its_server_name_with_a_key_that_it_verifies() {
    const RSA: [&str; 2] = ["-sigalgs", "RSA-PSS+SHA256:RSA+SHA256"];
    const ECDSA: [&str; 2] = ["-sigalgs", "ECDSA+SHA256"];
    let deployment = Deployment::new();
    for (start, address) in [
        (&["-starttls", "ftp"][..], deployment.proxy.explicit()),
        (&[], deployment.proxy.implicit()),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            for (arguments, certificate) in [
                (&["-noservername"][..], "central"),
                (&["-servername", "ftpb.test"], "b"),
                (&["-servername", "any.branch.test"], "b"),
                (&["-servername", "unknown.test"], "central"),
                (&["-servername", "ftpc.test"], "c"),
                (&["-servername", "ftpc.test", RSA[0], RSA[1]], "c-rsa"),
                (&["-servername", "ftpc.test", ECDSA[0], ECDSA[1]], "c"),
            ] {
                let all = [start, &[version], arguments].concat();
                let shown = openssl(address, &all);
                assert_eq!(deployment.called(&shown), certificate, "{all:?}");
            }
        }
    }
    // In TLS 1.2 the cipher suites say it, too.
    let old = ["-tls1_2", "-servername", "ftpc.test", "-cipher"];
    let old_rsa = [&old[..], &["ECDHE-RSA-AES128-GCM-SHA256"]].concat();
    let shown = openssl(deployment.proxy.implicit(), &old_rsa);
    assert_eq!(deployment.called(&shown), "c-rsa");
}

#[test]
fn curl_and_lftp_reach_their_site_and_verify_the_name_of_each() {
    let deployment = Deployment::new();
    let ca = deployment.front.ca();
    let login = |user: &str, tls, name: &str| {
        let address = match tls {
            ClientTls::Implicit => deployment.proxy.implicit(),
            _ => deployment.proxy.explicit(),
        };
        Login::new(address, user, "secret").tls(tls, &ca).name(name)
    };
    let users = || [0, 1, 2].map(|place: usize| deployment.backends[place].users().len());
    for tls in [ClientTls::Explicit, ClientTls::Implicit] {
        for (name, user, place) in [
            (NAME, "alice", 0),
            ("ftpb.test", "alice", 1),
            ("x.branch.test", "alice", 1),
            ("ftpc.test", "alice", 2),
            ("ftpc.test", "ftpb.test|alice", 1),
            ("other.test", "alice", 0),
        ] {
            for client in [Client::Curl, Client::Lftp] {
                let before = users();
                let outcome = login(user, tls, name).download(client, "file");
                assert_eq!(outcome.expect_success().content, b"content", "{name}");
                assert_eq!(users()[place], before[place] + 1, "{name} {user}");
            }
        }
        let refused = |client| login("alice", tls, "unknown.test").download(client, "file");
        // They are shown the central one, and no alert: CURLE_PEER_FAILED_VERIFICATION.
        let curl = refused(Client::Curl);
        assert_eq!(curl.code, 60, "{}", curl.text);
        let lftp = refused(Client::Lftp).expect_failure();
        assert!(
            lftp.text.contains("Certificate verification"),
            "{}",
            lftp.text
        );
    }
}

/// It refuses a data connection that shows another certificate than its control connection, or doesn't resume.
#[test]
fn filezilla_is_shown_the_certificate_of_its_name_on_all_its_connections() {
    let deployment = Deployment::new();
    for (tls, file) in [(EngineTls::V12, "v12"), (EngineTls::V13, "v13")] {
        let engine = Engine::new(deployment.proxy.explicit(), "ftpc.test", "alice", tls);
        let jobs = [
            Job::List,
            Job::Upload(file, b"uploaded"),
            Job::Download("file"),
        ];
        let downloaded = engine.run(&jobs).unwrap_or_else(|text| panic!("{text}"));
        assert_eq!(downloaded, b"content");
        assert_eq!(
            deployment.backends[2].file(file).as_deref(),
            Some(&b"uploaded"[..])
        );
    }
}
