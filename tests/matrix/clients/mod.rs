//! How each client is told what to do: its command line, its script, or a driver in its language.

pub mod aioftp;
pub mod basic_ftp;
pub mod curl;
pub mod filezilla;
pub mod ftplib;
pub mod lftp;
pub mod ncftp;
pub mod rclone;
pub mod ruby;
mod script;
pub mod tnftp;
pub mod wget;
