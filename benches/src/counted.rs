//! The instructions of whole logins, counted by callgrind in the proxy's process: what a pool costs beside a single backend.
//!
//! CPU time differs from run to run by more than a choice among twenty backends takes. Instructions hardly do: what differs is
//! how often the proxy is woken for the same bytes.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::Ground;
use super::client::Session;
use super::peers::{Peer, Stage};
use super::table;

/// Logins of the two runs; what both do besides, at their start and end, is no part of the difference.
const FEW: u32 = 50;
const MANY: u32 = 250;

#[derive(Debug, Args)]
pub struct Options {
    /// The binary of Portcullis.
    portcullis: PathBuf,
    /// The page in which to replace the table; without it the table goes to stdout.
    #[arg(long)]
    pub page: Option<PathBuf>,
}

/// Counts, and returns the table.
pub async fn measure(options: &Options, ground: &Ground) -> io::Result<String> {
    let portcullis = options.portcullis.canonicalize()?;
    let single = of_login(&portcullis, ground, Peer::Portcullis).await?;
    let pool = of_login(&portcullis, ground, Peer::Pool).await?;
    Ok(format!(
        "{}\n| a login under TLS 1.3 through | instructions | ratio |\n|---|---|---|\n\
         | a single backend | {single:.0} | 1.000 |\n\
         | the one with the fewest sessions for its weight, of 20 | {pool:.0} | {:.3} |\n",
        table::machine()?,
        pool / single
    ))
}

async fn of_login(portcullis: &Path, ground: &Ground, peer: Peer) -> io::Result<f64> {
    let few = counted(portcullis, ground, peer, FEW).await?;
    let many = counted(portcullis, ground, peer, MANY).await?;
    Ok((many - few) / f64::from(MANY - FEW))
}

/// What the whole process took for so many logins.
async fn counted(portcullis: &Path, ground: &Ground, peer: Peer, logins: u32) -> io::Result<f64> {
    eprintln!("{}: {logins} logins", peer.name());
    let counts = ground.folder.path().join("counts");
    let program = ground.folder.path().join("under-callgrind");
    let script = format!(
        "#!/bin/sh\nexec valgrind --tool=callgrind --callgrind-out-file={} {} \"$@\"\n",
        counts.display(),
        portcullis.display()
    );
    fs::write(&program, script)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let stage = Stage {
        portcullis: &program,
        peers: ground.folder.path(),
        folder: ground.folder.path(),
        certificate: &ground.certificate,
        backend: ground.backend.ports,
        cpu: ground.cpu,
        version: &rustls::version::TLS13,
    };
    let running = stage.start(peer)?;
    for _ in 0..logins {
        Session::login(&running.route).await?.quit().await?;
    }
    // It writes its counts when it ends.
    drop(running);
    let text = fs::read_to_string(&counts)?;
    let total = text.lines().find_map(|line| {
        let rest = line
            .strip_prefix("totals: ")
            .or(line.strip_prefix("summary: "))?;
        rest.trim().parse().ok()
    });
    total.ok_or_else(|| io::Error::other("callgrind has written no total"))
}
