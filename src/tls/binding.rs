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
//! back from the store until [`DataTls::proof`] has seen that the handshake itself was a resumption.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::server::StoresServerSessions;
use rustls::{HandshakeKind, ServerConfig};

use super::server::ServerTls;
use super::sessions::{CONTROL_ENTRIES, Origin, OwnEntries, Owner, SessionId, Sessions};
use crate::config::SessionReuse;

/// How many TLS 1.3 tickets a data connection gives its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tickets {
    /// For uploads. The client of an upload doesn't read; when it closes with tickets unread, its kernel sends RST and
    /// the end of the file is lost (lftp: 27 uploads of 105).
    None,
    /// For downloads and listings. The client reads anyway, and clients that use each ticket once need the next.
    One,
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
    /// `None` with [`SessionReuse::Off`].
    owner: Option<Owner>,
}

impl SessionTls {
    /// Takes `tls` as it is now for the session `owner`, an id that no other session has. With [`SessionReuse::Off`]
    /// no TLS session is ever kept.
    pub fn new(
        tls: &ServerTls,
        sessions: &Arc<Sessions>,
        owner: SessionId,
        reuse: SessionReuse,
    ) -> Self {
        let owner = match reuse {
            SessionReuse::Off => None,
            SessionReuse::Prefer | SessionReuse::Require => Some(sessions.register(owner)),
        };
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

    /// For one data connection.
    pub fn data(&self, tickets: Tickets) -> DataTls {
        let mut config = self.data.clone();
        let view = self.owner.as_ref().map(|owner| {
            let view = Arc::new(DataView {
                own: owner.entries(),
                held_back: Mutex::default(),
            });
            config.session_storage = Arc::clone(&view) as Arc<dyn StoresServerSessions>;
            config.send_tls13_tickets = match tickets {
                Tickets::None => 0,
                Tickets::One => 1,
            };
            view
        });
        DataTls {
            config: Arc::new(config),
            view,
        }
    }
}

/// The client leg's TLS of one data connection. Not for a second one: what it proves would be mixed up.
#[derive(Debug)]
pub struct DataTls {
    config: Arc<ServerConfig>,
    view: Option<Arc<DataView>>,
}

impl DataTls {
    /// What to do the handshake with.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Judges the finished handshake by `ServerConnection::handshake_kind`. To be called before the next data
    /// connection of the session; without it the ticket that this connection gave out stays worthless.
    pub fn proof(self, handshake: Option<HandshakeKind>) -> Proof {
        match (handshake, self.view) {
            (Some(HandshakeKind::Resumed), Some(view)) => {
                view.release();
                Proof::SameClient
            }
            _ => Proof::Nothing,
        }
    }
}

/// Puts, never finds: a control connection doesn't resume, so that its session's entries are its own.
#[derive(Debug)]
struct ControlView(OwnEntries);

impl StoresServerSessions for ControlView {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.0.put(Origin::Control, key, value)
    }

    fn get(&self, _key: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, _key: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// Finds the entries of its own session; what is put is held back until the handshake turns out to be a resumption.
struct DataView {
    own: OwnEntries,
    /// At most the one ticket of [`Tickets::One`].
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
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.held_back
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((key, value));
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.own.get(key)
    }

    /// Leaves the entry where it is: clients present a ticket more than once, and there is no early data to replay.
    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.own.get(key)
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
            SessionTls::new(&self.tls, &self.sessions, SessionId(id), reuse)
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

    fn transfer(client: &Arc<ClientConfig>, session: &SessionTls, tickets: Tickets) -> Proof {
        let data = session.data(tickets);
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
            for tickets in [Tickets::None, Tickets::One, Tickets::None] {
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
                assert_eq!(transfer(&client, &session, Tickets::One), Proof::SameClient);
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
            let view = session.data(Tickets::None).config();
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
            assert_eq!(transfer(&thief, &one, Tickets::One), Proof::Nothing);
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
                assert_eq!(transfer(&stranger, &session, Tickets::One), Proof::Nothing);
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
    fn with_reuse_off_nothing_is_kept_and_nothing_resumes() {
        for versions in VERSIONS {
            let proxy = Proxy::new();
            let (session, client) = (proxy.session(1, SessionReuse::Off), proxy.client(versions));
            log_in(&client, &session);
            for _ in 0..2 {
                assert_eq!(transfer(&client, &session, Tickets::One), Proof::Nothing);
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
            assert_eq!(transfer(&client, &session, Tickets::One), Proof::SameClient);
            assert!(!proxy.sessions.is_empty());
            let late = session.data(Tickets::One);
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
        assert_eq!(received(session.data(Tickets::One).config()), 1);
        assert_eq!(received(session.data(Tickets::None).config()), 0);
        // Without resumption as well: a stranger's upload is just as easily cut short.
        let fresh = proxy.client(VERSIONS[1]);
        let ends = handshake(&fresh, &session.data(Tickets::None).config(), NAME).unwrap();
        assert_eq!(ends.client.tls13_tickets_received(), 0);
    }

    #[test]
    fn a_session_keeps_its_certificate_and_its_resumption_when_the_certificate_is_replaced() {
        for versions in VERSIONS {
            let authority = Authority::new("CA");
            let (old, new) = (authority.issue(&[NAME]), authority.issue(&[NAME]));
            let sessions = Arc::new(Sessions::new());
            let start = |id, identity| {
                let tls = ServerTls::new(&pair_of(identity), TlsVersion::V1_2);
                SessionTls::new(&tls, &sessions, SessionId(id), SessionReuse::Require)
            };
            let resuming = Arc::new(client(&authority, versions));
            let session = start(1, &old);
            log_in(&resuming, &session);

            assert_eq!(
                transfer(&resuming, &session, Tickets::One),
                Proof::SameClient
            );
            let shown = |config: Arc<ServerConfig>| {
                let fresh = Arc::new(client(&authority, versions));
                let ends = handshake(&fresh, &config, NAME).unwrap();
                ends.client.peer_certificates().unwrap()[0].clone()
            };
            assert_eq!(shown(session.data(Tickets::One).config()), old.chain[0]);
            assert_eq!(shown(start(2, &new).control()), new.chain[0]);
        }
    }
}
