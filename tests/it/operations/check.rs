//! `portcullis check`, for programs.

use std::path::Path;
use std::process::Output;

use serde_yaml::Value;
use testkit::certs::{Authority, Pair, Validity};
use testkit::config::{Config, Site};

use crate::program;

fn check(directory: &Path, yaml: &str, arguments: &[&str]) -> Output {
    let file = directory.join("portcullis.yaml");
    std::fs::write(&file, yaml).expect("it is writable");
    program::command()
        .args(["check", "--config"])
        .arg(file)
        .args(arguments)
        .output()
        .expect("cargo built it")
}

/// Severity and code of each finding, and the whole.
fn findings(output: &Output) -> (Vec<(String, String)>, Value) {
    // JSON is YAML, too.
    let said: Value = serde_yaml::from_slice(&output.stdout).expect("JSON");
    let findings = said["findings"].as_sequence().expect("a list").iter();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let findings = findings.map(|it| (text(&it["severity"]), text(&it["code"])));
    (findings.collect(), said.clone())
}

fn finding(severity: &str, code: &str) -> (String, String) {
    (severity.to_owned(), code.to_owned())
}

/// A configuration with a certificate that has a chain, and one with that and a site at the port of implicit TLS.
fn configurations(directory: &Path) -> [String; 2] {
    let pair = Pair::self_signed(&["proxy.test"], Validity::Now).write(directory);
    let good = Config::new(&pair).site(&Site::default("only", "127.0.0.1:21"));
    let doubtful = Config::new(&pair).site(&Site::default("only", "127.0.0.1:990"));
    [good.to_yaml(), doubtful.to_yaml()]
}

#[test]
fn a_warning_has_a_code_and_fails_where_warnings_are_denied() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let [good, doubtful] = configurations(directory.path());
    for (yaml, result, codes, plain, denied) in [
        (good, "good", Vec::new(), 0, 0),
        (
            doubtful,
            "warning",
            vec![finding("warning", "clear_text_at_implicit_port")],
            0,
            1,
        ),
    ] {
        let output = check(directory.path(), &yaml, &["--format", "json"]);
        assert_eq!(output.status.code(), Some(plain));
        let (found, said) = findings(&output);
        assert_eq!(found, codes);
        assert_eq!(said["result"], Value::from(result));
        assert_eq!(said["version"], Value::from(1));
        let output = check(directory.path(), &yaml, &["--deny-warnings"]);
        assert_eq!(output.status.code(), Some(denied));
    }
}

#[test]
fn a_servers_certificate_in_place_of_its_authority_is_noted_and_the_authority_is_not() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let authority = Authority::new("authority of the backends");
    let leaf = authority.issue(&["be1.test"]);
    let leaf = leaf.write_as(directory.path(), "be1").certificate;
    let pair = Pair::self_signed(&["proxy.test"], Validity::Now).write(directory.path());
    let noted = |ca: &Path| {
        let verify = format!("{{ca: {}}}", ca.display());
        let site = Site::default("only", "127.0.0.1:21")
            .backend("tls", "explicit")
            .backend("verify", &verify);
        let config = Config::new(&pair).site(&site).to_yaml();
        let (findings, _) = findings(&check(directory.path(), &config, &["--format", "json"]));
        findings.contains(&finding("warning", "backend_authority_not_ca"))
    };
    let ca = directory.path().join("ca.crt");
    // Only the first certificate of the file, without the chain to its authority.
    let chain = std::fs::read_to_string(&leaf).expect("PEM");
    let end = "-----END CERTIFICATE-----\n";
    let (first, _) = chain.split_once(end).expect("a certificate");
    std::fs::write(&ca, format!("{first}{end}")).expect("it is writable");
    assert!(noted(&ca));
    std::fs::write(&ca, authority.pem()).expect("it is writable");
    assert!(!noted(&ca));
}

