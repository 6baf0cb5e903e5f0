//! Every way in which files are replaced, and what is no replacement.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::entry::EntryWatch;
use super::*;
use crate::base::file_watch::FileStamp;
use crate::tls::certificate::{Source, TryResult};
use crate::tls::fixtures::{Identity, now};

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// With a pair that is in use and watched.
    fn watched() -> (Self, EntryWatch) {
        let place = Self::new();
        place.write("", &identity());
        let watch = place.watch();
        (place, watch)
    }

    /// The certificate, loaded.
    fn entry(&self) -> ConfiguredCertificate {
        let source = Source::pair(&self.path("tls.crt"), &self.path("tls.key"));
        let entry = ConfiguredCertificate::load(source, None, now());
        assert!(entry.pair().is_some());
        entry
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, under: &str, identity: &Identity) {
        fs::create_dir_all(self.path(under)).unwrap();
        rewrite(&self.path(under).join("tls.crt"), &identity.chain_pem());
        rewrite(&self.path(under).join("tls.key"), &identity.key_pem());
    }

    fn watch(&self) -> EntryWatch {
        let mut watch = EntryWatch::new(self.entry());
        assert_quiet(&mut watch);
        watch
    }
}

fn identity() -> Identity {
    Identity::self_signed(&["ftp.test"])
}

/// Writes in place until it shows: file systems count time in steps of some milliseconds, and a test can be faster
/// than that where polls are seconds apart.
fn rewrite(path: &Path, content: &str) {
    let before = FileStamp::of(path);
    while FileStamp::of(path) == before {
        fs::write(path, content).unwrap();
    }
}

fn poll(watch: &mut EntryWatch) -> Option<TryResult> {
    watch.poll(now())
}

fn assert_quiet(watch: &mut EntryWatch) {
    for _ in 0..3 {
        assert!(poll(watch).is_none());
    }
}

/// The change is seen by the second poll, which returns `expected`, and is reported once.
fn assert_notices(watch: &mut EntryWatch, expected: &Identity) {
    assert!(poll(watch).is_none());
    let pair = poll(watch).expect("a change").expect("a good pair");
    assert_eq!(pair.key.cert, expected.chain);
    assert_quiet(watch);
}

#[test]
fn a_rename_over_the_files_is_noticed_every_time() {
    let (place, mut watch) = Place::watched();
    for _ in 0..3 {
        let new = identity();
        place.write("new", &new);
        for name in ["tls.crt", "tls.key"] {
            fs::rename(place.path("new").join(name), place.path(name)).unwrap();
        }
        assert_notices(&mut watch, &new);
    }
}

#[test]
fn a_rewrite_in_place_with_the_same_length_is_noticed() {
    let place = Place::new();
    let old = identity();
    place.write("", &old);
    let mut watch = place.watch();
    // Signatures differ in length by a byte or two, so not just any certificate will do.
    let new = std::iter::repeat_with(identity)
        .find(|new| {
            new.chain_pem().len() == old.chain_pem().len()
                && new.key_pem().len() == old.key_pem().len()
        })
        .unwrap();
    let times = fs::FileTimes::new().set_modified(
        fs::metadata(place.path("tls.crt"))
            .unwrap()
            .modified()
            .unwrap(),
    );
    place.write("", &new);
    for name in ["tls.crt", "tls.key"] {
        let file = fs::File::options()
            .write(true)
            .open(place.path(name))
            .unwrap();
        file.set_times(times).unwrap();
    }
    assert_notices(&mut watch, &new);
}

#[test]
fn a_kubernetes_data_swap_is_noticed() {
    let place = Place::new();
    place.write("..2026_01", &identity());
    symlink("..2026_01", place.path("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), place.path(name)).unwrap();
    }
    let mut watch = place.watch();
    for version in ["..2026_02", "..2026_03"] {
        let new = identity();
        place.write(version, &new);
        symlink(version, place.path("..data_tmp")).unwrap();
        fs::rename(place.path("..data_tmp"), place.path("..data")).unwrap();
        assert_notices(&mut watch, &new);
    }
}

#[test]
fn a_link_into_another_directory_that_is_put_elsewhere_is_noticed() {
    let place = Place::new();
    place.write("archive/1", &identity());
    fs::create_dir(place.path("live")).unwrap();
    let link = |version: &str| {
        for name in ["tls.crt", "tls.key"] {
            let target = Path::new("../archive").join(version).join(name);
            let temporary = place.path("live").join("new");
            symlink(target, &temporary).unwrap();
            fs::rename(temporary, place.path("live").join(name)).unwrap();
        }
    };
    link("1");
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("live").join(name), place.path(name)).unwrap();
    }
    let mut watch = place.watch();
    let new = identity();
    place.write("archive/2", &new);
    link("2");
    assert_notices(&mut watch, &new);
}

