//! The certificates that backends are shown where they ask clients for one, and which one is in use.
//!
//! Faults of the files themselves are found as for the pair that clients are shown. That a certificate has expired, or
//! is not valid yet, keeps no configuration from being loaded: it comes with time, and concerns one backend, which judges the
//! certificate itself. Only a new pair that isn't valid replaces none that is, neither while the process runs (see
//! [`watch`](crate::tls::watch)) nor when a configuration is loaded in place of another.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;

use crate::config::KeyPairFiles;
use crate::tls::certificate::{CertificateError, CertificatePair, ConfiguredCertificate, Source};

/// The certificate in a pair of files. Every backend that names these files is shown it.
#[derive(Debug)]
pub struct BackendClientCertificate {
    files: KeyPairFiles,
    in_use: ArcSwap<CertificatePair>,
    /// The certificate as found when the configuration was loaded.
    loaded: ConfiguredCertificate,
}

/// The client certificates of one configuration, by their files.
#[derive(Debug, Default, Clone)]
pub struct BackendClientCertificates(HashMap<KeyPairFiles, Arc<BackendClientCertificate>>);

/// Loads the client certificates of a configuration.
#[derive(Debug)]
pub struct BackendClientCertificateLoader<'f> {
    loaded: BackendClientCertificates,
    former: &'f BackendClientCertificates,
    now: SystemTime,
}

impl BackendClientCertificate {
    /// Reads and checks the files.
    ///
    /// Blocks on the file system.
    ///
    /// # Errors
    /// As [`CertificatePair::load`], but for the dates.
    fn load(
        files: &KeyPairFiles,
        former: Option<Arc<CertificatePair>>,
        now: SystemTime,
    ) -> Result<Self, CertificateError> {
        let source = Source::pair(&files.certificate, &files.private_key);
        let loaded = ConfiguredCertificate::load_at_any_date(source, former, now)?;
        // There is one, whatever was refused.
        let pair = loaded.pair().expect("invariant: something is in use");
        Ok(Self {
            files: files.clone(),
            in_use: ArcSwap::new(Arc::clone(pair)),
            loaded,
        })
    }

    /// The certificate as found when the configuration was loaded: a former one may have stayed in use then.
    pub(in crate::tls) fn loaded(&self) -> &ConfiguredCertificate {
        &self.loaded
    }

    /// The paths of its files.
    pub fn files(&self) -> &KeyPairFiles {
        &self.files
    }

    /// The pair that new sessions show.
    pub fn in_use(&self) -> Arc<CertificatePair> {
        self.in_use.load_full()
    }

    /// Sessions that dial their backend from now on show this. The others keep what they have, for their data connections, too:
    /// IIS requires the same certificate on both.
    pub(in crate::tls) fn replace(&self, pair: Arc<CertificatePair>) {
        self.in_use.store(pair);
    }
}

impl<'f> BackendClientCertificateLoader<'f> {
    /// At `now`, with what is in use of the same files already.
    pub fn new(former: &'f BackendClientCertificates, now: SystemTime) -> Self {
        Self {
            loaded: BackendClientCertificates::default(),
            former,
            now,
        }
    }

    /// The one of these files, which are read if no other backend has named them before.
    ///
    /// # Errors
    /// As [`CertificatePair::load`], but for the dates.
    pub fn load(
        &mut self,
        files: &KeyPairFiles,
    ) -> Result<Arc<BackendClientCertificate>, CertificateError> {
        if let Some(known) = self.loaded.0.get(files) {
            return Ok(Arc::clone(known));
        }
        let former = self.former.0.get(files).map(|former| former.in_use());
        let certificate = Arc::new(BackendClientCertificate::load(files, former, self.now)?);
        let loaded = &mut self.loaded.0;
        loaded.insert(files.clone(), Arc::clone(&certificate));
        Ok(certificate)
    }

    /// All certificates that were loaded.
    pub fn loaded(self) -> BackendClientCertificates {
        self.loaded
    }
}

impl BackendClientCertificates {
    /// The certificates whose files held no valid pair when they were loaded, so that a former one has stayed in use, with the
    /// reasons.
    pub fn refusals(
        &self,
    ) -> impl Iterator<Item = (&Arc<BackendClientCertificate>, &Arc<CertificateError>)> {
        self.all()
            .filter_map(|one| Some((one, one.loaded.refusal()?)))
    }

