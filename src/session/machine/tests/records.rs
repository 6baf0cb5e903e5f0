//! Tests of the records of transfers and of changed files: paths from the root where they are certain, offsets, types, replies.

use super::*;
use crate::outcome::{DataMode, HashedPart, Representation};

impl Session {
    /// A command with the reply of its backend.
    pub(super) fn ask(&mut self, line: &str, reply: &str) -> &mut Self {
        self.client(line).backend(reply)
    }

    fn changes(&mut self) -> Vec<FileChange> {
        let actions = self.actions().into_iter();
        let changes = actions.filter_map(|action| match action {
            Action::Record(Record::FileChanged(change)) => Some(*change),
            _ => None,
        });
        changes.collect()
    }

    fn details(&mut self) -> TransferDetails {
        let actions = self.actions().into_iter();
        let mut all = actions.filter_map(|action| match action {
            Action::Record(Record::Transfer { details, .. }) => Some(*details),
            _ => None,
        });
        all.next().expect("a transfer has ended")
    }

    /// A transfer to its end, behind what came before.
    pub(super) fn transfer(&mut self, line: &str) -> TransferDetails {
        self.client("EPSV").backend("229 x (|||2000|)");
        self.prepared(PreparedPort::Passive(5000)).client(line);
        self.connected(line).backend("150 go");
        self.data(DataEvent::SourceEnded { proven: true });
        if command(line).verb().transfer() == Some(Direction::Upload) {
            self.event(Event::Expired);
            self.data(DataEvent::Finished).backend("226 done");
        } else {
            self.backend("226 done").data(DataEvent::Finished);
        }
        self.details()
    }
}

fn path(change: &FileChange) -> Option<String> {
    let path = change.directory.path_in(&change.command)?;
    Some(String::from_utf8(path).expect("text"))
}

#[test]
fn an_accepted_change_is_recorded_with_its_path() {
    for (line, reply, path_is) in [
        ("DELE x", "250 gone", Some("/in/x")),
        ("MKD sub", "257 \"/in/sub\" made", Some("/in/sub")),
        ("XMKD sub", "257 made", Some("/in/sub")),
        ("RMD /old", "250 gone", Some("/old")),
        ("SITE CHMOD 644 x", "200 done", None),
    ] {
        let mut session = Session::logged_in();
        session.ask("PWD", "257 \"/\" here").ask("CWD in", "250 ok");
        session.ask(line, reply);
        let changes = session.changes();
        let [change] = &changes[..] else {
            panic!("{line}: {changes:?}")
        };
        assert_eq!(change.command, command(line));
        assert_eq!(path(change).as_deref(), path_is, "{line}");
        assert_eq!(change.renamed, None);
    }
}

#[test]
fn a_refused_change_is_not_recorded() {
    for line in ["DELE x", "MKD x", "RMD x", "SITE CHMOD 644 x", "RNTO x"] {
        let mut session = Session::logged_in();
        session.ask(line, "550 no");
        assert_eq!(session.changes(), [], "{line}");
    }
}

#[test]
fn a_rename_is_one_record_with_both_names() {
    let mut session = Session::logged_in();
    session.ask("PWD", "257 \"/in\"").ask("RNFR a", "350 and?");
    session.ask("RNTO b", "250 renamed");
    let changes = session.changes();
    let [change] = &changes[..] else {
        panic!("{changes:?}")
    };
    assert_eq!(path(change).as_deref(), Some("/in/b"));
    let (from, directory) = change.renamed.as_ref().expect("a first name");
    assert_eq!(from, &command("RNFR a"));
    assert_eq!(directory.path(), Some(&b"/in"[..]));
    // It holds for one RNTO.
    session.ask("RNTO c", "250 renamed");
    assert_eq!(session.changes()[0].renamed, None);
}

#[test]
fn the_directory_is_unknown_until_the_server_says_it_and_after_another_login() {
    let mut session = Session::logged_in();
    assert_eq!(
        session.ask("DELE x", "250 gone").changes()[0]
            .directory
            .path(),
        None
    );
    session.ask("PWD", "257 \"/home\"").ask("CDUP", "200 up");
    assert_eq!(
        session.ask("DELE x", "250 gone").changes()[0]
            .directory
            .path(),
        Some(&b"/"[..])
    );
    session.client("USER bob").backend("230 In");
    assert_eq!(
        session.ask("DELE x", "250 gone").changes()[0]
            .directory
            .path(),
        None
    );
}

#[test]
fn another_file_system_is_another_directory() {
    let mut session = Session::logged_in();
    session
        .ask("PWD", "257 \"/home\"")
        .ask("SMNT x", "250 mounted");
    assert_eq!(session.transfer("RETR x").directory.path(), None);
}

#[test]
fn a_transfer_is_recorded_with_type_offset_and_reply() {
    let mut session = Session::logged_in();
    let whole = session.transfer("RETR x");
    assert_eq!(whole.representation, Representation::Ascii);
    assert_eq!((whole.offset, whole.hashed_part), (0, HashedPart::Wire));
    assert_eq!((whole.mode, whole.reply), (DataMode::Passive, Some(226)));
    assert_eq!(whole.protection, Protection::Private);

    session.ask("TYPE I", "200 ok");
    assert_eq!(session.transfer("RETR x").hashed_part, HashedPart::File);
    session.ask("REST 100", "350 go on");
    let tail = session.transfer("RETR x");
    assert_eq!((tail.offset, tail.hashed_part), (100, HashedPart::Tail));
    assert_eq!(tail.representation, Representation::Binary);
    assert_eq!(session.transfer("APPE x").hashed_part, HashedPart::Tail);
    assert_eq!(session.transfer("LIST").hashed_part, HashedPart::Wire);
    assert_eq!(session.transfer("STOR x").hashed_part, HashedPart::File);
    session.ask("RANG 5 10", "350 go on");
    let range = session.transfer("RETR x");
    assert_eq!((range.offset, range.hashed_part), (5, HashedPart::Range));
    session.ask("MODE Z", "200 ok");
    assert_eq!(session.transfer("STOR x").hashed_part, HashedPart::Wire);
}

