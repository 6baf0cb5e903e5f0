//! What the RFCs ask for and what servers and clients make of it. `docs/conformance.md` names every test.

mod abort;
mod data_ports;
mod lines;
mod login;
mod never_deaf;
mod servers;
mod transfers;
