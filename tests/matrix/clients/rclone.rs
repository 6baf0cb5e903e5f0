//! rclone: whole files and directories, a process for each job, several connections in each.

use testkit::clients::DataMode;

use crate::client::{Plan, Run};
use crate::job::{Job, Login, Name, Workspace};
use crate::leg::{Protection, Version};

pub fn plan(login: &Login, workspace: &Workspace, jobs: &[Job]) -> Plan {
    let runs = jobs.iter().map(|job| run(login, workspace, job));
    Plan::Sequence(runs.collect())
}

fn run(login: &Login, workspace: &Workspace, job: &Job) -> Run {
    let directory = format!(":ftp:{}", workspace.remote);
    let remote = |name: &Name| format!("{directory}/{}", name.text());
    let mut run = start(login, workspace);
    match job {
        Job::List => run.command().arg("lsf").arg(directory),
        // The workspace holds nothing else.
        Job::Upload(_) | Job::UploadTree(_) => {
            run.command().arg("copy").arg(workspace.up()).arg(directory)
        }
        Job::Download(_) | Job::DownloadTree(_) => run
            .command()
            .arg("copy")
            .arg(directory)
            .arg(workspace.down()),
        Job::Rename(from, to) => run.command().args(["moveto", &remote(from), &remote(to)]),
        Job::Delete(name) => run.command().args(["deletefile", &remote(name)]),
        Job::MakeDirectory(name) => run.command().args(["mkdir", &remote(name)]),
        Job::RemoveDirectory(name) => run.command().args(["rmdir", &remote(name)]),
        Job::Append(_) | Job::ResumeUpload(..) | Job::ResumeDownload(_) => {
            unreachable!("rclone transfers whole files only")
        }
    };
    run
}

fn start(login: &Login, workspace: &Workspace) -> Run {
    let leg = login.leg;
    let mut run = Run::new("rclone");
    let host = match login.address.ip() {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        // It puts the port behind as it is.
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
    };
    run.command()
        .env("RCLONE_CONFIG", workspace.home().join("rclone.conf"))
        .env("RCLONE_FTP_HOST", host)
        .env("RCLONE_FTP_PORT", login.address.port().to_string())
        .env("RCLONE_FTP_USER", &login.user)
        .env("RCLONE_FTP_PASS", obscured(&login.password))
        .env("RCLONE_FTP_TLS", leg.protection.implicit().to_string())
        .env(
            "RCLONE_FTP_EXPLICIT_TLS",
            matches!(leg.protection, Protection::Explicit(_)).to_string(),
        )
        .env(
            "RCLONE_FTP_DISABLE_TLS13",
            (leg.protection.version() == Some(Version::Tls12)).to_string(),
        )
        .env(
            "RCLONE_FTP_DISABLE_EPSV",
            (leg.data == DataMode::Pasv).to_string(),
        )
        .env("SSL_CERT_FILE", &login.ca)
        .env("SSL_CERT_DIR", workspace.home())
        // The headers are FTP's commands and replies.
        .args(["-vv", "--dump", "headers", "--retries", "1"])
        .args(["--low-level-retries", "1", "--transfers", "4"]);
    run
}

/// rclone takes passwords in a form that isn't readable at a glance.
fn obscured(password: &str) -> String {
    let output = Run::new("rclone")
        .command()
        .args(["obscure", password])
        .output();
    let output = output.expect("rclone was found");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
