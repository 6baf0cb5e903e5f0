//! The client leg before login: TLS, HOST, and what is answered without a backend.

use super::*;

#[test]
fn commands_before_login_are_answered_without_a_backend() {
    let table = [
        ("PASS x", 503),
        ("ACCT x", 503),
        ("NOOP", 200),
        ("HELP", 214),
        ("SYST", 530),
        ("FEAT", 211),
        ("OPTS UTF8 ON", 202),
        ("OPTS MLST size;", 202),
        ("OPTS HASH x", 501),
        ("CLNT x", 202),
        ("LANG en", 202),
        ("TYPE I", 200),
        ("TYPE A N", 200),
        ("TYPE L 8", 200),
        ("TYPE X", 530),
        ("TYPE L", 530),
        ("STRU F", 200),
        ("STRU R", 530),
        ("MODE S", 200),
        ("MODE B", 530),
        ("PWD", 530),
        ("LIST", 530),
        ("RETR x", 530),
        ("PASV", 530),
        ("EPSV", 530),
        ("PORT 1,2,3,4,5,6", 530),
        ("SITE x", 530),
        ("STAT", 530),
        ("XYZZY", 530),
        ("REIN", 220),
        ("LPSV", 502),
        ("ADAT x", 502),
        ("CCC", 534),
        ("ABOR", 225),
        ("USER", 501),
        ("USER al", 534),
        ("PBSZ 0", 503),
        ("PROT P", 503),
    ];
    for (line, code) in table {
        assert_eq!(Session::explicit().answer(line), code, "{line}");
    }
    let mut session = Session::explicit();
    session.client("QUIT");
    assert_eq!(session.ending(), Some(Ending::Quit));
    assert_eq!(session.codes(), [221]);
}

#[test]
fn user_in_clear_text_is_refused_and_the_session_goes_on() {
    let mut session = Session::explicit();
    assert_eq!(session.answer("USER b.lab|al"), 534);
    session.secured("AUTH TLS", None).client("USER b.lab|al");
    assert_eq!(session.dials(), ["b"]);
}

#[test]
fn auth_takes_tls_in_all_its_spellings_and_nothing_else() {
    for (auth, protection) in [
        ("AUTH TLS", Protection::Clear),
        ("AUTH tls-c", Protection::Clear),
        ("AUTH SSL", Protection::Private),
        ("AUTH TLS-P ", Protection::Private),
    ] {
        let mut session = Session::explicit();
        session.secured(auth, None);
        assert_eq!(
            session.machine.cx.security.protection(),
            protection,
            "{auth}"
        );
        assert_eq!(session.answer("AUTH TLS"), 503);
    }
    assert_eq!(Session::explicit().answer("AUTH"), 501);
    assert_eq!(Session::explicit().answer("AUTH KERBEROS_V4"), 504);
    assert_eq!(Session::implicit().answer("AUTH TLS"), 503);
}

#[test]
fn prot_knows_two_levels_and_does_without_pbsz() {
    let mut session = Session::explicit();
    session.secured("AUTH TLS", None);
    let dialogue = [
        ("PROT P", 200),
        ("PBSZ", 501),
        ("PBSZ x", 501),
        ("PBSZ 4294967296", 501),
        ("PBSZ +5", 501),
        ("PBSZ 16384", 200),
        ("PROT S", 536),
        ("PROT E", 536),
        ("PROT X", 504),
        ("PROT p", 200),
        ("PROT C", 200),
    ];
    for (line, code) in dialogue {
        assert_eq!(session.answer(line), code, "{line}");
    }
    assert_eq!(session.machine.cx.security.protection(), Protection::Clear);
}

#[test]
fn an_implicit_session_begins_private() {
    let mut session = Session::implicit();
    assert_eq!(
        session.machine.cx.security.protection(),
        Protection::Private
    );
    assert_eq!(session.answer("PROT C"), 200);
}

#[test]
fn auth_forgets_settings_made_in_clear_text() {
    let mut session = Session::explicit();
    session.answer("OPTS UTF8 ON");
    session.secured("AUTH TLS", None).client("USER al");
    session.dialled(false);
    assert_eq!(session.sent(), ["USER al"]);
}

#[test]
fn commands_queued_behind_auth_end_the_session() {
    let mut session = Session::logged_in_in_clear_text();
    session.client("PASV").backend("227 x (1,2,3,4,5,6)");
    session.prepared(PreparedPort::Passive(5000)).client("LIST");
    session.client("AUTH TLS").client("USER b.lab|mallory");
    session.data(DataEvent::BackendOpen).backend("550 No");
    assert_eq!(session.ending(), Some(Ending::Abuse));
    assert!(!session.has(&Action::StartTls));
}

#[test]
fn nonsense_is_answered_so_often_and_no_more() {
    let mut session = Session::explicit();
    for _ in 1..MAX_BAD_LINES {
        session.event(Event::BadLine(BadLine::Malformed(BadCommand::NoVerb)));
        assert_eq!(session.codes(), [500]);
    }
    session.event(Event::BadLine(BadLine::TooLong));
    assert_eq!(session.ending(), Some(Ending::Abuse));
    assert_eq!(session.codes(), [500, 421]);
    let mut browser = Session::explicit();
    browser.event(Event::BadLine(BadLine::Malformed(BadCommand::Http)));
    assert_eq!(browser.actions(), [Action::Close(Ending::Abuse)]);
}

#[test]
fn auth_after_a_login_in_clear_text_begins_anew() {
    let mut session = Session::logged_in_in_clear_text();
    assert_eq!(session.answer("EPSV ALL"), 200);
    session.client("AUTH TLS");
    assert!(session.has(&Action::CloseBackend));
    session
        .event(Event::Secured {
            sni: None,
            certificate: None,
        })
        .actions();
    // The user, the backend and EPSV ALL are discarded: all of it may have been injected.
    assert_eq!(session.answer("PWD"), 530);
    assert_eq!(session.answer("PASS x"), 503);
    session.client("USER al").dialled(false).backend("230 In");
    session.client("PASV");
    assert_eq!(session.sent().last().map(String::as_str), Some("PASV"));
}

#[test]
fn eprt_is_on_offer_only_where_active_mode_is() {
    for active_mode in [true, false] {
        let config = SessionConfig {
            active_mode,
            ..session_config()
        };
        let mut session = Session::logged_in_with(config.clone(), false);
        session.client("FEAT").backend("211 Features");
        assert_eq!(session.replies()[0].contains(" EPRT\r\n"), active_mode);
        let mut before = Session::implicit_with(config, None);
        before.client("FEAT");
        assert_eq!(before.replies()[0].contains(" EPRT\r\n"), active_mode);
    }
}