#[test]
fn a_hint_is_no_warning() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let pair = Authority::new("CA").issue(&["proxy.test"]);
    let config = Config::new(&pair.write(directory.path()));
    let yaml = config
        .site(&Site::default("only", "127.0.0.1:21"))
        .to_yaml();
    let output = check(
        directory.path(),
        &yaml,
        &["--format", "json", "--deny-warnings"],
    );
    assert_eq!(output.status.code(), Some(0));
    let (found, _) = findings(&output);
    assert_eq!(found, [finding("hint", "certificate_leaf_alone")]);
}

#[test]
fn each_problem_has_a_code() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let [good, _] = configurations(directory.path());
    let group =
        "    groups: [{name: moved, users_file: moved.txt, backends: [{address: 10.0.0.1}]}]";
    let yaml = good
        .replace("  - name: only\n", &format!("  - name: only\n{group}\n"))
        .replace("proxy.key", "missing.key");
    let logs = "transfer_logs: [{file: missing/json, format: json}, {file: log, format: w3c}]";
    let yaml = format!("{yaml}{logs}\n");
    std::fs::write(directory.path().join("moved.txt"), "half").expect("it is writable");
    let output = check(directory.path(), &yaml, &["--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let (found, said) = findings(&output);
    for code in ["users_file", "transfer_log"] {
        let problem = finding("problem", code);
        let count = found.iter().filter(|it| **it == problem).count();
        assert_eq!(count, 1, "{code}: {found:?}");
    }
    let checked = std::fs::exists(directory.path().join("log"));
    assert!(!checked.expect("it is readable"), "a check makes no file");
    assert_eq!(said["result"], Value::from("problem"));
}

#[test]
fn a_configuration_that_can_not_be_used_is_told_with_its_place_and_remedy() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let [good, _] = configurations(directory.path());
    let yaml = format!("{good}colour: red\n");
    let output = check(directory.path(), &yaml, &["--format", "json"]);
    assert_eq!(output.status.code(), Some(2));
    let (found, said) = findings(&output);
    assert_eq!(found, [finding("problem", "configuration")]);
    let told = &said["findings"][0];
    assert_eq!(told["message"], Value::from("unknown key `colour`"));
    let line = u64::try_from(yaml.lines().count()).expect("a small number");
    assert_eq!(told["line"], Value::from(line));
    assert_eq!(told["column"], Value::from(1));
    assert!(
        told["help"]
            .as_str()
            .is_some_and(|help| help.starts_with("known here: "))
    );
    assert_eq!(said["result"], Value::from("unusable"));
}

#[test]
fn what_would_keep_orders_from_succeeding_is_found_and_nothing_is_ordered() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let place = directory.path();
    let yaml = |state: &str, challenge: &str, ca: &str| {
        let acme = format!(
            "{{directory_url: \"https://127.0.0.1:1/dir\", state: {state}, names: [a.test], challenge: {challenge}{ca}}}"
        );
        let site = Site::default("only", "127.0.0.1:21");
        Config::without_certificate()
            .tls("acme", &acme)
            .site(&site)
            .to_yaml()
    };
    let authority = Authority::new("authority").write(place);
    let ca = format!(", ca: {authority:?}");
    std::fs::write(place.join("file"), "#!/bin/sh\n").expect("it is writable");
    let http = "{http: \"127.0.0.1:5002\"}";
    let not_yet = finding("hint", "certificate_not_ordered");
    let acme = || finding("problem", "acme");
    for (yaml, result, codes) in [
        (yaml("acme", http, &ca), "good", vec![not_yet.clone()]),
        (
            yaml("file/acme", http, &ca),
            "problem",
            vec![not_yet.clone(), acme()],
        ),
        (
            yaml("acme", "{dns: file}", &ca),
            "problem",
            vec![not_yet.clone(), acme()],
        ),
        (
            yaml("acme", http, ", ca: missing.pem"),
            "problem",
            vec![not_yet, acme()],
        ),
    ] {
        let output = check(place, &yaml, &["--format", "json"]);
        let (found, said) = findings(&output);
        assert_eq!(said["result"].as_str(), Some(result), "{said:?}");
        assert_eq!(found, codes, "{said:?}");
    }
    assert!(!place.join("acme").exists());
}
