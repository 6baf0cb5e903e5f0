//! Records that the tests of all formats render.

use std::time::Duration;

use crate::base::{GlobalSessionId, InstanceId, SessionId};
use crate::config::TlsVersion;
use crate::observe::transfer_log::record::{DataTls, Event, LogRecord, Transfer};
use crate::outcome::{DataMode, Direction, HashedPart, Representation, Verdict};

/// Complete, under TLS, in a known directory.
pub fn upload() -> LogRecord<'static> {
    LogRecord {
        time: "2026-11-29T07:59:10.25Z".parse().expect("a time"),
        session: GlobalSessionId {
            instance: InstanceId::of(42),
            session: SessionId(7),
        },
        client: "192.0.2.7:50000".parse().expect("an address"),
        server: "203.0.113.10:21".parse().expect("an address"),
        site: "ftpb",
        host: Some("ftpb.albigi.lab"),
        user: b"alice",
        backend: Some("10.0.0.11:990".parse().expect("an address")),
        backend_name: Some("be1"),
        tls: Some(TlsVersion::V1_3),
        command: "STOR",
        path: b"x y.csv",
        full_path: Some(b"/in/2026/x y.csv"),
        reply: Some(226),
        event: Event::Transfer(Transfer {
            direction: Direction::Upload,
            verdict: Verdict::Complete,
            reason: None,
            bytes: 70_000,
            offset: 0,
            duration: Duration::from_millis(2_345),
            first_byte: Some(Duration::from_millis(12)),
            representation: Representation::Binary,
            mode: DataMode::Passive,
            data_tls: DataTls::Resumed,
            sha256: Some([0xab; 32]),
            hashed_part: HashedPart::File,
        }),
    }
}

/// A record of an anonymous user over IPv6, in clear text, in an unknown directory.
pub fn broken_download() -> LogRecord<'static> {
    LogRecord {
        client: "[2001:db8::7]:50000".parse().expect("an address"),
        server: "[2001:db8::1]:990".parse().expect("an address"),
        site: "ftpa",
        host: None,
        user: b"anonymous",
        tls: None,
        command: "RETR",
        path: "old\u{e9}".as_bytes(),
        full_path: None,
        reply: Some(426),
        event: Event::Transfer(Transfer {
            direction: Direction::Download,
            verdict: Verdict::FailedClient,
            reason: Some("client's data connection broke"),
            bytes: 1_000,
            offset: 5,
            duration: Duration::from_millis(499),
            first_byte: None,
            representation: Representation::Ascii,
            mode: DataMode::Active,
            data_tls: DataTls::Off,
            sha256: None,
            hashed_part: HashedPart::Wire,
        }),
        ..upload()
    }
}

pub fn listing() -> LogRecord<'static> {
    of_transfer("LIST", Direction::Listing, Verdict::Complete)
}

pub fn refused() -> LogRecord<'static> {
    of_transfer("RETR", Direction::Download, Verdict::Refused)
}

pub fn deletion() -> LogRecord<'static> {
    LogRecord {
        command: "DELE",
        path: b"gone",
        full_path: Some(b"/in/gone"),
        reply: Some(250),
        event: Event::Change { renamed: None },
        ..upload()
    }
}

pub fn rename() -> LogRecord<'static> {
    LogRecord {
        command: "RNTO",
        path: b"new",
        full_path: Some(b"/in/new"),
        reply: Some(250),
        event: Event::Change {
            renamed: Some((b"old", Some(b"/in/old"))),
        },
        ..upload()
    }
}

fn of_transfer(
    command: &'static str,
    direction: Direction,
    verdict: Verdict,
) -> LogRecord<'static> {
    let mut record = LogRecord {
        command,
        ..upload()
    };
    if let Event::Transfer(transfer) = &mut record.event {
        transfer.direction = direction;
        transfer.verdict = verdict;
    }
    record
}
