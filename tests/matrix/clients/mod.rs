//! How each client is told what to do: its command line, its script, or a driver in its language.

pub mod aioftp;
pub mod basic_ftp;
pub mod commons_net;
pub mod curl;
pub mod filezilla;
pub mod ftplib;
pub mod lftp;
pub mod mono;
pub mod ncftp;
pub mod perl;
pub mod php;
pub mod pycurl;
pub mod rclone;
pub mod ruby;
mod script;
pub mod suppaftp;
pub mod tnftp;
pub mod wget;
