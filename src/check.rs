//! `portcullis check`: a configuration, with all files that it names, as `run` would take it.
//!
//! One run reports all problems. What is found is collected, and then written for people or for programs.

use std::fmt::Display;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;

use crate::app::names;
use crate::app::notes::{Note, Severity, notes};
use crate::backend::{Pools, Registry};
use crate::config::{self, Settings};
use crate::observe::transfer_log;
use crate::policy::users::NewNames;
use crate::tls::CertificateSet;

/// What a check has found.
#[derive(Debug)]
pub struct Checked {
    config: String,
    lines: Vec<Line>,
    unusable: Option<config::Error>,
}

/// What follows from it.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// `run` would serve.
    Good,
    /// It would, and some clients will fail.
    Warning,
    /// `run` can't do what the configuration says.
    Problem,
    /// The configuration can't be used.
    Unusable(&'a config::Error),
}

#[derive(Debug)]
enum Line {
    /// How it is.
    Fact(String),
    Problem(ProblemCode, String),
    Note(Note),
}

/// The kinds of problems. Their texts are part of the interface.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum ProblemCode {
    Certificate,
    BackendTls,
    UsersFile,
    PassiveAddress,
    TransferLog,
    Runtime,
}

/// For programs.
#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    config: &'a str,
    result: &'static str,
    findings: Vec<Finding<'a>>,
    facts: Vec<&'a str>,
}

#[derive(Serialize)]
struct Finding<'a> {
    severity: &'static str,
    code: serde_json::Value,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
}

/// Checks the configuration in this file.
pub fn run(path: &Path) -> Checked {
    let mut checked = Checked {
        config: path.display().to_string(),
        lines: Vec::new(),
        unusable: None,
    };
    match config::load(path) {
        Ok(settings) => checked.look_at(&settings),
        Err(error) => checked.unusable = Some(error),
    }
    checked
}

