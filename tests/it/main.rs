//! Tests of the whole program over real sockets, with real peers and scripted ones.
//!
//! Run `make test`, which first puts the peers in place (`tests/install.sh`).

mod acceptance;
mod attacks;
mod backends;
mod conformance;
mod data_ports;
mod in_process;
mod instances;
mod operations;
mod policy;
mod program;
mod protocol;
mod stage;
mod transfers;
