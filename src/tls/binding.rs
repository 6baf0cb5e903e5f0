//! Data connections bound to their control connection by TLS resumption.
//!
//! A TLS session that was established on a control connection can be resumed only on data connections of the same FTP
//! session. So a data connection that resumes comes from whoever holds the secrets of that control connection: the
//! same client, whatever address it comes from. This holds in TLS 1.2 and 1.3 alike, where rustls' own
//! `received_resumption_data` is empty in TLS 1.2.
//!
//! The proof must not be for sale: a stranger who is let in without it (policy `prefer`), or who is turned away only
//! after the handshake (`require`), must not leave with a ticket that proves him to be the client next time. TLS 1.3
//! tickets go out within the handshake, before anybody can look at it. Those of a data connection are therefore held
//! back from the store until [`ConnectionTls::proof`] has seen that the handshake itself was a resumption.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::server::StoresServerSessions;
use rustls::{HandshakeKind, ServerConfig};

use super::server::ServerTls;
use super::sessions::{CONTROL_ENTRIES, Origin, OwnEntries, Owner, Presented, SessionId, Sessions};
use crate::config::SessionReuse;

/// How many TLS 1.3 tickets a data connection gives its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tickets {
    /// For uploads. The client of an upload doesn't read; when it closes with tickets unread, its kernel sends RST and
    /// the end of the file is lost (lftp: 27 uploads of 105).
    None,
    /// For downloads and listings, whose client reads anyway: one, and as many as uploads have used up meanwhile. Clients
    /// that use each ticket once need them.
    Restock,
}

/// What the handshake of a data connection says about its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It resumed a TLS session of this FTP session: it is the client of the control connection.
    SameClient,
    /// It was a full handshake, which anybody can do.
    Nothing,
}

/// The client leg's TLS of one FTP session: the certificate and the settings with which it began, and the TLS sessions
/// that its data connections may resume. They are forgotten when it is dropped.
#[derive(Debug)]
pub struct SessionTls {
    control: Arc<ServerConfig>,
    /// What each data connection's configuration is a copy of.
    data: ServerConfig,
    /// `None` if no TLS session is kept.
    owner: Option<Owner>,
}

impl SessionTls {
    /// Takes `tls` as it is now for the session `owner`, an id that no other session has. Which site it will be for isn't
    /// known yet, so TLS sessions are kept if `any_site_reuses` them.
    pub fn new(
        tls: &ServerTls,
        sessions: &Arc<Sessions>,
        owner: SessionId,
        any_site_reuses: bool,
    ) -> Self {
        let owner = any_site_reuses.then(|| sessions.register(owner));
        let mut control = tls.control.clone();
        if let Some(owner) = &owner {
            control.session_storage = Arc::new(ControlView(owner.entries()));
            // Four instead of rustls' two: curl and Java use each TLS 1.3 ticket once, and uploads bring no new ones.
            control.send_tls13_tickets = CONTROL_ENTRIES;
        }
        Self {
            control: Arc::new(control),
            data: tls.data.clone(),
            owner,
        }
    }

    /// For the control connection, which always does a full handshake.
    pub fn control(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.control)
    }

    /// For one transfer of a site with this policy.
    pub fn data(&self, reuse: SessionReuse, tickets: Tickets) -> DataTls {
        let mut config = self.data.clone();
        let own = match reuse {
            SessionReuse::Off => None,
            SessionReuse::Prefer | SessionReuse::Require => self.owner.as_ref(),
        };
        if own.is_some() {
            config.send_tls13_tickets = match tickets {
                Tickets::None => 0,
                Tickets::Restock => STOCK,
            };
        }
        DataTls {
            config,
            own: own.map(Owner::entries),
            reuse,
        }
    }

    /// Whether the client's next data connection can be relied upon to resume this FTP session and no other.
    pub fn is_named_by_its_client(&self) -> bool {
        self.owner
            .as_ref()
            .is_some_and(Owner::is_named_by_its_client)
    }
}

/// The client leg's TLS of one transfer. More connections than one may be tried for it: the first ones may be strangers'.
#[derive(Debug)]
pub struct DataTls {
    config: ServerConfig,
    own: Option<OwnEntries>,
    reuse: SessionReuse,
}

