//! The directory as an order leaves it, whatever it ends with.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::config;

/// A pair for these names, PEM, valid for ten years.
fn pair(names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = (SystemTime::now() - Duration::from_secs(3_600)).into();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn settings(names: &str) -> AcmeSettings {
    let text = format!(
        "listeners: [{{address: 127.0.0.1:0, tls: explicit}}]\n\
         tls: {{acme: {{directory_url: \"https://ca.test/dir\", state: acme, names: [{names}], challenge: {{dns: hook}}}}}}\n\
         sites: [{{name: only, default: true, backends: [{{address: 192.0.2.1}}]}}]\n"
    );
    let settings = config::parse(&text, Path::new("portcullis.yaml")).unwrap();
    settings.tls.acme.unwrap()
}

fn opened() -> (TempDir, State) {
    let directory = tempfile::tempdir().unwrap();
    let state = State::open(&directory.path().join("some/acme")).unwrap();
    (directory, state)
}

#[test]
fn what_is_kept_is_for_its_owner_alone() {
    let (_directory, state) = opened();
    let (certificate, key) = pair(&["a.test"]);
    let wanted = Wanted::by(&settings("a.test"));
    let now = SystemTime::now();
    state
        .replace_pair(&certificate, &key, &wanted, now)
        .unwrap();
    state.set_schedule(&StoredSchedule::default()).unwrap();
    let _lock = state.lock().unwrap().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state.directory), 0o700);
    let mut files: Vec<_> = fs::read_dir(&state.directory).unwrap().flatten().collect();
    files.sort_by_key(|file| file.file_name());
    let names: Vec<_> = files.iter().map(|file| file.file_name()).collect();
    assert_eq!(
        names,
        ["default.crt", "default.key", "lock", "schedule.json"]
    );
    for file in files {
        assert_eq!(mode(&file.path()), 0o600, "{file:?}");
    }
}

#[test]
fn only_one_has_the_lock() {
    let (_directory, state) = opened();
    let first = state.lock().unwrap();
    assert!(first.is_some());
    assert!(state.lock().unwrap().is_none());
    drop(first);
    assert!(state.lock().unwrap().is_some());
}

#[test]
fn a_pair_of_an_authority_whose_clock_is_a_little_ahead_is_put_in_place() {
    let (_directory, state) = opened();
    let wanted = Wanted::by(&settings("a.test"));
    let (certificate, key) = pair(&["a.test"]);
    // It has been valid for an hour by our clock.
    let valid_from = SystemTime::now() - Duration::from_secs(3_600);
    let put = |ahead| {
        let now = valid_from - Duration::from_secs(ahead);
        state.replace_pair(&certificate, &key, &wanted, now)
    };
    assert!(put(60).is_ok());
    let error = put(2 * 3_600).unwrap_err().to_string();
    assert!(error.contains("not valid before"), "{error}");
}

