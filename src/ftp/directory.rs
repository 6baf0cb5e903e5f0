//! The directory that a client is in, from what it has asked for and what its server has answered: for the log alone.
//!
//! Nothing is guessed. A path that a server has sent by itself (257, or a 250 that begins with a path in quotes) is without
//! links, so that its parent is known; a directory that was reached by name may be a link, and then `..` leads elsewhere.
//! Names of other systems (`'HLQ.X'` of MVS, `DISK:[DIR]` of VMS, backslashes) make the directory unknown, until the server
//! says a path that begins with a slash.

use std::borrow::Cow;

use bytes::Bytes;

use super::command::{Command, Verb};
use super::reply::{Class, Reply};

/// The longest path that is kept: more than `PATH_MAX` allows.
const MAX_PATH: usize = 4096;

/// The working directory of a client in its server's file system, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory(Option<Known>);

/// A path from the root, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    path: Bytes,
    /// Whether the path without its last name is the parent at the server, too: none of its names may be a link.
    is_free_of_links: bool,
}

impl Directory {
    /// A directory that is not known.
    pub const UNKNOWN: Self = Self(None);

    /// The directory's path, if it is known.
    pub fn path(&self) -> Option<&[u8]> {
        let known = self.0.as_ref()?;
        Some(if known.path.is_empty() {
            b"/"
        } else {
            &known.path
        })
    }

    /// After this reply to PWD.
    #[must_use]
    pub fn after_pwd(self, reply: &Reply) -> Self {
        match reply.number() {
            257 => match quoted(reply.text()) {
                // Clients ask again and again.
                Some(path) if self.is_there(&path) => self,
                path => Self::said(path),
            },
            // A server that doesn't say where its client is has not moved it.
            _ => self,
        }
    }

    /// After this reply to CWD with this argument, or to CDUP, which is `..`.
    #[must_use]
    pub fn after_cwd(self, argument: &[u8], reply: &Reply) -> Self {
        if reply.class() != Class::Completion {
            return self;
        }
        match Self::said(quoted(reply.text())) {
            Self(None) => Self(self.walk(argument)),
            said => said,
        }
    }

    /// The path of what a client in this directory calls so, if that is certain.
    pub fn path_of(&self, name: &[u8]) -> Option<Vec<u8>> {
        let path = self.walk(name)?.path;
        Some(if path.is_empty() {
            b"/".to_vec()
        } else {
            path.to_vec()
        })
    }

    /// The path of what a command of a client in this directory is about, if that is certain.
    pub fn path_in(&self, command: &Command) -> Option<Vec<u8>> {
        let argument = command.argument();
        match command.verb() {
            // Of the directory itself.
            Verb::List | Verb::Nlst | Verb::Mlsd if argument.is_empty() => {
                self.path().map(<[u8]>::to_vec)
            }
            // Options, for many servers.
            Verb::List | Verb::Nlst if argument.starts_with(b"-") => None,
            // The server chooses the name.
            Verb::Stou | Verb::Site => None,
            _ => self.path_of(argument),
        }
    }

    /// Whether the directory is known to be the one at this path, as its server has sent it.
    fn is_there(&self, said: &[u8]) -> bool {
        let known = self.0.as_ref().filter(|known| known.is_free_of_links);
        let path = said.strip_suffix(b"/").unwrap_or(said);
        said.starts_with(b"/") && known.is_some_and(|known| *known.path == *path)
    }

    /// The directory in a server's reply, in quotes in front of the rest.
    fn said(path: Option<Cow<'_, [u8]>>) -> Self {
        let path = path.filter(|path| path.starts_with(b"/"));
        let root = Self(Some(Known {
            path: Bytes::new(),
            is_free_of_links: true,
        }));
        let known = path.and_then(|path| root.walk(&path));
        Self(known.map(|known| Known {
            is_free_of_links: true,
            ..known
        }))
    }

    fn walk(&self, name: &[u8]) -> Option<Known> {
        if is_of_another_system(name) {
            return None;
        }
        let Known {
            path,
            mut is_free_of_links,
        } = match (name.first(), &self.0) {
            // Some servers take it for the home directory.
            (None, _) => return None,
            (Some(b'/'), _) => Known {
                path: Bytes::new(),
                is_free_of_links: true,
            },
            (Some(_), known) => known.clone()?,
        };
        let mut path = path.to_vec();
        for step in name.split(|byte| *byte == b'/') {
            match step {
                b"" | b"." => {}
                b".." if !is_free_of_links => return None,
                b".." => {
                    let end = path.iter().rposition(|byte| *byte == b'/');
                    path.truncate(end.unwrap_or_default());
                }
                step => {
                    path.push(b'/');
                    path.extend_from_slice(step);
                    is_free_of_links = false;
                }
            }
        }
        (path.len() <= MAX_PATH).then(|| Known {
            path: path.into(),
            is_free_of_links,
        })
    }
}