    /// All of them, in the order of their files' names.
    pub fn all(&self) -> impl Iterator<Item = &Arc<BackendClientCertificate>> {
        let mut all: Vec<_> = self.0.values().collect();
        all.sort_by_key(|certificate| &certificate.files);
        all.into_iter()
    }
}

impl ResolvesClientCert for CertificatePair {
    /// Always: the authorities that servers name are often none that they trust, and what a server refuses is named by its alert.
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::tls::fixtures::{Authority, Identity, now};

    fn written(directory: &Path, identity: &Identity) -> KeyPairFiles {
        let files = KeyPairFiles {
            certificate: directory.join("be.crt"),
            private_key: directory.join("be.key"),
        };
        fs::write(&files.certificate, identity.chain_pem()).unwrap();
        fs::write(&files.private_key, identity.key_pem()).unwrap();
        files
    }

    #[test]
    fn files_that_several_backends_name_are_one_certificate() {
        let directory = tempfile::tempdir().unwrap();
        let files = written(directory.path(), &Identity::self_signed(&["proxy"]));
        let none = BackendClientCertificates::default();
        let mut loader = BackendClientCertificateLoader::new(&none, now());
        let one = loader.load(&files).unwrap();
        let other = loader.load(&files).unwrap();
        assert!(Arc::ptr_eq(&one, &other));
        assert_eq!(loader.loaded().all().count(), 1);
    }

    fn load(
        files: &KeyPairFiles,
        former: Option<Arc<CertificatePair>>,
    ) -> Result<BackendClientCertificate, CertificateError> {
        BackendClientCertificate::load(files, former, now())
    }

    #[test]
    fn one_that_is_not_valid_replaces_none_that_is_when_it_is_loaded_again() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("CA");
        let at_days = |days| {
            let identity = authority.issue_for_days(&["proxy"], days);
            (written(directory.path(), &identity), identity)
        };
        for days in [-9..-1, 1..9] {
            let (files, good) = at_days(-1..9);
            let former = load(&files, None).unwrap().in_use();
            let (files, bad) = at_days(days.clone());
            let loaded = load(&files, Some(Arc::clone(&former))).unwrap();
            assert_eq!(loaded.in_use().key.cert, good.chain, "{days:?}");
            assert!(loaded.loaded().refusal().is_some(), "{days:?}");

            // Without a former one, or with one that is no better, it is what there is.
            let no_better = load(&files, None).unwrap().in_use();
            assert_eq!(no_better.key.cert, bad.chain);
            let (files, other) = at_days(days.clone());
            let loaded = load(&files, Some(no_better)).unwrap();
            assert_eq!(loaded.in_use().key.cert, other.chain, "{days:?}");
            assert!(loaded.loaded().refusal().is_none(), "{days:?}");

            let (files, new) = at_days(-1..9);
            let loaded = load(&files, Some(former)).unwrap();
            assert_eq!(loaded.in_use().key.cert, new.chain);
            assert!(loaded.loaded().refusal().is_none());
        }
    }

    #[test]
    fn dates_keep_none_from_being_loaded_and_all_else_does() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("CA");
        for days in [-9..-1, 1..9] {
            let files = written(
                directory.path(),
                &authority.issue_for_days(&["proxy"], days),
            );
            load(&files, None).unwrap();
        }
        let files = written(directory.path(), &authority.issue(&["proxy"]));
        let other = Identity::self_signed(&["other"]);
        fs::write(&files.private_key, other.key_pem()).unwrap();
        let error = load(&files, None).unwrap_err();
        assert!(matches!(error, CertificateError::KeyMismatch { .. }));
    }

    #[test]
    fn a_certificate_for_servers_alone_is_told_from_one_for_clients() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("CA");
        use rcgen::ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
        for (purposes, expected) in [
            (vec![], true),
            (vec![ServerAuth], false),
            (vec![ServerAuth, ClientAuth], true),
            (vec![Any], false),
        ] {
            let identity = authority.issue_with(&["proxy"], |params| {
                params.extended_key_usages = purposes;
            });
            let files = written(directory.path(), &identity);
            let loaded = load(&files, None).unwrap();
            assert_eq!(loaded.in_use().is_for_clients, expected);
        }
    }
}
