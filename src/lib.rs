//! Portcullis: a TLS-terminating FTP reverse proxy.
//!
//! The way of one session, from top to bottom:
//!
//! ```text
//!   client                        Portcullis                                backend
//!     │      ┌──────────────────────────────────────────────────────┐         │
//!     │ TCP  │ app      accepts, admits (limit), takes the snapshot │         │
//!     ├─────▶│ session  greets, upgrades to TLS (tls), reads USER   │         │
//!     │ USER │ route    host|user, HOST, SNI, default → site        │         │
//!     ├─────▶│ backend  connect, greeting, TLS, PBSZ/PROT           ├────────▶│
//!     │ PASS │ session::machine   decides what each command, reply  │  USER   │
//!     ├─────▶│                    and data event means              ├────────▶│
//!     │ PASV │ passive  leases a port; the backend opens its own    │  EPSV   │
//!     ├─────▶│ session::transfer  two data connections, handshakes  ├────────▶│
//!     │      │ net::data       the bytes, and how they ended        │         │
//!     │◀─────┤ session::machine::transfer   the verdict             │◀────────┤
//!     │      └──────────────────────────────────────────────────────┘         │
//! ```
//!
//! Protocol, policy, counters and I/O are kept apart, and imports run one way: `docs/architecture.md` says which module is
//! which, and `tests/architecture.rs` proves it.

#![forbid(unsafe_code)]

pub mod acme;
pub mod admin;
pub mod announce;
pub mod app;
pub mod backend;
pub mod base;
pub mod check;
pub mod cli;
pub mod command;
pub mod config;
pub mod control;
pub mod explain;
pub mod ftp;
pub mod guard;
pub mod health;
pub mod import;
pub mod limit;
pub mod net;
pub mod observe;
pub mod outcome;
pub mod passive;
pub mod policy;
pub mod probe;
pub mod route;
pub mod session;
pub mod snapshot;
pub mod tls;
pub mod view;