/// Whether servers differ in what this name leads to: home directories, other systems' separators and quotes, and blanks that
/// some servers cut off.
fn is_of_another_system(name: &[u8]) -> bool {
    name.first() == Some(&b'~')
        || name.contains(&b'\\')
        || name.starts_with(b"'")
        || name.trim_ascii() != name
}

/// The text in the quotes that a reply begins with; a quote inside is doubled (RFC 959, appendix II).
fn quoted(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    let text = text.strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', text)?;
    if text.get(end + 1) != Some(&b'"') {
        return Some(Cow::Borrowed(&text[..end]));
    }
    let mut rest = text[end..].iter().peekable();
    let mut path = text[..end].to_vec();
    while let Some(byte) = rest.next() {
        if *byte == b'"' && rest.next_if(|next| **next == b'"').is_none() {
            return Some(path.into());
        }
        path.push(*byte);
    }
    None
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::ftp::line::Line;
    use crate::ftp::reply::ReplyParser;

    fn reply(text: &[u8]) -> Reply {
        let line = Line::Whole(Bytes::copy_from_slice(text));
        let reply = ReplyParser::default().push(line).expect("a reply");
        reply.expect("a whole one")
    }

    fn pwd(text: &str) -> Directory {
        Directory::UNKNOWN.after_pwd(&reply(text.as_bytes()))
    }

    fn path(directory: &Directory) -> Option<&str> {
        let path = directory.path()?;
        Some(std::str::from_utf8(path).expect("text"))
    }

    /// The directory that these arguments of CWD lead to, each accepted.
    fn walked(start: &str, names: &[&str]) -> Option<String> {
        let accepted = reply(b"250 ok");
        let walk = |at: Directory, name: &&str| at.after_cwd(name.as_bytes(), &accepted);
        let end = names.iter().fold(pwd(start), walk);
        path(&end).map(str::to_owned)
    }

    #[test]
    fn a_server_says_where_its_client_is() {
        for (says, is) in [
            ("257 \"/\" is current directory", Some("/")),
            ("257 \"/in/2026\"", Some("/in/2026")),
            ("257 \"/in/2026/\" x", Some("/in/2026")),
            ("257 \"/a \"\"b\"\" c\" is it", Some("/a \"b\" c")),
            ("257 \"/open", None),
            ("257 /in is current directory", None),
            ("257 \"'HLQ.DATA.'\" is working directory", None),
            ("257 \"DISK$USER:[ALICE]\" is default", None),
            ("257 \"C:\\ftp\" is it", None),
            ("257 \"/with\\backslash\" is it", None),
            ("257", None),
            ("250 \"/in\"", None),
            ("550 no", None),
        ] {
            assert_eq!(path(&pwd(says)), is, "{says}");
        }
    }

    #[test]
    fn a_client_is_followed_by_the_names_that_its_server_accepts() {
        let at = "257 \"/home/al\"";
        for (names, is) in [
            (&["in"][..], Some("/home/al/in")),
            (&["in", "2026/11"], Some("/home/al/in/2026/11")),
            (&["/pub"], Some("/pub")),
            (&["/"], Some("/")),
            (&["/", ".."], Some("/")),
            (&["."], Some("/home/al")),
            (&[".."], Some("/home")),
            (&["..", "bob"], Some("/home/bob")),
            (&["../../../x"], Some("/x")),
            // `in` may be a link.
            (&["in", ".."], None),
            (&["in/../out"], None),
            (&["in", "..", "/pub"], Some("/pub")),
            (&["~"], None),
            (&["~bob"], None),
            (&["'HLQ.X'"], None),
            (&["in\\2026"], None),
            (&[" in"], None),
            (&["in "], None),
            (&[""], None),
            (&["in\u{e9}"], Some("/home/al/in\u{e9}")),
        ] {
            assert_eq!(walked(at, names).as_deref(), is, "{names:?}");
        }
        assert_eq!(walked("257 odd", &["in"]), None);
        assert_eq!(walked("257 odd", &["/in"]), Some("/in".to_owned()));
    }

    #[test]
    fn what_a_server_says_to_cwd_counts_more_than_the_name() {
        let at = pwd("257 \"/home/al\"");
        let said = at.clone().after_cwd(
            b"link",
            &reply(b"250 \"/srv/data\" is the current directory."),
        );
        assert_eq!(path(&said), Some("/srv/data"));
        let parent = said.after_cwd(b"..", &reply(b"250 ok"));
        assert_eq!(path(&parent), Some("/srv"));
        let quoted_name = at.after_cwd(b"in", &reply(b"250 \"in\" it is"));
        assert_eq!(path(&quoted_name), Some("/home/al/in"));
    }

    #[test]
    fn a_server_that_says_the_same_again_is_believed_and_one_that_says_nothing_is_not() {
        for (first, again, is) in [
            ("257 \"/in\"", "257 \"/in/\" still", Some("/in")),
            ("257 \"/\"", "257 \"/\"", Some("/")),
            ("257 \"/\"", "257 \"\"", None),
            ("257 \"/in\"", "257 \"/out\"", Some("/out")),
            ("257 \"/a\"", "257 \"/a\"\"\"", Some("/a\"")),
        ] {
            let after = pwd(first).after_pwd(&reply(again.as_bytes()));
            assert_eq!(path(&after), is, "{again}");
        }
    }

    #[test]
    fn a_refusal_changes_nothing() {
        let at = pwd("257 \"/home\"");
        assert_eq!(at.clone().after_cwd(b"x", &reply(b"550 no")), at);
        assert_eq!(at.clone().after_pwd(&reply(b"502 what?")), at);
    }

    #[test]
    fn files_are_named_from_the_root() {
        let at = pwd("257 \"/in\"");
        let of = |name: &[u8]| {
            at.path_of(name)
                .map(|path| String::from_utf8(path).expect("text"))
        };
        assert_eq!(of(b"a b.txt").as_deref(), Some("/in/a b.txt"));
        assert_eq!(of(b"/x").as_deref(), Some("/x"));
        assert_eq!(of(b"../x").as_deref(), Some("/x"));
        assert_eq!(of(b".").as_deref(), Some("/in"));
        for unknown in [&b""[..], b"~x", b"a\\b", b"a/../b"] {
            assert_eq!(at.path_of(unknown), None, "{}", unknown.escape_ascii());
        }
        assert_eq!(Directory::UNKNOWN.path_of(b"x"), None);
        assert_eq!(Directory::UNKNOWN.path_of(b"/x"), Some(b"/x".to_vec()));
    }

    #[test]
    fn a_command_is_about_a_path_where_it_says_so() {
        let at = pwd("257 \"/in\"");
        let about = |line: &str| {
            let line = Bytes::copy_from_slice(line.as_bytes());
            let command = Command::parse(line).expect("a command");
            let path = at.path_in(&command)?;
            Some(String::from_utf8(path).expect("text"))
        };
        for (line, path) in [
            ("STOR x", Some("/in/x")),
            ("LIST", Some("/in")),
            ("MLSD sub", Some("/in/sub")),
            ("LIST -la", None),
            ("STOR -la", Some("/in/-la")),
            ("STOU", None),
            ("STOU x", None),
            ("SITE CHMOD 644 x", None),
        ] {
            assert_eq!(about(line).as_deref(), path, "{line}");
        }
    }

    #[test]
    fn no_path_grows_without_end() {
        let name = "x".repeat(1000);
        let names = vec![name.as_str(); 4];
        assert!(walked("257 \"/\"", &names).is_some());
        assert_eq!(
            walked(
                "257 \"/\"",
                &[&names[..], &["y".repeat(100).as_str()]].concat()
            ),
            None
        );
    }

    proptest! {
        #[test]
        fn a_known_path_is_absolute_and_bounded(
            said in proptest::collection::vec(any::<u8>(), 0..40),
            names in proptest::collection::vec("[a./~ \\\\]{0,9}", 0..5),
        ) {
            let said: Vec<u8> = said.into_iter().filter(|byte| !b"\r\n".contains(byte)).collect();
            let said = reply(&[b"257 \"/", said.as_slice()].concat());
            let accepted = reply(b"250 ok");
            let mut at = Directory::UNKNOWN.after_pwd(&said);
            for name in names {
                at = at.after_cwd(name.as_bytes(), &accepted);
                if let Some(path) = at.path() {
                    prop_assert!(path.starts_with(b"/") && path.len() <= MAX_PATH);
                    prop_assert!(path == b"/" || !path.ends_with(b"/"));
                    prop_assert!(!path.split(|byte| *byte == b'/').any(|step| step == b".."));
                }
            }
        }
    }
}
