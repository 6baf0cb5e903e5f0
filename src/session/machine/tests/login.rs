//! From USER to the backend's 230, and logging in again.

use super::*;
use crate::ftp::server::NoUserReply;

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
    assert!(session.has(&Action::CloseBackend));
    assert_eq!(session.dials(), ["b"]);
}

#[test]
fn the_password_after_an_unknown_host_reaches_no_backend() {
    let mut session = Session::implicit();
    session.client("USER al").dialled(false).backend("331 P");
    session.actions();
    session.client("USER x.lab|bo");
    assert!(session.has(&Action::CloseBackend));
    assert_eq!(session.codes(), [530]);
    assert_eq!(session.answer("PASS bos"), 503);
}

#[test]
fn settings_are_told_before_user_and_refused_ones_again_after_login() {
    let mut session = Session::implicit();
    for (line, code) in [
        ("CLNT x", 202),
        ("OPTS UTF8 ON", 202),
        ("TYPE I", 200),
        ("OPTS MLST size;", 202),
    ] {
        assert_eq!(session.answer(line), code, "{line}");
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
    assert_eq!(session.answer("OPTS UTF8 OFF"), 202);
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
    session.prepared(PreparedPort::Passive(5000)).actions();
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

#[test]
fn what_may_have_been_a_wrong_guess_is_delayed_before_the_client_hears_of_it() {
    for refused in ["530 No", "430 No"] {
        let mut session = Session::implicit();
        session.client("USER b.lab|al").dialled(false);
        session.backend("331 P").client("PASS x").actions();
        session.backend(refused);
        let actions = session.actions();
        let [
            Action::Record(_),
            Action::DelayAfterFailure(Some(site)),
            Action::Reply(reply),
        ] = &actions[..]
        else {
            panic!("{actions:?}")
        };
        assert_eq!(*site, B);
        assert!(reply.starts_with(refused.as_bytes()));
    }
}

#[test]
fn a_user_that_the_backend_refuses_and_a_host_that_no_site_has_are_guesses_too() {
    let mut session = Session::implicit();
    session.client("USER al").dialled(false).backend("530 No");
    let site_of = |session: &mut Session| {
        let actions = session.actions();
        let penalties = actions.iter().filter_map(|action| match action {
            Action::DelayAfterFailure(site) => Some(*site),
            _ => None,
        });
        penalties.collect::<Vec<_>>()
    };
    assert_eq!(site_of(&mut session), [Some(A)]);
    session.client("USER x.lab|al");
    assert_eq!(site_of(&mut session), [None]);
}

#[test]
fn a_backend_with_troubles_of_its_own_is_nobodys_guess() {
    for refused in ["451 x", "503 x", "534 x", "550 x"] {
        let mut session = Session::implicit();
        session.client("USER al").dialled(false).backend(refused);
        let actions = session.actions();
        let attempted = actions
            .iter()
            .any(|a| matches!(a, Action::DelayAfterFailure(_)));
        assert!(!attempted, "{refused}");
    }
}

#[test]
fn a_backend_that_is_full_is_nobodys_guess_and_a_wrong_password_is() {
    let full = "530 Sorry, the maximum number of clients (5) from your host are already connected.";
    for (refused, is_guess) in [(full, false), ("530 Login incorrect.", true)] {
        let mut session = Session::implicit();
        session.client("USER al").dialled(false).backend("331 P");
        session.client("PASS x").backend(refused);
        let actions = session.actions();
        let attempted = actions
            .iter()
            .any(|a| matches!(a, Action::DelayAfterFailure(_)));
        assert_eq!(attempted, is_guess, "{refused}");
    }
}

/// A login with a backend that takes PBSZ and PROT only behind it.
fn unprotected() -> Session {
    let mut session = Session::implicit();
    session.answer("TYPE I");
    session.client("USER al");
    session.event(Event::Dialled(Some(Dialled {
        ipv6: false,
        welcome: None,
        protection: BackendProtection::AfterLogin,
        avoid: PortMethods::NONE,
        failover_timeout: None,
    })));
    session.backend("331 P").client("PASS x").actions();
    session
}

#[test]
fn a_backend_that_knows_pbsz_only_behind_a_login_is_told_before_the_client_hears_of_that() {
    let mut session = unprotected();
    session.backend("230 In");
    for (answer, told) in [("200 PBSZ=0", "PROT P"), ("200 Private", "TYPE I")] {
        assert!(!session.machine.wants_command());
        session.backend("120 Wait").backend(answer);
        assert_eq!(session.sent().last().map(String::as_str), Some(told));
    }
    assert_eq!(session.sent(), ["PBSZ 0", "PROT P", "TYPE I"]);
    session.backend("200 Binary");
    assert_eq!(session.replies(), ["230 In"]);
    // Replayed once.
    session.client("USER bo").backend("230 In").client("PWD");
    assert_eq!(session.sent(), ["USER bo", "PWD"]);
}

#[test]
fn a_backend_that_never_takes_prot_lets_nobody_in() {
    for answers in [&["500 What?"][..], &["200 PBSZ=0", "536 No"]] {
        let mut session = unprotected();
        session.backend("230 In");
        for answer in answers {
            session.backend(answer);
        }
        let lost = Record::BackendLost(Stage::Login, ProtocolError::ProtectionRefused);
        assert!(session.has(&Action::Record(lost)));
        let unavailable = Record::Login(LoginResult::BackendUnavailable);
        assert!(session.has(&Action::Record(unavailable)));
        assert_eq!(session.codes(), [421]);
    }
}

#[test]
fn a_blocked_client_is_421_without_a_backend() {
    let mut session = Session::implicit();
    session.client("USER al").event(Event::Blocked);
    assert!(session.has(&Action::Record(Record::Login(LoginResult::Blocked))));
    assert_eq!(session.ending(), Some(Ending::Blocked));
    assert_eq!(session.codes(), [421]);
}

#[test]
fn a_site_that_is_full_is_421_without_a_backend() {
    let mut session = Session::implicit();
    session.client("USER al").event(Event::SiteFull);
    assert!(session.has(&Action::Record(Record::Login(LoginResult::SiteFull))));
    assert_eq!(session.ending(), Some(Ending::SiteFull));
    assert_eq!(session.codes(), [421]);
}

#[test]
fn a_site_that_an_operator_has_taken_out_of_service_is_421_without_a_backend() {
    let mut session = Session::implicit();
    session.client("USER al").event(Event::Maintenance);
    assert!(session.has(&Action::Record(Record::Login(LoginResult::Maintenance))));
    assert_eq!(session.ending(), Some(Ending::Maintenance));
    assert_eq!(session.codes(), [421]);
}

#[test]
fn the_guess_that_was_one_too_many_gets_its_530_and_then_421() {
    let mut session = Session::implicit();
    session.client("USER al").dialled(false).backend("331 P");
    session.client("PASS x").actions();
    session.backend("530 No").event(Event::Blocked);
    assert!(!session.has(&Action::Record(Record::Login(LoginResult::Blocked))));
    assert_eq!(session.ending(), Some(Ending::Blocked));
    assert_eq!(session.codes(), [530, 421]);
}

#[test]
fn who_is_logged_in_stays_so_whatever_the_guard_says() {
    let mut session = Session::logged_in();
    assert_eq!(session.answer("USER x.lab|al"), 530);
    session.event(Event::Blocked);
    assert_eq!(session.ending(), None);
    session.client("PWD");
    assert_eq!(session.sent(), ["PWD"]);
}

#[test]
fn a_challenge_and_an_account_are_asked_for_in_the_backends_words() {
    for asked in ["331 [alg:totp] Code", "336 s/key 97 ab1", "332 Account"] {
        let mut session = Session::implicit();
        session.client("USER al").dialled(false).backend(asked);
        assert_eq!(session.replies(), [asked]);
        assert_eq!(session.answer("PWD"), 530);
        session.client("ACCT books").backend("230 In");
        assert_eq!(session.sent(), ["ACCT books"]);
    }
}

#[test]
fn every_2xx_is_a_login() {
    for accepted in ["230 In", "232 In by other means", "202 Superfluous"] {
        for (asked, line) in [("331 P", "PASS x"), ("332 A", "ACCT x")] {
            let mut session = Session::implicit();
            session.client("USER al").dialled(false).backend(asked);
            session.client(line).backend(accepted).actions();
            session.client("PWD");
            assert_eq!(session.sent(), ["PWD"], "{line} {accepted}");
        }
    }
}

#[test]
fn a_password_after_a_login_without_one_is_the_backends() {
    let mut session = Session::logged_in();
    session.client("PASS x").backend("230 Already in");
    assert_eq!(session.sent(), ["PASS x"]);
    assert_eq!(session.replies(), ["230 Already in"]);
    session.client("ACCT x").backend("202 Superfluous");
    assert_eq!(session.codes(), [202]);
}

#[test]
fn a_backend_that_greets_with_230_has_let_everybody_in() {
    let mut session = Session::implicit();
    session.answer("OPTS UTF8 ON");
    session.client("USER al").welcomed("230 Come in");
    session.backend("200 Yes");
    assert_eq!(session.sent(), ["OPTS UTF8 ON"]);
    assert_eq!(session.replies(), ["230 Come in"]);
    session.client("PWD");
    assert_eq!(session.sent(), ["PWD"]);
}

#[test]
fn a_login_that_its_backend_breaks_off_is_counted_as_one_that_could_not_be_had() {
    let broken_off = Action::Record(Record::Login(LoginResult::BackendUnavailable));
    let mut session = Session::implicit();
    session.client("USER al").dialled(false).backend("331 Who?");
    session.client("PASS p").event(Event::BackendGone);
    assert!(session.has(&broken_off));
    let mut closed = Session::implicit();
    closed.client("USER al").dialled(false).backend("421 Full");
    assert!(closed.has(&broken_off));
    // Judged already.
    let mut refused = Session::implicit();
    refused.client("USER al").dialled(false).backend("530 No");
    refused.event(Event::BackendGone);
    assert!(!refused.has(&broken_off));
}

#[test]
fn until_its_reply_to_user_another_backend_takes_over_from_one_that_fails() {
    let failures = [
        (
            Event::Reply(reply("421 Busy")),
            NoUserReply::Busy(reply("421 Busy")),
        ),
        (Event::BackendGone, NoUserReply::Lost),
        (Event::Expired, NoUserReply::Silent),
    ];
    for (event, why) in failures {
        let mut session = Session::implicit();
        session.client("OPTS UTF8 ON").client("USER al").actions();
        session.dialled_one_of_several().backend("200 UTF8");
        assert_eq!(session.sent(), ["OPTS UTF8 ON", "USER al"]);
        session.actions();
        session.event(event);
        assert_eq!(
            session.actions(),
            [Action::BackendFailed(why), Action::DialNext]
        );
        // Its first words are said to the next one, too.
        session.dialled(false).backend("200 UTF8").backend("331 P");
        assert_eq!(session.sent(), ["OPTS UTF8 ON", "USER al"]);
        assert!(session.has(&Action::CommitBackend));
        assert_eq!(session.codes(), [331]);
    }
}

#[test]
fn all_that_a_backend_is_asked_before_its_reply_to_user_has_the_time_of_one_attempt() {
    let mut session = Session::implicit();
    session.client("OPTS UTF8 ON").client("USER al");
    session.dialled_one_of_several();
    let clock = session.machine.clock();
    assert_eq!(
        session.machine.deadline(),
        Deadline::After(Duration::from_secs(2))
    );
    session.backend("200 UTF8").backend("120 Wait");
    assert_eq!(session.machine.clock(), clock);
    session.backend("331 P");
    assert_eq!(session.machine.deadline(), Deadline::Login);
}

#[test]
fn a_login_stays_with_the_backend_whose_reply_to_user_the_client_has() {
    for first in ["331 P", "530 No", "230 In"] {
        let mut session = Session::implicit();
        session.client("USER al").dialled_one_of_several();
        session.backend(first).actions();
        session.backend("421 Enough");
        assert_eq!(session.ending(), Some(Ending::BackendClosed), "{first}");
    }
}

#[test]
fn the_last_backend_of_a_site_is_kept_whatever_it_says() {
    let mut session = Session::implicit();
    session.client("USER al").dialled(false).backend("421 Busy");
    let busy = NoUserReply::Busy(reply("421 Busy"));
    assert!(session.has(&Action::BackendFailed(busy)));
    assert_eq!(session.ending(), Some(Ending::BackendClosed));
    assert_eq!(session.codes(), [421]);
}

#[test]
fn a_login_that_times_out_is_held_against_a_backend_that_was_asked_and_no_other() {
    let silent = Action::BackendFailed(NoUserReply::Silent);
    for (replies, asked) in [(&[][..], true), (&["331 P"][..], false)] {
        let mut session = Session::implicit();
        session.client("USER al").dialled(false);
        for reply in replies {
            session.backend(reply);
        }
        session.event(Event::Expired);
        assert_eq!(session.ending(), Some(Ending::LoginTimeout));
        assert_eq!(session.has(&silent), asked, "{replies:?}");
    }
}

#[test]
fn an_account_that_is_superfluous_is_no_login() {
    let mut session = Session::implicit();
    session
        .client("USER al")
        .dialled(false)
        .backend("331 P")
        .actions();
    session.client("ACCT x").backend("202 Whatever");
    assert_eq!(session.codes(), [202]);
    assert_eq!(session.answer("PWD"), 530);
    session.client("PASS p").actions();
    assert!(session.machine.is_authenticating());
    session.backend("230 In");
    assert_eq!(session.codes(), [230]);
}
