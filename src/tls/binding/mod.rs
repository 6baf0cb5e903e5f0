//! Data connections bound to their control connection by TLS resumption.
//!
//! A TLS session that was established on a control connection can be resumed only on data connections of the same FTP
//! session. So a data connection that resumes comes from the holder of that control connection's secrets: the same
//! client, whatever its address. This holds in TLS 1.2 and 1.3 alike, where rustls' own `received_resumption_data` is
//! empty in TLS 1.2.
//!
//! A stranger must not obtain the proof: one that is accepted without it (policy `prefer`), or refused only after the
//! handshake (`require`), must not get a ticket by which it would pass for the client next time. Tickets are sent
//! within the handshake, before its result is known. Those of a data connection are therefore held back from the store
//! until [`ConnectionTls::proof`] has seen that the handshake itself was a resumption.
//!
//! A ticket is the name of an entry in the store, in TLS 1.2 (RFC 5077) as in 1.3, and holds nothing. TLS 1.2 needs them
//! beside session IDs: Go resumes by tickets alone. There, a resumption brings no new ticket, as with servers that use
//! OpenSSL: its client takes a new one for the end of the session that it has resumed (`SSL_CTX_remove_session` in
//! `tls_process_new_session_ticket`), and programs that present the control connection's session on every data connection,
//! such as PHP's and Ruby's, would resume once and never again.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::CertificateDer;
use rustls::server::{ProducesTickets, ResolvesServerCert, StoresServerSessions};
use rustls::{HandshakeKind, ServerConfig};

use super::certificate::{BeforeHandshake, OnData, SessionCertificate};
use super::client_cache::ClientCache;
use super::client_certificates::{self, KeyCheck};
use super::server::ServerTls;
use super::session_store::{
    CONTROL_ENTRIES, EstablishedOn, LoginId, Lookup, OwnEntries, Owner, Presented, SessionStore,
};
use crate::base::SessionId;
use crate::config::SessionReuse;
use crate::outcome::Resumption;
use crate::policy::{ClientIdentity, KeyProof};

/// The lifetime of tickets, in seconds. A hint to the client: the entries end with their FTP session.
const TICKET_LIFETIME: u32 = 24 * 60 * 60;

/// How many unused tickets a client should have: as many uploads in a row resume.
const STOCK: usize = CONTROL_ENTRIES;

/// How many TLS 1.3 tickets a data connection issues. In TLS 1.2 a resumption issues none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tickets {
    /// No ticket, for uploads. The client of an upload doesn't read; when it closes with tickets unread, its kernel sends RST and
    /// the end of the file is lost (lftp: 27 uploads of 105).
    None,
    /// For downloads and listings, whose client reads anyway: one, plus as many as uploads have used meanwhile. Clients
    /// that use each ticket once need them.
    Restock,
}

/// The conclusion from the handshake of a data connection about its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The handshake resumed a TLS session of this FTP session: the peer is the client of the control connection.
    SameClient,
    /// The client offered the TLS session of another live FTP session, with which this session's client shares no cache: the
    /// connection is another client's.
    OtherSession,
    /// The handshake was a full one without the certificate of the control connection, where it had to show that: the connection
    /// is another client's.
    OtherCertificate,
    /// The handshake was a full one, which any client can do.
    None,
}

/// The client leg's TLS of one FTP session: the certificate and the settings with which it began, and the TLS sessions
/// that its data connections may resume. They are removed when it is dropped.
#[derive(Debug)]
pub struct SessionTls {
    control: Arc<ServerConfig>,
    /// `None` if the client is asked for no certificate.
    client_key: Option<Arc<KeyCheck>>,
    /// The configuration that each data connection gets a copy of.
    data: ServerConfig,
    /// The configuration for data connections that have to show a certificate; each gets a copy.
    asking_data: Option<ServerConfig>,
    /// `None` if no TLS session is kept.
    kept: Option<Kept>,
    /// `None` if there is only one certificate.
    certificate: Option<Arc<SessionCertificate>>,
}

/// The TLS sessions that are kept of one FTP session.
#[derive(Debug)]
struct Kept {
    owner: Owner,
    /// The control connection's view of the store, which stores its tickets.
    control: Arc<ControlView>,
}

