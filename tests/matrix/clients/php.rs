//! PHP's extension for FTP, by a driver in PHP. It trusts any certificate, having no way to do otherwise.

use std::fs;

use crate::client::{Plan, Run};
use crate::job::{Job, Login, Workspace};
use crate::leg::Version;

use super::script;

pub fn plan(login: &Login, workspace: &Workspace, jobs: &[Job]) -> Plan {
    script::plan(|| start(login, workspace, jobs), workspace, jobs)
}

fn start(login: &Login, workspace: &Workspace, jobs: &[Job]) -> Run {
    let mut run = Run::new("php");
    run.command()
        // Without this machine's php.ini.
        .args(["-n", "-d", "extension=ftp", "-r"])
        .arg(include_str!("php_ftp.php"))
        .arg("--")
        .args(script::settings(login, workspace, jobs));
    // The extension has no option for the version of TLS. This is how OpenSSL is told.
    if let Some(version) = login.leg.protection.version() {
        let version = match version {
            Version::Tls12 => "TLSv1.2",
            Version::Tls13 => "TLSv1.3",
        };
        let file = workspace.home().join("openssl.cnf");
        let text = format!(
            "openssl_conf = start\n[start]\nssl_conf = programs\n[programs]\nsystem_default = all\n\
             [all]\nMinProtocol = {version}\nMaxProtocol = {version}\n"
        );
        fs::write(&file, text).expect("the workspace is writable");
        run.command().env("OPENSSL_CONF", file);
    }
    run
}
