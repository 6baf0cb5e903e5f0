//! From USER to the backend's 230, and logging in again.

use super::*;

#[test]
fn user_dials_its_site_and_an_unknown_host_dials_nothing() {
    let mut session = Session::implicit();
    session.client("USER b.lab|al");
    assert_eq!(session.dials(), ["b"]);
    session.dialled(false);
    assert_eq!(session.sent(), ["USER al"]);
    let mut unknown = Session::implicit();
    assert_eq!(unknown.answer("USER x.lab|al"), 530);
    assert!(unknown.machine.wants_command());
}

#[test]
fn a_site_that_is_not_available_is_421() {
    let mut session = Session::implicit();
    session.client("USER al").event(Event::Dialled(None));
    assert_eq!(session.ending(), Some(Ending::BackendUnavailable));
    assert_eq!(session.codes(), [421]);
}

#[test]
fn the_backend_alone_judges_the_login() {
    let mut session = Session::implicit();
    session.client("USER al").dialled(false);
    session.backend("331 Password, [alg:totp]");
    assert_eq!(session.replies(), ["331 Password, [alg:totp]"]);
    session.client("PASS  p ");
    assert_eq!(session.sent(), ["PASS  p "]);
    session.backend("332 Account");
    assert_eq!(session.codes(), [332]);
    session.client("ACCT x").backend("230 In");
    assert_eq!(session.codes(), [230]);
    session.client("PWD");
    assert_eq!(session.sent(), ["PWD"]);
}

#[test]
fn a_refused_password_leaves_the_connection_for_another_try() {
    let mut session = Session::implicit();
    session.client("USER al").dialled(false).backend("331 P");
    session.client("PASS x").backend("530 No");
    session.actions();
    session.client("USER bo");
    assert_eq!(session.sent(), ["USER bo"]);
    assert!(session.dials().is_empty());
}

#[test]
fn another_site_before_login_takes_another_backend() {
    let mut session = Session::implicit();
    session.client("USER al").dialled(false).backend("331 P");
    session.actions();
    session.client("USER b.lab|al");
    assert!(session.has(&Action::HangUp));
    assert_eq!(session.dials(), ["b"]);
}

#[test]
fn the_password_after_an_unknown_host_reaches_no_backend() {
    let mut session = Session::implicit();
    session.client("USER al").dialled(false).backend("331 P");
    session.actions();
    session.client("USER x.lab|bo");
    assert!(session.has(&Action::HangUp));
    assert_eq!(session.codes(), [530]);
    assert_eq!(session.answer("PASS bos"), 503);
}

#[test]
fn settings_are_told_before_user_and_refused_ones_again_after_login() {
    let mut session = Session::implicit();
    for line in ["CLNT x", "OPTS UTF8 ON", "TYPE I", "OPTS MLST size;"] {
        assert_eq!(session.answer(line), 200, "{line}");
    }
    session.client("USER al").dialled(false);
    session.backend("530 Log in first").backend("200 Yes");
    assert_eq!(session.sent(), ["CLNT x", "OPTS UTF8 ON", "USER al"]);
    session.actions();
    session.backend("230 In");
    session.backend("200 a").backend("200 b").backend("501 c");
    assert_eq!(session.sent(), ["CLNT x", "TYPE I", "OPTS MLST size;"]);
    assert_eq!(session.replies(), ["230 In"]);
}

#[test]
fn settings_made_between_user_and_pass_reach_the_backend() {
    let mut session = Session::implicit();
    session.answer("OPTS UTF8 ON");
    session.client("USER al").dialled(false).backend("200 Yes");
    session.backend("331 P");
    session.actions();
    assert_eq!(session.answer("OPTS UTF8 OFF"), 200);
    session.client("PASS x").backend("230 In");
    assert_eq!(session.sent(), ["PASS x", "OPTS UTF8 OFF"]);
}

#[test]
fn a_login_again_is_for_the_same_site_and_keeps_the_old_one_if_refused() {
    let mut session = Session::logged_in();
    session.client("USER bo").backend("530 Can't change");
    assert_eq!(session.codes(), [530]);
    session.client("PWD");
    assert_eq!(session.sent(), ["PWD"]);
    session.backend("257 x").actions();
    assert_eq!(session.answer("USER b.lab|bo"), 503);
}

#[test]
fn a_login_again_is_not_held_to_the_deadline_of_the_first() {
    let mut session = Session::implicit();
    assert_eq!(session.machine.wait(), Wait::Login);
    session.client("USER al").dialled(false).backend("230 In");
    session.client("USER bo");
    assert_eq!(session.machine.wait(), Wait::Reply);
    session.backend("331 P");
    assert_eq!(session.machine.wait(), Wait::Command);
}

#[test]
fn a_login_again_gives_the_data_port_back() {
    let mut session = Session::logged_in();
    session.client("EPSV").backend("229 x (|||2000|)");
    session.prepared(Prepared::Passive(5000)).actions();
    session.client("USER bo");
    assert!(session.has(&Action::DropData));
}

#[test]
fn a_login_that_takes_too_long_is_421() {
    let mut session = Session::implicit();
    session.event(Event::Expired);
    assert_eq!(session.ending(), Some(Ending::LoginTimeout));
    assert_eq!(session.codes(), [421]);
}

#[test]
fn a_backend_out_of_step_is_given_up() {
    let mut session = Session::logged_in();
    session.backend("200 Unasked");
    assert_eq!(session.ending(), Some(Ending::BackendLost));
    assert_eq!(session.codes(), [421]);
    let mut closing = Session::logged_in();
    closing.backend("421 Bye");
    assert_eq!(closing.ending(), Some(Ending::BackendClosed));
    assert_eq!(closing.replies(), ["421 Bye"]);
}

#[test]
fn after_login_lines_pass_byte_for_byte_but_for_ours() {
    let mut session = Session::logged_in();
    session.client("STAT  a b ").backend("213 x");
    assert_eq!(session.sent(), ["STAT  a b "]);
    assert_eq!(session.replies(), ["213 x"]);
    session.client("FEAT").backend("211 UTF8");
    assert!(session.replies()[0].contains(" AUTH TLS\r\n"));
    assert_eq!(session.answer("MODE B"), 504);
    session.client("MODE Z").backend("200 Z");
    assert_eq!(session.replies(), ["200 Z"]);
    session.client("XPSV").backend("227 x (1,2,3,4,5,6)");
    assert_eq!(session.codes(), [502]);
    session.client("QUIT");
    assert_eq!(session.sent(), ["QUIT"]);
    assert_eq!(session.ending(), Some(Ending::Quit));
}