impl SessionTls {
    /// Takes `tls` as it is now for the session `owner`, an id that no other session has. Its TLS sessions are kept in
    /// `sessions`, or nowhere.
    pub fn new(tls: &ServerTls, sessions: Option<&Arc<SessionStore>>, owner: SessionId) -> Self {
        let (mut control, client_key) = match tls.asking_control() {
            None => (tls.control.clone(), None),
            Some((control, key)) => (control, Some(key)),
        };
        let kept = sessions.map(|sessions| {
            let owner = sessions.register(owner);
            let view = Arc::new(ControlView {
                own: owner.entries(),
                has_id: AtomicBool::new(false),
            });
            control.session_storage = Arc::clone(&view) as Arc<dyn StoresServerSessions>;
            control.ticketer = Arc::clone(&view) as Arc<dyn ProducesTickets>;
            // Four instead of rustls' two: curl and Java use each TLS 1.3 ticket once, and uploads bring no new ones.
            control.send_tls13_tickets = CONTROL_ENTRIES;
            Kept {
                owner,
                control: view,
            }
        });
        let mut data = tls.data.clone();
        let mut asking_data = tls.asking_data.clone();
        let certificate = tls.certificates.has_choice().then(|| {
            let chosen = SessionCertificate::new(Arc::clone(&tls.certificates));
            let chosen = Arc::new(chosen);
            control.cert_resolver = Arc::clone(&chosen) as Arc<dyn ResolvesServerCert>;
            for data in asking_data.iter_mut().chain([&mut data]) {
                data.cert_resolver = Arc::new(OnData(Arc::clone(&chosen)));
            }
            chosen
        });
        Self {
            control: Arc::new(control),
            client_key,
            data,
            asking_data,
            kept,
            certificate,
        }
    }

    /// Whether the certificate is chosen by name, so that [`before_handshake`](Self::before_handshake) matters.
    pub fn chooses_certificate(&self) -> bool {
        self.certificate.is_some()
    }

    /// Says what the certificate is chosen by beside the ClientHello, before the handshake of the control connection.
    pub fn before_handshake(&self, before: BeforeHandshake) {
        if let Some(certificate) = &self.certificate {
            certificate.expect(before);
        }
    }

    /// The name of the certificate that the client was shown, where there are several.
    pub fn shown_certificate(&self) -> Option<&Arc<str>> {
        self.certificate.as_ref()?.name()
    }

    /// For the control connection, which always does a full handshake.
    pub fn control(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.control)
    }

    /// The certificate of the client that the handshake of the control connection has failed for, if it has for one.
    pub fn refused_certificate(&self) -> Option<&ClientIdentity> {
        self.client_key.as_ref()?.refused()
    }

    /// The result of the control connection's handshake for the key of the certificate that the client has shown.
    pub fn client_key(&self) -> KeyProof {
        self.client_key
            .as_ref()
            .map_or(KeyProof::Verified, |key| key.proof())
    }

    /// The TLS of the data connections of one transfer, at a site with this policy.
    pub fn data(&self, reuse: SessionReuse, tickets: Tickets) -> DataTls {
        self.data_of(self.data.clone(), reuse, tickets)
    }

    /// As [`data`](Self::data), where a full handshake has to show the certificate of this fingerprint, as the control connection
    /// has.
    pub fn data_showing(
        &self,
        certificate: [u8; 32],
        reuse: SessionReuse,
        tickets: Tickets,
    ) -> DataTls {
        let config = self.asking_data.as_ref().unwrap_or(&self.data);
        DataTls {
            certificate: Some(certificate),
            ..self.data_of(config.clone(), reuse, tickets)
        }
    }

    fn data_of(&self, mut config: ServerConfig, reuse: SessionReuse, tickets: Tickets) -> DataTls {
        let kept = match reuse {
            SessionReuse::Off => None,
            SessionReuse::Prefer | SessionReuse::Require => self.kept.as_ref(),
        };
        if kept.is_some() {
            config.send_tls13_tickets = match tickets {
                Tickets::None => 0,
                Tickets::Restock => STOCK,
            };
        }
        DataTls {
            config,
            own: kept.map(|kept| kept.owner.entries()),
            reuse,
            certificate: None,
            is_tls_1_2: kept.is_some_and(|kept| kept.control.has_id.load(Ordering::Relaxed)),
        }
    }

    /// Records that a login has succeeded: data connections that name this FTP session belong to this account.
    pub fn logged_in(&self, account: LoginId) {
        if let Some(kept) = &self.kept {
            kept.owner.logged_in(account);
        }
    }

    /// The cache in which the client keeps its TLS sessions, as far as it is known; `None` if none are kept.
    pub fn client_cache(&self) -> Option<ClientCache> {
        self.kept.as_ref()?.owner.client_cache()
    }

    /// The client has named nothing on a data connection that was to resume: it isn't relied upon until it has again.
    pub fn not_resumed(&self) {
        if let Some(kept) = &self.kept {
            kept.owner.not_resumed();
        }
    }

    /// How far the client's data connections have resumed; `None` before the first that could.
    pub fn resumption(&self) -> Option<Resumption> {
        self.kept.as_ref()?.owner.resumption()
    }

    /// Whether the client's next data connection can be relied upon to resume this FTP session and no other.
    pub fn will_identify_itself(&self) -> bool {
        self.kept
            .as_ref()
            .is_some_and(|kept| kept.owner.will_identify_itself())
    }
}

