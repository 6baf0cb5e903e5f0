//! PycURL, by a driver in Python: libcurl as programs use it, and a newer one than Debian's curl has.

use testkit::programs::servers;

use crate::client::{Plan, Run};
use crate::job::{Job, Login, Workspace};

use super::script;

pub fn plan(login: &Login, workspace: &Workspace, jobs: &[Job]) -> Plan {
    script::plan(|| start(login, workspace, jobs), workspace, jobs)
}

fn start(login: &Login, workspace: &Workspace, jobs: &[Job]) -> Run {
    let mut run = Run::at(&servers().join("pycurl/bin/python"));
    run.command()
        .arg("-c")
        .arg(include_str!("pycurl.py"))
        .args(script::settings(login, workspace, jobs));
    run
}
