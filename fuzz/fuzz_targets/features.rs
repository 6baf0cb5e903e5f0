//! FEAT: whatever a backend says of itself, the client gets one whole reply with our lines once and first.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use portcullis::ftp::features;
use portcullis::ftp::line::{Line, LineBuffer, MAX_REPLY_LINE};
use portcullis::ftp::reply::{Reply, ReplyParser};

fuzz_target!(|data: &[u8]| {
    let Some(backend) = reply(data) else {
        return;
    };
    for active_mode in [true, false] {
        look_at(&backend, active_mode);
    }
});

fn look_at(backend: &Reply, active_mode: bool) {
    let merged = features::after_login(backend, active_mode, |_| true);
    let read = reply(&merged).expect("a reply");
    assert_eq!(read.bytes(), &merged, "more than one reply");
    assert_eq!(read.number(), 211);

    let lines: Vec<&[u8]> = read.lines().collect();
    let [first, features @ .., last] = &lines[..] else {
        panic!("too few lines");
    };
    assert_eq!((*first, *last), (&b"211-Features:"[..], &b"211 End"[..]));
    assert!(features.iter().all(|line| line.starts_with(b" ")));
    for ours in ["AUTH TLS", "PBSZ", "PROT", "EPSV", "EPRT", "HOST"] {
        if ours == "EPRT" && !active_mode {
            continue;
        }
        let name = ours.split(' ').next().expect("a name").as_bytes();
        let named: Vec<&&[u8]> = features
            .iter()
            .filter(|line| is_named(line, name))
            .collect();
        assert_eq!(named, [&[b" ", ours.as_bytes()].concat()], "{ours}");
    }
    for never in ["CCC", "SSCN", "CPSV", "PASV", "PORT", "REIN"] {
        assert!(!features.iter().any(|line| is_named(line, never.as_bytes())));
    }
    // Merging what was merged changes nothing: a Portcullis may stand behind a Portcullis.
    assert_eq!(features::after_login(&read, active_mode, |_| true), merged);
}

fn is_named(line: &[u8], name: &[u8]) -> bool {
    let text = line.trim_ascii_start();
    let word = text.split(|byte| *byte == b' ').next().unwrap_or_default();
    word.eq_ignore_ascii_case(name)
}

/// The first reply in these bytes.
fn reply(bytes: &[u8]) -> Option<Reply> {
    let mut lines = LineBuffer::new(MAX_REPLY_LINE);
    lines.unread().extend_from_slice(bytes);
    let mut parser = ReplyParser::default();
    while let Some(line) = lines.next_line() {
        if let Some(reply) = parser.push(line).ok()? {
            return Some(reply);
        }
    }
    // A single line without its ending, as a fuzzer writes them.
    let rest = Bytes::copy_from_slice(lines.peek());
    parser.push(Line::Whole(rest)).ok().flatten()
}
