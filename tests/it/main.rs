//! Tests of the whole program over real sockets, with real peers and scripted ones.
//!
//! Run `make test`, which first puts the peers in place (`tests/install.sh`).

mod acceptance;
mod announcements;
mod attacks;
mod backend_failures;
mod backend_reuse;
mod backends;
mod bad_input;
mod bad_replies;
mod brute_force;
mod certificates;
mod client_hellos;
mod conformance_abort;
mod conformance_data_ports;
mod conformance_lines;
mod conformance_login;
mod conformance_servers;
mod conformance_transfers;
mod crowd;
mod drain;
mod fault_matrix;
mod first_contact;
mod integrity;
mod kills;
mod limits;
mod logs;
mod never_deaf;
mod odd_servers;
mod program;
mod proxy_protocol;
mod real_servers;
mod reload;
mod routing;
mod session_reuse;
mod shared_port;
mod shared_port_programs;
mod stage;
mod transfers;
mod unclean_backends;
mod unusual_clients;
mod uploads;

use testkit as support;
