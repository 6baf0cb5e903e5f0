//! What is wrong with a configuration file, where, and what to write instead.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;

use super::concealed;
use super::location::{Location, Position};
use super::passive::Ports;
use crate::base::file::unreadable;
use crate::base::text::{Masked, escape_path};

/// How many characters of a value from the file a message repeats.
const MAX_QUOTE: usize = 60;
/// What stands behind a value that is longer.
const CUT: &str = "...";
/// How many characters of a source line are shown.
const MAX_EXCERPT: usize = 100;

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be opened or read.
    #[error(
        "{}: the configuration can't be read: {cause}{}",
        escape_path(path),
        unreadable(path, cause)
    )]
    Read {
        /// The configuration file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        cause: io::Error,
    },
    /// A directory, a pipe or a device.
    #[error("{}: the configuration isn't a regular file", escape_path(path))]
    NotAFile {
        /// The configuration file.
        path: PathBuf,
    },
    /// Longer than any configuration is.
    #[error("{}: the configuration is longer than 1 MiB", escape_path(path))]
    TooLong {
        /// The configuration file.
        path: PathBuf,
    },
    /// The content of the file isn't a configuration.
    #[error(transparent)]
    Invalid(Box<Report>),
    /// The ports that the command line has announced don't fit those of the file.
    #[error(
        "{}: --announced-ports {}: {message}\n = {help}",
        escape_path(path),
        Ports(announced)
    )]
    AnnouncedPorts {
        /// The configuration file.
        path: PathBuf,
        /// As on the command line.
        announced: RangeInclusive<u16>,
        /// What is wrong.
        message: String,
        /// What to write instead.
        help: String,
    },
}

impl Error {
    /// What is wrong and where, in a line without anything that the file says.
    pub fn summary(&self) -> String {
        let Self::Invalid(report) = self else {
            let text = self.to_string();
            return text.lines().next().unwrap_or_default().to_owned();
        };
        let mut text = escape_path(&report.origin);
        if let Some(Position { line, column }) = report.position {
            text += &format!(":{line}:{column}");
        }
        text + ": " + &Masked(&without_quotes(&report.message, |_| true)).to_string()
    }

    pub(super) fn not_utf8(origin: &Path, error: &FromUtf8Error) -> Self {
        let (good, _) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        let lines: Vec<&[u8]> = good.split(|&byte| byte == b'\n').collect();
        let start_of_line = lines.last().copied().unwrap_or_default();
        let position = Position {
            line: lines.len(),
            column: String::from_utf8_lossy(start_of_line).chars().count() + 1,
        };
        Self::Invalid(Box::new(Report {
            origin: origin.to_owned(),
            position: Some(position),
            source_line: None,
            message: "a byte that isn't UTF-8".to_owned(),
            help: Some("save the file as UTF-8".to_owned()),
        }))
    }

    pub(super) fn invalid(origin: &Path, text: &str, finding: Finding) -> Self {
        let lines: Vec<&str> = lines(text).collect();
        let shown = finding
            .position
            .and_then(|position| ShownLine::of(&lines, position));
        let (message, help) = match &shown {
            Some(line) => line.conceal(finding.message, finding.help),
            None => (finding.message, finding.help),
        };
        Self::Invalid(Box::new(Report {
            origin: origin.to_owned(),
            position: finding.position,
            message,
            help,
            source_line: shown.map(|line| line.text),
        }))
    }
}

/// The line that has a fault, as it may be shown.
struct ShownLine<'a> {
    text: String,
    /// What is not shown of it.
    hidden: &'a str,
    /// Whether the fault is in that.
    fault_is_hidden: bool,
}

