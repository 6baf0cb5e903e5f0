//! Notices that the certificate files have new content, by looking at them now and then.
//!
//! Looking finds every way in which files are replaced: a rename over the file, a rewrite in place, a Kubernetes
//! `..data` swap, a symbolic link into another directory that is put elsewhere. Notifications from the kernel miss some
//! of these and stop after others.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::certificate::{CertificateError, CertificatePair, ContentDigest, PairFiles};

/// Watches one pair of certificate files. The caller decides how often to [`poll`](Self::poll).
#[derive(Debug)]
pub struct Watch {
    certificate: PathBuf,
    private_key: PathBuf,
    /// What was last tried, for better or worse.
    tried: Tried,
    /// The state of the files when that was.
    settled: Option<PairStamp>,
    /// A newer state, seen once. Two files are never replaced at one instant, so a state counts when it is seen twice.
    changing: Option<PairStamp>,
    /// When content that was refused for not being valid yet deserves another try.
    retry_at: Option<SystemTime>,
}

#[derive(Debug, PartialEq, Eq)]
enum Tried {
    Content(ContentDigest),
    Unreadable,
}

impl Watch {
    /// Watches the files from which `in_use` was loaded. A change since then is noticed too.
    pub fn new(certificate: &Path, private_key: &Path, in_use: &CertificatePair) -> Self {
        Self {
            certificate: certificate.to_owned(),
            private_key: private_key.to_owned(),
            tried: Tried::Content(in_use.content),
            settled: None,
            changing: None,
            retry_at: None,
        }
    }

    /// Looks at the files; with new content that has been the same in two polls, says what loading it gives: a pair to
    /// put in use, or why the one in use has to stay. Each content is tried once, except that a certificate which isn't
    /// valid yet is tried again when it is: a clock that is a minute late must not cost a renewal.
    ///
    /// Blocks on the file system.
    pub fn poll(&mut self, now: SystemTime) -> Option<Result<CertificatePair, CertificateError>> {
        let stamp = PairStamp::of(&self.certificate, &self.private_key);
        if self.settled.as_ref() == Some(&stamp) {
            self.changing = None;
            return match self.retry_at {
                Some(at) if now >= at => self.try_again(now),
                _ => None,
            };
        }
        if self.changing.as_ref() != Some(&stamp) {
            self.changing = Some(stamp);
            return None;
        }
        // Stamped before reading: a change in between makes another stamp, and the next polls see it.
        self.changing = None;
        self.settled = Some(stamp);
        let files = match PairFiles::read(&self.certificate, &self.private_key) {
            Ok(files) => files,
            Err(error) => {
                self.retry_at = None;
                let known = std::mem::replace(&mut self.tried, Tried::Unreadable);
                return (known != Tried::Unreadable).then(|| Err(error.into()));
            }
        };
        let content = Tried::Content(files.digest());
        if self.tried == content {
            return None;
        }
        self.tried = content;
        let result = files.check(now);
        self.retry_at = valid_from(&result);
        Some(result)
    }

    fn try_again(&mut self, now: SystemTime) -> Option<Result<CertificatePair, CertificateError>> {
        let result = CertificatePair::load(&self.certificate, &self.private_key, now);
        self.retry_at = valid_from(&result);
        if let Ok(pair) = &result {
            self.tried = Tried::Content(pair.content);
        }
        Some(result)
    }
}

fn valid_from(result: &Result<CertificatePair, CertificateError>) -> Option<SystemTime> {
    match result {
        Err(CertificateError::NotYetValid { not_before, .. }) => Some(*not_before),
        _ => None,
    }
}

/// What tells two states of a pair of files apart without reading them.
#[derive(Debug, PartialEq, Eq)]
struct PairStamp {
    certificate: Option<FileStamp>,
    private_key: Option<FileStamp>,
}

impl PairStamp {
    fn of(certificate: &Path, private_key: &Path) -> Self {
        Self {
            certificate: FileStamp::of(certificate),
            private_key: FileStamp::of(private_key),
        }
    }
}

/// One file's state. The change time finds what the rest can't: a rewrite of the same length by a tool that puts the
/// modification time back.
#[derive(Debug, PartialEq, Eq)]
struct FileStamp {
    /// With every symbolic link on the way followed.
    path: PathBuf,
    device: u64,
    inode: u64,
    length: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl FileStamp {
    /// `None` if there is no such file, or none that can be looked at.
    fn of(path: &Path) -> Option<Self> {
        let path = fs::canonicalize(path).ok()?;
        let metadata = fs::metadata(&path).ok()?;
        let nanoseconds =
            |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Some(Self {
            path,
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
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

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn write(&self, under: &str, identity: &Identity) {
            fs::create_dir_all(self.path(under)).unwrap();
            rewrite(&self.path(under).join("tls.crt"), &identity.chain_pem());
            rewrite(&self.path(under).join("tls.key"), &identity.key_pem());
        }

        fn watch(&self) -> Watch {
            let (certificate, key) = (self.path("tls.crt"), self.path("tls.key"));
            let in_use = CertificatePair::load(&certificate, &key, now()).unwrap();
            let mut watch = Watch::new(&certificate, &key, &in_use);
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

    fn poll(watch: &mut Watch) -> Option<Result<CertificatePair, CertificateError>> {
        watch.poll(now())
    }

    fn assert_quiet(watch: &mut Watch) {
        for _ in 0..3 {
            assert!(poll(watch).is_none());
        }
    }

    /// The change that was made is seen by the second poll, gives `expected`, and is reported once.
    fn assert_notices(watch: &mut Watch, expected: &Identity) {
        assert!(poll(watch).is_none());
        let pair = poll(watch).expect("a change").expect("a good pair");
        assert_eq!(pair.key.cert, expected.chain);
        assert_quiet(watch);
    }

    #[test]
    fn a_rename_over_the_files_is_noticed_every_time() {
        let place = Place::new();
        place.write("", &identity());
        let mut watch = place.watch();
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
        let place = Place::new();
        place.write("", &identity());
        let mut watch = place.watch();
        let new = identity();
        rewrite(&place.path("tls.crt"), &new.chain_pem());
        assert!(poll(&mut watch).is_none());
        rewrite(&place.path("tls.key"), &new.key_pem());
        assert_notices(&mut watch, &new);
    }

    #[test]
    fn a_bad_pair_is_reported_once_and_a_good_one_after_it_is_noticed() {
        let place = Place::new();
        place.write("", &identity());
        let mut watch = place.watch();
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
        assert_notices(&mut Watch::new(&certificate, &key, &in_use), &new);
    }

    #[test]
    fn a_certificate_that_is_not_valid_yet_is_tried_again_when_it_is() {
        let place = Place::new();
        place.write("", &identity());
        let mut watch = place.watch();
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
}
