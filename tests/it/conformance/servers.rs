//! The same with real servers behind the proxy: what they make of ABOR, STAT, odd names, ASCII and compression is not
//! what a script would have thought of.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, Instant};

use testkit::certs::{Authority, Pair};
use testkit::config::Site;
use testkit::content;
use testkit::front::{Client, Front, NAME};
use testkit::proxy::Proxy;
use testkit::raw::{Raw, open_data, protect};
use testkit::server::{Reuse, Security, Server};
use testkit::wire::End;
use testkit::{proftpd, pureftpd, pyftpdlib, vsftpd};

use crate::program::Start;

/// A real server behind a proxy.
struct Deployment {
    name: &'static str,
    front: Front,
    server: Server,
    proxy: Proxy,
}

impl Deployment {
    fn new(name: &'static str, server: Server, security: Security<'_>) -> Self {
        let front = Front::new(&[]);
        let mut site = Site::default("only", server.address());
        if !matches!(security, Security::Plain) {
            site = site.backend_tls("explicit", None);
        }
        let proxy = Proxy::start(front.config().site(&site));
        Self {
            name,
            front,
            server,
            proxy,
        }
    }

    /// Every server in clear text and with TLS.
    fn all() -> Vec<Self> {
        let pair: Pair = Authority::new("authority of the servers").issue(&["ftp.test"]);
        let mut deployments = Vec::new();
        for security in [Security::Plain, Security::Explicit(&pair, Reuse::Optional)] {
            deployments.push(Self::new("vsftpd", vsftpd::start(security), security));
            deployments.push(Self::new("ProFTPD", proftpd::start(security), security));
            deployments.push(Self::new("Pure-FTPd", pureftpd::start(security), security));
        }
        deployments
    }

    fn file(&self, name: &str, content: &[u8]) {
        fs::write(self.server.root().join(name), content).expect("the directory is writable");
    }

    /// A client with private data connections, logged in. vsftpd lets its one user in without a password.
    fn session(&self) -> Client {
        let tls = self.front.tls(NAME);
        let mut control = Raw::connect_auth_tls(self.proxy.explicit(), &tls);
        control.send(&format!("USER {}", self.server.user()));
        let reply = control.reply();
        if reply.code != 230 {
            assert_eq!(reply.code, 331, "{}", reply.text);
            control.command(&format!("PASS {}", self.server.password()), 230);
        }
        control.protect_data();
        control.command("TYPE I", 200);
        Client { control, tls }
    }
}

#[test]
fn abor_ends_a_download_and_an_upload_at_every_server_and_the_session_goes_on() {
    let content = content::bytes(1, 20_000_000);
    for deployment in Deployment::all() {
        deployment.file("big", &content);
        let mut client = deployment.session();
        // Again and again, since it is chance how much of it a server finds at once.
        for line in ["RETR big", "STOR up"].repeat(5) {
            let mut data = client.begin(line);
            if line.starts_with("RETR") {
                data.read_exact(&mut [0; 100_000]).expect("it has begun");
            } else {
                // More than the sockets on the way hold. vsftpd dies of a reset that comes in the middle of its handshake.
                data.write_all(&content).expect("it has begun");
            }
            let asked = Instant::now();
            client.control.send("ABOR");
            let of_transfer = client.control.reply();
            let text = format!("{} {line}: {}", deployment.name, of_transfer.text);
            assert!(matches!(of_transfer.code, 425 | 426 | 451), "{text}");
            let of_abor = client.control.reply();
            let text = format!("{} {line}: {}", deployment.name, of_abor.text);
            assert!(matches!(of_abor.code, 225 | 226), "{text}");
            // That long is waited for a server that answers no more.
            assert!(asked.elapsed() < Duration::from_secs(10), "{text}");
            assert_eq!(
                data.read_to_end().1,
                End::Reset,
                "{} {line}",
                deployment.name
            );
            client.control.command("PWD", 257);
        }
        let back = client.download("big");
        assert_eq!(content::sha256(&back), content::sha256(&content));
    }
}

#[test]
fn abor_before_the_first_byte_leaves_a_session_with_pyftpdlib_that_has_accepted_its_data_connection()
 {
    let pair = Authority::new("authority of pyftpdlib").issue(&["ftp.test"]);
    for security in [Security::Plain, Security::Explicit(&pair, Reuse::Optional)] {
        let deployment = Deployment::new("pyftpdlib", pyftpdlib::start(security), security);
        deployment.file("letters", b"abcdefghij");
        let mut accepted = 0;
        for _ in 0..20 {
            let mut client = deployment.session();
            let data = open_data(client.control.epsv());
            client.control.send("STOR up");
            // A 150 says that it has yet to accept. What becomes of that is another test's matter.
            if client.control.reply().code == 150 {
                continue;
            }
            client.control.command("ABOR", 426);
            client.control.expect(226);
            drop(data);
            let mut data = open_data(client.control.epsv());
            client.control.send("RETR letters");
            assert!(matches!(client.control.reply().code, 125 | 150));
            protect(&mut data, &client.tls).expect("a handshake");
            assert_eq!(client.finish_download(data), b"abcdefghij");
            accepted += 1;
        }
        assert!(accepted > 0, "it has never accepted before the command");
    }
}

