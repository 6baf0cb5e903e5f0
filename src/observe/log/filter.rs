//! The choice of lines to log, from the command line's filter.
//!
//! tracing takes a word that is not a level for a module name: `warning` would enable every line of a module of that
//! name, which does not exist. So such a mistake is an error here, instead of an empty log when it is needed.

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::nearest;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The fault of a filter, and what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The filter has no level.
    #[error("unknown level `{word}`; {}{}", suggestion(.word), usage())]
    NoLevel {
        /// The text in place of the level.
        word: String,
    },
    /// A part of the program that can't be: one colon, where there have to be two.
    #[error("`{target}` is not a module path; write `{}`", two_colons(.target))]
    OneColon {
        /// The module path as written.
        target: String,
    },
    /// Something else that tracing can't make sense of.
    #[error("{0}; {help}", help = usage())]
    Unreadable(#[from] ParseError),
}

fn suggestion(word: &str) -> String {
    nearest(word, &LEVELS).map_or_else(String::new, |level| format!("did you mean `{level}`? "))
}

fn usage() -> String {
    let levels = LEVELS.join(", ");
    format!("levels: {levels}; or write directives such as `info,portcullis::tls=debug`")
}

fn two_colons(target: &str) -> String {
    let names: Vec<&str> = target.split(':').filter(|name| !name.is_empty()).collect();
    names.join("::")
}

/// Reads a filter: a level, or directives with commas between them, each of which ends with a level.
pub(super) fn parse(filter: &str) -> Result<EnvFilter, FilterError> {
    Ok(EnvFilter::try_new(directives(filter)?)?)
}

/// The directives that a filter stands for. rustls warns about odd alerts and names from clients, without naming the client. Up
/// to `info`, a level alone leaves those warnings out, because our own lines report their consequences. Directives, and levels
/// from `debug` on, are used as they are.
fn directives(filter: &str) -> Result<String, FilterError> {
    // tracing miscounts where a directive begins with a space.
    let directives: Vec<&str> = filter.split(',').map(str::trim).collect();
    directives.iter().try_for_each(|written| check(written))?;
    let directives = directives.join(",");
    Ok(match directives.parse::<Level>() {
        Ok(level) if level <= Level::INFO => format!("{level},rustls=error"),
        _ => directives,
    })
}

fn check(directive: &str) -> Result<(), FilterError> {
    let (target, level) = directive.rsplit_once('=').unwrap_or(("", directive));
    if !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level)) {
        let word = level.to_owned();
        return Err(FilterError::NoLevel { word });
    }
    // Behind a bracket follows a span, whose fields may hold anything.
    let target = target.split('[').next().unwrap_or_default();
    if target.split("::").any(|name| name.contains(':')) {
        let target = target.to_owned();
        return Err(FilterError::OneColon { target });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_alone_leaves_out_the_warnings_of_rustls_and_all_else_is_as_written() {
        for (filter, meant) in [
            ("info", "INFO,rustls=error"),
            (" WARN ", "WARN,rustls=error"),
            ("error", "ERROR,rustls=error"),
            ("debug", "debug"),
            ("trace", "trace"),
            ("info,rustls=warn", "info,rustls=warn"),
            ("info, portcullis::tls=debug", "info,portcullis::tls=debug"),
            ("portcullis=info", "portcullis=info"),
            ("[session{id=1:2}]=debug", "[session{id=1:2}]=debug"),
            ("off", "off"),
        ] {
            assert_eq!(directives(filter).expect("a good filter"), meant);
            parse(filter).expect("tracing understands it");
        }
    }

    #[test]
    fn a_slip_is_refused_with_what_to_write() {
        let levels = "levels: off, error, warn, info, debug, trace; or write directives such as `info,portcullis::tls=debug`";
        let near =
            |word, level| format!("unknown level `{word}`; did you mean `{level}`? {levels}");
        let far = |word| format!("unknown level `{word}`; {levels}");
        for (filter, says) in [
            ("warning", near("warning", "warn")),
            ("inf", near("inf", "info")),
            ("foo", far("foo")),
            ("", far("")),
            ("info,portcullis::tls", far("portcullis::tls")),
            ("portcullis=loud", far("loud")),
            ("info,portcullis=", far("")),
            (
                "info,portcullis:tls=debug",
                "`portcullis:tls` is not a module path; write `portcullis::tls`".to_owned(),
            ),
            ("!=info", format!("invalid filter directive; {levels}")),
        ] {
            let error = parse(filter).expect_err("a slip");
            assert_eq!(error.to_string(), says, "{filter}");
        }
    }
}
