//! Sessions that an operator ends one by one, by way of the registry: whatever they do, and no other with them.

use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use portcullis::net::control::WRITE_TIMEOUT;
use portcullis::session::info::{SessionInfo, SessionState};
use testkit::front::{Client, NAME};
use testkit::raw::{Raw, open_data, protect};
use testkit::script::{Gate, Script, Step};
use testkit::scripted::Backend;
use testkit::wire::{End, Wire};

use crate::in_process::Server;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

impl Server {
    /// A client that is logged in as this user, with private data connections.
    fn client(&self, user: &str) -> Client {
        let tls = self.front.tls(NAME);
        let mut control = Raw::connect_auth_tls(self.config.explicit(), &tls);
        control.login(user, "secret");
        control.protect_data();
        Client { control, tls }
    }

    /// Waits until the only session is in this state.
    fn wait_for_state(&self, state: SessionState) -> Arc<SessionInfo> {
        self.wait_for(|sessions| match sessions {
            [session] if session.state() == state => Some(Arc::clone(session)),
            _ => None,
        })
    }

    fn wait_for<T>(&self, found: impl Fn(&[Arc<SessionInfo>]) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            let sessions = self.shared.sessions.sessions();
            if let Some(found) = found(&sessions) {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "{sessions:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait_for_the_end_of(&self, session: &SessionInfo) {
        self.wait_for(|sessions| {
            let lives = sessions.iter().any(|one| one.id == session.id);
            (!lives).then_some(())
        });
        assert!(!self.shared.sessions.end(session.id), "it has ended");
    }
}

#[test]
fn an_upload_is_cut_and_never_looks_whole_to_the_backend_and_no_other_session_ends() {
    let backend = Backend::start(Script::new());
    let server = Server::before(backend.address());
    let mut other = server.client("bob");
    let mut client = server.client("alice");
    let mut upload = client.begin("STOR stored");
    upload
        .write_all(b"the first half")
        .expect("the proxy reads");

    let sessions = server.shared.sessions.sessions();
    let [idle, session] = &sessions[..] else {
        panic!("two sessions are live: {sessions:?}");
    };
    assert_eq!((&*idle.user(), idle.state()), ("bob", SessionState::Idle));
    assert_eq!(session.user(), "alice");
    assert_eq!(session.state(), SessionState::Transfer);
    assert_eq!(&*session.site_name(), "site");
    assert_eq!(session.listener, server.config.explicit());
    assert!(session.is_logged_in() && session.client_tls().is_some());
    let address = session.backend().map(|backend| backend.address);
    assert_eq!(address, Some(backend.address()));

    assert!(server.shared.sessions.end(session.id));
    assert_eq!(backend.wait_for_upload(1).end, End::Reset);
    assert_eq!(upload.read_to_end().1, End::Reset);
    let text = client.control.expect(421);
    assert!(text.contains("administrator"), "{text}");
    assert_eq!(client.control.read_to_end().1, End::CloseNotify);
    drop(client);
    server.wait_for_the_end_of(session);
    other.upload("whole", b"content");
    assert_eq!(backend.file("whole").as_deref(), Some(&b"content"[..]));
}

#[test]
fn a_client_that_reads_no_reply_is_ended_at_once_all_the_same() {
    let backend = Backend::start(Script::new());
    let server = Server::before(backend.address());
    let client = Wire::connect_narrow(server.config.explicit());
    client.flood(&b"FEAT\r\n".repeat(10_000));
    let session = server.wait_for_state(SessionState::Login);
    let asked = Instant::now();
    assert!(server.shared.sessions.end(session.id));
    server.wait_for_the_end_of(&session);
    assert!(asked.elapsed() < WRITE_TIMEOUT / 3);
}

#[test]
fn a_download_is_cut_and_never_looks_whole_to_the_client() {
    let stuck = [
        testkit::script::reply("150 here it comes"),
        Step::OpenData,
        Step::Send(b"the first half".to_vec()),
        Step::Wait(Gate::new()),
    ];
    let backend = Backend::start(Script::new().on("RETR", stuck));
    let server = Server::before(backend.address());
    let mut client = server.client("alice");
    let mut download = open_data(client.control.epsv());
    client.control.command("RETR file", 150);
    protect(&mut download, &client.tls).expect("a handshake");
    let session = server.wait_for_state(SessionState::Transfer);
    assert!(server.shared.sessions.end(session.id));
    assert_eq!(download.read_to_end().1, End::Reset);
    client.control.expect(421);
    drop(client);
    server.wait_for_the_end_of(&session);
}

#[test]
fn a_handshake_that_is_waited_for_is_given_up() {
    let backend = Backend::start(Script::new());
    let server = Server::before(backend.address());
    let mut implicit = Raw::connect(server.config.implicit());
    let session = server.wait_for_state(SessionState::Handshake);
    assert!(server.shared.sessions.end(session.id));
    implicit.read_to_end();
    server.wait_for_the_end_of(&session);

    let mut explicit = Raw::connect(server.config.explicit());
    explicit.expect(220);
    explicit.command("AUTH TLS", 234);
    let session = server.wait_for_state(SessionState::Login);
    assert!(server.shared.sessions.end(session.id));
    explicit.read_to_end();
    server.wait_for_the_end_of(&session);
}

#[test]
fn a_backend_that_is_waited_for_is_given_up() {
    let silent = Script::new().greeting([Step::Wait(Gate::new())]);
    let backend = Backend::start(silent);
    let server = Server::before(backend.address());
    let mut client = Raw::connect_auth_tls(server.config.explicit(), &server.front.tls(NAME));
    client.send("USER alice");
    let session = server.wait_for(|sessions| {
        let session = sessions.first()?;
        (backend.connections() == 1).then(|| Arc::clone(session))
    });
    assert_eq!(session.state(), SessionState::Login);
    assert!(server.shared.sessions.end(session.id));
    client.expect(421);
    drop(client);
    server.wait_for_the_end_of(&session);
}
