//! The parts of a configuration file that no message may repeat: secrets that stand where none belongs.
//!
//! No key takes a secret. Some take the name of a file with one, and people write the secret itself there, or below a key that
//! does not exist. Messages go to the log and to the status page, so the value of such a key is shown only where it looks like
//! the name of a file.

use std::fs;
use std::ops::RangeFrom;
use std::path::{Path, PathBuf};

use super::error::Fault;
use super::location::{Location, PathStep, steps};
use super::{Backend, MoreCertificates, Settings};

/// How the names of keys end whose values are secrets, in lower case and without separators.
const SECRETS: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "passwort",
    "pass",
    "pwd",
    "secret",
    "token",
    "hmac",
];
/// How those end that take the name of a file with a secret.
const FILES: [&str; 2] = ["key", "credentials"];
/// The extensions of file names that a relative name without a leading dot is known by.
const EXTENSIONS: [&str; 28] = [
    "pem",
    "key",
    "crt",
    "cer",
    "cert",
    "chain",
    "der",
    "p12",
    "pfx",
    "txt",
    "text",
    "pw",
    "pwd",
    "pass",
    "passwd",
    "password",
    "secret",
    "token",
    "hmac",
    "eab",
    "cred",
    "creds",
    "credentials",
    "users",
    "conf",
    "cfg",
    "json",
    "list",
];
/// How a PEM section begins and ends.
const PEM_BEGIN: &str = "-----BEGIN";
const PEM_END: &str = "-----END";

/// What the value of a key may be, as far as the key tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    /// A secret, whatever it looks like.
    Secret,
    /// The name of a file with a secret, or the secret.
    FileOfSecret,
}

/// A key in a line, with what stands behind its colon.
struct Entry<'a> {
    value_of: Value,
    /// Where the value begins; the end of the line if it stands in the lines below.
    start: usize,
    /// The value, without the quotes around it.
    value: &'a str,
}

/// Whether `text` looks like the name of a file: not whether it is one, but as no password, key or token does.
pub(super) fn looks_like_file_name(text: &str) -> bool {
    let is_plain = |character: char| character.is_alphanumeric() || "/._-@".contains(character);
    if !text.chars().all(is_plain) {
        return false;
    }
    let begins_as_path = text
        .strip_prefix('/')
        .is_some_and(|rest| rest.contains('/'))
        || text.starts_with("./")
        || text.starts_with("../");
    let extension = Path::new(text).extension().and_then(|it| it.to_str());
    begins_as_path || extension.is_some_and(|it| EXTENSIONS.contains(&it))
}

/// Whether `text` is what a file holds rather than its name.
pub(super) fn is_content(text: &str) -> bool {
    text.contains(PEM_BEGIN) || text.contains(char::is_control)
}

/// From where on the line number `index` of `lines`, counted from 0, may not be shown.
pub(super) fn hidden_part(lines: &[&str], index: usize) -> Option<RangeFrom<usize>> {
    let line = lines.get(index)?;
    let indentation = indentation(line);
    if is_in_pem(&lines[..index]) || belongs_to_secret(lines, index) {
        return Some(indentation..);
    }
    let in_value = entries(line)
        .into_iter()
        .find(|entry| !entry.value.is_empty() && hides(entry.value_of, entry.value))
        .map(|entry| entry.start);
    let in_pem = line.find(PEM_BEGIN);
    in_value.into_iter().chain(in_pem).min().map(|at| at..)
}

fn hides(value_of: Value, value: &str) -> bool {
    match value_of {
        Value::Secret => true,
        Value::FileOfSecret => !looks_like_file_name(value),
    }
}

/// Whether a section has begun in these lines that does not end in them.
fn is_in_pem(lines: &[&str]) -> bool {
    let last = |what| lines.iter().rposition(|line| line.contains(what));
    last(PEM_BEGIN).is_some_and(|begin| last(PEM_END).is_none_or(|end| end < begin))
}

