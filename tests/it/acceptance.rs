//! The acceptance story: three legacy servers behind one certificate, real clients in front, and a certificate that is
//! swapped while twenty sessions transfer.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use testkit::certs::{Authority, Pair, PairFiles, Validity};
use testkit::clients::{Client, ClientTls, Login};
use testkit::config::{Config, Site};
use testkit::content;
use testkit::proxy::Proxy;
use testkit::raw::{Raw, RawTls, open_data, protect};
use testkit::server::{Reuse, Security, Server};
use testkit::wire::End;
use testkit::{proftpd, pureftpd, vsftpd};

use crate::program::Start;

/// The name that clients connect to, and that the central certificate is for.
const NAME: &str = "ftp.albigi.lab";

/// The deployment of the story: FTPA is the default site, a vsftpd without TLS; FTPB a ProFTPD whose certificate has
/// expired; FTPC a Pure-FTPd without TLS.
struct Deployment {
    authority: Authority,
    files: PairFiles,
    ca: std::path::PathBuf,
    proxy: Proxy,
    ftpa: Server,
    ftpb: Server,
    ftpc: Server,
    _directory: tempfile::TempDir,
}

impl Deployment {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::new("Central CA");
        let files = authority.issue(&[NAME]).write(directory.path());
        let ca = authority.write(directory.path());

        let expired = Pair::self_signed(&["legacy.albigi.lab"], Validity::Expired);
        let ftpa = vsftpd::start(Security::Plain);
        let ftpb = proftpd::start(Security::Explicit(&expired, Reuse::Required));
        let ftpc = pureftpd::start(Security::Plain);
        let config = Config::new(&files)
            .passive_ports("50000-50049")
            .site(&Site::default("ftpa", ftpa.address()))
            .site(
                &Site::hosts(
                    "ftpb",
                    &["ftpb.albigi.lab", "*.branch.albigi.lab"],
                    ftpb.address(),
                )
                .backend_tls("explicit", None),
            )
            .site(&Site::hosts("ftpc", &["ftpc.albigi.lab"], ftpc.address()));
        Self {
            proxy: Proxy::start(config),
            authority,
            files,
            ca,
            ftpa,
            ftpb,
            ftpc,
            _directory: directory,
        }
    }

    fn login(&self, tls: ClientTls, host: Option<&str>, server: &Server) -> Login {
        let address = match tls {
            ClientTls::Implicit => self.proxy.implicit(),
            ClientTls::Explicit | ClientTls::Clear => self.proxy.explicit(),
        };
        let user = match host {
            Some(host) => format!("{host}|{}", server.user()),
            None => server.user().to_owned(),
        };
        Login::new(address, &user, server.password())
            .tls(tls, &self.ca)
            .name(NAME)
    }

    /// A site's way in, its server, and the directory of its files.
    fn sites(&self) -> [(Option<&'static str>, &Server); 4] {
        [
            (None, &self.ftpa),
            (Some("ftpb.albigi.lab"), &self.ftpb),
            (Some("Lyon.Branch.Albigi.Lab."), &self.ftpb),
            (Some("ftpc.albigi.lab"), &self.ftpc),
        ]
    }
}

#[test]
fn the_acceptance_story() {
    let deployment = Deployment::new();
    every_client_reaches_every_site_over_both_kinds_of_tls(&deployment);
    a_broken_certificate_is_never_put_in_place_of_a_good_one(&deployment);
    transfers_of_twenty_sessions_survive_three_certificate_swaps(&deployment);
}

fn every_client_reaches_every_site_over_both_kinds_of_tls(deployment: &Deployment) {
    let content = content::bytes(1, 200_000);
    thread::scope(|scope| {
        for tls in [ClientTls::Explicit, ClientTls::Implicit] {
            for client in Client::ALL {
                let content = &content;
                scope.spawn(move || {
                    for (host, server) in deployment.sites() {
                        let login = deployment.login(tls, host, server);
                        let name = format!("{tls:?}-{client:?}-{}.bin", host.unwrap_or("default"));
                        login.upload(client, content, &name).expect_success();
                        let stored = fs::read(server.root().join(&name)).expect("it was stored");
                        assert_eq!(content::sha256(&stored), content::sha256(content), "{name}");
                        let listing = login.list(client, "").expect_success();
                        assert!(listing.text.contains(&name), "{}", listing.text);
                        let back = login.download(client, &name).expect_success();
                        assert_eq!(
                            content::sha256(&back.content),
                            content::sha256(content),
                            "{name}"
                        );
                    }
                });
            }
        }
    });
}

