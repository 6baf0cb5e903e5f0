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
//! What is kept apart: *protocol* ([`ftp`], [`session::machine`]: pure), *policy* ([`config`], [`policy`], [`route`], [`snapshot`]:
//! immutable snapshots; [`announce`] too, but that the address of a name follows its name server), *counters*
//! ([`limit`], [`guard`]: bounded, and without rules of their own) and *I/O* ([`net`], [`passive`], [`backend`], the
//! rest of [`session`], [`admin`], [`app`]). Imports run one way: `cli -> { check, explain -> app, probe, import, health, control } -> admin -> view -> session ->
//! {session::machine, snapshot} -> {backend, passive} -> net -> {announce, guard, limit, route, tls} -> observe ->
//! ftp -> outcome -> config -> policy -> base`.

#![forbid(unsafe_code)]

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