impl<'a> ShownLine<'a> {
    fn of(lines: &[&'a str], position: Position) -> Option<Self> {
        let index = position.line - 1;
        let line = *lines.get(index)?;
        let Some(part) = concealed::hidden_part(lines, index) else {
            return Some(Self {
                text: line.to_owned(),
                hidden: "",
                fault_is_hidden: false,
            });
        };
        let (text, hidden) = line.split_at(part.start);
        Some(Self {
            text: format!("{text}***"),
            hidden,
            fault_is_hidden: position.column > text.chars().count(),
        })
    }

    /// The message about its fault and the remedy, without what they quote of the hidden part.
    fn conceal(&self, message: String, help: Option<String>) -> (String, Option<String>) {
        if self.hidden.is_empty() {
            return (message, help);
        }
        // The value may be written in another way there, with escapes or behind a folder.
        let message = without_quotes(&message, |quote| self.fault_is_hidden || self.has(quote));
        let help = help.map(|help| without_quotes(&help, |quote| self.has(quote)));
        (message, help)
    }

    /// Whether the hidden part has what is quoted.
    fn has(&self, quote: &str) -> bool {
        let start = quote.strip_suffix(CUT).unwrap_or(quote);
        !start.is_empty() && self.hidden.contains(start)
    }
}

/// One fault of a configuration file, with the line that has it; shown over several lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    origin: PathBuf,
    position: Option<Position>,
    source_line: Option<String>,
    message: String,
    help: Option<String>,
}

impl Report {
    /// Where the fault is.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to write instead.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }
}

impl std::error::Error for Report {}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", escape_path(&self.origin))?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", Masked(&self.message))?;
        let mut margin = String::new();
        if let (Some(position), Some(line)) = (self.position, &self.source_line) {
            let number = position.line.to_string();
            margin = " ".repeat(number.len());
            let (printed, caret) = excerpt(line, position.column);
            write!(
                f,
                "\n{margin} |\n{number} | {}\n{margin} | {}^",
                Masked(&printed),
                " ".repeat(caret)
            )?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n{margin} = {}", Masked(help))?;
        }
        Ok(())
    }
}

/// What is wrong, and where in the text, before it is known in which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub position: Option<Position>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// An error of our own checks, with its location as a path.
#[derive(Debug)]
pub(super) struct Fault {
    pub location: Location,
    pub message: String,
    pub help: String,
}

impl Fault {
    pub(super) fn new(
        location: Location,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            location,
            message: message.into(),
            help: help.into(),
        }
    }

    pub(super) fn at(self, position: Option<Position>) -> Finding {
        Finding {
            position,
            message: self.message,
            help: Some(self.help),
        }
    }
}

/// Text from the file in a message: in backticks, which nothing else in it has, and not longer than a line bears.
pub(super) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_QUOTE).collect();
    if short.len() < text.len() {
        short.push_str(CUT);
    }
    in_backticks(&short)
}

/// The name of a file that the configuration has, in a message: whole, since its end says the most.
pub(super) fn quoted_path(path: &Path) -> String {
    in_backticks(&escape_path(path))
}

fn in_backticks(text: &str) -> String {
    format!("`{}`", text.replace('`', "'"))
}

/// A message without those of its quotes that `is_left_out` is true of.
fn without_quotes(message: &str, is_left_out: impl Fn(&str) -> bool) -> String {
    let parts = message.split('`').enumerate();
    let kept: Vec<&str> = parts
        .map(
            |(number, part)| match number % 2 == 1 && is_left_out(part) {
                true => "…",
                false => part,
            },
        )
        .collect();
    kept.join("`")
}

/// The lines as YAML counts them, which takes more characters than LF for the end of one (YAML 1.1 §4.1.4).
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let current = rest?;
        let Some(end) = current.find(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']) else {
            return rest.take();
        };
        let (line, ending) = current.split_at(end);
        let mut after = ending.chars();
        after.next();
        rest = Some(ending.strip_prefix("\r\n").unwrap_or(after.as_str()));
        Some(line)
    })
}

