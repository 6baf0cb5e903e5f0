//! Pure-FTPd 1.0.50: talkative (six lines of greeting, several lines to most replies), and indulgent about TLS.
//!
//! User: `alice` with password `secret`, from a PureDB; she sees the root directory as `/` and her files belong to
//! `nobody`. It needs root, and as Debian builds it knows no implicit TLS and demands no session reuse.

use std::process::Stdio;

use super::programs;
use super::server::{PASSIVE_PORTS, PASSWORD_HASH, Place, Security, Server, USER, command};

/// Starts Pure-FTPd.
///
/// # Panics
/// On what it can't do: see above.
pub fn start(security: Security<'_>) -> Server {
    assert!(
        programs::is_root(),
        "Pure-FTPd needs root: run make test as root"
    );
    let place = Place::claim();
    let (uid, gid) = place.owner();
    let account = format!(
        "{}:{PASSWORD_HASH}:{uid}:{gid}::{}/./::::::::::::\n",
        USER.0,
        place.file("root")
    );
    let users = place.write_private("passwd", &account);
    let database = place.file("users.pdb");
    let made = command("pure-ftpd/usr/bin/pure-pw")
        .args(["mkdb", &database, "-f", &users])
        .stdout(Stdio::null())
        .status();
    assert!(
        made.is_ok_and(|status| status.success()),
        "pure-pw made no user database"
    );

    let mut run = command("pure-ftpd/usr/sbin/pure-ftpd");
    run.arg("-S")
        .arg(format!(
            "{},{}",
            place.address().ip(),
            place.address().port()
        ))
        .args(["-l", &format!("puredb:{database}"), "-u", "1"])
        .args(["-p", &format!("{}:{}", PASSIVE_PORTS.0, PASSIVE_PORTS.1)])
        // Real files: as root it would unlink whatever it is given, /dev/null included.
        .args([
            "-g",
            &place.file("pid"),
            "-O",
            &format!("clf:{}", place.file("xfer.log")),
        ])
        // No reverse look-ups, IPv4, everybody in their own root.
        .args(["-H", "-4", "-A"]);
    match security {
        Security::Plain => {
            run.args(["-Y", "0"]);
        }
        Security::Explicit(pair, _) => {
            let files = place.write_pair(pair);
            let pair = format!(
                "{},{}",
                files.certificate.display(),
                files.private_key.display()
            );
            run.args(["-Y", "1", "-2", &pair]);
        }
        Security::Implicit(..) => panic!("Debian's Pure-FTPd has no implicit TLS"),
    }
    Server::start(place, run, &["xfer.log"], USER, security)
}