#[test]
fn a_file_that_vanishes_is_reported_once_and_noticed_when_it_comes_back() {
    let place = Place::new();
    let pair = identity();
    place.write("", &pair);
    let mut watch = place.watch();
    fs::remove_file(place.path("tls.key")).unwrap();
    assert!(poll(&mut watch).is_none());
    let fault = poll(&mut watch).unwrap().unwrap_err().to_string();
    assert!(fault.starts_with("cannot read ") && fault.contains("tls.key"));
    assert_quiet(&mut watch);
    place.write("", &pair);
    assert_notices(&mut watch, &pair);
}

#[test]
fn a_file_that_is_missing_for_less_than_two_polls_goes_unreported() {
    let place = Place::new();
    let pair = identity();
    place.write("", &pair);
    let mut watch = place.watch();
    fs::remove_file(place.path("tls.key")).unwrap();
    assert!(poll(&mut watch).is_none());
    place.write("", &pair);
    assert_quiet(&mut watch);
}

#[test]
fn a_half_finished_replacement_is_not_tried() {
    let (place, mut watch) = Place::watched();
    let new = identity();
    rewrite(&place.path("tls.crt"), &new.chain_pem());
    assert!(poll(&mut watch).is_none());
    rewrite(&place.path("tls.key"), &new.key_pem());
    assert_notices(&mut watch, &new);
}

#[test]
fn a_bad_pair_is_reported_once_and_a_good_one_after_it_is_noticed() {
    let (place, mut watch) = Place::watched();
    rewrite(&place.path("tls.key"), &identity().key_pem());
    assert!(poll(&mut watch).is_none());
    assert!(matches!(
        poll(&mut watch).unwrap().unwrap_err().as_ref(),
        CertificateError::KeyMismatch { .. }
    ));
    assert_quiet(&mut watch);
    let new = identity();
    place.write("", &new);
    assert_notices(&mut watch, &new);
}

#[test]
fn the_same_content_written_again_is_no_change() {
    let place = Place::new();
    let pair = identity();
    place.write("", &pair);
    let mut watch = place.watch();
    place.write("new", &pair);
    for name in ["tls.crt", "tls.key"] {
        fs::rename(place.path("new").join(name), place.path(name)).unwrap();
    }
    assert_quiet(&mut watch);
}

#[test]
fn a_change_between_loading_and_watching_is_noticed() {
    let place = Place::new();
    place.write("", &identity());
    let in_use = place.entry();
    let new = identity();
    place.write("", &new);
    assert_notices(&mut EntryWatch::new(in_use), &new);
}

