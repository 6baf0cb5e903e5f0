//! PASV, EPSV, PORT and EPRT between three parties: what each leg sees of the other's, which is nothing.

use std::io::Read;

use rustls::version::TLS12;
use testkit::front::NAME;
use testkit::raw::{open_data, protect};
use testkit::script::{Script, ScriptTls, Step, reply};
use testkit::wire::{End, Wire};

use crate::stage::Stage;

#[test]
fn a_new_data_port_closes_the_connection_of_the_old_one() {
    let stage = Stage::with(Script::new().file("file", "content"), |config| {
        config.passive_ports("0")
    });
    let mut client = stage.session();
    let mut first = open_data(client.control.pasv());
    let mut second = open_data(client.control.epsv());
    assert_eq!(first.read_to_end(), (Vec::new(), End::Reset));
    client.control.command("RETR file", 150);
    protect(&mut second, &client.tls).expect("a handshake");
    assert_eq!(client.finish_download(second), b"content");
}

#[test]
fn servers_announce_their_port_in_many_ways_and_all_of_them_work() {
    for (epsv, pasv) in [
        ("229 ok (!!!{port}!)", None),
        ("229 |||{port}|", None),
        ("227 Entering Passive Mode ({six})", None),
        ("229-wait\r\n229 ok (|||{port}|)", None),
        ("500 what?", Some("227 {six}")),
        ("500 what?", Some("227 Entering Passive Mode {six}.")),
        ("229 ok ( |||{port}| )", Some("227-ok ({six})\r\n227 go on")),
        ("502 no", Some("227 =({dots})")),
        (
            "522 no",
            Some("229 Entering Extended Passive Mode (|||{port}|)"),
        ),
    ] {
        let mut script = Script::new()
            .file("file", "content")
            .on("EPSV", [announce(epsv)]);
        if let Some(pasv) = pasv {
            script = script.on("PASV", [announce(pasv)]);
        }
        let stage = Stage::new(script);
        let mut client = stage.session();
        assert_eq!(client.download("file"), b"content", "{epsv} {pasv:?}");
        let mut data = open_data(client.control.pasv());
        client.control.command("RETR file", 150);
        protect(&mut data, &client.tls).expect("a handshake");
        assert_eq!(client.finish_download(data), b"content");
    }
}

fn announce(text: &'static str) -> Step {
    if text.contains('{') {
        Step::Announce(text)
    } else {
        reply(text)
    }
}

#[test]
fn the_backend_sees_pret_before_epsv_and_rest_last() {
    let script = Script::new()
        .file("file", "content")
        .on("PRET", [reply("200 prepared")]);
    let stage = Stage::new(script);
    let mut client = stage.session();
    client.control.command("PRET RETR file", 200);
    let mut data = open_data(client.control.pasv());
    client.control.command("REST 3", 350);
    client.control.command("RETR file", 150);
    protect(&mut data, &client.tls).expect("a handshake");
    assert_eq!(client.finish_download(data), b"tent");
    let commands = stage.backend.commands();
    assert_eq!(
        commands[2..],
        ["PRET RETR file", "PASV", "REST 3", "RETR file"]
    );
}

#[test]
fn epsv_all_outlives_transfers_and_aborted_ones_and_is_never_the_backends() {
    let steps = [
        reply("150 half of it"),
        Step::OpenData,
        Step::Send(b"half".to_vec()),
        Step::Receive,
        reply("426 cut"),
    ];
    let script = Script::new().file("file", "content").on("NLST", steps);
    let stage = Stage::new(script);
    let mut client = stage.session();
    client.control.command("EPSV ALL", 200);
    assert_eq!(client.download("file"), b"content");
    client.control.command("PASV", 503);
    let mut data = client.begin("NLST");
    data.read_exact(&mut [0; 4]).expect("the half comes");
    client.control.command("ABOR", 426);
    client.control.expect(226);
    for line in ["PASV", "PORT 127,0,0,1,200,1", "EPRT |1|127.0.0.1|51201|"] {
        client.control.command(line, 503);
    }
    assert_eq!(client.download("file"), b"content");
    let of_backend = stage.backend.commands();
    assert!(!of_backend.contains(&"EPSV ALL".to_owned()));
}

