//! Data connections bound to their control connection by TLS resumption, as `session_reuse` has it, over the wire.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use testkit::config::Site;
use testkit::content;
use testkit::front::Front;
use testkit::proxy::Proxy;
use testkit::raw::{Raw, RawTls, open_data, protect};
use testkit::script::Script;
use testkit::scripted::Backend;
use testkit::wire::{End, Wire};

use crate::program::Start;
use crate::stage::Stage;

struct Deployment {
    front: Front,
    backend: Backend,
    proxy: Proxy,
    content: Vec<u8>,
}

impl Deployment {
    fn new(reuse: &str) -> Self {
        let front = Front::new(&[]);
        let content = content::bytes(1, 100_000);
        let backend = Backend::start(Script::new().file("file", content.clone()));
        let mut config = front.config().tls("session_reuse", reuse);
        config = config.site(&Site::default("site", backend.address()));
        for policy in ["off", "prefer", "require"] {
            let host = format!("{policy}.test");
            let site = Site::hosts(policy, &[&host], backend.address());
            config = config.site(&site.set("session_reuse", policy));
        }
        let proxy = Proxy::start(config);
        Self {
            front,
            backend,
            proxy,
            content,
        }
    }

    fn session(&self, version: &'static SupportedProtocolVersion) -> (Raw, RawTls) {
        self.session_as("alice", version)
    }

    fn session_as(&self, user: &str, version: &'static SupportedProtocolVersion) -> (Raw, RawTls) {
        let tls = self.front.tls_of(version);
        let mut control = Raw::connect_auth_tls(self.proxy.explicit(), &tls);
        control.login(user, "secret");
        control.protect_data();
        (control, tls)
    }

    fn download(&self, control: &mut Raw, tls: &RawTls) -> Wire {
        let mut data = open_data(control.epsv());
        control.command("RETR file", 150);
        protect(&mut data, tls).expect("a handshake");
        let (received, end) = data.read_to_end();
        assert_eq!(end, End::CloseNotify);
        assert_eq!(content::sha256(&received), content::sha256(&self.content));
        control.expect(226);
        data
    }

    fn upload(&self, control: &mut Raw, tls: &RawTls) -> bool {
        let mut data = open_data(control.epsv());
        control.command("STOR stored", 150);
        protect(&mut data, tls).expect("a handshake");
        let resumed = data.resumed();
        data.write_all(&self.content).expect("the proxy reads");
        data.end(End::CloseNotify).expect("the proxy is there");
        control.expect(226);
        assert_eq!(self.backend.file("stored"), Some(self.content.clone()));
        resumed
    }

    /// A download that must not happen: refused with 522, and nothing of the file arrives.
    fn refused_download(&self, control: &mut Raw, tls: &RawTls) {
        let mut data = open_data(control.epsv());
        control.command("RETR file", 150);
        // In TLS 1.3 the client is done before the proxy has looked.
        if protect(&mut data, tls).is_ok() {
            assert!(!data.resumed());
            let (received, end) = data.read_to_end();
            assert_eq!((received, end), (Vec::new(), End::Reset));
        }
        let text = control.expect(522);
        assert!(text.contains("resume the TLS session"), "{text}");
    }

    fn data_handshakes(&self, kind: &str) -> f64 {
        self.proxy.metric(&format!(
            "portcullis_data_tls_handshakes_total{{kind=\"{kind}\",leg=\"client\"}}"
        ))
    }
}

#[test]
fn off_offers_no_resumption_and_demands_none() {
    let deployment = Deployment::new("off");
    for version in [&TLS12, &TLS13] {
        let (mut control, tls) = deployment.session(version);
        assert!(!deployment.download(&mut control, &tls).resumed());
        assert!(!deployment.upload(&mut control, &tls));
    }
    assert_eq!(deployment.data_handshakes("full"), 4.0);
    assert_eq!(deployment.data_handshakes("resumed"), 0.0);
}

