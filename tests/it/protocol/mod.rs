//! Peers that send what is no FTP or no TLS, or hardly any.

mod bad_input;
mod bad_replies;
mod client_hellos;
mod unusual_clients;
