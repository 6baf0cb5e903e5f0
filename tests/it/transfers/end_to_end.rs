//! Transfers from end to end, and what their peers see when they don't get there: active mode, IPv6, and a proxy that is
//! killed or has no file descriptor left.

use std::io::Write;

use testkit::clients::{Client, ClientTls, DataMode, Login};
use testkit::config::Site;
use testkit::content;
use testkit::front::{Front, NAME};
use testkit::proxy::{Proxy, Signal};
use testkit::raw::{Raw, open_data, protect};
use testkit::script::Script;
use testkit::scripted::Backend;
use testkit::server::Security;
use testkit::vsftpd;
use testkit::wire::{End, Wire};

use crate::program::{Before, Start};

#[test]
fn active_mode_reaches_the_client_under_tls_over_ipv4_and_ipv6() {
    let content = content::bytes(1, 100_000);
    let backend = Backend::start(Script::new().file("file", content.clone()));
    let front = Front::new(&[]);
    let proxy = front.before_with(backend.address(), |config| {
        config.ipv6("explicit").passive_ports("0")
    });
    for address in [proxy.explicit(), proxy.ipv6()] {
        let tls = front.tls(NAME);
        let mut client = Raw::connect_auth_tls(address, &tls);
        client.login("alice", "secret");
        client.protect_data();
        let listener = client.eprt();
        client.command("RETR file", 150);
        let mut data = Wire::new(listener.accept().expect("the proxy connects").0);
        protect(&mut data, &tls).expect("a handshake");
        assert_eq!(data.read_to_end(), (content.clone(), End::CloseNotify));
        drop(data);
        client.expect(226);
    }
}

#[test]
fn over_ipv6_epsv_works_and_pasv_is_refused() {
    let content = content::bytes(2, 100_000);
    let backend = Backend::start(Script::new().file("file", content.clone()));
    let front = Front::new(&[]);
    let proxy = front.before_with(backend.address(), |config| {
        config.ipv6("explicit").passive_ports("0")
    });
    let tls = front.tls(NAME);
    let mut client = Raw::connect_auth_tls(proxy.ipv6(), &tls);
    client.login("alice", "secret");
    client.protect_data();
    client.command("PASV", 425);
    client.command("EPSV 1", 522);
    let mut data = open_data(client.epsv());
    client.command("RETR file", 150);
    protect(&mut data, &tls).expect("a handshake");
    assert_eq!(data.read_to_end(), (content, End::CloseNotify));
    drop(data);
    client.expect(226);
}

#[test]
fn lftp_transfers_in_active_mode_under_tls_with_a_real_server() {
    let server = vsftpd::start(Security::Plain);
    let front = Front::new(&[]);
    let proxy = front.before(server.address());
    let content = content::bytes(3, 500_000);
    let login = Login::new(proxy.explicit(), server.user(), server.password())
        .tls(ClientTls::Explicit, &front.ca())
        .name(NAME)
        .data(DataMode::Active);
    login
        .upload(Client::Lftp, &content, "file")
        .expect_success();
    let back = login.download(Client::Lftp, "file").expect_success();
    assert_eq!(content::sha256(&back.content), content::sha256(&content));
}

#[test]
fn killing_the_proxy_resets_both_ends_of_a_transfer() {
    let backend = Backend::start(Script::new().file("big", content::bytes(4, 50_000_000)));
    let front = Front::new(&[]);
    let proxy = front.before_with(backend.address(), |config| {
        config.passive_ports("50000-50001")
    });
    let mut uploader = front.session(&proxy, "alice");
    let mut upload = uploader.begin("STOR file");
    upload
        .write_all(&content::bytes(5, 300_000))
        .expect("the proxy reads");
    let mut downloader = front.session(&proxy, "alice");
    let mut download = downloader.begin("RETR big");

    proxy.signal(Signal::Kill);

    let (received, end) = download.read_to_end();
    assert_eq!(end, End::Reset);
    assert!(received.len() < 50_000_000);
    assert_eq!(upload.read_to_end().1, End::Reset);
    assert_eq!(backend.wait_for_upload(1).end, End::Reset);
}

#[test]
fn running_out_of_file_descriptors_ends_no_session_and_passes() {
    let backend = Backend::start(Script::new().file("file", "content"));
    let front = Front::new(&[]);
    let config = front.config();
    let proxy =
        Proxy::start_with_descriptors(config.site(&Site::default("ftpa", backend.address())), 40);
    let mut session = front.session(&proxy, "alice");
    let crowd: Vec<Raw> = (0..60).map(|_| Raw::connect(proxy.explicit())).collect();
    proxy.wait_for_log(|line| line.message() == "accepting connections failed");
    session.control.command("NOOP", 200);
    drop(crowd);
    // Whoever waited in the kernel's queue is served now.
    let mut late = front.session(&proxy, "bob");
    assert_eq!(late.download("file"), b"content");
    assert_eq!(session.download("file"), b"content");
    let errors = proxy.metric("portcullis_accept_errors_total");
    // A loop without a pause fails millions of times a second.
    assert!(errors > 0.0 && errors < 10_000.0, "{errors} failures");
}
