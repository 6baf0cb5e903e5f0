//! Real programs with certificates: curl, lftp, Python's ftplib, and openssl with extensions that are rewritten.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use testkit::client_certs::ClientFiles;
use testkit::clients::filezilla::{Engine, EngineTls, Job};
use testkit::programs::program;

use super::*;

/// A site whose users log in with a certificate alone; the password that programs send is wrong.
fn world() -> World {
    World::with(
        "optional",
        "{user: cn, credentials: partners.pw}",
        |config, front| {
            fs::write(front.directory().join("partners.pw"), "acme:secret\n").expect("writable");
            config
        },
    )
}

fn said(command: &mut Command) -> (bool, String) {
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("the program runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.success(), text)
}

fn curl(world: &World, own: Option<&ClientFiles>) -> Command {
    let mut curl = Command::new(program("curl"));
    curl.args(["--silent", "--show-error", "--verbose", "--max-time", "30"])
        .args(["--ssl-reqd", "--user", "acme:wrong", "--cacert"])
        .arg(world.front.ca());
    if let Some(own) = own {
        curl.arg("--cert").arg(&own.certificate);
        curl.arg("--key").arg(&own.private_key);
    }
    let address = world.proxy.explicit();
    let at = format!("{NAME}:{}:{}", address.port(), address.ip());
    curl.arg("--resolve").arg(at);
    curl.arg(format!("ftp://{NAME}:{}/file", address.port()));
    curl
}

#[test]
fn curl_downloads_with_a_certificate_alone() {
    let world = world();
    let own = world.good("acme").write(world.front.directory(), "acme");
    let other = world.good("bob").write(world.front.directory(), "bob");
    for version in ["1.2", "1.3"] {
        let (done, text) = said(curl(&world, Some(&own)).args(["--tls-max", version]));
        assert!(done && text.contains("content"), "{text}");
        for wrong in [None, Some(&other)] {
            let (done, text) = said(curl(&world, wrong).args(["--tls-max", version]));
            assert!(!done && text.contains("right client certificate"), "{text}");
        }
    }
}

#[test]
fn lftp_downloads_with_a_certificate_alone() {
    let world = world();
    let own = world.good("acme").write(world.front.directory(), "acme");
    for priority in ["NORMAL", "NORMAL:-VERS-TLS1.3"] {
        let local = world.file("downloaded");
        let script = [
            "set cmd:fail-exit yes".to_owned(),
            "set net:max-retries 1; set net:timeout 30; set ftp:ssl-force yes".to_owned(),
            "set ssl:check-hostname no; set ftp:ssl-protect-data yes".to_owned(),
            format!("set ssl:priority {priority}"),
            format!("set ssl:ca-file {}", world.front.ca().display()),
            format!("set ssl:cert-file {}", own.certificate.display()),
            format!("set ssl:key-file {}", own.private_key.display()),
            "set xfer:clobber yes".to_owned(),
            format!(
                "open --user acme --password wrong ftp://{}",
                world.proxy.explicit()
            ),
            format!("get file -o {}", local.display()),
            "bye".to_owned(),
        ];
        let (done, text) = said(
            Command::new(program("lftp"))
                .args(["--norc", "-c"])
                .arg(script.join("; ")),
        );
        assert!(done, "{text}");
        assert_eq!(fs::read(&local).expect("downloaded"), b"content", "{text}");
    }
}

#[test]
fn ftplib_uploads_and_lists_with_a_certificate_alone_in_full_handshakes() {
    let world = world();
    let own = world.good("acme").write(world.front.directory(), "acme");
    let script = "
import ftplib, io, ssl, sys
ca, certificate, key, host, port = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.check_hostname = False
context.load_cert_chain(certificate, key)
ftp = ftplib.FTP_TLS(context=context, timeout=30)
ftp.connect(host, int(port))
assert ftp.login('acme', 'wrong').startswith('230')
ftp.prot_p()
ftp.storbinary('STOR up', io.BytesIO(b'uploaded'))
ftp.retrlines('LIST')
ftp.quit()
";
    let address = world.proxy.explicit();
    let (done, text) = said(
        Command::new(program("python3"))
            .args(["-c", script])
            .arg(world.front.ca())
            .args([&own.certificate, &own.private_key])
            .args([address.ip().to_string(), address.port().to_string()]),
    );
    assert!(done, "{text}");
    assert_eq!(world.backend.file("up"), Some(b"uploaded".to_vec()));
}

/// FileZilla 3.63 has no certificates of its own: asked for one on each connection, it has to go on without, and to resume.
#[test]
fn filezilla_is_asked_for_a_certificate_and_accepts_every_data_connection_without_one() {
    let world = World::new("{user: cn}");
    for (tls, file) in [(EngineTls::V12, "v12"), (EngineTls::V13, "v13")] {
        let engine = Engine::new(world.proxy.explicit(), NAME, "open.test|alice", tls);
        let jobs = [
            Job::List,
            Job::Upload(file, b"uploaded"),
            Job::List,
            Job::Download("file"),
        ];
        let downloaded = engine.run(&jobs).unwrap_or_else(|text| panic!("{text}"));
        assert_eq!(downloaded, b"content");
        assert_eq!(world.backend.file(file).as_deref(), Some(&b"uploaded"[..]));
    }
}

/// OpenSSL signs what it has sent, and the proxy reads something else: see `tls::hello_rewrite`.
#[test]
fn a_client_that_limits_its_records_or_names_no_host_proves_its_key_as_well() {
    let world = World::new("{user: cn}");
    let own = world.good("acme").write(world.front.directory(), "acme");
    for version in ["-tls1_2", "-tls1_3"] {
        for options in [
            &["-maxfraglen", "1024"][..],
            &["-servername", "ftp.test:990"],
            &["-maxfraglen", "512", "-servername", "[::1]"],
            &[],
        ] {
            let (text, error) = openssl(&world, &own, version, options);
            assert!(
                text.contains("\r\n331 "),
                "{version} {options:?}: {text}{error}"
            );
        }
    }
}

/// OpenSSL chooses PSS for it in both versions, by which no signature of so short a key can be verified.
#[test]
fn a_client_with_a_key_of_1024_bits_is_told_at_user_and_not_by_an_alert() {
    let world = world();
    let own = ClientFiles {
        certificate: world.file("short.crt"),
        private_key: world.file("short.key"),
    };
    let (done, text) = said(
        Command::new(program("openssl"))
            .args([
                "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=acme", "-out",
            ])
            .arg(&own.certificate)
            .arg("-keyout")
            .arg(&own.private_key),
    );
    assert!(done, "{text}");
    for version in ["-tls1_2", "-tls1_3"] {
        let weak = ["-cipher", "DEFAULT:@SECLEVEL=0"];
        let (text, error) = openssl(&world, &own, version, &weak);
        assert!(text.contains("\r\n530 "), "{version}: {text}{error}");
        let detail = world.refusal("invalid").field("detail");
        let detail = detail.expect("it says what is wrong");
        assert!(detail.contains("RSA key of 1024 bits"), "{detail}");
    }
    assert_eq!(world.counted("only", "invalid"), 2.0);
}

/// What the server and openssl say, where a client with this certificate sends USER at once.
fn openssl(world: &World, own: &ClientFiles, version: &str, options: &[&str]) -> (String, String) {
    let mut client = Command::new(program("openssl"))
        .args(["s_client", "-connect", &world.proxy.implicit().to_string()])
        .args([version, "-quiet", "-ign_eof", "-cert"])
        .arg(&own.certificate)
        .arg("-key")
        .arg(&own.private_key)
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl runs");
    let mut commands = client.stdin.take().expect("it is piped");
    commands
        .write_all(b"USER acme\r\nQUIT\r\n")
        .expect("openssl reads");
    let output = client.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (text, error)
}
