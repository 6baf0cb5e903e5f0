//! The configuration files that are shipped, and those that must be refused.
//!
//! `tests/config/bad` holds a file for each way to be wrong, and beside it the whole message that it gets. A new one is
//! begun with the YAML file and an empty `.txt`; the failure shows the message to judge and to put there.

use portcullis::config::{self, Settings};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_yaml::{Mapping, Value};
use std::fs;
use std::path::{Path, PathBuf};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn files(name: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory(name)).expect("the directory is there");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}

fn reference_text() -> String {
    fs::read_to_string(directory("config/portcullis.yaml")).expect("the reference is there")
}

fn reference() -> Mapping {
    serde_yaml::from_str(&reference_text()).expect("the reference is YAML")
}

fn parse(mapping: &Mapping) -> Result<Settings, config::Error> {
    let text = serde_yaml::to_string(mapping).expect("a map can be written");
    config::parse(&text, Path::new("portcullis.yaml"))
}

#[test]
fn every_shipped_file_is_good() {
    let shipped = files("config", "yaml");
    assert!(shipped.len() >= 4);
    for path in shipped {
        if let Err(error) = config::load(&path) {
            panic!("{error}");
        }
    }
}

/// The keys that the reference shows with their default, by path; an index leads into a list.
const WITH_DEFAULT: &[&str] = &[
    "tls/required",
    "tls/session_reuse",
    "tls/close_notify",
    "tls/min_version",
    "tls/data_required",
    "passive/ports",
    "passive/address",
    "passive",
    "user_forms/user_at_host",
    "user_forms/host_backslash_user",
    "user_forms",
    "sites/0/balance",
    "sites/0/queue",
    "sites/0/backends/0/tls",
    "sites/0/backends/0/weight",
    "sites/0/backends/0/drain",
    "sites/0/backends/0/backup",
    "sites/0/user",
    "sites/0/passive_mode",
    "sites/1/backends/0/max_version",
    "sites/1/backends/0/proxy_protocol/data",
    "sites/1/unknown_users",
    "sites/1/health/interval",
    "sites/1/health/fall",
    "sites/1/health/rise",
    "active_mode",
    "limits/sessions",
    "limits/sessions_per_site",
    "limits/sessions_per_client",
    "limits/sessions_per_client_per_minute",
    "limits/allow",
    "limits",
    "guard/failures",
    "guard/window",
    "guard/delay",
    "guard/max_delay",
    "guard/block",
    "guard/allow",
    "guard",
    "timeouts/tls_handshake",
    "timeouts/login",
    "timeouts/idle",
    "timeouts/data_connect",
    "timeouts/data_idle",
    "timeouts/final_reply",
    "timeouts/drain",
    "timeouts/lame_duck",
    "timeouts/backend_connect",
    "timeouts/backend_reply",
    "timeouts",
    "transfer_logs",
    "admin/address",
    "admin",
];

