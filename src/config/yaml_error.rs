//! Rewords the YAML reader's errors so that they say what to write instead.
//!
//! The reader's errors are texts; the shapes taken apart here are serde's own, and `tests/config/bad` holds one file
//! for each. A text of another shape is shown as it is.

use super::error::{Finding, quoted};
use super::location::Position;
use super::nearest::nearest;
use super::structure;

/// What to write where a required key is missing. `tls` is a section at the top and a scalar in a listener.
const EXAMPLES: [(&str, &str, &str); 17] = [
    (
        "",
        "listeners",
        "add `listeners:` with `- {address: 0.0.0.0:21, tls: explicit}` below it",
    ),
    (
        "",
        "tls",
        "add `tls:` with `certificate: FILE` and `private_key: FILE` below it",
    ),
    ("", "sites", "add `sites:` with at least one site below it"),
    (
        "listeners",
        "address",
        "add an address and port, such as `address: 0.0.0.0:21`",
    ),
    (
        "listeners",
        "tls",
        "add `tls: explicit`, or `tls: implicit` where TLS starts with the first byte",
    ),
    (
        "listeners",
        "trusted",
        "add the networks of your load balancers, such as `trusted: [10.0.0.0/28]`",
    ),
    (
        "tls",
        "directory_url",
        "add the URL that the authority names, such as `directory_url: https://acme-v02.api.letsencrypt.org/directory`",
    ),
    (
        "tls",
        "state",
        "add `state: DIR`, a directory of Portcullis' own, such as /var/lib/portcullis/acme",
    ),
    (
        "tls",
        "names",
        "add the names that clients connect to, such as `names: [ftp.example.com]`",
    ),
    (
        "tls",
        "challenge",
        "add `challenge: {http: \"0.0.0.0:80\"}`, or `{tls_alpn: \"0.0.0.0:443\"}` or `{dns: PROGRAM}`",
    ),
    (
        "tls",
        "key_id",
        "add `key_id: ID`, what the authority calls the key",
    ),
    (
        "tls",
        "hmac_file",
        "add `hmac_file: FILE`, which holds the key as the authority shows it",
    ),
    (
        "passive",
        "networks",
        "add the networks of the clients, such as `networks: [10.0.0.0/8]`",
    ),
    (
        "passive",
        "address",
        "add the address to announce to these clients, such as `address: control`",
    ),
    (
        "proxy_protocol",
        "version",
        "add the version that this backend reads: `version: 1` or `version: 2`",
    ),
    (
        "sites",
        "name",
        "give the site a name of your choice, such as `name: ftpb`",
    ),
    (
        "sites",
        "backends",
        "add `backends:` with `- address: 10.0.0.10:21` below it",
    ),
];

/// Says what `error` means, and where it is in `text`.
pub(super) fn describe(text: &str, error: serde_yaml::Error) -> Finding {
    let position = Position::of(&error);
    let whole = error.to_string();
    let message = match position {
        Some(Position { line, column }) => {
            whole.replacen(&format!(" at line {line} column {column}"), "", 1)
        }
        None => whole,
    };
    if text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    {
        return Finding {
            position: None,
            message: "the configuration is empty".to_owned(),
            help: Some("write the sections `listeners`, `tls` and `sites`".to_owned()),
        };
    }
    let (path, complaint) = split_path(&message);
    let (message, help) =
        reword(path, complaint).unwrap_or_else(|| syntax(text, position, complaint));
    let position = position.or_else(|| structure::second_document(text));
    Finding {
        position,
        message,
        help,
    }
}

/// Cuts the path off that the reader puts before its complaint. Only known keys get that far, so it holds no other
/// characters than these.
fn split_path(message: &str) -> (&str, &str) {
    let in_path =
        |character: char| character.is_ascii_alphanumeric() || "_.[]?".contains(character);
    match message.split_once(": ") {
        Some((path, complaint)) if path.chars().all(in_path) => (path, complaint),
        _ => ("", message),
    }
}

fn reword(path: &str, complaint: &str) -> Option<(String, Option<String>)> {
    if let Some((message, help)) = complaint.split_once('\n') {
        return Some((message.to_owned(), Some(help.to_owned())));
    }
    if let Some(rest) = complaint.strip_prefix("unknown field `") {
        let (key, known) = rest.rsplit_once("`, expected ")?;
        return Some(unknown_key(key, &backticked(known)));
    }
    if let Some(rest) = complaint.strip_prefix("missing field `") {
        let key = rest.strip_suffix('`')?;
        let section = path.split(['[', '.']).next().unwrap_or_default();
        // A backend's only required key reads like a listener's.
        let section = if path.ends_with(".proxy_protocol") && key == "version" {
            "proxy_protocol"
        } else if path.contains(".backends[") {
            "listeners"
        } else {
            section
        };
        let help = EXAMPLES
            .iter()
            .find(|(at, missing, _)| *at == section && *missing == key);
        return Some((
            format!("`{key}` is missing"),
            help.map(|(_, _, help)| (*help).to_owned()),
        ));
    }
    let rest = complaint
        .strip_prefix("invalid type: ")
        .or_else(|| complaint.strip_prefix("invalid value: "))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    Some(wrong_type(found, expected))
}

