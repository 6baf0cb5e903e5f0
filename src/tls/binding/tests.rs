//! Tests of which client may resume which TLS session, in handshakes in memory.

use rustls::client::{Resumption, Tls12Resumption};
use rustls::{ClientConfig, SupportedProtocolVersion};

use super::*;
use crate::config::TlsVersion;
use crate::tls::client_certificates::ClientTrust;
use crate::tls::fixtures::{Authority, VERSIONS, client, client_showing, handshake, set_of};

const NAME: &str = "ftp.test";

struct Proxy {
    authority: Authority,
    tls: ServerTls,
    sessions: Arc<SessionStore>,
}

impl Proxy {
    fn new() -> Self {
        let authority = Authority::new("CA");
        let certificates = set_of(&authority.issue(&[NAME]));
        Self {
            tls: ServerTls::new(certificates, TlsVersion::V1_2),
            authority,
            sessions: Arc::new(SessionStore::new()),
        }
    }

    fn session(&self, id: u64, reuse: SessionReuse) -> SessionTls {
        let sessions = (reuse != SessionReuse::Off).then_some(&self.sessions);
        SessionTls::new(&self.tls, sessions, SessionId(id))
    }

    fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        Arc::new(client(&self.authority, versions))
    }

    /// Session 1, and the client that has logged in on it.
    fn logged_in(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        reuse: SessionReuse,
    ) -> (SessionTls, Arc<ClientConfig>) {
        let (session, client) = (self.session(1, reuse), self.client(versions));
        log_in(&client, &session);
        (session, client)
    }
}

fn log_in(client: &Arc<ClientConfig>, session: &SessionTls) {
    log_in_as(b"alice", client, session);
}

fn log_in_as(user: &[u8], client: &Arc<ClientConfig>, session: &SessionTls) {
    let ends = handshake(client, &session.control(), NAME).unwrap();
    assert_eq!(ends.server.handshake_kind(), Some(HandshakeKind::Full));
    session.logged_in(LoginId::of(None, user));
}

fn connection(session: &SessionTls, tickets: Tickets) -> ConnectionTls {
    session.data(SessionReuse::Prefer, tickets).connection()
}

fn transfer(client: &Arc<ClientConfig>, session: &SessionTls, tickets: Tickets) -> Proof {
    let data = connection(session, tickets);
    let ends = handshake(client, &data.config(), NAME).unwrap();
    data.proof(ends.server.handshake_kind(), &[])
}

#[test]
fn data_connections_of_the_own_session_resume() {
    for versions in VERSIONS {
        let proxy = Proxy::new();
        let (session, client) = proxy.logged_in(versions, SessionReuse::Require);
        for tickets in [Tickets::None, Tickets::Restock, Tickets::None] {
            assert_eq!(transfer(&client, &session, tickets), Proof::SameClient);
        }
    }
}