fn remove(value: &mut Value, path: &str) {
    let (step, rest) = path.split_once('/').unwrap_or((path, ""));
    match value {
        Value::Mapping(map) if rest.is_empty() => {
            assert!(map.remove(step).is_some(), "the reference shows {step}");
        }
        Value::Mapping(map) => remove(map.get_mut(step).expect("the section is there"), rest),
        Value::Sequence(list) => remove(&mut list[step.parse::<usize>().expect("an index")], rest),
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn what_the_reference_shows_as_default_is_the_default() {
    let whole = parse(&reference()).expect("the reference is good");
    for path in WITH_DEFAULT {
        let mut shortened = Value::Mapping(reference());
        remove(&mut shortened, path);
        let Value::Mapping(shortened) = shortened else {
            unreachable!("it was a map")
        };
        assert_eq!(
            parse(&shortened).expect("still good"),
            whole,
            "without {path}"
        );
    }
}

/// The keys known in the map where `nonsense` was put, from the message that refuses it.
fn known_keys(error: &str) -> Vec<String> {
    let (_, list) = error
        .rsplit_once("nown here: ")
        .unwrap_or_else(|| panic!("{error}"));
    list.split(", ").map(|key| key.trim().to_owned()).collect()
}

#[test]
fn the_reference_shows_every_key() {
    let text = reference_text();
    let mut good: Vec<&str> = vec![""];
    good.extend([
        "tls",
        "passive",
        "user_forms",
        "limits",
        "guard",
        "timeouts",
        "admin",
        "listeners/0",
        "sites/0",
    ]);
    good.extend([
        "sites/1/backends/0",
        "sites/1/backends/0/verify",
        "sites/1/health",
    ]);
    for path in good {
        let mut value = Value::Mapping(reference());
        let mut place = &mut value;
        for step in path.split('/').filter(|step| !step.is_empty()) {
            place = match place {
                Value::Mapping(map) => map.get_mut(step).expect("the section is there"),
                Value::Sequence(list) => &mut list[step.parse::<usize>().expect("an index")],
                other => panic!("{path}: {other:?}"),
            };
        }
        place
            .as_mapping_mut()
            .expect("a map")
            .insert("qqqqqqqqqqqq".into(), true.into());
        let Value::Mapping(value) = value else {
            unreachable!("it was a map")
        };
        let error = parse(&value).expect_err("an unknown key").to_string();
        for key in known_keys(&error) {
            assert!(
                text.contains(&format!("{key}:")),
                "{path}: the reference doesn't show `{key}`"
            );
        }
    }
}

#[test]
fn every_bad_file_gets_its_message() {
    let bad = files("tests/config/bad", "yaml");
    assert!(bad.len() >= 25, "{} files", bad.len());
    let mut wrong = String::new();
    for path in bad {
        let text = fs::read_to_string(&path).expect("the file is there");
        let expected = fs::read_to_string(path.with_extension("txt")).unwrap_or_default();
        let name = Path::new(path.file_name().expect("a file has a name"));
        let message = match config::parse(&text, name) {
            Ok(_) => "no error".to_owned(),
            Err(error) => error.to_string(),
        };
        if message != expected.trim_end() {
            wrong.push_str(&format!(
                "\n--- {} got\n{message}\n--- instead of\n{expected}",
                path.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn files_that_are_no_configuration_are_refused_unread() {
    let scratch = tempfile::tempdir().expect("a directory");
    let path = scratch.path().join("portcullis.yaml");
    let message = |path: &Path| {
        let message = config::load(path)
            .expect_err("no configuration")
            .to_string();
        let (file, message) = message.split_at(path.display().to_string().len());
        assert_eq!(Path::new(file), path);
        message.to_owned()
    };
    assert_eq!(
        message(scratch.path()),
        ": the configuration isn't a regular file"
    );
    assert!(message(&path).starts_with(": the configuration can't be read: No such file"));
    fs::write(&path, vec![b'#'; 1024 * 1024 + 1]).expect("written");
    assert_eq!(message(&path), ": the configuration is longer than 1 MiB");
    fs::write(&path, b"listeners:\n  - \xff").expect("written");
    assert_eq!(
        message(&path),
        ":2:5: a byte that isn't UTF-8\n = save the file as UTF-8"
    );
}

#[test]
fn a_probes_password_is_read_with_the_configuration_or_told_where_it_is_named() {
    let scratch = tempfile::tempdir().expect("a directory");
    let path = scratch.path().join("portcullis.yaml");
    let text = "
listeners: [{address: 127.0.0.1:0, tls: explicit}]
tls: {certificate: tls.crt, private_key: tls.key}
sites:
  - name: a
    default: true
    backends: [{address: a.lab}]
    health:
      level: login
      login: {user: probe, password_file: probe.pw}
";
    fs::write(&path, text).expect("written");
    let load = |content: Option<&[u8]>| {
        if let Some(content) = content {
            fs::write(scratch.path().join("probe.pw"), content).expect("written");
        }
        config::load(&path).map_err(|error| error.to_string())
    };
    let directory = scratch.path().display();
    for (content, wrong) in [
        (None, "the password can't be read: No such file"),
        (Some(&b"\n"[..]), "the password is empty"),
        (Some(b""), "the password is empty"),
        (Some(b"a\nQUIT\n"), "the password is more than one line"),
        (Some(b"a\n\n"), "the password is more than one line"),
        (Some(&[b'a'; 1025]), "the password is longer than 1 KiB"),
    ] {
        let message = load(content).expect_err(wrong);
        let expected =
            format!("{directory}/portcullis.yaml:10:43: `{directory}/probe.pw`: {wrong}");
        assert!(message.starts_with(&expected), "{message}");
        assert!(message.contains("= write the name of a file here, not its contents"));
    }
    for content in ["hunter2", "hunter2\n", "hunter2\r\n"] {
        let settings = load(Some(content.as_bytes())).expect("a password");
        let checks = settings.sites[0].checks.as_ref().expect("checks");
        let probe = checks.probe().expect("an account");
        assert_eq!(probe.password.secret.expose(), b"hunter2");
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
    // Nor is it read where no check logs in.
    fs::write(&path, text.replace("login\n", "off\n")).expect("written");
    fs::remove_file(scratch.path().join("probe.pw")).expect("it is there");
    assert_eq!(load(None).expect("no checks").sites[0].checks, None);
}

#[test]
fn a_secret_in_place_of_a_files_name_is_not_repeated() {
    let scratch = tempfile::tempdir().expect("a directory");
    let path = scratch.path().join("portcullis.yaml");
    let key = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n";
    let inline = format!("{{certificate: tls.crt, private_key: {key:?}}}");
    let good = "{certificate: tls.crt, private_key: tls.key}";
    let raw = "{certificate: tls.crt, private_key: hunter2}";
    let asking = "{certificate: tls.crt, private_key: tls.key, client_certificates: {ca: a.pem, ask: optional}}";
    let client_key = "client_certificate: {certificate: a.crt, private_key: hunter2}";
    let backend = format!("{{address: b.lab, tls: explicit, {client_key}}}");
    let login = "health: {level: login, login: {user: probe, password_file: hunter2}}";
    let credentials = "client_certificate: {credentials: hunter2}";
    let account = "{key_id: a, hmac_file: hunter2}";
    let acme = format!(
        "{{acme: {{directory_url: 'https://a.example', state: s, names: [a.example], challenge: {{http: '0.0.0.0:80'}}, \
         external_account: {account}}}}}"
    );
    let text = |tls: &str, site: &str, backend: &str, rest: &str| {
        format!(
            "listeners: [{{address: 127.0.0.1:0, tls: explicit}}]\ntls: {tls}\nsites:\n  - name: a\n    default: true\n    \
             backends: [{backend}]\n    {site}\n{rest}\n"
        )
    };
    let plain = "{address: b.lab}";
    for text in [
        text(good, login, plain, ""),
        text(good, "", plain, "admin: {token_file: hunter2}"),
        text(good, "", plain, "admin:\n  token_file:\n    hunter2"),
        text(&inline, "", plain, ""),
        text(raw, "", plain, ""),
        text(asking, credentials, plain, ""),
        text(good, "", &backend, ""),
        text(&acme, "", plain, ""),
    ] {
        fs::write(&path, &text).expect("written");
        let error = config::load(&path).expect_err(&text);
        let message = error.to_string();
        assert!(!message.contains("hunter2"), "{message}");
        assert!(
            message.contains("= write the name of a file here, not its contents"),
            "{message}"
        );
        let summary = error.summary();
        assert!(!summary.contains("hunter2"), "{summary}");
    }
}

#[test]
fn a_summary_names_no_file_that_the_configuration_names() {
    let scratch = tempfile::tempdir().expect("a directory");
    let path = scratch.path().join("portcullis.yaml");
    let text = "
listeners: [{address: 127.0.0.1:0, tls: explicit}]
tls: {certificate: tls.crt, private_key: tls.key}
admin: {token_file: /nonexistent/admin.token}
sites: [{name: a, default: true, backends: [{address: a.lab}]}]
";
    fs::write(&path, text).expect("written");
    let error = config::load(&path).expect_err("no token");
    assert!(error.to_string().contains("`/nonexistent/admin.token`: "));
    let summary = error.summary();
    assert!(!summary.contains("admin.token"), "{summary}");
}

#[test]
fn a_byte_order_mark_is_taken_off_and_moves_no_position() {
    let scratch = tempfile::tempdir().expect("a directory");
    let path = scratch.path().join("portcullis.yaml");
    let outcome = |text: &[u8]| {
        fs::write(&path, text).expect("written");
        config::load(&path).map_err(|error| error.to_string())
    };
    let good = reference_text();
    let slip = good.replace("  certificate:", "  certifcate:");
    // In the first line, where the mark is.
    let key = format!("qqqq: 1\n{good}");
    let bytes = [b"# \xff\n", good.as_bytes()].concat();
    for text in [
        good.as_bytes(),
        slip.as_bytes(),
        key.as_bytes(),
        &bytes,
        b"",
    ] {
        assert_eq!(
            outcome(&["\u{feff}".as_bytes(), text].concat()),
            outcome(text)
        );
    }
    assert!(outcome(good.as_bytes()).is_ok());
}

#[test]
fn relative_file_names_count_from_the_configurations_directory() {
    let text = "
listeners: [{address: 127.0.0.1:0, tls: explicit}]
tls: {certificate: tls/tls.crt, private_key: /keys/tls.key}
sites:
  - name: a
    default: true
    backends: [{address: a.lab, tls: explicit, verify: {ca: ca.pem}}]
";
    let settings = config::parse(text, Path::new("/etc/portcullis/p.yaml")).expect("good");
    assert_eq!(
        settings.tls.certificate,
        Path::new("/etc/portcullis/tls/tls.crt")
    );
    assert_eq!(settings.tls.private_key, Path::new("/keys/tls.key"));
    let backend = settings.sites[0].backends[0].tls.as_ref().expect("TLS");
    assert_eq!(
        backend.verify,
        config::Verify::Ca("/etc/portcullis/ca.pem".into())
    );
    assert_eq!(
        backend.server_name,
        config::ExpectedName::Is("a.lab".into())
    );
}

proptest! {
    /// A slip anywhere in a good file is either harmless or told with its line.
    #[test]
    fn every_slip_of_the_pen_is_told_with_its_place(at in any::<Index>(), cut in 0_usize..40, typed in "[ -~\n\t]{0,4}") {
        let mut text: Vec<char> = reference_text().chars().collect();
        let start = at.index(text.len());
        let end = text.len().min(start + cut);
        text.splice(start..end, typed.chars());
        let text: String = text.into_iter().collect();
        match config::parse(&text, Path::new("p.yaml")) {
            Ok(_) => {}
            Err(config::Error::Invalid(report)) => {
                let position = report.position();
                prop_assert!(position.is_some_and(|at| at.line <= text.lines().count() + 1), "{report}");
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
