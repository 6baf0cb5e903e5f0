//! Clients with failed logins.

use serde::Serialize;

/// The failed logins of one client at one site.
#[derive(Debug, Clone, Serialize)]
pub struct GuardView {
    /// Its address; of IPv6, its network.
    pub client: String,
    /// The site; none for logins that led to none.
    pub site: Option<String>,
    /// How many failures count at the moment.
    pub failures: u32,
    /// For how long it is blocked yet; none if it isn't.
    pub blocked_seconds: Option<f64>,
}
