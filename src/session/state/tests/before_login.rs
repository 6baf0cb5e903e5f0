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
        ("OPTS UTF8 ON", 200),
        ("OPTS MLST size;", 200),
        ("OPTS HASH x", 501),
        ("CLNT x", 200),
        ("LANG en", 200),
        ("TYPE I", 200),
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
        ("REIN", 502),
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
        assert_eq!(session.machine.protection(), protection, "{auth}");
        assert_eq!(session.answer("AUTH TLS"), 503);
    }
    assert_eq!(Session::explicit().answer("AUTH"), 501);
    assert_eq!(Session::explicit().answer("AUTH KERBEROS_V4"), 504);
    assert_eq!(Session::implicit().answer("AUTH TLS"), 503);
}

#[test]
fn prot_needs_pbsz_and_knows_two_levels() {
    let mut session = Session::explicit();
    session.secured("AUTH TLS", None);
    let dialogue = [
        ("PROT P", 503),
        ("PBSZ", 501),
        ("PBSZ x", 501),
        ("PBSZ 4294967296", 501),
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
    assert_eq!(session.machine.protection(), Protection::Clear);
}

#[test]
fn an_implicit_session_begins_private() {
    let mut session = Session::implicit();
    assert_eq!(session.machine.protection(), Protection::Private);
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
fn host_follows_rfc_7151() {
    let table = [
        ("HOST b.lab", 220),
        ("HOST B.LAB.", 220),
        ("HOST proxy.lab", 220),
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
    let mut session = Session::implicit_with(terms(), Some("b.lab"));
    assert_eq!(session.answer("HOST c.lab"), 504);
    assert_eq!(session.answer("HOST b.lab"), 220);
    session.client("USER al");
    assert_eq!(session.dials(), ["b"]);
    let mut unknown = Session::implicit_with(terms(), Some("other.lab"));
    assert_eq!(unknown.answer("HOST other.lab"), 220);
    assert_eq!(unknown.answer("HOST c.lab"), 220);
}

#[test]
fn commands_queued_behind_auth_end_the_session() {
    let terms = Terms {
        tls_required: false,
        ..terms()
    };
    let mut session = Session::of(Machine::explicit(terms));
    session.client("USER al").dialled(false).backend("230 In");
    session.client("PASV").backend("227 x (1,2,3,4,5,6)");
    session.prepared(Prepared::Passive(5000)).client("LIST");
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
