//! The servers that only the matrix has.

pub mod iis;
pub mod inetutils;
