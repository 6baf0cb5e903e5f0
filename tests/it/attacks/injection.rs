//! Bytes that one side reads as one thing and the other as two: line ends inside commands and replies, Telnet commands,
//! urgent data. A backend sees exactly one command for each that the client sent, and the client one reply.

use testkit::front::Front;
use testkit::proxy::Proxy;
use testkit::raw::Raw;
use testkit::script::{Script, Step, reply};
use testkit::scripted::Backend;

use crate::program::Before;

struct Deployment {
    front: Front,
    backend: Backend,
    proxy: Proxy,
}

impl Deployment {
    fn new(script: Script) -> Self {
        let front = Front::new(&[]);
        let backend = Backend::start(script);
        let proxy = front.before_with(backend.address(), |config| config.tls("required", "false"));
        Self {
            front,
            backend,
            proxy,
        }
    }

    fn logged_in(&self) -> Raw {
        let mut client = self.front.explicit(&self.proxy);
        client.login("alice", "secret");
        client
    }

    /// What the backend has heard since there were so many lines.
    fn heard_since(&self, lines: usize) -> Vec<String> {
        self.backend.commands().split_off(lines)
    }
}

/// Everything that some server or client takes for the end of a line, or for the end of a text.
const ENDS: [&[u8]; 12] = [
    b"\r",
    b"\n",
    b"\0",
    b"\r\0",
    b"\n\r",
    b"\r\r",
    b"\x0b",
    b"\x0c",
    b"\x1a",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\xe2\x80\xa9",
];

#[test]
fn a_backend_hears_one_command_for_each_whatever_it_takes_for_the_end_of_a_line() {
    let deployment = Deployment::new(Script::new().on("CWD", [reply("250 fine")]));
    for end in ENDS {
        let mut client = deployment.logged_in();
        for line in [
            [&b"CWD a"[..], end, b"DELE b"].concat(),
            [&b"CWD "[..], end, b"DELE b"].concat(),
            [&b"CWD a"[..], end].concat(),
            [end, b"CWD a"].concat(),
        ] {
            let before = deployment.backend.commands().len();
            client.send_bytes(&[&line, &b"\r\nNOOP\r\n"[..]].concat());
            // As the client sees it: lines end at LF, with any number of CRs before it, and empty ones count for nothing.
            let shown = line.escape_ascii().to_string();
            let whole = [&line, &b"\r\n"[..]].concat();
            let lines: Vec<&[u8]> = whole
                .split(|byte| *byte == b'\n')
                .map(|line| {
                    let end = line.iter().rposition(|byte| *byte != b'\r');
                    &line[..end.map_or(0, |last| last + 1)]
                })
                .filter(|line| !line.is_empty())
                .collect();
            let mut passed = Vec::new();
            for sent in lines {
                let code = client.reply().code;
                let harmful = sent.iter().any(|byte| matches!(byte, b'\r' | 0));
                let verb = sent.starts_with(b"CWD") || sent.starts_with(b"DELE");
                match (harmful, verb) {
                    (true, _) => assert_eq!(code, 501, "{shown}"),
                    (false, false) => assert_eq!(code, 500, "{shown}"),
                    (false, true) => passed.push(String::from_utf8_lossy(sent).into_owned()),
                }
            }
            client.expect(200);
            passed.push("NOOP".to_owned());
            assert_eq!(deployment.heard_since(before), passed, "{shown}");
        }
    }
}

#[test]
fn line_ends_in_a_user_name_or_a_password_reach_no_backend() {
    let deployment = Deployment::new(Script::new());
    for end in [&b"\r"[..], b"\0", b"\r\0"] {
        let mut client = deployment.front.explicit(&deployment.proxy);
        let line = |start: &[u8]| [start, end, b"DELE b\r\n"].concat();
        client.send_bytes(&line(b"USER alice"));
        client.expect(501);
        client.command("USER alice", 331);
        client.send_bytes(&line(b"PASS secret"));
        client.expect(501);
        client.command("PASS secret", 230);
        for setting in [&b"OPTS UTF8 ON"[..], b"CLNT x", b"LANG en", b"HOST x"] {
            let mut client = deployment.front.explicit(&deployment.proxy);
            client.send_bytes(&line(setting));
            client.expect(501);
        }
    }
    assert!(
        !deployment
            .backend
            .commands()
            .iter()
            .any(|line| line.contains("DELE"))
    );
}

#[test]
fn names_with_every_other_byte_reach_the_backend_and_come_back_unchanged() {
    let name: Vec<u8> = (1..=255)
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .collect();
    let echo = [&b"257 \""[..], &name, b"\" is it\r\n"].concat();
    let deployment = Deployment::new(Script::new().on("MKD", [Step::Bytes(echo.clone())]));
    let mut client = deployment.logged_in();
    client.send_bytes(&[&b"MKD "[..], &name, b"\r\n"].concat());
    // Raw shows text; what isn't UTF-8 is replaced on both sides alike.
    let expected = String::from_utf8_lossy(&echo).into_owned();
    assert_eq!(client.expect(257), expected.trim_end_matches(['\r', '\n']));
    let heard = deployment.backend.wait_for_command("MKD ");
    assert_eq!(heard, format!("MKD {}", String::from_utf8_lossy(&name)));
}

