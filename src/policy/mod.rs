//! The rules of one site for its clients: from where, by which certificates, with which commands, how fast, and what they are
//! told.
//!
//! Values and decisions alone, without sockets and without the time: the configuration builds them, and the session asks them. A
//! site without such settings has [`SitePolicy::default`], which allows everything at the cost of a look at empty lists.

pub mod client_certificate;
pub mod clients;
pub mod commands;
pub mod credentials;
pub mod lookup;
pub mod lookup_watch;
pub mod notice;
pub mod rates;
pub mod users;

pub use client_certificate::{
    Admission, CertificateResult, CertificateRules, CertificateUser, ClientIdentity, KeyProof,
};
pub use clients::ClientRules;
pub use commands::{CommandRules, DeniedCommand, Preset};
pub use credentials::{CredentialFile, CredentialFiles};
pub use notice::Notice;
pub use rates::{Rate, Rates};
pub use users::{UserFile, UserFiles, UserList};

/// The rules of one site for its clients.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SitePolicy {
    /// The networks that clients may connect from.
    pub clients: ClientRules,
    /// The certificates by which they prove their identity; `None` if by none.
    pub client_certificate: Option<CertificateRules>,
    /// The commands that clients may send.
    pub commands: CommandRules,
    /// The reply to each login while the site is out of service.
    pub maintenance: Option<Notice>,
    /// The text in front of the backend's own reply to a login.
    pub login_text: Option<Notice>,
    /// The rates of transfers.
    pub rates: Rates,
}