/// The part of `line` around `column`, and how many characters of it come before that column.
fn excerpt(line: &str, column: usize) -> (String, usize) {
    let caret = column - 1;
    if line.chars().count() <= MAX_EXCERPT {
        return (line.to_owned(), caret);
    }
    let skipped = caret.saturating_sub(MAX_EXCERPT / 2);
    (
        line.chars().skip(skipped).take(MAX_EXCERPT).collect(),
        caret - skipped,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str, line: usize, column: usize) -> String {
        let finding = Finding {
            position: Some(Position { line, column }),
            message: "no".to_owned(),
            help: Some("yes".to_owned()),
        };
        Error::invalid(Path::new("p.yaml"), text, finding).to_string()
    }

    #[test]
    fn a_configuration_that_may_not_be_read_says_who_needs_permission() {
        let denied = |path: &str| Error::Read {
            path: path.into(),
            cause: io::ErrorKind::PermissionDenied.into(),
        };
        let text = denied("/etc/portcullis/portcullis.yaml").to_string();
        assert!(text.contains("the user that runs Portcullis needs permission to read it"));
        assert!(denied("~/p.yaml").to_string().contains("are not expanded"));
    }

    #[test]
    fn a_summary_repeats_nothing_of_the_file() {
        let finding = Finding {
            position: Some(Position { line: 2, column: 4 }),
            message: format!("{} and {} are one user", quoted("alice"), quoted("ALICE")),
            help: Some("take alice out".to_owned()),
        };
        let error = Error::invalid(Path::new("p.yaml"), "a: 1\nb: alice\n", finding);
        assert_eq!(error.summary(), "p.yaml:2:4: `…` and `…` are one user");
    }

    #[test]
    fn a_password_in_the_line_is_not_shown() {
        for line in [
            "  password: hunter2",
            "  \"Token\" : hunter2",
            "login: {user: probe, password: hunter2}",
        ] {
            let text = printed(line, 1, 3);
            assert!(
                !text.contains("hunter2") && text.contains(": ***"),
                "{text}"
            );
        }
        let file = printed("  password_file: probe.pw", 1, 3);
        assert!(file.contains("probe.pw"), "{file}");
    }

    #[test]
    fn a_message_does_not_quote_what_is_hidden_of_its_line() {
        let error = |text: &str, column, message: &str| {
            let finding = Finding {
                position: Some(Position { line: 1, column }),
                message: message.to_owned(),
                help: Some("write the name of a file, such as `a.pw`".to_owned()),
            };
            Error::invalid(Path::new("p.yaml"), text, finding).to_string()
        };
        for (text, column, message, shown) in [
            (
                "token_file: hunter2",
                13,
                "`/etc/hunter2`: the token can't be read",
                "`…`: the token can't be read",
            ),
            (
                "token: hunter2",
                1,
                "unknown key `token`, found `hunter2`",
                "unknown key `token`, found `…`",
            ),
            (
                "token_file: a.token",
                13,
                "`a.token`: the token can't be read",
                "`a.token`: the token can't be read",
            ),
        ] {
            let report = error(text, column, message);
            assert!(
                report.starts_with(&format!("p.yaml:1:{column}: {shown}\n")),
                "{report}"
            );
            assert!(!report.contains("hunter2"), "{report}");
            assert!(report.ends_with("such as `a.pw`"), "{report}");
        }
    }

    #[test]
    fn a_quote_with_backticks_in_it_is_one_quote() {
        assert_eq!(quoted("a`b"), "`a'b`");
        assert_eq!(quoted_path(Path::new("/a`b")), "`/a'b`");
    }

    #[test]
    fn a_report_shows_the_line_and_points_at_the_column() {
        let expected = "p.yaml:2:4: no\n  |\n2 | b: c\n  |    ^\n  = yes";
        assert_eq!(printed("a: 1\nb: c\n", 2, 4), expected);
    }

    #[test]
    fn every_line_end_of_yaml_counts() {
        assert!(printed("a\r\nb\rc\u{85}d\u{2028}e\n", 5, 1).contains("5 | e\n"));
    }

    #[test]
    fn a_position_past_the_end_shows_no_line() {
        assert_eq!(printed("a: 1", 9, 1), "p.yaml:9:1: no\n = yes");
    }

    #[test]
    fn a_long_line_is_shown_around_its_column() {
        let line = format!("{}X{}", "a".repeat(5000), "b".repeat(5000));
        let report = printed(&line, 1, 5001);
        let [_, _, source, caret, _] = report.lines().collect::<Vec<_>>()[..] else {
            panic!("{report}")
        };
        assert!(source.len() < 120);
        assert_eq!(
            source.chars().nth(caret.find('^').expect("a caret")),
            Some('X')
        );
    }

    #[test]
    fn nothing_from_the_file_acts_on_the_terminal() {
        let report = printed("\u{1b}[2J\t\u{202e}x: 1", 1, 6);
        assert!(report.contains("1 | ?[2J ?x: 1\n"), "{report}");
    }

    #[test]
    fn quotes_are_short() {
        assert_eq!(quoted("ab"), "`ab`");
        assert_eq!(
            quoted(&"\u{e4}".repeat(1000)).chars().count(),
            MAX_QUOTE + 5
        );
    }
}
