//! One certificate of the configuration: the pair that is served, and why the content of its files is not.

use std::sync::Arc;
use std::time::SystemTime;

use super::files::PairFiles;
use super::source::{CertificateOrigin, Source};
use super::{CertificateError, CertificatePair};
use crate::tls::content_digest::ContentDigest;
use crate::tls::pem::FileError;

/// A certificate of the configuration, with what is in use of it.
#[derive(Debug, Clone)]
pub struct ConfiguredCertificate {
    /// The certificate's files and name.
    pub source: Source,
    pair: Option<Arc<CertificatePair>>,
    refusal: Option<Arc<CertificateError>>,
    /// Digest of the content that was last checked, whether accepted or refused; `None` for files that couldn't be read.
    content: Option<ContentDigest>,
}

impl ConfiguredCertificate {
    /// A certificate of which nothing has been loaded yet.
    pub(in crate::tls) fn new(source: Source) -> Self {
        Self {
            source,
            pair: None,
            refusal: None,
            content: None,
        }
    }

    /// Loads the certificate. If the content of its files can't be served, what `former` had of the same files stays in use while
    /// it is valid.
    ///
    /// Blocks on the file system.
    pub(in crate::tls) fn load(source: Source, former: Option<&Self>, now: SystemTime) -> Self {
        let mut entry = Self::new(source);
        entry.load_files(now);
        if entry.pair.is_none() {
            let former = former.and_then(|former| former.pair.as_ref());
            entry.pair = former.filter(|pair| pair.is_valid(now)).cloned();
        }
        entry
    }

    fn load_files(&mut self, now: SystemTime) {
        let result = match self.read() {
            Ok(None) => return,
            Ok(Some(files)) => {
                let (content, checked) = (files.digest(), files.check(now));
                self.adopt(content, checked)
            }
            Err(error) => self.refuse_unreadable(error),
        };
        // It stands in the entry.
        drop(result);
    }

    /// Loads one whose dates are no reason to go without it: one that has expired, or isn't valid yet, is refused only where
    /// `former`, which was in use of the same files, is valid; that stays in use then.
    ///
    /// Blocks on the file system.
    ///
    /// # Errors
    /// As [`CertificatePair::load`], but for the dates.
    pub(in crate::tls) fn load_at_any_date(
        source: Source,
        former: Option<Arc<CertificatePair>>,
        now: SystemTime,
    ) -> Result<Self, CertificateError> {
        let files = PairFiles::read(&source.certificate, &source.private_key)?;
        let pair = files.check_but_dates()?;
        let is_good = |pair: &Arc<CertificatePair>| pair.not_before <= now && pair.is_valid(now);
        let (content, dates) = (Some(pair.content), files.check_dates(&pair, now));
        let (pair, refusal) = match (dates, former.filter(is_good)) {
            (Err(error), Some(former)) => (former, Some(Arc::new(error))),
            _ => (Arc::new(pair), None),
        };
        Ok(Self {
            source,
            pair: Some(pair),
            refusal,
            content,
        })
    }

    /// A pair whose files are not known, as the one that is loaded already.
    pub(in crate::tls) fn loaded(source: Source, pair: Arc<CertificatePair>) -> Self {
        Self {
            source,
            content: Some(pair.content),
            pair: Some(pair),
            refusal: None,
        }
    }

    /// Whether its files have been tried.
    pub(in crate::tls) fn was_tried(&self) -> bool {
        self.pair.is_some() || self.refusal.is_some()
    }

    /// Digest of the content of its files that was last checked, be it in use or refused; `None` for files that couldn't be read.
    pub(in crate::tls) fn content(&self) -> Option<ContentDigest> {
        self.content
    }

    /// The pair that new sessions may be shown.
    pub fn pair(&self) -> Option<&Arc<CertificatePair>> {
        self.pair.as_ref()
    }

    /// The reason why the content of its files isn't that pair.
    pub fn refusal(&self) -> Option<&Arc<CertificateError>> {
        self.refusal.as_ref()
    }

    /// Reads the content of its files; `None` if the certificate is ordered and not there yet.
    ///
    /// Blocks on the file system.
    ///
    /// # Errors
    /// If one of the files can't be read.
    pub(in crate::tls) fn read(&self) -> Result<Option<PairFiles<'_>>, FileError> {
        let source = &self.source;
        match PairFiles::read(&source.certificate, &source.private_key) {
            Err(error) if error.is_absence() && source.origin == CertificateOrigin::Ordered => {
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    /// Puts in use what its files hold; if it is refused, what is in use stays.
    pub(in crate::tls) fn adopt(
        &mut self,
        content: ContentDigest,
        checked: Result<CertificatePair, CertificateError>,
    ) -> TryResult {
        self.content = Some(content);
        match checked {
            Ok(pair) => {
                let pair = Arc::new(pair);
                self.pair = Some(Arc::clone(&pair));
                self.refusal = None;
                Ok(pair)
            }
            Err(error) => Err(self.refuse(error)),
        }
    }

    /// Records that its files can't be read; the pair in use stays.
    pub(in crate::tls) fn refuse_unreadable(&mut self, error: FileError) -> TryResult {
        self.content = None;
        Err(self.refuse(error.into()))
    }

    fn refuse(&mut self, error: CertificateError) -> Arc<CertificateError> {
        let error = Arc::new(error);
        self.refusal = Some(Arc::clone(&error));
        error
    }
}

/// A pair to use, or why the pair in use stays.
pub(in crate::tls) type TryResult = Result<Arc<CertificatePair>, Arc<CertificateError>>;
