//! ProFTPD 1.3.8 with mod_tls.
//!
//! User: `alice` with password `secret`, from an `AuthUserFile`; as root she sees the root directory as `/` and her
//! files belong to `nobody`, else as it is in the real file system.

use std::fmt::Write;

use super::programs;
use super::server::{PASSIVE_PORTS, PASSWORD_HASH, Place, Reuse, Security, Server, USER, command};

/// Starts ProFTPD.
///
/// With `Reuse::Required` under TLS 1.3 it runs out of tickets after a few uploads and then answers 425.
pub fn start(security: Security<'_>) -> Server {
    start_with(security, "")
}

/// Starts ProFTPD with further lines of configuration.
pub fn start_with(security: Security<'_>, lines: &str) -> Server {
    let place = Place::claim();
    let (uid, gid) = place.owner();
    let root = place.file("root");
    let users = format!("{}:{PASSWORD_HASH}:{uid}:{gid}::{root}:/bin/sh\n", USER.0);
    let users = place.write_private("passwd", &users);
    let groups = place.write_private("group", &format!("users:x:{gid}:\n"));
    let mut config = format!(
        "ServerName test\nServerType standalone\nDefaultAddress {address}\nPort {port}\nSocketBindTight on\n\
         UseIPv6 off\nUseReverseDNS off\nModulePath {modules}\nLoadModule mod_tls.c\n\
         AuthOrder mod_auth_file.c\nAuthUserFile {users}\nAuthGroupFile {groups}\nRequireValidShell off\n\
         AllowOverwrite on\nAllowStoreRestart on\nAllowRetrieveRestart on\nPassivePorts {first} {last}\n\
         WtmpLog off\nPidFile {pid}\nScoreboardFile {scoreboard}\nScoreboardMutex {mutex}\n\
         SystemLog {log}\nTransferLog {xferlog}\nDelayEngine off\n",
        address = place.address().ip(),
        port = place.address().port(),
        modules = programs::server_file("proftpd/usr/lib/proftpd").display(),
        first = PASSIVE_PORTS.0,
        last = PASSIVE_PORTS.1,
        pid = place.file("pid"),
        scoreboard = place.file("scoreboard"),
        mutex = place.file("scoreboard.lock"),
        log = place.file("system.log"),
        xferlog = place.file("xfer.log"),
    );
    if programs::is_root() {
        config.push_str("User nobody\nGroup nogroup\nDefaultRoot ~\n");
    }
    let (tls, implicit) = match security {
        Security::Plain => (None, false),
        Security::Explicit(pair, reuse) => (Some((pair, reuse)), false),
        Security::Implicit(pair, reuse) => (Some((pair, reuse)), true),
    };
    if let Some((pair, reuse)) = tls {
        let files = place.write_pair(pair);
        write!(
            config,
            "TLSEngine on\nTLSProtocol TLSv1.2 TLSv1.3\nTLSRequired off\n\
             TLSLog {log}\nTLSECCertificateFile {certificate}\nTLSECCertificateKeyFile {key}\n",
            log = place.file("tls.log"),
            certificate = files.certificate.display(),
            key = files.private_key.display(),
        )
        .expect("a String takes everything");
        // The first one counts.
        for (directive, usual) in [("TLSRenegotiate", "none"), ("TLSVerifyClient", "off")] {
            if !lines.contains(directive) {
                writeln!(config, "{directive} {usual}").expect("a String takes everything");
            }
        }
        if reuse == Reuse::Optional {
            config.push_str("TLSOptions NoSessionReuseRequired\n");
        }
        if implicit {
            config.push_str("TLSOptions UseImplicitSSL\n");
        }
    }
    config.push_str(lines);
    let file = place.write_private("proftpd.conf", &config);
    let mut run = command("proftpd/usr/sbin/proftpd");
    run.args(["-n", "-c", &file]);
    Server::start(place, run, &["system.log", "tls.log"], USER, security)
}
