//! HOST (RFC 7151), in every state of a session.

use super::*;

#[test]
fn a_host_that_is_not_known_is_a_failed_login() {
    let mut session = Session::explicit();
    session.client("HOST nowhere.lab");
    assert!(session.has(&Action::LoginAttempt {
        command: command("HOST nowhere.lab"),
        route: None,
    }));
    assert!(session.has(&Action::DelayAfterFailure(None)));
    assert_eq!(session.codes(), [504]);
    // An invalid name says nothing about names.
    session.client("HOST -");
    assert!(!session.has(&Action::DelayAfterFailure(None)));
    session.actions();
    session.client("HOST b.lab");
    assert!(!session.has(&Action::DelayAfterFailure(None)));
}

#[test]
fn host_follows_rfc_7151() {
    let table = [
        ("HOST b.lab", 220),
        ("HOST B.LAB.", 220),
        ("HOST proxy.lab", 220),
        ("HOST one.proxy.lab", 220),
        ("HOST one.two.proxy.lab", 504),
        ("HOST 192.0.2.1", 220),
        ("HOST 192.0.2.9", 504),
        ("HOST [2001:db8::9]", 504),
        ("HOST x.lab", 504),
        ("HOST b.lab:21", 501),
        ("HOST ::1", 501),
        ("HOST [::1]:21", 501),
        ("HOST", 501),
    ];
    for (line, code) in table {
        assert_eq!(Session::implicit().answer(line), code, "{line}");
    }
    let mut logged_in = Session::logged_in();
    assert_eq!(logged_in.answer("HOST a.lab"), 503);
}

#[test]
fn the_last_accepted_host_counts_and_survives_auth() {
    let mut session = Session::explicit();
    assert_eq!(session.answer("HOST b.lab"), 220);
    assert_eq!(session.answer("HOST c.lab"), 220);
    assert_eq!(session.answer("HOST x.lab"), 504);
    session.secured("AUTH TLS", None).client("USER al");
    assert_eq!(session.dials(), ["c"]);
}

#[test]
fn host_must_not_contradict_a_server_name_that_chose_a_site() {
    let mut session = Session::implicit_with(session_config(), Some("b.lab"));
    assert_eq!(session.answer("HOST c.lab"), 504);
    assert_eq!(session.answer("HOST b.lab"), 220);
    session.client("USER al");
    assert_eq!(session.dials(), ["b"]);
    let mut unknown = Session::implicit_with(session_config(), Some("other.lab"));
    assert_eq!(unknown.answer("HOST other.lab"), 220);
    assert_eq!(unknown.answer("HOST c.lab"), 220);
}

#[test]
fn a_name_that_a_wildcard_certificate_has_is_one_of_the_proxy_and_no_failed_login() {
    let mut session = Session::explicit();
    session.client("HOST one.proxy.lab");
    assert!(!session.has(&Action::DelayAfterFailure(None)));
    assert_eq!(session.codes(), [220]);
    assert_eq!(session.machine.proxy_host(), Some(&host("one.proxy.lab")));
    assert_eq!(session.machine.site_host(), None);
}

#[test]
fn host_must_not_contradict_the_one_that_has_chosen_the_certificate() {
    for sni in [None, Some("b.lab"), Some("c.lab"), Some("other.lab")] {
        let mut session = Session::explicit();
        assert_eq!(session.answer("HOST b.lab"), 220);
        session.secured("AUTH TLS", sni);
        assert_eq!(session.answer("HOST c.lab"), 504, "{sni:?}");
        // The proxy's own name chooses nothing, and REIN leaves TLS as it is.
        assert_eq!(session.answer("HOST proxy.lab"), 220);
        assert_eq!(session.answer("REIN"), 220);
        assert_eq!(session.answer("HOST c.lab"), 504, "{sni:?}");
        session.client("USER al");
        assert_eq!(session.dials(), ["b"], "{sni:?}");
    }
    let mut session = Session::explicit();
    for line in ["HOST c.lab", "HOST b.lab"] {
        assert_eq!(session.answer(line), 220);
    }
    session.secured("AUTH TLS", None);
    // The last one has chosen.
    assert_eq!(session.answer("HOST b.lab"), 220);
    session.client("USER al");
    assert_eq!(session.dials(), ["b"]);
}

#[test]
fn host_after_user_begins_the_login_anew_at_another_backend() {
    let mut session = Session::implicit();
    session.client("USER al").dialled(false).backend("331 P");
    session.actions();
    session.client("HOST b.lab");
    assert!(session.has(&Action::CloseBackend));
    assert_eq!(session.codes(), [220]);
    // The password belonged to the login that HOST has ended.
    assert_eq!(session.answer("PASS x"), 503);
    session.client("USER al");
    assert_eq!(session.dials(), ["b"]);
}

#[test]
fn a_refused_host_changes_nothing() {
    let mut session = Session::implicit();
    session.client("USER al").dialled(false).backend("331 P");
    session.actions();
    assert_eq!(session.answer("HOST x.lab"), 504);
    session.client("PASS x").backend("230 In");
    assert_eq!(session.codes(), [230]);
}

#[test]
fn host_after_a_refused_password_chooses_for_the_next_user() {
    let mut session = Session::implicit();
    session.client("USER al").dialled(false).backend("331 P");
    session.client("PASS x").backend("530 No").actions();
    session.client("HOST b.lab");
    assert!(session.has(&Action::CloseBackend));
    session.client("USER al");
    assert_eq!(session.dials(), ["b"]);
}

#[test]
fn host_while_a_login_is_under_way_has_to_wait() {
    let mut session = Session::implicit();
    session.client("USER al");
    assert!(!session.machine.wants_command(), "a backend is dialled");
    session.dialled(false);
    assert!(!session.machine.wants_command(), "USER is to be answered");
}

#[test]
fn host_during_a_transfer_is_refused_after_it() {
    let mut session = Session::running("RETR x");
    session.client("HOST b.lab");
    assert_eq!(session.codes(), [0; 0]);
    session.backend("550 No");
    assert_eq!(session.codes(), [550, 503]);
}

#[test]
fn rein_forgets_the_host() {
    let mut session = Session::implicit();
    assert_eq!(session.answer("HOST b.lab"), 220);
    assert_eq!(session.answer("REIN"), 220);
    session.client("USER al");
    assert_eq!(session.dials(), ["a"]);
    session.dialled(false).backend("331 P").actions();
    session.client("REIN");
    assert_eq!(session.codes(), [220]);
    assert_eq!(session.answer("PASS p"), 503);
}
