//! PASV, EPSV, PORT and EPRT: each leg gets a data port of its own.

use std::net::Ipv4Addr;

use super::*;
use crate::config::PassiveMode;
use crate::ftp::address::AnnouncedEndpoint;
use crate::session::machine::DataFailure;

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
    assert_eq!(session.sent(), ["PASV"]);
    session.backend("227 x (10,0,0,1,7,208)");
    assert!(session.has(&Action::PrepareData {
        backend: BackendData::Passive(AnnouncedEndpoint {
            port: 2000,
            address: Some(Ipv4Addr::new(10, 0, 0, 1)),
        }),
        client: ClientData::Passive,
        protection: Protection::Private,
    }));
    session.actions();
    session.prepared(PreparedPort::Passive(5000));
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
    session.backend("227 x (10,0,0,1,8,0)");
    assert!(session.has(&Action::Avoid(PortMethods::NONE.and(PortMethod::Epsv))));
    session.actions();
    session.prepared(PreparedPort::Passive(5000));
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
    session.event(Event::Listening(None));
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
    session.client("PORT 192,0,2,7,8,0");
    assert_eq!(session.sent(), ["PASV"]);
    session.backend("229 x (|||2000|)");
    let target = "192.0.2.7:2048".parse().expect("an address");
    assert_eq!(
        client_address(&mut session),
        Some(ClientData::Active(target))
    );
    session.prepared(PreparedPort::Active);
    assert_eq!(session.codes(), [200]);
    let mut off = Session::logged_in_with(
        SessionConfig {
            active_mode: false,
            ..session_config()
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
    session.prepared(PreparedPort::Active).actions();
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
    for refused in ["425 No", "229 x (|||22|)", "500 No"] {
        session.client("EPSV").backend(refused).backend(refused);
        assert_eq!(session.sent(), ["EPSV", "PASV"], "{refused}");
        assert!(session.has(&Action::ListenForBackend));
        session.event(Event::Listening(None));
        assert_eq!(session.codes(), [425], "{refused}");
    }
    session.client("EPSV").backend("229 x (|||2000|)");
    session.prepared(PreparedPort::NoPort);
    assert!(session.has(&Action::DropData));
    assert_eq!(session.codes(), [425]);
    assert_eq!(session.answer("LIST"), 425);
}

#[test]
fn a_new_data_port_takes_the_place_of_the_old_one() {
    let mut session = Session::logged_in();
    session.client("PASV").backend("229 x (|||2000|)");
    session.prepared(PreparedPort::Passive(5000)).actions();
    session.client("EPSV");
    assert!(session.has(&Action::DropData));
    session.backend("229 x (|||2001|)").actions();
    session.prepared(PreparedPort::Passive(5001)).client("LIST");
    assert_eq!(session.machine.wait(), Wait::Data);
}

#[test]
fn the_backend_sees_commands_in_the_clients_order() {
    let mut session = Session::logged_in();
    session.client("PRET RETR x").backend("200 Yes");
    session.client("PASV").backend("229 x (|||2000|)");
    session.prepared(PreparedPort::Passive(5000));
    session.client("REST 100").backend("350 Go on");
    session.client("RETR x").data(DataEvent::BackendOpen);
    assert_eq!(
        session.sent(),
        ["PRET RETR x", "PASV", "REST 100", "RETR x"]
    );
}

#[test]
fn epsv_all_outlives_transfers_aborted_ones_and_logins() {
    let mut session = Session::logged_in();
    assert_eq!(session.answer("EPSV ALL"), 200);
    for transfer in ["RETR x", "STOR x"] {
        session.client("EPSV").backend("229 x (|||2000|)");
        session.prepared(PreparedPort::Passive(5000));
        session.client(transfer).connected(transfer);
        session.client("ABOR");
        session.backend("426 T").backend("226 A").backend("200 N");
        session.actions();
        assert_eq!(session.answer("PASV"), 503);
    }
    session.client("USER bo").backend("230 In").actions();
    assert_eq!(session.answer("PORT 192,0,2,7,8,0"), 503);
}

/// A session at a site whose backends are asked by this method.
fn at_site_with(passive_mode: PassiveMode, ipv6: bool) -> Session {
    let site = Site {
        passive_mode,
        ..site("a", true)
    };
    let config = if ipv6 { ipv6_terms() } else { session_config() };
    let router = Router::new(
        [(A, Arc::new(site))],
        UserForms::default(),
        &UserFiles::default(),
    );
    let router = Arc::new(router);
    Session::logged_in_with(SessionConfig { router, ..config }, ipv6)
}

fn listening_at(address: &str) -> Event {
    Event::Listening(Some(address.parse().expect("an address")))
}

#[test]
fn a_backend_is_asked_as_the_client_asks() {
    for (line, asked) in [
        ("PASV", "PASV"),
        ("EPSV", "EPSV"),
        ("PORT 192,0,2,7,8,0", "PASV"),
        ("EPRT |1|192.0.2.7|2048|", "EPSV"),
    ] {
        let mut session = Session::logged_in();
        session.client(line);
        assert_eq!(session.sent(), [asked], "{line}");
    }
}

#[test]
fn a_refusal_for_the_moment_is_not_remembered() {
    let mut session = Session::logged_in();
    session.client("PASV").backend("425 No port is free");
    session.backend("229 x (|||2000|)");
    assert_eq!(session.sent(), ["PASV", "EPSV"]);
    let avoids = |action: &Action| matches!(action, Action::Avoid(_));
    assert!(!session.actions().iter().any(avoids));
    session.prepared(PreparedPort::Passive(5000)).actions();
    session.client("PASV");
    assert_eq!(session.sent(), ["PASV"]);
}

#[test]
fn a_backend_without_passive_mode_is_told_where_to_connect_to() {
    let mut session = Session::logged_in();
    session.client("PASV").backend("550 No").backend("502 No");
    assert_eq!(session.sent(), ["PASV", "EPSV"]);
    session.actions();
    session.event(listening_at("10.0.0.2:6000"));
    assert_eq!(session.sent(), ["PORT 10,0,0,2,23,112"]);
    session.backend("200 PORT is fine");
    // Whether it gets through to us is not known yet.
    let avoid = Action::Avoid(
        PortMethods::NONE
            .and(PortMethod::Epsv)
            .and(PortMethod::Pasv),
    );
    assert!(!session.has(&avoid));
    assert!(session.has(&Action::PrepareData {
        backend: BackendData::Active,
        client: ClientData::Passive,
        protection: Protection::Private,
    }));
    session.actions();
    session.prepared(PreparedPort::Passive(5000));
    assert_eq!(session.codes(), [227]);
    session.client("RETR x").data(DataEvent::BackendOpen);
    session.backend("150 x").backend("226 y");
    session.data(DataEvent::SourceEnded { proven: true });
    session.data(DataEvent::Finished);
    assert!(session.has(&avoid));
    session.actions();
    // From now on at once, for the next data connection.
    session.client("EPSV");
    assert!(session.has(&Action::ListenForBackend));
    assert_eq!(session.sent(), [""; 0]);
}

#[test]
fn a_site_may_name_the_one_way_in_which_its_backends_are_asked() {
    for (mode, sent) in [(PassiveMode::Pasv, "PASV"), (PassiveMode::Epsv, "EPSV")] {
        for line in ["PASV", "EPSV"] {
            let mut session = at_site_with(mode, false);
            session.client(line);
            assert_eq!(session.sent(), [sent], "{line}");
            session.backend("500 No");
            assert_eq!(session.codes(), [425], "{line}");
        }
    }
    let mut active = at_site_with(PassiveMode::Active, false);
    active.client("EPSV").event(listening_at("10.0.0.2:6000"));
    assert_eq!(active.sent(), ["PORT 10,0,0,2,23,112"]);
    active.backend("500 Illegal PORT");
    assert_eq!(active.codes(), [425]);
    let mut ipv6 = at_site_with(PassiveMode::Active, true);
    ipv6.client("EPSV").event(listening_at("[fd00::2]:6000"));
    assert_eq!(ipv6.sent(), ["EPRT |2|fd00::2|6000|"]);
}

#[test]
fn a_backend_that_hangs_up_at_epsv_is_asked_by_pasv_in_the_next_session() {
    for ended in [Event::BackendGone, Event::Expired] {
        let mut session = Session::logged_in();
        session.client("EPSV").event(ended);
        assert!(session.has(&Action::Avoid(PortMethods::NONE.and(PortMethod::Epsv))));
        assert_eq!(session.ending(), Some(Ending::BackendLost));
    }
    // Where there is nothing else that may be better, chance must not decide.
    let mut ipv6 = Session::logged_in_with(ipv6_terms(), true);
    ipv6.client("EPSV").event(Event::BackendGone);
    let avoids = |action: &Action| matches!(action, Action::Avoid(_));
    assert!(!ipv6.actions().iter().any(avoids));
    let mut next = Session::implicit();
    next.client("USER al");
    next.event(Event::Dialled(Some(Dialled {
        ipv6: false,
        welcome: None,
        protection: BackendProtection::Settled,
        avoid: PortMethods::NONE.and(PortMethod::Epsv),
        failover_timeout: None,
    })));
    next.backend("230 In").actions();
    next.client("EPSV");
    assert_eq!(next.sent(), ["PASV"]);
}

/// A transfer whose command waits for a data connection that can't be had.
fn not_reached(transfer: &str) -> Session {
    let mut session = Session::opening(transfer);
    session.data(DataEvent::BackendNotReached);
    session
}

#[test]
fn a_port_of_the_backends_that_is_not_reached_has_it_asked_in_the_other_way() {
    let mut session = not_reached("RETR x");
    assert_eq!(session.sent(), ["PASV"]);
    assert_eq!(session.machine.wait(), Wait::Reply);
    session.backend("227 x (10,0,0,1,8,0)");
    let redialled = session
        .actions()
        .into_iter()
        .find_map(|action| match action {
            Action::ReplaceBackendData(BackendData::Passive(announced)) => Some(announced.port),
            _ => None,
        });
    assert_eq!(redialled, Some(2048));
    session.data(DataEvent::BackendOpen);
    assert_eq!(session.sent(), ["RETR x"]);
    session.backend("150 x").backend("226 y");
    session.data(DataEvent::SourceEnded { proven: true });
    session.data(DataEvent::Finished);
    assert_eq!(session.verdict(), Some(Verdict::Complete));
    assert!(session.has(&Action::Avoid(PortMethods::NONE.and(PortMethod::Epsv))));
    session.actions();
    session.client("EPSV");
    assert_eq!(session.sent(), ["PASV"]);
}

#[test]
fn a_backend_none_of_whose_ports_is_reached_costs_the_transfer_alone() {
    let mut session = not_reached("RETR x");
    session.backend("227 x (10,0,0,1,8,0)");
    session.data(DataEvent::BackendNotReached);
    session.event(listening_at("10.0.0.2:6000"));
    session.backend("500 No PORT").actions();
    assert_eq!(session.machine.wait(), Wait::Command);
    // No information to decide by.
    session.client("EPSV");
    assert_eq!(session.sent(), ["EPSV"]);
}

#[test]
fn with_an_offset_the_backend_is_not_asked_again_but_the_next_time() {
    let mut session = Session::logged_in();
    session.client("EPSV").backend("229 x (|||2000|)");
    session.prepared(PreparedPort::Passive(5000));
    session.client("REST 5").backend("350 At 5");
    session.client("RETR x").actions();
    session.data(DataEvent::BackendNotReached);
    assert_eq!(session.sent(), ["REST 0"]);
    let failed = Outcome::Failed(Failure::Data(DataFailure::NoBackend));
    assert_eq!(session.outcome(), Some(failed));
    assert_eq!(session.codes(), [425]);
    session.backend("350 At 0");
    session.client("EPSV");
    assert_eq!(session.sent(), ["PASV"]);
}

#[test]
fn behind_a_refused_offset_or_range_the_backend_is_asked_again() {
    for refused in ["REST 5", "RANG 5 9"] {
        let mut session = Session::logged_in();
        session.client("EPSV").backend("229 x (|||2000|)");
        session.prepared(PreparedPort::Passive(5000));
        session.client(refused).backend("502 No");
        session.client("RETR x").actions();
        session.data(DataEvent::BackendNotReached);
        assert_eq!(session.sent(), ["PASV"]);
        assert_eq!(session.outcome(), None);
    }
}

#[test]
fn what_ends_a_transfer_while_the_backend_is_asked_again_waits_for_its_answer() {
    let mut aborted = not_reached("RETR x");
    aborted.actions();
    aborted.client("ABOR");
    assert!(aborted.has(&Action::DropData));
    assert_eq!(aborted.codes(), [426, 226]);
    let mut failed = not_reached("RETR x");
    failed.actions();
    failed.data(DataEvent::Failed(DataFailure::Internal));
    assert_eq!(failed.codes(), [451]);
    for mut session in [aborted, failed] {
        assert!(!session.machine.wants_command());
        session.backend("227 x (10,0,0,1,8,0)");
        assert!(session.machine.wants_command());
        assert_eq!(session.actions(), []);
    }
    let mut silent = not_reached("RETR x");
    silent.event(Event::Expired);
    assert_eq!(silent.ending(), Some(Ending::BackendLost));
    assert_eq!(silent.codes(), [421]);
}

#[test]
fn where_there_is_no_way_to_ask_the_backend_the_client_hears_so_at_once() {
    // PASV has no meaning over IPv6.
    let mut session = at_site_with(PassiveMode::Pasv, true);
    session.client("EPSV");
    assert!(session.has(&Action::Record(Record::NoDataPort(None))));
    assert_eq!(session.codes(), [425]);
    assert_eq!(session.machine.wait(), Wait::Command);
}

#[test]
fn a_backend_that_was_not_asked_because_we_cannot_listen_is_not_at_fault() {
    let mut session = at_site_with(PassiveMode::Active, false);
    session.client("EPSV");
    assert!(session.has(&Action::ListenForBackend));
    session.event(Event::Listening(None));
    assert!(!session.has(&Action::Record(Record::NoDataPort(None))));
    assert_eq!(session.codes(), [425]);
    session.client("EPSV");
    assert!(session.has(&Action::ListenForBackend), "it is tried again");
}