/// A new pair that is refused by a clock that is wrong, and tried again when that is right.
fn assert_tried_again(wrong: SystemTime, is_expected: impl Fn(&CertificateError) -> bool) {
    let (place, mut watch) = Place::watched();
    let new = identity();
    place.write("", &new);
    assert!(watch.poll(wrong).is_none());
    let refusal = watch.poll(wrong).unwrap().unwrap_err();
    assert!(is_expected(&refusal), "{refusal}");
    assert!(watch.poll(wrong).is_none());
    let pair = poll(&mut watch).unwrap().unwrap();
    assert_eq!(pair.key.cert, new.chain);
    assert_quiet(&mut watch);
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_tried_again_when_it_is() {
    let early = now() - Duration::from_secs(86_400 * 2);
    assert_tried_again(early, |error| {
        matches!(error, CertificateError::NotYetValid { .. })
    });
}

#[test]
fn a_certificate_that_expired_by_a_clock_ahead_is_tried_again_when_that_is_set_back() {
    let ahead = now() + Duration::from_secs(86_400 * 400);
    assert_tried_again(ahead, |error| {
        matches!(error, CertificateError::Expired { .. })
    });
}

/// A configuration with a central pair, and `more` beside it.
fn watched_set(place: &Place, more: &str) -> CertificateWatch {
    place.write("central", &identity());
    let text = format!(
        "listeners: [{{address: 127.0.0.1:0, tls: explicit}}]\n\
         tls: {{certificate: central/tls.crt, private_key: central/tls.key, more: {more}}}\n\
         sites: [{{name: a, default: true, backends: [{{address: 192.0.2.1}}]}}]\n"
    );
    let settings = config::parse(&text, &place.path("portcullis.yaml")).unwrap();
    let set = CertificateSet::load(&settings.tls, now()).unwrap();
    CertificateWatch::new(&settings.tls, &set)
}

/// The names of what the set has, without the folder, after the second poll; what has happened in front.
fn found(place: &Place, watch: &mut CertificateWatch) -> (Vec<String>, Vec<String>) {
    assert!(watch.poll(now()).is_none());
    let Found {
        certificates,
        changes,
    } = watch.poll(now()).expect("a change");
    assert!(watch.poll(now()).is_none());
    let folder = format!("{}/", place.directory.path().display());
    let changes = changes.iter().map(|change| {
        let what = match &change.what {
            Event::InUse => "in use",
            Event::Refused(_) => "refused",
            Event::Removed => "removed",
            Event::Readable => "readable",
        };
        format!("{} {what}", change.name).replace(&folder, "")
    });
    let served = certificates
        .entries()
        .filter(|entry| entry.pair().is_some());
    let served = served.map(|entry| entry.source.name.replace(&folder, ""));
    (changes.collect(), served.collect())
}

#[test]
fn a_certificate_that_appears_in_a_directory_is_served_and_one_that_vanishes_is_not() {
    let place = Place::new();
    place.write("live/a", &identity());
    fs::write(place.path("live/README"), "see certbot").unwrap();
    fs::create_dir(place.path("live/..data")).unwrap();
    let mut watch = watched_set(&place, "[{directory: live, layout: kubernetes}]");
    place.write("live/b", &identity());
    let (changes, served) = found(&place, &mut watch);
    assert_eq!(changes, ["live/b in use"]);
    assert_eq!(served, ["default", "live/a", "live/b"]);
    fs::remove_dir_all(place.path("live/a")).unwrap();
    let (changes, served) = found(&place, &mut watch);
    assert_eq!(changes, ["live/a removed"]);
    assert_eq!(served, ["default", "live/b"]);
}

#[test]
fn one_bad_certificate_is_refused_alone_and_its_former_one_stays() {
    let place = Place::new();
    place.write("live/a", &identity());
    place.write("live/b", &identity());
    let mut watch = watched_set(&place, "[{directory: live, layout: kubernetes}]");
    rewrite(&place.path("live/a/tls.key"), "nothing");
    place.write("live/c", &identity());
    rewrite(&place.path("live/c/tls.crt"), "");
    let (changes, served) = found(&place, &mut watch);
    assert_eq!(changes, ["live/a refused", "live/c refused"]);
    assert_eq!(served, ["default", "live/a", "live/b"]);
    place.write("live/a", &identity());
    place.write("live/c", &identity());
    let (changes, served) = found(&place, &mut watch);
    assert_eq!(changes, ["live/a in use", "live/c in use"]);
    assert_eq!(served, ["default", "live/a", "live/b", "live/c"]);
}

/// As when what was mounted there is gone: the place is a directory of another file system, and empty.
#[test]
fn a_directory_that_is_unmounted_is_reported_and_what_is_in_use_of_it_stays() {
    let place = Place::new();
    let mounted = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::create_dir(place.path("empty")).unwrap();
    std::os::unix::fs::symlink(mounted.path(), place.path("live")).unwrap();
    place.write("live/a", &identity());
    let mut watch = watched_set(&place, "[{directory: live, layout: kubernetes}]");
    assert!(watch.poll(now()).is_none());
    std::os::unix::fs::symlink(place.path("empty"), place.path("next")).unwrap();
    fs::rename(place.path("next"), place.path("live")).unwrap();
    let (changes, served) = found(&place, &mut watch);
    assert_eq!(changes, ["live refused"]);
    assert_eq!(served, ["default", "live/a"]);
}

#[test]
fn a_directory_that_cannot_be_read_is_reported_once_and_what_is_in_use_of_it_stays() {
    let place = Place::new();
    place.write("live/a", &identity());
    let mut watch = watched_set(&place, "[{directory: live, layout: kubernetes}]");
    fs::rename(place.path("live"), place.path("away")).unwrap();
    let (changes, served) = found(&place, &mut watch);
    assert_eq!(changes, ["live refused"]);
    assert_eq!(served, ["default", "live/a"]);
    fs::rename(place.path("away"), place.path("live")).unwrap();
    let found = watch.poll(now()).expect("it is back").changes;
    assert!(matches!(
        found[..],
        [Change {
            what: Event::Readable,
            ..
        }]
    ));
    // The folder has changed its place, and its content is what is in use.
    assert!((0..3).all(|_| watch.poll(now()).is_none()));
}

#[test]
fn the_central_pair_and_those_beside_it_are_watched_too() {
    let place = Place::new();
    place.write("", &identity());
    let mut watch = watched_set(&place, "[{certificate: tls.crt, private_key: tls.key}]");
    place.write("", &identity());
    place.write("central", &identity());
    let (changes, served) = found(&place, &mut watch);
    assert_eq!(changes, ["default in use", "tls.crt in use"]);
    assert_eq!(served, ["default", "tls.crt"]);
}

#[test]
fn a_secret_whose_data_is_swapped_is_noticed_within_a_directory_too() {
    let place = Place::new();
    place.write("live/a/..2026_01", &identity());
    symlink("..2026_01", place.path("live/a/..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        symlink(
            Path::new("..data").join(name),
            place.path("live/a").join(name),
        )
        .unwrap();
    }
    let mut watch = watched_set(&place, "[{directory: live, layout: kubernetes}]");
    place.write("live/a/..2026_02", &identity());
    symlink("..2026_02", place.path("live/a/..data_tmp")).unwrap();
    fs::rename(place.path("live/a/..data_tmp"), place.path("live/a/..data")).unwrap();
    assert_eq!(found(&place, &mut watch).0, ["live/a in use"]);
}
