//! FileZilla, without its window: a driver in C++ for the engine beneath, which Debian ships as a library of its own.
//! `tests/install.sh` compiles it. The driver trusts any certificate, as a user who was asked, but refuses data
//! connections that don't resume the TLS session.

use testkit::clients::DataMode;
use testkit::clients::filezilla::EngineTls;
use testkit::programs::server_file;

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
        if login.leg.data == DataMode::Active {
            "active"
        } else {
            "passive"
        }
        .to_owned(),
        workspace.remote.clone(),
        script::encoding(jobs).to_owned(),
        PATIENCE.to_string(),
    ];
    let mut run = Run::at(&server_file("filezilla/driver"));
    run.command().args(settings);
    if let Some(version) = login.leg.protection.version() {
        let tls = match version {
            Version::Tls12 => EngineTls::V12,
            Version::Tls13 => EngineTls::V13,
        };
        tls.force(run.command(), &workspace.home().join("gnutls"));
    }
    run
}
