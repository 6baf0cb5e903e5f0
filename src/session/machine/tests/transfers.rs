//! A transfer's verdict: what the data connections and the backend say, in every order.

use super::*;
use crate::outcome::Direction;

const PROVEN: DataEvent = DataEvent::SourceEnded { proven: true };

#[test]
fn a_download_ends_for_the_client_only_after_the_backends_2xx() {
    let mut session = Session::running("RETR x");
    session.backend("150 Here").data(PROVEN);
    assert!(!session.has(&Action::FinishSink));
    assert_eq!(session.machine.wait(), Wait::FinalReply);
    session.backend("226 Done");
    assert!(session.has(&Action::FinishSink));
    assert_eq!(session.codes(), [150]);
    session.data(DataEvent::Finished);
    assert_eq!(session.verdict(), Some(Verdict::Complete));
    assert_eq!(session.replies(), ["226 Done"]);
}

#[test]
fn an_early_226_on_a_download_is_held() {
    let mut session = Session::running("RETR x");
    session.backend("150 Here").backend("226 Done");
    assert_eq!(session.codes(), [150]);
    session.data(PROVEN);
    assert!(session.has(&Action::FinishSink));
    session.data(DataEvent::Finished);
    assert_eq!(session.codes(), [226]);
}

#[test]
fn a_backend_that_ends_the_session_behind_its_2xx_lets_the_transfer_finish() {
    type BackendEnds = fn(&mut Session);
    let ends: [(BackendEnds, &str, Ending); 3] = [
        (
            |session| {
                session.backend("421 Timeout.");
            },
            "421 Timeout.",
            Ending::BackendClosed,
        ),
        (
            |session| {
                session.event(Event::BackendGone);
            },
            "421 The connection to the site was lost.",
            Ending::BackendLost,
        ),
        // The end of the connection says no more than the 421.
        (
            |session| {
                session.backend("421 Timeout.").event(Event::BackendGone);
            },
            "421 Timeout.",
            Ending::BackendClosed,
        ),
    ];
    for (end, last, ending) in ends {
        // Bytes are still under way to the client.
        let mut download = Session::running("RETR x");
        download.backend("150 Here").backend("226 Done");
        end(&mut download);
        assert_eq!(download.codes(), [150]);
        assert!(!download.has(&Action::DropData));
        // Commands that arrive meanwhile are no longer for the backend.
        download.client("PWD");
        download.data(PROVEN).data(DataEvent::Finished);
        assert_eq!(download.ending(), Some(ending));
        assert_eq!(download.verdict(), Some(Verdict::Complete));
        assert_eq!(download.replies(), ["226 Done", last]);

        // The backend has every byte, and its leg has yet to be closed.
        let mut upload = Session::running("STOR x");
        upload.backend("150 Go").data(PROVEN).event(Event::Expired);
        upload.backend("226 Done");
        end(&mut upload);
        upload.data(DataEvent::Finished);
        assert_eq!(upload.ending(), Some(ending));
        assert_eq!(upload.verdict(), Some(Verdict::Complete));
        assert_eq!(upload.replies()[1..], ["226 Done", last]);

        // A transfer that fails behind it has its own reply first.
        let mut failing = Session::running("RETR x");
        failing.backend("150 Here").backend("226 Done");
        end(&mut failing);
        failing.data(DataEvent::Failed(DataFailure::ClientLost));
        assert_eq!(failing.ending(), Some(ending));
        assert_eq!(failing.verdict(), Some(Verdict::FailedClient));
        assert_eq!(
            failing.replies()[1..],
            ["426 Data connection broken, transfer incomplete.", last]
        );
        assert!(failing.sent().is_empty());
    }
}

#[test]
fn a_backend_that_ends_the_session_before_its_2xx_has_not_confirmed_the_transfer() {
    for end in [Event::BackendGone, Event::Reply(reply("421 Timeout."))] {
        let mut session = Session::running("RETR x");
        session.backend("150 Here").data(PROVEN).event(end);
        assert!(session.has(&Action::DropData));
        assert_eq!(session.verdict(), Some(Verdict::FailedBackend));
    }
}

