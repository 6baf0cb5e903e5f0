//! basic-ftp for Node.js, by a driver in JavaScript.

use testkit::clients::DataMode;
use testkit::programs::servers;

use crate::client::{PATIENCE, Plan, Run};
use crate::job::{Job, Login, Workspace};
use crate::leg::{Protection, Version};

use super::script;

pub fn plan(login: &Login, workspace: &Workspace, jobs: &[Job]) -> Plan {
    script::plan(|| start(login, workspace, jobs), workspace, jobs)
}

fn start(login: &Login, workspace: &Workspace, jobs: &[Job]) -> Run {
    let settings = [
        login.address.ip().to_string(),
        login.address.port().to_string(),
        login.user.clone(),
        login.password.clone(),
        match login.leg.protection {
            Protection::Clear => "clear",
            Protection::Explicit(_) => "explicit",
            Protection::Implicit(_) => "implicit",
        }
        .to_owned(),
        match login.leg.protection.version() {
            Some(Version::Tls12) => "TLSv1.2",
            Some(Version::Tls13) | None => "TLSv1.3",
        }
        .to_owned(),
        match login.leg.data {
            DataMode::Pasv => "pasv",
            DataMode::Epsv => "epsv",
            DataMode::Active => unreachable!("basic-ftp knows no active mode"),
        }
        .to_owned(),
        login.ca.display().to_string(),
        workspace.remote.clone(),
        script::encoding(jobs).to_owned(),
        PATIENCE.to_string(),
    ];
    let mut run = Run::new("node");
    run.command()
        .env("NODE_PATH", servers().join("basic-ftp/node_modules"))
        .args(["-e", include_str!("basic_ftp.js"), "--"])
        .args(settings);
    run
}
