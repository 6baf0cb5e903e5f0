//! Snapshots that new sessions begin with: one is immutable, and holds everything that a reload may change.
//!
//! A session takes the snapshot of the moment it is accepted and keeps it to its end, so no reload and no certificate
//! swap ever touches a live session.

use std::sync::Arc;

use crate::announce::Announcements;
use crate::backend::Pools;
use crate::config::{HostNames, HostPattern, Settings};
use crate::passive::PassivePorts;
use crate::policy::{CredentialFiles, UserFiles};
use crate::route::Router;
use crate::tls::{CertificateSet, ClientTrust, ServerTls};

/// The configuration and the certificates in use, as new sessions take them.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The configuration in the form in which sessions use it.
    pub runtime: Arc<Runtime>,
    /// The certificates in use.
    pub certificates: Arc<CertificateSet>,
    /// The authorities that vouch for clients' certificates.
    pub clients: Arc<ClientTrust>,
    /// The client leg's TLS with these certificates and authorities.
    pub tls: Arc<ServerTls>,
    /// The certificates' names: as argument of HOST they mean the proxy itself, unless a site has them.
    pub own_names: Arc<HostNames>,
}

/// The configuration in the form in which sessions use it.
#[derive(Debug)]
pub struct Runtime {
    /// The settings as resolved from the file.
    pub settings: Settings,
    /// Routes logins to sites.
    pub router: Arc<Router>,
    /// The files of users that it looks names up in.
    pub user_files: UserFiles,
    /// The files of passwords for users with certificates.
    pub credentials: CredentialFiles,
    /// The open passive ports.
    pub passive: PassivePorts,
    /// The addresses and ports announced to clients.
    pub announcements: Arc<Announcements>,
    /// The backends of the sites.
    pub pools: Pools,
}

impl Snapshot {
    /// A snapshot of this runtime with these certificates of its own and of clients.
    pub fn new(
        runtime: Arc<Runtime>,
        certificates: Arc<CertificateSet>,
        clients: Arc<ClientTrust>,
    ) -> Self {
        Self {
            own_names: own_names(&certificates),
            tls: Arc::new(ServerTls::asking(
                Arc::clone(&certificates),
                runtime.settings.tls.min_version,
                &clients,
            )),
            runtime,
            certificates,
            clients,
        }
    }

    /// A snapshot of this configuration with these certificates of its own.
    pub fn with_certificates(&self, certificates: CertificateSet) -> Self {
        let (runtime, clients) = (Arc::clone(&self.runtime), Arc::clone(&self.clients));
        Self::new(runtime, Arc::new(certificates), clients)
    }

    /// A snapshot of this configuration with these authorities for clients' certificates.
    pub fn with_client_trust(&self, clients: ClientTrust) -> Self {
        let (runtime, certificates) = (Arc::clone(&self.runtime), Arc::clone(&self.certificates));
        Self::new(runtime, certificates, Arc::new(clients))
    }
}

/// The names of these certificates that clients can ask for, by a wildcard as well.
///
/// The names of all certificates, though one in `tls.more` may stand there for a site: HOST asks the sites first, and a name that
/// none of them has is one by which clients reach the proxy, as without HOST.
pub fn own_names(certificates: &CertificateSet) -> Arc<HostNames> {
    let names = certificates.pairs().flat_map(|pair| &pair.names);
    let names = names.filter_map(|name| HostPattern::parse(name));
    Arc::new(names.collect())
}

impl Runtime {
    /// Puts the parts together.
    pub fn new(
        settings: Settings,
        pools: Pools,
        passive: PassivePorts,
        announcements: Announcements,
        user_files: UserFiles,
        credentials: CredentialFiles,
    ) -> Self {
        let router = Router::new(pools.sites(), settings.user_forms, &user_files);
        Self {
            router: Arc::new(router),
            user_files,
            credentials,
            settings,
            passive,
            announcements: Arc::new(announcements),
            pools,
        }
    }
}