impl DataTls {
    /// For the handshake of one connection.
    pub fn connection(&self) -> ConnectionTls {
        let mut config = self.config.clone();
        let view = self.own.as_ref().map(|own| {
            let view = Arc::new(DataView {
                own: own.clone(),
                held_back: Mutex::default(),
            });
            config.session_storage = Arc::clone(&view) as Arc<dyn StoresServerSessions>;
            view
        });
        ConnectionTls {
            config: Arc::new(config),
            view,
        }
    }

    /// Whether a connection that proves this much may carry the transfer.
    pub fn accepts(&self, proof: Proof) -> bool {
        proof == Proof::SameClient || self.reuse != SessionReuse::Require
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
}

impl ConnectionTls {
    /// What to do the handshake with.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Judges the finished handshake by `ServerConnection::handshake_kind`. To be called before the next data
    /// connection of the session; without it the ticket that this connection gave out stays worthless.
    pub fn proof(self, handshake: Option<HandshakeKind>) -> Proof {
        match (handshake, self.view) {
            (Some(HandshakeKind::Resumed), Some(view)) => {
                view.own.proven();
                view.release();
                Proof::SameClient
            }
            _ => Proof::Nothing,
        }
    }
}

/// Puts, never finds: a control connection doesn't resume, so that its session's entries are its own. Only that somebody
/// asked is of interest.
#[derive(Debug)]
struct ControlView(OwnEntries);

impl StoresServerSessions for ControlView {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.0.put(Origin::Control, key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.asked_by_control(key);
        None
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.asked_by_control(key);
        None
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// Finds the entries of its own session; what is put is held back until the handshake turns out to be a resumption.
struct DataView {
    own: OwnEntries,
    /// At most [`STOCK`] tickets.
    held_back: Mutex<Vec<(Vec<u8>, Vec<u8>)>>,
}

impl DataView {
    fn release(&self) {
        let tickets = std::mem::take(
            &mut *self
                .held_back
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for (key, value) in tickets {
            self.own.put(Origin::Data, key, value);
        }
    }
}

impl StoresServerSessions for DataView {
    /// rustls sends no ticket that isn't kept.
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let mut held_back = self
            .held_back
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let wanted = held_back.is_empty() || self.own.unused() + held_back.len() < STOCK;
        if wanted {
            held_back.push((key, value));
        }
        wanted
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.own.get(key, Presented::Id)
    }

    /// Leaves the entry where it is: clients present a ticket more than once, and there is no early data to replay.
    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.own.get(key, Presented::Ticket)
    }

    /// Asked only before a full handshake in TLS 1.2, whose session would prove nothing.
    fn can_cache(&self) -> bool {
        false
    }
}

impl fmt::Debug for DataView {
    /// Without what is held back, which is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DataView").field(&self.own).finish()
    }
}

/// How many unused tickets a client should have: as many uploads in a row resume.
const STOCK: usize = CONTROL_ENTRIES;

#[cfg(test)]
mod tests {
    use rustls::ClientConfig;

    use super::*;
    use crate::config::TlsVersion;
    use crate::tls::fixtures::{Authority, VERSIONS, client, handshake, pair_of};

    const NAME: &str = "ftp.test";

    struct Proxy {
        authority: Authority,
        tls: ServerTls,
        sessions: Arc<Sessions>,
    }

    impl Proxy {
        fn new() -> Self {
            let authority = Authority::new("CA");
            let pair = pair_of(&authority.issue(&[NAME]));
            Self {
                tls: ServerTls::new(&pair, TlsVersion::V1_2),
                authority,
                sessions: Arc::new(Sessions::new()),
            }
        }

        fn session(&self, id: u64, reuse: SessionReuse) -> SessionTls {
            SessionTls::new(
                &self.tls,
                &self.sessions,
                SessionId(id),
                reuse != SessionReuse::Off,
            )
        }

        fn client(
            &self,
            versions: &[&'static rustls::SupportedProtocolVersion],
        ) -> Arc<ClientConfig> {
            Arc::new(client(&self.authority, versions))
        }
    }

