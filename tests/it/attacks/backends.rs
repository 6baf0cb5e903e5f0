//! Backends that are up to something, but know FTP: what they want is not had, and what they send is not passed on.

use std::io::Write;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use testkit::certs::Authority;
use testkit::config::Site;
use testkit::content;
use testkit::front::Front;
use testkit::proxy::Proxy;
use testkit::script::{Script, ScriptTls, Step, reply};
use testkit::scripted::Backend;
use testkit::wire::{End, provider};

use crate::program::Start;

#[test]
fn a_backend_that_wants_a_certificate_of_ours_gets_none_and_no_password() {
    let authority = Authority::new("authority of backends");
    let pair = authority.issue(&["backend.test"]);
    let front = Front::new(&[]);
    let backends = [&TLS12, &TLS13].map(|version| {
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(authority.roots()), provider());
        let key = PrivateKeyDer::from_pem_slice(pair.private_key.as_bytes()).expect("a key");
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .expect("the provider has both versions")
            .with_client_cert_verifier(clients.build().expect("an authority"))
            .with_single_cert(vec![pair.der()], key)
            .expect("they belong together");
        Backend::start(Script::new().tls(ScriptTls::Explicit(Arc::new(config))))
    });
    let mut config = front.config();
    for (number, backend) in backends.iter().enumerate() {
        let name = format!("site{number}");
        let site = Site::hosts(&name, &[&format!("{name}.test")], backend.address());
        let site = site.backend_tls("explicit", None);
        config = config.site(&site.backend("max_version", "\"1.3\""));
    }
    let proxy = Proxy::start(config);
    for (number, backend) in backends.iter().enumerate() {
        let mut client = front.explicit(&proxy);
        client.command(&format!("USER site{number}.test|alice"), 421);
        let commands = backend.commands();
        assert!(
            !commands.iter().any(|line| line.starts_with("USER")),
            "{commands:?}"
        );
        let name = format!("site{number}");
        proxy.wait_for_log(|line| {
            line.message() == "backend not available"
                && line.field("site").as_deref() == Some(&name)
        });
    }
}

#[test]
fn bytes_in_the_wrong_direction_of_a_transfer_reach_nobody() {
    let content = content::bytes(1, 200_000);
    let script = Script::new().file("file", content.clone()).on(
        "STOR",
        [
            reply("150 send it"),
            Step::OpenData,
            Step::Send(b"zebracanary".to_vec()),
            Step::Receive,
            Step::EndData(End::Fin),
            reply("226 stored"),
        ],
    );
    let backend = Backend::start(script);
    let front = Front::new(&[]);
    let site = Site::default("site", backend.address());
    let proxy = Proxy::start(front.config().site(&site));
    let mut session = front.session(&proxy, "alice");

    let mut data = session.begin("RETR file");
    data.write_all(b"zebracanary").expect("it is open");
    assert_eq!(session.finish_download(data), content);

    let mut data = session.begin("STOR new");
    data.write_all(&content).expect("the proxy reads");
    data.finish().expect("the proxy is there");
    let (received, end) = data.read_to_end();
    assert_eq!((received, end), (Vec::new(), End::CloseNotify));
    session.control.expect(226);
    assert_eq!(backend.wait_for_upload(1).content, content);
    session.control.command("PWD", 257);
}
