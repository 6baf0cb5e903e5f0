//! `portcullis check`: a configuration, with all files that it names, as `run` would take it.
//!
//! One run reports all problems. Findings are collected, and then written for people or for programs.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::SystemTime;

use serde::Serialize;

use crate::acme;
use crate::app::names;
use crate::app::notes::{
    Note, Severity, not_served, notes, on_backend_authorities, on_backend_client_certificates,
    on_permissions,
};
use crate::backend::{Pools, Registry};
use crate::base::text::escape_path;
use crate::config::{self, Passive, Ports, Settings, Source};
use crate::observe::transfer_log;
use crate::policy::credentials::NewCredentials;
use crate::policy::users::NewNames;
use crate::tls::{ClientTrust, Date, Inventory};

/// The findings of a check.
#[derive(Debug)]
pub struct Checked {
    config: String,
    lines: Vec<Line>,
    unusable: Option<config::Error>,
}

/// The verdict that follows from a check's findings.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// `run` would serve.
    Good,
    /// `run` would serve, and some clients will fail.
    Warning,
    /// `run` can't do what the configuration says.
    Problem,
    /// The configuration can't be used.
    Unusable(&'a config::Error),
}

#[derive(Debug)]
enum Line {
    /// A fact about the configuration.
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
    ClientCertificates,
    Credentials,
    UsersFile,
    PassiveAddress,
    Acme,
    TransferLog,
    Runtime,
}

/// The result for programs.
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

/// Checks this configuration.
pub fn run(source: &Source) -> Checked {
    let mut checked = Checked {
        config: escape_path(&source.file),
        lines: Vec::new(),
        unusable: None,
    };
    match source.load() {
        Ok(settings) => checked.check(&settings),
        Err(error) => checked.unusable = Some(error),
    }
    checked
}

impl Checked {
    /// The verdict that follows from the findings.
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

    /// Writes the findings for people; an unusable configuration has nothing to be written but its error.
    ///
    /// # Errors
    /// Those of `output`.
    pub fn write_text(&self, output: &mut impl Write) -> io::Result<()> {
        for line in &self.lines {
            match line {
                Line::Fact(text) => writeln!(output, "{text}")?,
                Line::Problem(_, text) => writeln!(output, "problem: {text}")?,
                Line::Note(note) => writeln!(output, "{}: {note}", note.severity.as_str())?,
            }
        }
        Ok(())
    }

    /// Writes the findings for programs, as one JSON object.
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

    fn check(&mut self, settings: &Settings) {
        self.fact(format!(
            "configuration {}: {}, {}",
            self.config,
            counted(settings.listeners.len(), "listener"),
            counted(settings.sites.len(), "site")
        ));
        self.fact(data_ports(&settings.passive));
        self.check_certificates(settings);
        match Pools::load(&settings.sites, &Registry::default()) {
            Ok(pools) => {
                self.check_backend_client_certificates(&pools);
                let notes = on_backend_authorities(&pools);
                self.lines.extend(notes.into_iter().map(Line::Note));
            }
            Err(error) => self.problem(ProblemCode::BackendTls, error),
        }
        self.check_client_certificates(settings);
        self.check_orders(settings);
        self.check_users(settings);
        self.check_transfer_logs(settings);
        self.look_up_passive_address(settings);
    }

    fn check_certificates(&mut self, settings: &Settings) {
        let now = SystemTime::now();
        let inventory = Inventory::load(&settings.tls, None, now);
        for entry in inventory.entries() {
            if let Some(pair) = entry.pair() {
                let left = pair.not_after.duration_since(now).unwrap_or_default();
                self.fact(format!(
                    "certificate {}: {}, names {}, {} days left, the key matches ({})",
                    escape_path(&entry.source.certificate),
                    pair.subject,
                    pair.names_and_addresses(),
                    left.as_secs() / 86_400,
                    pair.key_kind(),
                ));
            }
            match entry.refusal() {
                // The configuration doesn't name it, and all goes on without it.
                Some(error) if entry.source.directory.is_some() => {
                    self.lines.push(Line::Note(not_served(error)));
                }
                Some(error) => self.problem(ProblemCode::Certificate, error),
                None => {}
            }
        }
        for fault in inventory.directory_faults() {
            self.problem(ProblemCode::Certificate, &fault.error);
        }
        // Without the central pair nothing is served, and so there is nothing to note.
        let Ok(certificates) = inventory.into_set() else {
            return;
        };
        // Its fault is reported separately.
        let clients = ClientTrust::configured(settings).unwrap_or_else(|_| ClientTrust::none());
        let mut notes = notes(settings, &certificates, &clients, now);
        notes.extend(on_permissions(settings));
        self.lines.extend(notes.into_iter().map(Line::Note));
    }