/// The client leg's TLS of one transfer. More connections than one may be tried for it: the first ones may be strangers'.
#[derive(Debug)]
pub struct DataTls {
    config: ServerConfig,
    own: Option<OwnEntries>,
    reuse: SessionReuse,
    /// The fingerprint of the certificate that a full handshake has to show.
    certificate: Option<[u8; 32]>,
    /// The session to resume is of this version.
    is_tls_1_2: bool,
}

impl DataTls {
    /// The TLS for the handshake of one connection.
    pub fn connection(&self) -> ConnectionTls {
        let mut config = self.config.clone();
        let view = self.own.as_ref().map(|own| {
            let view = Arc::new(DataView {
                own: own.clone(),
                held_back: Mutex::default(),
                withholds_tickets: AtomicBool::new(false),
                offered_foreign: AtomicBool::new(false),
                is_tls_1_2: self.is_tls_1_2,
                found: AtomicBool::new(false),
            });
            config.session_storage = Arc::clone(&view) as Arc<dyn StoresServerSessions>;
            config.ticketer = Arc::clone(&view) as Arc<dyn ProducesTickets>;
            view
        });
        ConnectionTls {
            config: Arc::new(config),
            view,
            certificate: self.certificate,
        }
    }

    /// Whether a connection that proves this much may carry the transfer.
    pub fn accepts(&self, proof: Proof) -> bool {
        match proof {
            Proof::SameClient => true,
            Proof::OtherCertificate => false,
            Proof::OtherSession | Proof::None => self.reuse != SessionReuse::Require,
        }
    }

    /// Whether only the right client's connection is accepted, so that a wrong one says nothing about it.
    pub fn demands_proof(&self) -> bool {
        self.reuse == SessionReuse::Require
    }
}

/// The client leg's TLS of one data connection. Not for a second one: what it proves would be mixed up.
#[derive(Debug)]
pub struct ConnectionTls {
    config: Arc<ServerConfig>,
    view: Option<Arc<DataView>>,
    certificate: Option<[u8; 32]>,
}

impl ConnectionTls {
    /// The configuration for the handshake.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Withholds all tickets from the client: the transfer has turned out to be an upload, see [`Tickets::None`].
    pub fn withhold_tickets(&self) {
        if let Some(view) = &self.view {
            view.withholds_tickets.store(true, Ordering::Relaxed);
        }
    }

    /// Judges the finished handshake by `ServerConnection::handshake_kind` and `peer_certificates`. To be called before the
    /// next data connection of the session; without it the ticket that this connection gave out stays worthless.
    pub fn proof(self, handshake: Option<HandshakeKind>, shown: &[CertificateDer<'_>]) -> Proof {
        let shows_own = |own| client_certificates::shown_by(shown) == Some(own);
        match (handshake, self.view) {
            (Some(HandshakeKind::Resumed), Some(view)) => {
                view.own.proven();
                view.release();
                Proof::SameClient
            }
            (_, Some(view)) if view.offered_foreign.load(Ordering::Relaxed) => Proof::OtherSession,
            // That says nothing of the session's own client.
            _ if !self.certificate.is_none_or(shows_own) => Proof::OtherCertificate,
            (_, Some(view)) => {
                view.own.not_resumed();
                Proof::None
            }
            (_, None) => Proof::None,
        }
    }
}

/// Stores, never finds: a control connection doesn't resume, so that its session's entries are its own. Lookups are
/// only recorded.
#[derive(Debug)]
struct ControlView {
    own: OwnEntries,
    /// The control connection has got a session ID: only in TLS 1.2 is one kept.
    has_id: AtomicBool,
}

impl StoresServerSessions for ControlView {
    /// Asked in TLS 1.2 only: the sessions of TLS 1.3 go by [`ProducesTickets`].
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.has_id.store(true, Ordering::Relaxed);
        self.own.put(EstablishedOn::Control, key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.own.requested_by_control(key);
        None
    }

