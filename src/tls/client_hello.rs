//! Which TLS sessions a ClientHello offers to resume, read before the handshake.
//!
//! On a data port that several sessions share, this is the session that a connection *claims* to belong to. It proves
//! nothing: the names in a ClientHello cross the network in clear text. The proof is the handshake that follows, which
//! only the holder of the session's secrets can finish as a resumption (see [`binding`](super::binding)).
//!
//! Pure: bytes in, names out. A name is the session ID or the ticket of TLS 1.2 (RFC 5246 §7.4.1.2, RFC 5077 §3.2) or the
//! identity of a pre-shared key of TLS 1.3 (RFC 8446 §4.2.11).

/// The longest ClientHello that is parsed, in bytes with its record headers. With a post-quantum key share it has about
/// 1,700; tickets of other servers can make it a few thousand longer.
pub const MAX_HELLO: usize = 16 * 1024;

/// Bytes that hold nearly every ClientHello.
pub const USUAL_HELLO: usize = 4096;

/// The record type of handshake messages, and so the first byte of a ClientHello.
pub const HANDSHAKE_RECORD: u8 = 22;

/// The handshake message with which a client begins.
const CLIENT_HELLO: u8 = 1;

/// The extension that holds a ticket of TLS 1.2; empty, it only asks for one.
const SESSION_TICKET: &[u8] = &[0, 35];

/// The extension that names pre-shared keys.
const PRE_SHARED_KEY: &[u8] = &[0, 41];

/// OpenSSL names three at most, with the session ID; further names are not looked up.
const MAX_NAMES: usize = 9;

/// The kind of the first bytes of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientHello {
    /// The beginning of a ClientHello; more has to follow.
    Incomplete,
    /// A whole ClientHello and the names of TLS sessions in it, in its order. The first is made up mostly: beside a
    /// ticket, and in TLS 1.3, the session ID names nothing.
    Names(Vec<Vec<u8>>),
    /// Something else, or longer than [`MAX_HELLO`].
    Other,
}

/// Looks at the first bytes of a connection.
pub fn read(bytes: &[u8]) -> ClientHello {
    match message(bytes) {
        HandshakeMessage::Whole(hello) => {
            names(&hello).map_or(ClientHello::Other, ClientHello::Names)
        }
        HandshakeMessage::Part if bytes.len() < MAX_HELLO => ClientHello::Incomplete,
        HandshakeMessage::Part | HandshakeMessage::Other => ClientHello::Other,
    }
}

/// The first handshake message of a connection, taken out of its records.
enum HandshakeMessage {
    Part,
    Whole(Vec<u8>),
    Other,
}

fn message(bytes: &[u8]) -> HandshakeMessage {
    let mut input = Input(bytes);
    let mut message = Vec::new();
    loop {
        // Each byte is checked as soon as it is there: a peer of another protocol may be waiting for an answer.
        match input.0.first() {
            None => return HandshakeMessage::Part,
            Some(&HANDSHAKE_RECORD) => {}
            Some(_) => return HandshakeMessage::Other,
        }
        match input.0.get(1) {
            None => return HandshakeMessage::Part,
            Some(3) => {}
            Some(_) => return HandshakeMessage::Other,
        }
        let Some(record) = input.skip(3).and_then(|()| input.vector::<2>()) else {
            return HandshakeMessage::Part;
        };
        if record.is_empty() {
            return HandshakeMessage::Other;
        }
        message.extend_from_slice(record);
        let mut header = Input(&message);
        match header.take(1) {
            Some([CLIENT_HELLO]) => {}
            _ => return HandshakeMessage::Other,
        }
        if let Some(body) = header.vector::<3>() {
            return HandshakeMessage::Whole(body.to_vec());
        }
    }
}

/// The names in the body of a ClientHello; `None` if it is malformed.
fn names(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut hello = Input(body);
    // Version and random.
    hello.skip(2 + 32)?;
    let session_id = hello.vector::<1>()?;
    let _cipher_suites = hello.vector::<2>()?;
    let _compression = hello.vector::<1>()?;
    let mut found = Vec::new();
    if !session_id.is_empty() {
        found.push(session_id.to_vec());
    }
    if hello.0.is_empty() {
        // TLS 1.2 allows a hello without extensions.
        return Some(found);
    }
    let mut extensions = Input(hello.vector::<2>()?);
    while !extensions.0.is_empty() {
        let kind = extensions.take(2)?;
        let content = extensions.vector::<2>()?;
        if kind == SESSION_TICKET && !content.is_empty() {
            found.push(content.to_vec());
        }
        if kind == PRE_SHARED_KEY {
            let mut identities = Input(Input(content).vector::<2>()?);
            while !identities.0.is_empty() {
                let identity = identities.vector::<2>()?;
                // The ticket's age.
                identities.skip(4)?;
                found.push(identity.to_vec());
            }
        }
        found.truncate(MAX_NAMES);
    }
    Some(found)
}

