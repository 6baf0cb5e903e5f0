//! The watches over the files whose new contents are used without a reload, as long as clients are accepted.

use std::sync::Arc;

use super::App;
use super::refused::RefusedConfiguration;
use super::watcher::Watcher;
use crate::base::file_watch::FileWatch;
use crate::observe::reloads::ReloadLog;
use crate::outcome::ReloadSubject;
use crate::policy::credentials::Passwords;
use crate::policy::lookup_watch::LookupWatch;
use crate::policy::users::Names;
use crate::snapshot::Snapshot;
use crate::tls::{self, BackendClientCertificateWatch};

/// The watches, one over the files of each kind.
#[derive(Debug)]
pub(super) struct Watchers {
    certificates: Watcher<tls::CertificateWatch>,
    backend_client_certificates: Watcher<BackendClientCertificateWatch>,
    client_trust: Watcher<tls::client_certificates::ClientTrustWatch>,
    credentials: Watcher<LookupWatch<Passwords>>,
    users: Watcher<LookupWatch<Names>>,
    /// Over a configuration that was refused, until that is mended.
    pub refused: Watcher<RefusedConfiguration>,
}

/// New contents, of one kind.
pub(super) enum Change {
    Certificates(<tls::CertificateWatch as FileWatch>::Found),
    BackendClientCertificates(<BackendClientCertificateWatch as FileWatch>::Found),
    ClientTrust(<tls::client_certificates::ClientTrustWatch as FileWatch>::Found),
    Credentials(<LookupWatch<Passwords> as FileWatch>::Found),
    Users(<LookupWatch<Names> as FileWatch>::Found),
    Refused(<RefusedConfiguration as FileWatch>::Found),
}

impl Watchers {
    /// Over the files from which `snapshot` was made.
    pub fn new(snapshot: &Snapshot, reloads: &Arc<ReloadLog>) -> Self {
        let runtime = &snapshot.runtime;
        let tls = &runtime.settings.tls;
        Self {
            certificates: Watcher::new(
                ReloadSubject::Certificate,
                Some(tls::CertificateWatch::new(tls, &snapshot.certificates)),
                reloads,
            ),
            backend_client_certificates: Watcher::new(
                ReloadSubject::BackendClientCertificate,
                BackendClientCertificateWatch::new(runtime.pools.backend_client_certificates()),
                reloads,
            ),
            client_trust: Watcher::new(
                ReloadSubject::ClientCertificates,
                tls::client_certificates::ClientTrustWatch::new(
                    tls.client_certificates.as_ref(),
                    &snapshot.clients,
                ),
                reloads,
            ),
            credentials: Watcher::new(
                ReloadSubject::Credentials,
                LookupWatch::new(&runtime.credentials),
                reloads,
            ),
            users: Watcher::new(
                ReloadSubject::Users,
                LookupWatch::new(&runtime.user_files),
                reloads,
            ),
            refused: Watcher::new(ReloadSubject::Configuration, None, reloads),
        }
    }

    /// Waits until files have changed. May be cancelled.
    pub async fn changed(&mut self) -> Change {
        tokio::select! {
            found = self.certificates.changed() => Change::Certificates(found),
            found = self.backend_client_certificates.changed() => Change::BackendClientCertificates(found),
            found = self.client_trust.changed() => Change::ClientTrust(found),
            found = self.credentials.changed() => Change::Credentials(found),
            found = self.users.changed() => Change::Users(found),
            found = self.refused.changed() => Change::Refused(found),
        }
    }
}

impl App {
    /// Uses the new contents, or logs why not.
    pub(super) fn apply_change(&mut self, change: Change) {
        match change {
            Change::Certificates(found) => self.apply_certificates(found),
            Change::BackendClientCertificates(found) => {
                self.report_backend_client_certificates(&found)
            }
            Change::ClientTrust(found) => self.apply_client_trust(found),
            Change::Credentials(found) => {
                self.report_lookup(ReloadSubject::Credentials, &found);
            }
            Change::Users(found) => self.report_lookup(ReloadSubject::Users, &found),
            Change::Refused(found) => self.report_refused(found),
        }
    }
}