fn a_broken_certificate_is_never_put_in_place_of_a_good_one(deployment: &Deployment) {
    let good = certificate_shown(deployment);
    let expired = deployment.authority.issue_for(&[NAME], Validity::Expired);
    let mismatched = deployment.authority.issue(&[NAME]).with_key_of(&expired);
    for (count, bad) in [expired, mismatched].iter().enumerate() {
        deployment.files.replace_by_rename(bad);
        deployment.proxy.wait_for_logs(1 + count, |line| {
            line.message().contains("certificate refused")
        });
        assert_eq!(certificate_shown(deployment), good);
    }
    assert_eq!(
        deployment.proxy.metrics()["portcullis_reloads_total{result=\"refused\",subject=\"certificate\"}"],
        2.0
    );
}

/// Twenty raw clients, each in one session that spans all three swaps, and four real ones that come and go.
fn transfers_of_twenty_sessions_survive_three_certificate_swaps(deployment: &Deployment) {
    let before = Totals::of(&deployment.proxy);
    let content = content::bytes(2, 300_000);
    for server in [&deployment.ftpa, &deployment.ftpb, &deployment.ftpc] {
        fs::write(server.root().join("file"), &content).expect("the root is writable");
    }

    let running = AtomicBool::new(true);
    let transfers: usize = thread::scope(|scope| {
        let lasting = (0..20_usize).map(|number| {
            let (content, running) = (&content, &running);
            scope.spawn(move || {
                let (host, server) = deployment.sites()[number % 4];
                let mut session = TransferringSession::start(deployment, host, server);
                let mut transfers = 0;
                while running.load(Ordering::SeqCst) {
                    session.transfer(content);
                    transfers += 1;
                }
                session.control.command("QUIT", 221);
                transfers
            })
        });
        let coming_and_going = Client::ALL.into_iter().enumerate().map(|(number, client)| {
            let (content, running) = (&content, &running);
            scope.spawn(move || {
                let (host, server) = deployment.sites()[number];
                let login = deployment.login(ClientTls::Explicit, host, server);
                let mut transfers = 0;
                while running.load(Ordering::SeqCst) {
                    let got = login.download(client, "file").expect_success();
                    assert_eq!(content::sha256(&got.content), content::sha256(content));
                    transfers += 1;
                }
                transfers
            })
        });
        let clients: Vec<_> = lasting.chain(coming_and_going).collect();

        let mut shown = BTreeSet::from([certificate_shown(deployment)]);
        for swap in 1..=3 {
            let next = deployment.authority.issue(&[NAME]);
            deployment.files.replace_by_rename(&next);
            // One line at the start, one for each swap.
            deployment
                .proxy
                .wait_for_logs(1 + swap, |line| line.message() == "certificate in use");
            assert_eq!(certificate_shown(deployment), next.der().to_vec());
            shown.insert(next.der().to_vec());
        }
        assert_eq!(shown.len(), 4);
        running.store(false, Ordering::SeqCst);
        clients
            .into_iter()
            .map(|client| client.join().expect("no transfer fails"))
            .sum()
    });

    let after = Totals::of(&deployment.proxy);
    assert_eq!(
        after.transfers - before.transfers,
        after.complete - before.complete
    );
    // Exactly these, so none was done twice or left out.
    assert_eq!(after.complete - before.complete, transfers as f64);
    assert_eq!(after.certificates - before.certificates, 3.0);
}

/// Sums of the proxy's metrics.
struct Totals {
    transfers: f64,
    complete: f64,
    certificates: f64,
}

