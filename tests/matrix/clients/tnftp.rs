//! tnftp: a script on its standard input. Its exit code is 0 whatever happened; what it did is seen by the files.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use testkit::clients::DataMode;

use crate::client::{Plan, Run, quarters};
use crate::job::{Job, Login, Name, Workspace};
use crate::leg::Family;

pub fn plan(login: &Login, workspace: &Workspace, jobs: &[Job]) -> Plan {
    let run = |lines: Vec<Vec<u8>>| start(login, workspace, &lines);
    match jobs {
        [Job::UploadTree(tree)] => {
            let part = |directories: Vec<String>| {
                let mut lines = Vec::new();
                for name in directories {
                    lines.push(words("mkdir", &[name.as_bytes()]));
                    lines.push(words("cd", &[name.as_bytes()]));
                    lines.push(words("lcd", &[path(&workspace.up().join(&name))]));
                    lines.push(b"mput *".to_vec());
                    lines.push(b"cdup".to_vec());
                }
                run(lines)
            };
            Plan::Parallel(quarters(*tree).into_iter().map(part).collect())
        }
        [Job::DownloadTree(tree)] => {
            let part = |directories: Vec<String>| {
                let mut lines = Vec::new();
                for name in directories {
                    let local = workspace.down().join(&name);
                    std::fs::create_dir(&local).expect("the workspace is writable");
                    lines.push(words("cd", &[name.as_bytes()]));
                    lines.push(words("lcd", &[path(&local)]));
                    // Not mget: not every server expands patterns.
                    for file in tree.files() {
                        lines.push(words("get", &[file.as_bytes()]));
                    }
                    lines.push(b"cdup".to_vec());
                }
                run(lines)
            };
            Plan::Parallel(quarters(*tree).into_iter().map(part).collect())
        }
        _ => {
            let lines = jobs.iter().flat_map(|job| script(workspace, job));
            Plan::Sequence(vec![run(lines.collect())])
        }
    }
}

fn script(workspace: &Workspace, job: &Job) -> Vec<Vec<u8>> {
    let put = |verb: &str, name: &Name| words(verb, &[path(&workspace.source(name)), name.bytes()]);
    let get = |name: &Name| words("get", &[name.bytes(), path(&workspace.sink(name))]);
    match job {
        Job::List => vec![b"ls".to_vec()],
        Job::Upload(names) => names.iter().map(|name| put("put", name)).collect(),
        Job::Download(names) => names.iter().map(get).collect(),
        Job::Append(name) => vec![put("append", name)],
        Job::ResumeUpload(name, have) => {
            vec![format!("restart {have}").into_bytes(), put("put", name)]
        }
        Job::ResumeDownload(name) => {
            vec![words("reget", &[name.bytes(), path(&workspace.sink(name))])]
        }
        Job::Rename(from, to) => vec![words("rename", &[from.bytes(), to.bytes()])],
        Job::Delete(name) => vec![words("delete", &[name.bytes()])],
        Job::MakeDirectory(name) => vec![words("mkdir", &[name.bytes()])],
        Job::RemoveDirectory(name) => vec![words("rmdir", &[name.bytes()])],
        Job::UploadTree(_) | Job::DownloadTree(_) => unreachable!("they come alone"),
    }
}

fn start(login: &Login, workspace: &Workspace, lines: &[Vec<u8>]) -> Run {
    let mut run = Run::new("tnftp");
    // -n: no automatic login; -i: no question for each file; -v and -d: replies and commands.
    run.command().args(["-n", "-i", "-v", "-d"]);
    run.command().arg(match login.leg.family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    });
    run.command().arg(if login.leg.data == DataMode::Active {
        "-A"
    } else {
        "-p"
    });
    run.command()
        .arg(login.address.ip().to_string())
        .arg(login.address.port().to_string());
    let mut input = Vec::new();
    if login.leg.data == DataMode::Pasv {
        // It begins with EPSV.
        input.extend_from_slice(b"epsv4\n");
    }
    for line in [
        words("user", &[login.user.as_bytes(), login.password.as_bytes()]),
        b"binary".to_vec(),
        words("cd", &[workspace.remote.as_bytes()]),
    ]
    .iter()
    .chain(lines)
    {
        input.extend_from_slice(line);
        input.push(b'\n');
    }
    input.extend_from_slice(b"bye\n");
    run.input(input)
}

/// A line of tnftp's command language.
fn words(verb: &str, arguments: &[&[u8]]) -> Vec<u8> {
    let mut line = verb.as_bytes().to_vec();
    for argument in arguments {
        line.push(b' ');
        for &byte in *argument {
            if b" \"\\".contains(&byte) {
                line.push(b'\\');
            }
            line.push(byte);
        }
    }
    line
}

fn path(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