#[test]
fn without_a_data_port_there_is_no_transfer() {
    let stage = Stage::new(Script::new().file("file", "content"));
    let mut client = stage.session();
    client.control.command("RETR file", 425);
    assert_eq!(client.download("file"), b"content");
    // A data port serves one transfer.
    client.control.command("RETR file", 425);
}

#[test]
fn prot_counts_as_it_stands_at_the_transfer_command() {
    let stage = Stage::new(Script::new().file("file", "content"));
    let mut client = stage.session();
    let mut data = open_data(client.control.pasv());
    client.control.command("PROT C", 200);
    client.control.command("RETR file", 150);
    assert_eq!(data.read_to_end(), (b"content".to_vec(), End::Fin));
    drop(data);
    client.control.expect(226);
    let data = open_data(client.control.pasv());
    client.control.command("PROT P", 200);
    client.control.command("RETR file", 150);
    let mut data = data;
    protect(&mut data, &client.tls).expect("a handshake");
    assert_eq!(client.finish_download(data), b"content");
}

#[test]
fn auth_ssl_implies_private_data_as_with_iis() {
    let stage = Stage::new(Script::new().file("file", "content"));
    let tls = stage.front.tls(NAME);
    let mut client = stage.clear();
    client.command("AUTH SSL", 234);
    client.handshake(&tls).expect("a handshake");
    client.login("alice", "secret");
    let mut data = open_data(client.epsv());
    client.command("RETR file", 150);
    protect(&mut data, &tls).expect("a handshake");
    assert_eq!(data.read_to_end(), (b"content".to_vec(), End::CloseNotify));
    drop(data);
    client.expect(226);
}

#[test]
fn each_leg_has_a_protection_of_its_own() {
    let script = Script::new()
        .tls(ScriptTls::explicit(&TLS12))
        .file("file", "content");
    let stage = Stage::before(
        script,
        |site| site.backend_tls("explicit", None),
        |config| config,
    );
    let mut client = stage.session();
    assert_eq!(client.download("file"), b"content");
    client.control.command("PROT C", 200);
    let mut data = open_data(client.control.epsv());
    client.control.command("RETR file", 150);
    assert_eq!(data.read_to_end(), (b"content".to_vec(), End::Fin));
    drop(data);
    client.control.expect(226);
    // The backend heard of protection once, at the beginning.
    let commands = stage.backend.commands();
    let prot: Vec<_> = commands
        .iter()
        .filter(|line| line.starts_with("PROT"))
        .collect();
    assert_eq!(prot, ["PROT P"]);
}

#[test]
fn active_mode_comes_from_the_address_that_the_client_reached_and_the_client_is_the_tls_client() {
    let stage = Stage::new(Script::new().file("file", "content"));
    let mut client = stage.session();
    let listener = client.control.eprt();
    client.control.command("RETR file", 150);
    let (socket, from) = listener.accept().expect("the proxy connects");
    assert_eq!(from.ip(), stage.proxy.explicit().ip());
    let mut data = Wire::new(socket);
    protect(&mut data, &client.tls).expect("a handshake");
    assert_eq!(client.finish_download(data), b"content");
}

#[test]
fn where_data_has_to_be_private_a_transfer_in_clear_text_is_521_and_never_the_backends() {
    let stage = Stage::with(Script::new().file("file", "content"), |config| {
        config.tls("data_required", "true")
    });
    let tls = stage.front.tls(NAME);
    let mut client = stage.clear();
    client.auth_tls(&tls);
    client.login("alice", "secret");
    let mut data = open_data(client.epsv());
    client.command("RETR file", 521);
    client.command("PBSZ 0", 200);
    client.command("PROT C", 534);
    client.command("PROT P", 200);
    client.command("RETR file", 150);
    protect(&mut data, &tls).expect("a handshake");
    assert_eq!(data.read_to_end(), (b"content".to_vec(), End::CloseNotify));
    drop(data);
    client.expect(226);
    let commands = stage.backend.commands();
    assert_eq!(commands[2..], ["EPSV", "RETR file"]);
}
