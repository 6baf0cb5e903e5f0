//! Python's ftplib, by a driver in Python.

use crate::client::{Plan, Run};
use crate::job::{Job, Login, Workspace};

use testkit::clients::FTPLIB_SESSION;

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
    let reuse = if reuse == Reuse::Yes { "yes" } else { "no" };
    let mut run = Run::new("python3");
    run.command()
        .arg("-c")
        .arg([FTPLIB_SESSION, include_str!("ftplib.py")].concat())
        .args(script::settings(login, workspace, jobs))
        .arg(format!("reuse={reuse}"));
    run
}