#[test]
fn downloads_resume_for_ever() {
    for versions in VERSIONS {
        let proxy = Proxy::new();
        let (session, client) = proxy.logged_in(versions, SessionReuse::Prefer);
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
    let ticket = session.control.ticketer.encrypt(b"secret").unwrap();
    for _ in 0..3 {
        let view = connection(&session, Tickets::None).config();
        assert_eq!(view.ticketer.decrypt(&ticket).unwrap(), b"secret");
    }
}

/// To OpenSSL's client a new one is the end of the session that it has resumed.
#[test]
fn a_resumption_in_tls_1_2_brings_no_new_ticket() {
    for how in [
        Tls12Resumption::SessionIdOrTickets,
        Tls12Resumption::SessionIdOnly,
    ] {
        let proxy = Proxy::new();
        let session = proxy.session(1, SessionReuse::Require);
        let mut client = client(&proxy.authority, VERSIONS[0]);
        client.resumption = Resumption::default().tls12_resumption(how);
        let client = Arc::new(client);
        log_in(&client, &session);
        for tickets in [Tickets::None, Tickets::Restock, Tickets::Restock] {
            let data = connection(&session, tickets);
            let ends = handshake(&client, &data.config(), NAME).unwrap();
            assert!(data.view.as_ref().unwrap().held_back().is_empty());
            let proof = data.proof(ends.server.handshake_kind(), &[]);
            assert_eq!(proof, Proof::SameClient);
        }
    }
}

#[test]
fn a_ticket_tells_nothing_of_the_session_that_it_names() {
    let proxy = Proxy::new();
    let session = proxy.session(1, SessionReuse::Prefer);
    let data = connection(&session, Tickets::Restock).config();
    for config in [session.control(), data] {
        let tickets = [(); 2].map(|()| config.ticketer.encrypt(&[7; 100]).unwrap());
        assert_ne!(tickets[0], tickets[1]);
        assert!(tickets.iter().all(|ticket| ticket.len() == 32));
    }
}

#[test]
fn session_ids_and_tickets_of_tls_1_2_resume_their_own_session_only() {
    for how in [
        Tls12Resumption::SessionIdOnly,
        Tls12Resumption::SessionIdOrTickets,
    ] {
        let proxy = Proxy::new();
        let mut config = client(&proxy.authority, VERSIONS[0]);
        config.resumption = Resumption::default().tls12_resumption(how);
        let resuming = Arc::new(config);
        let (own, neighbours) = (
            proxy.session(1, SessionReuse::Require),
            proxy.session(2, SessionReuse::Require),
        );
        log_in_as(b"bob", &proxy.client(VERSIONS[0]), &neighbours);
        log_in(&resuming, &own);
        for tickets in [Tickets::None, Tickets::Restock].repeat(20) {
            assert_eq!(transfer(&resuming, &own, tickets), Proof::SameClient);
        }
        assert_eq!(
            transfer(&resuming, &neighbours, Tickets::None),
            Proof::OtherSession
        );
        let again = transfer(&resuming, &neighbours, Tickets::Restock);
        assert_ne!(again, Proof::SameClient);
    }
}

#[test]
fn another_sessions_ticket_shows_that_the_connection_is_anothers() {
    for versions in VERSIONS {
        let proxy = Proxy::new();
        let (one, other) = (
            proxy.session(1, SessionReuse::Prefer),
            proxy.session(2, SessionReuse::Prefer),
        );
        let thief = proxy.client(versions);
        log_in(&proxy.client(versions), &one);
        log_in_as(b"bob", &thief, &other);
        assert_eq!(
            transfer(&thief, &one, Tickets::Restock),
            Proof::OtherSession
        );
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
            assert_eq!(transfer(&stranger, &session, Tickets::Restock), Proof::None);
        }
        assert_eq!(proxy.sessions.len(), kept);
    }
}

#[test]
fn a_control_connection_never_resumes() {
    for versions in VERSIONS {
        let proxy = Proxy::new();
        let (session, client) = proxy.logged_in(versions, SessionReuse::Prefer);
        log_in(&client, &session);
        log_in(&client, &proxy.session(2, SessionReuse::Prefer));
    }
}

#[test]
fn a_site_without_reuse_resumes_nothing_though_others_do() {
    for versions in VERSIONS {
        let proxy = Proxy::new();
        let (session, client) = proxy.logged_in(versions, SessionReuse::Prefer);
        let data = session
            .data(SessionReuse::Off, Tickets::Restock)
            .connection();
        let ends = handshake(&client, &data.config(), NAME).unwrap();
        assert_eq!(ends.client.tls13_tickets_received(), 0);
        assert_eq!(data.proof(ends.server.handshake_kind(), &[]), Proof::None);
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
        assert_eq!(data.accepts(Proof::None), accepts_nothing);
        assert!(data.accepts(Proof::SameClient));
    }
}

