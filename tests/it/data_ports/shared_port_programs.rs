//! One data port and the programs that open many sessions at once from one address.
//!
//! They differ in what their data connections resume: lftp always the session of its own control connection, so its
//! sessions use the port at the same time; `curl --parallel` and rclone keep the TLS sessions of all their control
//! connections in one place and present any of them, so theirs take turns; ftplib resumes nothing and takes turns, too.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use testkit::DEADLINE;
use testkit::config::Site;
use testkit::content;
use testkit::front::{Front, NAME};
use testkit::proftpd;
use testkit::programs::program;
use testkit::proxy::Proxy;
use testkit::server::{Security, Server};

use crate::program::Start;

const FILES: usize = 60;

struct Deployment {
    front: Front,
    server: Server,
    proxy: Proxy,
    scratch: tempfile::TempDir,
}

impl Deployment {
    fn new() -> Self {
        let front = Front::new(&[]);
        let server = proftpd::start(Security::Plain);
        for number in 0..FILES {
            fs::write(server.root().join(name(number)), file(number)).expect("it is ours");
        }
        let site = Site::default("site", server.address());
        // Twenty sessions that take turns for whole transfers, each of which curl takes its time for.
        let config = front
            .config()
            .passive_ports("50000")
            .timeout("data_port", "60s")
            .site(&site);
        Self {
            proxy: Proxy::start(config),
            server,
            front,
            scratch: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    /// The program succeeded, every file is in `directory` and itself, and nobody was turned away.
    fn expect_all(&self, output: &Output, directory: &Path, direction: &str) {
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        for number in 0..FILES {
            let found = fs::read(directory.join(name(number))).unwrap_or_default();
            assert!(found == file(number), "{} is another file", name(number));
        }
        let of = |verdict: &str| {
            format!(
                "portcullis_transfers_total{{direction=\"{direction}\",site=\"site\",verdict=\"{verdict}\"}}"
            )
        };
        assert_eq!(self.proxy.metric(&of("complete")), FILES as f64);
        assert_eq!(self.proxy.metric("portcullis_passive_exhausted_total"), 0.0);
        assert_eq!(self.proxy.metric("portcullis_passive_strangers_total"), 0.0);
        assert!(
            self.proxy
                .metric("portcullis_sessions_total{listener=\"explicit\"}")
                > 1.0,
            "more than one session at once was the point"
        );
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(program(name));
        command
            .current_dir(self.scratch.path())
            .env("HOME", self.scratch.path())
            .env("LFTP_HOME", self.scratch.path());
        command
    }

    fn lftp(&self, action: &str) -> Output {
        let script = format!(
            "set cmd:fail-exit yes; set net:max-retries 1; set net:timeout {}; set ftp:ssl-force yes; \
             set ftp:ssl-protect-data yes; set ssl:check-hostname no; set ssl:ca-file {}; \
             open --user {} --password {} ftp://{}; {action}; bye",
            DEADLINE.as_secs(),
            self.front.ca().display(),
            self.server.user(),
            self.server.password(),
            self.proxy.explicit(),
        );
        let mut lftp = self.command("lftp");
        lftp.args(["--norc", "-c", &script]);
        lftp.output().expect("lftp runs")
    }
}

fn name(number: usize) -> String {
    format!("file-{number:03}")
}

fn file(number: usize) -> Vec<u8> {
    content::bytes(number as u64, 10_000 + 997 * number)
}

#[test]
fn lftp_mirrors_with_ten_sessions_in_both_directions() {
    let deployment = Deployment::new();
    let local = deployment.scratch.path().join("down");
    let output = deployment.lftp("mirror --parallel=10 . down");
    deployment.expect_all(&output, &local, "download");
    for number in 0..FILES {
        fs::remove_file(deployment.server.root().join(name(number))).expect("it is there");
    }
    let output = deployment.lftp("mirror --reverse --parallel=10 down .");
    deployment.expect_all(&output, &deployment.server.root(), "upload");
}

#[test]
fn curl_downloads_and_uploads_with_twenty_sessions_at_once() {
    let deployment = Deployment::new();
    let curl = |each: &dyn Fn(usize) -> [String; 3]| {
        let mut curl = deployment.command("curl");
        curl.args(["--silent", "--show-error", "--ssl-reqd", "--parallel"])
            .args(["--parallel-immediate", "--parallel-max", "20"])
            .args(["--max-time", &DEADLINE.as_secs().to_string()])
            .arg("--cacert")
            .arg(deployment.front.ca());
        for number in 0..FILES {
            let address = deployment.proxy.explicit();
            let resolve = format!("{NAME}:{}:{}", address.port(), address.ip());
            let user = format!(
                "{}:{}",
                deployment.server.user(),
                deployment.server.password()
            );
            if number == 0 {
                curl.args(["--resolve", &resolve, "--user", &user]);
            }
            curl.args(each(number));
        }
        curl.output().expect("curl runs")
    };
    let url = |number| {
        format!(
            "ftp://{NAME}:{}/{}",
            deployment.proxy.explicit().port(),
            name(number)
        )
    };
    let output = curl(&|number| ["--output".to_owned(), name(number), url(number)]);
    deployment.expect_all(&output, deployment.scratch.path(), "download");
    for number in 0..FILES {
        fs::remove_file(deployment.server.root().join(name(number))).expect("it is there");
    }
    let output = curl(&|number| ["--upload-file".to_owned(), name(number), url(number)]);
    deployment.expect_all(&output, &deployment.server.root(), "upload");
}
