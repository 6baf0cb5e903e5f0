//! The live sessions, and the transfers that they run.

use std::net::SocketAddr;

use serde::Serialize;

use super::Moment;

/// Whether names of users and files are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disclosure {
    /// They aren't: `admin.status: summary`.
    Summary,
    /// They are.
    Full,
}

/// One live session.
#[derive(Debug, Clone, Serialize)]
pub struct SessionView {
    /// Its number, as in the log.
    pub id: u64,
    /// The client's address.
    pub client: SocketAddr,
    /// The configured address of its listener.
    pub listener: SocketAddr,
    /// When it began.
    pub since: Moment,
    /// How long ago that is.
    pub seconds: f64,
    /// What it is doing.
    pub state: &'static str,
    /// The TLS version of its control connection; none in clear text.
    pub tls: Option<&'static str>,
    /// Its site, once a login has named one.
    pub site: Option<String>,
    /// Its user's group, if the user is in one.
    pub group: Option<String>,
    /// Its user, escaped; none before USER, and where names aren't shown.
    pub user: Option<String>,
    /// Whether the login has succeeded.
    pub logged_in: bool,
    /// The address of its backend.
    pub backend: Option<SocketAddr>,
    /// The TLS version there; none in clear text.
    pub backend_tls: Option<&'static str>,
    /// The transfer that it runs.
    pub transfer: Option<TransferView>,
}

/// One running transfer.
#[derive(Debug, Clone, Serialize)]
pub struct TransferView {
    /// The number of its session.
    pub session: u64,
    /// The client's address.
    pub client: SocketAddr,
    /// Its session's site.
    pub site: Option<String>,
    /// Its session's user, escaped; none where names aren't shown.
    pub user: Option<String>,
    /// The address of its backend.
    pub backend: Option<SocketAddr>,
    /// Its command, for example `RETR`.
    pub command: &'static str,
    /// What that names, escaped; none where names aren't shown.
    pub path: Option<String>,
    /// Which way its bytes go: `upload`, `download` or `listing`.
    pub direction: &'static str,
    /// How many have gone.
    pub bytes: u64,
    /// How many there are to be, where the backend or the client has said so.
    pub size: Option<u64>,
    /// When the command came.
    pub since: Moment,
    /// How long ago that is.
    pub seconds: f64,
    /// On average since then.
    pub bytes_per_second: f64,
}
