//! Backends that demand of every data connection that it resumes the TLS session of its control connection, over
//! sessions long enough for whatever is handed out in small numbers to run out.

use std::fs;
use std::io::Write;

use testkit::certs::{Authority, Pair};
use testkit::config::Site;
use testkit::content;
use testkit::front::{Client, Front, NAME};
use testkit::proxy::Proxy;
use testkit::server::{Reuse, Security, Server};
use testkit::wire::End;
use testkit::{proftpd, vsftpd};

use crate::program::Start;

/// How many files one session uploads.
const FILES: u64 = 1_000;

/// Every so many uploads there is one transfer of each other kind.
const OTHERS: u64 = 4;

#[test]
fn every_transfer_of_a_thousand_files_resumes_with_vsftpd_over_tls_1_2() {
    transfer_a_thousand_files(&vsftpd::start(demanding(&pair())), "1.2");
}

/// A ticket of TLS 1.3 is good for one connection, and each brings one: also uploads, if they are read to their end.
#[test]
fn every_transfer_of_a_thousand_files_resumes_with_vsftpd_over_tls_1_3() {
    transfer_a_thousand_files(&vsftpd::start(demanding(&pair())), "1.3");
}

#[test]
fn every_transfer_of_a_thousand_files_resumes_with_proftpd_over_tls_1_2() {
    transfer_a_thousand_files(&proftpd::start(demanding(&pair())), "1.2");
}

/// ProFTPD 1.3.8 sends no ticket on an upload over TLS 1.3, and a client that uses each ticket once, as RFC 8446
/// appendix C.4 has it, runs out of them. That is why 1.2 is what backends are offered unless the site says otherwise.
#[test]
fn proftpd_runs_out_of_tls_1_3_tickets_after_some_uploads_and_refuses_the_next() {
    let server = proftpd::start(demanding(&pair()));
    let session = Session::new(&server, "1.3");
    let mut client = session.login(&server);
    let refused = (0..20).find(|number| {
        let mut data = client.begin(&format!("STOR file{number}"));
        // Whether these bytes still find a reader is for the reply to tell.
        let _ = data.write_all(b"content");
        let _ = data.end(End::CloseNotify);
        client.control.reply().code != 226
    });
    let uploads = refused
        .expect("no ticket was missing: 1.3 could be the default, were it not for older servers");
    assert_eq!(session.handshakes("resumed"), f64::from(uploads));
    assert_eq!(session.handshakes("full"), 1.0);
}

/// A ticket that came during an upload is kept, whatever becomes of the upload.
#[test]
fn aborted_uploads_cost_no_tickets() {
    let server = vsftpd::start(demanding(&pair()));
    let session = Session::new(&server, "1.3");
    let mut client = session.login(&server);
    // More than the sockets between client and proxy hold: the backend's handshake is over once all of it is written.
    let content = vec![0; 16 << 20];
    for _ in 0..5 {
        let mut data = client.begin("STOR aborted");
        data.write_all(&content).expect("the proxy reads");
        client.control.command("ABOR", 426);
        client.control.expect(226);
    }
    client.upload("whole", b"content");
    assert_eq!(session.handshakes("full"), 0.0);
}

fn pair() -> Pair {
    Authority::new("authority of backends").issue(&["backend.test"])
}

fn demanding(pair: &Pair) -> Security<'_> {
    Security::Explicit(pair, Reuse::Required)
}

struct Session {
    front: Front,
    proxy: Proxy,
}

impl Session {
    fn new(server: &Server, max_version: &str) -> Self {
        let site = Site::default("only", server.address())
            .backend_tls("explicit", None)
            .backend("max_version", &format!("{max_version:?}"));
        let front = Front::new(&[]);
        let proxy = Proxy::start(front.config().site(&site));
        Self { front, proxy }
    }

    fn login(&self, server: &Server) -> Client {
        let tls = self.front.tls(NAME);
        let mut control = self.front.explicit(&self.proxy);
        control.login(server.user(), server.password());
        control.protect_data();
        control.command("TYPE I", 200);
        Client { control, tls }
    }

    fn handshakes(&self, kind: &str) -> f64 {
        let name =
            format!("portcullis_data_tls_handshakes_total{{kind=\"{kind}\",leg=\"backend\"}}");
        self.proxy.metric(&name)
    }
}

fn transfer_a_thousand_files(server: &Server, max_version: &str) {
    let session = Session::new(server, max_version);
    let mut client = session.login(server);
    let mut transfers = 0;
    for number in 0..FILES {
        let name = format!("file{number}");
        let content = content::bytes(number, 700);
        client.upload(&name, &content);
        transfers += 1;
        if number % OTHERS == 0 {
            let mut data = client.begin(&format!("APPE {name}"));
            data.write_all(b"and more").expect("the proxy reads");
            client.finish_upload(data);
            let back = client.download(&name);
            assert!(back == [&content[..], b"and more"].concat(), "{name}");
            let data = client.begin("NLST");
            let listing = client.finish_download(data);
            let names = String::from_utf8(listing).expect("ASCII names");
            assert_eq!(names.lines().count() as u64, number + 1);
            transfers += 3;
        }
    }
    client.control.command("QUIT", 221);
    assert_eq!(session.handshakes("full"), 0.0);
    assert_eq!(session.handshakes("failed"), 0.0);
    assert_eq!(session.handshakes("resumed"), f64::from(transfers));
    for number in (0..FILES).filter(|number| number % OTHERS != 0) {
        let stored = fs::read(server.root().join(format!("file{number}"))).expect("it was stored");
        assert!(stored == content::bytes(number, 700), "file{number}");
    }
}