impl Checked {
    /// What follows from it.
    pub fn verdict(&self) -> Verdict<'_> {
        let is_problem = |line: &Line| matches!(line, Line::Problem(..));
        let is_warning =
            |line: &Line| matches!(line, Line::Note(note) if note.severity == Severity::Warning);
        match &self.unusable {
            Some(error) => Verdict::Unusable(error),
            None if self.lines.iter().any(is_problem) => Verdict::Problem,
            None if self.lines.iter().any(is_warning) => Verdict::Warning,
            None => Verdict::Good,
        }
    }

    /// Writes it for people; an unusable configuration has nothing to be written but its error.
    ///
    /// # Errors
    /// Those of `output`.
    pub fn write_text(&self, output: &mut impl Write) -> io::Result<()> {
        for line in &self.lines {
            match line {
                Line::Fact(text) => writeln!(output, "{text}")?,
                Line::Problem(_, text) => writeln!(output, "problem: {text}")?,
                Line::Note(note) => writeln!(output, "note: {note}")?,
            }
        }
        Ok(())
    }

    /// Writes it for programs, as one JSON object.
    ///
    /// # Errors
    /// Those of `output`.
    pub fn write_json(&self, output: &mut impl Write) -> io::Result<()> {
        let facts = self.lines.iter().filter_map(|line| match line {
            Line::Fact(text) => Some(text.as_str()),
            Line::Problem(..) | Line::Note(_) => None,
        });
        let whole;
        let mut findings: Vec<Finding<'_>> = self.lines.iter().filter_map(finding).collect();
        if let Some(error) = &self.unusable {
            whole = error.to_string();
            findings.push(fault(error, &whole));
        }
        let document = Document {
            version: 1,
            config: &self.config,
            result: match self.verdict() {
                Verdict::Good => "good",
                Verdict::Warning => "warning",
                Verdict::Problem => "problem",
                Verdict::Unusable(_) => "unusable",
            },
            findings,
            facts: facts.collect(),
        };
        serde_json::to_writer(&mut *output, &document)?;
        writeln!(output)
    }

    fn fact(&mut self, text: String) {
        self.lines.push(Line::Fact(text));
    }

    fn problem(&mut self, code: ProblemCode, error: impl Display) {
        self.lines.push(Line::Problem(code, error.to_string()));
    }

    fn look_at(&mut self, settings: &Settings) {
        self.fact(format!(
            "configuration {}: {}, {}",
            self.config,
            counted(settings.listeners.len(), "listener"),
            counted(settings.sites.len(), "site")
        ));
        self.fact(data_ports(&settings.passive.ports));
        self.look_at_certificate(settings);
        if let Err(error) = Pools::load(&settings.sites, &Registry::default()) {
            self.problem(ProblemCode::BackendTls, error);
        }
        self.look_at_users(settings);
        self.look_at_transfer_logs(settings);
        self.look_up_passive_address(settings);
    }

    fn look_at_certificate(&mut self, settings: &Settings) {
        let now = SystemTime::now();
        let certificates = match CertificateSet::load(&settings.tls, now) {
            Ok(certificates) => certificates,
            Err(error) => return self.problem(ProblemCode::Certificate, error),
        };
        let pair = certificates.default_pair();
        let left = pair.not_after.duration_since(now).unwrap_or_default();
        self.fact(format!(
            "certificate {}: {}, names {}, {} days left, the key matches",
            settings.tls.certificate.display(),
            pair.subject,
            pair.names_and_addresses(),
            left.as_secs() / 86_400
        ));
        let notes = notes(settings, &certificates, now);
        self.lines.extend(notes.into_iter().map(Line::Note));
    }

    fn look_at_users(&mut self, settings: &Settings) {
        for path in settings.users_files() {
            match NewNames::read(path) {
                Ok(names) => {
                    let count = counted(names.count(), "name");
                    self.fact(format!("users {}: {count}", path.display()));
                }
                Err(error) => self.problem(ProblemCode::UsersFile, error),
            }
        }
    }

    /// Makes no file: it would belong to the user of the check.
    fn look_at_transfer_logs(&mut self, settings: &Settings) {
        for log in &settings.transfer_logs {
            match transfer_log::look_at(log) {
                Ok(()) => self.fact(format!("transfer log {}", log.file.display())),
                Err(error) => self.problem(ProblemCode::TransferLog, error),
            }
        }
    }

    /// Looks up what names there are for passive addresses.
    fn look_up_passive_address(&mut self, settings: &Settings) {
        let runtime = match tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        {
            Ok(runtime) => runtime,
            Err(error) => {
                let what = format!("the runtime can't be started: {error}");
                return self.problem(ProblemCode::Runtime, what);
            }
        };
        let looked_up = runtime.block_on(names::announcements(&settings.passive));
        runtime.shutdown_background();
        match looked_up {
            Ok(announcements) => {
                for name in announcements.names() {
                    let (name, address) = (name.name(), name.address());
                    self.fact(format!("passive address {name}: {address}"));
                }
            }
            Err(error) => self.problem(ProblemCode::PassiveAddress, error),
        }
    }
}

fn finding(line: &Line) -> Option<Finding<'_>> {
    let (severity, code, message) = match line {
        Line::Fact(_) => return None,
        Line::Problem(code, text) => ("problem", serde_json::json!(code), text),
        Line::Note(note) => {
            let severity = match note.severity {
                Severity::Warning => "warning",
                Severity::Hint => "hint",
            };
            (severity, note.code.as_str().into(), &note.text)
        }
    };
    Some(Finding {
        severity,
        code,
        message,
        line: None,
        column: None,
        help: None,
    })
}

fn fault<'a>(error: &'a config::Error, whole: &'a str) -> Finding<'a> {
    let report = match error {
        config::Error::Invalid(report) => Some(report),
        config::Error::Read { .. }
        | config::Error::NotAFile { .. }
        | config::Error::TooLong { .. } => None,
    };
    let position = report.and_then(|report| report.position());
    Finding {
        severity: "problem",
        code: "configuration".into(),
        message: report.map_or(whole, |report| report.message()),
        line: position.map(|position| position.line),
        column: position.map(|position| position.column),
        help: report.and_then(|report| report.help()),
    }
}

fn counted(count: usize, what: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {what}{ending}")
}

/// How many ports there are for data connections, and for how many transfers of one client address that is enough.
fn data_ports(ports: &RangeInclusive<u16>) -> String {
    let (first, last) = (ports.start(), ports.end());
    let range = match ports.len() {
        1 => format!("data port {first}"),
        _ => format!("data ports {first}-{last}"),
    };
    let transfers = counted(ports.len(), "transfer");
    format!(
        "{range}: for one client address, {transfers} at a time without a resumed TLS session, any number with one"
    )
}
