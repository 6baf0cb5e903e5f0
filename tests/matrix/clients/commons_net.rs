//! Apache Commons Net, by a driver in Java, which `tests/install.sh` compiles.

use testkit::programs::servers;

use crate::client::{Plan, Run};
use crate::job::{Job, Login, Workspace};

use super::script;

pub fn plan(login: &Login, workspace: &Workspace, jobs: &[Job]) -> Plan {
    script::plan(|| start(login, workspace, jobs), workspace, jobs)
}

fn start(login: &Login, workspace: &Workspace, jobs: &[Job]) -> Run {
    let directory = servers().join("commons-net");
    let mut run = Run::new("java");
    run.command()
        // A driver's life is too short for a better compiler.
        .args(["-XX:TieredStopAtLevel=1", "-cp"])
        .arg(format!(
            "{0}/driver:{0}/usr/share/java/commons-net.jar",
            directory.display()
        ))
        .arg("CommonsNet")
        .args(script::settings(login, workspace, jobs));
    run
}
