//! Why the process can't start, or a reload is refused.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::file_work::FILES_TIMEOUT;
use crate::announce::LookupError;
use crate::backend::BackendError;
use crate::base::text::escape_path;
use crate::config;
use crate::net::inherited::InheritedError;
use crate::net::listen;
use crate::net::unix::SocketError;
use crate::observe::reloads::Refusal;
use crate::observe::transfer_log::TransferLogError;
use crate::passive::PortError;
use crate::policy::credentials::CredentialFileError;
use crate::policy::users::UserFileError;
use crate::tls::fips::NotFips;
use crate::tls::{CertificateError, ClientTrustError};

/// Why the process can't start, or a reload is refused.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// Reading the configuration and the files that it names did not finish in time.
    #[error(
        "timed out after {} s reading the configuration or a file that it names",
        FILES_TIMEOUT.as_secs()
    )]
    FilesTimedOut,
    /// Opening the transfer logs did not finish in time.
    #[error("timed out after {} s opening the transfer logs", FILES_TIMEOUT.as_secs())]
    TransferLogsTimedOut,
    /// The certificate can't be served.
    #[error(transparent)]
    Certificate(#[from] Arc<CertificateError>),
    /// The cryptography isn't what this was built for.
    #[error(transparent)]
    Fips(#[from] NotFips),
    /// A backend's TLS can't be set up.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The authorities or the revocation lists of clients' certificates can't be used.
    #[error(transparent)]
    ClientTrust(#[from] ClientTrustError),
    /// A file of passwords can't be used.
    #[error(transparent)]
    Credentials(#[from] CredentialFileError),
    /// A file of users can't be used.
    #[error(transparent)]
    Users(#[from] UserFileError),
    /// A passive address can't be looked up.
    #[error(transparent)]
    PassiveAddress(#[from] LookupError),
    /// A passive port can't be opened.
    #[error(transparent)]
    Passive(#[from] PortError),
    /// A transfer log can't be opened.
    #[error(transparent)]
    TransferLog(#[from] TransferLogError),
    /// A listener can't be opened.
    #[error("the {what} {address} can't be opened: {source}{}", listen::bind_error_hint(*address, source))]
    Listen {
        /// `listener` or `admin endpoint`.
        what: &'static str,
        /// The address as configured.
        address: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
    /// The socket for actions can't be opened.
    #[error(
        "the socket {} (admin.socket) can't be opened: {source}",
        escape_path(path)
    )]
    Socket {
        /// The path as configured.
        path: PathBuf,
        /// The error.
        source: SocketError,
    },
    /// A socket of the service manager can't be used.
    #[error(transparent)]
    Inherited(#[from] InheritedError),
    /// The operating system refuses something that every process has.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl StartError {
    /// The refusal of a reload for this error.
    pub(super) fn refusal(&self) -> Refusal {
        let text = self.to_string();
        let summary = match self {
            Self::Config(error) => error.summary(),
            _ => text.clone(),
        };
        Refusal { text, summary }
    }

    /// Whether the error is due to the content of the configuration and of the files that it names, and to nothing else.
    pub(super) fn is_in_files(&self) -> bool {
        match self {
            Self::Config(_)
            | Self::Certificate(_)
            | Self::Backend(_)
            | Self::ClientTrust(_)
            | Self::Credentials(_)
            | Self::Users(_) => true,
            Self::Fips(_)
            | Self::FilesTimedOut
            | Self::TransferLogsTimedOut
            | Self::PassiveAddress(_)
            | Self::Passive(_)
            | Self::Listen { .. }
            | Self::TransferLog(_)
            | Self::Socket { .. }
            | Self::Inherited(_)
            | Self::System(_) => false,
        }
    }
}
