//! The tasks that run for the configuration in use: those that accept, the admin endpoint and the monitors of backends.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};

use super::sockets::BoundListener;
use super::{App, accept};
use crate::admin::{self, Admin};
use crate::backend::MonitorContext;
use crate::backend::monitor::Monitors;
use crate::base::text::escape_path;
use crate::config::{Settings, TlsMode};
use crate::net::listen::Acceptor;
use crate::net::unix::SocketName;

/// Listeners that have begun to accept, at their real addresses.
#[must_use = "the operator wants to know"]
pub(super) struct StartedListeners(Vec<(SocketAddr, TlsMode)>);

impl StartedListeners {
    pub fn log(self) {
        for (address, tls) in self.0 {
            tracing::info!(%address, tls = tls.as_str(), "listening");
        }
    }
}

impl App {
    /// Closes the listeners that are not in these settings, which are about to be in force.
    pub(super) async fn close_removed_listeners(&mut self, settings: &Settings) {
        let admin = &mut self.sockets.admin;
        admin
            .close_all_but(|address| Some(address) == settings.admin.address)
            .await;
        let socket = settings.admin.socket.as_deref();
        self.sockets.close_socket_but(socket);
        let is_kept = |address| settings.listeners.iter().any(|one| one.address == address);
        for address in self.sockets.listeners.close_all_but(is_kept).await {
            tracing::info!(%address, "no longer listening");
        }
    }

    /// Watches the backends of the configuration in use, and no others.
    pub(super) fn monitor_backends(&mut self) {
        let runtime = &self.snapshot.load().runtime;
        let context = MonitorContext {
            timeouts: runtime.settings.timeouts,
            dns_servers: runtime.settings.dns_servers.clone(),
            resolver: Arc::clone(&self.shared.resolver),
            registry: Arc::clone(&self.backends),
            metrics: Arc::clone(&self.shared.metrics),
        };
        self.monitors = Monitors::start(&runtime.pools, &context);
    }

    /// Begins to serve the admin endpoint, if it is not where it was.
    pub(super) fn start_admin(&mut self, listener: Option<(SocketAddr, TcpListener)>) {
        let Some((configured, socket)) = listener else {
            return;
        };
        if let Ok(address) = socket.local_addr() {
            tracing::info!(%address, "admin endpoint open");
        }
        // A slow client keeps it from accepting for a while, so no watchdog asks for it.
        let task = admin::serve(Acceptor::new(socket), self.admin());
        self.sockets.admin.start(configured, task);
    }

    /// Begins to take operators' actions, if the socket is not there already.
    pub(super) fn start_socket(&mut self, socket: Option<(UnixListener, SocketName)>) {
        let Some((listener, name)) = socket else {
            return;
        };
        tracing::info!(path = %escape_path(name.path()), "admin socket open");
        let admin = self.admin();
        let serve = |stopped| admin::serve_socket(listener, admin, stopped);
        self.sockets.start_socket(name, serve);
    }

    fn admin(&self) -> Arc<Admin> {
        Arc::new(Admin {
            readiness: self.readiness.subscribe(),
            shared: Arc::clone(&self.shared),
            snapshot: Arc::clone(&self.snapshot),
            reloads: Arc::clone(&self.reloads),
            acme: Arc::clone(&self.acme_status),
            commands: self.command_sender.clone(),
            log: self.log.clone(),
            config: self.config.file.clone(),
            started: self.started,
        })
    }

    /// Begins to accept.
    pub(super) fn start_listeners(&mut self, opened: Vec<BoundListener>) -> StartedListeners {
        let mut started = StartedListeners(Vec::new());
        for BoundListener {
            address,
            tls,
            socket,
        } in opened
        {
            started
                .0
                .push((socket.local_addr().unwrap_or(address), tls));
            let task = accept::accept(
                self.sockets.opener.acceptor(socket, address),
                address,
                Arc::clone(&self.snapshot),
                Arc::clone(&self.shared),
                self.drain.subscribe(),
            );
            self.sockets.listeners.start(address, task);
        }
        started
    }
}
