//! Being sent to third parties: by PORT and EPRT, by a backend's 227, by a user name. Portcullis connects to the client's
//! own address, to the configured backends, and to nobody else; where it must not go there is a trap that nobody steps
//! into.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use testkit::config::Site;
use testkit::front::Front;
use testkit::loopback::Loopback;
use testkit::proxy::Proxy;
use testkit::raw::Raw;
use testkit::script::{Script, reply};
use testkit::scripted::Backend;

use crate::program::{Before, Start};

/// A listener on an address of its own that nobody is to connect to.
struct Trap {
    listener: TcpListener,
    _loopback: Loopback,
}

impl Trap {
    fn new() -> Self {
        let loopback = Loopback::claim();
        let listener = TcpListener::bind(loopback.at(0)).expect("a free port");
        listener.set_nonblocking(true).expect("it is open");
        Self {
            listener,
            _loopback: loopback,
        }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }

    /// Whoever had connected would be in the queue: loopback connects at once.
    fn is_untouched(&self) {
        let accepted = self.listener.accept();
        let error = accepted.expect_err("somebody was sent here");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }

    /// As PORT and 227 write it.
    fn numbers(&self) -> String {
        let port = self.address().port();
        let ip = self.address().ip().to_string().replace('.', ",");
        format!("{ip},{},{}", port >> 8, port & 255)
    }
}

fn logged_in(front: &Front, proxy: &Proxy) -> Raw {
    let mut client = front.explicit(proxy);
    client.login("alice", "secret");
    client
}

#[test]
fn active_mode_leads_to_nobody_but_the_client_however_the_address_is_written() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new().file("file", "content"));
    let proxy = front.before(backend.address());
    let mut client = logged_in(&front, &proxy);
    let trap = Trap::new();
    let (ip, port) = (trap.address().ip(), trap.address().port());
    let own = client
        .wire()
        .socket()
        .local_addr()
        .expect("it is open")
        .ip();
    let own_numbers = own.to_string().replace('.', ",");
    let commands = backend.commands().len();
    for refused in [
        format!("PORT {}", trap.numbers()),
        format!("EPRT |1|{ip}|{port}|"),
        format!("EPRT |2|::ffff:{ip}|{port}|"),
        format!("EPRT |2|::1|{port}|"),
        format!("EPRT |1|0.0.0.0|{port}|"),
        format!("EPRT |2|::|{port}|"),
        format!("EPRT |1|224.0.0.1|{port}|"),
        format!("EPRT |1|255.255.255.255|{port}|"),
        format!("PORT 0,0,0,0,{},{}", port >> 8, port & 255),
        // The client's own address, but not a port that a client of FTP would listen on.
        format!("PORT {own_numbers},0,0"),
        format!("PORT {own_numbers},0,21"),
        format!("PORT {own_numbers},3,255"),
        format!("EPRT |1|{own}|0|"),
        format!("EPRT |1|{own}|25|"),
        format!("EPRT |1|{own}|1023|"),
    ] {
        client.command(&refused, 504);
    }
    let [_, b, c, d] = match ip {
        std::net::IpAddr::V4(v4) => v4.octets(),
        std::net::IpAddr::V6(_) => unreachable!("loopback addresses are IPv4"),
    };
    for malformed in [
        format!("EPRT |1|0x7f.{b}.{c}.{d}|{port}|"),
        format!("EPRT |1|0177.{b}.{c}.{d}|{port}|"),
        format!("EPRT |1|2130706433|{port}|"),
        format!("EPRT |1|127.1|{port}|"),
        format!("EPRT |1|{own} |{port}|"),
        format!("EPRT |2|fe80::1%lo|{port}|"),
        format!("EPRT |1|localhost|{port}|"),
        format!("EPRT |1|{own}|65536|"),
        format!("EPRT |1|{own}|-1|"),
        format!("EPRT |1|{own}|+2000|"),
        format!("EPRT |1|{own}|{port}"),
        format!("EPRT |1|{own}|{port}||"),
        format!("PORT {own_numbers},4"),
        format!("PORT {own_numbers},4,1,2"),
        format!("PORT {own_numbers},256,1"),
        format!("PORT {own_numbers},-4,1"),
        format!("PORT {own_numbers},0x4,1"),
        format!("PORT 0177,{b},{c},{d},300,1"),
    ] {
        client.command(&malformed, 501);
        client.command("RETR file", 425);
    }
    assert_eq!(
        backend.commands().len(),
        commands,
        "the backend hears nothing of it"
    );
    trap.is_untouched();
}

#[test]
fn a_refused_address_makes_the_good_one_before_it_forgotten() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new().file("file", "content"));
    let proxy = front.before(backend.address());
    let mut client = logged_in(&front, &proxy);
    for bad in [
        "PORT 1,2,3",
        "PORT 10,0,0,1,200,1",
        "EPRT |9|x|1|",
        "EPSV 9",
    ] {
        let own = client.eprt();
        own.set_nonblocking(true).expect("it is open");
        client.send(bad);
        assert!(client.reply().code >= 500, "{bad}");
        client.command("RETR file", 425);
        let error = own.accept().expect_err("the address is forgotten");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}

