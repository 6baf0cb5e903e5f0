//! `portcullis check`.

use clap::Args;

use super::source::SourceArguments;
use super::{OK, PROBLEM, ResultFormat, UNUSABLE, fail};
use crate::check::{self, Verdict};

/// Behind its help.
pub(super) const EXAMPLES: &str = "\
Examples:
  portcullis check --config portcullis.yaml
  portcullis check --config portcullis.yaml --deny-warnings
  portcullis check --config portcullis.yaml --format json | jq -r '.findings[].code'";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: SourceArguments,
    /// How the result is written.
    #[arg(long, value_enum, default_value_t = ResultFormat::Human)]
    format: ResultFormat,
    /// Exit with 1 on warnings as well. Hints, such as a host that the certificate doesn't cover, do not count.
    #[arg(long)]
    deny_warnings: bool,
}

/// Runs it; returns the exit code.
pub(super) fn run(arguments: Arguments) -> u8 {
    let result = check::run(&arguments.source.into());
    // A reader that has gone wants no more of it.
    let _ = match arguments.format {
        ResultFormat::Human => result.write_text(&mut std::io::stdout()),
        ResultFormat::Json => result.write_json(&mut std::io::stdout()),
    };
    match (result.verdict(), arguments.format) {
        (Verdict::Unusable(error), ResultFormat::Human) => fail(UNUSABLE, &error.to_string()),
        (Verdict::Unusable(_), ResultFormat::Json) => UNUSABLE,
        (Verdict::Problem, _) => PROBLEM,
        (Verdict::Warning, _) if arguments.deny_warnings => PROBLEM,
        (Verdict::Warning | Verdict::Good, _) => OK,
    }
}
