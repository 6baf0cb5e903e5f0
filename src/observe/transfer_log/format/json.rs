//! JSON lines: an object a line, with all that is known.
//!
//! Names are text as the log has them (`base::text`): what isn't UTF-8 or doesn't print is `\xNN`, byte by byte, here of any
//! length. A field that has no value is `null`, so that each line of an event has the same fields.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::base::text::escape_whole;
use crate::config::TlsVersion;
use crate::observe::transfer_log::record::{Event, LogRecord, Sha256, Transfer};

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    event: &'static str,
    id: String,
    session: u64,
    client: SocketAddr,
    server: SocketAddr,
    site: &'a str,
    host: Option<&'a str>,
    user: String,
    backend: Option<SocketAddr>,
    backend_name: Option<&'a str>,
    command: &'a str,
    path: String,
    full_path: Option<String>,
    reply: Option<u16>,
    #[serde(flatten)]
    event_fields: EventFields<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum EventFields<'a> {
    Transfer(TransferFields<'a>),
    Change(ChangeFields),
}

#[derive(Serialize)]
struct TransferFields<'a> {
    direction: &'static str,
    verdict: &'static str,
    cause: Option<&'a str>,
    bytes: u64,
    offset: u64,
    duration_ms: u64,
    first_byte_ms: Option<u64>,
    #[serde(rename = "type")]
    representation: &'static str,
    mode: &'static str,
    tls: TlsFields,
    #[serde(flatten)]
    hash: Option<HashFields>,
}

#[derive(Serialize)]
struct TlsFields {
    version: Option<&'static str>,
    data: bool,
    resumed: Option<bool>,
}

#[derive(Serialize)]
struct HashFields {
    sha256: Option<String>,
    sha256_of: Option<&'static str>,
}

#[derive(Serialize)]
struct ChangeFields {
    renamed_from: Option<String>,
    full_renamed_from: Option<String>,
}

/// The line of a record, with its ending; with the hash of the content if `sha256`.
pub(in crate::observe::transfer_log) fn line(record: &LogRecord<'_>, sha256: bool) -> Vec<u8> {
    let line = Line {
        time: record.time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        event: match record.event {
            Event::Transfer(_) => "transfer",
            Event::Change { .. } => "change",
        },
        id: record.session.to_string(),
        session: record.session.session.0,
        client: record.client,
        server: record.server,
        site: record.site,
        host: record.host,
        user: escape_whole(record.user),
        backend: record.backend,
        backend_name: record.backend_name,
        command: record.command,
        path: escape_whole(record.path),
        full_path: record.full_path.map(escape_whole),
        reply: record.reply,
        event_fields: match &record.event {
            Event::Transfer(transfer) => {
                EventFields::Transfer(transfer_fields(transfer, record.tls, sha256))
            }
            Event::Change { renamed } => EventFields::Change(ChangeFields {
                renamed_from: renamed.map(|(from, _)| escape_whole(from)),
                full_renamed_from: renamed.and_then(|(_, full)| full.map(escape_whole)),
            }),
        },
    };
    let mut bytes = serde_json::to_vec(&line)
        .expect("invariant: text and numbers are JSON, and a vector takes everything");
    bytes.push(b'\n');
    bytes
}

fn transfer_fields<'a>(
    transfer: &Transfer<'a>,
    version: Option<TlsVersion>,
    sha256: bool,
) -> TransferFields<'a> {
    TransferFields {
        direction: transfer.direction.as_str(),
        verdict: transfer.verdict.as_str(),
        cause: transfer.reason,
        bytes: transfer.bytes,
        offset: transfer.offset,
        duration_ms: milliseconds(transfer.duration),
        first_byte_ms: transfer.first_byte.map(milliseconds),
        representation: transfer.representation.as_str(),
        mode: transfer.mode.as_str(),
        tls: TlsFields {
            version: version.map(TlsVersion::as_str),
            data: transfer.data_tls.is_private(),
            resumed: transfer.data_tls.resumed(),
        },
        hash: sha256.then(|| HashFields {
            sha256: transfer.sha256.as_ref().map(hexadecimal),
            sha256_of: transfer.sha256.map(|_| transfer.hashed_part.as_str()),
        }),
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn hexadecimal(hash: &Sha256) -> String {
    let mut text = String::with_capacity(2 * hash.len());
    for byte in hash {
        // A String takes whatever is written.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::samples;
    use super::*;
    use crate::base::text::read_back;

    fn text(record: &LogRecord<'_>, sha256: bool) -> String {
        String::from_utf8(line(record, sha256)).expect("JSON is UTF-8")
    }

    #[test]
    fn an_upload_is_told_with_all_that_is_known() {
        let expected = concat!(
            r#"{"time":"2026-11-29T07:59:10.250Z","event":"transfer","id":"000000000000002a-7","session":7,"#,
            r#""client":"192.0.2.7:50000","server":"203.0.113.10:21","site":"ftpb","host":"ftpb.albigi.lab","#,
            r#""user":"alice","backend":"10.0.0.11:990","backend_name":"be1","command":"STOR","path":"x y.csv","full_path":"/in/2026/x y.csv","#,
            r#""reply":226,"direction":"upload","verdict":"complete","cause":null,"bytes":70000,"offset":0,"duration_ms":2345,"#,
            r#""first_byte_ms":12,"type":"binary","mode":"passive","tls":{"version":"1.3","data":true,"resumed":true},"#,
            r#""sha256":"abababababababababababababababababababababababababababababababab","sha256_of":"file"}"#,
            "\n",
        );
        assert_eq!(text(&samples::upload(), true), expected);
        let without = text(&samples::upload(), false);
        assert!(!without.contains("sha256"), "{without}");
    }

    #[test]
    fn a_transfer_that_is_not_complete_has_its_cause_and_no_hash() {
        let line = text(&samples::broken_download(), true);
        let line: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line["verdict"], "failed_client");
        assert_eq!(line["cause"], "client's data connection broke");
        assert_eq!(line["sha256"], Value::Null);
        assert_eq!(line["sha256_of"], Value::Null);
        assert_eq!(line["full_path"], Value::Null);
        assert_eq!(line["tls"]["resumed"], Value::Null);
        assert_eq!(line["reply"], 426);
    }

    #[test]
    fn a_rename_has_both_names() {
        let line = text(&samples::rename(), true);
        let line: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line["event"], "change");
        assert_eq!(line["command"], "RNTO");
        assert_eq!(line["renamed_from"], "old");
        assert_eq!(line["full_renamed_from"], "/in/old");
        assert_eq!(line["full_path"], "/in/new");
        assert!(line.get("sha256").is_none());
    }

    proptest! {
        #[test]
        fn any_name_is_one_line_and_can_be_read_back(
            path in proptest::collection::vec(any::<u8>(), 0..300),
            user in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let record = LogRecord { path: &path, user: &user, ..samples::upload() };
            let line = text(&record, true);
            prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
            let line: Value = serde_json::from_str(&line).expect("JSON");
            prop_assert_eq!(read_back(line["path"].as_str().expect("text")), path);
            prop_assert_eq!(read_back(line["user"].as_str().expect("text")), user);
        }
    }
}
