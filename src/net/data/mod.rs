//! The two ends of a transfer's bytes, [`Source`](source::Source) and [`Sink`](sink::Sink), and the relay between them, with
//! and without a limit on its rate.
//!
//! A transfer under TLS has two TLS stacks. A source uses rustls' unbuffered API (`tls_source`): it reads as much as there
//! is and decrypts in place, which costs an upload half of what a buffered stream does. A sink writes through
//! tokio-rustls, as control connections do ([`stream`](super::stream)): rustls encrypts into its own buffer either way, so
//! the unbuffered API would save nothing there.

mod arrivals;
mod buffered_source;
pub mod limited;
pub mod relay;
pub mod sink;
pub mod source;
mod tls_source;
