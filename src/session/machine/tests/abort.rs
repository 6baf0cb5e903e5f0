//! ABOR: two replies for the client, independent of the backend's.

use super::*;

/// The replies to the client after ABOR in a download, for these replies of the backend.
fn aborted(replies: &[&str]) -> Vec<u16> {
    let mut session = Session::running("RETR x");
    session.backend("150 Here").actions();
    session.client("ABOR");
    assert_eq!(session.sent(), ["ABOR"]);
    assert_eq!(session.actions().last(), Some(&Action::DropData));
    assert_eq!(session.machine.wait(), Wait::Abort);
    for reply in replies {
        session.backend(reply);
    }
    assert_eq!(session.verdict(), Some(Verdict::Aborted));
    assert_eq!(session.ending(), None);
    assert!(session.machine.wants_command());
    session.codes()
}

#[test]
fn abor_gives_a_426_and_a_226_however_the_backend_puts_it() {
    assert_eq!(aborted(&["426 T", "226 A", "200 N"]), [426, 226]);
    assert_eq!(aborted(&["426 T", "225 A", "200 N"]), [426, 226]);
    assert_eq!(aborted(&["226 A", "426 T", "200 N"]), [426, 226]);
    assert_eq!(aborted(&["226 T", "226 A", "200 N"]), [426, 226]);
    assert_eq!(aborted(&["426 T", "200 N"]), [426, 226]);
    assert_eq!(aborted(&["226 A", "200 N"]), [426, 226]);
    assert_eq!(aborted(&["426 T", "226 A", "500 N"]), [426, 226]);
    assert_eq!(aborted(&["426 T", "226 A", "150 L", "200 N"]), [426, 226]);
}

#[test]
fn noop_waits_for_the_first_reply_since_a_server_may_throw_away_what_is_behind_abor() {
    let mut session = Session::running("STOR x");
    session.client("ABOR").backend("150 Late");
    assert_eq!(session.sent(), ["ABOR"]);
    session.backend("451 T");
    assert_eq!(session.sent(), ["ABOR", "NOOP"]);
    // A 200 that came before it would have been the ABOR's.
    let mut odd = Session::running("STOR x");
    odd.client("ABOR")
        .backend("200 A")
        .backend("426 T")
        .actions();
    assert!(!odd.is_ready());
    odd.backend("200 N");
    assert_eq!(odd.codes(), [426, 200]);
}

#[test]
fn a_backend_that_ignores_noop_has_answered_after_two_replies() {
    let mut session = Session::running("RETR x");
    session.client("ABOR").backend("426 T").backend("226 A");
    session.actions();
    session.event(Event::Expired);
    assert_eq!(session.codes(), [426, 226]);
    let mut deaf = Session::running("RETR x");
    deaf.client("ABOR").event(Event::Expired);
    assert_eq!(deaf.ending(), Some(Ending::BackendLost));
}

#[test]
fn replies_to_abor_that_say_nothing_of_the_transfer_are_out_of_step() {
    for replies in [&["225 A"][..], &["502 A"], &["200 A"], &["225 A", "500 N"]] {
        for asked in [true, false] {
            let mut session = Session::running("RETR x");
            session.backend("150 Here").actions();
            match asked {
                true => session.client("ABOR"),
                false => session.data(DataEvent::Failed(DataFailure::ClientLost)),
            };
            for reply in replies {
                session.backend(reply);
            }
            session.backend("200 N");
            assert_eq!(session.ending(), Some(Ending::BackendLost), "{replies:?}");
            assert!(session.has(&Action::Record(Record::BackendLost(
                Stage::Transfer,
                ProtocolError::AbortIgnored
            ))));
            assert_eq!(session.codes(), [421]);
        }
    }
}

/// The replies to the client after ABOR, answered with a lone 225.
fn aborted_with_225(session: &mut Session) -> Vec<u16> {
    session.backend("225 A").backend("200 N");
    assert_eq!(session.ending(), None);
    assert!(session.machine.wants_command());
    session.codes()
}

#[test]
fn a_lone_225_ends_a_transfer_whose_data_connection_the_backend_called_open() {
    for line in ["RETR x", "STOR x", "LIST"] {
        let mut session = Session::running(line);
        session.backend("125 Open").actions();
        session.client("ABOR");
        // Nothing is left to ask.
        assert!(!session.has(&Action::ReportAcceptance));
        assert_eq!(aborted_with_225(&mut session), [426, 226], "{line}");
    }
    // The 125 may be on its way when ABOR goes out.
    let mut session = Session::running("RETR x");
    session.client("ABOR").backend("125 Open");
    assert_eq!(aborted_with_225(&mut session), [426, 226]);
    // The client hears of its own loss, whoever has ended the transfer.
    let mut session = Session::running("RETR x");
    session.backend("125 Open").actions();
    session.data(DataEvent::Failed(DataFailure::ClientLost));
    assert_eq!(aborted_with_225(&mut session), [426]);
}