#[test]
fn a_backend_that_talks_on_behind_its_421_is_dropped_with_the_transfer() {
    let mut session = Session::running("RETR x");
    session.backend("150 Here").backend("226 Done");
    session.backend("421 Timeout.").backend("200 Or not");
    assert!(session.has(&Action::DropData));
    assert_ne!(session.verdict(), Some(Verdict::Complete));
}

#[test]
fn a_refused_client_gets_the_reply_and_no_reset_of_its_data_connection() {
    let mut session = Session::running("STOR x");
    session.backend("552 Full");
    assert_eq!(
        session.actions()[..2],
        [Action::Reply("552 Full\r\n".into()), Action::RefuseData]
    );
    let mut later = Session::running("STOR x");
    later.backend("150 Go").backend("552 Full");
    assert!(later.has(&Action::DropData));
    assert_eq!(later.verdict(), Some(Verdict::FailedBackend));
}

#[test]
fn a_failed_data_connection_aborts_and_replaces_a_2xx() {
    for failure in [
        DataFailure::NoClient,
        DataFailure::ClientHandshake,
        DataFailure::NotResumed,
        DataFailure::ClientLost,
        DataFailure::ClientUnclean,
        DataFailure::ClientIdle,
        DataFailure::BackendHandshake,
        DataFailure::BackendLost,
        DataFailure::BackendIdle,
        DataFailure::Internal,
    ] {
        let mut session = Session::running("STOR x");
        session.backend("150 Go").actions();
        session.data(DataEvent::Failed(failure));
        assert_eq!(session.sent(), ["ABOR"]);
        assert_eq!(session.actions().last(), Some(&Action::DropData));
        session
            .backend("226 Done")
            .backend("226 Aborted")
            .backend("200 N");
        assert_eq!(session.verdict(), Some(failure.verdict()));
        let codes = session.codes();
        assert!(matches!(codes[..], [425 | 426 | 451 | 522]), "{codes:?}");
    }
}

#[test]
fn a_client_lost_after_an_early_226_needs_no_abor() {
    let mut session = Session::running("RETR x");
    session.backend("150 Here").backend("226 Done").actions();
    session.data(DataEvent::Failed(DataFailure::ClientLost));
    assert_eq!(session.sent(), [""; 0]);
    assert_eq!(session.codes(), [426]);
}

#[test]
fn a_backend_port_that_is_not_reached_is_425_and_the_backend_hears_nothing() {
    let mut session = Session::opening("LIST");
    session.data(DataEvent::Failed(DataFailure::NoBackend));
    assert_eq!(session.sent(), [""; 0]);
    assert_eq!(session.codes(), [425]);
    assert!(session.machine.wants_command());
}

#[test]
fn a_missing_final_reply_is_426() {
    let mut session = Session::running("RETR x");
    session.backend("150 Here").data(PROVEN).actions();
    session.event(Event::Expired);
    assert_eq!(session.sent(), ["ABOR"]);
    session.backend("226 A").backend("200 N");
    assert_eq!(session.codes(), [426]);
}

#[test]
fn the_protection_is_that_of_the_transfer_command() {
    let mut session = Session::logged_in();
    session.client("EPSV").backend("229 x (|||2000|)");
    session
        .prepared(PreparedPort::Passive(5000))
        .client("PROT C");
    session.client("RETR x");
    assert!(session.has(&Action::OpenData {
        direction: Direction::Download,
        protection: Protection::Clear
    }));
}

#[test]
fn a_stat_may_be_answered_during_the_transfer_or_after_it() {
    let mut session = Session::running("RETR x");
    session
        .backend("150 Here")
        .client("STAT")
        .backend("211 Half");
    assert_eq!(session.codes(), [150, 211]);
    session.client("STAT").data(PROVEN).backend("226 Done");
    session.data(DataEvent::Finished);
    assert_eq!(session.codes(), [226]);
    assert_eq!(session.machine.wait(), Wait::Reply);
    session.backend("211 Idle");
    assert_eq!(session.codes(), [211]);
    assert!(session.machine.wants_command());
}

