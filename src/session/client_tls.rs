//! TLS on the client's control connection: from the first byte on, or after AUTH.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::events::{EventSink, SessionEvent};
use super::info::SessionInfo;
use super::interrupt::{Patience, cut};
use super::machine::{Ending, Event};
use super::{Session, client_handshake};
use crate::config::HostName;
use crate::ftp::answer;
use crate::net::control::ControlConnection;
use crate::net::deadline::input_timeout;
use crate::net::options;
use crate::net::stream::Stream;
use crate::policy::ClientIdentity;
use crate::tls::{BeforeHandshake, ClientTrust, SessionTls};

/// A client whose control connection is under TLS.
pub(super) struct SecuredClient {
    pub stream: Stream,
    /// The server name that it has sent, if that is a host name.
    pub sni: Option<HostName>,
    /// The certificate that it has shown.
    pub certificate: Option<Arc<ClientIdentity>>,
}

/// Performs the handshake; `clients` tells which certificate authorities the certificate that the client may show has to come
/// from.
pub(super) async fn handshake(
    socket: TcpStream,
    tls: &SessionTls,
    clients: &ClientTrust,
    time_limit: Duration,
    info: &SessionInfo,
    events: &EventSink,
) -> Option<SecuredClient> {
    // On the heap, or the session would keep the room for it to its end.
    let accepting = Box::pin(client_handshake::accept(socket, tls.control(), Vec::new()));
    let stream = match input_timeout(time_limit, accepting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            events.write(&SessionEvent::HandshakeFailed {
                error: &error,
                certificate: tls.shown_certificate().map(|name| &**name),
                refused: tls.refused_certificate(),
            });
            return None;
        }
        Err(_) => {
            events.write(&SessionEvent::HandshakeTimedOut);
            return None;
        }
    };
    let sni = stream
        .get_ref()
        .1
        .server_name()
        .and_then(|name| HostName::parse(name.as_bytes()));
    let stream = Stream::ToClient(Box::new(stream));
    // Where no ticket takes the acknowledgement along, a client that leaves Nagle's algorithm on would keep its USER
    // back. If the connection is gone, the next read shows it.
    let _ = options::quickack(stream.socket());
    let shown = stream.client_certificates();
    let certificate = clients.identify(shown, tls.client_key(), SystemTime::now());
    let certificate = certificate.map(Arc::new);
    if let Some(certificate) = &certificate {
        info.set_certificate(Arc::clone(certificate));
    }
    if let Some(version) = stream.tls_version() {
        info.set_client_tls(version);
        events.write(&SessionEvent::Secured {
            version,
            key_exchange: stream.client_key_exchange(),
        });
    }
    Some(SecuredClient {
        stream,
        sni,
        certificate,
    })
}

impl Session {
    /// Answers AUTH and does the handshake; returns the session's end if that fails.
    pub(super) async fn start_tls(&mut self) -> Option<Ending> {
        let socket = match self.client.take()?.into_clear_socket() {
            Ok(socket) => socket,
            Err(client) => {
                let mut client = *client;
                self.events.write(&SessionEvent::ClearTextBehindAuth);
                let _ = client.send(&answer::BYTES_BEHIND_AUTH.bytes()).await;
                self.client = Some(client);
                return Some(Ending::Abuse);
            }
        };
        let mut plain = ControlConnection::with_client(Stream::Plain(socket));
        let accepted = answer::AUTH_ACCEPTED.bytes();
        tokio::select! {
            biased;
            sent = plain.send(&accepted) => if sent.is_err() {
                return Some(Ending::ClientGone);
            },
            cut = cut(&mut self.registration, &self.drain, Patience::ForClient) => return Some(cut.ending()),
        }
        // Nothing has been read since: the next bytes have to be a ClientHello.
        let Ok(socket) = plain.into_clear_socket() else {
            return Some(Ending::Abuse);
        };
        if self.tls.chooses_certificate() {
            self.tls.before_handshake(BeforeHandshake {
                site_host: self.machine.site_host().cloned(),
                proxy_host: self.machine.proxy_host().cloned(),
                now: SystemTime::now(),
            });
        }
        let time_limit = self.snapshot.runtime.settings.timeouts.tls_handshake;
        let time_limit = time_limit.min(
            self.login_deadline()
                .saturating_duration_since(Instant::now()),
        );
        let clients = &self.snapshot.clients;
        let secured = tokio::select! {
            secured = handshake(socket, &self.tls, clients, time_limit, &self.info, &self.events) => secured,
            cut = cut(&mut self.registration, &self.drain, Patience::ForClient) => return Some(cut.ending()),
        };
        let Some(secured) = secured else {
            return Some(Ending::Handshake);
        };
        self.client = Some(ControlConnection::with_client(secured.stream));
        self.pending_events.push_back(Event::Secured {
            sni: secured.sni,
            certificate: secured.certificate,
        });
        None
    }
}