#[test]
fn a_pair_is_only_put_in_place_if_it_is_what_is_wanted() {
    let (_directory, state) = opened();
    let wanted = Wanted::by(&settings("a.test, \"*.b.test\""));
    let now = SystemTime::now();
    let (certificate, key) = pair(&["*.b.test", "a.test"]);
    state
        .replace_pair(&certificate, &key, &wanted, now)
        .unwrap();

    let (_, other_key) = pair(&["a.test"]);
    let (foreign, foreign_key) = pair(&["c.test"]);
    let (more, more_key) = pair(&["*.b.test", "a.test", "more.test"]);
    let (addressed, addressed_key) = pair(&["*.b.test", "a.test", "192.0.2.1"]);
    let many: Vec<String> = (0..100).map(|number| format!("{number}.test")).collect();
    let (many, many_key) = pair(&many.iter().map(String::as_str).collect::<Vec<_>>());
    for (certificate, key, why) in [
        (&more, &more_key, "other names: *.b.test a.test more.test"),
        (&addressed, &addressed_key, "a.test 192.0.2.1"),
        (&many, &many_key, "3.test 4.test and 95 more"),
        (&certificate, &other_key, "does not belong to"),
        (&foreign, &foreign_key, "for other names: c.test"),
        (&String::new(), &key, "is empty"),
        (&"no PEM".to_owned(), &key, "holds no certificate"),
    ] {
        let refused = state
            .replace_pair(certificate, key, &wanted, now)
            .unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
    let expired = now + Duration::from_secs(1 << 40);
    assert!(
        state
            .replace_pair(&certificate, &key, &wanted, expired)
            .is_err()
    );
    let kept = fs::read_to_string(state.path(CERTIFICATE)).unwrap();
    assert_eq!(kept, certificate);
    assert_eq!(fs::read_to_string(state.path(PRIVATE_KEY)).unwrap(), key);
}

#[test]
fn a_certificate_for_something_else_is_not_what_is_wanted() {
    let (_directory, state) = opened();
    let (certificate, key) = pair(&["a.test"]);
    let wanted = Wanted::by(&settings("a.test"));
    let now = SystemTime::now();
    state
        .replace_pair(&certificate, &key, &wanted, now)
        .unwrap();
    let mut record = StoredSchedule::default();
    let found = state.certificate(&wanted, &record, now).unwrap();
    assert!((0.0..=1.0).contains(&found.held.spread));

    let is_wanted = |wanted: &Wanted, record: &StoredSchedule| {
        let found = state.certificate(wanted, record, now);
        found.expect("it can be served").is_wanted
    };
    assert!(is_wanted(&wanted, &record));
    let more = Wanted::by(&settings("a.test, b.test"));
    assert!(!is_wanted(&more, &record));
    record.issued_for = Some(wanted.clone());
    assert!(is_wanted(&wanted, &record));
    let mut elsewhere = settings("a.test");
    elsewhere.directory_url = "https://other.test/dir".to_owned();
    let elsewhere = Wanted::by(&elsewhere);
    assert!(!is_wanted(&elsewhere, &record));
}

#[test]
fn the_order_of_the_names_is_nothing_new() {
    let one = Wanted::by(&settings("b.test, a.test"));
    assert_eq!(one, Wanted::by(&settings("a.test, b.test")));
}

#[test]
fn what_ended_between_the_two_files_is_finished() {
    let (_directory, state) = opened();
    let wanted = Wanted::by(&settings("a.test"));
    let now = SystemTime::now();
    let (old, old_key) = pair(&["a.test"]);
    state.replace_pair(&old, &old_key, &wanted, now).unwrap();
    state.recover(now).unwrap();
    let (new, new_key) = pair(&["a.test"]);
    write_synced(&state.path(NEW_CERTIFICATE), new.as_bytes()).unwrap();

    // Before the key was put in place nothing is lost but the order.
    write_synced(&state.path(NEW_PRIVATE_KEY), new_key.as_bytes()).unwrap();
    state.recover(now).unwrap();
    assert_eq!(fs::read_to_string(state.path(CERTIFICATE)).unwrap(), old);
    assert!(!state.path(NEW_CERTIFICATE).exists() && !state.path(NEW_PRIVATE_KEY).exists());

    write_synced(&state.path(NEW_CERTIFICATE), new.as_bytes()).unwrap();
    write_synced(&state.path(PRIVATE_KEY), new_key.as_bytes()).unwrap();
    assert!(
        state
            .certificate(&wanted, &StoredSchedule::default(), now)
            .is_err()
    );
    state.recover(now).unwrap();
    assert!(
        state
            .certificate(&wanted, &StoredSchedule::default(), now)
            .is_ok()
    );
    assert_eq!(fs::read_to_string(state.path(CERTIFICATE)).unwrap(), new);
}

#[test]
fn a_file_of_something_else_is_named_and_not_repeated() {
    let (_directory, state) = opened();
    fs::write(state.path(SCHEDULE), "{\"attempts\": \"hunter2\"}").unwrap();
    let error = state.schedule().unwrap_err().to_string();
    assert!(
        error.contains("schedule.json") && !error.contains("hunter2"),
        "{error}"
    );
    fs::write(state.path(ACCOUNT), vec![b' '; 300 * 1024]).unwrap();
    assert!(state.account().is_err());
}

#[test]
fn a_schedule_that_can_not_be_read_is_set_aside_by_whoever_may_order() {
    let (_directory, state) = opened();
    let wanted = Wanted::by(&settings("a.test"));
    let now = SystemTime::now();
    fs::write(state.path(SCHEDULE), "nonsense").unwrap();
    let lock = state.lock().unwrap();
    assert!(state.schedule_or_new(&wanted, now).is_err());
    drop(lock);
    let record = state.schedule_or_new(&wanted, now).unwrap();
    assert_eq!(record.attempts.failures, 1);
    let aside = fs::read_to_string(state.path(BROKEN_SCHEDULE)).unwrap();
    assert_eq!(aside, "nonsense");
    assert_eq!(state.schedule().unwrap().attempts.failures, 1);
}

#[test]
fn records_that_can_not_be_read_are_set_aside_and_fail_no_order() {
    let (_directory, state) = opened();
    fs::write(state.path(RECORDS), "nonsense").unwrap();
    assert_eq!(state.left_records_or_none().unwrap(), []);
    let aside = fs::read_to_string(state.path(BROKEN_RECORDS)).unwrap();
    assert_eq!(aside, "nonsense");
    assert!(!state.path(RECORDS).exists());
}

#[test]
fn a_refused_pair_does_not_stay_and_none_has_a_name_that_a_directory_would_serve() {
    let (_directory, state) = opened();
    let wanted = Wanted::by(&settings("a.test"));
    let (foreign, key) = pair(&["evil.test"]);
    let refused = state.replace_pair(&foreign, &key, &wanted, SystemTime::now());
    assert!(refused.is_err());
    assert_eq!(fs::read_dir(&state.directory).unwrap().count(), 0);
    for name in [NEW_CERTIFICATE, NEW_PRIVATE_KEY, ROOM] {
        assert!(![".crt", ".pem"].iter().any(|end| name.ends_with(end)));
    }
}

#[test]
fn a_directory_that_can_not_be_written_is_known_before_there_is_anything_to_write() {
    let (_directory, state) = opened();
    state.try_to_write().unwrap();
    assert_eq!(fs::read_dir(&state.directory).unwrap().count(), 0);
    // Also root can't write a file in the place of a directory.
    fs::create_dir(state.path(ROOM)).unwrap();
    let error = state.try_to_write().unwrap_err().to_string();
    assert!(error.contains("room"), "{error}");
}

#[test]
fn how_an_order_ended_is_kept_late_unless_there_was_another_since() {
    let (_directory, state) = opened();
    let now = SystemTime::now();
    let (mut begun, mut ended) = (StoredSchedule::default(), StoredSchedule::default());
    begun.attempts.begin(now);
    ended.attempts.begin(now);
    ended.attempts.failed(now, None, None);
    state.set_schedule(&begun).unwrap();
    let lock = state.lock().unwrap();
    assert!(!state.catch_up(&begun, &ended).unwrap());
    assert!(state.schedule().unwrap().attempts.begun().is_some());
    drop(lock);
    assert!(state.catch_up(&begun, &ended).unwrap());
    assert!(state.schedule().unwrap().attempts.begun().is_none());

    let mut other = begun.clone();
    other.attempts.begin(now);
    state.set_schedule(&other).unwrap();
    assert!(state.catch_up(&begun, &ended).unwrap());
    assert_eq!(state.schedule().unwrap().attempts.failures, 2);
}

#[test]
fn a_schedule_of_a_later_version_is_read() {
    let (_directory, state) = opened();
    fs::write(state.path(SCHEDULE), "{\"some_new_key\": 1}").unwrap();
    assert_eq!(state.schedule().unwrap(), StoredSchedule::default());
}

#[test]
fn a_look_at_the_directory_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    check_directory(&directory.path().join("not/yet")).unwrap();
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(check_directory(&file).is_err());
    assert!(check_directory(&file.join("below")).is_err());
    fs::set_permissions(&directory, Permissions::from_mode(0o500)).unwrap();
    // Root may do anything.
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    assert_eq!(check_directory(directory.path()).is_ok(), is_root);
}

#[test]
fn a_pipe_in_the_locks_place_is_an_error_and_not_waited_for() {
    let (_directory, state) = opened();
    let lock = state.path(LOCK);
    let made = Command::new("mkfifo").arg(&lock).status().unwrap();
    assert!(made.success());
    let error = state.lock().unwrap_err().to_string();
    assert!(
        error.starts_with(&lock.to_string_lossy().into_owned()),
        "{error}"
    );
}