#[test]
fn stats_that_a_deaf_backend_leaves_unanswered_are_bounded_like_other_commands() {
    let mut session = Session::running("RETR x");
    session.backend("150 Here");
    let mut taken = 0;
    while session.machine.wants_command() {
        session.client("STAT");
        taken += 1;
        assert!(taken < 100, "STATs without end");
    }
    assert_eq!(session.sent().len(), 16);
    // They have their answers, in order, when the transfer is over.
    session
        .data(PROVEN)
        .backend("226 Done")
        .data(DataEvent::Finished);
    session.actions();
    for _ in 0..taken {
        session.backend("211 Status");
    }
    assert_eq!(session.codes(), vec![211; taken]);
    assert!(session.machine.wants_command());
}

#[test]
fn a_refusal_before_the_150_is_not_taken_for_the_answer_to_stat() {
    let mut session = Session::running("STOR x");
    session.client("STAT").backend("501 Bad name");
    assert_eq!(session.verdict(), Some(Verdict::Refused));
    session.backend("211 Idle");
    assert_eq!(session.codes(), [501, 211]);
    assert_eq!(session.ending(), None);
}

#[test]
fn an_answer_to_a_stat_that_nobody_sent_completes_nothing() {
    let mut session = Session::running("RETR x");
    session.backend("150 Here").data(PROVEN).backend("211 Half");
    assert!(!session.has(&Action::FinishSink));
    assert_eq!(session.ending(), Some(Ending::BackendLost));
}

#[test]
fn noop_behind_a_transfer_command_is_answered_behind_its_first_reply() {
    for command in ["RETR x", "STOR x"] {
        let mut session = Session::running(command);
        session.client("NOOP");
        assert_eq!(session.codes(), [0; 0], "{command}");
        session.backend("550 No");
        assert_eq!(session.sent(), ["NOOP"]);
        assert_eq!(session.codes(), [550], "{command}");
        session.backend("200 N");
        assert_eq!(session.codes(), [200], "{command}");

        let mut slow = Session::running(command);
        slow.client("NOOP").client("NOOP").backend("150 Here");
        assert_eq!(slow.codes(), [150, 200, 200], "{command}");
        slow.client("NOOP");
        assert_eq!(slow.codes(), [200], "{command}");
    }
}

#[test]
fn other_commands_wait_in_order_and_quit_comes_last() {
    let mut session = Session::running("RETR x");
    session.backend("150 Here").client("NOOP");
    assert_eq!(session.codes(), [150, 200]);
    session.client("PWD").client("NOOP");
    session.event(Event::BadLine(BadLine::TooLong));
    session.client("QUIT");
    assert!(!session.machine.wants_command());
    assert_eq!(session.codes(), [0; 0]);
    session.data(PROVEN).backend("226 Done");
    session.data(DataEvent::Finished);
    assert_eq!(session.codes(), [226]);
    session.backend("257 x").backend("200 N");
    assert_eq!(session.ending(), Some(Ending::Quit));
    assert_eq!(session.codes(), [257, 200, 500, 221]);
}

#[test]
fn a_client_that_goes_aborts_the_transfer_unless_it_said_quit() {
    let mut session = Session::running("RETR x");
    session.event(Event::ClientGone);
    assert_eq!(session.sent(), ["ABOR"]);
    assert_eq!(session.ending(), Some(Ending::ClientGone));
    let mut quit = Session::running("STOR x");
    quit.client("QUIT").event(Event::ClientGone).data(PROVEN);
    quit.event(Event::Expired);
    assert!(quit.has(&Action::FinishSink));
    quit.data(DataEvent::Finished).backend("226 Done");
    assert_eq!(quit.ending(), Some(Ending::Quit));
}

#[test]
fn what_a_client_said_before_the_end_of_its_side_is_carried_out_and_answered() {
    let mut command = Session::logged_in();
    command.client("DELE x").event(Event::ClientEnded);
    assert_eq!(command.ending(), None);
    command.backend("250 Gone");
    assert_eq!(command.codes(), [250]);
    let mut upload = Session::running("STOR x");
    upload.backend("150 Go").client("DELE y");
    upload.event(Event::ClientEnded).data(PROVEN);
    upload.event(Event::Expired).data(DataEvent::Finished);
    upload.backend("226 Done");
    assert_eq!(upload.verdict(), Some(Verdict::Complete));
    assert_eq!(upload.sent(), ["DELE y"]);
    upload.backend("250 Gone");
    assert_eq!(upload.ending(), Some(Ending::ClientGone));
    assert_eq!(upload.codes(), [150, 226, 250]);
    let mut idle = Session::logged_in();
    idle.event(Event::ClientEnded);
    assert_eq!(idle.ending(), Some(Ending::ClientGone));
    // A client that is gone gets no reply.
    let mut lost = Session::logged_in();
    lost.client("DELE x").event(Event::ClientEnded);
    lost.event(Event::ClientGone);
    assert_eq!(lost.ending(), Some(Ending::ClientGone));
}

