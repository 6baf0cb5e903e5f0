//! Where this machine has nothing left to connect with: transfers wait until it has, and if it hasn't in time, neither of
//! their peers is to blame.

use std::net::{SocketAddr, TcpListener};

use testkit::proxy::{LogLine, Proxy};
use testkit::raw::{Raw, open_data};
use testkit::resources::{descriptors, wait_for_further_descriptors, without_descriptors};
use testkit::script::Script;
use testkit::wire::{End, Wire};

use crate::stage::Stage;

const CONTENT: &[u8] = b"content";

fn script() -> Script {
    Script::new().file("file", CONTENT)
}

/// One in which data connections have a second.
fn impatient(set: &'static str) -> Stage {
    Stage::before(
        script(),
        |site| site.set("passive_mode", set),
        |config| config.timeout("data_connect", "1s"),
    )
}

/// A data port whose backend has been connected to by now.
fn epsv(client: &mut Raw, proxy: &Proxy) -> SocketAddr {
    let before = descriptors(proxy);
    let at = client.epsv();
    wait_for_further_descriptors(proxy, before);
    at
}

/// A port of the client's, when the backend has been connected to.
fn eprt(client: &mut Raw, proxy: &Proxy) -> TcpListener {
    let before = descriptors(proxy);
    let listener = client.eprt();
    wait_for_further_descriptors(proxy, before);
    listener
}

/// The transfer is recorded as one that this machine has failed.
fn is_our_own_fault(proxy: &Proxy) {
    let ended = |line: &LogLine| line.field("verdict").as_deref() == Some("failed_proxy");
    let line = proxy.wait_for_log(ended);
    let reason = "this machine has no file descriptor, port or memory left for a data connection";
    assert_eq!(line.field("reason").as_deref(), Some(reason));
}

fn receives_the_file(client: &mut Raw, mut data: Wire) {
    assert_eq!(data.read_to_end(), (CONTENT.to_vec(), End::Fin));
    drop(data);
    client.expect(226);
}

#[test]
fn a_backends_data_port_is_reached_as_soon_as_this_machine_can_and_is_not_avoided() {
    let stage = Stage::new(script());
    for session in 1..=2 {
        let mut client = stage.clear_session();
        let at = without_descriptors(&stage.proxy, || client.epsv());
        let data = open_data(at);
        client.command("RETR file", 150);
        receives_the_file(&mut client, data);
        let commands = stage.backend.commands();
        assert_eq!(
            commands[commands.len() - 2..],
            ["EPSV", "RETR file"],
            "{session}"
        );
    }
}

#[test]
fn a_client_that_could_not_be_accepted_is_not_said_to_be_missing() {
    for command in ["RETR file", "STOR new"] {
        let stage = impatient("epsv");
        let mut client = stage.clear_session();
        let at = epsv(&mut client, &stage.proxy);
        let _data = without_descriptors(&stage.proxy, || {
            let data = open_data(at);
            client.send(command);
            if command.starts_with("RETR") {
                client.expect(150);
            }
            client.expect(451);
            data
        });
        is_our_own_fault(&stage.proxy);
        let data = open_data(client.epsv());
        client.command("RETR file", 150);
        receives_the_file(&mut client, data);
    }
}

#[test]
fn a_client_that_could_not_be_connected_to_in_active_mode_is_not_said_to_be_unreachable() {
    let stage = impatient("epsv");
    let mut client = stage.clear_session();
    let _listener = eprt(&mut client, &stage.proxy);
    without_descriptors(&stage.proxy, || {
        client.command("RETR file", 150);
        client.expect(451);
    });
    is_our_own_fault(&stage.proxy);
}

#[test]
fn a_client_in_active_mode_is_connected_to_as_soon_as_this_machine_can() {
    let stage = Stage::new(script());
    let mut client = stage.clear_session();
    let listener = eprt(&mut client, &stage.proxy);
    without_descriptors(&stage.proxy, || {
        client.command("RETR file", 150);
    });
    let (data, _) = listener.accept().expect("the proxy connects");
    receives_the_file(&mut client, Wire::new(data));
}

#[test]
fn a_backend_in_active_mode_that_could_not_be_accepted_is_not_said_to_be_missing() {
    let stage = impatient("active");
    let mut client = stage.clear_session();
    let at = client.epsv();
    let before = descriptors(&stage.proxy);
    let _data = open_data(at);
    wait_for_further_descriptors(&stage.proxy, before);
    without_descriptors(&stage.proxy, || {
        client.command("RETR file", 150);
        client.expect(451);
    });
    is_our_own_fault(&stage.proxy);
    let failed = |line: &LogLine| line.message() == "accepting a data connection failed";
    let line = stage.proxy.wait_for_log(failed);
    assert_eq!(line.field("leg").as_deref(), Some("backend"));
}

#[test]
fn a_backend_in_active_mode_is_accepted_as_soon_as_this_machine_can() {
    let stage = Stage::before(
        script(),
        |site| site.set("passive_mode", "active"),
        |config| config,
    );
    let mut client = stage.clear_session();
    let at = client.epsv();
    let before = descriptors(&stage.proxy);
    let data = open_data(at);
    wait_for_further_descriptors(&stage.proxy, before);
    without_descriptors(&stage.proxy, || {
        client.command("RETR file", 150);
    });
    receives_the_file(&mut client, data);
}
