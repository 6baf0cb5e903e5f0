//! REST and RANG before transfers that never reach their backend.

use super::*;
use crate::session::machine::DataFailure;

/// With a data port, and a backend that would begin the next file at its fifth byte.
fn restarting() -> Session {
    let mut session = Session::logged_in();
    session
        .client("EPSV")
        .backend("229 x (|||2000|)")
        .prepared(PreparedPort::Passive(5000))
        .client("REST 5")
        .backend("350 At 5");
    session.actions();
    session
}

/// The offset is cleared at the backend, and the client sees nothing of it.
fn is_rewound(mut session: Session, codes: &[u16]) {
    assert_eq!(session.sent(), ["REST 0"]);
    assert_eq!(session.codes(), codes);
    assert!(!session.machine.wants_command());
    session.backend("350 At 0");
    assert!(session.machine.wants_command());
    assert_eq!(session.actions(), []);
}

#[test]
fn the_backend_forgets_the_offset_of_a_transfer_that_never_reaches_it() {
    let mut lost = restarting();
    lost.client("RETR x")
        .data(DataEvent::Failed(DataFailure::NoBackend));
    is_rewound(lost, &[425]);

    let mut aborted = restarting();
    aborted.client("RETR x").client("ABOR");
    is_rewound(aborted, &[426, 226]);
}

#[test]
fn the_backend_forgets_the_offset_of_a_transfer_that_is_refused_here() {
    let mut without_port = Session::logged_in();
    without_port.client("REST 5").backend("350 At 5").actions();
    without_port.client("RETR x");
    is_rewound(without_port, &[425]);

    let config = SessionConfig {
        data_required: true,
        ..session_config()
    };
    let mut clear = Session::of(Machine::explicit(config));
    clear.secured("AUTH TLS", None).client("USER al");
    clear.dialled(false).backend("230 In");
    clear.client("REST 5").backend("350 At 5").actions();
    clear.client("RETR x");
    is_rewound(clear, &[521]);
}

#[test]
fn an_offset_is_used_up_by_the_transfer_that_it_is_for() {
    let mut session = restarting();
    session.client("RETR x").data(DataEvent::BackendOpen);
    assert_eq!(session.sent(), ["RETR x"]);
    session.actions();
    session.backend("550 No").client("RETR y");
    assert_eq!(session.sent(), [""; 0]);
    assert_eq!(session.codes(), [550, 425]);
}

#[test]
fn behind_a_listing_the_backend_still_has_the_offset() {
    let mut session = Session::logged_in();
    session.client("REST 5").backend("350 At 5");
    session.transfer("LIST");
    session.client("RETR x");
    is_rewound(session, &[425]);
}

#[test]
fn behind_an_offset_that_was_cleared_a_file_is_recorded_as_whole() {
    let mut session = Session::logged_in();
    session.ask("TYPE I", "200 ok");
    session.ask("REST 5", "350 At 5").actions();
    session.client("LIST");
    assert_eq!(session.sent(), ["REST 0"]);
    session.backend("350 At 0").actions();
    assert_eq!(session.transfer("RETR x").offset, 0);
}

#[test]
fn rest_0_leaves_nothing_to_forget() {
    let mut session = Session::logged_in();
    session.client("REST 5").backend("350 At 5");
    session.client("REST 0").backend("350 At 0").actions();
    session.client("RETR x");
    assert_eq!(session.sent(), [""; 0]);
}

#[test]
fn a_refused_rest_changes_nothing_of_what_the_backend_holds() {
    let mut session = Session::logged_in();
    session.client("REST 5").backend("502 No").actions();
    session.client("RETR x");
    assert_eq!(session.sent(), [""; 0]);

    for refused in ["REST x", "REST 0"] {
        let mut session = restarting();
        session.client(refused).backend("501 No").actions();
        session.client("RETR x").client("ABOR");
        is_rewound(session, &[426, 226]);
    }
}

#[test]
fn the_backend_forgets_the_range_of_a_transfer_that_never_reaches_it() {
    let mut session = Session::logged_in();
    session.client("RANG 100 199").backend("350 100 bytes");
    session.actions();
    session.client("RETR x");
    assert_eq!(session.sent(), ["RANG 1 0"]);
    assert_eq!(session.codes(), [425]);
    assert!(!session.machine.wants_command());
    session.backend("350 All of it");
    assert!(session.machine.wants_command());
    assert_eq!(session.actions(), []);
}

#[test]
fn an_offset_and_a_range_are_forgotten_one_after_the_other() {
    let mut session = restarting();
    session.client("RANG 5 9").backend("350 x").actions();
    session.client("RETR x").client("ABOR");
    assert_eq!(session.sent(), ["REST 0"]);
    session.actions();
    session.backend("350 x");
    assert_eq!(session.sent(), ["RANG 1 0"]);
    session.actions();
    session.backend("501 x");
    assert!(session.machine.wants_command());
    session.client("RETR x");
    assert_eq!(session.sent(), [""; 0]);
}

#[test]
fn a_range_that_the_client_takes_back_leaves_nothing_to_forget() {
    let mut session = Session::logged_in();
    session.client("RANG 5 9").backend("350 x");
    session.client("RANG 1 0").backend("350 x").actions();
    session.client("RETR x");
    assert_eq!(session.sent(), [""; 0]);
}
