//! xferlog(5), as ProFTPD and wu-ftpd write it: fourteen fields with one blank between them.
//!
//! ```text
//! Sun Nov 29 07:59:10 2026 2 192.0.2.7 70000 /in/x_y.csv b _ i r alice ftp 0 * c
//! ```
//!
//! The time has the form of ctime(3): a day of one digit stands behind two blanks, so the fields are told apart by columns there.
//!
//! Listings have no line, and neither has what the server refused. A deletion is one of direction `d`, as in ProFTPD. Blanks,
//! controls and what isn't UTF-8 become `_` in names.

use std::borrow::Cow;

use jiff::tz::TimeZone;

use crate::base::text::is_printable;
use crate::observe::transfer_log::record::{Event, LogRecord};
use crate::outcome::{Direction, Representation, Verdict};

/// The line of a record, with its ending, at the local time of this zone; `None` if the format has none for it.
pub(in crate::observe::transfer_log) fn line(
    record: &LogRecord<'_>,
    zone: &TimeZone,
) -> Option<Vec<u8>> {
    let (seconds, bytes, direction, completion, representation) = match &record.event {
        Event::Transfer(transfer) => {
            let direction = match (transfer.direction, transfer.verdict) {
                (Direction::Listing, _) | (_, Verdict::Refused) => return None,
                (Direction::Upload, _) => 'i',
                (Direction::Download, _) => 'o',
            };
            let completion = match transfer.verdict {
                Verdict::Complete => 'c',
                _ => 'i',
            };
            let seconds = (transfer.duration.as_millis() + 500) / 1000;
            (
                seconds,
                transfer.bytes,
                direction,
                completion,
                transfer.representation,
            )
        }
        Event::Change { .. } if record.command == "DELE" => {
            (0, 0, 'd', 'c', Representation::Binary)
        }
        Event::Change { .. } => return None,
    };
    let time = record.time.to_zoned_datetime(zone.clone());
    let line = format!(
        "{time} {seconds} {host} {bytes} {name} {kind} _ {direction} {access} {user} ftp 0 * {completion}\n",
        time = time.strftime("%a %b %e %H:%M:%S %Y"),
        host = record.client.ip(),
        name = word(record.full_path.unwrap_or(record.path)),
        kind = match representation {
            Representation::Ascii => 'a',
            Representation::Binary | Representation::Other => 'b',
        },
        access = if is_anonymous(record.user) { 'a' } else { 'r' },
        user = word(record.user),
    );
    Some(line.into_bytes())
}

/// A name as a field: never empty, and without blanks.
fn word(name: &[u8]) -> Cow<'_, str> {
    let is_plain = |character: char| is_printable(character) && !character.is_whitespace();
    match std::str::from_utf8(name) {
        Ok("") => "_".into(),
        Ok(text) if text.chars().all(is_plain) => text.into(),
        _ => {
            let mut masked = String::with_capacity(name.len());
            for chunk in name.utf8_chunks() {
                let valid = chunk.valid().chars();
                masked.extend(valid.map(|it| if is_plain(it) { it } else { '_' }));
                masked.extend(chunk.invalid().iter().map(|_| '_'));
            }
            masked.into()
        }
    }
}

fn is_anonymous(user: &[u8]) -> bool {
    [&b"anonymous"[..], b"ftp"]
        .iter()
        .any(|name| user.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples;
    use super::*;

    fn text(record: &LogRecord<'_>) -> Option<String> {
        line(record, &TimeZone::UTC).map(|line| String::from_utf8(line).expect("UTF-8"))
    }

    #[test]
    fn an_upload_a_broken_download_and_a_deletion_are_as_proftpd_writes_them() {
        assert_eq!(
            text(&samples::upload()).as_deref(),
            Some(
                "Sun Nov 29 07:59:10 2026 2 192.0.2.7 70000 /in/2026/x_y.csv b _ i r alice ftp 0 * c\n"
            )
        );
        assert_eq!(
            text(&samples::broken_download()).as_deref(),
            Some(
                "Sun Nov 29 07:59:10 2026 0 2001:db8::7 1000 old\u{e9} a _ o a anonymous ftp 0 * i\n"
            )
        );
        assert_eq!(
            text(&samples::deletion()).as_deref(),
            Some("Sun Nov 29 07:59:10 2026 0 192.0.2.7 0 /in/gone b _ d r alice ftp 0 * c\n")
        );
    }

    #[test]
    fn the_time_is_that_of_the_machine() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let line = line(&samples::upload(), &zone).expect("a line");
        assert!(line.starts_with(b"Sun Nov 29 09:59:10 2026 "));
        let record = LogRecord {
            time: "2026-11-05T01:02:03Z".parse().expect("a time"),
            ..samples::upload()
        };
        let line = text(&record).expect("a line");
        assert!(line.starts_with("Thu Nov  5 01:02:03 2026 "), "{line}");
    }

    #[test]
    fn what_the_format_has_no_word_for_has_no_line() {
        for record in [samples::listing(), samples::refused(), samples::rename()] {
            assert_eq!(text(&record), None, "{record:?}");
        }
    }

    proptest! {
        #[test]
        fn any_name_leaves_fourteen_fields_of_one_line(
            path in proptest::collection::vec(any::<u8>(), 0..300),
            user in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let record = LogRecord { path: &path, full_path: None, user: &user, ..samples::upload() };
            let line = text(&record).expect("a line");
            prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
            let fields: Vec<&str> = line.trim_end_matches('\n').split(' ').collect();
            // The time is one field of five words, and the day of the samples has two digits.
            prop_assert_eq!(fields.len(), 5 + 13);
            prop_assert!(fields.iter().all(|field| !field.is_empty()));
            prop_assert_eq!(fields[5..8].join(" "), "2 192.0.2.7 70000");
            prop_assert_eq!(&fields[9..12], ["b", "_", "i"]);
            prop_assert_eq!(fields[14..].join(" "), "ftp 0 * c");
            prop_assert!(!line.trim_end_matches('\n').chars().any(char::is_control));
        }

        #[test]
        fn plain_names_stay_as_they_are(path in "/[a-zA-Z0-9._/\u{e4}\u{65e5}-]{1,60}") {
            let record = LogRecord { full_path: Some(path.as_bytes()), ..samples::upload() };
            let line = text(&record).expect("a line");
            prop_assert_eq!(line.split(' ').nth(8), Some(path.as_str()));
        }
    }
}
