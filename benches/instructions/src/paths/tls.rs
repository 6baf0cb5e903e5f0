//! What binds data connections to their control connection, without the cryptography.

use std::fs;
use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use portcullis::base::SessionId;
use portcullis::config::{SessionReuse, TlsVersion};
use portcullis::tls::client_hello::{self, ClientHello};
use portcullis::tls::{
    CertificatePair, CertificateSet, ServerTls, SessionStore, SessionTls, Tickets,
};

use crate::valgrind::counted_from_here;

/// Sessions that are on while another one is looked at.
const OTHERS: u64 = 1000;

/// The TLS of one session, from its beginning to its end.
pub fn session(rounds: u32) -> io::Result<()> {
    let crowd = Crowd::new()?;
    counted_from_here(rounds, &mut || {
        let tls = crowd.session(OTHERS);
        black_box(tls.control());
    });
    Ok(())
}

/// The way from a ClientHello on a shared data port to the TLS session that it resumes.
pub fn data_connection_lookup(rounds: u32) -> io::Result<()> {
    let crowd = Crowd::new()?;
    let hello = client_hello(&name_of(500));
    counted_from_here(rounds, &mut || {
        let ClientHello::Names(names) = client_hello::read(&hello) else {
            panic!("a whole ClientHello");
        };
        let owner = crowd.sessions.owner_of(&names);
        assert_eq!(owner.map(|whose| whose.session), Some(SessionId(500)));
        let data = crowd.on[500].data(SessionReuse::Prefer, Tickets::Restock);
        let connection = data.connection();
        let found = connection.config().session_storage.get(&names[0]);
        assert!(found.is_some());
    });
    Ok(())
}

/// Many sessions, each with TLS sessions of its own.
struct Crowd {
    tls: ServerTls,
    sessions: Arc<SessionStore>,
    on: Vec<SessionTls>,
}

impl Crowd {
    fn new() -> io::Result<Self> {
        let mut crowd = Self {
            tls: ServerTls::new(certificates()?, TlsVersion::V1_2),
            sessions: Arc::new(SessionStore::new()),
            on: Vec::new(),
        };
        for id in 0..OTHERS {
            let session = crowd.session(id);
            session
                .control()
                .session_storage
                .put(name_of(id), vec![0; 100]);
            crowd.on.push(session);
        }
        Ok(crowd)
    }

    fn session(&self, id: u64) -> SessionTls {
        SessionTls::new(&self.tls, Some(&self.sessions), SessionId(id))
    }
}

/// The name of a TLS session as TLS 1.2 has it, of 32 bytes.
fn name_of(id: u64) -> Vec<u8> {
    id.to_be_bytes().repeat(4)
}

/// A ClientHello of TLS 1.2 that asks for this session.
fn client_hello(name: &[u8]) -> Vec<u8> {
    let hello = [
        &[3, 3][..],
        &[7; 32],
        &[32],
        name,
        // One cipher suite, no compression, no extensions.
        &[0, 2, 0xc0, 0x2b, 1, 0],
    ]
    .concat();
    let length = u8::try_from(hello.len()).expect("a short hello");
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &hello].concat()
}

/// One certificate made on the spot, for `bench.test`.
pub fn certificates() -> io::Result<Arc<CertificateSet>> {
    let folder = tempfile::tempdir()?;
    let made =
        rcgen::generate_simple_self_signed(["bench.test".to_owned()]).map_err(io::Error::other)?;
    let (chain, key) = (folder.path().join("crt"), folder.path().join("key"));
    fs::write(&chain, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    let pair = CertificatePair::load(&chain, &key, SystemTime::now()).map_err(io::Error::other)?;
    Ok(Arc::new(CertificateSet::from(pair)))
}
