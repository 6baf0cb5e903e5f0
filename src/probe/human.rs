//! The report for people: a block of aligned lines for each backend, none of them longer than a terminal is wide.

use std::fmt::Write;
use std::time::Duration;

use super::report::{Report, StageOutcome, StageReport, reason};
use crate::backend::check::probe::Skipped;
use crate::base::wrap::push_wrapped;
use crate::config::TlsMode;
use crate::outcome::ProbeStage;

/// The longest line, in characters.
const WIDTH: usize = 100;
/// The column in which the outcome of a stage begins, and below it further lines. A fingerprint fits in the line then.
const OUTCOME: usize = 18;
/// The column in which details begin: behind the stage, its outcome and its time.
const DETAIL: usize = 37;

/// The block of one backend.
pub fn block(report: &Report) -> String {
    let tls = match report.tls {
        None => "without TLS",
        Some(TlsMode::Explicit) => "explicit TLS",
        Some(TlsMode::Implicit) => "implicit TLS",
    };
    let mut text = String::new();
    push_wrapped(&mut text, &format!("{}, {tls}", report.name), 4, WIDTH);
    for stage in &report.stages {
        if !matches!(stage.outcome, StageOutcome::Skipped(_)) {
            push_stage(&mut text, stage);
        }
    }
    for why in [
        Skipped::Failure,
        Skipped::PasswordRefused,
        Skipped::WantsLogin,
        Skipped::NotAsked,
    ] {
        push_skipped(&mut text, report, why);
    }
    text
}

/// The overall result, where there are several backends.
pub fn summary(reports: &[Report]) -> String {
    if reports.len() < 2 {
        return String::new();
    }
    let failed: Vec<&Report> = reports
        .iter()
        .filter(|report| report.failed().is_some())
        .collect();
    let mut text = format!("\n{} backends: ", reports.len());
    match failed.len() {
        0 => text.push_str("all work\n"),
        count => {
            let works = match reports.len() - count {
                0 => "none works".to_owned(),
                1 => "1 works".to_owned(),
                works => format!("{works} work"),
            };
            let fails = if count == 1 { "fails" } else { "fail" };
            // A String takes whatever is written.
            let _ = writeln!(text, "{works}, {count} {fails}");
            for report in failed {
                let stage = report.failed().map_or("", |stage| name(stage.stage));
                let line = format!("  {}: {stage}", report.name);
                push_wrapped(&mut text, &line, 4, WIDTH);
            }
        }
    }
    text
}

fn push_stage(text: &mut String, stage: &StageReport) {
    let took = stage.took.map(milliseconds).unwrap_or_default();
    let start = format!(
        "  {:<14}  {:<6} {:>10}  ",
        name(stage.stage),
        stage.outcome.as_str(),
        took
    );
    push_wrapped(text, &format!("{start}{}", stage.detail), DETAIL, WIDTH);
    let mut below = |label: &str, line: &str| {
        push_wrapped(
            text,
            &format!("{:OUTCOME$}{label}: {line}", ""),
            OUTCOME + 2,
            WIDTH,
        );
    };
    if let StageOutcome::Failed { remedy, .. } = &stage.outcome {
        below("remedy", remedy);
    }
    for note in &stage.notes {
        below("note", note);
    }
}

fn push_skipped(text: &mut String, report: &Report, why: Skipped) {
    let skipped = report
        .stages
        .iter()
        .filter(|stage| stage.outcome == StageOutcome::Skipped(why));
    let names: Vec<&str> = skipped.map(|stage| name(stage.stage)).collect();
    if !names.is_empty() {
        let line = format!("  skipped, {}: {}", reason(why), names.join(", "));
        push_wrapped(text, &line, 4, WIDTH);
    }
}

/// The name of a stage: the one in log and metrics, as words.
fn name(stage: ProbeStage) -> &'static str {
    match stage {
        ProbeStage::DataHandshake => "data handshake",
        other => other.as_str(),
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