#[test]
fn a_lone_225_ends_a_transfer_whose_data_connection_the_backend_has_proven_to_have_accepted() {
    let mut session = Session::running("STOR x");
    session.backend("150 Go").actions();
    session.client("ABOR");
    assert!(session.has(&Action::ReportAcceptance));
    session.data(DataEvent::BackendAccepted);
    assert_eq!(aborted_with_225(&mut session), [426, 226]);
}

#[test]
fn other_replies_say_nothing_of_the_transfer_on_an_accepted_data_connection_either() {
    for replied in ["200 A", "202 A", "500 A", "502 A"] {
        let mut session = Session::running("RETR x");
        session.backend("125 Open").client("ABOR").backend(replied);
        session.backend("200 N");
        assert_eq!(session.ending(), Some(Ending::BackendLost), "{replied}");
    }
}

#[test]
fn an_accepted_data_connection_says_nothing_of_the_next_transfer() {
    let mut session = Session::running("RETR x");
    session.backend("125 Open").client("ABOR");
    assert_eq!(aborted_with_225(&mut session), [125, 426, 226]);
    session.client("EPSV").backend("229 x (|||2000|)");
    session.prepared(PreparedPort::Passive(5000));
    session.client("RETR y").data(DataEvent::BackendOpen);
    session.backend("150 Here").client("ABOR").actions();
    session.backend("225 A").backend("200 N");
    assert_eq!(session.ending(), Some(Ending::BackendLost));
}

#[test]
fn a_backend_is_not_asked_for_what_it_can_not_have_shown() {
    let mut session = Session::running("RETR x");
    session.client("ABOR");
    assert!(!session.has(&Action::ReportAcceptance));
}

#[test]
fn that_the_backend_had_accepted_is_no_news_once_it_is_gone() {
    let mut session = Session::running("RETR x");
    session.backend("150 Here").client("ABOR");
    session.event(Event::BackendGone).actions();
    session.data(DataEvent::BackendAccepted);
    assert_eq!(session.actions(), []);
}

#[test]
fn abor_before_the_backend_has_the_command_stays_here() {
    let mut session = Session::opening("STOR x");
    session.client("ABOR");
    assert_eq!(session.sent(), [""; 0]);
    assert!(session.has(&Action::DropData));
    assert_eq!(session.codes(), [426, 226]);
}

#[test]
fn abor_after_a_failure_adds_its_own_reply() {
    let mut session = Session::running("STOR x");
    session.data(DataEvent::Failed(DataFailure::ClientUnclean));
    session.client("ABOR").actions();
    session.backend("426 T").backend("226 A").backend("200 N");
    assert_eq!(session.codes(), [426, 226]);
}

#[test]
fn a_second_abor_has_a_reply_of_its_own() {
    let mut session = Session::running("RETR x");
    session.client("ABOR").client("ABOR").actions();
    session.backend("426 T").backend("226 A").backend("200 N");
    assert_eq!(session.sent(), ["NOOP", "ABOR"]);
    assert_eq!(session.codes(), [426, 226]);
    session.backend("225 Idle");
    assert_eq!(session.codes(), [225]);
}

#[test]
fn a_stat_in_front_of_abor_does_not_count_as_its_reply() {
    let mut session = Session::running("RETR x");
    session.backend("150 Here").client("STAT").client("ABOR");
    session.actions();
    session.backend("211 S").backend("426 T").backend("226 A");
    assert_eq!(session.codes(), [211]);
    session.backend("200 N");
    assert_eq!(session.codes(), [426, 226]);
    let mut unanswered = Session::running("RETR x");
    unanswered.client("STAT").client("ABOR").actions();
    unanswered
        .backend("426 T")
        .backend("226 A")
        .backend("200 N");
    assert_eq!(unanswered.codes(), [502, 426, 226]);
    assert!(unanswered.machine.wants_command());
}

#[test]
fn abor_with_nothing_to_abort_is_the_backends() {
    let mut session = Session::logged_in();
    session.client("ABOR").backend("225 Idle");
    assert_eq!(session.sent(), ["ABOR"]);
    assert_eq!(session.codes(), [225]);
}

#[test]
fn what_follows_abor_is_answered_after_it() {
    let mut session = Session::running("RETR x");
    session.client("ABOR").client("NOOP").actions();
    assert_eq!(session.codes(), [0; 0]);
    session.backend("426 T").backend("226 A").backend("200 N");
    assert_eq!(session.codes(), [426, 226]);
    session.backend("200 N");
    assert_eq!(session.codes(), [200]);
}

#[test]
fn a_transfer_that_its_client_has_broken_off_is_not_the_backends_when_that_ignores_the_abort() {
    let mut session = Session::running("STOR x");
    session
        .backend("150 Go")
        .data(DataEvent::Failed(DataFailure::ClientUnclean));
    session.backend("225 Nothing to abort").backend("200 Here");
    assert_eq!(session.verdict(), Some(Verdict::FailedClient));
    assert_eq!(session.ending(), Some(Ending::BackendLost));
}