impl Totals {
    fn of(proxy: &Proxy) -> Self {
        let metrics = proxy.metrics();
        let total = |name: &str, labels: &str| {
            metrics
                .iter()
                .filter(|(series, _)| series.starts_with(name) && series.contains(labels))
                .map(|(_, value)| value)
                .sum()
        };
        Self {
            transfers: total("portcullis_transfers_total", "direction=\"download\""),
            complete: total("portcullis_transfers_total", "verdict=\"complete\"")
                - total(
                    "portcullis_transfers_total{direction=\"listing\"",
                    "complete",
                )
                - total(
                    "portcullis_transfers_total{direction=\"upload\"",
                    "complete",
                ),
            certificates: total(
                "portcullis_reloads_total",
                "result=\"ok\",subject=\"certificate\"",
            ),
        }
    }
}

#[test]
fn a_dead_site_and_a_bad_certificate_stay_with_their_own_site() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let authority = Authority::new("Central CA");
    let files = authority.issue(&[NAME]).write(directory.path());
    let ca = authority.write(directory.path());
    let expired = authority.issue_for(&["legacy.albigi.lab"], Validity::Expired);
    let good = vsftpd::start(Security::Plain);
    let bad = proftpd::start(Security::Explicit(&expired, Reuse::Optional));
    // Nothing listens on the discard port of a test machine.
    let dead = std::net::SocketAddr::new(good.address().ip(), 9);
    let proxy = Proxy::start(
        Config::new(&files)
            .site(&Site::default("good", good.address()))
            .site(
                &Site::hosts("bad", &["bad.test"], bad.address())
                    .backend_tls("explicit", Some(&ca))
                    .backend("server_name", "legacy.albigi.lab"),
            )
            .site(&Site::hosts("dead", &["dead.test"], dead)),
    );
    let tls = RawTls::new(&authority, NAME, &[&rustls::version::TLS13]);
    for (host, site, stage, reason) in [
        ("bad.test", "bad", "certificate", "expired"),
        ("dead.test", "dead", "connect", "refused"),
    ] {
        let mut client = Raw::connect_auth_tls(proxy.explicit(), &tls);
        let answer = client.command(&format!("USER {host}|alice"), 421);
        assert!(!answer.contains("127."), "an address leaks: {answer}");
        assert!(!answer.contains("certificate"), "internals leak: {answer}");
        let line = proxy.wait_for_log(|line| line.field("stage").as_deref() == Some(stage));
        assert_eq!(line.field("site").as_deref(), Some(site));
        let error = line.field("error").expect("a reason");
        assert!(error.contains(reason), "{error}");
        let failures =
            format!("portcullis_backend_dial_failures_total{{site=\"{site}\",stage=\"{stage}\"}}");
        assert_eq!(proxy.metrics().get(&failures), Some(&1.0));
    }
    let login = Login::new(proxy.explicit(), good.user(), good.password())
        .tls(ClientTls::Explicit, &ca)
        .name(NAME);
    login.list(Client::Curl, "").expect_success();
}

/// The leaf certificate that a new client is shown.
fn certificate_shown(deployment: &Deployment) -> Vec<u8> {
    let tls = RawTls::new(&deployment.authority, NAME, &[&rustls::version::TLS13]);
    let client = Raw::connect_tls(deployment.proxy.implicit(), &tls);
    client
        .wire()
        .peer_certificate()
        .expect("a certificate")
        .to_vec()
}

/// One control connection that downloads over and over.
struct TransferringSession {
    control: Raw,
    tls: RawTls,
}

impl TransferringSession {
    fn start(deployment: &Deployment, host: Option<&str>, server: &Server) -> Self {
        let tls = RawTls::new(&deployment.authority, NAME, &[&rustls::version::TLS13]);
        let mut control = Raw::connect_auth_tls(deployment.proxy.explicit(), &tls);
        let user = match host {
            Some(host) => format!("{host}|{}", server.user()),
            None => server.user().to_owned(),
        };
        control.login(&user, server.password());
        control.protect_data();
        control.command("TYPE I", 200);
        Self { control, tls }
    }

    fn transfer(&mut self, content: &[u8]) {
        let mut data = open_data(self.control.epsv());
        self.control.command("RETR file", 150);
        protect(&mut data, &self.tls).expect("a handshake");
        let (received, end) = data.read_to_end();
        assert_eq!(end, End::CloseNotify);
        assert_eq!(content::sha256(&received), content::sha256(content));
        self.control.expect(226);
    }
}