    fn log_in(client: &Arc<ClientConfig>, session: &SessionTls) {
        let ends = handshake(client, &session.control(), NAME).unwrap();
        assert_eq!(ends.server.handshake_kind(), Some(HandshakeKind::Full));
    }

    fn connection(session: &SessionTls, tickets: Tickets) -> ConnectionTls {
        session.data(SessionReuse::Prefer, tickets).connection()
    }

    fn transfer(client: &Arc<ClientConfig>, session: &SessionTls, tickets: Tickets) -> Proof {
        let data = connection(session, tickets);
        let ends = handshake(client, &data.config(), NAME).unwrap();
        data.proof(ends.server.handshake_kind())
    }

    #[test]
    fn data_connections_of_the_own_session_resume() {
        for versions in VERSIONS {
            let proxy = Proxy::new();
            let (session, client) = (
                proxy.session(1, SessionReuse::Require),
                proxy.client(versions),
            );
            log_in(&client, &session);
            for tickets in [Tickets::None, Tickets::Restock, Tickets::None] {
                assert_eq!(transfer(&client, &session, tickets), Proof::SameClient);
            }
        }
    }

    #[test]
    fn downloads_resume_for_ever() {
        for versions in VERSIONS {
            let proxy = Proxy::new();
            let (session, client) = (
                proxy.session(1, SessionReuse::Prefer),
                proxy.client(versions),
            );
            log_in(&client, &session);
            for _ in 0..40 {
                assert_eq!(
                    transfer(&client, &session, Tickets::Restock),
                    Proof::SameClient
                );
            }
        }
    }

    /// A clock that is put forward and back by seconds.
    #[derive(Debug, Default)]
    struct Clock(std::sync::atomic::AtomicU64);

    impl rustls::time_provider::TimeProvider for Clock {
        fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
            let seconds = self.0.load(std::sync::atomic::Ordering::Relaxed);
            let since_1970 = std::time::Duration::from_secs(seconds);
            Some(rustls::pki_types::UnixTime::since_unix_epoch(since_1970))
        }
    }

    #[test]
    fn a_session_resumes_whatever_the_servers_clock_does() {
        const DAY: u64 = 86_400;
        const NOW: u64 = 20_000 * DAY;
        for versions in VERSIONS {
            let mut proxy = Proxy::new();
            let clock = Arc::new(Clock::default());
            proxy.tls.control.time_provider = Arc::clone(&clock) as _;
            proxy.tls.data.time_provider = Arc::clone(&clock) as _;
            let (session, client) = (
                proxy.session(1, SessionReuse::Require),
                proxy.client(versions),
            );
            let set = |seconds| clock.0.store(seconds, std::sync::atomic::Ordering::Relaxed);
            set(NOW);
            log_in(&client, &session);
            for time in [NOW + DAY * 400, NOW - 3_600, 0, NOW, u64::from(u32::MAX)] {
                set(time);
                for tickets in [Tickets::Restock, Tickets::None] {
                    let proof = transfer(&client, &session, tickets);
                    assert_eq!(proof, Proof::SameClient, "{versions:?} at {time}");
                }
            }
        }
    }

    #[test]
    fn a_ticket_presented_again_and_again_resumes_each_time() {
        let proxy = Proxy::new();
        let session = proxy.session(1, SessionReuse::Prefer);
        assert!(
            session
                .control
                .session_storage
                .put(b"ticket".to_vec(), b"secret".to_vec())
        );
        for _ in 0..3 {
            let view = connection(&session, Tickets::None).config();
            assert_eq!(view.session_storage.take(b"ticket").unwrap(), b"secret");
        }
    }

    #[test]
    fn another_sessions_ticket_gives_a_full_handshake() {
        for versions in VERSIONS {
            let proxy = Proxy::new();
            let (one, other) = (
                proxy.session(1, SessionReuse::Prefer),
                proxy.session(2, SessionReuse::Prefer),
            );
            let thief = proxy.client(versions);
            log_in(&proxy.client(versions), &one);
            log_in(&thief, &other);
            assert_eq!(transfer(&thief, &one, Tickets::Restock), Proof::Nothing);
        }
    }

