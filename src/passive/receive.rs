//! Accepting at a passive port: from the socket to the dispatcher.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::net::TcpStream;

use super::dispatcher::Dispatcher;
use crate::net::listen::Acceptor;
use crate::net::{options, proxy_header};

/// The networks of the load balancers in front of a port; a reload may change them.
pub(super) type Balancers = ArcSwap<Vec<IpNet>>;

/// Brings every connection of one port to the dispatcher.
pub(super) async fn receive(
    mut acceptor: Acceptor,
    port: SocketAddr,
    balancers: Arc<Balancers>,
    dispatcher: Arc<Dispatcher>,
) {
    loop {
        let (stream, peer) = match acceptor.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                dispatcher.metrics.accept_error();
                tracing::warn!(%error, "accepting a data connection failed");
                continue;
            }
        };
        // Armed before anything else: a stranger is reset by being dropped.
        if options::data(&stream).is_err() {
            continue;
        }
        let balancers = balancers.load_full();
        if proxy_header::is_trusted(peer, &balancers) {
            tokio::spawn(identify(
                stream,
                peer,
                port,
                balancers,
                Arc::clone(&dispatcher),
            ));
        } else {
            // If only control connections pass the balancer, clients connect here directly.
            dispatcher.on_connection(stream, peer.ip().to_canonical(), port);
        }
    }
}

/// Reads the PROXY header of a connection from a balancer.
async fn identify(
    mut stream: TcpStream,
    peer: SocketAddr,
    port: SocketAddr,
    balancers: Arc<Vec<IpNet>>,
    dispatcher: Arc<Dispatcher>,
) {
    match proxy_header::read(&mut stream, &balancers).await {
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
