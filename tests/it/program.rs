//! The program under test. Cargo names it to the tests of its own package alone, so it is started here and not in the
//! test kit.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use testkit::config::{Config, Site};
use testkit::front::Front;
use testkit::proxy::Proxy;

/// Where cargo has built it.
pub const PORTCULLIS: &str = env!("CARGO_BIN_EXE_portcullis");

/// The program with arguments of the test's own.
pub fn command() -> Command {
    Command::new(PORTCULLIS)
}

/// Starts [`Proxy`]s.
pub trait Start: Sized {
    /// Waits until all listeners accept and the program says that it is ready.
    fn start(config: impl Into<Arc<Config>>) -> Self;

    /// The same without waiting until it says that it is ready.
    fn start_unready(config: impl Into<Arc<Config>>) -> Self;

    /// The same with at most so many file descriptors, standard ones included.
    fn start_with_descriptors(config: Config, count: usize) -> Self;

    /// The same with so many at first, and as many as the test may have if it asks for them.
    fn start_with_descriptors_at_first(config: Config, count: usize) -> Self;
}

impl Start for Proxy {
    fn start(config: impl Into<Arc<Config>>) -> Self {
        Self::start_program(PORTCULLIS, config)
    }

    fn start_unready(config: impl Into<Arc<Config>>) -> Self {
        Self::start_unready_program(PORTCULLIS, config)
    }

    fn start_with_descriptors(config: Config, count: usize) -> Self {
        Self::start_program_limited(PORTCULLIS, config, &format!("-n {count}"))
    }

    fn start_with_descriptors_at_first(config: Config, count: usize) -> Self {
        Self::start_program_limited(PORTCULLIS, config, &format!("-S -n {count}"))
    }
}

/// Starts proxies with what [`Front`] has.
pub trait Before {
    /// A proxy before this backend alone, reached in clear text: the site `only`, for users who name no host.
    fn before(&self, backend: SocketAddr) -> Proxy {
        self.before_with(backend, |config| config)
    }

    /// The same with more in the configuration.
    fn before_with(&self, backend: SocketAddr, more: impl FnOnce(Config) -> Config) -> Proxy;
}

impl Before for Front {
    fn before_with(&self, backend: SocketAddr, more: impl FnOnce(Config) -> Config) -> Proxy {
        let site = Site::default("only", backend);
        Proxy::start(more(self.config()).site(&site))
    }
}
