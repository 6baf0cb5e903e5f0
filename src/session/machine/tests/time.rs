//! Tests of the events that begin a deadline anew, and of those that don't.

use std::time::Duration;

use super::*;

/// The event leaves the time of what is waited for as it runs.
#[track_caller]
fn goes_on(session: &mut Session, wait: Wait, lead: impl FnOnce(&mut Session)) {
    let before = session.machine.clock();
    assert_eq!(before.wait, wait);
    lead(session);
    assert_eq!(session.machine.clock(), before);
}

/// The event begins the time anew.
#[track_caller]
fn begins_anew(session: &mut Session, wait: Wait, lead: impl FnOnce(&mut Session)) {
    let before = session.machine.clock();
    lead(session);
    let after = session.machine.clock();
    assert_eq!(after.wait, wait);
    assert_ne!(after, before);
}

fn says(line: &str) -> impl FnOnce(&mut Session) {
    move |session| {
        session.client(line);
    }
}

fn hears(text: &str) -> impl FnOnce(&mut Session) {
    move |session| {
        session.backend(text);
    }
}

#[test]
fn a_client_that_talks_during_a_transfer_gives_the_backend_no_more_time() {
    let mut session = Session::running("RETR x");
    session
        .backend("150 Here")
        .data(DataEvent::SourceEnded { proven: true });
    for line in ["NOOP", "STAT", "PWD"] {
        goes_on(&mut session, Wait::FinalReply, says(line));
    }
    goes_on(&mut session, Wait::FinalReply, hears("150 Still here"));
    begins_anew(&mut session, Wait::Abort, says("ABOR"));
    goes_on(&mut session, Wait::Abort, says("NOOP"));
    goes_on(&mut session, Wait::Abort, hears("426 Broken"));
}

#[test]
fn nothing_makes_a_plain_uploads_end_wait_longer_than_it_should() {
    let mut session = Session::running("STOR x");
    session.data(DataEvent::SourceEnded { proven: false });
    goes_on(&mut session, Wait::UploadGrace, says("NOOP"));
    goes_on(&mut session, Wait::UploadGrace, hears("150 Go on"));
}

#[test]
fn each_command_and_each_question_to_the_backend_has_its_own_time() {
    let mut session = Session::logged_in();
    begins_anew(&mut session, Wait::Command, says("PBSZ 0"));
    begins_anew(&mut session, Wait::Reply, says("PWD"));
    goes_on(&mut session, Wait::Reply, hears("150 Soon"));
    begins_anew(&mut session, Wait::Command, hears("257 /"));
    begins_anew(&mut session, Wait::Reply, says("EPSV"));
    // It is asked for PASV now.
    begins_anew(&mut session, Wait::Reply, hears("500 What?"));
}

#[test]
fn a_backend_that_only_ever_says_1yz_is_given_up() {
    for (stage, mut session) in [
        (Stage::Command, Session::logged_in()),
        (Stage::DataPort, Session::logged_in()),
        (Stage::Transfer, Session::running("RETR x")),
    ] {
        let asked = match stage {
            Stage::DataPort => "EPSV",
            _ => "PWD",
        };
        session.client(asked);
        for _ in 0..MAX_PRELIMINARIES {
            session.backend("150 Soon");
            assert_eq!(session.ending(), None, "{stage:?}");
        }
        session.backend("150 Soon");
        assert_eq!(session.ending(), Some(Ending::BackendLost), "{stage:?}");
        let lost = Record::BackendLost(stage, ProtocolError::TooManyPreliminaries);
        assert!(session.has(&Action::Record(lost)), "{stage:?}");
    }
}

#[test]
fn a_turn_at_a_passive_port_is_not_waited_for_on_the_backends_time() {
    let mut session = Session::logged_in();
    session.client("EPSV");
    assert_eq!(session.machine.wait(), Wait::Reply);
    session.backend("229 x (|||2000|)");
    assert_eq!(session.machine.wait(), Wait::Data);
    session.prepared(PreparedPort::NoPort);
    assert_eq!(session.codes(), [425]);
    assert_eq!(session.machine.wait(), Wait::Command);
}

#[test]
fn the_end_of_an_upload_waits_for_an_abor_no_longer_than_it_has_to() {
    let grace = Duration::from_millis(50);
    let mut plain = Session::running("STOR x");
    assert_eq!(plain.machine.deadline(), Deadline::Never);
    plain.data(DataEvent::SourceEnded { proven: false });
    assert_eq!(plain.machine.deadline(), Deadline::AfterInput(grace));
    let mut proven = Session::running("STOR x");
    proven.data(DataEvent::SourceEnded { proven: true });
    let deadline = proven.machine.deadline();
    assert_eq!(deadline, Deadline::OnceInputIsDelivered(grace));
    let mut orphan = Session::running("STOR x");
    orphan.event(Event::ClientEnded);
    let last_byte = Deadline::AfterLastByte(Duration::from_secs(2));
    assert_eq!(orphan.machine.deadline(), last_byte);
}

#[test]
fn what_is_waited_for_has_the_time_that_the_configuration_gives_it() {
    let timeouts = session_config().timeouts;
    let mut session = Session::implicit();
    assert_eq!(session.machine.deadline(), Deadline::Login);
    session.client("USER al").dialled(false).backend("230 In");
    let idle = Deadline::After(timeouts.idle);
    assert_eq!(session.machine.deadline(), idle);
    session.client("PWD");
    let reply = Deadline::After(timeouts.backend_reply);
    assert_eq!(session.machine.deadline(), reply);
    let mut download = Session::running("RETR x");
    download.data(DataEvent::SourceEnded { proven: true });
    let final_reply = Deadline::After(timeouts.final_reply);
    assert_eq!(download.machine.deadline(), final_reply);
}