    #[test]
    fn a_full_handshake_on_a_data_connection_buys_no_ticket_that_proves_anything() {
        for versions in VERSIONS {
            let proxy = Proxy::new();
            let session = proxy.session(1, SessionReuse::Require);
            log_in(&proxy.client(versions), &session);
            let kept = proxy.sessions.len();
            let stranger = proxy.client(versions);
            for _ in 0..3 {
                assert_eq!(
                    transfer(&stranger, &session, Tickets::Restock),
                    Proof::Nothing
                );
            }
            assert_eq!(proxy.sessions.len(), kept);
        }
    }

    #[test]
    fn a_control_connection_never_resumes() {
        for versions in VERSIONS {
            let proxy = Proxy::new();
            let client = proxy.client(versions);
            let session = proxy.session(1, SessionReuse::Prefer);
            log_in(&client, &session);
            log_in(&client, &session);
            log_in(&client, &proxy.session(2, SessionReuse::Prefer));
        }
    }

    #[test]
    fn a_site_without_reuse_resumes_nothing_though_others_do() {
        for versions in VERSIONS {
            let proxy = Proxy::new();
            let (session, client) = (
                proxy.session(1, SessionReuse::Prefer),
                proxy.client(versions),
            );
            log_in(&client, &session);
            let data = session
                .data(SessionReuse::Off, Tickets::Restock)
                .connection();
            let ends = handshake(&client, &data.config(), NAME).unwrap();
            assert_eq!(ends.client.tls13_tickets_received(), 0);
            assert_eq!(data.proof(ends.server.handshake_kind()), Proof::Nothing);
        }
    }

    #[test]
    fn only_require_demands_a_proof() {
        let proxy = Proxy::new();
        let session = proxy.session(1, SessionReuse::Require);
        for (reuse, accepts_nothing) in [
            (SessionReuse::Off, true),
            (SessionReuse::Prefer, true),
            (SessionReuse::Require, false),
        ] {
            let data = session.data(reuse, Tickets::Restock);
            assert_eq!(data.accepts(Proof::Nothing), accepts_nothing);
            assert!(data.accepts(Proof::SameClient));
        }
    }

    #[test]
    fn a_client_is_relied_upon_once_it_has_resumed_and_as_long_as_it_can_again() {
        for versions in VERSIONS {
            let proxy = Proxy::new();
            let (session, client) = (
                proxy.session(1, SessionReuse::Prefer),
                proxy.client(versions),
            );
            log_in(&client, &session);
            assert!(!session.is_named_by_its_client(), "it never has so far");
            transfer(&client, &session, Tickets::Restock);
            assert!(session.is_named_by_its_client());
            if versions == VERSIONS[0] {
                transfer(&client, &session, Tickets::None);
                assert!(session.is_named_by_its_client(), "an id is good for ever");
                continue;
            }
            // rustls uses each ticket of TLS 1.3 once, the latest first: one of the download, three of the control
            // connection, and uploads bring no more. That it keeps older ones is not known before it has used one.
            for (relied_upon, proof) in [
                (true, Proof::SameClient),
                (false, Proof::SameClient),
                (true, Proof::SameClient),
                (true, Proof::SameClient),
                (false, Proof::Nothing),
            ] {
                assert_eq!(session.is_named_by_its_client(), relied_upon);
                assert_eq!(transfer(&client, &session, Tickets::None), proof);
            }
        }
    }

    #[test]
    fn clients_that_mix_up_their_sessions_are_not_relied_upon() {
        for versions in VERSIONS {
            let proxy = Proxy::new();
            let (one, other) = (
                proxy.session(1, SessionReuse::Prefer),
                proxy.session(2, SessionReuse::Prefer),
            );
            // One store for both, as in one process of rclone; the second control connection shows it.
            let client = proxy.client(versions);
            log_in(&client, &one);
            assert_eq!(transfer(&client, &one, Tickets::Restock), Proof::SameClient);
            assert!(one.is_named_by_its_client());
            log_in(&client, &other);
            assert!(!one.is_named_by_its_client());
            transfer(&client, &other, Tickets::Restock);
            assert!(!other.is_named_by_its_client());
        }
    }

