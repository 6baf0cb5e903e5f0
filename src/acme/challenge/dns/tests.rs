//! The program of a test is a script: what it is given, and how it ends.

use std::fs::{self, Permissions};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use tempfile::TempDir;

use super::*;

fn program(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hook");
    fs::write(
        &file,
        format!("#!/bin/sh\ncd '{}'\n{text}\n", directory.path().display()),
    )
    .unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o700)).unwrap();
    (directory, file)
}

fn records(program: &Path, names: &[&str]) -> Records {
    let records = names.iter().map(|name| TxtRecord {
        name: format!("_acme-challenge.{name}"),
        value: "value of it".to_owned(),
    });
    Records {
        program: program.to_owned(),
        records: records.collect(),
        made: 0,
        removed: 0,
    }
}

fn said(directory: &TempDir) -> String {
    fs::read_to_string(directory.path().join("said")).unwrap_or_default()
}

#[tokio::test]
async fn the_program_makes_each_record_and_removes_it() {
    let (directory, file) =
        program("echo \"$PORTCULLIS_ACTION $PORTCULLIS_NAME $PORTCULLIS_VALUE\" >>said");
    let mut records = records(&file, &["a.test", "b.test"]);
    records.make().await.unwrap();
    records.remove().await;
    assert_eq!(
        said(&directory),
        "present _acme-challenge.a.test value of it\n\
         present _acme-challenge.b.test value of it\n\
         remove _acme-challenge.a.test value of it\n\
         remove _acme-challenge.b.test value of it\n"
    );
}

#[tokio::test]
async fn the_program_gets_nothing_of_our_environment_but_the_path() {
    let (directory, file) = program("env | sed 's/=.*//' | sort >said");
    records(&file, &["a.test"]).make().await.unwrap();
    let said = said(&directory);
    let names: Vec<&str> = said
        .lines()
        // The shell's own.
        .filter(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name))
        .collect();
    let expected = [
        "PATH",
        "PORTCULLIS_ACTION",
        "PORTCULLIS_NAME",
        "PORTCULLIS_VALUE",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn what_fails_half_way_is_removed_and_what_was_never_tried_is_not() {
    let (directory, file) = program(
        "echo $PORTCULLIS_ACTION $PORTCULLIS_NAME >>said; [ $PORTCULLIS_NAME != _acme-challenge.b.test ]",
    );
    let mut records = records(&file, &["a.test", "b.test", "c.test"]);
    let error = records.make().await.unwrap_err();
    assert!(
        error.to_string().contains("failed with exit status: 1"),
        "{error}"
    );
    records.remove().await;
    let removed: Vec<String> = said(&directory)
        .lines()
        .filter_map(|line| Some(line.strip_prefix("remove _acme-challenge.")?.to_owned()))
        .collect();
    assert_eq!(removed, ["a.test", "b.test"]);
}

#[tokio::test]
async fn what_can_not_be_removed_is_told_and_the_rest_is_removed() {
    let (_directory, file) = program(
        "[ $PORTCULLIS_ACTION = present ] || [ $PORTCULLIS_NAME != _acme-challenge.a.test ]",
    );
    let mut records = records(&file, &["a.test", "b.test"]);
    let first = records.all()[0].clone();
    records.make().await.unwrap();
    assert_eq!(records.remove().await, [first]);
}

#[tokio::test]
async fn what_earlier_orders_have_left_is_kept_until_its_removal_succeeds() {
    let (directory, file) = program("echo $PORTCULLIS_NAME >>said; [ ! -e $PORTCULLIS_NAME ]");
    let all = records(&file, &["a.test", "b.test", "c.test"]);
    let [a, b, c] = all.all() else {
        panic!("three records")
    };
    let failing = directory.path().join(&b.name);
    fs::write(&failing, "").unwrap();
    let left = remove_left(&file, all.all().to_vec()).await;
    assert_eq!(left, [c.clone(), b.clone()]);
    // One that fails always doesn't keep the others.
    let left = remove_left(&file, left).await;
    assert_eq!(left, std::slice::from_ref(b));
    fs::remove_file(&failing).unwrap();
    assert_eq!(remove_left(&file, left).await, []);
    let tried = [a, b, c, b, b].map(|record| format!("{}\n", record.name));
    assert_eq!(said(&directory), tried.concat());
}

#[tokio::test]
async fn a_record_whose_removal_is_cut_short_is_said_to_be_left() {
    let (directory, file) = program(
        "what=$PORTCULLIS_ACTION$PORTCULLIS_NAME; echo $what >>said\n\
         [ $what != remove_acme-challenge.b.test ] || exec sleep 600",
    );
    let mut records = records(&file, &["a.test", "b.test", "c.test"]);
    records.make().await.unwrap();
    let log = directory.path().join("log");
    let subscriber = tracing_subscriber::fmt()
        .with_writer(Mutex::new(fs::File::create(&log).unwrap()))
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let hanging = async {
        while !said(&directory).contains("remove_acme-challenge.b.test") {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = records.remove() => panic!("it hangs"),
        () = hanging => {}
    }
    let log = fs::read_to_string(&log).unwrap();
    let is_left = |name: &str| log.contains(&format!("_acme-challenge.{name}"));
    assert_eq!(
        ["a.test", "b.test", "c.test"].map(is_left),
        [false, true, true]
    );
    assert_eq!(log.matches("may be left").count(), 2, "{log}");
}

/// A process by its id, unless it is a zombie.
fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

#[tokio::test(start_paused = true)]
async fn a_program_that_hangs_is_killed_with_all_that_it_has_started() {
    let (directory, file) = program("sleep 600 & echo $! >said; sync; mkfifo gate; read _ <gate");
    let mut records = records(&file, &["a.test"]);
    let error = records.make().await.unwrap_err();
    assert!(
        error.to_string().contains("not done after 2 minutes"),
        "{error}"
    );
    let began = Instant::now();
    let started = said(&directory);
    // Where the clock stands still the shell may not have come that far.
    while !started.is_empty() && runs(&started) {
        assert!(began.elapsed().as_secs() < 20, "it still runs");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_program_that_leaves_something_running_is_done_all_the_same() {
    let (directory, file) = program("sleep 600 & echo $! >said");
    let began = Instant::now();
    records(&file, &["a.test"]).make().await.unwrap();
    assert!(began.elapsed() < TIMEOUT);
    let left = said(&directory);
    while runs(&left) {
        assert!(began.elapsed() < TIMEOUT, "it still runs");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_program_that_never_stops_talking_is_heard_in_part() {
    // Read all the while, or it would stand still.
    let (_directory, file) =
        program("i=0; while [ $i -lt 20000 ]; do echo 'some words' >&2; i=$((i+1)); done");
    records(&file, &["a.test"]).make().await.unwrap();
}

#[tokio::test]
async fn what_can_not_be_run_is_said() {
    let (directory, file) = program("");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    assert!(
        check_program(&file)
            .unwrap_err()
            .to_string()
            .contains("no file that may be executed")
    );
    assert!(check_program(directory.path()).is_err());
    let missing = directory.path().join("missing");
    assert!(
        check_program(&missing)
            .unwrap_err()
            .to_string()
            .contains("can't be run")
    );
    assert!(records(&missing, &["a.test"]).make().await.is_err());
    fs::set_permissions(&file, Permissions::from_mode(0o700)).unwrap();
    check_program(&file).unwrap();
}