/// The bytes left to read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(|_| ())
    }

    /// Bytes with their length in front, which is a big-endian number of `N` bytes. Nothing is taken if they are not
    /// all there.
    fn vector<const N: usize>(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_at_checked(N)?;
        let length = length
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let (vector, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(vector)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::client::{Resumption, Tls12Resumption};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection};

    use super::*;
    use crate::base::SessionId;
    use crate::config::TlsVersion;
    use crate::tls::fixtures::{Authority, VERSIONS, client, handshake, set_of};
    use crate::tls::{ServerTls, SessionStore, SessionTls};

    fn hello_of(client: &Arc<ClientConfig>) -> Vec<u8> {
        let name = ServerName::try_from("ftp.test").unwrap();
        let mut connection = ClientConnection::new(Arc::clone(client), name).unwrap();
        let mut hello = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut hello).unwrap();
        }
        hello
    }

    #[test]
    fn a_client_that_resumes_names_its_session_and_no_other() {
        for (versions, how) in [
            (VERSIONS[0], Tls12Resumption::SessionIdOnly),
            (VERSIONS[0], Tls12Resumption::SessionIdOrTickets),
            (VERSIONS[1], Tls12Resumption::Disabled),
        ] {
            let authority = Authority::new("CA");
            let tls = ServerTls::new(set_of(&authority.issue(&["ftp.test"])), TlsVersion::V1_2);
            let sessions = Arc::new(SessionStore::new());
            let mut client = client(&authority, versions);
            client.resumption = Resumption::default().tls12_resumption(how);
            let client = Arc::new(client);
            let owner = |hello: &[u8]| match read(hello) {
                ClientHello::Names(names) => sessions.owner_of(&names).map(|whose| whose.session),
                other => panic!("{other:?}"),
            };
            assert_eq!(owner(&hello_of(&client)), None);
            let session = SessionTls::new(&tls, Some(&sessions), SessionId(7));
            handshake(&client, &session.control(), "ftp.test").unwrap();
            let hello = hello_of(&client);
            assert_eq!(owner(&hello), Some(SessionId(7)));
            drop(session);
            assert_eq!(owner(&hello), None);
        }
    }

    #[test]
    fn a_hello_is_recognised_however_it_is_cut_into_records_and_segments() {
        let authority = Authority::new("CA");
        let hello = hello_of(&Arc::new(client(&authority, VERSIONS[1])));
        let whole = read(&hello);
        assert!(matches!(whole, ClientHello::Names(_)));
        for end in 0..hello.len() {
            assert_eq!(read(&hello[..end]), ClientHello::Incomplete, "{end}");
        }
        for size in [1, 3, 4, 100] {
            let records: Vec<u8> = hello[5..]
                .chunks(size)
                .flat_map(|chunk| [&[22, 3, 1, 0, chunk.len() as u8], chunk].concat())
                .collect();
            if records.len() < MAX_HELLO {
                assert_eq!(read(&records), whole, "{size}");
            }
        }
    }

    #[test]
    fn what_is_no_hello_is_told_from_its_first_bytes() {
        assert_eq!(read(b""), ClientHello::Incomplete);
        for other in [
            &b"G"[..],
            b"\x16\x02",
            b"\x15\x03\x03\x00\x02\x01\x00",
            b"\x16\x03\x01\x00\x01\x02",
            b"\x16\x03\x01\x00\x00",
        ] {
            assert_eq!(read(other), ClientHello::Other, "{other:?}");
        }
    }

    #[test]
    fn a_hello_that_never_ends_is_given_up() {
        let mut endless = vec![22, 3, 1, 0x3F, 0xFF, 1, 0xFF, 0xFF, 0xFF];
        endless.resize(MAX_HELLO - 1, 0);
        assert_eq!(read(&endless), ClientHello::Incomplete);
        endless.push(0);
        assert_eq!(read(&endless), ClientHello::Other);
    }

    proptest! {
        #[test]
        fn any_bytes_are_something(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            let _ = names(&bytes);
        }
    }
}
