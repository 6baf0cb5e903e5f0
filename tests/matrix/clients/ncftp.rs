//! NcFTP's programs for scripts: ncftpput, ncftpget and ncftpls; what they have no option for, they send as it is.

use std::ffi::OsString;

use testkit::clients::DataMode;

use crate::client::{PATIENCE, Plan, Run, quarters};
use crate::job::{Job, Login, Name, Workspace};

pub fn plan(login: &Login, workspace: &Workspace, jobs: &[Job]) -> Plan {
    if let [Job::UploadTree(tree)] = jobs {
        let part = |directories: Vec<String>| {
            let mut run = start("ncftpput", login);
            run.command()
                .args(["-R", &host(login), &workspace.remote])
                .args(directories.iter().map(|name| workspace.up().join(name)));
            run
        };
        return Plan::Parallel(quarters(*tree).into_iter().map(part).collect());
    }
    if let [Job::DownloadTree(tree)] = jobs {
        let part = |directories: Vec<String>| {
            let mut run = start("ncftpget", login);
            // -T: no archive made by the server.
            run.command()
                .args(["-R", "-T", &host(login)])
                .arg(workspace.down());
            for name in directories {
                run.command().arg(format!("{}/{name}", workspace.remote));
            }
            run
        };
        return Plan::Parallel(quarters(*tree).into_iter().map(part).collect());
    }
    let runs = jobs.iter().flat_map(|job| runs(login, workspace, job));
    Plan::Sequence(runs.collect())
}

fn runs(login: &Login, workspace: &Workspace, job: &Job) -> Vec<Run> {
    let send = |commands: &[(&str, &Name)]| {
        let mut run = start("ncftpls", login);
        // It can't help listing: by LIST, since not every server knows NLST with options.
        run.command().arg("-l");
        for (verb, name) in commands {
            let mut command = OsString::from(format!("{verb} "));
            command.push(name.os());
            // After changing to the directory.
            run.command().arg("-X").arg(command);
        }
        run.command().arg(directory(login, workspace));
        vec![run]
    };
    match job {
        Job::List => {
            let mut run = start("ncftpls", login);
            run.command().arg("-l").arg(directory(login, workspace));
            vec![run]
        }
        Job::Upload(names) => put(login, workspace, &[], names),
        Job::Download(names) => get(login, workspace, &[], names),
        Job::Append(name) => put(login, workspace, &["-A"], std::slice::from_ref(name)),
        Job::ResumeUpload(name, _) => put(login, workspace, &["-z"], std::slice::from_ref(name)),
        Job::ResumeDownload(name) => get(login, workspace, &["-z"], std::slice::from_ref(name)),
        Job::Rename(from, to) => send(&[("RNFR", from), ("RNTO", to)]),
        Job::Delete(name) => send(&[("DELE", name)]),
        Job::MakeDirectory(name) => send(&[("MKD", name)]),
        Job::RemoveDirectory(name) => send(&[("RMD", name)]),
        Job::UploadTree(_) | Job::DownloadTree(_) => unreachable!("they come alone"),
    }
}

/// In one session; but with one for each file if local and remote names differ.
fn put(login: &Login, workspace: &Workspace, options: &[&str], names: &[Name]) -> Vec<Run> {
    if names.iter().all(Name::is_local) {
        let mut run = start("ncftpput", login);
        run.command()
            .args(options)
            .args([&host(login), &workspace.remote])
            .args(names.iter().map(|name| workspace.source(name)));
        return vec![run];
    }
    let alone = |name: &Name| {
        let mut run = start("ncftpput", login);
        run.command()
            .args(options)
            .args(["-C", &host(login)])
            .arg(workspace.source(name))
            .arg(workspace.path(name));
        run
    };
    names.iter().map(alone).collect()
}

fn get(login: &Login, workspace: &Workspace, options: &[&str], names: &[Name]) -> Vec<Run> {
    if names.iter().all(Name::is_local) {
        let mut run = start("ncftpget", login);
        run.command()
            .args(options)
            .arg(host(login))
            .arg(workspace.down())
            .args(names.iter().map(|name| workspace.path(name)));
        return vec![run];
    }
    let alone = |name: &Name| {
        let mut run = start("ncftpget", login);
        run.command()
            .args(options)
            .args(["-C", &host(login)])
            .arg(workspace.path(name))
            .arg(workspace.sink(name));
        run
    };
    names.iter().map(alone).collect()
}

fn start(program: &str, login: &Login) -> Run {
    let mut run = Run::new(program);
    run.command()
        .args(["-d", "stdout", "-r", "1"])
        .args(["-t", &PATIENCE.to_string()])
        .args(["-u", &login.user, "-p", &login.password])
        .args(["-P", &login.address.port().to_string()])
        .arg(if login.leg.data == DataMode::Active {
            "-E"
        } else {
            "-F"
        });
    run
}

fn host(login: &Login) -> String {
    login.address.ip().to_string()
}

fn directory(login: &Login, workspace: &Workspace) -> String {
    format!("ftp://{}/{}/", host(login), workspace.remote)
}
