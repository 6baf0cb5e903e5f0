//! The real clients straight against the real servers: shows that the peers work, so that a failure of a test with the
//! proxy between them is the proxy's.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use testkit::certs::{Authority, Pair, Validity};
use testkit::clients::{Client, ClientTls, DataMode, Login};
use testkit::content;
use testkit::server::{Reuse, Security, Server};
use testkit::{proftpd, pureftpd, vsftpd};

#[test]
fn vsftpd_serves_every_client() {
    let peers = Peers::new();
    peers.exchange(&vsftpd::start(Security::Plain), ClientTls::Clear);
    peers.exchange(
        &vsftpd::start(Security::Explicit(&peers.pair, Reuse::Optional)),
        ClientTls::Explicit,
    );
    peers.exchange(
        &vsftpd::start(Security::Implicit(&peers.pair, Reuse::Optional)),
        ClientTls::Implicit,
    );
}

#[test]
fn proftpd_serves_every_client() {
    let peers = Peers::new();
    peers.exchange(&proftpd::start(Security::Plain), ClientTls::Clear);
    peers.exchange(
        &proftpd::start(Security::Explicit(&peers.pair, Reuse::Optional)),
        ClientTls::Explicit,
    );
    peers.exchange(
        &proftpd::start(Security::Implicit(&peers.pair, Reuse::Optional)),
        ClientTls::Implicit,
    );
}

#[test]
fn pureftpd_serves_every_client() {
    let peers = Peers::new();
    peers.exchange(&pureftpd::start(Security::Plain), ClientTls::Clear);
    peers.exchange(
        &pureftpd::start(Security::Explicit(&peers.pair, Reuse::Optional)),
        ClientTls::Explicit,
    );
}

#[test]
fn servers_that_require_session_reuse_refuse_the_client_that_never_resumes() {
    let peers = Peers::new();
    let security = Security::Explicit(&peers.pair, Reuse::Required);
    for server in [vsftpd::start(security), proftpd::start(security)] {
        let login = peers.login(&server, ClientTls::Explicit).max_tls_1_2();
        login
            .upload(Client::FtplibReusing, b"content", "resumed")
            .expect_success();
        login
            .upload(Client::Ftplib, b"content", "not-resumed")
            .expect_failure();
    }
}

#[test]
fn clients_refuse_a_server_whose_certificate_has_expired() {
    let peers = Peers::new();
    let expired = peers.authority.issue_for(&["ftp.test"], Validity::Expired);
    let server = proftpd::start(Security::Explicit(&expired, Reuse::Optional));
    for client in Client::ALL {
        peers
            .login(&server, ClientTls::Explicit)
            .list(client, "")
            .expect_failure();
    }
}

#[test]
fn every_way_of_opening_a_data_connection_works() {
    let server = proftpd::start(Security::Plain);
    fs::write(server.root().join("file"), b"content").expect("the server's directory is writable");
    for client in [Client::Curl, Client::Lftp, Client::Ftplib] {
        for data in [DataMode::Pasv, DataMode::Epsv, DataMode::Active] {
            let outcome = Login::to(&server)
                .data(data)
                .download(client, "file")
                .expect_success();
            assert_eq!(outcome.content, b"content", "{client:?} {data:?}");
            let said = match data {
                DataMode::Pasv => "227 ",
                DataMode::Epsv => "229 ",
                // ftplib's replies aren't seen here.
                DataMode::Active => continue,
            };
            assert!(
                client == Client::Ftplib || outcome.text.contains(said),
                "{client:?} {data:?}: {}",
                outcome.text
            );
        }
    }
}

struct Peers {
    authority: Authority,
    pair: Pair,
    ca: PathBuf,
    _directory: TempDir,
}

impl Peers {
    fn new() -> Self {
        let authority = Authority::new("authority of the servers");
        let pair = authority.issue(&["ftp.test"]);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let ca = authority.write(directory.path());
        Self {
            authority,
            pair,
            ca,
            _directory: directory,
        }
    }

    fn login(&self, server: &Server, tls: ClientTls) -> Login {
        Login::to(server).tls(tls, &self.ca).name("ftp.test")
    }

    /// Every client uploads, lists, and downloads what it uploaded; all clients at once.
    fn exchange(&self, server: &Server, tls: ClientTls) {
        std::thread::scope(|scope| {
            for (seed, client) in (1..).zip(Client::ALL) {
                scope.spawn(move || {
                    self.exchange_by(client, server, tls, &content::bytes(seed, 1_000_000))
                });
            }
        });
    }

    fn exchange_by(&self, client: Client, server: &Server, tls: ClientTls, content: &[u8]) {
        let login = self.login(server, tls);
        let name = format!("{client:?}.bin");
        // OpenSSL's and GnuTLS' clients don't read the tickets that TLS 1.3 brings during an upload; their close then
        // becomes a reset that can cut the file off.
        let uploads = self.login(server, tls).max_tls_1_2();
        uploads.upload(client, content, &name).expect_success();
        let stored = fs::read(server.root().join(&name)).expect("the server stored it");
        assert_eq!(
            content::sha256(&stored),
            content::sha256(content),
            "{client:?} {tls:?} upload"
        );

        let listing = login.list(client, "").expect_success();
        assert!(
            listing.text.contains(&name),
            "{client:?} {tls:?}: {}",
            listing.text
        );

        let downloaded = login.download(client, &name).expect_success().content;
        assert_eq!(
            content::sha256(&downloaded),
            content::sha256(content),
            "{client:?} {tls:?} download"
        );
    }
}
