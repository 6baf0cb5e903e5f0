//! `portcullis probe`: what it finds at good backends, and which stage, remedy and exit code it has for each fault.

mod discovered;
mod faults;
mod requests;
mod servers;

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use testkit::config::{Config, Site};
use testkit::front::Front;
use testkit::script::{Script, ScriptTls, Step, reply};

use crate::program;

/// What every output is searched for.
const PASSWORD: &str = "hunter2-of-the-probe";

/// A configuration file, and a password beside it.
struct Probed {
    front: Front,
    config: PathBuf,
    password_file: PathBuf,
}

/// What the program has written, and its exit code.
#[derive(Debug)]
struct Said {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Probed {
    fn new(sites: &[Site]) -> Self {
        Self::of(Front::new(&[]), sites)
    }

    fn of(front: Front, sites: &[Site]) -> Self {
        Self::with(front, sites, |config| {
            config.timeout("backend_attempt", "2s")
        })
    }

    fn with(front: Front, sites: &[Site], more: impl FnOnce(Config) -> Config) -> Self {
        let config = more(front.config());
        let yaml = sites.iter().fold(config, Config::site).to_yaml();
        let config = front.directory().join("portcullis.yaml");
        std::fs::write(&config, yaml).expect("the test's directory is writable");
        let password_file = front.directory().join("probe.pw");
        let probed = Self {
            front,
            config,
            password_file,
        };
        probed.password(PASSWORD);
        probed
    }

    fn password(&self, password: &str) {
        std::fs::write(&self.password_file, format!("{password}\n")).expect("it is writable");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program::command();
        command.args(["probe", "--config"]).arg(&self.config);
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Said {
        let output = self.command(arguments).output().expect("cargo built it");
        let said = Said {
            code: output.status.code().expect("it was not killed"),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        };
        let both = said.stdout.clone() + &said.stderr;
        assert!(!both.contains(PASSWORD), "{both}");
        said
    }

    /// The same with a login and a listing.
    fn list(&self, user: &str, more: &[&str]) -> Said {
        let file = self.password_file.to_str().expect("UTF-8");
        let login = ["--user", user, "--password-file", file, "--list"];
        self.run(&[&login, more].concat())
    }
}

impl Said {
    /// The objects of `--format json`.
    fn json(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        let read = |line| serde_json::from_str(line).expect("an object a line");
        let objects: Vec<Value> = lines.map(read).collect();
        assert!(objects.iter().all(|object| object["version"] == 1));
        objects
    }

    fn only(&self) -> Value {
        let [object] = &self.json()[..] else {
            panic!("{self:?}");
        };
        object.clone()
    }
}

fn stage<'a>(object: &'a Value, stage: &str) -> &'a Value {
    let stages = object["stages"].as_array().expect("stages");
    let found = stages.iter().find(|made| made["stage"] == stage);
    found.unwrap_or_else(|| panic!("no {stage} in {object}"))
}

fn outcomes(object: &Value) -> Vec<(&str, &str)> {
    let stages = object["stages"].as_array().expect("stages").iter();
    stages
        .map(|stage| {
            let word = |key: &str| stage[key].as_str().expect("a word");
            (word("stage"), word("outcome"))
        })
        .collect()
}

#[track_caller]
fn fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{line}");
        assert!(line == line.trim_end(), "{line:?}");
    }
}

fn explicit() -> Script {
    Script::new().tls(ScriptTls::explicit(&rustls::version::TLS12))
}

fn with_tls(site: Site) -> Site {
    site.backend_tls("explicit", None)
}

fn one(text: &str) -> Vec<Step> {
    vec![reply(text)]
}
