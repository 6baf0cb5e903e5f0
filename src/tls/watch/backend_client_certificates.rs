//! The watch over the client certificates towards backends: each pair of files by itself.

use std::sync::Arc;
use std::time::SystemTime;

use super::entry::EntryWatch;
use crate::base::file_watch::FileWatch;
use crate::tls::backend::{BackendClientCertificate, BackendClientCertificates};
use crate::tls::certificate::CertificateError;

/// Watches the files of a configuration. The caller decides how often to [`poll`](FileWatch::poll).
#[derive(Debug)]
pub struct BackendClientCertificateWatch(Vec<Watched>);

/// The findings for the pairs of files that have changed.
pub type BackendClientCertificateChanges = Vec<BackendClientCertificateChange>;

/// The finding for a pair of files that has changed.
#[derive(Debug)]
pub struct BackendClientCertificateChange {
    /// The certificate.
    pub certificate: Arc<BackendClientCertificate>,
    /// The new one is in use now, or why the former one stays.
    pub outcome: Result<(), Arc<CertificateError>>,
}

#[derive(Debug)]
struct Watched {
    certificate: Arc<BackendClientCertificate>,
    files: EntryWatch,
}

impl BackendClientCertificateWatch {
    /// Watches the files of these; `None` if there are none. A change since they were loaded is noticed, too.
    pub fn new(certificates: &BackendClientCertificates) -> Option<Self> {
        let watch = |certificate: &Arc<BackendClientCertificate>| Watched {
            files: EntryWatch::new(certificate.loaded().clone()),
            certificate: Arc::clone(certificate),
        };
        let watched: Vec<Watched> = certificates.all().map(watch).collect();
        (!watched.is_empty()).then_some(Self(watched))
    }
}

impl FileWatch for BackendClientCertificateWatch {
    /// The pairs of files whose content is new and was the same in two polls; a valid one is in use then.
    type Found = BackendClientCertificateChanges;

    fn poll(&mut self, now: SystemTime) -> Option<BackendClientCertificateChanges> {
        let changes: Vec<_> = self.0.iter_mut().filter_map(|it| it.poll(now)).collect();
        (!changes.is_empty()).then_some(changes)
    }
}

impl Watched {
    fn poll(&mut self, now: SystemTime) -> Option<BackendClientCertificateChange> {
        let outcome = self.files.poll(now)?;
        Some(BackendClientCertificateChange {
            certificate: Arc::clone(&self.certificate),
            outcome: outcome.map(|pair| self.certificate.replace(pair)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::base::file_watch::FileWatch;
    use crate::config::KeyPairFiles;
    use crate::tls::backend::BackendClientCertificateLoader;
    use crate::tls::fixtures::{Authority, Identity, now};

    #[test]
    fn a_bad_pair_is_refused_by_itself_and_the_former_one_stays() {
        let directory = tempfile::tempdir().unwrap();
        let files = |name: &str| KeyPairFiles {
            certificate: directory.path().join(name).with_extension("crt"),
            private_key: directory.path().join(name).with_extension("key"),
        };
        let write = |name: &str, certificate: &Identity, key: &Identity| {
            let KeyPairFiles {
                certificate: certificate_file,
                private_key,
            } = files(name);
            let beside = directory.path().join("beside");
            for (file, content) in [
                (certificate_file, certificate.chain_pem()),
                (private_key, key.key_pem()),
            ] {
                fs::write(&beside, content).unwrap();
                fs::rename(&beside, file).unwrap();
            }
        };
        let [one, other, new] = ["one", "other", "new"].map(|name| Identity::self_signed(&[name]));
        write("one", &one, &one);
        write("other", &other, &other);
        let none = BackendClientCertificates::default();
        let mut loader = BackendClientCertificateLoader::new(&none, now());
        let [first, second] = ["one", "other"].map(|name| loader.load(&files(name)).unwrap());
        let mut watch = BackendClientCertificateWatch::new(&loader.loaded()).unwrap();
        let mut found = || {
            assert!(watch.poll(now()).is_none());
            watch.poll(now())
        };
        assert!(found().is_none(), "as loaded");

        write("one", &new, &one);
        write("other", &new, &new);
        let changes = found().unwrap();
        let [refused, taken] = &changes[..] else {
            panic!("{changes:?}")
        };
        assert!(Arc::ptr_eq(&refused.certificate, &first) && refused.outcome.is_err());
        assert!(Arc::ptr_eq(&taken.certificate, &second) && taken.outcome.is_ok());
        assert_eq!(first.in_use().key.cert, one.chain);
        assert_eq!(second.in_use().key.cert, new.chain);

        write("one", &one, &one);
        let changes = found().unwrap();
        assert!(changes[0].outcome.is_ok());
    }

    #[test]
    fn what_was_refused_when_it_was_loaded_is_not_told_again_and_one_that_is_put_back_is() {
        let directory = tempfile::tempdir().unwrap();
        let files = KeyPairFiles {
            certificate: directory.path().join("own.crt"),
            private_key: directory.path().join("own.key"),
        };
        let write = |identity: &Identity| {
            for (file, content) in [
                (&files.certificate, identity.chain_pem()),
                (&files.private_key, identity.key_pem()),
            ] {
                let beside = directory.path().join("beside");
                fs::write(&beside, content).unwrap();
                fs::rename(&beside, file).unwrap();
            }
        };
        let authority = Authority::new("CA");
        let [good, expired] =
            [-1..9, -9..-1].map(|days| authority.issue_for_days(&["proxy"], days));
        write(&good);
        let none = BackendClientCertificates::default();
        let mut loader = BackendClientCertificateLoader::new(&none, now());
        loader.load(&files).unwrap();
        let former = loader.loaded();
        write(&expired);
        let mut loader = BackendClientCertificateLoader::new(&former, now());
        let certificate = loader.load(&files).unwrap();
        let mut watch = BackendClientCertificateWatch::new(&loader.loaded()).unwrap();
        for _ in 0..3 {
            assert!(watch.poll(now()).is_none());
        }
        write(&good);
        assert!(watch.poll(now()).is_none());
        assert!(watch.poll(now()).unwrap()[0].outcome.is_ok());
        assert_eq!(certificate.in_use().key.cert, good.chain);
    }

    #[test]
    fn without_certificates_there_is_nothing_to_watch() {
        assert!(
            BackendClientCertificateWatch::new(&BackendClientCertificates::default()).is_none()
        );
    }
}
