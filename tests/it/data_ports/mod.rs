//! Passive data ports: what clients are told of them, and whose a connection is that comes to one.

mod announcements;
mod crowd;
mod session_reuse;
mod shared_port;
mod shared_port_programs;
