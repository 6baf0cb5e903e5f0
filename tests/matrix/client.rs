//! The clients: what each can do, and how it is told to.

use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};

use testkit::clients::DataMode;
use testkit::programs::program;

use crate::action::Action;
use crate::clients::{
    aioftp, basic_ftp, commons_net, curl, filezilla, ftplib, lftp, mono, ncftp, perl, php, pycurl,
    rclone, ruby, suppaftp, tnftp, wget,
};
use crate::job::{Job, Login, Tree, Workspace};
use crate::leg::{Family, Leg, Protection, Version};

/// A client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// curl.
    Curl,
    /// lftp.
    Lftp,
    /// ncftpput, ncftpget and ncftpls.
    Ncftp,
    /// tnftp, the BSDs' `ftp`.
    Tnftp,
    /// GNU wget.
    Wget,
    /// Python's ftplib as it is.
    Ftplib,
    /// ftplib taught to resume the control connection's TLS session on data connections.
    FtplibReusing,
    /// rclone.
    Rclone,
    /// basic-ftp for Node.js.
    BasicFtp,
    /// FileZilla's engine.
    FileZilla,
    /// aioftp.
    Aioftp,
    /// Ruby's Net::FTP.
    Ruby,
    /// Perl's Net::FTP.
    Perl,
    /// PHP's extension for FTP.
    Php,
    /// Apache Commons Net.
    CommonsNet,
    /// .NET's FtpWebRequest, as Mono has it.
    Mono,
    /// PycURL.
    Pycurl,
    /// suppaftp.
    Suppaftp,
}

impl Client {
    /// Every one.
    pub const ALL: [Self; 18] = [
        Self::Curl,
        Self::Lftp,
        Self::Ncftp,
        Self::Tnftp,
        Self::Wget,
        Self::Ftplib,
        Self::FtplibReusing,
        Self::Rclone,
        Self::BasicFtp,
        Self::FileZilla,
        Self::Aioftp,
        Self::Ruby,
        Self::Perl,
        Self::Php,
        Self::CommonsNet,
        Self::Mono,
        Self::Pycurl,
        Self::Suppaftp,
    ];

