//! One certificate of the configuration: what is served of it, and what was last tried.

use std::sync::Arc;
use std::time::SystemTime;

use super::files::{ContentDigest, PairFiles};
use super::source::{Origin, Source};
use super::{CertificateError, CertificatePair};

/// A certificate of the configuration, with what is in use of it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its files and its name.
    pub source: Source,
    pair: Option<Arc<CertificatePair>>,
    refusal: Option<Arc<CertificateError>>,
    /// What was last tried, for better or worse.
    tried: Tried,
}

/// What was last tried of a pair of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tried {
    /// Nothing yet.
    Nothing,
    Content(ContentDigest),
    Unreadable,
}

impl Entry {
    /// Nothing of it has been tried yet.
    pub(in crate::tls) fn new(source: Source) -> Self {
        Self {
            source,
            pair: None,
            refusal: None,
            tried: Tried::Nothing,
        }
    }

    /// Loads it. If what lies there can't be served, what `former` had of the same files stays in use while it is valid.
    ///
    /// Blocks on the file system.
    pub(super) fn load(source: Source, former: Option<&Self>, now: SystemTime) -> Self {
        let mut entry = Self::new(source);
        let _ = entry.try_files(now);
        if entry.pair.is_none() {
            let former = former.and_then(|former| former.pair.as_ref());
            entry.pair = former.filter(|pair| pair.is_valid(now)).cloned();
        }
        entry
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
        let (tried, dates) = (Tried::Content(pair.content), files.check_dates(&pair, now));
        let (pair, refusal) = match (dates, former.filter(is_good)) {
            (Err(error), Some(former)) => (former, Some(Arc::new(error))),
            _ => (Arc::new(pair), None),
        };
        Ok(Self {
            source,
            pair: Some(pair),
            refusal,
            tried,
        })
    }

    /// A pair whose files are not known, as the one that is loaded already.
    pub(in crate::tls) fn loaded(source: Source, pair: Arc<CertificatePair>) -> Self {
        Self {
            source,
            tried: Tried::Content(pair.content),
            pair: Some(pair),
            refusal: None,
        }
    }

    /// Whether it is known what lies there.
    pub(in crate::tls) fn was_tried(&self) -> bool {
        self.pair.is_some() || self.refusal.is_some()
    }

    /// Whether the files couldn't be read when they were last tried.
    pub(in crate::tls) fn is_unreadable(&self) -> bool {
        self.tried == Tried::Unreadable
    }

    /// The same content is to be tried once more.
    pub(in crate::tls) fn forget_what_was_tried(&mut self) {
        self.tried = Tried::Nothing;
    }

    /// What new sessions may be shown.
    pub fn pair(&self) -> Option<&Arc<CertificatePair>> {
        self.pair.as_ref()
    }

    /// Why what lies there isn't that.
    pub fn refusal(&self) -> Option<&Arc<CertificateError>> {
        self.refusal.as_ref()
    }

    /// Tries what the files hold; if it is refused, what is in use stays. `None` if it was tried before.
    ///
    /// Blocks on the file system.
    pub(in crate::tls) fn try_files(&mut self, now: SystemTime) -> Option<TryResult> {
        let Source {
            certificate,
            private_key,
            ..
        } = &self.source;
        let files = match PairFiles::read(certificate, private_key) {
            Ok(files) => files,
            Err(error) if error.is_absence() && self.source.origin == Origin::Ordered => {
                self.tried = Tried::Nothing;
                return None;
            }
            Err(error) => {
                let known = std::mem::replace(&mut self.tried, Tried::Unreadable);
                let told = self.refusal.as_ref().map(|refusal| refusal.to_string());
                let is_told = known == Tried::Unreadable && told == Some(error.to_string());
                return (!is_told).then(|| self.refuse(error.into()));
            }
        };
        let content = Tried::Content(files.digest());
        if std::mem::replace(&mut self.tried, content) == content {
            return None;
        }
        Some(match files.check(now) {
            Ok(pair) => {
                let pair = Arc::new(pair);
                self.pair = Some(Arc::clone(&pair));
                self.refusal = None;
                Ok(pair)
            }
            Err(error) => self.refuse(error),
        })
    }

    fn refuse(&mut self, error: CertificateError) -> TryResult {
        let error = Arc::new(error);
        self.refusal = Some(Arc::clone(&error));
        Err(error)
    }
}

/// A pair to use, or why the pair in use stays.
pub(in crate::tls) type TryResult = Result<Arc<CertificatePair>, Arc<CertificateError>>;
