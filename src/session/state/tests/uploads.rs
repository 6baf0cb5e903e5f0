//! How an upload ends: whether the end of its data connection is that of the file, and what speaks against it.

use super::*;

const PROVEN: DataEvent = DataEvent::SourceEnded { proven: true };
const UNPROVEN: DataEvent = DataEvent::SourceEnded { proven: false };

#[test]
fn an_upload_ends_for_the_backend_only_after_the_clients_end() {
    let mut session = Session::running("STOR x");
    session.backend("150 Go").actions();
    session.data(PROVEN);
    assert_eq!(session.machine.wait(), Wait::LastWord);
    assert_eq!(session.actions(), []);
    session.event(Event::Expired);
    assert_eq!(session.actions(), [Action::ProceedData]);
    session.data(DataEvent::Finished);
    assert_eq!(session.machine.wait(), Wait::FinalReply);
    session.backend("226 Done");
    assert_eq!(session.verdict(), Some(Verdict::Complete));
    assert_eq!(session.codes(), [226]);
}

#[test]
fn a_226_before_the_end_of_an_upload_is_426() {
    for end in [None, Some(UNPROVEN), Some(PROVEN)] {
        let mut session = Session::running("STOR x");
        session.backend("150 Go");
        end.map(|end| session.data(end).actions());
        session.actions();
        session.backend("226 Done");
        assert_eq!(session.verdict(), Some(Verdict::FailedBackend));
        assert!(session.has(&Action::DropData));
        assert_eq!(session.codes(), [426]);
    }
}

#[test]
fn a_plain_uploads_fin_waits_for_an_abor_that_may_be_under_way() {
    let mut session = Session::running("STOR x");
    session.backend("150 Go").data(UNPROVEN);
    assert_eq!(session.machine.wait(), Wait::Grace);
    assert!(!session.has(&Action::ProceedData));
    session.event(Event::Expired);
    assert!(session.has(&Action::ProceedData));
    let mut cancelled = Session::running("STOR x");
    cancelled.backend("150 Go").data(UNPROVEN).client("ABOR");
    assert!(!cancelled.has(&Action::ProceedData));
    assert_eq!(cancelled.sent(), ["ABOR"]);
}

#[test]
fn a_client_that_goes_takes_a_plain_upload_with_it_though_it_said_quit() {
    for end in [None, Some(UNPROVEN)] {
        let mut session = Session::running_in_clear_text("STOR x");
        session.backend("150 Go").client("QUIT");
        end.map(|end| session.data(end).actions());
        session.event(Event::ClientGone);
        assert_eq!(session.sent(), ["ABOR"]);
        assert_eq!(session.verdict(), Some(Verdict::FailedClient));
        assert_eq!(session.ending(), Some(Ending::ClientGone));
    }
    // It has been judged by then.
    let mut whole = Session::running_in_clear_text("STOR x");
    whole.backend("150 Go").client("QUIT").data(UNPROVEN);
    whole.event(Event::Expired).event(Event::ClientGone);
    whole.data(DataEvent::Finished).backend("226 Done");
    assert_eq!(whole.ending(), Some(Ending::Quit));
    // A file on its way to the client is harmed by nothing that the client does.
    let mut download = Session::running_in_clear_text("RETR x");
    download.client("QUIT").event(Event::ClientGone);
    assert_eq!(download.ending(), None);
}

#[test]
fn a_plain_upload_that_begins_when_its_client_is_gone_is_cut() {
    let mut session = Session::running_in_clear_text("RETR x");
    session.client("EPSV").client("STOR x").client("QUIT");
    session.event(Event::ClientGone);
    session
        .backend("226 Done")
        .data(PROVEN)
        .data(DataEvent::Finished);
    session.actions();
    session.backend("229 x (|||2000|)");
    session.prepared(Prepared::Passive(5000));
    assert_eq!(session.verdict(), Some(Verdict::FailedClient));
    assert_eq!(session.ending(), Some(Ending::ClientGone));
}

#[test]
fn an_abor_behind_a_full_queue_and_quit_still_counts_when_an_upload_ends() {
    for end in [UNPROVEN, PROVEN] {
        let mut session = Session::running("STOR x");
        session.backend("150 Go").client("QUIT");
        assert!(!session.machine.wants_command());
        session.data(end);
        for _ in 0..20 {
            session.client("PWD");
        }
        session.client("ABOR");
        assert_eq!(session.sent(), ["ABOR"], "{end:?}");
    }
}

#[test]
fn a_plain_upload_behind_which_more_is_said_than_can_be_heard_is_426() {
    let mut session = Session::running_in_clear_text("STOR x");
    session.backend("150 Go").data(UNPROVEN);
    let mut said = 0;
    while session.machine.wants_command() {
        session.client("PWD");
        said += 1;
        assert!(said < 100, "commands without end");
    }
    session.event(Event::Expired);
    assert_eq!(session.sent(), ["ABOR"]);
    session.backend("426 T").backend("226 A").backend("200 N");
    assert_eq!(session.verdict(), Some(Verdict::FailedClient));
    assert_eq!(session.codes(), [150, 426]);
}
