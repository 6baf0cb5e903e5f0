//! lftp's script.

use std::net::IpAddr;
use std::process::Command;

use super::{Action, ClientTls, DataMode, Login};
use crate::DEADLINE;
use crate::programs::{program, resolve};

impl Login {
    pub(super) fn lftp(&self, action: Action, remote: &str) -> Command {
        let mut script = vec![
            "debug 4".to_owned(),
            "set cmd:fail-exit yes".to_owned(),
            "set net:max-retries 1".to_owned(),
            // After a failure that isn't final it would wait for half a minute, and then longer and longer.
            "set net:reconnect-interval-base 1".to_owned(),
            "set net:reconnect-interval-multiplier 1".to_owned(),
            format!("set net:timeout {}", DEADLINE.as_secs()),
            format!("set ftp:ssl-allow {}", self.tls != ClientTls::Clear),
            format!("set ftp:ssl-force {}", self.tls != ClientTls::Clear),
            "set ftp:ssl-protect-data yes".to_owned(),
            format!("set ftp:passive-mode {}", self.data != DataMode::Active),
            format!("set ftp:prefer-epsv {}", self.data == DataMode::Epsv),
        ];
        if let Some(ca) = &self.ca {
            script.push(format!(
                "set ssl:ca-file {}",
                quoted(&ca.display().to_string())
            ));
        }
        if let Some(rate) = self.rate {
            script.push(format!("set net:limit-rate {rate}"));
        }
        if self.max_tls_1_2 {
            script.push("set ssl:priority NORMAL:-VERS-TLS1.3".to_owned());
        }
        let scheme = self.tls.scheme();
        let host = match &self.name {
            Some(name) => name.clone(),
            None => url_host(self.address.ip()),
        };
        script.push(format!(
            "open --user {} --password {} {scheme}://{host}:{}",
            quoted(&self.user),
            quoted(&self.password),
            self.address.port(),
        ));
        let local = quoted(&self.local().display().to_string());
        script.push(match action {
            Action::List => format!("ls {}", quoted(remote)),
            Action::Upload => format!("put {local} -o {}", quoted(remote)),
            Action::Download => format!("get {} -o {local}", quoted(remote)),
        });
        script.push("bye".to_owned());
        let mut lftp = Command::new(program("lftp"));
        lftp.arg("--norc").arg("-c").arg(script.join("; "));
        if let Some(name) = &self.name {
            let hosts = self.scratch.path().join("hosts");
            resolve(&mut lftp, &hosts, name, self.address.ip());
        }
        lftp
    }
}

fn url_host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// A word of an lftp command line.
fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}
