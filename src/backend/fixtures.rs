//! Pools and ids of backends for the tests of this module.

use std::path::Path;

use super::{Pools, Registry};
use crate::base::BackendId;
use crate::config;

/// The id of a backend at this port.
pub fn backend_id(port: u16) -> BackendId {
    BackendId {
        host: "10.0.0.10".to_owned(),
        port,
    }
}

/// The pools of these sites, as a configuration has them.
pub fn load(sites: &str, registry: &Registry) -> Pools {
    let text = format!(
        "listeners: [{{address: 127.0.0.1:0, tls: explicit}}]\n\
         tls: {{certificate: tls.crt, private_key: tls.key}}\n\
         sites:\n{sites}"
    );
    let settings = config::parse(&text, Path::new("p.yaml")).expect("a configuration");
    Pools::load(&settings.sites, registry).expect("pools")
}
