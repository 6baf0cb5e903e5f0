//! Python's ftplib, by a driver in Python.

use crate::client::{PATIENCE, Plan, Run};
use crate::job::{Job, Login, Workspace};
use crate::leg::{Protection, Version};
use crate::support::clients::DataMode;

use super::script;

/// Whether data connections are made to resume the control connection's TLS session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// As ftplib is.
    No,
    /// As its users teach it.
    Yes,
}

pub fn plan(login: &Login, workspace: &Workspace, jobs: &[Job], reuse: Reuse) -> Plan {
    script::plan(|| start(login, workspace, jobs, reuse), workspace, jobs)
}

fn start(login: &Login, workspace: &Workspace, jobs: &[Job], reuse: Reuse) -> Run {
    let host = login.address.ip().to_string();
    let settings = [
        ("host", host.clone()),
        ("name", host),
        ("port", login.address.port().to_string()),
        ("user", login.user.clone()),
        ("password", login.password.clone()),
        ("timeout", PATIENCE.to_string()),
        ("ca", login.ca.display().to_string()),
        ("directory", workspace.remote.clone()),
        ("encoding", script::encoding(jobs).to_owned()),
        (
            "tls",
            match login.leg.protection {
                Protection::Clear => "clear",
                Protection::Explicit(_) => "explicit",
                Protection::Implicit(_) => "implicit",
            }
            .to_owned(),
        ),
        (
            "max_tls",
            match login.leg.protection.version() {
                Some(Version::Tls12) => "1.2",
                Some(Version::Tls13) | None => "1.3",
            }
            .to_owned(),
        ),
        (
            "reuse",
            if reuse == Reuse::Yes { "yes" } else { "no" }.to_owned(),
        ),
        (
            "data",
            match login.leg.data {
                DataMode::Pasv => "pasv",
                DataMode::Epsv => "epsv",
                DataMode::Active => "active",
            }
            .to_owned(),
        ),
    ];
    let mut run = Run::new("python3");
    run.command()
        .arg("-c")
        .arg(concat!(
            include_str!("../../it/support/clients/ftplib_session.py"),
            include_str!("ftplib.py")
        ))
        .args(settings.map(|(key, value)| format!("{key}={value}")));
    run
}
