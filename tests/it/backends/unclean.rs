//! Backends that end their data connections with a FIN and no close_notify, as IIS does: the reply decides whether that
//! was the end of the file.

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use testkit::certs::Authority;
use testkit::config::Site;
use testkit::front::{Client, Front};
use testkit::proxy::Proxy;
use testkit::script::{Script, ScriptTls, Step, reply};
use testkit::scripted::Backend;
use testkit::wire::End;

use crate::program::Start;

const UNCLEAN: &str = "portcullis_backend_unclean_close_total{site=\"only\"}";
const CONTENT: &[u8] = b"what may be the whole file";

/// A client of a site whose backend speaks this version and does this at each command.
struct Session {
    client: Client,
    proxy: Proxy,
    _front: Front,
    _backend: Backend,
}

impl Session {
    fn new(version: &'static SupportedProtocolVersion, script: Script) -> Self {
        let pair = Authority::new("authority of backends").issue(&["backend.test"]);
        let tls = ScriptTls::Explicit(pair.server_config(&[version]));
        let backend = Backend::start(script.tls(tls));
        let site = Site::default("only", backend.address())
            .backend_tls("explicit", None)
            .backend("max_version", "\"1.3\"");
        let front = Front::new(&[]);
        let config = front.config().timeout("final_reply", "300ms");
        let proxy = Proxy::start(config.site(&site));
        Self {
            client: front.session(&proxy, "alice"),
            proxy,
            _front: front,
            _backend: backend,
        }
    }

    /// A download that ends without close_notify, and what comes then.
    fn download(version: &'static SupportedProtocolVersion, then: &[Step]) -> Self {
        let send = [
            reply("150 here it comes"),
            Step::OpenData,
            Step::Send(CONTENT.to_vec()),
            Step::EndData(End::Fin),
        ];
        Self::new(version, Script::new().on("RETR", [&send, then].concat()))
    }
}

#[test]
fn a_download_without_close_notify_is_complete_if_the_backend_says_so() {
    for version in [&TLS12, &TLS13] {
        let mut session = Session::download(version, &[reply("226 complete")]);
        assert_eq!(session.client.download("file"), CONTENT);
        assert_eq!(session.proxy.metric(UNCLEAN), 1.0);
        session.client.control.command("QUIT", 221);
    }
}

#[test]
fn a_download_without_close_notify_is_broken_off_if_the_backend_does_not_say_that_it_is_complete() {
    for version in [&TLS12, &TLS13] {
        for (then, told) in [
            (vec![reply("426 the disk failed")], 426),
            (vec![Step::End(End::Reset)], 421),
            (vec![], 426),
        ] {
            let mut session = Session::download(version, &then);
            let mut data = session.client.begin("RETR file");
            let (_, end) = data.read_to_end();
            assert_eq!(end, End::Reset, "{then:?}");
            session.client.control.expect(told);
            let complete = "portcullis_transfers_total{direction=\"download\",site=\"only\",verdict=\"complete\"}";
            assert_eq!(session.proxy.metric(complete), 0.0);
        }
    }
}

#[test]
fn an_upload_is_complete_without_the_backends_close_notify() {
    for version in [&TLS12, &TLS13] {
        let receive = [
            reply("150 send it"),
            Step::OpenData,
            Step::Receive,
            Step::EndData(End::Fin),
            reply("226 stored"),
        ];
        let mut session = Session::new(version, Script::new().on("STOR", receive));
        session.client.upload("file", CONTENT);
    }
}
