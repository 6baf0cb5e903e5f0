//! Pure-FTPd 1.0.50: talkative (six lines of greeting, several lines to most replies), and indulgent about TLS.
//!
//! User: `alice` with password `secret`, from a PureDB; she sees the root directory as `/` and her files belong to
//! `nobody`. It needs root, and as Debian builds it knows no implicit TLS and demands no session reuse.

use std::process::Stdio;

use super::certs::{Authority, Pair};
use super::programs;
use super::server::{PASSIVE_PORTS, PASSWORD_HASH, Place, Reuse, Security, Server, USER, command};

/// Starts Pure-FTPd.
///
/// # Panics
/// On what it can't do: see above.
pub fn start(security: Security<'_>) -> Server {
    start_by(security, None)
}

/// Starts one with TLS that requires a certificate of its clients, issued by this authority.
///
/// # Panics
/// See [`start`].
pub fn start_for_clients_of(authority: &Authority, pair: &Pair) -> Server {
    start_by(Security::Explicit(pair, Reuse::Optional), Some(authority))
}

fn start_by(security: Security<'_>, clients: Option<&Authority>) -> Server {
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
        // No reverse look-ups, IPv4, each user in a root of its own.
        .args(["-H", "-4", "-A"]);
    match security {
        Security::Plain => {
            run.args(["-Y", "0"]);
        }
        Security::Explicit(own, _) => {
            let files = place.write_pair(own);
            let pair = format!(
                "{},{}",
                files.certificate.display(),
                files.private_key.display()
            );
            run.args(["-Y", "1", "-2", &pair]);
            if let Some(authority) = clients {
                // It trusts the certificates in its own file.
                let both = format!("{}{}", own.certificate, authority.pem());
                place.write_private("tls.crt", &both);
                run.args(["-J", "-C:HIGH"]);
            }
        }
        Security::Implicit(..) => panic!("Debian's Pure-FTPd has no implicit TLS"),
    }
    Server::start(place, run, &["xfer.log"], USER, security)
}
