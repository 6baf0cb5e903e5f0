//! The commands that ask the running process, on their side of its admin socket: what they ask, and how they show the answer.
//!
//! A [`Request`] goes to a [`Socket`], and an [`ApiAnswer`] or a [`ControlError`] comes back. A [`Report`] shows one subject,
//! for people as a table or for programs as JSON; [`show`] has it do so once, or again and again. [`act`] has the process do
//! something. Of an answer only what is shown is read, so that a process of another version can be asked as well.

mod amount;
mod answer;
pub mod backends;
mod error;
pub mod guard;
mod report;
mod screen;
pub mod sessions;
pub mod socket;
pub mod status;
mod table;
pub mod transfers;

pub use answer::{ApiAnswer, Rounds};
pub use error::ControlError;
pub use report::{Format, Frame, Report, act, show};
pub use socket::{Request, Socket};

#[cfg(test)]
mod tests;