fn unknown_key(key: &str, known: &[&str]) -> (String, Option<String>) {
    if key == "<<" {
        return (
            "YAML's merge key `<<` isn't supported".to_owned(),
            Some("write the keys out; a whole value can be repeated with an anchor: `&name`, then `*name`".to_owned()),
        );
    }
    let list = known.join(", ");
    let help = match (misplaced_key_help(key), nearest(key, known)) {
        (Some(where_instead), _) => format!("{where_instead}. Known here: {list}"),
        (None, Some(near)) => format!("did you mean `{near}`? Known here: {list}"),
        (None, None) => format!("known here: {list}"),
    };
    (format!("unknown key {}", quoted(key)), Some(help))
}

/// What other programs have in their configuration, and this one somewhere else.
fn misplaced_key_help(key: &str) -> Option<&'static str> {
    match key {
        "tls" => {
            Some("one certificate serves all sites: put all names into that of the section `tls`")
        }
        "log" | "logging" | "log_level" | "log_format" => {
            Some("the log is set on the command line: --log-level, --log-format")
        }
        "email" => {
            Some("addresses for the authority stand in `contact`, such as [mailto:ops@example.com]")
        }
        "terms_of_service_agreed" => {
            Some("leave it out: the section `acme` agrees to the authority's terms")
        }
        _ => None,
    }
}

fn wrong_type(found: &str, expected: &str) -> (String, Option<String>) {
    let expected = match expected {
        "a boolean" => "`true` or `false`",
        "a sequence" => "a list",
        "a string" => "text",
        other => other,
    };
    let (found, help) = match found {
        "unit value" => ("nothing".to_owned(), None),
        "map" => (
            "a map".to_owned(),
            Some("put quotes around text that begins with a brace, such as \"{user}\""),
        ),
        "sequence" => (
            "a list".to_owned(),
            Some("put quotes around text that begins with a bracket, such as \"[::]:21\""),
        ),
        other => {
            let value = other
                .split_once(' ')
                .filter(|(kind, _)| matches!(*kind, "string" | "boolean" | "integer"));
            (
                quoted(
                    value
                        .map_or(other, |(_, value)| value)
                        .trim_matches(['`', '"']),
                ),
                None,
            )
        }
    };
    let help = match expected {
        "a list" => {
            Some("put each item on a line of its own, with `- ` before it, or all into [brackets]")
        }
        "text" => help,
        ports if ports.starts_with("a port or a range") && found == "a list" => {
            Some("write a range, such as 50000-50001")
        }
        "`true` or `false`" => Some("write `true` or `false`, without quotes"),
        scalar if !scalar.starts_with("a map") && found == "a list" => help,
        _ => None,
    };
    (
        format!("expected {expected}, found {found}"),
        help.map(str::to_owned),
    )
}

/// Text that is not valid YAML, with the mistakes that are common in this file.
fn syntax(text: &str, position: Option<Position>, complaint: &str) -> (String, Option<String>) {
    if complaint.contains("more than one document") {
        return (
            "a second YAML document begins here".to_owned(),
            Some("keep one document a file; take the line with `---` out".to_owned()),
        );
    }
    let line = position
        .and_then(|position| text.lines().nth(position.line - 1))
        .unwrap_or_default();
    let value = line.split_once(':').map_or(line, |(_, value)| value);
    let help = if line.trim_start().starts_with('\t') || line.starts_with('\t') {
        Some("indent with spaces; YAML doesn't take tabs")
    } else if line.contains("*.") {
        Some("put quotes around a wildcard: \"*.example.com\"")
    } else if value.trim_start().starts_with('{') && value.contains("}") {
        Some("put quotes around text that begins with a brace, such as \"{host}|{user}\"")
    } else if value.trim_start().starts_with('[') && value.contains("]:") {
        Some("put quotes around text that begins with a bracket, such as \"[::]:21\"")
    } else if value.trim_start().starts_with("[*:") || value.trim_start().starts_with("*:") {
        Some(
            "write host names alone, such as ftpb.example.com; addresses and ports belong under `listeners`",
        )
    } else if complaint.contains("mapping values are not allowed")
        || complaint.contains("did not find expected '-' indicator")
        || complaint.contains("did not find expected key")
    {
        Some(
            "check the indentation of this line and the one before: entries of one map or list start in the same column",
        )
    } else {
        None
    };
    (
        format!("this isn't YAML: {complaint}"),
        help.map(str::to_owned),
    )
}

/// The texts in backticks.
fn backticked(list: &str) -> Vec<&str> {
    list.split('`').skip(1).step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cut_off_and_a_message_with_a_colon_is_not() {
        assert_eq!(
            split_path("sites[0].backends[1]: unknown field"),
            ("sites[0].backends[1]", "unknown field")
        );
        assert_eq!(
            split_path("invalid type: map, expected text"),
            ("", "invalid type: map, expected text")
        );
    }
}
