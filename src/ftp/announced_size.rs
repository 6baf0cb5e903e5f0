//! How long a file is to be, from the reply that begins its transfer: `150 Opening BINARY mode data connection for a (1234
//! bytes).` say vsftpd, ProFTPD, wu-ftpd and most others; IIS says nothing, and Pure-FTPd rounds. RFC 959 has no word for
//! it, so that it is good for showing how far a transfer has come, and for nothing else.

use super::reply::Reply;

/// The size that a reply has between parentheses, in bytes.
pub fn announced_size(reply: &Reply) -> Option<u64> {
    let text = reply.bytes();
    memchr::memchr_iter(b'(', text).find_map(|at| {
        let rest = &text[at + 1..];
        let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
        let (digits, unit) = rest.split_at(end);
        if !unit.starts_with(b" byte") {
            return None;
        }
        std::str::from_utf8(digits).ok()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::line::Line;
    use crate::ftp::reply::ReplyParser;

    fn whole_reply(text: &str) -> Reply {
        let line = Line::Whole(bytes::Bytes::copy_from_slice(text.as_bytes()));
        let reply = ReplyParser::default().push(line);
        reply.expect("a reply").expect("of one line")
    }

    #[test]
    fn what_servers_say_is_understood_and_the_rest_is_no_size() {
        for (reply, size) in [
            (
                "150 Opening BINARY mode data connection for a (1234 bytes).",
                Some(1234),
            ),
            (
                "150 Opening ASCII mode data connection for (a) (1 byte)",
                Some(1),
            ),
            ("125 Data connection already open; Transfer starting.", None),
            ("150 Accepted (1234 kbytes)", None),
            ("150 Opening (99999999999999999999999 bytes)", None),
            ("150 Opening for a ( bytes)", None),
            ("150 Opening (12", None),
        ] {
            let parsed = whole_reply(&format!("{reply}\r\n"));
            assert_eq!(announced_size(&parsed), size, "{reply}");
        }
    }
}
