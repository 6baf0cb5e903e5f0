//! Certificates beside the central one: who is shown which, with which site; how they come, change and go while clients
//! are served; and what a bad one costs.

mod changes;
mod choice;
mod programs;
mod views;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use serde_yaml::Value;
use testkit::certs::{KubernetesSecret, Pair, Validity};
use testkit::clients::{Client, ClientTls, Login};
use testkit::config::Site;
use testkit::content;
use testkit::front::{Front, NAME};
use testkit::programs::program;
use testkit::proxy::{LogLine, Proxy, Signal};
use testkit::raw::{Raw, RawTls, open_data, protect};
use testkit::script::Script;
use testkit::scripted::Backend;
use testkit::wire::End;

use crate::program::{self, Start};

const IN_USE: &str = "certificate in use";
const KEPT: &str = "new certificate refused, keeping the current one";
const NOT_SERVED: &str = "certificate refused, not served";

/// Three sites, and these certificates: the central one for [`NAME`]; `b.crt` for site `b` and a wildcard of it; in a
/// directory `c.crt` and, with an RSA key, `c-rsa.crt` for site `c`, and `other.crt` for names that no site has.
struct Deployment {
    front: Front,
    proxy: Proxy,
    central: Pair,
    b: Pair,
    c: Pair,
    c_rsa: Pair,
    other: Pair,
    backends: [Backend; 3],
}

impl Deployment {
    fn new() -> Self {
        let front = Front::new(&[]);
        let backends = [(); 3].map(|()| Backend::start(Script::new().file("file", b"content")));
        let central = Pair {
            certificate: read(&front.files.certificate),
            private_key: read(&front.files.private_key),
        };
        let b = front.authority.issue(&["ftpb.test", "*.branch.test"]);
        let c = front.authority.issue(&["ftpc.test"]);
        let c_rsa = front.authority.issue_rsa(&["ftpc.test"]);
        let other = front.authority.issue(&["other.test", "*.own.test"]);
        let directory = front.directory().join("more");
        write(&front.directory().join("b"), &b);
        for (name, pair) in [("c", &c), ("c-rsa", &c_rsa), ("other", &other)] {
            write(&directory.join(name), pair);
        }
        let more = format!(
            "[{{certificate: {0}/b.crt, private_key: {0}/b.key}}, {{directory: {0}/more, layout: pairs}}]",
            front.directory().display()
        );
        let config = front
            .config()
            .tls("more", &more)
            .site(&Site::default("a", backends[0].address()))
            .site(&Site::hosts(
                "b",
                &["ftpb.test", "*.branch.test"],
                backends[1].address(),
            ))
            .site(&Site::hosts("c", &["ftpc.test"], backends[2].address()));
        Self {
            proxy: Proxy::start(config),
            front,
            central,
            b,
            c,
            c_rsa,
            other,
            backends,
        }
    }

    /// What the certificate is called in these tests.
    fn called(&self, der: &[u8]) -> &'static str {
        let all = [
            ("central", &self.central),
            ("b", &self.b),
            ("c", &self.c),
            ("c-rsa", &self.c_rsa),
            ("other", &self.other),
        ];
        let found = all.iter().find(|(_, pair)| pair.der().as_ref() == der);
        found.expect("one of the configured ones").0
    }

    /// The site that gets this login.
    fn site_of(&self, client: &mut Raw, user: &str) -> &'static str {
        let counts = || [0, 1, 2].map(|place: usize| self.backends[place].users().len());
        let before = counts();
        client.login(user, "secret");
        let after = counts();
        let place = (0..3).find(|place| after[*place] > before[*place]);
        ["a", "b", "c"][place.expect("a backend was told of it")]
    }

    fn file(&self, name: &str) -> PathBuf {
        self.front.directory().join(name)
    }
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).expect("it was written")
}

/// As `place.crt` and `place.key`.
fn write(place: &Path, pair: &Pair) {
    let folder = place.parent().expect("it lies in one");
    fs::create_dir_all(folder).expect("the test's directory is writable");
    fs::write(place.with_extension("crt"), &pair.certificate).expect("it is writable");
    fs::write(place.with_extension("key"), &pair.private_key).expect("it is writable");
}

fn of(name: &'static str, message: &'static str) -> impl Fn(&LogLine) -> bool {
    move |line| {
        let certificate = line.field("certificate");
        line.message() == message && certificate.is_some_and(|it| it.ends_with(name))
    }
}