#[test]
fn a_pipeline_of_commands_is_answered_one_by_one_in_order() {
    let deployment = Deployment::new(Script::new());
    let mut client = deployment.front.explicit(&deployment.proxy);
    client.send_bytes(b"USER alice\r\nPASS secret\r\nPWD\r\nSYST\nCWD x\r\nPWD\r\nNO");
    for code in [331, 230, 257, 215, 250, 257] {
        client.expect(code);
    }
    client.send_bytes(b"OP\r\n");
    client.expect(200);
    let heard = [
        "USER alice",
        "PASS secret",
        "PWD",
        "SYST",
        "CWD x",
        "PWD",
        "NOOP",
    ];
    assert_eq!(deployment.backend.commands(), heard);
}

#[test]
fn passwords_of_every_kind_reach_the_backend_byte_for_byte_and_only_after_user() {
    let deployment = Deployment::new(Script::new());
    let mut client = deployment.front.explicit(&deployment.proxy);
    client.command("PASS early", 503);
    client.command("USER alice", 331);
    let giant = format!("PASS {}", "x".repeat(2 * 1024 - 2 - 5));
    for password in [
        "PASS",
        "PASS ",
        "PASS  two  spaces ",
        "pass |bar\\back@at",
        &giant,
    ] {
        let mut client = deployment.front.explicit(&deployment.proxy);
        client.command("USER alice", 331);
        client.command(password, 230);
        assert_eq!(
            deployment.backend.commands().last().map(String::as_str),
            Some(password)
        );
    }
    let beyond = format!("PASS {}", "x".repeat(2 * 1024 - 2 - 4));
    client.command(&beyond, 500);
    assert!(
        !deployment
            .backend
            .commands()
            .iter()
            .any(|line| line.contains("early"))
    );
}

#[test]
fn telnet_commands_before_a_verb_are_dropped_and_any_number_of_them_is_harmless() {
    let deployment = Deployment::new(Script::new());
    let mut client = deployment.logged_in();
    let before = deployment.backend.commands().len();
    for line in [
        &b"\xff\xf4\xff\xf2ABOR\r\n"[..],
        b"\xff\xfb\x01\xff\xfd\x03PWD\r\n",
        b"\xff\xf1\r\nSYST\r\n",
    ] {
        client.send_bytes(line);
        client.reply();
    }
    assert_eq!(deployment.heard_since(before), ["ABOR", "PWD", "SYST"]);
    // Neither a name nor a verb is made of them.
    for line in [vec![0xff; 3], vec![0xff; 60_000], b"\xff\xffPWD".to_vec()] {
        client.send_bytes(&[&line, &b"\r\n"[..]].concat());
        client.expect(500);
    }
    client.send_bytes(&[&b"\xff\xf1".repeat(1_000), &b"NOOP\r\n"[..]].concat());
    client.expect(200);
    assert_eq!(deployment.heard_since(before)[3..], ["NOOP"]);
}

#[test]
fn urgent_data_is_read_in_its_place() {
    let deployment = Deployment::new(Script::new());
    let mut client = Raw::connect(deployment.proxy.explicit());
    client.expect(220);
    client.login("alice", "secret");
    let socket = client.wire().socket().try_clone().expect("it is open");
    let socket = socket2::SockRef::from(&socket);
    // As Python's abort() does: the whole line, whose last byte is the urgent one.
    socket.send_out_of_band(b"ABOR\r\n").expect("it reads");
    client.expect(226);
    for byte in b"\xff\xf4\xff\xf2NOOP\r\n" {
        socket.send_out_of_band(&[*byte]).expect("it reads");
    }
    client.expect(200);
    client.command("PWD", 257);
}

#[test]
fn the_clients_replies_end_where_the_backends_do() {
    let texts = [
        "257-one\r\n226 done\r\n257-two\r\n 257 three\r\n2570 four\r\n257 end",
        "250-\r\n\r\n\r\n250 end",
        "213-Status\r\n 221 Goodbye.\r\n421 nothing\r\n500\r\n213 End",
        "200 a\rb\0c\u{1b}[2J",
    ];
    for text in texts {
        let deployment = Deployment::new(Script::new().on("STAT", [reply(text)]));
        let mut client = deployment.logged_in();
        client.send("STAT");
        assert_eq!(client.reply().text, text);
        client.command("PWD", 257);
    }
}

#[test]
fn nothing_that_a_client_says_before_login_is_said_back_to_it() {
    let deployment = Deployment::new(Script::new());
    let canary = "zebracanary";
    for mut client in [deployment.front.implicit(&deployment.proxy), {
        let mut clear = Raw::connect(deployment.proxy.explicit());
        clear.expect(220);
        clear
    }] {
        for verb in [
            "HOST",
            "OPTS",
            "CLNT",
            "LANG",
            "AUTH",
            "PBSZ",
            "PROT",
            "TYPE",
            "MODE",
            "STRU",
            "ACCT",
            "PASS",
            "HELP",
            "FEAT",
            "STAT",
            "SITE",
            "SYST",
            "CWD",
            "RETR",
            "STOR",
            "PORT",
            "EPRT",
            "EPSV",
            "EHLO",
            "zebracanary",
            "SSH-2.0-zebracanary",
            "<zebracanary>",
            "NOOP",
            "ABOR",
        ] {
            client.send(&format!("{verb} {canary}"));
            let answer = client.reply().text;
            assert!(!answer.contains(canary), "{verb}: {answer}");
        }
        client.command(&format!("USER {canary}|alice"), 530);
        client.command("QUIT", 221);
        assert!(client.end().0.is_empty());
    }
    assert_eq!(deployment.backend.connections(), 0);
}
