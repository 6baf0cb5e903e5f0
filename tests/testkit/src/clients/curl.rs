//! curl's command line.

use std::process::Command;

use super::{Action, ClientTls, DataMode, Login};
use crate::DEADLINE;
use crate::programs::program;

impl Login {
    pub(super) fn curl(&self, action: Action, remote: &str) -> Command {
        let mut curl = Command::new(program("curl"));
        curl.args([
            "--silent",
            "--show-error",
            "--verbose",
            "--max-time",
            &DEADLINE.as_secs().to_string(),
        ]);
        curl.arg("--user")
            .arg(format!("{}:{}", self.user, self.password));
        if let Some(ca) = &self.ca {
            curl.arg("--cacert").arg(ca);
        }
        if self.tls == ClientTls::Explicit {
            curl.arg("--ssl-reqd");
        }
        if self.max_tls_1_2 {
            curl.args(["--tls-max", "1.2"]);
        }
        if let Some(rate) = self.rate {
            curl.arg("--limit-rate").arg(rate.to_string());
        }
        match self.data {
            DataMode::Pasv => curl.arg("--disable-epsv"),
            DataMode::Epsv => &mut curl,
            DataMode::Active => curl.args(["--ftp-port", "-"]),
        };
        match action {
            Action::List => &mut curl,
            Action::Upload => curl.arg("--upload-file").arg(self.local()),
            Action::Download => curl.arg("--output").arg(self.local()),
        };
        let scheme = self.tls.scheme();
        let port = self.address.port();
        let host = match &self.name {
            Some(name) => {
                curl.arg("--resolve")
                    .arg(format!("{name}:{port}:{}", self.address.ip()));
                format!("{name}:{port}")
            }
            None => self.address.to_string(),
        };
        // A directory's URL ends in a slash.
        let slash = if matches!(action, Action::List) && !remote.is_empty() {
            "/"
        } else {
            ""
        };
        curl.arg(format!("{scheme}://{host}/{remote}{slash}"));
        curl
    }
}
