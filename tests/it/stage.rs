//! The smallest stage for a play of three: a proxy with one site, its scripted backend, and the clients that a test needs.

use testkit::config::{Config, Site};
use testkit::front::{Client, Front};
use testkit::proxy::Proxy;
use testkit::raw::Raw;
use testkit::script::Script;
use testkit::scripted::Backend;

use crate::program::Start;

/// A proxy before one plaintext backend, which serves users who name no host.
pub struct Stage {
    /// What clients see of the proxy.
    pub front: Front,
    /// The backend.
    pub backend: Backend,
    /// The proxy.
    pub proxy: Proxy,
}

impl Stage {
    /// With a backend that follows the script. Clients may log in without TLS.
    pub fn new(script: Script) -> Self {
        Self::with(script, |config| config)
    }

    /// The same with more in the configuration.
    pub fn with(script: Script, more: impl FnOnce(Config) -> Config) -> Self {
        Self::before(script, |site| site, more)
    }

    /// The same with more about the site.
    pub fn before(
        script: Script,
        site: impl FnOnce(Site) -> Site,
        more: impl FnOnce(Config) -> Config,
    ) -> Self {
        let front = Front::new(&[]);
        let backend = Backend::start(script);
        let config = front.config().tls("required", "false");
        let site = site(Site::default("only", backend.address()));
        let proxy = Proxy::start(more(config).site(&site));
        Self {
            front,
            backend,
            proxy,
        }
    }

    /// A client without TLS, greeted.
    pub fn clear(&self) -> Raw {
        let mut client = Raw::connect(self.proxy.explicit());
        client.expect(220);
        client
    }

    /// A client without TLS, logged in.
    pub fn clear_session(&self) -> Raw {
        let mut client = self.clear();
        client.login("alice", "secret");
        client
    }

    /// A client with TLS 1.3 and private data connections, logged in.
    pub fn session(&self) -> Client {
        self.front.session(&self.proxy, "alice")
    }
}
