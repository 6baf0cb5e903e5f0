//! W3C extended, as IIS writes it for FTP: all its 21 fields, in its order, with times in UTC.
//!
//! IIS has a line for each command; here are those that transfer or change files. Blanks in a value are `+`, as there; controls,
//! what isn't UTF-8, and `+` and `%` themselves are `%XX`, so that each value can be read back; `-` is a value that is missing.

use std::fmt::Write;
use std::net::IpAddr;

use jiff::Timestamp;

use crate::base::text::is_printable;
use crate::observe::transfer_log::record::{Event, LogRecord};
use crate::outcome::Direction;

/// The fields, in the order in which IIS writes them.
const FIELDS: &str = "date time c-ip c-port cs-username s-sitename s-computername cs-host s-ip s-port cs-method cs-uri-stem \
                      sc-status sc-win32-status sc-substatus sc-bytes cs-bytes time-taken x-session x-fullpath x-debug";

/// The header in front of the first line of a file.
pub(in crate::observe::transfer_log) fn header(now: Timestamp) -> Vec<u8> {
    format!(
        "#Software: Portcullis {}\n#Version: 1.0\n#Date: {}\n#Fields: {FIELDS}\n",
        env!("CARGO_PKG_VERSION"),
        now.strftime("%Y-%m-%d %H:%M:%S"),
    )
    .into_bytes()
}

/// The line of a record, with its ending; `computer` is this machine's name.
pub(in crate::observe::transfer_log) fn line(record: &LogRecord<'_>, computer: &str) -> Vec<u8> {
    let mut line = record.time.strftime("%Y-%m-%d %H:%M:%S").to_string();
    let (sent, received, taken, debug) = match &record.event {
        Event::Transfer(transfer) => {
            let (sent, received) = match transfer.direction {
                Direction::Upload => (0, transfer.bytes),
                Direction::Download | Direction::Listing => (transfer.bytes, 0),
            };
            let taken = transfer.duration.as_millis();
            let debug = transfer.reason.map(|reason| reason.as_bytes().to_vec());
            (sent, received, taken, debug)
        }
        Event::Change { renamed } => {
            let debug =
                renamed.map(|(from, full)| [b"renamed from ", full.unwrap_or(from)].concat());
            (0, 0, 0, debug)
        }
    };
    let values = [
        Value::Address(record.client.ip()),
        Value::Number(record.client.port().into()),
        Value::Text(record.user),
        Value::Text(record.site.as_bytes()),
        Value::Text(computer.as_bytes()),
        Value::Text(record.host.unwrap_or_default().as_bytes()),
        Value::Address(record.server.ip()),
        Value::Number(record.server.port().into()),
        Value::Text(record.command.as_bytes()),
        Value::Text(record.path),
        record
            .reply
            .map_or(Value::Text(b""), |code| Value::Number(code.into())),
        Value::Number(0),
        Value::Number(0),
        Value::Number(sent.into()),
        Value::Number(received.into()),
        Value::Number(taken),
    ];
    for value in values {
        value.push_to(&mut line);
    }
    let session = record.session.to_string();
    Value::Text(session.as_bytes()).push_to(&mut line);
    Value::Text(record.full_path.unwrap_or_default()).push_to(&mut line);
    Value::Text(debug.as_deref().unwrap_or_default()).push_to(&mut line);
    line.push('\n');
    line.into_bytes()
}

/// The value of a field.
enum Value<'a> {
    Address(IpAddr),
    Number(u128),
    Text(&'a [u8]),
}

impl Value<'_> {
    fn push_to(&self, line: &mut String) {
        // A String takes whatever is written.
        let _ = match self {
            Self::Address(address) => write!(line, " {address}"),
            Self::Number(number) => write!(line, " {number}"),
            Self::Text(b"") => write!(line, " -"),
            Self::Text(b"-") => write!(line, " %2D"),
            Self::Text(text) => {
                line.push(' ');
                push_text(line, text);
                Ok(())
            }
        };
    }
}

fn push_text(line: &mut String, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                ' ' => line.push('+'),
                '+' | '%' => push_bytes(line, &[character as u8]),
                plain if is_printable(plain) && !plain.is_whitespace() => line.push(plain),
                other => push_bytes(line, other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        push_bytes(line, chunk.invalid());
    }
}

fn push_bytes(line: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // A String takes whatever is written.
        let _ = write!(line, "%{byte:02X}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples;
    use super::*;

    fn text(record: &LogRecord<'_>) -> String {
        String::from_utf8(line(record, "edge 1")).expect("UTF-8")
    }

    /// The text that a value stands for.
    fn decoded(value: &str) -> Vec<u8> {
        if value == "-" {
            return Vec::new();
        }
        let mut bytes = value.bytes();
        let mut decoded = Vec::new();
        while let Some(byte) = bytes.next() {
            decoded.push(match byte {
                b'+' => b' ',
                b'%' => {
                    let digits = [bytes.next(), bytes.next()].map(|it| it.expect("two digits"));
                    let digits = std::str::from_utf8(&digits).expect("ASCII");
                    u8::from_str_radix(digits, 16).expect("hexadecimal")
                }
                byte => byte,
            });
        }
        decoded
    }

    #[test]
    fn a_file_begins_with_what_its_lines_mean() {
        let now = "2026-11-29T07:59:10.25Z".parse().expect("a time");
        let header = String::from_utf8(header(now)).expect("text");
        let lines: Vec<&str> = header.lines().collect();
        assert_eq!(
            lines[0],
            concat!("#Software: Portcullis ", env!("CARGO_PKG_VERSION"))
        );
        assert_eq!(lines[1], "#Version: 1.0");
        assert_eq!(lines[2], "#Date: 2026-11-29 07:59:10");
        assert_eq!(lines[3], format!("#Fields: {FIELDS}"));
        assert_eq!(FIELDS.split(' ').count(), 21);
    }

    #[test]
    fn lines_have_the_fields_of_iis() {
        assert_eq!(
            text(&samples::upload()),
            "2026-11-29 07:59:10 192.0.2.7 50000 alice ftpb edge+1 ftpb.albigi.lab 203.0.113.10 21 STOR x+y.csv 226 0 0 0 \
             70000 2345 000000000000002a-7 /in/2026/x+y.csv -\n"
        );
        assert_eq!(
            text(&samples::broken_download()),
            "2026-11-29 07:59:10 2001:db8::7 50000 anonymous ftpa edge+1 - 2001:db8::1 990 RETR old\u{e9} 426 0 0 1000 0 499 \
             000000000000002a-7 - client's+data+connection+broke\n"
        );
        assert_eq!(
            text(&samples::rename()),
            "2026-11-29 07:59:10 192.0.2.7 50000 alice ftpb edge+1 ftpb.albigi.lab 203.0.113.10 21 RNTO new 250 0 0 0 0 0 \
             000000000000002a-7 /in/new renamed+from+/in/old\n"
        );
    }

    proptest! {
        #[test]
        fn any_name_leaves_21_fields_of_one_line_and_can_be_read_back(
            path in proptest::collection::vec(any::<u8>(), 0..300),
            user in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let record = LogRecord { path: &path, user: &user, ..samples::upload() };
            let line = text(&record);
            prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
            let fields: Vec<&str> = line.trim_end_matches('\n').split(' ').collect();
            prop_assert_eq!(fields.len(), 21);
            prop_assert!(fields.iter().all(|field| !field.is_empty()));
            prop_assert_eq!(decoded(fields[4]), user);
            prop_assert_eq!(decoded(fields[11]), path);
        }
    }
}