#[test]
fn an_offset_outlasts_a_listing() {
    let mut session = Session::logged_in();
    session.ask("TYPE I", "200 ok");
    session.ask("REST 100", "350 go on");
    assert_eq!(session.transfer("LIST").offset, 0);
    let tail = session.transfer("RETR x");
    assert_eq!((tail.offset, tail.hashed_part), (100, HashedPart::Tail));
    assert_eq!(session.transfer("RETR x").offset, 0);
}

#[test]
fn a_download_has_the_size_that_its_server_has_said_by_size_before() {
    let size_shown = |asked: &[(&str, &str)], line: &str, begun: &str| {
        let mut session = Session::logged_in();
        for (line, reply) in asked {
            session.ask(line, reply);
        }
        session.client("EPSV").backend("229 x (|||2000|)");
        session.prepared(PreparedPort::Passive(5000)).client(line);
        session.connected(line).backend(begun);
        session
            .actions()
            .into_iter()
            .find_map(|action| match action {
                Action::TransferSize(size) => Some(size),
                _ => None,
            })
    };
    let binary = ("TYPE I", "200 ok");
    let said = ("SIZE x", "213 1000");
    let begun = "125 Transfer starting.";
    for (asked, line, begun, shown) in [
        (vec![binary, said], "RETR x", begun, Some(1000)),
        (
            vec![binary, ("size x", "213  1000 ")],
            "RETR x",
            begun,
            Some(1000),
        ),
        (
            vec![binary, said, ("PWD", "257 \"/\""), ("REST 300", "350 ok")],
            "RETR x",
            begun,
            Some(700),
        ),
        (vec![binary, said, binary], "RETR x", begun, Some(1000)),
        // The reply to the transfer is newer.
        (vec![binary, said], "RETR x", "150 x (999 bytes)", Some(999)),
        (
            vec![binary, said, ("SIZE y", "213 5")],
            "RETR x",
            begun,
            None,
        ),
        (
            vec![binary, said, ("SIZE x", "550 no")],
            "RETR x",
            begun,
            None,
        ),
        (vec![binary, said], "RETR y", begun, None),
        (vec![binary, said], "LIST x", begun, None),
        (vec![binary, said], "STOR x", begun, None),
        (vec![said], "RETR x", begun, None),
        (
            vec![binary, said, ("TYPE A", "200 ok")],
            "RETR x",
            begun,
            None,
        ),
        (
            vec![binary, said, ("CWD in", "250 ok")],
            "RETR x",
            begun,
            None,
        ),
        (
            vec![binary, said, ("DELE x", "250 ok")],
            "RETR x",
            begun,
            None,
        ),
        (
            vec![binary, said, ("MODE Z", "200 ok")],
            "RETR x",
            begun,
            None,
        ),
        (
            vec![binary, said, ("REST 2000", "350 ok")],
            "RETR x",
            begun,
            None,
        ),
        (
            vec![binary, said, ("RANG 1 5", "350 ok")],
            "RETR x",
            begun,
            None,
        ),
        (vec![binary, ("SIZE x", "213 big")], "RETR x", begun, None),
        (vec![binary, ("SIZE x", "250 1000")], "RETR x", begun, None),
    ] {
        assert_eq!(size_shown(&asked, line, begun), shown, "{asked:?} {line}");
    }
    let mut session = Session::logged_in();
    session.ask("TYPE I", "200 ok").ask("SIZE x", "213 1000");
    session.transfer("STOR x");
    session.client("EPSV").backend("229 x (|||2000|)");
    session
        .prepared(PreparedPort::Passive(5000))
        .client("RETR x");
    session.connected("RETR x").backend(begun);
    assert!(!session.has(&Action::TransferSize(1000)));
}

#[test]
fn a_type_that_was_set_before_the_login_counts() {
    let mut session = Session::implicit();
    session.client("TYPE I").client("USER al").dialled(false);
    session.backend("230 In").backend("200 binary");
    session.actions();
    let transfer = session.transfer("RETR x");
    assert_eq!(transfer.representation, Representation::Binary);
}

#[test]
fn a_transfer_that_ends_without_a_reply_has_none() {
    let mut session = Session::running("RETR x");
    session.event(Event::DrainOver);
    assert_eq!(session.details().reply, None);
    let mut session = Session::running("RETR x");
    session.backend("550 no such file");
    assert_eq!(session.details().reply, Some(550));
    let mut session = Session::running("STOR x");
    session
        .client("ABOR")
        .backend("426 cut")
        .backend("226 aborted");
    session.backend("200 noop");
    assert_eq!(session.details().reply, Some(426));
}

#[test]
fn the_first_event_that_a_state_cannot_take_is_recorded_and_none_that_may_follow_from_it() {
    let mut session = Session::logged_in();
    session.actions();
    for event in ["SiteFull", "Maintenance"] {
        session.machine.cx.record_unexpected("Ready", event);
    }
    let record = Record::Unexpected {
        state: "Ready",
        event: "SiteFull".to_owned(),
    };
    let machine = &mut session.machine;
    assert_eq!(machine.next_action(), Some(Action::Record(record)));
    assert_eq!(machine.next_action(), None);
}
