//! The script that the drivers read, those in the clients' own languages: a job a line, its words in hexadecimal, since
//! names may be any bytes.

use std::fmt::Write;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use testkit::clients::DataMode;

use crate::client::{PATIENCE, Plan, Run, quarters};
use crate::job::{Job, Login, Name, Workspace};
use crate::leg::{Protection, Version};

/// Whether the session's names are in Latin-1; in UTF-8 otherwise.
pub fn uses_latin_1(jobs: &[Job]) -> bool {
    jobs.iter().any(|job| match job {
        Job::Upload(names) | Job::Download(names) => names.iter().any(Name::is_latin_1),
        Job::Rename(from, to) => from.is_latin_1() || to.is_latin_1(),
        Job::Append(name)
        | Job::ResumeUpload(name, _)
        | Job::ResumeDownload(name)
        | Job::Delete(name)
        | Job::MakeDirectory(name)
        | Job::RemoveDirectory(name) => name.is_latin_1(),
        Job::List | Job::UploadTree(_) | Job::DownloadTree(_) => false,
    })
}

/// The encoding that the driver has to use for names.
pub fn encoding(jobs: &[Job]) -> &'static str {
    if uses_latin_1(jobs) { "latin1" } else { "utf8" }
}

/// What a driver is told on its command line.
pub fn settings(login: &Login, workspace: &Workspace, jobs: &[Job]) -> Vec<String> {
    let host = login.address.ip().to_string();
    let tls = match login.leg.protection {
        Protection::Clear => "clear",
        Protection::Explicit(_) => "explicit",
        Protection::Implicit(_) => "implicit",
    };
    let max_tls = match login.leg.protection.version() {
        Some(Version::Tls12) => "1.2",
        Some(Version::Tls13) | None => "1.3",
    };
    let data = match login.leg.data {
        DataMode::Pasv => "pasv",
        DataMode::Epsv => "epsv",
        DataMode::Active => "active",
    };
    let settings = [
        ("host", &*host),
        ("name", &host),
        ("port", &login.address.port().to_string()),
        ("user", &login.user),
        ("password", &login.password),
        ("timeout", &PATIENCE.to_string()),
        ("ca", &login.ca.display().to_string()),
        ("directory", &workspace.remote),
        ("encoding", encoding(jobs)),
        ("tls", tls),
        ("max_tls", max_tls),
        ("data", data),
    ];
    settings
        .map(|(key, value)| format!("{key}={value}"))
        .to_vec()
}

/// One driver with all jobs, or four that share a tree.
pub fn plan(start: impl Fn() -> Run, workspace: &Workspace, jobs: &[Job]) -> Plan {
    let (tree, verb) = match jobs {
        [Job::UploadTree(tree)] => (*tree, "upload"),
        [Job::DownloadTree(tree)] => (*tree, "download"),
        _ => {
            let mut text = String::new();
            for job in jobs {
                lines(&mut text, workspace, job);
            }
            return Plan::Sequence(vec![start().input(text)]);
        }
    };
    let part = |directories: Vec<String>| {
        let mut text = String::new();
        for directory in directories {
            if verb == "upload" {
                line(&mut text, "mkdir", &[directory.as_bytes()]);
            } else {
                fs::create_dir(workspace.down().join(&directory))
                    .expect("the workspace is writable");
            }
            for file in tree.files() {
                let path = format!("{directory}/{file}");
                let local = match verb {
                    "upload" => workspace.up().join(&path),
                    _ => workspace.down().join(&path),
                };
                line(&mut text, verb, &[path.as_bytes(), bytes(&local)]);
            }
        }
        start().input(text)
    };
    Plan::Parallel(quarters(tree).into_iter().map(part).collect())
}

fn lines(text: &mut String, workspace: &Workspace, job: &Job) {
    let mut with_file = |verb: &str, name: &Name, file: &Path| {
        line(text, verb, &[name.bytes(), bytes(file)]);
    };
    match job {
        Job::List => line(text, "list", &[]),
        Job::Upload(names) => {
            for name in names {
                with_file("upload", name, &workspace.source(name));
            }
        }
        Job::Download(names) => {
            for name in names {
                with_file("download", name, &workspace.sink(name));
            }
        }
        Job::Append(name) => with_file("append", name, &workspace.source(name)),
        Job::ResumeUpload(name, _) => with_file("resume-upload", name, &workspace.source(name)),
        Job::ResumeDownload(name) => with_file("resume-download", name, &workspace.sink(name)),
        Job::Rename(from, to) => line(text, "rename", &[from.bytes(), to.bytes()]),
        Job::Delete(name) => line(text, "delete", &[name.bytes()]),
        Job::MakeDirectory(name) => line(text, "mkdir", &[name.bytes()]),
        Job::RemoveDirectory(name) => line(text, "rmdir", &[name.bytes()]),
        Job::UploadTree(_) | Job::DownloadTree(_) => unreachable!("they come alone"),
    }
}

fn line(text: &mut String, verb: &str, words: &[&[u8]]) {
    text.push_str(verb);
    for word in words {
        text.push(' ');
        for byte in *word {
            write!(text, "{byte:02x}").expect("a String takes everything");
        }
    }
    text.push('\n');
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
