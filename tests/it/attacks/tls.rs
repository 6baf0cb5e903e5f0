//! Games with TLS records and handshakes. Whatever a client does below the level of commands, it gets an alert or an end
//! in time, and other sessions go on.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, ConnectionTrafficSecrets, SupportedProtocolVersion};
use testkit::DEADLINE;
use testkit::front::{Front, NAME};
use testkit::programs::program;
use testkit::proxy::Proxy;
use testkit::raw::{Raw, open_data, protect};
use testkit::resources;
use testkit::script::Script;
use testkit::scripted::Backend;
use testkit::wire::{Wire, provider};

use crate::program::Before;

/// A proxy, and a session that has nothing to do with what others send.
struct Deployment {
    front: Front,
    proxy: Proxy,
    bystander: Raw,
    _backend: Backend,
}

impl Deployment {
    fn new() -> Self {
        let front = Front::new(&[]);
        let backend = Backend::start(Script::new().file("file", "content"));
        let proxy = front.before_with(backend.address(), |config| config.timeout("login", "4s"));
        let mut bystander = front.explicit(&proxy);
        bystander.login("bystander", "secret");
        Self {
            front,
            proxy,
            bystander,
            _backend: backend,
        }
    }

    fn bystander_is_well(&mut self) {
        self.bystander.command("PWD", 257);
    }

    /// A client whose records are in the test's hands.
    fn client(&self, version: &'static SupportedProtocolVersion) -> Tls {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .expect("the provider has both versions")
            .with_root_certificates(self.front.authority.roots())
            .with_no_client_auth();
        config.enable_secret_extraction = true;
        let name = ServerName::try_from(NAME).expect("a name");
        Tls {
            connection: ClientConnection::new(Arc::new(config), name).expect("the name is good"),
            socket: connect(self.proxy.implicit()),
        }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&address, DEADLINE).expect("it accepts");
    socket.set_nodelay(true).expect("it is open");
    let patience = Some(DEADLINE);
    socket.set_read_timeout(patience).expect("it isn't zero");
    socket.set_write_timeout(patience).expect("it isn't zero");
    socket
}

struct Tls {
    connection: ClientConnection,
    socket: TcpStream,
}

impl Tls {
    /// What TLS has to send now, taken out of its hands.
    fn outgoing(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.connection.wants_write() {
            self.connection
                .write_tls(&mut bytes)
                .expect("a Vec takes all");
        }
        bytes
    }

    fn complete_handshake(&mut self) -> io::Result<()> {
        while self.connection.is_handshaking() {
            self.connection.complete_io(&mut self.socket)?;
        }
        Ok(())
    }

    /// The greeting, to show that the connection is good.
    fn greeting(&mut self) -> String {
        let mut text = [0; 64];
        let mut stream = rustls::Stream::new(&mut self.connection, &mut self.socket);
        let count = stream.read(&mut text).expect("a greeting");
        String::from_utf8_lossy(&text[..count]).into_owned()
    }
}

/// The same bytes of a handshake message, in records of so many bytes each.
fn in_records(flight: &[u8], size: usize) -> Vec<u8> {
    let (head, message) = flight.split_at(5);
    let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
    assert_eq!(length, message.len(), "a single record");
    let record = |piece: &[u8]| {
        let length = (piece.len() as u16).to_be_bytes();
        [&head[..3], &length, piece].concat()
    };
    message.chunks(size).flat_map(record).collect()
}

/// How long the server takes to end, whatever it says until then.
fn time_to_end(mut socket: TcpStream) -> Duration {
    let began = Instant::now();
    let mut waste = [0; 4096];
    while let Ok(1..) = socket.read(&mut waste) {}
    began.elapsed()
}

#[test]
fn a_client_hello_may_come_in_any_pieces() {
    let mut deployment = Deployment::new();
    for version in [&TLS12, &TLS13] {
        for size in [1, 2, 7, 200] {
            let mut client = deployment.client(version);
            let hello = client.outgoing();
            client
                .socket
                .write_all(&in_records(&hello, size))
                .expect("it reads");
            client.complete_handshake().expect("a handshake");
            assert!(client.greeting().starts_with("220 "), "records of {size}");
        }
        let mut client = deployment.client(version);
        for byte in client.outgoing() {
            client.socket.write_all(&[byte]).expect("it reads");
        }
        client.complete_handshake().expect("a handshake");
        assert!(client.greeting().starts_with("220 "), "{version:?}");
    }
    deployment.bystander_is_well();
}

