//! The FEAT list (RFC 2389): ours before login, joined with the backend's after it.
//!
//! TLS, HOST and the data port commands are answered by Portcullis, so their lines are its own; all others are the
//! backend's and are passed on as they stand and in its order (`MLST` carries the state of OPTS, RFC 3659 §7.8).

use super::reply::{Class, Reply};

const OWN: &[&str] = &["AUTH TLS", "PBSZ", "PROT", "EPSV", "EPRT", "HOST"];

/// Commands that never reach a backend, so that its features for them don't apply here.
const NEVER_THEIRS: &[&str] = &[
    "AUTH", "PBSZ", "PROT", "CCC", "ADAT", "MIC", "CONF", "ENC", "SSCN", "CPSV", "HOST", "EPSV",
    "EPRT", "PASV", "PORT", "SPSV", "LPSV", "LPRT", "REIN",
];

/// The reply to FEAT without a backend: the features that Portcullis has itself.
///
/// Nothing that only some backends have is listed, not even UTF8: lftp asks once, before login, and believes it. If
/// UTF8 were listed, it would send names in UTF-8 to a server whose names are Latin-1.
pub fn before_login(active_mode: bool) -> Vec<u8> {
    list(own(active_mode).map(str::as_bytes))
}

/// The backend's answer to FEAT with the lines about TLS, HOST and data ports replaced by ours.
///
/// For a backend that doesn't know FEAT the list holds only our lines. Of the backend's it has those that are `offered`.
pub fn after_login(backend: &Reply, active_mode: bool, offered: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let theirs = (backend.class() == Class::Completion)
        .then(|| theirs(backend))
        .into_iter()
        .flatten()
        .filter(|line| !is_ours(line) && offered(line));
    let ours = own(active_mode).map(|line| -> &[u8] { line.as_bytes() });
    list(ours.chain(theirs))
}

/// The features in a server's answer to FEAT: the lines between the first and the last. RFC 2389 §3.2 requires a space in front
/// of each; some servers send none, a tab, or the code, and some use another 2yz code. lftp reads all of them.
pub fn theirs(backend: &Reply) -> impl Iterator<Item = &[u8]> {
    let code = backend.number().to_string().into_bytes();
    let last = backend.lines().count().saturating_sub(1);
    backend
        .lines()
        .enumerate()
        .filter(move |(index, _)| (1..last).contains(index))
        .map(move |(_, line)| {
            let behind_code = line.strip_prefix(code.as_slice());
            let feature = behind_code.and_then(|rest| rest.strip_prefix(b"-"));
            feature.unwrap_or(line).trim_ascii()
        })
        .filter(|line| !line.is_empty())
}

/// The features of Portcullis itself: EPRT only where active mode is allowed.
fn own(active_mode: bool) -> impl Iterator<Item = &'static str> {
    OWN.iter()
        .copied()
        .filter(move |line| active_mode || *line != "EPRT")
}

fn is_ours(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    NEVER_THEIRS
        .iter()
        .any(|ours| name.eq_ignore_ascii_case(ours.as_bytes()))
}

fn list<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut text = b"211-Features:\r\n".to_vec();
    for line in lines {
        text.push(b' ');
        text.extend_from_slice(line);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"211 End\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::line::Line;
    use crate::ftp::reply::ReplyParser;
    use bytes::Bytes;

    fn merged(lines: &[&str]) -> Vec<String> {
        let mut parser = ReplyParser::default();
        let reply = lines
            .iter()
            .map(|line| Line::Whole(Bytes::copy_from_slice(line.as_bytes())))
            .find_map(|line| parser.push(line).unwrap())
            .unwrap();
        let text = String::from_utf8(after_login(&reply, true, |_| true)).unwrap();
        text.split("\r\n").map(str::to_owned).collect()
    }

    #[test]
    fn before_login_each_line_is_indented_by_one_space() {
        let text = String::from_utf8(before_login(true)).unwrap();
        assert!(text.starts_with("211-Features:\r\n AUTH TLS\r\n PBSZ\r\n PROT\r\n"));
        assert!(text.ends_with("\r\n211 End\r\n"));
    }

    #[test]
    fn before_login_nothing_is_listed_that_a_backend_may_not_have() {
        let text = String::from_utf8(before_login(true)).unwrap();
        for word in [
            "UTF8", "CLNT", "MLST", "MDTM", "SIZE", "REST", "LANG", "TVFS",
        ] {
            assert!(!text.contains(word), "{word}");
        }
    }

    #[test]
    fn features_are_read_in_every_form_in_which_servers_write_them() {
        for lines in [
            ["211-Features:", " MDTM", "\tSIZE", "211 End"],
            ["211-Features:", "211-MDTM", "211- SIZE", "211 End"],
            ["211-Features:", "MDTM", "   SIZE  ", "211"],
            ["214-Features:", " MDTM", "214-SIZE", "214 End"],
        ] {
            let merged = merged(&lines);
            let theirs = [" MDTM", " SIZE", "211 End", ""];
            assert_eq!(merged[7..], theirs, "{lines:?}");
        }
    }

    #[test]
    fn eprt_is_listed_only_where_active_mode_is_on() {
        let listed = |active| String::from_utf8(before_login(active)).unwrap();
        assert!(listed(true).contains("\r\n EPRT\r\n"));
        assert!(!listed(false).contains("EPRT"));
    }

    #[test]
    fn the_tls_lines_are_ours_and_the_rest_is_the_backends_in_its_order() {
        // IIS: values that RFC 4217 doesn't know, CCC, HOST.
        let lines = merged(&[
            "211-Extended features supported:",
            " LANG EN*",
            " UTF8",
            " AUTH TLS;TLS-C;SSL;TLS-P;",
            " PBSZ",
            " PROT C;P;",
            " CCC",
            " HOST",
            " SIZE",
            " MDTM",
            " REST STREAM",
            "211 END",
        ]);
        assert_eq!(
            lines,
            [
                "211-Features:",
                " AUTH TLS",
                " PBSZ",
                " PROT",
                " EPSV",
                " EPRT",
                " HOST",
                " LANG EN*",
                " UTF8",
                " SIZE",
                " MDTM",
                " REST STREAM",
                "211 End",
                ""
            ]
        );
    }

    #[test]
    fn mlst_facts_keep_their_stars_and_unindented_lines_are_read() {
        let lines = merged(&[
            "211-Features:",
            "MLST type*;size*;modify;",
            "EPSV",
            "211 End",
        ]);
        assert!(lines.contains(&" MLST type*;size*;modify;".to_owned()));
        assert_eq!(lines.iter().filter(|line| line.contains("EPSV")).count(), 1);
    }

    #[test]
    fn a_backend_without_feat_leaves_ours() {
        for refusal in [
            "500 Unknown command.",
            "550 Permission denied.",
            "211 No features",
        ] {
            let lines = merged(&[refusal]);
            assert_eq!(
                lines[1..7],
                [" AUTH TLS", " PBSZ", " PROT", " EPSV", " EPRT", " HOST"]
            );
            assert_eq!(lines[7], "211 End");
        }
    }
}
