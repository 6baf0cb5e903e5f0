//! aioftp, by a driver in Python. It does the TLS handshake of a data connection before the transfer command.

use testkit::programs::servers;

use crate::client::{Plan, Run};
use crate::job::{Job, Login, Workspace};

use super::script;

pub fn plan(login: &Login, workspace: &Workspace, jobs: &[Job]) -> Plan {
    script::plan(|| start(login, workspace, jobs), workspace, jobs)
}

fn start(login: &Login, workspace: &Workspace, jobs: &[Job]) -> Run {
    let mut run = Run::at(&servers().join("aioftp/bin/python"));
    run.command()
        .arg("-c")
        .arg(include_str!("aioftp.py"))
        .args(script::settings(login, workspace, jobs));
    run
}