    /// Why the client has no way to do this, whatever the server; none if it has one.
    pub fn cannot(self, action: Action) -> Option<&'static str> {
        match (self, action) {
            (
                Self::Wget,
                Action::Upload
                | Action::Append
                | Action::ResumeUpload
                | Action::Rename
                | Action::Delete
                | Action::Directories,
            ) => Some("wget only downloads"),
            (Self::Lftp, Action::Append) => Some("lftp has no command to append"),
            (Self::FileZilla, Action::Append) => Some("FileZilla has no command to append"),
            (Self::Rclone, Action::Append | Action::ResumeUpload | Action::ResumeDownload) => {
                Some("rclone transfers whole files only")
            }
            (Self::Rclone, Action::Latin1) => Some("rclone's names are Unicode"),
            (Self::Mono, Action::Latin1) => Some("Mono's FtpWebRequest sends names in UTF-8"),
            (Self::Mono, Action::ResumeUpload) => {
                Some("Mono's FtpWebRequest asks for SIZE in ASCII mode, which servers refuse")
            }
            _ => None,
        }
    }

    /// Why the client can't have such a leg; none if it can.
    pub fn cannot_have(self, leg: Leg) -> Option<&'static str> {
        if leg.protection != Protection::Clear && matches!(self, Self::Ncftp | Self::Tnftp) {
            return Some("knows no TLS");
        }
        if leg.protection.implicit() && self == Self::Ruby {
            return Some("knows no implicit TLS before its version 0.2, and Debian 12 has 0.1.3");
        }
        if leg.protection.implicit() && matches!(self, Self::Php | Self::Mono) {
            return Some("knows no implicit TLS");
        }
        if leg.protection.version() == Some(Version::Tls13) && self == Self::Mono {
            return Some("knows no TLS 1.3");
        }
        match (self, leg.data, leg.family) {
            (Self::Mono, _, Family::V6) => Some("connects to no IPv6 address"),
            (Self::Ncftp, _, Family::V6) => Some("knows no IPv6"),
            (Self::Ncftp, DataMode::Epsv, _) => Some("knows no EPSV"),
            (
                Self::Wget | Self::FileZilla | Self::Ruby | Self::Perl | Self::Php | Self::Mono,
                DataMode::Epsv,
                Family::V4,
            ) => Some("uses EPSV over IPv6 only"),
            (Self::Rclone | Self::BasicFtp | Self::Aioftp, DataMode::Active, _) => {
                Some("knows no active mode")
            }
            _ => None,
        }
    }

    /// Whether it can be had to print what it says and is told.
    pub fn shows_dialogue(self) -> bool {
        !matches!(self, Self::Php | Self::Mono)
    }

    /// Whether it ends uploads under TLS without close_notify.
    pub fn omits_close_notify(self) -> bool {
        self == Self::Mono
    }

    /// The legs that it can have.
    pub fn legs(self) -> Vec<Leg> {
        let mut legs = Leg::all();
        legs.retain(|leg| self.cannot_have(*leg).is_none());
        legs
    }

    /// Whether its data connections resume the TLS session of the control connection.
    pub fn resumption(self, version: Version, action: Action) -> Resumption {
        use Resumption::{Always, Never, Sometimes};
        match (self, version) {
            (Self::Curl, _) if action.is_parallel() => Sometimes(
                "with --parallel, curl keeps the sessions of all its control connections in one place and presents any of them",
            ),
            (Self::Curl, Version::Tls13) => Sometimes(
                "of TLS 1.3, curl keeps the last ticket and uses it once, and uploads bring no new one: after its first \
                 upload, a control connection's data connections resume no more",
            ),
            (Self::Ftplib, _) => Never("ftplib resumes only if it is taught to, as its users do"),
            (Self::CommonsNet, _) => Never(
                "Commons Net leaves the choice to Java, which takes the data connection's port for another server's",
            ),
            (Self::Mono, _) => Never("Mono's FtpWebRequest doesn't resume"),
            (Self::Rclone, _) => Sometimes(
                "rclone keeps the sessions of all its control connections in one place and presents any of them",
            ),
            (Self::Ruby, Version::Tls13) => Sometimes(
                "of TLS 1.3, Ruby's Net::FTP keeps the last ticket and uses it once, and uploads bring no new one",
            ),
            (Self::Php, Version::Tls13) => Sometimes(
                "of TLS 1.3, PHP keeps the last ticket and uses it once, and uploads bring no new one",
            ),
            (Self::Perl, _) => Sometimes(
                "Perl's Net::FTP looks for a session under the data connection's port in passive mode, and in active mode \
                 uses each ticket of TLS 1.3 once",
            ),
            (Self::Suppaftp, Version::Tls13) => Sometimes(
                "of TLS 1.3, suppaftp uses each ticket once, and uploads bring no new one: after four in a row it does a \
                 full handshake",
            ),
            (Self::Wget, Version::Tls13) => Sometimes(
                "wget takes its ticket of TLS 1.3 right after the handshake, and GnuTLS waits some 60 ms for it, which a \
                 busy machine can miss",
            ),
            _ => Always,
        }
    }

    /// How it is told to do these jobs.
    pub fn plan(self, login: &Login, workspace: &Workspace, jobs: &[Job]) -> Plan {
        match self {
            Self::Curl => curl::plan(login, workspace, jobs),
            Self::Lftp => lftp::plan(login, workspace, jobs),
            Self::Ncftp => ncftp::plan(login, workspace, jobs),
            Self::Tnftp => tnftp::plan(login, workspace, jobs),
            Self::Wget => wget::plan(login, workspace, jobs),
            Self::Ftplib => ftplib::plan(login, workspace, jobs, ftplib::Reuse::No),
            Self::FtplibReusing => ftplib::plan(login, workspace, jobs, ftplib::Reuse::Yes),
            Self::Rclone => rclone::plan(login, workspace, jobs),
            Self::BasicFtp => basic_ftp::plan(login, workspace, jobs),
            Self::FileZilla => filezilla::plan(login, workspace, jobs),
            Self::Aioftp => aioftp::plan(login, workspace, jobs),
            Self::Ruby => ruby::plan(login, workspace, jobs),
            Self::Perl => perl::plan(login, workspace, jobs),
            Self::Php => php::plan(login, workspace, jobs),
            Self::CommonsNet => commons_net::plan(login, workspace, jobs),
            Self::Mono => mono::plan(login, workspace, jobs),
            Self::Pycurl => pycurl::plan(login, workspace, jobs),
            Self::Suppaftp => suppaftp::plan(login, workspace, jobs),
        }
    }

    /// Does these jobs.
    pub fn run(self, login: &Login, workspace: &Workspace, jobs: &[Job]) -> Outcome {
        let mut outcome = Outcome::default();
        match self.plan(login, workspace, jobs) {
            Plan::Sequence(runs) => {
                for run in runs {
                    outcome.add(&run.output(workspace, 0));
                    if !outcome.success {
                        break;
                    }
                }
            }
            Plan::Parallel(runs) => {
                let outputs: Vec<Output> = std::thread::scope(|scope| {
                    let threads: Vec<_> = runs
                        .into_iter()
                        .enumerate()
                        .map(|(number, run)| scope.spawn(move || run.output(workspace, number)))
                        .collect();
                    let joined = threads.into_iter().map(|thread| thread.join());
                    joined
                        .map(|output| output.expect("the client was started"))
                        .collect()
                });
                for output in &outputs {
                    outcome.add(output);
                }
            }
        }
        outcome
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Curl => "curl",
            Self::Lftp => "lftp",
            Self::Ncftp => "NcFTP",
            Self::Tnftp => "tnftp",
            Self::Wget => "wget",
            Self::Ftplib => "ftplib",
            Self::FtplibReusing => "ftplib, resuming",
            Self::Rclone => "rclone",
            Self::BasicFtp => "basic-ftp",
            Self::FileZilla => "FileZilla",
            Self::Aioftp => "aioftp",
            Self::Ruby => "Ruby's Net::FTP",
            Self::Perl => "Perl's Net::FTP",
            Self::Php => "PHP",
            Self::CommonsNet => "Commons Net",
            Self::Mono => "Mono",
            Self::Pycurl => "PycURL",
            Self::Suppaftp => "suppaftp",
        })
    }
}

