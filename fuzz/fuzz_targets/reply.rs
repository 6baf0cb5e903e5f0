//! A backend's control connection: bytes in any pieces are the same replies, and a reply passed on is read again as the
//! one that it was.

#![no_main]

mod chunks;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use portcullis::ftp::line::{Line, LineBuffer, MAX_REPLY_LINE};
use portcullis::ftp::reply::{BadReply, Class, Reply, ReplyParser};

fuzz_target!(|data: &[u8]| {
    let (sizes, bytes) = chunks::split_off_sizes(data);
    let (replies, end) = read([bytes].into_iter());
    let in_pieces = read(chunks::cut(bytes, sizes));
    assert_eq!((&replies, end), (&in_pieces.0, in_pieces.1), "{sizes:?}");
    for reply in &replies {
        look_at(reply);
        let (again, _) = read([&reply.bytes()[..]].into_iter());
        assert_eq!(again, [reply.clone()]);
    }
    // What was passed on together is told apart again.
    let passed_on: Vec<u8> = replies
        .iter()
        .flat_map(|reply| reply.bytes().to_vec())
        .collect();
    assert_eq!(read([&passed_on[..]].into_iter()), (replies, None));
});

/// The replies up to the end of the bytes, or up to the first fault.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Reply>, Option<BadReply>) {
    let mut buffer = LineBuffer::new(MAX_REPLY_LINE);
    let mut parser = ReplyParser::default();
    let mut replies = Vec::new();
    for piece in pieces {
        buffer.unread().extend_from_slice(piece);
        while let Some(line) = buffer.next_line() {
            match parser.push(line) {
                Ok(reply) => replies.extend(reply),
                Err(bad) => return (replies, Some(bad)),
            }
        }
    }
    // Silence behind this may be the end of a reply, and then of one alone.
    if let Some(reply) = parser.take_reply_with_other_code() {
        look_at(&reply);
    }
    (replies, None)
}

fn look_at(reply: &Reply) {
    let number = reply.number();
    assert!((100..600).contains(&number));
    let class = match number / 100 {
        1 => Class::Preliminary,
        2 => Class::Completion,
        3 => Class::Intermediate,
        4 => Class::TransientFailure,
        _ => Class::PermanentFailure,
    };
    assert_eq!(reply.class(), class);
    let digits = number.to_string();
    let lines: Vec<&[u8]> = reply.lines().collect();
    let (last, before) = lines.split_last().expect("a reply has a line");
    assert!(last.starts_with(digits.as_bytes()));
    assert!(last.ends_with(reply.text()));
    if let Some(first) = before.first() {
        assert!(first.starts_with(format!("{digits}-").as_bytes()));
    }
    // Each line that `lines` shows is one that came.
    let mut parser = ReplyParser::default();
    for line in before {
        assert_eq!(parser.push(whole(line)), Ok(None));
    }
    assert_eq!(parser.push(whole(last)).as_ref(), Ok(&Some(reply.clone())));
}

fn whole(line: &[u8]) -> Line {
    Line::Whole(Bytes::copy_from_slice(line))
}
