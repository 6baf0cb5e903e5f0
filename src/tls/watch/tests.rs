//! Every way in which files are replaced, and what is no replacement.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use super::*;
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
    fn watched() -> (Self, PairWatch) {
        let place = Self::new();
        place.write("", &identity());
        let watch = place.watch();
        (place, watch)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, under: &str, identity: &Identity) {
        fs::create_dir_all(self.path(under)).unwrap();
        rewrite(&self.path(under).join("tls.crt"), &identity.chain_pem());
        rewrite(&self.path(under).join("tls.key"), &identity.key_pem());
    }

    fn watch(&self) -> PairWatch {
        let (certificate, key) = (self.path("tls.crt"), self.path("tls.key"));
        let in_use = CertificatePair::load(&certificate, &key, now()).unwrap();
        let mut watch = PairWatch::new(&certificate, &key, &in_use);
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

fn poll(watch: &mut PairWatch) -> Option<Result<CertificatePair, CertificateError>> {
    watch.poll(now())
}

fn assert_quiet(watch: &mut PairWatch) {
    for _ in 0..3 {
        assert!(poll(watch).is_none());
    }
}

/// The change is seen by the second poll, which returns `expected`, and is reported once.
fn assert_notices(watch: &mut PairWatch, expected: &Identity) {
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
        poll(&mut watch),
        Some(Err(CertificateError::KeyMismatch { .. }))
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
    let (certificate, key) = (place.path("tls.crt"), place.path("tls.key"));
    let in_use = CertificatePair::load(&certificate, &key, now()).unwrap();
    let new = identity();
    place.write("", &new);
    assert_notices(&mut PairWatch::new(&certificate, &key, &in_use), &new);
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_tried_again_when_it_is() {
    let (place, mut watch) = Place::watched();
    let new = identity();
    place.write("", &new);
    let early = now() - Duration::from_secs(86_400 * 2);
    assert!(watch.poll(early).is_none());
    assert!(matches!(
        watch.poll(early),
        Some(Err(CertificateError::NotYetValid { .. }))
    ));
    assert!(watch.poll(early).is_none());
    let pair = poll(&mut watch).unwrap().unwrap();
    assert_eq!(pair.key.cert, new.chain);
    assert_quiet(&mut watch);
}
