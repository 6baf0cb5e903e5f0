//! Data connections that come to another instance than the one that has their session.

use std::io::{ErrorKind, Write};

use testkit::proxy_header::v2;
use testkit::raw::{RawTls, protect};
use testkit::script::Script;
use testkit::wire::{End, Wire};

use super::client::{FILE, Session, address};
use super::fleet::{Fleet, INSTANCES};

fn fleet() -> Fleet {
    let script = Script::new()
        .file(FILE.0, FILE.1)
        .file("other", "another's file");
    Fleet::start(script, |yaml| yaml)
}

/// Opens a data connection of this session to another instance, with TLS or without: not a byte may come, and Portcullis has to
/// reset it. What it resets HAProxy ends with FIN, so that shows where HAProxy is passed by.
fn cross(fleet: &Fleet, session: &Session, wrong: usize, with_tls: bool) {
    let outcome = |mut data: Wire, tls: RawTls| {
        if with_tls {
            let refused = protect(&mut data, &tls).expect_err("it expects nobody");
            let is_reset = matches!(
                refused.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            );
            return (Vec::new(), if is_reset { End::Reset } else { End::Fin });
        }
        match data.write_all(b"what is no handshake") {
            Ok(()) => data.read_to_end(),
            // It was reset before that.
            Err(_) => (Vec::new(), End::Reset),
        }
    };
    let (content, end) = outcome(session.connect(fleet.data(wrong)), session.tls.clone());
    assert_eq!(content, b"");
    assert_ne!(end, End::CloseNotify);
    let mut straight = Wire::connect(fleet.data_behind(wrong));
    let header = v2(session.control.local_addr(), fleet.data(wrong));
    straight.write_all(&header).expect("the proxy reads");
    // Each ticket is good for one connection, and others are to come.
    let tls = session.tls.without_resumption();
    assert_eq!(outcome(straight, tls), (Vec::new(), End::Reset));
}

#[test]
fn each_instance_announces_its_own_port_and_all_serve() {
    let fleet = fleet();
    let mut sessions: Vec<Session> = (0..2 * INSTANCES)
        .map(|number| Session::start(&fleet, address(number), "alice"))
        .collect();
    let mut served: Vec<usize> = sessions
        .iter_mut()
        .map(|session| session.download(&fleet))
        .collect();
    served.sort_unstable();
    assert_eq!(served, [0, 0, 1, 1, 2, 2]);
    for (number, session) in sessions.iter_mut().enumerate() {
        let at = session.control.pasv();
        // The address that the client has connected to, which only the PROXY header tells.
        assert_eq!(at, fleet.data(fleet.owner(at)));
        session.download_by(session.connect(at));
        let content = format!("of {number}").into_bytes();
        let at = session.control.epsv();
        let mut data = session.connect(at);
        session.begin(&format!("STOR {number}"), &mut data);
        session.finish_upload(data, &content);
        assert_eq!(fleet.backend.file(&number.to_string()), Some(content));
    }
}

#[test]
fn a_data_connection_to_an_instance_where_its_client_has_no_session_is_reset() {
    let fleet = fleet();
    let mut session = Session::start(&fleet, address(1), "alice");
    let own = session.instance(&fleet);
    // Others have sessions there, and wait for their data connections.
    let mut others: Vec<Session> = (0..INSTANCES)
        .map(|instance| Session::start_at(&fleet, instance, address(2), "bob"))
        .collect();
    for other in &mut others {
        other.control.epsv();
    }
    for with_tls in [true, false] {
        for wrong in (0..INSTANCES).filter(|instance| *instance != own) {
            cross(&fleet, &session, wrong, with_tls);
        }
    }
    // Nothing of it has touched anybody.
    session.download(&fleet);
    for mut other in others {
        other.download(&fleet);
    }
}

#[test]
fn two_clients_of_one_address_that_cross_their_data_connections_get_no_byte_of_each_other() {
    let fleet = fleet();
    let from = address(1);
    let mut one = Session::start_at(&fleet, 0, from, "alice");
    let mut other = Session::start_at(&fleet, 1, from, "bob");
    // Once before either has shown that it resumes, and once after.
    for _ in 0..2 {
        let (at_one, at_other) = (one.control.epsv(), other.control.epsv());
        assert_eq!((fleet.owner(at_one), fleet.owner(at_other)), (0, 1));
        for with_tls in [true, false] {
            cross(&fleet, &one, 1, with_tls);
            cross(&fleet, &other, 0, with_tls);
        }
        // The right way it goes on, by the ports that they were told before.
        let mut data = one.connect(at_one);
        one.begin("RETR other", &mut data);
        assert_eq!(one.finish_download(data), b"another's file");
        other.download_by(other.connect(at_other));
    }
}
