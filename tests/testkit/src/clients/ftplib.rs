//! The job of a Python program that runs ftplib.

use std::process::Command;

use super::{Action, ClientTls, DataMode, Login};
use crate::DEADLINE;
use crate::programs::program;

impl Login {
    pub(super) fn ftplib(&self, action: Action, remote: &str, reuse: bool) -> Command {
        let host = self.address.ip().to_string();
        let local = self.local().display().to_string();
        let ca = self
            .ca
            .as_ref()
            .map(|ca| ca.display().to_string())
            .unwrap_or_default();
        let job = [
            ("host", host.as_str()),
            ("name", self.name.as_deref().unwrap_or(&host)),
            ("port", &self.address.port().to_string()),
            ("user", &self.user),
            ("password", &self.password),
            ("timeout", &DEADLINE.as_secs().to_string()),
            ("reuse", if reuse { "yes" } else { "no" }),
            ("max_tls", if self.max_tls_1_2 { "1.2" } else { "1.3" }),
            ("ca", &ca),
            ("remote", remote),
            ("local", &local),
            ("tls", self.tls.word()),
            ("data", self.data.word()),
            ("action", action.word()),
        ];
        let mut python = Command::new(program("python3"));
        let driver = [FTPLIB_SESSION, include_str!("ftplib_driver.py")].concat();
        python.arg("-c").arg(driver);
        python.args(job.iter().map(|(key, value)| format!("{key}={value}")));
        python
    }
}

/// What drivers of ftplib begin with: a session whose data connections resume its TLS session if they are to.
pub const FTPLIB_SESSION: &str = include_str!("ftplib_session.py");

// The words that ftplib_driver.py knows.
impl ClientTls {
    fn word(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Explicit => "explicit",
            Self::Implicit => "implicit",
        }
    }
}

impl DataMode {
    fn word(self) -> &'static str {
        match self {
            Self::Pasv => "pasv",
            Self::Epsv => "epsv",
            Self::Active => "active",
        }
    }
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Upload => "upload",
            Self::Download => "download",
        }
    }
}
