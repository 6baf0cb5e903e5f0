//! TLS-ALPN-01 (RFC 8737): the answer is a certificate, shown only to clients that speak `acme-tls/1`.

use std::collections::HashMap;
use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{ChallengeError, Proof, serve_challenge};
use crate::net::bounded_server::RequestSeen;
use crate::net::listen::Acceptor;
use crate::tls;

const PROTOCOL: &[u8] = b"acme-tls/1";

/// The certificates that answer challenges, by name.
#[derive(Debug)]
pub struct Certificates(HashMap<String, Arc<CertifiedKey>>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Without any protocol rustls would go on.
        let is_authority = hello
            .alpn()
            .is_some_and(|mut offered| offered.any(|it| it == PROTOCOL));
        let name = hello.server_name().filter(|_| is_authority)?;
        self.0.get(&name.to_ascii_lowercase()).cloned()
    }
}

/// The certificates for these proofs (RFC 8737 §3).
pub fn certificates(proofs: &[Proof]) -> Result<Certificates, ChallengeError> {
    let each = proofs.iter().map(|proof| {
        let key = certificate(proof).map_err(ChallengeError::Certificate)?;
        Ok((proof.name.clone(), Arc::new(key)))
    });
    each.collect::<Result<_, _>>().map(Certificates)
}

fn certificate(proof: &Proof) -> Result<CertifiedKey, String> {
    let text = |error: rcgen::Error| error.to_string();
    let mut params = CertificateParams::new(vec![proof.name.clone()]).map_err(text)?;
    params.distinguished_name = DistinguishedName::new();
    let digest = proof.authorization.digest();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
    let key = KeyPair::generate().map_err(text)?;
    let certificate = params.self_signed(&key).map_err(text)?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let key = tls::provider().key_provider.load_private_key(key);
    let key = key.map_err(|error| error.to_string())?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

/// Shows the certificates until the future is dropped.
pub fn serve(acceptor: Acceptor, certificates: Certificates) -> impl Future<Output = ()> + Send {
    let mut config = ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .expect("invariant: the provider has cipher suites for TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.send_tls13_tickets = 0;
    let tls = TlsAcceptor::from(Arc::new(config));
    serve_challenge(acceptor, move |stream, request_seen| {
        answer(stream, request_seen, tls.clone())
    })
}

/// A handshake, and nothing behind it. Errors are the peer's.
async fn answer(stream: TcpStream, request_seen: RequestSeen, tls: TlsAcceptor) {
    if let Ok(mut stream) = tls.accept(stream).await {
        request_seen.set();
        drop(stream.shutdown().await);
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::base::task::Task;

    #[tokio::test]
    async fn nobody_but_an_authority_is_shown_the_answer() {
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let own = own.self_signed(&key).unwrap();
        let der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let signer = tls::provider().key_provider.load_private_key(der).unwrap();
        let answer = CertifiedKey::new(vec![own.der().clone()], signer);
        let answers = Certificates(HashMap::from([("a.test".to_owned(), Arc::new(answer))]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _serving = Task::spawn(serve(Acceptor::new(listener), answers));
        let mut roots = RootCertStore::empty();
        roots.add(own.der().clone()).unwrap();
        let is_shown = async |name: &'static str, protocols: &[&[u8]]| {
            let mut config = ClientConfig::builder_with_provider(tls::provider())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
            let stream = TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from(name).unwrap();
            let connector = TlsConnector::from(Arc::new(config));
            connector.connect(name, stream).await.is_ok()
        };
        assert!(is_shown("a.test", &[PROTOCOL]).await);
        assert!(is_shown("A.test", &[b"h2", PROTOCOL]).await);
        assert!(!is_shown("b.test", &[PROTOCOL]).await);
        assert!(!is_shown("a.test", &[b"h2", b"http/1.1"]).await);
        assert!(!is_shown("a.test", &[]).await);
    }
}
