//! Lines and bytes of the control connection: however they arrive, they reach the backend once, whole and unchanged.

use std::io::Read;

use testkit::raw::{Raw, open_data};
use testkit::script::{Script, Step, reply};
use testkit::wire::End;

use crate::stage::Stage;

/// Names that somebody's files have.
const NAMES: [&[u8]; 8] = [
    b"  spaces in front, behind  and  inside ",
    b"\"quotes\" 'and' |bars| \\ and * and ?",
    "gr\u{fc}\u{df}e, \u{4e16}\u{754c}".as_bytes(),
    b"gr\xfc\xdfe",
    b"\xff",
    b"\xff\xff",
    b"a\xff\xf4b\xff\xfb\x01",
    b"tab\tand\x1b[0m",
];

#[test]
fn commands_may_arrive_a_byte_at_a_time_and_end_in_a_bare_lf() {
    let stage = Stage::new(Script::new());
    let mut client = stage.clear_session();
    for byte in b"PWD\r\nCWD  a b \nNOOP\r\n" {
        client.send_bytes(&[*byte]);
    }
    for code in [257, 250, 200] {
        client.expect(code);
    }
    let commands = stage.backend.commands();
    assert_eq!(commands[2..], ["PWD", "CWD  a b ", "NOOP"]);
}

#[test]
fn commands_in_one_write_are_carried_out_one_after_the_other() {
    for secured in [false, true] {
        let stage = Stage::new(Script::new());
        let mut client = if secured {
            stage.front.explicit(&stage.proxy)
        } else {
            stage.clear()
        };
        client.send_bytes(
            b"FEAT\r\nUSER alice\r\nPASS secret\r\nPWD\r\nFEAT\r\nSYST\r\nAUTH\r\nQUIT\r\n",
        );
        // With TLS, AUTH is refused because it's there already; without, because it names nothing.
        let auth = if secured { 503 } else { 501 };
        for code in [211, 331, 230, 257, 211, 215, auth, 221] {
            client.expect(code);
        }
        assert_eq!(client.read_to_end().0, b"");
        stage.backend.wait_for_command("QUIT");
        let commands = ["USER alice", "PASS secret", "PWD", "FEAT", "SYST", "QUIT"];
        assert_eq!(stage.backend.commands(), commands);
    }
}

#[test]
fn names_reach_the_backend_byte_for_byte() {
    let stage = Stage::new(Script::new());
    for mut client in [stage.clear_session(), stage.session().control] {
        for name in NAMES {
            let line = [b"CWD ", name].concat();
            client.send_bytes(&[&line[..], b"\r\n"].concat());
            client.expect(250);
            let shown = name.escape_ascii();
            assert_eq!(stage.backend.lines().pop(), Some(line), "{shown}");
        }
    }
}

#[test]
fn names_reach_the_client_byte_for_byte() {
    let verbs = ["XA", "XB", "XC", "XD", "XE", "XF", "XG", "XH"];
    let answers = NAMES.map(|name| [b"257 \"", name, b"\" it is\r\n"].concat());
    let mut script = Script::new();
    for (verb, answer) in verbs.iter().zip(&answers) {
        script = script.on(verb, [Step::Bytes(answer.clone())]);
    }
    let stage = Stage::new(script);
    let mut client = stage.session().control;
    client.send(&verbs.join("\r\n"));
    client.send("QUIT");
    let (bytes, _) = client.end();
    assert_eq!(
        bytes,
        [answers.concat(), b"221 Goodbye.\r\n".to_vec()].concat()
    );
}

#[test]
fn telnet_commands_before_a_verb_are_dropped_without_an_answer() {
    let stage = Stage::new(Script::new());
    let clients = [stage.clear_session(), stage.session().control];
    for (count, mut client) in (1..).zip(clients) {
        for telnet in [
            // Interrupt process and data mark, as before ABOR.
            &b"\xff\xf4\xff\xf2"[..],
            // No operation, are you there, go ahead.
            b"\xff\xf1\xff\xf6\xff\xf9",
            // WILL, WONT, DO and DONT: every option stays off.
            b"\xff\xfb\x01\xff\xfc\x01\xff\xfd\x03\xff\xfe\x03",
        ] {
            let line = [telnet, b"CWD a\r\n"].concat();
            client.send_bytes(&line);
            client.expect(250);
            for byte in line {
                client.send_bytes(&[byte]);
            }
            client.expect(250);
            for line in &stage.backend.lines()[stage.backend.lines().len() - 2..] {
                assert_eq!(line, b"CWD a");
            }
        }
        client.command("QUIT", 221);
        assert_eq!(client.end().0, b"");
        // The backend hears of it when it will.
        stage.backend.wait_for_commands("QUIT", count);
    }
}

#[test]
fn abor_sent_as_urgent_data_is_one_abor() {
    // Python sends all of it as urgent data; lftp the data mark of Telnet.
    let python = |client: &mut Raw| client.send_urgent(b"ABOR\r\n");
    let lftp = |client: &mut Raw| {
        client.send_bytes(b"\xff\xf4\xff");
        client.send_urgent(b"\xf2");
        client.send_bytes(b"ABOR\r\n");
    };
    for abort in [&python as &dyn Fn(&mut Raw), &lftp] {
        let steps = [
            reply("150 half of it"),
            Step::OpenData,
            Step::Send(b"half".to_vec()),
            Step::Receive,
            reply("426 cut"),
        ];
        let stage = Stage::new(Script::new().on("RETR", steps));
        let mut client = stage.clear_session();
        abort(&mut client);
        client.expect(226);

        let mut data = open_data(client.epsv());
        client.command("RETR file", 150);
        data.read_exact(&mut [0; 4]).expect("the half comes");
        abort(&mut client);
        client.expect(426);
        client.expect(226);
        assert_eq!(data.read_to_end(), (Vec::new(), End::Reset));
        client.command("PWD", 257);
    }
}