#[test]
fn stat_in_a_transfer_is_answered_by_every_server_before_its_end_or_after_it() {
    for deployment in Deployment::all() {
        deployment.file("big", &content::bytes(2, 20_000_000));
        let mut client = deployment.session();
        let mut data = client.begin("RETR big");
        client.control.command("NOOP", 200);
        client.control.send("STAT");
        assert_eq!(data.read_to_end().1, End::CloseNotify);
        drop(data);
        let mut codes = [client.control.reply().code, client.control.reply().code];
        codes.sort_unstable();
        // Pure-FTPd knows no STAT in a transfer.
        assert!(
            matches!(codes, [211, 226] | [226, 500]),
            "{}: {codes:?}",
            deployment.name
        );
        client.control.command("PWD", 257);
    }
}

#[test]
fn a_file_that_is_not_there_is_550_at_once_without_any_data_connection() {
    for deployment in Deployment::all() {
        let mut client = deployment.session();
        client.control.epsv();
        client.control.command("RETR missing", 550);
        // An upload's command waits for it.
        let _data = open_data(client.control.epsv());
        client.control.send("STOR no/such/directory/file");
        let refused = client.control.reply();
        assert!(matches!(refused.code, 550 | 553), "{}", refused.text);
        client.control.command("PWD", 257);
    }
}

#[test]
fn no_server_empties_the_file_of_an_upload_whose_client_never_comes() {
    for deployment in Deployment::all() {
        let mut client = deployment.session();
        client.upload("letters", b"abcdefghij");
        client.control.epsv();
        client.control.send("STOR letters");
        client.control.command("ABOR", 426);
        client.control.expect(226);
        // It goes on with its data connection of before gone.
        client.control.command("PWD", 257);
        assert_eq!(
            client.download("letters"),
            b"abcdefghij",
            "{}",
            deployment.name
        );
        client.upload("others", b"new");
        assert_eq!(client.download("others"), b"new", "{}", deployment.name);
    }
}

#[test]
fn the_offset_of_a_transfer_that_no_server_hears_of_is_not_that_of_the_next() {
    for deployment in Deployment::all() {
        deployment.file("letters", b"abcdefghij");
        let mut client = deployment.session();
        client.control.command("REST 4", 350);
        // No data port, so it is the proxy that refuses.
        client.control.command("RETR letters", 425);
        assert_eq!(
            client.download("letters"),
            b"abcdefghij",
            "{}",
            deployment.name
        );
    }
}

#[test]
fn names_in_latin_1_reach_every_server_and_a_doubled_255_means_what_it_means_there() {
    for (server, doubled) in [
        (vsftpd::start(Security::Plain), &b"\xff\xff"[..]),
        (proftpd::start(Security::Plain), b"\xff"),
        (pureftpd::start(Security::Plain), b"\xff\xff"),
    ] {
        let deployment = Deployment::new("", server, Security::Plain);
        let mut client = deployment.session().control;
        for name in [&b"gr\xfc\xdf e"[..], b"\xff\xff"] {
            client.send_bytes(&[b"MKD ", name, b"\r\n"].concat());
            client.expect(257);
        }
        let listed = fs::read_dir(deployment.server.root()).expect("it can be listed");
        let names: Vec<Vec<u8>> = listed
            .map(|entry| entry.expect("it is there").file_name().into_vec())
            .collect();
        for name in [b"gr\xfc\xdf e", doubled] {
            assert!(names.contains(&name.to_vec()), "{}", name.escape_ascii());
        }
    }
}

#[test]
fn ascii_is_the_servers_work_in_both_directions() {
    let deployment = Deployment::new("ProFTPD", proftpd::start(Security::Plain), Security::Plain);
    deployment.file("unix", b"one\ntwo\n");
    let mut client = deployment.session();
    client.control.command("TYPE A", 200);
    assert_eq!(client.download("unix"), b"one\r\ntwo\r\n");
    client.upload("back", b"one\r\ntwo\r\n");
    let stored = fs::read(deployment.server.root().join("back")).expect("it was stored");
    assert_eq!(stored, b"one\ntwo\n");
    client.control.command("TYPE I", 200);
    assert_eq!(client.download("unix"), b"one\ntwo\n");
}

#[test]
fn compressed_data_passes_in_both_directions() {
    let lines = "LoadModule mod_deflate.c\nDeflateEngine on\n";
    let server = proftpd::start_with(Security::Plain, lines);
    let deployment = Deployment::new("ProFTPD", server, Security::Plain);
    // mod_deflate gives up, with or without a proxy, on an upload that grows to many times its size.
    let content: Vec<u8> = content::bytes(3, 200_000)
        .iter()
        .map(|byte| b'a' + byte % 16)
        .collect();
    deployment.file("file", &content);
    let mut client = deployment.session();
    client.control.command("MODE Z", 200);
    let compressed = client.download("file");
    // The header of RFC 1950, and fewer bytes.
    assert_eq!(compressed[0] & 0x0f, 8);
    assert!(compressed.len() < content.len() * 2 / 3);
    client.upload("back", &compressed);
    client.control.command("MODE S", 200);
    let stored = fs::read(deployment.server.root().join("back")).expect("it was stored");
    assert_eq!(content::sha256(&stored), content::sha256(&content));
    assert_eq!(client.download("file"), content);
}