#[test]
fn the_log_is_told_what_ended_a_transfer() {
    let outcome = |event: Event| {
        let mut session = Session::running("RETR x");
        session.backend("150 Here").event(event);
        session.outcome().expect("an ended transfer")
    };
    let said = reply("550 The disk is gone");
    assert_eq!(
        outcome(Event::Reply(said.clone())),
        Outcome::Failed(Failure::Reply(Box::new(said)))
    );
    let full = reply("421 Full");
    assert_eq!(
        outcome(Event::Reply(full.clone())),
        Outcome::Failed(Failure::Reply(Box::new(full)))
    );
    assert_eq!(
        outcome(Event::ClientGone),
        Outcome::Failed(Failure::ClientGone)
    );
    assert_eq!(
        outcome(Event::BackendGone),
        Outcome::Failed(Failure::BackendGone)
    );
    assert_eq!(
        outcome(Event::DrainOver),
        Outcome::Aborted(AbortedBy::Drain)
    );
    assert_eq!(
        outcome(Event::Terminate),
        Outcome::Aborted(AbortedBy::Operator)
    );
}

#[test]
fn a_backend_out_of_step_hears_abor_before_the_reset() {
    let mut session = Session::running("STOR x");
    session.backend("350 What?");
    let actions = session.actions();
    let lost = Record::BackendLost(Stage::Transfer, ProtocolError::UnexpectedReply);
    assert_eq!(actions[0], Action::Record(lost));
    assert_eq!(actions[1], Action::Send("ABOR\r\n".into()));
    assert_eq!(actions[2], Action::DropData);
    assert_eq!(actions.last(), Some(&Action::Close(Ending::BackendLost)));
}

#[test]
fn a_browser_led_here_during_a_transfer_cannot_make_it_look_complete() {
    let mut session = Session::running("STOR x");
    session.event(Event::BadLine(BadLine::Malformed(BadCommand::Http)));
    assert_eq!(session.sent(), ["ABOR"]);
    assert_eq!(session.ending(), Some(Ending::Abuse));
}

#[test]
fn drain_lets_the_transfer_finish_and_begins_no_other() {
    let mut idle = Session::logged_in();
    idle.event(Event::Drain);
    assert_eq!(idle.codes(), [421]);
    let mut session = Session::running("RETR x");
    session
        .backend("150 Here")
        .client("PASV")
        .event(Event::Drain);
    session.data(PROVEN).backend("226 Done");
    assert_eq!(session.ending(), None);
    session.actions();
    session.data(DataEvent::Finished);
    assert_eq!(session.sent(), [""; 0]);
    assert_eq!(session.ending(), Some(Ending::Drain));
    assert_eq!(session.codes(), [226, 421]);
    let mut over = Session::running("STOR x");
    over.event(Event::DrainOver);
    assert_eq!(over.sent(), ["ABOR"]);
    assert_eq!(over.codes(), [421]);
}

#[test]
fn drain_waits_for_no_login_and_no_data_port() {
    let mut password = Session::implicit();
    password.client("USER alice").dialled(false);
    password.backend("331 Password").client("PASS secret");
    let mut port = Session::logged_in();
    port.client("PASV");
    let mut again = Session::logged_in();
    again.client("USER other@b.lab");
    for mut session in [password, port, again] {
        session.actions();
        assert!(session.machine.ends_with_drain());
        session.event(Event::Drain);
        assert_eq!(session.ending(), Some(Ending::Drain));
        assert_eq!(session.codes(), [421]);
    }
}

