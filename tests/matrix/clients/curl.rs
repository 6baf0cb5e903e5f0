//! curl: all jobs in one process, by one connection as long as it can keep it.

use std::ffi::OsString;

use testkit::clients::DataMode;

use crate::client::{PATIENCE, Plan, Run};
use crate::job::{Job, Login, Name, Workspace};
use crate::leg::{Protection, Version};

pub fn plan(login: &Login, workspace: &Workspace, jobs: &[Job]) -> Plan {
    let mut run = Run::new("curl");
    run.command()
        .args(["--silent", "--show-error", "--fail-early"]);
    for (number, job) in jobs.iter().enumerate() {
        if number > 0 {
            run.command().arg("--next");
        }
        run.command().args(options(login));
        run.command().args(arguments(login, workspace, job));
    }
    Plan::Sequence(vec![run])
}

/// What has to be said again for each job.
fn options(login: &Login) -> Vec<OsString> {
    let mut options: Vec<OsString> = vec![
        "--verbose".into(),
        "--globoff".into(),
        "--max-time".into(),
        PATIENCE.to_string().into(),
        "--user".into(),
        format!("{}:{}", login.user, login.password).into(),
    ];
    let mut add = |words: &[&str]| options.extend(words.iter().map(OsString::from));
    match login.leg.data {
        DataMode::Pasv => add(&["--disable-epsv"]),
        DataMode::Epsv => {}
        DataMode::Active => add(&["--ftp-port", "-"]),
    }
    if matches!(login.leg.protection, Protection::Explicit(_)) {
        add(&["--ssl-reqd"]);
    }
    if let Some(version) = login.leg.protection.version() {
        match version {
            Version::Tls12 => add(&["--tls-max", "1.2"]),
            Version::Tls13 => add(&["--tlsv1.3"]),
        }
        options.extend(["--cacert".into(), login.ca.clone().into()]);
    }
    options
}

fn arguments(login: &Login, workspace: &Workspace, job: &Job) -> Vec<OsString> {
    let root = login.url(if login.leg.protection.implicit() {
        "ftps"
    } else {
        "ftp"
    });
    let directory = format!("{root}{}/", workspace.remote);
    let url = |name: &Name| OsString::from(format!("{directory}{}", name.percent_encoded()));
    let upload = |name: &Name| {
        [
            "--upload-file".into(),
            workspace.source(name).into(),
            url(name),
        ]
    };
    let download = |name: &Name| ["--output".into(), workspace.sink(name).into(), url(name)];
    let quote = |commands: &[(&str, &Name)]| {
        let mut arguments: Vec<OsString> = Vec::new();
        for (verb, name) in commands {
            // The minus has it wait until curl is in the directory and has done what is to do there: here nothing.
            let mut command = OsString::from(format!("-{verb} "));
            command.push(name.os());
            arguments.extend(["--quote".into(), command]);
        }
        arguments.extend(["--head".into(), directory.clone().into()]);
        arguments
    };
    match job {
        Job::List => vec![directory.into()],
        Job::Upload(names) => names.iter().flat_map(upload).collect(),
        Job::Download(names) => names.iter().flat_map(download).collect(),
        Job::Append(name) => [vec!["--append".into()], upload(name).into()].concat(),
        Job::ResumeUpload(name, _) => [
            vec!["--continue-at".into(), "-".into()],
            upload(name).into(),
        ]
        .concat(),
        Job::ResumeDownload(name) => [
            vec!["--continue-at".into(), "-".into()],
            download(name).into(),
        ]
        .concat(),
        Job::Rename(from, to) => quote(&[("RNFR", from), ("RNTO", to)]),
        Job::Delete(name) => quote(&[("DELE", name)]),
        Job::MakeDirectory(name) => quote(&[("MKD", name)]),
        Job::RemoveDirectory(name) => quote(&[("RMD", name)]),
        Job::UploadTree(tree) => {
            let mut arguments: Vec<OsString> = parallel();
            arguments.push("--ftp-create-dirs".into());
            for path in tree.paths() {
                let source = workspace.up().join(&path).into();
                let url = format!("{directory}{path}").into();
                arguments.extend(["--upload-file".into(), source, url]);
            }
            arguments
        }
        Job::DownloadTree(tree) => {
            let mut arguments: Vec<OsString> = parallel();
            arguments.push("--create-dirs".into());
            for path in tree.paths() {
                let sink = workspace.down().join(&path).into();
                let url = format!("{directory}{path}").into();
                arguments.extend(["--output".into(), sink, url]);
            }
            arguments
        }
    }
}

fn parallel() -> Vec<OsString> {
    ["--parallel", "--parallel-max", "4"]
        .map(OsString::from)
        .into()
}
