//! Tests of the whole program over real sockets, with real peers and scripted ones.
//!
//! Run `make test`, which first puts the peers in place (`tests/install.sh`).

mod acceptance;
mod real_servers;
mod scripted_backend;
mod support;
