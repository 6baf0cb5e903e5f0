//! GNU wget, which only downloads.

use testkit::clients::DataMode;

use crate::client::{PATIENCE, Plan, Run, gnutls_priority, quarters};
use crate::job::{Job, Login, Name, Workspace};
use crate::leg::Protection;

pub fn plan(login: &Login, workspace: &Workspace, jobs: &[Job]) -> Plan {
    if let [Job::DownloadTree(tree)] = jobs {
        let part = |directories: Vec<String>| {
            let mut run = start(login);
            run.command()
                .args(["--recursive", "--no-parent"])
                .args(["--no-host-directories", "--cut-dirs=1"])
                .arg("--directory-prefix")
                .arg(workspace.down());
            for name in directories {
                run.command()
                    .arg(format!("{}{name}/", directory(login, workspace)));
            }
            run
        };
        return Plan::Parallel(quarters(*tree).into_iter().map(part).collect());
    }
    let runs = jobs.iter().flat_map(|job| runs(login, workspace, job));
    Plan::Sequence(runs.collect())
}

fn runs(login: &Login, workspace: &Workspace, job: &Job) -> Vec<Run> {
    let url = |name: &Name| format!("{}{}", directory(login, workspace), name.percent_encoded());
    match job {
        Job::List => {
            let mut run = start(login);
            run.command()
                .args(["--no-remove-listing", "--output-document=index.html"])
                .arg(directory(login, workspace));
            // What the server sent, before wget makes a page of it.
            let mut show = Run::new("cat");
            show.command().arg(".listing");
            vec![run, show]
        }
        Job::Download(names) if names.iter().all(Name::is_local) => {
            let mut run = start(login);
            run.command()
                .arg("--directory-prefix")
                .arg(workspace.down())
                .args(names.iter().map(url));
            vec![run]
        }
        Job::Download(names) => {
            let alone = |name: &Name| {
                let mut run = start(login);
                run.command()
                    .arg("--output-document")
                    .arg(workspace.sink(name))
                    .arg(url(name));
                run
            };
            names.iter().map(alone).collect()
        }
        Job::ResumeDownload(name) => {
            let mut run = start(login);
            run.command()
                .arg("--continue")
                .arg("--directory-prefix")
                .arg(workspace.down())
                .arg(url(name));
            vec![run]
        }
        _ => unreachable!("wget only downloads"),
    }
}

fn start(login: &Login) -> Run {
    let mut run = Run::new("wget");
    run.command().args([
        "--no-config",
        "--no-verbose",
        "--debug",
        "--tries=1",
        "--restrict-file-names=nocontrol",
        "--no-iri",
        "--no-proxy",
        &format!("--timeout={PATIENCE}"),
        &format!("--user={}", login.user),
        &format!("--password={}", login.password),
    ]);
    if login.leg.data == DataMode::Active {
        run.command().arg("--no-passive-ftp");
    }
    if let Some(version) = login.leg.protection.version() {
        run.command()
            .arg(format!("--ciphers={}", gnutls_priority(version)))
            .arg("--ca-certificate")
            .arg(&login.ca);
    }
    if login.leg.protection.implicit() {
        run.command().arg("--ftps-implicit");
    }
    run
}

fn directory(login: &Login, workspace: &Workspace) -> String {
    let scheme = if login.leg.protection == Protection::Clear {
        "ftp"
    } else {
        "ftps"
    };
    format!("{}{}/", login.url(scheme), workspace.remote)
}
