//! The files: opened anew when they were renamed, replaced by a reload, full, or not to be opened.

use std::fs;
use std::path::Path;

use testkit::config::Site;
use testkit::front::Front;
use testkit::poll::poll;
use testkit::proxy::{LogLine, Signal};
use testkit::script::Script;
use testkit::scripted::Backend;

use super::{Logs, end, wait_for_lines};
use crate::program::command;
use crate::stage::Stage;

#[test]
fn a_renamed_log_is_opened_anew_with_a_signal_and_without() {
    let logs = Logs::new();
    let stage = Stage::with(Script::new(), |config| logs.configured(config));
    let mut session = stage.session();
    let (json, w3c) = (logs.file("json"), logs.file("w3c"));
    let rename = |to: &str| {
        for file in [&json, &w3c] {
            fs::rename(file, file.with_extension(to)).expect("it is there");
        }
    };
    session.upload("one", b"1");
    wait_for_lines(&json, 1);
    wait_for_lines(&w3c, 5);

    rename("1");
    stage.proxy.signal(Signal::Reopen);
    stage
        .proxy
        .wait_for_log(|line| line.message() == "reopening the transfer logs");
    wait_until_there(&json);
    session.upload("two", b"2");
    assert!(wait_for_lines(&json, 1)[0].contains("\"two\""));
    assert!(wait_for_lines(&w3c, 5)[0].starts_with("#Software: "));

    rename("2");
    wait_until_there(&json);
    wait_until_there(&w3c);
    session.upload("three", b"3");
    assert!(wait_for_lines(&json, 1)[0].contains("\"three\""));
    assert!(wait_for_lines(&w3c, 5)[0].starts_with("#Software: "));

    end(stage.proxy);
    for name in ["json.1", "json.2", "json"] {
        assert_eq!(logs.lines(name).len(), 1, "{name}");
    }
}

/// Looks for a file until it is there.
fn wait_until_there(file: &Path) {
    let missing = || format!("{} isn't made", file.display());
    poll(|| file.exists().then_some(()).ok_or_else(missing));
}

#[test]
fn a_reload_replaces_the_logs_also_for_sessions_that_run() {
    let logs = Logs::new();
    let stage = Stage::with(Script::new(), |config| {
        config.set("transfer_logs", &logs.json())
    });
    let mut session = stage.session();
    session.upload("one", b"1");
    wait_for_lines(&logs.file("json"), 1);

    let yaml = fs::read_to_string(stage.proxy.config_file()).expect("it is there");
    let other = logs.file("other");
    let former = format!("{}", logs.file("json").display());
    stage
        .proxy
        .reload(&yaml.replace(&former, &other.display().to_string()));
    session.upload("two", b"2");
    assert!(wait_for_lines(&other, 1)[0].contains("\"two\""));
    let series = |file: &Path| {
        let name = format!(
            "portcullis_log_lines_dropped_total{{log=\"{}\"}}",
            file.display()
        );
        stage.proxy.metrics().get(&name).copied()
    };
    assert_eq!(series(&logs.file("json")), None);
    assert_eq!(series(&other), Some(0.0));

    // Without a log, and with one that can't be opened.
    let missing = logs.file("missing/json").display().to_string();
    stage.proxy.rewrite_config(&yaml.replace(&former, &missing));
    stage.proxy.signal(Signal::Reload);
    let refused = stage
        .proxy
        .wait_for_log(|line| line.message().starts_with("reload refused"));
    let error = refused.field("error").expect("the reason");
    assert!(
        error.contains(&missing) && error.contains("make its directory"),
        "{error}"
    );
    session.upload("three", b"3");
    assert_eq!(wait_for_lines(&other, 2).len(), 2);
    end(stage.proxy);
    assert_eq!(logs.lines("json").len(), 1);
}

#[test]
fn a_full_disk_loses_lines_with_a_count_and_stops_no_transfer() {
    let logs = "[{file: /dev/full, format: w3c}]";
    let stage = Stage::with(Script::new(), |config| config.set("transfer_logs", logs));
    let mut session = stage.session();
    for _ in 0..3 {
        session.upload("file", b"content");
    }
    let lost = "portcullis_log_lines_dropped_total{log=\"/dev/full\"}";
    stage.proxy.wait_for_metric(lost, |lines| lines == 3.0);
    session.upload("file", b"content");
    let lines = end(stage.proxy);
    let said = |line: &&LogLine| line.message().starts_with("transfer log can't be written");
    assert_eq!(lines.iter().filter(said).count(), 1);
}

#[test]
fn a_log_that_cannot_be_opened_is_told_at_the_start() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let site = Site::default("only", backend.address());
    let config = front
        .config()
        .set(
            "transfer_logs",
            "[{file: missing/xferlog, format: xferlog}]",
        )
        .site(&site);
    let file = directory.path().join("portcullis.yaml");
    fs::write(&file, config.to_yaml()).expect("the test's directory is writable");
    let run = command()
        .args(["run", "--config"])
        .arg(&file)
        .output()
        .expect("cargo built it");
    assert_eq!(run.status.code(), Some(1));
    let said = String::from_utf8_lossy(&run.stderr);
    let expected = format!(
        "the transfer log {} can't be opened: No such file or directory",
        directory.path().join("missing/xferlog").display()
    );
    assert!(said.contains(&expected), "{said}");
}
