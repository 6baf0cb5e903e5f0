//! The report for Nagios and what takes its plugins: one line with performance data, as the Monitoring Plugins Development
//! Guidelines have it.

use std::fmt::Write;

use super::report::{Report, StageOutcome, reason};
use super::{Health, Unusable};
use crate::backend::check::probe::Skipped;

/// How many backends the text names that don't work.
const MOST_NAMED: usize = 5;

impl Health {
    /// The exit code of a plugin.
    pub fn nagios_code(self) -> u8 {
        match self {
            Self::Works => 0,
            Self::WorksForNow | Self::LoginRefused => 1,
            Self::Fails => 2,
        }
    }

    fn nagios_word(self) -> &'static str {
        match self {
            Self::Works => "OK",
            Self::WorksForNow | Self::LoginRefused => "WARNING",
            Self::Fails => "CRITICAL",
        }
    }
}

/// The line, without its end, of at least one backend.
pub fn line(reports: &[Report]) -> String {
    let worst = reports.iter().map(Report::health).max();
    let worst = worst.unwrap_or(Health::Fails);
    let mut bad: Vec<&Report> = reports
        .iter()
        .filter(|report| report.health() != Health::Works)
        .collect();
    bad.sort_by_key(|report| std::cmp::Reverse(report.health()));
    let mut problems: Vec<String> = bad
        .iter()
        .take(MOST_NAMED)
        .map(|report| problem(report))
        .collect();
    if let more @ 1.. = bad.len().saturating_sub(MOST_NAMED) {
        problems.push(format!("and {more} more"));
    }
    let failing = reports
        .iter()
        .filter(|report| report.failed().is_some())
        .count();
    let count = match (reports.len(), failing) {
        (1, 0) => "1 backend works".to_owned(),
        (all, 0) => format!("{all} backends work"),
        (all, failing) => format!("{failing} of {all} backends fail"),
    };
    let mut text = format!("PORTCULLIS {} - {count}", worst.nagios_word());
    if !problems.is_empty() {
        let _ = write!(text, ": {}", problems.join("; "));
    }
    // A String takes whatever is written.
    let _ = write!(plain(&mut text), " |");
    for report in reports {
        let label = label(report);
        let seconds = report.took.as_secs_f64();
        let _ = write!(text, " '{label} time'={seconds:.3}s;;;0");
        if let Some(end) = report.certificate {
            let margin = end.margin.map(|days| format!("{days}:"));
            let _ = write!(
                text,
                " '{label} certificate days'={};{};0:",
                end.days_left,
                margin.unwrap_or_default()
            );
        }
    }
    text
}

/// The line where nothing is probed.
pub fn unknown(why: &Unusable) -> String {
    let why = why.to_string();
    let first = why.lines().next().unwrap_or_default();
    let mut text = format!("PORTCULLIS UNKNOWN - {first}");
    plain(&mut text);
    text
}

fn problem(report: &Report) -> String {
    let place = format!("{} {}", report.name.site, report.name.backend);
    let skipped = report.stages.iter().find_map(|stage| match stage.outcome {
        StageOutcome::Skipped(why @ Skipped::PasswordRefused) => Some((stage, why)),
        _ => None,
    });
    if let (None, Some((stage, why))) = (report.failed(), skipped) {
        return format!("{place}: {} skipped: {}", stage.stage.as_str(), reason(why));
    }
    match (report.failed(), report.days_left()) {
        (Some(stage), _) => format!("{place}: {} failed: {}", stage.stage.as_str(), stage.detail),
        (None, Some(..0)) => format!("{place}: the certificate has expired"),
        (None, days) => format!(
            "{place}: the certificate expires in {} days",
            days.unwrap_or(0)
        ),
    }
}

/// The label of performance data: in quotes, which may have no quotes and no equals sign in them.
fn label(report: &Report) -> String {
    let label = format!("{} {}", report.name.site, report.name.backend);
    label.replace(['\'', '=', '|'], "_")
}

/// Takes out what would begin the performance data.
fn plain(text: &mut String) -> &mut String {
    if text.contains('|') {
        *text = text.replace('|', "/");
    }
    text
}