#[test]
fn a_client_is_relied_upon_once_it_has_resumed_and_as_long_as_it_can_again() {
    for versions in VERSIONS {
        let proxy = Proxy::new();
        let (session, client) = proxy.logged_in(versions, SessionReuse::Prefer);
        assert!(!session.will_identify_itself(), "it never has so far");
        transfer(&client, &session, Tickets::Restock);
        assert!(session.will_identify_itself());
        if versions == VERSIONS[0] {
            transfer(&client, &session, Tickets::None);
            assert!(session.will_identify_itself(), "it repeats itself");
            continue;
        }
        // rustls uses each ticket of TLS 1.3 once, the latest first: one of the download, three of the control
        // connection, and uploads bring no more. That it keeps older ones is not known before it has used one.
        for (relied_upon, proof) in [
            (true, Proof::SameClient),
            (false, Proof::SameClient),
            (true, Proof::SameClient),
            (true, Proof::SameClient),
            (false, Proof::None),
        ] {
            assert_eq!(session.will_identify_itself(), relied_upon);
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
        assert!(one.will_identify_itself());
        log_in(&client, &other);
        assert!(!one.will_identify_itself());
        transfer(&client, &other, Tickets::Restock);
        assert!(!other.will_identify_itself());
    }
}

#[test]
fn with_reuse_off_nothing_is_kept_and_nothing_resumes() {
    for versions in VERSIONS {
        let proxy = Proxy::new();
        let (session, client) = proxy.logged_in(versions, SessionReuse::Off);
        for _ in 0..2 {
            assert_eq!(transfer(&client, &session, Tickets::Restock), Proof::None);
        }
        assert_eq!(proxy.sessions.len(), 0);
        let ends = handshake(&client, &session.control(), NAME).unwrap();
        assert_eq!(ends.client.tls13_tickets_received(), 0);
    }
}

#[test]
fn nothing_remains_of_a_session_that_ended() {
    for versions in VERSIONS {
        let proxy = Proxy::new();
        let (session, client) = proxy.logged_in(versions, SessionReuse::Prefer);
        assert_eq!(
            transfer(&client, &session, Tickets::Restock),
            Proof::SameClient
        );
        assert_ne!(proxy.sessions.len(), 0);
        let late = connection(&session, Tickets::Restock);
        drop(session);
        assert_eq!(proxy.sessions.len(), 0);
        let ends = handshake(&client, &late.config(), NAME).unwrap();
        assert_eq!(late.proof(ends.server.handshake_kind(), &[]), Proof::None);
        assert_eq!(proxy.sessions.len(), 0);
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
    let (session, client) = proxy.logged_in(VERSIONS[1], SessionReuse::Require);
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
        let sessions = Arc::new(SessionStore::new());
        let start = |id, identity| {
            let tls = ServerTls::new(set_of(identity), TlsVersion::V1_2);
            SessionTls::new(&tls, Some(&sessions), SessionId(id))
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

#[test]
fn a_full_handshake_has_to_show_the_certificate_of_the_control_connection() {
    for versions in VERSIONS {
        let (authority, partners) = (Authority::new("CA"), Authority::new("Partners"));
        let [own, other] = ["acme", "acme"].map(|user| partners.issue(&[user]));
        let clients = ClientTrust::asking_anybody();
        let certificates = set_of(&authority.issue(&[NAME]));
        let tls = ServerTls::asking(certificates, TlsVersion::V1_2, &clients);
        let sessions = Arc::new(SessionStore::new());
        let session = SessionTls::new(&tls, Some(&sessions), SessionId(1));
        let certificate = client_certificates::shown_by(&own.chain).unwrap();
        let proof = |client: &Arc<ClientConfig>| {
            let data = session.data_showing(certificate, SessionReuse::Prefer, Tickets::Restock);
            let connection = data.connection();
            let ends = handshake(client, &connection.config(), NAME).unwrap();
            let shown = ends.server.peer_certificates().unwrap_or_default();
            let proof = connection.proof(ends.server.handshake_kind(), shown);
            (proof, data.accepts(proof))
        };
        let showing = |own| Arc::new(client_showing(&authority, versions, own));
        let resuming = showing(&own);
        log_in(&resuming, &session);
        assert_eq!(proof(&resuming), (Proof::SameClient, true));
        assert_eq!(proof(&showing(&own)), (Proof::None, true));
        let refused = (Proof::OtherCertificate, false);
        assert_eq!(proof(&showing(&other)), refused);
        assert_eq!(proof(&Arc::new(client(&authority, versions))), refused);
        // A login without a certificate isn't asked for one, even if the client has one.
        let data = session
            .data(SessionReuse::Prefer, Tickets::None)
            .connection();
        let ends = handshake(&showing(&own), &data.config(), NAME).unwrap();
        assert_eq!(ends.server.peer_certificates(), None);
    }
}
