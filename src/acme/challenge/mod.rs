//! Showing the authority that names are ours: by a file over HTTP, a certificate over TLS, or a TXT record.
//!
//! Listeners are open only while an order runs, and DNS records are removed again, however the order ends.

pub(super) mod dns;
mod http;
mod tls_alpn;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use instant_acme::{ChallengeType, KeyAuthorization};
use tokio::net::TcpStream;

use dns::TxtRecord;

use crate::base::task::Task;
use crate::config::AcmeChallenge;
use crate::net::bounded_server::{self, RequestSeen};
use crate::net::listen::{self, Acceptor};

pub use dns::{HookError, check_program as check_hook};

/// From accept to the last byte of the answer.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(15);

/// The proof that the authority is to find for one name.
#[derive(Debug)]
pub(super) struct Proof {
    /// The name, without the star of a wildcard.
    pub name: String,
    /// Token of the authority's challenge that it answers (RFC 8555 §8.3).
    pub token: String,
    /// The key authorization that answers the challenge.
    pub authorization: KeyAuthorization,
}

/// Why the authority can't be shown anything.
#[derive(Debug, thiserror::Error)]
pub enum ChallengeError {
    /// The address for it can't be listened on.
    #[error("{address} can't be opened for the challenge: {cause}{}", bind_error_hint(*address, cause))]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// The operating system's error.
        cause: io::Error,
    },
    /// No certificate can be made for it.
    #[error("no certificate can be made for the challenge: {0}")]
    Certificate(String),
    /// The program for the DNS fails.
    #[error(transparent)]
    Hook(#[from] HookError),
}

/// The proofs that are shown at the moment.
#[derive(Debug)]
pub(super) enum Shown {
    /// Answers until it is dropped.
    Listening(Task<()>),
    /// Records that have to be removed.
    Records(dns::Records),
}

/// The authority's name for this kind of challenge.
pub(super) fn kind(challenge: &AcmeChallenge) -> ChallengeType {
    match challenge {
        AcmeChallenge::Http(_) => ChallengeType::Http01,
        AcmeChallenge::TlsAlpn(_) => ChallengeType::TlsAlpn01,
        AcmeChallenge::Dns(_) => ChallengeType::Dns01,
    }
}

impl Shown {
    /// Prepares to show these proofs, without showing any yet.
    pub fn prepare(challenge: &AcmeChallenge, proofs: &[Proof]) -> Result<Self, ChallengeError> {
        Ok(match challenge {
            AcmeChallenge::Http(address) => {
                let acceptor = open(*address)?;
                Self::Listening(Task::spawn(http::serve(acceptor, proofs)))
            }
            AcmeChallenge::TlsAlpn(address) => {
                let certificates = tls_alpn::certificates(proofs)?;
                let acceptor = open(*address)?;
                Self::Listening(Task::spawn(tls_alpn::serve(acceptor, certificates)))
            }
            AcmeChallenge::Dns(program) => Self::Records(dns::Records::of(program.clone(), proofs)),
        })
    }

    /// Makes all proofs available to the authority. May be cancelled; then, too, [`Shown::take_away`] is due.
    pub async fn show(&mut self) -> Result<(), ChallengeError> {
        match self {
            Self::Listening(_) => Ok(()),
            Self::Records(records) => Ok(records.make().await?),
        }
    }

    /// The records that are left if the process ends before they are removed.
    pub fn records(&self) -> &[TxtRecord] {
        match self {
            Self::Listening(_) => &[],
            Self::Records(records) => records.all(),
        }
    }

    /// Shows nothing any more, and returns the records that may be left.
    pub async fn take_away(self) -> Vec<TxtRecord> {
        match self {
            Self::Listening(task) => {
                // Nothing listens any more when the order is told to have ended.
                task.end().await;
                Vec::new()
            }
            Self::Records(records) => records.remove().await,
        }
    }
}

/// Advice where the address can't be listened on, to follow the error.
fn bind_error_hint(address: SocketAddr, cause: &io::Error) -> String {
    let port = address.port();
    match cause.kind() {
        io::ErrorKind::AddrInUse => format!(
            "; `ss -tanp 'sport = :{port}'` shows what uses it: authorities come to ports 80 and 443 alone, so have that program make \
             room, or forward the challenge from there to another address, and write that one in `tls.acme.challenge`"
        ),
        io::ErrorKind::AddrNotAvailable => format!(
            "; no interface of this machine has the address {}, which is configured in `tls.acme.challenge`",
            address.ip()
        ),
        _ => listen::bind_error_hint(address, cause),
    }
}

fn open(address: SocketAddr) -> Result<Acceptor, ChallengeError> {
    listen::bind(address)
        .map(Acceptor::new)
        .map_err(|cause| ChallengeError::Listen { address, cause })
}

/// Answers the authority's connections, among those of other clients, until it is dropped.
async fn serve_challenge<F>(acceptor: Acceptor, answer: impl Fn(TcpStream, RequestSeen) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let name = "the listener of the ACME challenge";
    let never = std::future::pending();
    bounded_server::serve(name, acceptor, CONNECTION_DEADLINE, answer, never).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_can_not_be_opened_is_told_by_the_key_that_has_it() {
        let address: SocketAddr = "192.0.2.1:80".parse().expect("an address");
        for kind in [io::ErrorKind::AddrInUse, io::ErrorKind::AddrNotAvailable] {
            let cause = kind.into();
            let text = ChallengeError::Listen { address, cause }.to_string();
            assert!(text.contains("`tls.acme.challenge`"), "{text}");
            assert!(!text.contains("listeners"), "{text}");
        }
    }
}