/// A proxy with a site for each of these scripts: `site0.test`, `site1.test` and so on.
fn proxy_of(front: &Front, scripts: Vec<Script>) -> (Proxy, Vec<Backend>) {
    let backends: Vec<_> = scripts.into_iter().map(Backend::start).collect();
    let mut config = front.config();
    for (number, backend) in backends.iter().enumerate() {
        let name = format!("site{number}");
        let host = format!("{name}.test");
        config = config.site(&Site::hosts(&name, &[&host], backend.address()));
    }
    (Proxy::start(config), backends)
}

#[test]
fn the_address_in_a_backends_227_is_never_followed() {
    let trap = Trap::new();
    let (numbers, port) = (trap.numbers(), trap.address().port());
    // With the trap's port, which belongs to nobody at the backend's own address, or with one that no data port has.
    let announced = [
        (229, format!("227 Entering Passive Mode ({numbers})")),
        (229, format!("227 {numbers}")),
        (229, format!("229 Extended (|||{port}|)")),
        (
            229,
            format!("229 Extended (|1|{}|{port}|)", trap.address().ip()),
        ),
        (425, "227 Passive (169,254,169,254,0,80)".to_owned()),
        (425, "227 Passive (127,0,0,1,0,21)".to_owned()),
        (425, "229 Extended (|||80|)".to_owned()),
    ];
    let scripts = announced.iter().map(|(_, text)| {
        Script::new()
            .file("file", "content")
            .on("EPSV", [reply("500 what?")])
            .on("PASV", [reply(text)])
            .on("PORT", [reply("502 no")])
    });
    let front = Front::new(&[]);
    let (proxy, _backends) = proxy_of(&front, scripts.collect());
    for (number, (code, text)) in announced.iter().enumerate() {
        let mut client = front.explicit(&proxy);
        client.login(&format!("site{number}.test|alice"), "secret");
        let answer = client.command("EPSV", *code);
        // If there is one, it is Portcullis' own port, behind which nobody answers.
        assert!(
            *code == 425 || answer.contains("|||50000|"),
            "{text}: {answer}"
        );
        client.command("RETR file", 425);
        client.command("NOOP", 200);
        trap.is_untouched();
    }
}

#[test]
fn a_port_that_a_backend_opens_unasked_is_not_told_to_the_client() {
    const VERBS: [&str; 6] = ["PWD", "SITE", "STAT", "NOOP", "XPSV", "PRET"];
    let odd = ["227 Passive", "228 Long Passive", "229 Extended"];
    let scripts = odd.map(|text| {
        VERBS.iter().fold(Script::new(), |script, verb| {
            script.on(verb, [reply(&format!("{text} (10,66,77,88,99,1)"))])
        })
    });
    let front = Front::new(&[]);
    let (proxy, _backends) = proxy_of(&front, scripts.into());
    for number in 0..odd.len() {
        let mut client = front.explicit(&proxy);
        client.login(&format!("site{number}.test|alice"), "secret");
        for verb in VERBS {
            let answer = client.command(verb, 502);
            assert!(!answer.contains("66"), "{answer}");
        }
        client.command("CWD x", 250);
    }
}

#[test]
fn verbs_that_open_data_ports_in_other_ways_reach_no_backend() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let proxy = front.before(backend.address());
    let mut client = logged_in(&front, &proxy);
    let commands = backend.commands().len();
    for line in ["LPSV", "SPSV", "CPSV", "SSCN ON", "LPRT 6,16,1,2,3", "lpsv"] {
        client.command(line, 502);
    }
    assert_eq!(backend.commands().len(), commands);
}

#[test]
fn a_user_name_is_never_an_address() {
    let trap = Trap::new();
    let (ip, port) = (trap.address().ip(), trap.address().port());
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let proxy = front.before_with(backend.address(), |config| {
        config
            .set(
                "user_forms",
                "{user_at_host: true, host_backslash_user: true}",
            )
            // Each of these tries is a guess.
            .set("guard", "{delay: 1ms, max_delay: 1ms}")
    });
    let mut client = front.explicit(&proxy);
    for (host, code) in [
        (format!("{ip}"), 504),
        ("[::1]".to_owned(), 504),
        ("localhost".to_owned(), 504),
        ("metadata.internal".to_owned(), 504),
        (format!("{ip}:{port}"), 501),
        (format!("[::ffff:{ip}]:{port}"), 501),
        ("ftp://localhost".to_owned(), 501),
    ] {
        client.command(&format!("HOST {host}"), code);
        client.command(&format!("USER {host}|alice"), 530);
    }
    assert_eq!(backend.connections(), 0);
    // Without a configured host in it, all of it is the user's name, at the default site.
    for user in [format!("alice@{ip}:{port}"), format!("{ip}\\alice")] {
        let line = format!("USER {user}");
        client.command(&line, 331);
        assert_eq!(backend.wait_for_command(&line), line);
    }
    assert_eq!(backend.connections(), 1);
    trap.is_untouched();
}
