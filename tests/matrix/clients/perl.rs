//! Perl's Net::FTP, by a driver in Perl.

use crate::client::{Plan, Run};
use crate::job::{Job, Login, Workspace};

use super::script;

pub fn plan(login: &Login, workspace: &Workspace, jobs: &[Job]) -> Plan {
    script::plan(|| start(login, workspace, jobs), workspace, jobs)
}

fn start(login: &Login, workspace: &Workspace, jobs: &[Job]) -> Run {
    let mut run = Run::new("perl");
    run.command()
        .arg("-e")
        .arg(include_str!("net_ftp.pl"))
        .arg("--")
        .args(script::settings(login, workspace, jobs));
    run
}
