//! .NET's FtpWebRequest as Mono has it, by a driver in C#, which `tests/install.sh` compiles.

use testkit::programs::server_file;

use crate::client::{Plan, Run};
use crate::job::{Job, Login, Workspace};

use super::script;

pub fn plan(login: &Login, workspace: &Workspace, jobs: &[Job]) -> Plan {
    script::plan(|| start(login, workspace, jobs), workspace, jobs)
}

fn start(login: &Login, workspace: &Workspace, jobs: &[Job]) -> Run {
    let mut run = Run::new("mono");
    run.command()
        .arg(server_file("mono/FtpWebRequest.exe"))
        .args(script::settings(login, workspace, jobs));
    run
}