#[test]
fn drain_waits_for_the_reply_to_a_command_but_not_for_long() {
    let mut answered = Session::logged_in();
    answered.client("PWD").event(Event::Drain);
    assert_eq!(answered.ending(), None);
    answered.backend("257 /");
    assert_eq!(answered.codes(), [257, 421]);
    let mut silent = Session::logged_in();
    silent.client("PWD");
    let before = silent.machine.clock();
    silent.event(Event::Drain);
    assert_ne!(silent.machine.clock(), before);
    let limit = Deadline::After(Duration::from_secs(10));
    assert_eq!(silent.machine.deadline(), limit);
    silent.event(Event::Expired);
    assert_eq!(silent.ending(), Some(Ending::Drain));
    assert_eq!(silent.codes(), [421]);
}

#[test]
fn an_operator_ends_a_session_whatever_it_does() {
    for mut session in [
        Session::explicit(),
        Session::implicit(),
        Session::logged_in(),
    ] {
        session.event(Event::Terminate);
        assert_eq!(session.ending(), Some(Ending::Terminated));
        assert_eq!(session.codes(), [421]);
    }
    for transfer in ["STOR x", "RETR x", "LIST"] {
        for mut session in [Session::opening(transfer), Session::running(transfer)] {
            session.event(Event::Terminate);
            assert!(session.has(&Action::DropData));
            assert_eq!(session.verdict(), Some(Verdict::Aborted));
            assert_eq!(session.ending(), Some(Ending::Terminated));
            assert_eq!(session.codes(), [421]);
        }
    }
    // Queued commands are not taken up.
    let mut session = Session::running("STOR x");
    session.client("NOOP").client("RETR y").actions();
    session.event(Event::Terminate).event(Event::Terminate);
    assert_eq!(session.sent(), ["ABOR"]);
    assert_eq!(session.codes(), [421]);
}

#[test]
fn whatever_a_backend_says_between_the_command_and_the_end_is_passed_on() {
    let mut session = Session::running("LIST");
    session
        .backend("125 Open")
        .backend("150 Again")
        .data(PROVEN);
    session.backend("250 Listed").data(DataEvent::Finished);
    assert_eq!(session.replies(), ["125 Open", "150 Again", "250 Listed"]);
    let mut without = Session::running("LIST");
    without.backend("226 Nothing there").data(PROVEN);
    without.data(DataEvent::Finished);
    assert_eq!(without.codes(), [226]);
    assert_eq!(without.ending(), None);
}

#[test]
fn a_200_before_the_150_says_nothing_about_the_end() {
    for transfer in ["LIST", "STOR x"] {
        let mut session = Session::running(transfer);
        session.backend("200 Fine").backend("150 Here").data(PROVEN);
        assert_eq!(session.codes(), [150]);
        if transfer == "LIST" {
            assert!(!session.has(&Action::FinishSink));
            session.backend("226 Done").data(DataEvent::Finished);
        } else {
            session.event(Event::Expired);
            session.data(DataEvent::Finished).backend("226 Done");
        }
        assert_eq!(session.verdict(), Some(Verdict::Complete));
        assert_eq!(session.codes(), [226]);
    }
}

#[test]
fn a_transfer_without_a_data_port_is_425() {
    let mut session = Session::logged_in();
    for line in ["RETR x", "STOR x", "STOU", "APPE x", "LIST", "NLST", "MLSD"] {
        assert_eq!(session.answer(line), 425, "{line}");
    }
}

#[test]
fn where_data_has_to_be_private_a_transfer_without_prot_p_is_521() {
    let config = SessionConfig {
        data_required: true,
        ..session_config()
    };
    let mut session = Session::of(Machine::explicit(config.clone()));
    session.secured("AUTH TLS", None).client("USER al");
    session.dialled(false).backend("230 In").client("EPSV");
    session.backend("229 x (|||2000|)");
    session.prepared(PreparedPort::Passive(5000)).actions();
    for line in ["RETR x", "STOR x", "LIST", "MLSD"] {
        assert_eq!(session.answer(line), 521, "{line}");
    }
    assert_eq!(session.answer("PBSZ 0"), 200);
    assert_eq!(session.answer("PROT C"), 534);
    assert_eq!(session.answer("PROT P"), 200);
    session.client("RETR x");
    assert!(session.has(&Action::OpenData {
        direction: Direction::Download,
        protection: Protection::Private
    }));
    let mut implicit = Session::implicit_with(config, None);
    assert_eq!(implicit.answer("PROT C"), 534);
    assert_eq!(
        implicit.machine.cx.security.protection(),
        Protection::Private
    );
}

