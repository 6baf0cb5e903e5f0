//! Sessions in the test's own process, where their registry and their tasks can be reached.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use portcullis::announce::Announcements;
use portcullis::backend::{Pools, Registry};
use portcullis::config::{self, TlsMode};
use portcullis::observe::metrics::Metrics;
use portcullis::passive::PassiveListeners;
use portcullis::policy::{CredentialFiles, UserFiles};
use portcullis::session::{self, Accepted, Drain, Shared};
use portcullis::snapshot::{Runtime, Snapshot};
use portcullis::tls::{CertificateSet, ClientTrust};
use testkit::config::{Config, Site};
use testkit::front::Front;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What sessions need, for one configuration.
pub struct Server {
    pub front: Front,
    pub config: Config,
    pub shared: Arc<Shared>,
    passive: PassiveListeners,
    snapshot: Option<Arc<Snapshot>>,
    /// Ends everything when it is dropped.
    pub runtime: tokio::runtime::Runtime,
}

impl Server {
    /// Serves both listeners, in front of this backend.
    pub fn before(backend: SocketAddr) -> Self {
        let server = Self::idle(backend);
        let snapshot = server.snapshot();
        for listener in &snapshot.runtime.settings.listeners {
            server.listen(listener.address, listener.tls, snapshot);
        }
        server
    }

    /// Serves nothing yet.
    pub fn idle(backend: SocketAddr) -> Self {
        let front = Front::new(&[]);
        let config = front.config().site(&Site::default("site", backend));
        let metrics = Arc::new(Metrics::new());
        let shared = Arc::new(Shared::new(Arc::clone(&metrics)));
        let passive = PassiveListeners::new(Arc::clone(&shared.tls_sessions), metrics);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("threads");
        let mut server = Self {
            front,
            config,
            shared,
            passive,
            snapshot: None,
            runtime,
        };
        server.snapshot = Some(Arc::new(server.load()));
        server
    }

    fn snapshot(&self) -> &Arc<Snapshot> {
        self.snapshot.as_ref().expect("it is loaded")
    }

    fn load(&mut self) -> Snapshot {
        let settings = config::parse(&self.config.to_yaml(), Path::new("portcullis.yaml"))
            .expect("a good configuration");
        let certificates =
            CertificateSet::load(&settings.tls, SystemTime::now()).expect("a certificate");
        let pools = Pools::load(&settings.sites, &Registry::default()).expect("a site");
        let addresses = settings.listeners.iter().map(|one| one.address.ip());
        let passive = self.passive.open(addresses, &settings.passive.ports);
        let passive = self.runtime.block_on(passive).expect("free ports");
        let announcements = Announcements::new(&settings.passive, |name| async move {
            panic!("{} has to be looked up", name.as_str())
        });
        let announcements = self.runtime.block_on(announcements).expect("no name");
        let runtime = Runtime::new(
            settings,
            pools,
            passive,
            announcements,
            UserFiles::default(),
            CredentialFiles::default(),
        );
        Snapshot::new(
            Arc::new(runtime),
            Arc::new(certificates),
            Arc::new(ClientTrust::none()),
        )
    }

    fn listen(&self, address: SocketAddr, tls: TlsMode, snapshot: &Arc<Snapshot>) {
        let (shared, snapshot) = (Arc::clone(&self.shared), Arc::clone(snapshot));
        let listener = self.runtime.block_on(TcpListener::bind(address));
        let listener = listener.expect("a free address");
        self.runtime.spawn(async move {
            let (_drain, draining) = watch::channel(Drain::No);
            while let Ok((stream, client)) = listener.accept().await {
                let accepted = accepted(stream, client, (address, tls), &shared, &snapshot);
                let session = session::serve(
                    accepted,
                    Arc::clone(&snapshot),
                    Arc::clone(&shared),
                    draining.clone(),
                );
                tokio::spawn(session);
            }
        });
    }

    /// The session of a client that has connected to the explicit listener.
    pub fn session(&self, stream: TcpStream, client: SocketAddr) -> impl Future<Output = ()> {
        let listener = (self.config.explicit(), TlsMode::Explicit);
        let accepted = accepted(stream, client, listener, &self.shared, self.snapshot());
        let (snapshot, shared) = (Arc::clone(self.snapshot()), Arc::clone(&self.shared));
        async move {
            let (_drain, draining) = watch::channel(Drain::No);
            session::serve(accepted, snapshot, shared, draining).await;
        }
    }
}

fn accepted(
    stream: TcpStream,
    client: SocketAddr,
    (listener, tls): (SocketAddr, TlsMode),
    shared: &Arc<Shared>,
    snapshot: &Snapshot,
) -> Accepted {
    let limits = &snapshot.runtime.settings.limits;
    let permit = shared.limiter.admit(client.ip(), limits, Instant::now());
    Accepted {
        destination: stream.local_addr().expect("it is connected"),
        stream,
        client,
        listener,
        tls,
        permit: permit.expect("no limit is reached"),
    }
}