/// Whether data connections resume the TLS session of their control connection; why they don't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumption {
    /// Every one.
    Always,
    /// Some do.
    Sometimes(&'static str),
    /// None does.
    Never(&'static str),
}

/// The processes that it takes.
#[derive(Debug)]
pub enum Plan {
    /// One after the other, until one fails.
    Sequence(Vec<Run>),
    /// All at once.
    Parallel(Vec<Run>),
}

/// One process.
#[derive(Debug)]
pub struct Run {
    command: Command,
    input: Vec<u8>,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Every process reported success.
    pub success: bool,
    /// What they printed, commands and replies included.
    pub text: Vec<u8>,
}

impl Default for Outcome {
    fn default() -> Self {
        Self {
            success: true,
            text: Vec::new(),
        }
    }
}

impl Outcome {
    fn add(&mut self, output: &Output) {
        self.success &= output.status.success();
        self.text.extend_from_slice(&output.stdout);
        self.text.extend_from_slice(&output.stderr);
        if !output.status.success() {
            self.text
                .extend_from_slice(format!("[{}]\n", output.status).as_bytes());
        }
    }
}

impl Run {
    /// A program on the search path, killed when it takes too long.
    pub fn new(name: &str) -> Self {
        Self::at(&program(name))
    }

    /// The program that this file is, killed when it takes too long.
    pub fn at(file: &Path) -> Self {
        let mut command = Command::new(program("timeout"));
        command
            .args(["--kill-after=5", &PATIENCE.to_string()])
            .arg(file);
        Self {
            command,
            input: Vec::new(),
        }
    }

    /// Its command line.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// What it reads from standard input.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    fn output(mut self, workspace: &Workspace, number: usize) -> Output {
        // A file never blocks whoever writes it.
        let input = workspace.directory().join(format!("input{number}"));
        fs::write(&input, &self.input).expect("the workspace is writable");
        let input = File::open(&input).expect("it was just written");
        self.command
            .current_dir(workspace.directory())
            .stdin(input)
            .env("HOME", workspace.home())
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap_or_else(|error| panic!("start {:?}: {error}", self.command))
    }
}

/// The tree in four parts, for clients that transfer in parallel only by running several times.
pub fn quarters(tree: Tree) -> Vec<Vec<String>> {
    let directories = tree.directories();
    let part = directories.len().div_ceil(4);
    directories.chunks(part).map(<[String]>::to_vec).collect()
}

/// Options that depend on the version of TLS, for programs that use GnuTLS.
pub fn gnutls_priority(version: Version) -> &'static str {
    match version {
        Version::Tls12 => "NORMAL:-VERS-TLS1.3",
        Version::Tls13 => "NORMAL:-VERS-ALL:+VERS-TLS1.3",
    }
}

/// Seconds that one process may take; also the clients' own timeouts, which then rarely matter.
pub const PATIENCE: u32 = 120;
