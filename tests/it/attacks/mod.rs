//! Attacks over real sockets. `docs/threats.md` says which of these, and of the tests elsewhere, stands for which threat.

mod backends;
mod bounce;
mod fairness;
mod injection;
mod reload;
mod slow;
mod tls;
mod upgrade;
