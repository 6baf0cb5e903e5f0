//! The File Transfer Protocol as bytes and values: no sockets, no clock, no settings but a site's
//! `passive_mode`.
//!
//! Input is split into lines ([`mod@line`]) and read as a [`command`] or a [`reply`]; [`address`] is the notation of PORT, EPRT,
//! 227 and 229; [`announced_size`] is the length of a file that a reply announces; [`directory`] follows a client through its
//! server's directories; [`features`] joins our FEAT list with a backend's; [`refusal`] distinguishes wrong credentials from
//! other reasons for a refused login; [`server`] is what has been learned about a server, and [`port_methods`] how it is asked
//! for data connections; [`shown`] is what may be shown of a reply that may repeat a password; [`answer`] holds every reply whose
//! text is Portcullis' own.

pub mod address;
pub mod announced_size;
pub mod answer;
pub mod command;
pub mod directory;
pub mod features;
pub mod line;
pub mod port_methods;
pub mod refusal;
pub mod reply;
pub mod server;
pub mod shown;
