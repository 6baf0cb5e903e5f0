//! Accepting at a passive port: from the socket to the dispatcher.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::balancers::{Balancers, HeaderRule};
use super::dispatcher::Dispatcher;
use crate::base::shortage::is_shortage;
use crate::net::listen::{AcceptFailures, Acceptor};
use crate::net::options;
use crate::net::proxy_header;

/// Brings every connection of one port to the dispatcher.
pub(super) async fn receive(
    mut acceptor: Acceptor,
    port: SocketAddr,
    balancers: Arc<Balancers>,
    dispatcher: Arc<Dispatcher>,
) {
    let mut failures = AcceptFailures::default();
    loop {
        let (stream, peer) = match acceptor.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                dispatcher.metrics.accept_error();
                if is_shortage(&error) {
                    dispatcher.on_shortage(port);
                }
                if failures.is_first() {
                    tracing::warn!(%port, %error, "accepting a data connection failed");
                }
                continue;
            }
        };
        failures.end();
        // Armed before anything else: a stranger is reset by being dropped.
        if options::data(&stream).is_err() {
            continue;
        }
        match balancers.rule_for(peer) {
            // If only control connections pass the balancer, clients connect here directly.
            HeaderRule::None => dispatcher.on_connection(stream, peer.ip().to_canonical(), port),
            rule @ (HeaderRule::Optional | HeaderRule::Required) => {
                let dispatcher = Arc::clone(&dispatcher);
                tokio::spawn(identify(stream, peer, port, rule, dispatcher));
            }
        }
    }
}

/// Reads the PROXY header of a connection from a balancer, if it is one.
async fn identify(
    mut stream: TcpStream,
    peer: SocketAddr,
    port: SocketAddr,
    rule: HeaderRule,
    dispatcher: Arc<Dispatcher>,
) {
    if rule == HeaderRule::Optional && !proxy_header::may_be_there(&stream).await {
        dispatcher.on_connection(stream, peer.ip().to_canonical(), port);
        return;
    }
    match proxy_header::read_from_balancer(&mut stream).await {
        Ok(addresses) => dispatcher.on_connection(stream, addresses.client.ip(), port),
        Err(error) => {
            let Some(fault) = error.fault() else {
                tracing::debug!(%peer, %port, %error, "health check of a data port by a balancer");
                return;
            };
            dispatcher.metrics.proxy_header_fault(fault);
            tracing::warn!(%peer, %port, reason = fault.as_str(), %error, "data connection without a PROXY header reset");
        }
    }
}