    /// Never asked: tickets go by [`ProducesTickets`].
    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.get(key)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl ProducesTickets for ControlView {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        TICKET_LIFETIME
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let name = new_name()?;
        let kept = self
            .own
            .put(EstablishedOn::Control, name.clone(), plain.to_vec());
        kept.then_some(name)
    }

    fn decrypt(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.get(name)
    }
}

/// Finds the entries of its own session; what is put is held back until the handshake turns out to be a resumption.
struct DataView {
    own: OwnEntries,
    /// The tickets held back, at most [`STOCK`].
    held_back: Mutex<Vec<(Vec<u8>, Vec<u8>)>>,
    withholds_tickets: AtomicBool,
    offered_foreign: AtomicBool,
    is_tls_1_2: bool,
    /// The client has presented an entry of its own session.
    found: AtomicBool,
}

impl DataView {
    fn held_back(&self) -> MutexGuard<'_, Vec<(Vec<u8>, Vec<u8>)>> {
        self.held_back
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &[u8], presented: Presented) -> Option<Vec<u8>> {
        match self.own.get(key, presented) {
            Lookup::Own(value) => {
                self.found.store(true, Ordering::Relaxed);
                Some(value)
            }
            Lookup::Foreign => {
                self.offered_foreign.store(true, Ordering::Relaxed);
                None
            }
            Lookup::Missing => None,
        }
    }

    fn release(&self) {
        let tickets = std::mem::take(&mut *self.held_back());
        for (name, value) in tickets {
            self.own.put(EstablishedOn::Data, name, value);
        }
    }
}

/// The session IDs of TLS 1.2.
impl StoresServerSessions for DataView {
    /// Never asked: see [`StoresServerSessions::can_cache`] below.
    fn put(&self, _key: Vec<u8>, _value: Vec<u8>) -> bool {
        false
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.find(key, Presented::Id)
    }

    /// Never asked: tickets go by [`ProducesTickets`].
    fn take(&self, _key: &[u8]) -> Option<Vec<u8>> {
        None
    }

    /// Asked only before a full handshake in TLS 1.2, whose session would prove nothing.
    fn can_cache(&self) -> bool {
        false
    }
}

impl ProducesTickets for DataView {
    /// In TLS 1.2 asked once, behind [`Self::decrypt`]: whether the client gets a ticket.
    fn enabled(&self) -> bool {
        !(self.is_tls_1_2 && self.found.load(Ordering::Relaxed))
    }

    fn lifetime(&self) -> u32 {
        TICKET_LIFETIME
    }

    /// Makes one ticket, and more while the client has few: TLS 1.3 asks for [`STOCK`] of them, and sends those that it gets.
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        if self.withholds_tickets.load(Ordering::Relaxed) {
            return None;
        }
        let mut held_back = self.held_back();
        let wanted = held_back.is_empty() || self.own.unused() + held_back.len() < STOCK;
        if !wanted {
            return None;
        }
        let name = new_name()?;
        held_back.push((name.clone(), plain.to_vec()));
        Some(name)
    }

    /// Leaves the entry where it is: clients present a ticket more than once, and there is no early data to replay.
    fn decrypt(&self, name: &[u8]) -> Option<Vec<u8>> {
        let presented = match self.is_tls_1_2 {
            true => Presented::Id,
            false => Presented::Ticket,
        };
        self.find(name, presented)
    }
}

/// An unguessable name for a ticket; `None` if there is no randomness.
fn new_name() -> Option<Vec<u8>> {
    let mut name = vec![0; 32];
    super::provider().secure_random.fill(&mut name).ok()?;
    Some(name)
}

impl fmt::Debug for DataView {
    /// Without what is held back, which is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DataView").field(&self.own).finish()
    }
}
