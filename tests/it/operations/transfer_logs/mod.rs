//! Transfer logs: `formats` is what each format has of transfers and of changed files, `files` how they are rotated, replaced and
//! full without a session noticing.

mod files;
mod formats;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::config::Config;
use testkit::poll::poll;
use testkit::proxy::{LogLine, Proxy, Signal};

/// Transfer logs in every format, in a directory of their own.
pub struct Logs {
    directory: tempfile::TempDir,
}

impl Logs {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self { directory }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The value of `transfer_logs` with a log of each format.
    pub fn all(&self) -> String {
        let log = |name: &str, more: &str| {
            let file = self.file(name);
            format!("{{file: {}, format: {name}{more}}}", file.display())
        };
        let logs = [
            log("json", ", sha256: true"),
            log("xferlog", ""),
            log("w3c", ""),
        ];
        format!("[{}]", logs.join(", "))
    }

    /// The value with this JSON log alone.
    pub fn json(&self) -> String {
        format!("[{{file: {}, format: json}}]", self.file("json").display())
    }

    pub fn configured(&self, config: Config) -> Config {
        config.set("transfer_logs", &self.all())
    }

    pub fn lines(&self, name: &str) -> Vec<String> {
        lines(&self.file(name))
    }

    pub fn objects(&self) -> Vec<Value> {
        let lines = self.lines("json");
        lines.iter().map(|line| object(line)).collect()
    }

    /// The values of the W3C log, by the field names that stand above them.
    pub fn w3c(&self) -> Vec<Vec<(String, String)>> {
        let mut fields: Vec<String> = Vec::new();
        let mut records = Vec::new();
        for line in self.lines("w3c") {
            if let Some(names) = line.strip_prefix("#Fields: ") {
                fields = names.split(' ').map(str::to_owned).collect();
            } else if !line.starts_with('#') {
                let values = line.split(' ').map(str::to_owned);
                let record: Vec<_> = fields.iter().cloned().zip(values).collect();
                assert_eq!(record.len(), 21, "{line}");
                records.push(record);
            }
        }
        records
    }
}

pub fn object(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

pub fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Looks at a file until it has so many lines.
pub fn wait_for_lines(file: &Path, count: usize) -> Vec<String> {
    poll(|| match lines(file) {
        found if found.len() >= count => Ok(found),
        found => Err(format!("{}: {found:?}", file.display())),
    })
}

/// Ends the program, whose last lines are written then.
pub fn end(mut proxy: Proxy) -> Vec<LogLine> {
    proxy.signal(Signal::Terminate);
    assert_eq!(proxy.wait_exit(), Some(0));
    proxy.log_lines()
}

pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field}: {object}"))
}