/// Whether the line is part of the value of a key in a line above.
fn belongs_to_secret(lines: &[&str], index: usize) -> bool {
    let mut column = indentation(lines[index]);
    let text = lines[index].trim();
    let mut is_next = true;
    for line in lines[..index].iter().rev() {
        if line.trim().is_empty() {
            continue;
        }
        let is_above = indentation(line) < column;
        // In brackets, a value may begin in any column of the line below its key.
        if is_above || is_next {
            let last = entries(line).pop();
            let continues = |entry: &Entry<'_>| is_above || entry.value.is_empty();
            if last.is_some_and(|entry| continues(&entry) && hides(entry.value_of, unquoted(text)))
            {
                return true;
            }
        }
        column = column.min(indentation(line));
        is_next = false;
    }
    false
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The keys in a line whose values may be secrets, in their order. `=`, as other formats have it, counts too.
fn entries(line: &str) -> Vec<Entry<'_>> {
    let entry = |(colon, _): (usize, &str)| {
        let value_of = value_of(key_before(&line[..colon]))?;
        let rest = &line[colon + 1..];
        let start = line.len() - rest.trim_start().len();
        let value = first_value(&line[start..]);
        Some(Entry {
            value_of,
            start,
            value,
        })
    };
    line.match_indices([':', '=']).filter_map(entry).collect()
}

fn key_before(text: &str) -> &str {
    let text = text.trim_end().trim_end_matches(['"', '\'']);
    let is_in_key = |character: char| character.is_alphanumeric() || "_-. ".contains(character);
    let start = text.trim_end_matches(is_in_key).len();
    &text[start..]
}

fn value_of(key: &str) -> Option<Value> {
    let is_separator = |character: char| !character.is_alphanumeric();
    let key = key.to_lowercase().replace(is_separator, "");
    let ends_in = |key: &str, ends: &[&str]| ends.iter().any(|end| key.ends_with(end));
    let without_file = key
        .strip_suffix("file")
        .or_else(|| key.strip_suffix("path"));
    match without_file {
        Some(rest) if ends_in(rest, &SECRETS) || ends_in(rest, &FILES) => Some(Value::FileOfSecret),
        None if ends_in(&key, &SECRETS) => Some(Value::Secret),
        None if ends_in(&key, &FILES) => Some(Value::FileOfSecret),
        _ => None,
    }
}

/// The value that `text` begins with. One that stands in the lines below is empty.
fn first_value(text: &str) -> &str {
    if let Some(quote) = text.chars().next().filter(|it| matches!(it, '"' | '\'')) {
        let inner = &text[1..];
        return inner.split(quote).next().unwrap_or(inner);
    }
    let end = text.find([',', '}', ']']).unwrap_or(text.len());
    let value = text[..end].split(" #").next().unwrap_or_default().trim();
    match value.trim_end_matches(|it: char| it.is_ascii_digit() || "+-".contains(it)) {
        "|" | ">" | "#" => "",
        _ => value,
    }
}

fn unquoted(text: &str) -> &str {
    text.trim_matches(['"', '\''])
}

/// Refuses secrets that stand in place of a file's name, where what reads the file would put the name into its message.
/// Blocks on the file system.
pub(super) fn refuse_secrets_as_names(settings: &Settings, base: &Path) -> Result<(), Fault> {
    let mut names: Vec<(&PathBuf, Vec<PathStep>)> = Vec::new();
    if settings.tls.acme.is_none() {
        names.push((&settings.tls.private_key, steps!["tls", "private_key"]));
    }
    for (index, entry) in settings.tls.more.iter().enumerate() {
        if let MoreCertificates::Pair { private_key, .. } = entry {
            names.push((private_key, steps!["tls", "more", index, "private_key"]));
        }
    }
    for (index, site) in settings.sites.iter().enumerate() {
        let asked = site.policy.client_certificate.as_ref();
        if let Some(credentials) = asked.and_then(|it| it.credentials.as_ref()) {
            let at = steps!["sites", index, "client_certificate", "credentials"];
            names.push((credentials, at));
        }
        names.extend(keys_of(&site.backends, steps!["sites", index]));
        for (number, group) in site.groups.iter().enumerate() {
            let at = steps!["sites", index, "groups", number];
            names.extend(keys_of(&group.backends, at));
        }
    }
    let misplaced = names
        .into_iter()
        .find(|(name, _)| !is_file_or_looks_like(name, base));
    let Some((_, at)) = misplaced else {
        return Ok(());
    };
    Err(Fault::new(
        Location::Value(at),
        "there is no such file; what stands here is not shown, since it may be a secret",
        "write the name of a file here, not its contents; relative names count from the configuration's directory",
    ))
}

