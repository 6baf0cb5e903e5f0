//! Several instances behind one HAProxy, which share a configuration and nothing else: deploy/haproxy as it is, but for addresses,
//! ports below 1024, and times.
//!
//! `fleet` is what is deployed, and `client` a client of it. `crossing` has data connections come to the wrong instance, `killed`
//! has one die, and `restarts` restarts them all, again and again, under sessions in every phase.

mod client;
mod crossing;
mod fleet;
mod killed;
mod restarts;