    fn check_client_certificates(&mut self, settings: &Settings) {
        match ClientTrust::configured(settings) {
            Ok(clients) => {
                for authority in clients.authorities() {
                    let end = Date(authority.not_after);
                    self.fact(format!(
                        "authority of clients {}: valid until {end}",
                        authority.subject
                    ));
                }
                for list in clients.lists() {
                    let next = match list.next_update {
                        Some(next) => format!("next update {}", Date(next)),
                        None => "no next update".to_owned(),
                    };
                    self.fact(format!(
                        "revocation list {}: of {}, {} revoked, {next}",
                        escape_path(&list.file),
                        list.issuer,
                        counted(list.revoked, "certificate")
                    ));
                }
            }
            Err(error) => self.problem(ProblemCode::ClientCertificates, error),
        }
        for path in settings.credential_files() {
            match NewCredentials::read(path) {
                Ok(passwords) => {
                    let count = counted(passwords.count(), "password");
                    self.fact(format!("credentials {}: {count}", escape_path(path)));
                }
                Err(error) => self.problem(ProblemCode::Credentials, error),
            }
        }
    }

    /// Asks no authority and orders nothing.
    fn check_orders(&mut self, settings: &Settings) {
        let Some(acme) = &settings.tls.acme else {
            return;
        };
        let names: Vec<String> = acme.names.iter().map(ToString::to_string).collect();
        self.fact(format!(
            "a certificate for {} is ordered from {}, by the challenge {}",
            names.join(" "),
            acme.directory_url,
            acme.challenge.as_str()
        ));
        for problem in acme::problems(acme) {
            self.problem(ProblemCode::Acme, problem);
        }
    }

    fn check_backend_client_certificates(&mut self, pools: &Pools) {
        let now = SystemTime::now();
        for certificate in pools.backend_client_certificates().all() {
            let pair = certificate.in_use();
            let left = pair.not_after.duration_since(now).unwrap_or_default();
            self.fact(format!(
                "client certificate {}: {}, {} days left, the key matches",
                escape_path(&certificate.files().certificate),
                pair.subject,
                left.as_secs() / 86_400
            ));
        }
        let notes = on_backend_client_certificates(pools, now);
        self.lines.extend(notes.into_iter().map(Line::Note));
    }

    fn check_users(&mut self, settings: &Settings) {
        for path in settings.users_files() {
            match NewNames::read(path) {
                Ok(names) => {
                    let count = counted(names.count(), "name");
                    self.fact(format!("users {}: {count}", escape_path(path)));
                }
                Err(error) => self.problem(ProblemCode::UsersFile, error),
            }
        }
    }

    /// Checks the files of transfer logs. Makes none: it would belong to the user of the check.
    fn check_transfer_logs(&mut self, settings: &Settings) {
        for log in &settings.transfer_logs {
            match transfer_log::check_place(log) {
                Ok(()) => self.fact(format!("transfer log {}", escape_path(&log.file))),
                Err(error) => self.problem(ProblemCode::TransferLog, error),
            }
        }
    }

    /// Looks up the host names of passive addresses.
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
        Line::Note(note) => (
            note.severity.as_str(),
            note.code.as_str().into(),
            &note.text,
        ),
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
        | config::Error::TooLong { .. }
        | config::Error::AnnouncedPorts { .. } => None,
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
fn data_ports(passive: &Passive) -> String {
    let ports = &passive.ports;
    let what = if ports.len() == 1 { "port" } else { "ports" };
    let announced = passive.announced.ports.as_ref();
    let announced = announced.map_or(String::new(), |ports| {
        format!(", announced as {}", Ports(ports))
    });
    let range = format!("data {what} {}{announced}", Ports(ports));
    let transfers = counted(ports.len(), "transfer");
    format!(
        "{range}: for one client address, {transfers} at a time without a resumed TLS session, any number with one"
    )
}