#[test]
fn what_is_no_client_hello_of_today_ends_at_once() {
    let mut deployment = Deployment::new();
    let sslv2 = b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80\x02\x00\x80\x03\x00\x80\x04\x00\x80\
                  \x05\x00\x80\x06\x00\x40\x07\x00\xc0aaaaaaaaaaaaaaaa";
    let huge = [&b"\x16\x03\x01\x00\x04\x01\xff\xff\xff"[..], &[0; 200]].concat();
    for (what, bytes) in [
        ("SSLv2", &sslv2[..]),
        (
            "a record of 65,535 bytes",
            b"\x16\x03\x01\xff\xff\x01\x00\xff\xfb\x03\x03",
        ),
        ("a hello of 16 MiB", &huge),
        (
            "a hello of nothing",
            b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
        ),
        ("an empty record", b"\x16\x03\x01\x00\x00"),
        ("a ServerHello", b"\x16\x03\x03\x00\x04\x02\x00\x00\x00"),
        ("a fatal alert", b"\x15\x03\x01\x00\x02\x02\x28"),
        ("close_notify", b"\x15\x03\x01\x00\x02\x01\x00"),
        ("application data", b"\x17\x03\x03\x00\x05hello"),
        (
            "a change of cipher",
            b"\x14\x03\x03\x00\x01\x01\x14\x03\x03\x00\x01\x01\x14\x03\x03\x00\x01\x01",
        ),
    ] {
        let mut socket = connect(deployment.proxy.implicit());
        socket.write_all(bytes).expect("it reads");
        // An end of ours is all that some of them lack for being wrong.
        socket
            .shutdown(std::net::Shutdown::Write)
            .expect("it is open");
        let took = time_to_end(socket);
        assert!(took < Duration::from_secs(3), "{what}: {took:?}");
        deployment.bystander_is_well();
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_handshake_leaves_nothing_behind() {
    let mut deployment = Deployment::new();
    deployment.bystander_is_well();
    let before = resources::descriptors(&deployment.proxy);
    for version in [&TLS12, &TLS13] {
        for close_notify in [false, true] {
            let mut client = deployment.client(version);
            let hello = client.outgoing();
            client.socket.write_all(&hello).expect("it reads");
            let mut answer = [0; 5];
            client
                .socket
                .read_exact(&mut answer)
                .expect("a ServerHello");
            if close_notify {
                let alert = b"\x15\x03\x03\x00\x02\x01\x00";
                client.socket.write_all(alert).expect("it reads");
            }
        }
    }
    resources::wait_for_descriptors(&deployment.proxy, before);
    deployment.bystander_is_well();
}

#[test]
fn a_flood_of_key_updates_is_cut_off() {
    let mut deployment = Deployment::new();
    let mut client = deployment.client(&TLS13);
    client.complete_handshake().expect("a handshake");
    let began = Instant::now();
    let mut sent = 0;
    let ended = loop {
        client.connection.refresh_traffic_keys().expect("TLS 1.3");
        let update = client.outgoing();
        if client.socket.write_all(&update).is_err() {
            break began.elapsed();
        }
        sent += 1;
        assert!(sent < 10_000_000, "still open after {:?}", began.elapsed());
    };
    // By their number, and not by the deadline for the login.
    assert!(ended < Duration::from_secs(4), "{ended:?}");
    deployment
        .proxy
        .wait_for_metric("portcullis_sessions", |open| open == 1.0);
    deployment.bystander_is_well();
}

#[test]
fn a_flood_of_empty_records_is_cut_off() {
    let mut deployment = Deployment::new();
    let mut client = deployment.client(&TLS13);
    client.complete_handshake().expect("a handshake");
    let Tls {
        connection,
        mut socket,
    } = client;
    let secrets = connection.dangerous_extract_secrets();
    let mut records = Records::new(secrets.expect("it was asked for").tx);
    let began = Instant::now();
    loop {
        let flood: Vec<u8> = (0..500).flat_map(|_| records.next(&[])).collect();
        if socket.write_all(&flood).is_err() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(4), "nobody ends it");
    }
    deployment
        .proxy
        .wait_for_metric("portcullis_sessions", |open| open == 1.0);
    deployment.bystander_is_well();
}

/// Makes records of TLS 1.3 (RFC 8446 section 5.2) that no library would make.
struct Records {
    key: LessSafeKey,
    iv: [u8; 12],
    number: u64,
}

impl Records {
    fn new((number, secrets): (u64, ConnectionTrafficSecrets)) -> Self {
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
            panic!("the proxy prefers AES-128-GCM")
        };
        let key = UnboundKey::new(&AES_128_GCM, key.as_ref()).expect("a key of 16 bytes");
        Self {
            key: LessSafeKey::new(key),
            iv: iv.as_ref().try_into().expect("12 bytes"),
            number,
        }
    }

    fn next(&mut self, content: &[u8]) -> Vec<u8> {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.number.to_be_bytes()) {
            *byte ^= number;
        }
        self.number += 1;
        const APPLICATION_DATA: u8 = 23;
        let mut inside = [content, &[APPLICATION_DATA]].concat();
        let length = (inside.len() + AES_128_GCM.tag_len()) as u16;
        let head = [&[APPLICATION_DATA, 3, 3][..], &length.to_be_bytes()].concat();
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(nonce, Aad::from(&head), &mut inside)
            .expect("short enough");
        [head, inside].concat()
    }
}

