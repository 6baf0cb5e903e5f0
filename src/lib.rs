//! Portcullis: a TLS-terminating FTP reverse proxy.

pub mod config;
pub mod observe;
