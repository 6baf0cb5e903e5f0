//! What servers say and send in a transfer, odd but right: it reaches the client as it is.

use std::io::Write;

use testkit::raw::{open_data, protect};
use testkit::script::{Script, Step, reply};
use testkit::wire::End;

use crate::stage::Stage;

/// A download whose replies are these.
fn download(before: &[&str], content: &[u8], after: &[&str]) -> Vec<Step> {
    let replies = |texts: &[&str]| texts.iter().map(|text| reply(text)).collect::<Vec<_>>();
    let data = vec![
        Step::OpenData,
        Step::Send(content.to_vec()),
        Step::EndData(End::Fin),
    ];
    [replies(before), data, replies(after)].concat()
}

#[test]
fn replies_of_a_transfer_are_the_backends_own() {
    for (before, after) in [
        // IIS, and z/OS.
        (
            &["125 Data connection already open; Transfer starting."][..],
            &["226 Transfer complete."][..],
        ),
        (
            &["125 Sending data set"],
            &["250 Transfer completed successfully."],
        ),
        // Pure-FTPd.
        (
            &["150-Accepted data connection\r\n150 0.0 kbytes to download"],
            &["226-File successfully transferred\r\n226 0.001 seconds"],
        ),
        // More than one 1yz, though RFC 959 allows only one.
        (&["150 Opening", "125 Opened"], &["226 Done"]),
        // A name that the server chose.
        (&["150 FILE: unique.1"], &["250 unique.1"]),
    ] {
        let script = Script::new().on("RETR", download(before, b"content", after));
        let stage = Stage::new(script);
        let mut client = stage.session();
        let mut data = open_data(client.control.epsv());
        client.control.send("RETR file");
        for expected in before {
            assert_eq!(client.control.reply().text, *expected);
        }
        protect(&mut data, &client.tls).expect("a handshake");
        assert_eq!(data.read_to_end(), (b"content".to_vec(), End::CloseNotify));
        drop(data);
        for expected in after {
            assert_eq!(client.control.reply().text, *expected);
        }
    }
}

#[test]
fn a_transfer_may_end_without_a_150_or_with_a_200_before_it() {
    for (before, heard) in [
        (&[][..], &[][..]),
        (&["200 fine", "150 here"], &["150 here"]),
    ] {
        let script = Script::new().on("LIST", download(before, b"", &["226 done"]));
        let stage = Stage::new(script);
        let mut client = stage.session();
        let mut data = open_data(client.control.epsv());
        client.control.send("LIST");
        // As curl and lftp do, which don't wait for the 150.
        protect(&mut data, &client.tls).expect("a handshake");
        assert_eq!(data.read_to_end(), (Vec::new(), End::CloseNotify));
        drop(data);
        for expected in heard {
            assert_eq!(client.control.reply().text, *expected);
        }
        assert_eq!(client.control.reply().text, "226 done");
    }
}

#[test]
fn type_and_mode_are_the_backends_and_data_passes_unchanged() {
    // What ASCII, EBCDIC and compression make of a file is bytes like any other, those of Telnet and all.
    let content: Vec<u8> = (0..=255).chain(*b"\r\n\n\r\x1a\xff\xff\xf4").collect();
    let script = Script::new().on("RETR", download(&["150 x"], &content, &["226 x"]));
    let stage = Stage::new(script);
    let mut client = stage.session();
    for (count, setting) in ["TYPE A", "TYPE E", "TYPE L 8", "MODE Z", "MODE S", "STRU R"]
        .into_iter()
        .enumerate()
    {
        client.control.command(setting, 200);
        assert_eq!(client.download("file"), content, "{setting}");
        client.upload("up", &content);
        assert_eq!(stage.backend.wait_for_upload(count + 1).content, content);
        assert!(stage.backend.commands().contains(&setting.to_owned()));
    }
    // Their blocks hold their own end of file, and the data connection would stay open.
    let seen = stage.backend.commands().len();
    for mode in ["MODE B", "MODE C", "MODE", "MODE X"] {
        client.control.command(mode, 504);
    }
    assert_eq!(stage.backend.commands().len(), seen);
}

#[test]
fn an_empty_file_is_a_file_on_every_kind_of_leg() {
    let stage = Stage::new(Script::new().file("empty", ""));
    let mut client = stage.session();
    assert_eq!(client.download("empty"), b"");
    client.upload("new", b"");
    assert_eq!(stage.backend.file("new"), Some(Vec::new()));
    assert_eq!(stage.backend.wait_for_upload(1).end, End::Fin);

    client.control.command("PROT C", 200);
    let mut data = open_data(client.control.epsv());
    client.control.command("RETR empty", 150);
    assert_eq!(data.read_to_end(), (Vec::new(), End::Fin));
    drop(data);
    client.control.expect(226);
    let data = open_data(client.control.epsv());
    client.control.command("STOR newer", 150);
    data.end(End::Fin).expect("the proxy is there");
    client.control.expect(226);
    assert_eq!(stage.backend.wait_for_upload(2).end, End::Fin);
}

#[test]
fn appe_stou_and_the_listings_are_transfers_too() {
    let listing = || download(&["150 x"], b"a\r\n", &["226 x"]);
    let stou = [
        reply("150 FILE: unique.1"),
        Step::OpenData,
        Step::Receive,
        Step::EndData(End::Fin),
        reply("226 unique.1"),
    ];
    let script = Script::new()
        .on("LIST", listing())
        .on("NLST", listing())
        .on("MLSD", listing())
        .on("STOU", stou)
        .file("file", "con");
    let stage = Stage::new(script);
    let mut client = stage.session();
    for line in ["LIST -la", "NLST", "MLSD /a b"] {
        let data = client.begin(line);
        assert_eq!(client.finish_download(data), b"a\r\n", "{line}");
    }
    for (line, reply) in [("APPE file", "226 stored"), ("STOU", "226 unique.1")] {
        let mut data = client.begin(line);
        data.write_all(b"tent").expect("the proxy reads");
        data.end(End::CloseNotify).expect("the proxy is there");
        assert_eq!(client.control.expect(226), reply);
    }
    assert_eq!(stage.backend.file("file"), Some(b"content".to_vec()));
    assert_eq!(stage.backend.wait_for_upload(2).content, b"tent");
}

#[test]
fn a_hundred_commands_sent_during_a_transfer_are_answered_in_order_after_it() {
    let stage = Stage::new(Script::new().file("file", "content"));
    let mut client = stage.session();
    let data = client.begin("RETR file");
    let commands: Vec<String> = (0..100).map(|number| format!("CWD {number}")).collect();
    client.control.send(&commands.join("\r\n"));
    assert_eq!(client.finish_download(data), b"content");
    for _ in &commands {
        client.control.expect(250);
    }
    let seen = stage.backend.commands();
    assert_eq!(seen[seen.len() - 100..], commands);
}
