//! vsftpd 3.0.3: strict about TLS (it demands session reuse and close_notify), and the commonest server on Linux.
//!
//! User: `anonymous` (or `ftp`) with any password, which may do everything in the root directory, and is shown the paths
//! of the real file system below it as they are: without root's rights, and in this mode with them, vsftpd has no
//! chroot. Named users would need a PAM service in `/etc/pam.d`, which tests don't touch. Files belong to the user of the
//! test.

use std::fmt::Write;

use super::server::{PASSIVE_PORTS, Place, Reuse, Security, Server, command};

/// Starts vsftpd.
///
/// It closes the whole session after a data connection that doesn't resume where `Reuse::Required`; OpenSSL 3 makes it
/// crash there under TLS 1.3. Its strictness cuts off TLS 1.3 uploads of clients that don't read tickets: prefer TLS 1.2.
pub fn start(security: Security<'_>) -> Server {
    start_with_ports(security, PASSIVE_PORTS)
}

/// The same with other ports for passive data connections, from the first to the last.
pub fn start_with_ports(security: Security<'_>, ports: (u16, u16)) -> Server {
    start_by(security, ports, "")
}

/// The same with further lines of configuration.
pub fn start_with(security: Security<'_>, lines: &str) -> Server {
    start_by(security, PASSIVE_PORTS, lines)
}

fn start_by(security: Security<'_>, (first, last): (u16, u16), lines: &str) -> Server {
    let place = Place::claim();
    let mut config = format!(
        "listen=YES\nlisten_address={address}\nlisten_port={port}\nbackground=NO\n\
         run_as_launching_user=YES\nanonymous_enable=YES\nlocal_enable=NO\nanon_root={root}\n\
         write_enable=YES\nanon_upload_enable=YES\nanon_mkdir_write_enable=YES\nanon_other_write_enable=YES\n\
         anon_world_readable_only=NO\nanon_umask=022\nno_anon_password=NO\nsecure_chroot_dir={root}\n\
         seccomp_sandbox=NO\nisolate=NO\nisolate_network=NO\npasv_min_port={first}\npasv_max_port={last}\n\
         xferlog_enable=YES\ndual_log_enable=YES\nlog_ftp_protocol=YES\nvsftpd_log_file={log}\nxferlog_file={xferlog}\n",
        address = place.address().ip(),
        port = place.address().port(),
        root = place.file("root"),
        log = place.file("vsftpd.log"),
        xferlog = place.file("xfer.log"),
    );
    let (tls, implicit) = match security {
        Security::Plain => (None, "NO"),
        Security::Explicit(pair, reuse) => (Some((pair, reuse)), "NO"),
        Security::Implicit(pair, reuse) => (Some((pair, reuse)), "YES"),
    };
    if let Some((pair, reuse)) = tls {
        let files = place.write_pair(pair);
        // Its default ciphers are for RSA certificates only, the tests' are ECDSA.
        write!(
            config,
            "ssl_enable=YES\nimplicit_ssl={implicit}\nssl_tlsv1=YES\nssl_ciphers=HIGH\nallow_anon_ssl=YES\n\
             force_anon_logins_ssl=NO\nforce_anon_data_ssl=NO\nstrict_ssl_read_eof=YES\nrequire_ssl_reuse={reuse}\n\
             rsa_cert_file={certificate}\nrsa_private_key_file={key}\n",
            reuse = if reuse == Reuse::Required { "YES" } else { "NO" },
            certificate = files.certificate.display(),
            key = files.private_key.display(),
        )
        .expect("a String takes everything");
    }
    // ftp_username must exist; the user of the test does.
    writeln!(config, "ftp_username={}", launching_user()).expect("a String takes everything");
    config.push_str(lines);
    let file = place.write_private("vsftpd.conf", &config);
    let mut run = command("vsftpd/usr/sbin/vsftpd");
    run.arg(file);
    Server::start(
        place,
        run,
        &["vsftpd.log"],
        ("anonymous", "guest@"),
        security,
    )
}

fn launching_user() -> String {
    let output = std::process::Command::new("id").arg("-un").output();
    let name = output.expect("id is on every system").stdout;
    String::from_utf8_lossy(&name).trim().to_owned()
}
