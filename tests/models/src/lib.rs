//! The worlds around the program's state machines: what may happen to them at a moment, and what has to hold whatever does.
//!
//! The property tests beside it and the fuzz targets of the same names share it.

pub mod leases;
pub mod session;