    #[test]
    fn with_reuse_off_nothing_is_kept_and_nothing_resumes() {
        for versions in VERSIONS {
            let proxy = Proxy::new();
            let (session, client) = (proxy.session(1, SessionReuse::Off), proxy.client(versions));
            log_in(&client, &session);
            for _ in 0..2 {
                assert_eq!(
                    transfer(&client, &session, Tickets::Restock),
                    Proof::Nothing
                );
            }
            assert!(proxy.sessions.is_empty());
            let ends = handshake(&client, &session.control(), NAME).unwrap();
            assert_eq!(ends.client.tls13_tickets_received(), 0);
        }
    }

    #[test]
    fn nothing_remains_of_a_session_that_ended() {
        for versions in VERSIONS {
            let proxy = Proxy::new();
            let (session, client) = (
                proxy.session(1, SessionReuse::Prefer),
                proxy.client(versions),
            );
            log_in(&client, &session);
            assert_eq!(
                transfer(&client, &session, Tickets::Restock),
                Proof::SameClient
            );
            assert!(!proxy.sessions.is_empty());
            let late = connection(&session, Tickets::Restock);
            drop(session);
            assert!(proxy.sessions.is_empty());
            let ends = handshake(&client, &late.config(), NAME).unwrap();
            assert_eq!(late.proof(ends.server.handshake_kind()), Proof::Nothing);
            assert!(proxy.sessions.is_empty());
        }
    }

    #[test]
    fn tickets_go_out_on_control_connections_and_downloads_but_never_on_uploads() {
        let proxy = Proxy::new();
        let client = proxy.client(VERSIONS[1]);
        let session = proxy.session(1, SessionReuse::Prefer);
        let received = |config| {
            handshake(&client, &config, NAME)
                .unwrap()
                .client
                .tls13_tickets_received()
        };
        assert_eq!(received(session.control()), 4);
        assert_eq!(received(connection(&session, Tickets::Restock).config()), 1);
        assert_eq!(received(connection(&session, Tickets::None).config()), 0);
        // Without resumption as well: a stranger's upload is just as easily cut short.
        let fresh = proxy.client(VERSIONS[1]);
        let ends = handshake(&fresh, &connection(&session, Tickets::None).config(), NAME).unwrap();
        assert_eq!(ends.client.tls13_tickets_received(), 0);
    }

    #[test]
    fn a_download_restocks_what_uploads_have_used_up() {
        let proxy = Proxy::new();
        let client = proxy.client(VERSIONS[1]);
        let session = proxy.session(1, SessionReuse::Require);
        log_in(&client, &session);
        for _ in 0..5 {
            for tickets in [
                Tickets::None,
                Tickets::None,
                Tickets::None,
                Tickets::Restock,
            ] {
                assert_eq!(transfer(&client, &session, tickets), Proof::SameClient);
            }
        }
    }

    #[test]
    fn a_session_keeps_its_certificate_and_its_resumption_when_the_certificate_is_replaced() {
        for versions in VERSIONS {
            let authority = Authority::new("CA");
            let (old, new) = (authority.issue(&[NAME]), authority.issue(&[NAME]));
            let sessions = Arc::new(Sessions::new());
            let start = |id, identity| {
                let tls = ServerTls::new(&pair_of(identity), TlsVersion::V1_2);
                SessionTls::new(&tls, &sessions, SessionId(id), true)
            };
            let resuming = Arc::new(client(&authority, versions));
            let session = start(1, &old);
            log_in(&resuming, &session);

            assert_eq!(
                transfer(&resuming, &session, Tickets::Restock),
                Proof::SameClient
            );
            let shown = |config: Arc<ServerConfig>| {
                let fresh = Arc::new(client(&authority, versions));
                let ends = handshake(&fresh, &config, NAME).unwrap();
                ends.client.peer_certificates().unwrap()[0].clone()
            };
            assert_eq!(
                shown(connection(&session, Tickets::Restock).config()),
                old.chain[0]
            );
            assert_eq!(shown(start(2, &new).control()), new.chain[0]);
        }
    }
}
