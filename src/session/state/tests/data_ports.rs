//! PASV, EPSV, PORT and EPRT: each leg gets a data port of its own.

use super::*;

fn client_address(session: &mut Session) -> Option<ClientData> {
    session.actions().iter().find_map(|action| match action {
        Action::PrepareData { client, .. } => Some(*client),
        _ => None,
    })
}

#[test]
fn pasv_announces_the_address_the_client_reached_and_never_the_backends() {
    let mut session = Session::logged_in();
    session.client("PASV");
    assert_eq!(session.sent(), ["EPSV"]);
    session.backend("229 x (|||2000|)");
    assert!(session.has(&Action::PrepareData {
        backend_port: 2000,
        client: ClientData::Passive,
        protection: Protection::Private,
    }));
    session.actions();
    session.prepared(Prepared::Passive(5000));
    assert_eq!(
        session.replies(),
        ["227 Entering Passive Mode (192,0,2,1,19,136)"]
    );
}

#[test]
fn a_refused_epsv_is_remembered() {
    let mut session = Session::logged_in();
    session.client("EPSV").backend("500 What?");
    assert_eq!(session.sent(), ["EPSV", "PASV"]);
    session.backend("227 x (10,0,0,1,8,0)").actions();
    session.prepared(Prepared::Passive(5000));
    assert_eq!(
        session.replies(),
        ["229 Entering Extended Passive Mode (|||5000|)"]
    );
    session.client("EPSV");
    assert_eq!(session.sent(), ["PASV"]);
}

#[test]
fn a_preliminary_reply_to_epsv_is_not_the_answer() {
    let mut session = Session::logged_in();
    session.client("EPSV").backend("110 Wait").actions();
    session.backend("229 x (|||2000|)");
    assert_eq!(client_address(&mut session), Some(ClientData::Passive));
}

#[test]
fn over_ipv6_only_epsv_has_a_meaning() {
    let mut session = Session::logged_in_with(ipv6_terms(), true);
    assert_eq!(session.answer("PASV"), 425);
    assert_eq!(session.answer("EPSV 1"), 522);
    session.client("EPSV 2").backend("500 What?");
    assert_eq!(session.sent(), ["EPSV"]);
    assert_eq!(session.codes(), [425]);
    session.client("EPRT |2|2001:db8::7|2000|");
    session.backend("229 x (|||2000|)");
    let target = "[2001:db8::7]:2000".parse().expect("an address");
    assert_eq!(
        client_address(&mut session),
        Some(ClientData::Active(target))
    );
}

#[test]
fn active_mode_leads_only_to_the_client_itself() {
    let mut session = Session::logged_in();
    let table = [
        ("PORT 192,0,2,7,0,22", 504),
        ("PORT 192,0,2,8,8,0", 504),
        ("EPRT |1|192.0.2.8|2000|", 504),
        ("EPRT |2|2001:db8::7|2000|", 504),
        ("EPRT |3|x|2000|", 522),
        ("PORT 1,2,3", 501),
        ("EPSV 2", 522),
        ("EPSV x", 501),
    ];
    for (line, code) in table {
        assert_eq!(session.answer(line), code, "{line}");
    }
    session
        .client("PORT 192,0,2,7,8,0")
        .backend("229 x (|||2000|)");
    let target = "192.0.2.7:2048".parse().expect("an address");
    assert_eq!(
        client_address(&mut session),
        Some(ClientData::Active(target))
    );
    session.prepared(Prepared::Active);
    assert_eq!(session.codes(), [200]);
    let mut off = Session::logged_in_with(
        Terms {
            active_mode: false,
            ..terms()
        },
        false,
    );
    assert_eq!(off.answer("PORT 192,0,2,7,8,0"), 502);
}

#[test]
fn a_refused_port_makes_an_earlier_one_forgotten() {
    let mut session = Session::logged_in();
    session
        .client("PORT 192,0,2,7,8,0")
        .backend("229 x (|||2000|)");
    session.prepared(Prepared::Active).actions();
    session.client("PORT 192,0,2,8,8,0");
    assert!(session.has(&Action::DropData));
    session.actions();
    assert_eq!(session.answer("LIST"), 425);
}

#[test]
fn epsv_all_holds_to_the_end() {
    let mut session = Session::logged_in();
    assert_eq!(session.answer("EPSV ALL"), 200);
    for line in [
        "PASV",
        "PORT 192,0,2,7,8,0",
        "EPRT |1|192.0.2.7|2048|",
        "PASV",
    ] {
        assert_eq!(session.answer(line), 503, "{line}");
    }
    session.client("EPSV");
    assert_eq!(session.sent(), ["EPSV"]);
}

#[test]
fn without_a_port_on_either_leg_the_answer_is_425() {
    let mut session = Session::logged_in();
    session.client("EPSV").backend("425 No");
    assert_eq!(session.codes(), [425]);
    session.client("EPSV").backend("229 x (|||22|)");
    assert_eq!(session.codes(), [425]);
    session.client("EPSV").backend("229 x (|||2000|)");
    session.prepared(Prepared::NoPort);
    assert!(session.has(&Action::DropData));
    assert_eq!(session.codes(), [425]);
    assert_eq!(session.answer("LIST"), 425);
}

#[test]
fn a_new_data_port_takes_the_place_of_the_old_one() {
    let mut session = Session::logged_in();
    session.client("PASV").backend("229 x (|||2000|)");
    session.prepared(Prepared::Passive(5000)).actions();
    session.client("EPSV");
    assert!(session.has(&Action::DropData));
    session.backend("229 x (|||2001|)").actions();
    session.prepared(Prepared::Passive(5001)).client("LIST");
    assert_eq!(session.machine.wait(), Wait::Data);
}

#[test]
fn the_backend_sees_commands_in_the_clients_order() {
    let mut session = Session::logged_in();
    session.client("PRET RETR x").backend("200 Yes");
    session.client("PASV").backend("229 x (|||2000|)");
    session.prepared(Prepared::Passive(5000));
    session.client("REST 100").backend("350 Go on");
    session.client("RETR x").data(DataEvent::BackendOpen);
    assert_eq!(
        session.sent(),
        ["PRET RETR x", "EPSV", "REST 100", "RETR x"]
    );
}

#[test]
fn epsv_all_outlives_transfers_aborted_ones_and_logins() {
    let mut session = Session::logged_in();
    assert_eq!(session.answer("EPSV ALL"), 200);
    for transfer in ["RETR x", "STOR x"] {
        session.client("EPSV").backend("229 x (|||2000|)");
        session.prepared(Prepared::Passive(5000));
        session.client(transfer).connected(transfer);
        session.client("ABOR");
        session.backend("426 T").backend("226 A").backend("200 N");
        session.actions();
        assert_eq!(session.answer("PASV"), 503);
    }
    session.client("USER bo").backend("230 In").actions();
    assert_eq!(session.answer("PORT 192,0,2,7,8,0"), 503);
}
