//! A client's control connection: bytes in any pieces are the same lines, and every line is one safe command or none.

#![no_main]

mod chunks;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use portcullis::ftp::command::{BadCommand, Command};
use portcullis::ftp::line::{Line, LineBuffer};

/// Short, so that lines over the limit are found soon.
const LIMIT: usize = 64;

fuzz_target!(|data: &[u8]| {
    let (sizes, bytes) = chunks::split_off_sizes(data);
    let lines = read([bytes].into_iter());
    assert_eq!(lines, read(chunks::cut(bytes, sizes)), "cut as {sizes:?}");
    for line in lines {
        if let Line::Whole(line) = line {
            look_at(&line);
        }
    }
});

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Line> {
    let mut buffer = LineBuffer::new(LIMIT);
    let mut lines = Vec::new();
    for piece in pieces {
        buffer.unread().extend_from_slice(piece);
        while let Some(line) = buffer.next_line() {
            lines.push(line);
        }
        assert!(!buffer.has_line());
        assert!(buffer.peek().len() <= LIMIT + 1, "an unfinished line grows");
        assert!(buffer.has_room());
    }
    lines
}

fn look_at(line: &Bytes) {
    assert!(line.len() <= LIMIT);
    assert!(!line.contains(&b'\n'));
    match Command::parse(line.clone()) {
        Ok(command) => {
            assert!(!command.line().iter().any(|byte| b"\r\n\0".contains(byte)));
            // Some clients end their lines with CR CR LF.
            let end = line.iter().rposition(|byte| *byte != b'\r');
            let line = &line[..end.map_or(0, |last| last + 1)];
            assert!(line.ends_with(command.line()));
            let verb = command.verb_text();
            // XMD5, XSHA256: servers list them in FEAT. P@SW is what some clients say for PASV.
            assert!(verb.starts_with(|first: char| first.is_ascii_alphabetic()));
            let is_a_word = verb.bytes().all(|byte| byte.is_ascii_alphanumeric());
            assert!(is_a_word || verb.eq_ignore_ascii_case("P@SW"));
            let rest = &command.line()[verb.len()..];
            assert_eq!(rest.strip_prefix(b" ").unwrap_or(rest), command.argument());
            // What goes to the backend is for the backend the command that it was here.
            let again = Command::parse(Bytes::copy_from_slice(command.line()));
            assert_eq!(again.as_ref(), Ok(&command));
            assert_eq!(format!("{command:?}"), format!("Command({verb} ..)"));
        }
        Err(BadCommand::ControlCharacter) => {
            assert!(line.iter().any(|byte| b"\r\n\0".contains(byte)));
        }
        Err(BadCommand::Empty | BadCommand::NoVerb | BadCommand::Http) => {}
    }
}