#[test]
fn commands_may_come_a_byte_a_record() {
    let mut deployment = Deployment::new();
    let mut client = deployment.client(&TLS13);
    client.complete_handshake().expect("a handshake");
    client.greeting();
    let Tls {
        connection,
        mut socket,
    } = client;
    let secrets = connection.dangerous_extract_secrets();
    let mut records = Records::new(secrets.expect("it was asked for").tx);
    for byte in b"NOOP\r\nUSER alice\r\nPASS secret\r\nQUIT\r\n" {
        let record = [records.next(&[]), records.next(&[*byte])].concat();
        socket.write_all(&record).expect("it reads");
    }
    time_to_end(socket);
    deployment.proxy.wait_for_log(|line| {
        line.field("ending").as_deref() == Some("quit")
            && line.field("logged_in").as_deref() == Some("true")
    });
    deployment.bystander_is_well();
}

#[test]
fn renegotiation_is_refused() {
    let mut deployment = Deployment::new();
    let mut openssl = Command::new(program("openssl"))
        .args(["s_client", "-tls1_2", "-connect"])
        .arg(deployment.proxy.implicit().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl runs");
    let mut output = BufReader::new(openssl.stdout.take().expect("it is piped"));
    let mut line = String::new();
    // Behind the greeting, which in the middle of a handshake would be an error of its own.
    while !line.starts_with("220 ") {
        line.clear();
        let read = output.read_line(&mut line).expect("it speaks");
        assert_ne!(read, 0, "it ends before the greeting");
    }
    // R on a line of its own asks for it; the pipe stays open, so that only the refusal ends the program.
    let mut input = openssl.stdin.take().expect("it is piped");
    input.write_all(b"R\n").expect("it reads");
    let ended = openssl.wait_with_output().expect("it ends");
    drop(input);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("RENEGOTIATING"), "{said}");
    assert!(said.contains("no renegotiation"), "{said}");
    deployment.bystander_is_well();
}

#[test]
fn no_ticket_allows_data_before_the_handshake() {
    let deployment = Deployment::new();
    let mut session = deployment.front.session(&deployment.proxy, "alice");
    assert_eq!(session.download("file"), b"content");
    assert!(!session.tls.would_send_early_data());
    let mut data = open_data(session.control.epsv());
    session.control.command("RETR file", 150);
    protect(&mut data, &session.tls).expect("a handshake");
    assert!(data.resumed(), "there was a ticket to look at");
}

#[test]
fn a_server_name_is_a_hint_whatever_it_is() {
    let deployment = Deployment::new();
    let long = format!("{}.test", ["a".repeat(60).as_str(); 4].join("."));
    for name in [
        "PROXY.TEST",
        "unknown.test",
        "under_score.test",
        "xn--bcher-kva.test",
        &long,
    ] {
        let mut client = Raw::over(Wire::connect(deployment.proxy.implicit()));
        let tls = deployment.front.tls(name);
        // The certificate isn't for this name, which is the client's own affair, after the server has answered.
        let error = client.handshake(&tls).err().map(|error| error.to_string());
        match error {
            None => drop(client.expect(220)),
            Some(error) => assert!(error.contains("not valid for name"), "{name}: {error}"),
        }
    }
    let failed = deployment.proxy.log_lines();
    let odd = failed.iter().filter(|line| {
        line.message() == "TLS handshake with the client failed"
            && line
                .field("error")
                .is_some_and(|error| !error.contains("certificate"))
    });
    assert_eq!(odd.count(), 0);
}
