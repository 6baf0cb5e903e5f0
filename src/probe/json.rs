//! The report for programs: a JSON object for each backend, one a line. Keys are added and never change their meaning.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::Health;
use super::report::{Report, StageOutcome};
use crate::config::TlsMode;

/// The version of the format.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct BackendLine<'a> {
    version: u32,
    site: &'a str,
    backend: &'a str,
    entry: &'a str,
    tls: &'static str,
    outcome: &'static str,
    failed_stage: Option<&'static str>,
    milliseconds: f64,
    days_left: Option<i64>,
    stages: Vec<Stage<'a>>,
}

#[derive(Serialize)]
struct Stage<'a> {
    stage: &'static str,
    outcome: &'static str,
    milliseconds: Option<f64>,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    notes: &'a [String],
    #[serde(flatten)]
    facts: &'a Map<String, Value>,
}

/// The line of one backend, without its end.
pub fn line(report: &Report) -> String {
    let stages = report.stages.iter().map(|stage| Stage {
        stage: stage.stage.as_str(),
        outcome: stage.outcome.as_str(),
        milliseconds: stage.took.map(milliseconds),
        detail: &stage.detail,
        remedy: match &stage.outcome {
            StageOutcome::Failed { remedy, .. } => Some(remedy),
            StageOutcome::Ok | StageOutcome::Skipped(_) => None,
        },
        notes: &stage.notes,
        facts: &stage.facts,
    });
    let line = BackendLine {
        version: VERSION,
        site: &report.name.site,
        backend: &report.name.backend,
        entry: &report.name.entry,
        tls: match report.tls {
            None => "none",
            Some(TlsMode::Explicit) => "explicit",
            Some(TlsMode::Implicit) => "implicit",
        },
        outcome: match report.health() {
            Health::Works | Health::WorksForNow => "ok",
            Health::LoginRefused | Health::Fails => "failed",
        },
        failed_stage: report.failed().map(|stage| stage.stage.as_str()),
        milliseconds: milliseconds(report.took),
        days_left: report.days_left(),
        stages: stages.collect(),
    };
    // Its keys are strings, and nothing in it fails to be written.
    serde_json::to_string(&line).unwrap_or_default()
}

/// A time in milliseconds, to a thousandth.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
