//! lftp: a script, in one session but for trees, for which it opens four.

use testkit::clients::DataMode;

use crate::client::{PATIENCE, Plan, Run, gnutls_priority};
use crate::job::{Job, Login, Name, Workspace};
use crate::leg::Protection;

use super::script::uses_latin_1;

pub fn plan(login: &Login, workspace: &Workspace, jobs: &[Job]) -> Plan {
    let leg = login.leg;
    let tls = leg.protection != Protection::Clear;
    let mut lines = vec![
        "debug 5".to_owned(),
        "set cmd:fail-exit yes".to_owned(),
        "set net:max-retries 1".to_owned(),
        // Where it tries again all the same, it would wait for half a minute.
        "set net:reconnect-interval-base 1".to_owned(),
        format!("set net:timeout {PATIENCE}"),
        format!("set ftp:ssl-allow {tls}"),
        format!("set ftp:ssl-force {tls}"),
        "set ftp:ssl-protect-data yes".to_owned(),
        format!("set ftp:passive-mode {}", leg.data != DataMode::Active),
        "set ftp:auto-passive-mode no".to_owned(),
        format!("set ftp:prefer-epsv {}", leg.data == DataMode::Epsv),
        format!(
            "set ssl:ca-file {}",
            quoted(&login.ca.display().to_string())
        ),
    ];
    if let Some(version) = leg.protection.version() {
        lines.push(format!("set ssl:priority {}", gnutls_priority(version)));
    }
    if uses_latin_1(jobs) {
        lines.push("set ftp:use-utf8 no".to_owned());
        lines.push("set ftp:charset ISO-8859-1".to_owned());
    }
    let url = login.url(if leg.protection.implicit() {
        "ftps"
    } else {
        "ftp"
    });
    lines.push(format!(
        "open --user {} --password {} {url}",
        quoted(&login.user),
        quoted(&login.password)
    ));
    lines.push(format!("cd {}", quoted(&workspace.remote)));
    for job in jobs {
        line(&mut lines, workspace, job);
    }
    lines.push("bye".to_owned());
    let mut run = Run::new("lftp");
    run.command()
        .env("LFTP_HOME", workspace.home())
        .arg("--norc")
        .arg("-c")
        .arg(lines.join("; "));
    Plan::Sequence(vec![run])
}

fn line(lines: &mut Vec<String>, workspace: &Workspace, job: &Job) {
    let put = |how: &str, name: &Name| {
        let source = workspace.source(name).display().to_string();
        format!("put {how} {} -o {}", quoted(&source), remote(name))
    };
    let get = |how: &str, name: &Name| {
        let sink = workspace.sink(name).display().to_string();
        format!("get {how} {} -o {}", remote(name), quoted(&sink))
    };
    match job {
        Job::List => lines.push("ls".to_owned()),
        Job::Upload(names) => lines.extend(names.iter().map(|name| put("", name))),
        Job::Download(names) => lines.extend(names.iter().map(|name| get("", name))),
        Job::Append(_) => unreachable!("lftp can't"),
        Job::ResumeUpload(name, _) => lines.push(put("-c", name)),
        Job::ResumeDownload(name) => lines.push(get("-c", name)),
        Job::Rename(from, to) => lines.push(format!("mv {} {}", remote(from), remote(to))),
        Job::Delete(name) => lines.push(format!("rm {}", remote(name))),
        Job::MakeDirectory(name) => lines.push(format!("mkdir {}", remote(name))),
        Job::RemoveDirectory(name) => lines.push(format!("rmdir {}", remote(name))),
        Job::UploadTree(_) => {
            let up = quoted(&workspace.up().display().to_string());
            lines.push(format!("mirror --reverse --parallel=4 {up} ."));
        }
        Job::DownloadTree(_) => {
            let down = quoted(&workspace.down().display().to_string());
            lines.push(format!("mirror --parallel=4 . {down}"));
        }
    }
}

// lftp translates from the local character set, here UTF-8.
fn remote(name: &Name) -> String {
    quoted(&name.text())
}

/// A word of lftp's command language.
fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}
