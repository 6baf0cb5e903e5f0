//! An FTP client that does exactly what a test says, byte for byte, and nothing of its own.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme,
    SupportedProtocolVersion,
};

use super::certs::{Authority, Pair};
use super::wire::{End, Wire, provider};

/// TLS as a raw client speaks it. Clones share their sessions, so a data connection resumes its control connection.
#[derive(Debug, Clone)]
pub struct RawTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl RawTls {
    /// Trusts one authority, and sends and expects one name.
    pub fn new(
        authority: &Authority,
        name: &str,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("the provider has TLS 1.2 and 1.3")
            .with_root_certificates(authority.roots())
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).expect("a test's names are valid");
        Self {
            config: Arc::new(config),
            name,
        }
    }

    /// The same of a client that has this certificate, and shows it where it is asked for one.
    pub fn showing(
        authority: &Authority,
        name: &str,
        versions: &[&'static SupportedProtocolVersion],
        own: &Pair,
    ) -> Self {
        let key =
            PrivateKeyDer::from_pem_slice(own.private_key.as_bytes()).expect("rcgen wrote it");
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("the provider has TLS 1.2 and 1.3")
            .with_root_certificates(authority.roots())
            .with_client_auth_cert(vec![own.der()], key)
            .expect("the key belongs to the certificate");
        let name = ServerName::try_from(name.to_owned()).expect("a test's names are valid");
        Self {
            config: Arc::new(config),
            name,
        }
    }

    /// Trusts whatever it is shown, and sends this name, or none.
    pub fn careless(name: Option<&str>, versions: &[&'static SupportedProtocolVersion]) -> Self {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("the provider has TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Careless))
            .with_no_client_auth();
        config.enable_sni = name.is_some();
        let name = ServerName::try_from(name.unwrap_or("nobody.test").to_owned());
        Self {
            config: Arc::new(config),
            name: name.expect("a test's names are valid"),
        }
    }

    /// The same without resuming any session.
    pub fn without_resumption(&self) -> Self {
        self.changed(|config| config.resumption = Resumption::disabled())
    }

    /// The same, offering these protocols (ALPN).
    pub fn alpn(&self, protocols: &[&str]) -> Self {
        self.changed(|config| {
            config.alpn_protocols = protocols
                .iter()
                .map(|name| name.as_bytes().to_vec())
                .collect();
        })
    }

    /// Whether a client that wants to would send data before its next handshake is done (0-RTT).
    pub fn would_send_early_data(&self) -> bool {
        let eager = self.changed(|config| config.enable_early_data = true);
        eager.connection().early_data().is_some()
    }

    /// The ClientHello of its next connection, which names the TLS session that it would resume.
    pub fn hello(&self) -> Vec<u8> {
        let mut hello = Vec::new();
        let written = self.connection().write_tls(&mut hello);
        written.expect("a vector takes everything");
        hello
    }

    fn changed(&self, change: impl FnOnce(&mut ClientConfig)) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        change(&mut config);
        Self {
            config: Arc::new(config),
            name: self.name.clone(),
        }
    }

    /// One that has yet to do its handshake.
    pub fn connection(&self) -> ClientConnection {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .expect("the name is valid")
    }
}

/// Looks at no certificate.
#[derive(Debug)]
struct Careless;

impl ServerCertVerifier for Careless {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A reply: its code, and all its lines as they came, without the last line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The code of its last line.
    pub code: u16,
    /// Its lines, joined by CR LF.
    pub text: String,
}

/// A control connection.
#[derive(Debug)]
pub struct Raw {
    wire: Wire,
    // Bytes that came after the last line that was taken.
    buffer: Vec<u8>,
}