fn keys_of(backends: &[Backend], at: Vec<PathStep>) -> Vec<(&PathBuf, Vec<PathStep>)> {
    let key = |(index, backend)| {
        let Backend { tls, .. }: &Backend = backend;
        let pair = tls.as_ref()?.client_certificate.as_ref()?;
        let below = steps![
            "backends",
            index,
            "tls",
            "client_certificate",
            "private_key"
        ];
        Some((&pair.private_key, [at.clone(), below].concat()))
    };
    backends.iter().enumerate().filter_map(key).collect()
}

fn is_file_or_looks_like(name: &Path, base: &Path) -> bool {
    let written = name.strip_prefix(base).unwrap_or(name);
    written.to_str().is_some_and(looks_like_file_name) || fs::metadata(name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of the last line.
    fn shown(text: &str) -> &str {
        let lines: Vec<&str> = text.split('\n').collect();
        let last = lines.len() - 1;
        match hidden_part(&lines, last) {
            Some(hidden) => &lines[last][..hidden.start],
            None => lines[last],
        }
    }

    #[test]
    fn file_names_are_known_by_how_they_begin_or_end() {
        for name in [
            "/etc/portcullis/probe.pw",
            "/run/secrets/token",
            "./token",
            "../tls/key",
            "probe.pw",
            "tls/tls.key",
            "eab.hmac",
        ] {
            assert!(looks_like_file_name(name), "{name}");
        }
        for other in [
            "hunter2",
            "",
            "correct horse",
            "S3cret/Word",
            "a.b!c",
            "hunter2.",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
            "/x9+c2VjcmV0/Zm9v",
            "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n",
        ] {
            assert!(!looks_like_file_name(other), "{other}");
        }
    }

    #[test]
    fn the_value_of_a_key_that_takes_a_secret_or_its_file_is_hidden_unless_it_is_a_file_name() {
        for (line, left) in [
            ("  password: hunter2", "  password: "),
            ("  password: probe.pw", "  password: "),
            ("pass: hunter2", "pass: "),
            ("login_pwd: hunter2", "login_pwd: "),
            ("DB-Passwd : hunter2", "DB-Passwd : "),
            ("password=hunter2", "password="),
            ("password-file: hunter2", "password-file: "),
            ("passwordfile: hunter2", "passwordfile: "),
            ("a: {user: b, key: hunter2}", "a: {user: b, key: "),
            ("token_file: \"hunter2\" # x", "token_file: "),
            ("credentials: {alice: hunter2}", "credentials: "),
            ("private_key: MIGHAgEAMBMG", "private_key: "),
            ("ca: \"-----BEGIN CERT", "ca: \""),
            ("  password_file: probe.pw", "  password_file: probe.pw"),
            ("token_file: '/run/a/b' # x", "token_file: '/run/a/b' # x"),
            (
                "{private_key: a.key, token: x}",
                "{private_key: a.key, token: ",
            ),
            ("passive: {ports: 1}", "passive: {ports: 1}"),
            ("key_id: hunter2", "key_id: hunter2"),
            ("users_file: alice", "users_file: alice"),
            ("private_key: |", "private_key: |"),
        ] {
            assert_eq!(shown(line), left);
        }
    }

    #[test]
    fn so_is_a_value_that_stands_below_its_key() {
        for text in [
            "a:\n  password_file:\n    hunter2",
            "a:\n  password: |\n    x\n    hunter2",
            "a: {user: b, password_file:\nhunter2}",
            "credentials:\n  users:\n    alice: hunter2",
            "private_key: |\n-----BEGIN PRIVATE KEY-----\nhunter2",
            "token: \"a\n  hunter2\"",
        ] {
            assert!(!shown(text).contains("hunter2"), "{text}");
        }
        for text in [
            "a:\n  password_file: probe.pw\n  b: c",
            "token: a\nb: c",
            "-----BEGIN X-----\n-----END X-----\nb: c",
            "password_file:\n  b.pw",
        ] {
            assert_eq!(Some(shown(text)), text.lines().last());
        }
    }
}
