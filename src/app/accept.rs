//! Accepts connections: starts a session for each, or refuses it.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::config::TlsMode;
use crate::ftp::answer;
use crate::limit::Permit;
use crate::net::listen::{AcceptFailures, Acceptor};
use crate::net::proxy_header::{self, ProxiedAddresses, ProxyHeaderError};
use crate::outcome::LimitExceeded;
use crate::session::{self, Accepted, Drain, Shared};
use crate::snapshot::Snapshot;

/// Accepts and admits; each session is a task of its own.
pub(super) async fn accept(
    mut acceptor: Acceptor,
    configured: SocketAddr,
    snapshot: Arc<ArcSwap<Snapshot>>,
    shared: Arc<Shared>,
    drain: watch::Receiver<Drain>,
) {
    let mut failures = AcceptFailures::default();
    loop {
        let (stream, peer) = match acceptor.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                shared.metrics.accept_error();
                if failures.is_first() {
                    tracing::error!(listener = %configured, %error, "accepting connections failed");
                }
                continue;
            }
        };
        failures.end();
        let snapshot = snapshot.load_full();
        let listeners = &snapshot.runtime.settings.listeners;
        let Some(listener) = listeners.iter().find(|one| one.address == configured) else {
            // A listener is closed before a configuration without it is in force.
            shared.metrics.accept_error();
            tracing::error!(listener = %configured, %peer, "connection closed, its listener is not configured");
            continue;
        };
        let trusted = listener.proxy_protocol.clone();
        let incoming = IncomingConnection {
            stream,
            peer,
            listener: configured,
            tls: listener.tls,
            snapshot,
            shared: Arc::clone(&shared),
            drain: drain.clone(),
        };
        match trusted {
            None => incoming.direct(),
            Some(trusted) => incoming.proxied(trusted),
        }
    }
}

/// A connection that was accepted, and what its session will need.
struct IncomingConnection {
    stream: TcpStream,
    peer: SocketAddr,
    listener: SocketAddr,
    tls: TlsMode,
    snapshot: Arc<Snapshot>,
    shared: Arc<Shared>,
    drain: watch::Receiver<Drain>,
}

impl IncomingConnection {
    /// The peer is the client.
    fn direct(self) {
        // Only a connection that is over already has no address.
        let Ok(destination) = self.stream.local_addr() else {
            return;
        };
        let addresses = ProxiedAddresses {
            client: self.peer,
            destination,
        };
        let limits = &self.snapshot.runtime.settings.limits;
        let now = Instant::now();
        match self
            .shared
            .limiter
            .admit(addresses.client.ip(), limits, now)
        {
            Ok(permit) => drop(tokio::spawn(self.serve(addresses, permit))),
            Err(refused) => self.refuse(addresses.client, refused),
        }
    }

    /// The peer is a load balancer; its PROXY header names the client.
    ///
    /// The slot among all sessions is taken before waiting for the header, so that connections that never send one are
    /// bounded, too.
    fn proxied(mut self, trusted: Arc<[IpNet]>) {
        if !proxy_header::is_trusted(self.peer, &trusted) {
            return self.close_unidentified(&ProxyHeaderError::Untrusted);
        }
        let peer = self.peer;
        let limits = &self.snapshot.runtime.settings.limits;
        let reservation = match self.shared.limiter.reserve(limits) {
            Ok(reservation) => reservation,
            Err(refused) => return self.refuse(peer, refused),
        };
        tokio::spawn(async move {
            let header = tokio::select! {
                header = proxy_header::read(&mut self.stream, &trusted) => header,
                // Nobody is there yet who could be told.
                Ok(_) = self.drain.wait_for(|drain| *drain != Drain::No) => return,
            };
            match header {
                Ok(addresses) => {
                    let limits = &self.snapshot.runtime.settings.limits;
                    match reservation.admit(addresses.client.ip(), limits, Instant::now()) {
                        Ok(permit) => self.serve(addresses, permit).await,
                        Err(refused) => self.refuse(addresses.client, refused),
                    }
                }
                Err(error) => self.close_unidentified(&error),
            }
        });
    }

    async fn serve(self, addresses: ProxiedAddresses, permit: Permit) {
        let accepted = Accepted {
            stream: self.stream,
            client: addresses.client,
            destination: addresses.destination,
            listener: self.listener,
            tls: self.tls,
            permit,
        };
        session::serve(accepted, self.snapshot, self.shared, self.drain).await;
    }

    /// Sends 421 where that can be done without a handshake, and closes.
    fn refuse(self, client: SocketAddr, refused: LimitExceeded) {
        self.shared.metrics.session_refused(refused);
        tracing::warn!(%client, reason = refused.as_str(), "session refused");
        if self.tls == TlsMode::Explicit
            && let Ok(mut stream) = self.stream.into_std()
        {
            // The socket's buffer is empty, so this doesn't block; and if it fails, the client has closed.
            let _ = stream.write(&answer::TOO_MANY_SESSIONS.bytes());
        }
    }

    /// Closes without a reply: any reply to an unknown peer would reveal what runs here.
    fn close_unidentified(self, error: &ProxyHeaderError) {
        let Some(fault) = error.fault() else {
            tracing::debug!(peer = %self.peer, listener = %self.listener, %error, "health check by a balancer");
            return;
        };
        self.shared.metrics.proxy_header_fault(fault);
        tracing::warn!(
            peer = %self.peer,
            listener = %self.listener,
            reason = fault.as_str(),
            %error,
            "connection without a PROXY header closed"
        );
    }
}