impl Raw {
    /// Connects; the greeting is still to be read.
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(Wire::connect(address))
    }

    /// Connects and starts TLS at once; the greeting is still to be read.
    ///
    /// # Panics
    /// If the handshake fails.
    pub fn connect_tls(address: SocketAddr, tls: &RawTls) -> Self {
        let mut raw = Self::connect(address);
        raw.handshake(tls)
            .unwrap_or_else(|error| panic!("handshake with {address}: {error}"));
        raw
    }

    /// Takes over a connection, for what comes before the first command, such as a PROXY protocol header.
    pub fn over(wire: Wire) -> Self {
        Self {
            wire,
            buffer: Vec::new(),
        }
    }

    /// Reads the greeting, says AUTH TLS and starts TLS.
    pub fn connect_auth_tls(address: SocketAddr, tls: &RawTls) -> Self {
        let mut raw = Self::connect(address);
        raw.expect(220);
        raw.auth_tls(tls);
        raw
    }

    /// Says AUTH TLS and starts TLS.
    ///
    /// # Panics
    /// Unless the server agrees, sends nothing after its reply, and the handshake succeeds.
    pub fn auth_tls(&mut self, tls: &RawTls) {
        self.command("AUTH TLS", 234);
        assert!(
            self.buffer.is_empty(),
            "clear text after 234: {:?}",
            self.buffer.escape_ascii().to_string()
        );
        self.handshake(tls).expect("handshake after AUTH TLS");
    }

    /// Starts TLS.
    ///
    /// # Errors
    /// If the handshake fails.
    pub fn handshake(&mut self, tls: &RawTls) -> io::Result<()> {
        self.wire.handshake(tls.connection())
    }

    /// Starts TLS with `before` in front of its first byte, all in one piece.
    ///
    /// # Errors
    /// If the handshake fails.
    pub fn handshake_behind(&mut self, before: &[u8], tls: &RawTls) -> io::Result<()> {
        self.wire.handshake_behind(before, tls.connection())
    }

    /// USER and PASS.
    pub fn login(&mut self, user: &str, password: &str) {
        self.command(&format!("USER {user}"), 331);
        self.command(&format!("PASS {password}"), 230);
    }

    /// PBSZ 0 and PROT P.
    pub fn protect_data(&mut self) {
        self.command("PBSZ 0", 200);
        self.command("PROT P", 200);
    }

    /// Sends a line.
    pub fn send(&mut self, line: &str) {
        self.send_bytes(format!("{line}\r\n").as_bytes());
    }

    /// Sends bytes, in one piece.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.wire.write_all(bytes).expect("the server reads");
    }

    /// Sends bytes in clear text, the last of them as urgent data (`MSG_OOB`).
    pub fn send_urgent(&mut self, bytes: &[u8]) {
        let sent = socket2::SockRef::from(self.wire.socket()).send_out_of_band(bytes);
        assert_eq!(sent.expect("the server reads"), bytes.len());
    }

    /// Reads a reply of any code.
    ///
    /// # Panics
    /// If the connection ends, or what comes isn't a reply.
    pub fn reply(&mut self) -> Reply {
        self.reply_or_end().unwrap_or_else(|| {
            panic!(
                "the server ended; before that: {:?}",
                self.buffer.escape_ascii().to_string()
            )
        })
    }

    /// Reads a reply of any code; none if the connection ends before it.
    ///
    /// # Panics
    /// If what comes isn't a reply, or nothing does.
    pub fn reply_or_end(&mut self) -> Option<Reply> {
        let first = self.line()?;
        let mut text = first.clone();
        let mut last = first;
        let prefix = text.get(..3).unwrap_or_default().to_owned();
        let code = prefix
            .parse()
            .unwrap_or_else(|_| panic!("not a reply: {text:?}"));
        if text.as_bytes().get(3) == Some(&b'-') {
            while !last.starts_with(&format!("{prefix} ")) {
                last = self.line()?;
                text.push_str("\r\n");
                text.push_str(&last);
            }
        }
        Some(Reply { code, text })
    }

    /// Reads a reply, which must have this code, and returns its text.
    #[track_caller]
    pub fn expect(&mut self, code: u16) -> String {
        let reply = self.reply();
        assert_eq!(reply.code, code, "{}", reply.text);
        reply.text
    }

    /// Sends a line and reads its reply, which must have this code.
    #[track_caller]
    pub fn command(&mut self, line: &str, code: u16) -> String {
        self.send(line);
        let reply = self.reply();
        assert_eq!(reply.code, code, "{line}: {}", reply.text);
        reply.text
    }

    /// PASV: the address in the reply.
    pub fn pasv(&mut self) -> SocketAddr {
        let text = self.command("PASV", 227);
        let numbers: Vec<u8> = text[4..]
            .split(|character: char| !character.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect();
        let [a, b, c, d, high, low] = numbers[..] else {
            panic!("no address in {text:?}")
        };
        (IpAddr::from([a, b, c, d]), u16::from_be_bytes([high, low])).into()
    }

    /// EPSV: the port in the reply, at the address of the control connection.
    pub fn epsv(&mut self) -> SocketAddr {
        let text = self.command("EPSV", 229);
        let port = text
            .rsplit("|||")
            .next()
            .and_then(|rest| rest.split('|').next()?.parse().ok());
        let port = port.unwrap_or_else(|| panic!("no port in {text:?}"));
        (
            self.wire
                .socket()
                .peer_addr()
                .expect("the connection is open")
                .ip(),
            port,
        )
            .into()
    }

    /// EPRT: listens at the address of the control connection and says so.
    pub fn eprt(&mut self) -> TcpListener {
        let own = self
            .wire
            .socket()
            .local_addr()
            .expect("the connection is open")
            .ip();
        let listener = TcpListener::bind((own, 0)).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let family = if own.is_ipv4() { 1 } else { 2 };
        self.command(&format!("EPRT |{family}|{own}|{port}|"), 200);
        listener
    }

    /// The client's own address.
    pub fn local_addr(&self) -> SocketAddr {
        let own = self.wire.socket().local_addr();
        own.expect("the connection is open")
    }

    /// Reads until the server ends: what came, and how it ended.
    pub fn end(mut self) -> (Vec<u8>, End) {
        self.read_to_end()
    }

    /// The same, to be used where this side must stay open.
    pub fn read_to_end(&mut self) -> (Vec<u8>, End) {
        let (rest, end) = self.wire.read_to_end();
        ([std::mem::take(&mut self.buffer), rest].concat(), end)
    }

    /// Waits until something has come, and leaves it unread.
    pub fn wait_until_it_says_something(&self) {
        let something = self.wire.socket().peek(&mut [0]);
        something.expect("the server says something");
    }

    /// Ends this side in the given way.
    pub fn close(self, end: End) {
        // A server that is gone already needs no goodbye.
        let _ = self.wire.end(end);
    }

    /// The connection beneath: certificate, version, resumption.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The next line; none if the connection ends before its end.
    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).into_owned();
                return Some(line.trim_end_matches(['\r', '\n']).to_owned());
            }
            let mut chunk = [0; 4096];
            match self.wire.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof
                    ) =>
                {
                    return None;
                }
                Err(error) => panic!("no reply: {error}"),
            }
        }
    }
}

/// Opens a data connection; its handshake, if it is to have one, comes later, as with clients that wait for the 150.
pub fn open_data(address: SocketAddr) -> Wire {
    Wire::connect(address)
}

/// Starts TLS on a data connection.
///
/// # Errors
/// If the handshake fails.
pub fn protect(data: &mut Wire, tls: &RawTls) -> io::Result<()> {
    data.handshake(tls.connection())
}