#[test]
fn a_session_resumes_itself_again_and_again_where_it_may_and_where_it_must() {
    for reuse in ["prefer", "require"] {
        let deployment = Deployment::new(reuse);
        for version in [&TLS12, &TLS13] {
            let (mut control, tls) = deployment.session(version);
            for _ in 0..3 {
                assert!(deployment.download(&mut control, &tls).resumed(), "{reuse}");
            }
            for _ in 0..3 {
                assert!(deployment.upload(&mut control, &tls), "{reuse} {version:?}");
            }
        }
        assert_eq!(deployment.data_handshakes("resumed"), 12.0);
        assert_eq!(deployment.data_handshakes("full"), 0.0);
    }
}

#[test]
fn prefer_serves_a_client_that_resumes_nothing() {
    let deployment = Deployment::new("prefer");
    for version in [&TLS12, &TLS13] {
        let (mut control, tls) = deployment.session(version);
        assert!(
            !deployment
                .download(&mut control, &tls.without_resumption())
                .resumed()
        );
        assert!(!deployment.upload(&mut control, &tls.without_resumption()));
    }
    assert_eq!(deployment.data_handshakes("full"), 4.0);
}

#[test]
fn require_refuses_a_client_that_resumes_nothing_and_serves_it_when_it_does() {
    let deployment = Deployment::new("require");
    for version in [&TLS12, &TLS13] {
        let (mut control, tls) = deployment.session(version);
        deployment.refused_download(&mut control, &tls.without_resumption());
        assert!(deployment.download(&mut control, &tls).resumed());
    }
}

#[test]
fn the_session_of_another_client_is_worth_nothing() {
    let deployment = Deployment::new("require");
    for version in [&TLS12, &TLS13] {
        let (_stranger, strange_tls) = deployment.session(version);
        let (mut control, tls) = deployment.session(version);
        deployment.refused_download(&mut control, &strange_tls);
        // Nor did the refused handshake give away anything that is worth something now.
        deployment.refused_download(&mut control, &strange_tls);
        assert!(deployment.download(&mut control, &tls).resumed());
    }
    let failed = "portcullis_transfers_total{direction=\"download\",site=\"site\",verdict=\"failed_client\"}";
    assert_eq!(deployment.proxy.metric(failed), 4.0);
}

#[test]
fn a_site_has_a_policy_of_its_own_whatever_that_of_the_others_is() {
    for others in ["off", "require"] {
        let deployment = Deployment::new(others);
        for version in [&TLS12, &TLS13] {
            let (mut control, tls) = deployment.session_as("off.test|alice", version);
            assert!(!deployment.download(&mut control, &tls).resumed());
            let (mut control, tls) = deployment.session_as("prefer.test|alice", version);
            let unresumed = tls.without_resumption();
            assert!(!deployment.download(&mut control, &unresumed).resumed());
            assert!(deployment.download(&mut control, &tls).resumed());
            let (mut control, tls) = deployment.session_as("require.test|alice", version);
            assert!(deployment.download(&mut control, &tls).resumed());
            deployment.refused_download(&mut control, &tls.without_resumption());
        }
    }
}

#[test]
fn who_knows_the_sessions_name_and_comes_again_and_again_holds_up_the_transfer_for_its_time_only() {
    let stage = Stage::with(Script::new().file("file", "content"), |config| {
        config
            .tls("session_reuse", "require")
            .timeout("tls_handshake", "1s")
    });
    let mut client = stage.session();
    assert_eq!(client.download("file"), b"content");
    let address = client.control.epsv();
    client.control.command("RETR file", 150);
    let hello = client.tls.hello();
    let told = Arc::new(AtomicBool::new(false));
    let strangers = Arc::clone(&told);
    thread::spawn(move || {
        while !strangers.load(Ordering::Relaxed) {
            // It is reset if nobody is waited for any more, and gone in the middle of its handshake if not.
            let mut stranger = open_data(address);
            let _ = stranger.write_all(&hello).and_then(|()| stranger.fin());
            stranger.read_to_end();
        }
    });
    client.control.expect(522);
    told.store(true, Ordering::Relaxed);
    client.control.command("PWD", 257);
    assert_eq!(client.download("file"), b"content");
}
