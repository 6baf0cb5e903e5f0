//! Notices that authorities or revocation lists are new, by looking at their files now and then, as for certificates.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::files::TrustFiles;
use super::{ClientTrust, ClientTrustError};
use crate::base::file_watch::{Debounce, FileStamp, FileWatch, Stability};
use crate::config::ClientCertificates;
use crate::tls::content_digest::ContentDigest;

/// Watches the files of a [`ClientTrust`]. The caller decides how often to [`poll`](FileWatch::poll).
#[derive(Debug)]
pub struct ClientTrustWatch {
    settings: ClientCertificates,
    pinned: Arc<HashSet<[u8; 32]>>,
    /// Digest of the content that was last tried, whether accepted or refused; `None` for files that can't be read.
    last_content: Option<ContentDigest>,
    /// The stamps of the files, settled when their content was last tried.
    state: Debounce<Vec<Option<FileStamp>>>,
    /// The error with which the files couldn't be read last, which is reported once.
    unreadable: Option<String>,
}

impl ClientTrustWatch {
    /// Watches the files from which `in_use` was loaded; `None` if there are none. A change since then is noticed too.
    pub fn new(settings: Option<&ClientCertificates>, in_use: &ClientTrust) -> Option<Self> {
        let settings = settings?;
        (settings.ca.is_some() || !settings.crls.is_empty()).then(|| Self {
            settings: settings.clone(),
            pinned: Arc::clone(&in_use.pinned),
            last_content: in_use.content,
            state: Debounce::default(),
            unreadable: None,
        })
    }

    fn stamps(&self) -> Vec<Option<FileStamp>> {
        let files = self.settings.ca.iter().chain(&self.settings.crls);
        files.map(|file| FileStamp::of(Path::new(file))).collect()
    }
}

impl FileWatch for ClientTrustWatch {
    /// The result of loading them: what to use, or why what is in use stays.
    type Found = Result<ClientTrust, ClientTrustError>;

    fn poll(&mut self, _: SystemTime) -> Option<Self::Found> {
        if self.state.observe(self.stamps()) != Stability::Settled {
            return None;
        }
        let files = match TrustFiles::read(&self.settings) {
            Ok(files) => files,
            Err(error) => {
                self.state.try_again();
                self.last_content = None;
                let unreadable = Some(error.to_string());
                let told = std::mem::replace(&mut self.unreadable, unreadable.clone());
                return (told != unreadable).then_some(Err(error));
            }
        };
        self.unreadable = None;
        let content = Some(files.digest());
        if std::mem::replace(&mut self.last_content, content) == content {
            return None;
        }
        Some(files.check(&self.settings, Arc::clone(&self.pinned)))
    }
}
