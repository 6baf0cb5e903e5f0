//! How an upload ends: whether the end of its data connection is that of the file, and the signs against it.

use super::*;
use crate::session::machine::DataFailure;

const PROVEN: DataEvent = DataEvent::SourceEnded { proven: true };
const UNPROVEN: DataEvent = DataEvent::SourceEnded { proven: false };

#[test]
fn an_upload_ends_for_the_backend_only_after_the_clients_end() {
    let mut session = Session::running("STOR x");
    session.backend("150 Go").actions();
    session.data(PROVEN);
    assert_eq!(session.machine.wait(), Wait::PendingInput);
    assert_eq!(session.actions(), []);
    session.event(Event::Expired);
    assert_eq!(session.actions(), [Action::FinishSink]);
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
    assert_eq!(session.machine.wait(), Wait::UploadGrace);
    assert!(!session.has(&Action::FinishSink));
    session.event(Event::Expired);
    assert!(session.has(&Action::FinishSink));
    let mut cancelled = Session::running("STOR x");
    cancelled.backend("150 Go").data(UNPROVEN).client("ABOR");
    assert!(!cancelled.has(&Action::FinishSink));
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
    // It has been decided by then.
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
fn an_upload_under_tls_outlasts_a_client_that_closes_all_behind_its_close_notify() {
    for end in [|| Event::ClientEnded, || Event::ClientGone] {
        // The control connection's end may be seen before the data connection's.
        let mut early = Session::running("STOR x");
        early.backend("150 Go").event(end()).data(PROVEN);
        let mut late = Session::running("STOR x");
        late.backend("150 Go").data(PROVEN).event(end());
        for mut session in [early, late] {
            session.event(Event::Expired).data(DataEvent::Finished);
            session.backend("226 Done");
            assert_eq!(session.verdict(), Some(Verdict::Complete));
            assert_eq!(session.ending(), Some(Ending::ClientGone));
        }
        // With FIN alone, where the site allows that, the end may be the kernel's.
        let mut killed = Session::running("STOR x");
        killed.backend("150 Go").event(end()).data(UNPROVEN);
        assert_eq!(killed.sent(), ["ABOR"]);
        assert_eq!(killed.verdict(), Some(Verdict::FailedClient));
    }
}

#[test]
fn an_upload_under_tls_whose_client_has_gone_has_a_moment_for_its_close_notify() {
    for begun in [true, false] {
        let mut session = match begun {
            true => Session::running("STOR x"),
            false => Session::opening("STOR x"),
        };
        session.event(Event::ClientEnded);
        assert_eq!(session.machine.wait(), Wait::Orphan);
        session.event(Event::Expired);
        assert_eq!(session.verdict(), Some(Verdict::FailedClient));
        assert_eq!(session.ending(), Some(Ending::ClientGone));
        assert_eq!(session.sent().len(), usize::from(begun), "ABOR");
    }
}

#[test]
fn the_command_of_an_upload_waits_for_its_clients_data_connection() {
    for transfer in ["STOR x", "APPE x", "STOU"] {
        let mut session = Session::opening(transfer);
        session.data(DataEvent::BackendOpen);
        assert_eq!(session.actions(), []);
        assert_eq!(session.machine.wait(), Wait::Data);
        session.data(DataEvent::ClientConnected);
        assert_eq!(session.sent(), [transfer]);
        assert!(session.has(&Action::CommandSent));
    }
}

#[test]
fn an_upload_whose_client_does_not_connect_never_reaches_the_backend() {
    let mut late = Session::opening("STOR x");
    late.data(DataEvent::BackendOpen).client("PWD");
    late.data(DataEvent::Failed(DataFailure::NoClient));
    assert_eq!(late.sent(), ["PWD"]);
    assert_eq!(late.verdict(), Some(Verdict::FailedClient));
    late.backend("257 x");
    assert_eq!(late.codes(), [425, 257]);

    let mut aborted = Session::opening("STOR x");
    aborted.data(DataEvent::BackendOpen).client("NOOP");
    aborted.client("ABOR");
    // The upload and its ABOR haven't reached it.
    assert_eq!(aborted.sent(), ["NOOP"]);
    assert_eq!(aborted.codes(), [426, 226]);

    let mut quit = Session::opening("STOR x");
    quit.data(DataEvent::BackendOpen).client("QUIT");
    quit.data(DataEvent::Failed(DataFailure::NoClient));
    assert_eq!(quit.sent(), ["QUIT"]);
    assert_eq!(quit.codes(), [425, 221]);
}

/// An upload whose backend has been sent the end of the file, and has yet to close.
fn ended() -> Session {
    let mut session = Session::running_in_clear_text("STOR x");
    session.backend("150 Go").data(UNPROVEN);
    session.event(Event::Expired).data(DataEvent::Ended);
    assert_eq!(session.machine.wait(), Wait::FinalReply);
    session.actions();
    session
}

#[test]
fn the_226_of_an_upload_waits_for_the_backend_to_close_its_data_connection() {
    let mut session = ended();
    session.backend("226 Done");
    assert_eq!(session.machine.wait(), Wait::SinkEnd);
    assert_eq!(session.codes(), [0; 0]);
    session.data(DataEvent::Finished);
    assert_eq!(session.verdict(), Some(Verdict::Complete));
    assert_eq!(session.codes(), [226]);
    // In the usual order.
    let mut closed = ended();
    closed.data(DataEvent::Finished).backend("226 Done");
    assert_eq!(closed.codes(), [226]);
    // It need not close at all.
    let mut open = ended();
    open.backend("226 Done").event(Event::Expired);
    assert_eq!(open.verdict(), Some(Verdict::Complete));
    assert_eq!(open.codes(), [226]);
}

#[test]
fn a_backend_that_resets_an_upload_has_not_taken_every_byte_whatever_it_says() {
    let mut before = ended();
    before.data(DataEvent::Failed(DataFailure::BackendLost));
    before.backend("226 Done").backend("225 x").backend("200 x");
    assert_eq!(before.verdict(), Some(Verdict::FailedBackend));
    assert_eq!(before.codes(), [426]);
    let mut after = ended();
    after.backend("226 Done");
    after.data(DataEvent::Failed(DataFailure::BackendLost));
    assert_eq!(after.verdict(), Some(Verdict::FailedBackend));
    assert_eq!(after.codes(), [426]);
    assert!(after.machine.wants_command());
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
    session.prepared(PreparedPort::Passive(5000));
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