#[test]
fn the_idle_clock_stands_still_during_a_transfer() {
    let mut session = Session::running("RETR x");
    assert_eq!(session.machine.wait(), Wait::Data);
    session.backend("150 Here").client("NOOP");
    assert_eq!(session.machine.wait(), Wait::Data);
    session.backend("426 Broke");
    assert_eq!(session.machine.wait(), Wait::Command);
}

/// A download that is complete but for its end here.
fn nearly_complete() -> Session {
    let mut session = Session::running("RETR x");
    session.backend("150 x");
    session.data(DataEvent::SourceEnded { proven: true });
    session.backend("226 Done").actions();
    session
}

#[test]
fn a_reply_to_a_transfer_that_comes_twice_counts_once_and_is_fenced_off_from_the_next_command() {
    let before = |session: &mut Session| {
        session.backend("226 Done").data(DataEvent::Finished);
    };
    let after = |session: &mut Session| {
        session.data(DataEvent::Finished).backend("226 Done");
    };
    for comes_again in [before, after] {
        let mut session = nearly_complete();
        comes_again(&mut session);
        assert_eq!(session.verdict(), Some(Verdict::Complete));
        assert_eq!(session.sent(), ["NOOP"]);
        assert_eq!(session.replies(), ["226 Done"]);
        assert!(!session.machine.wants_command());
        session.backend("226 Done").backend("200 Ok");
        assert_eq!(session.actions(), []);
        assert!(session.machine.wants_command());
        // It is known now, and the second one may come late.
        session.client("EPSV").backend("229 x (|||2000|)");
        session.prepared(PreparedPort::Passive(5000)).client("LIST");
        session.data(DataEvent::BackendOpen).backend("150 x");
        session.data(DataEvent::SourceEnded { proven: true });
        session.backend("226 Done").actions();
        session.data(DataEvent::Finished);
        assert_eq!(session.sent(), ["NOOP"]);
        session.backend("200 Ok").actions();
        session.client("PWD").backend("257 x");
        assert_eq!(session.replies(), ["257 x"]);
    }
}

#[test]
fn a_refusal_of_a_transfer_may_come_twice_as_well() {
    let mut session = Session::running("RETR x");
    session
        .backend("550 No such file")
        .backend("550 No such file");
    assert_eq!(session.sent(), ["NOOP"]);
    assert_eq!(session.replies(), ["550 No such file"]);
    session.backend("200 Ok").client("PWD");
    assert_eq!(session.sent(), ["PWD"]);
}

#[test]
fn another_second_reply_ends_the_session_and_not_the_transfer() {
    let mut session = nearly_complete();
    session.backend("250 Also").data(DataEvent::Finished);
    assert_eq!(session.verdict(), Some(Verdict::Complete));
    assert!(session.has(&Action::Record(Record::BackendLost(
        Stage::Command,
        ProtocolError::UnsolicitedReply
    ))));
    assert_eq!(
        session.replies()[..],
        ["226 Done", "421 The connection to the site was lost."]
    );
    let mut late = nearly_complete();
    late.data(DataEvent::Finished).backend("250 Also");
    assert_eq!(late.verdict(), Some(Verdict::Complete));
    assert_eq!(late.ending(), Some(Ending::BackendLost));
    // And so does the same one, once something else has been asked.
    let mut asked = nearly_complete();
    asked
        .data(DataEvent::Finished)
        .client("PWD")
        .backend("257 x");
    asked.backend("226 Done");
    assert_eq!(asked.ending(), Some(Ending::BackendLost));
}

#[test]
fn a_backend_that_says_the_same_without_end_is_given_up() {
    let mut session = nearly_complete();
    session.backend("226 Done").data(DataEvent::Finished);
    let mut again = nearly_complete();
    for _ in 0..4 {
        session.backend("226 Done");
        again.backend("226 Done");
    }
    assert_eq!(session.ending(), Some(Ending::BackendLost));
    assert_eq!(again.ending(), Some(Ending::BackendLost));
}
