//! Passwords by which users with a proven certificate log in at the backend.
//!
//! A file has a line for each user, `user:password`: split at the first colon, which is in no user's name, so that a password
//! may have any character but the end of a line. Users are compared with ASCII letters folded to lower case.

use std::collections::HashMap;
use std::path::Path;

use super::lookup::{Content, LoadedFiles, LookupFile, LookupFileError, LookupFiles, NewContent};
use crate::base::secret::Secret;

/// The longest password, in bytes: it is sent in a line.
const MAX_PASSWORD: usize = 1024;

/// The passwords in a file, by user; the names are folded.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Passwords(HashMap<Box<[u8]>, Secret>);

/// A file of passwords.
pub type CredentialFile = LookupFile<Passwords>;

/// The files of passwords that a configuration names.
pub type CredentialFiles = LookupFiles<Passwords>;

/// The credential files of a configuration that is not in force yet.
pub type LoadedCredentials = LoadedFiles<Passwords>;

/// The passwords in a file, not yet in use.
pub type NewCredentials = NewContent<Passwords>;

/// Why a file of passwords is not used.
pub type CredentialFileError = LookupFileError<PasswordFault>;

/// The fault of a line. Nothing of its content is repeated.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each variant is
pub enum PasswordFault {
    #[error("line {0} has no colon: write `user:password`")]
    NoColon(usize),
    #[error("line {0} has no user in front of its colon: write `user:password`")]
    NoUser(usize),
    #[error("line {0} has no password behind its colon: write `user:password`")]
    NoPassword(usize),
    #[error("the password in line {0} is longer than {MAX_PASSWORD} bytes")]
    LongPassword(usize),
    #[error("line {0} has a control character")]
    ControlCharacter(usize),
    #[error(
        "line {0} has a user that an earlier line has, too; upper and lower case don't make a difference"
    )]
    Twice(usize),
}

impl Content for Passwords {
    type LineFault = PasswordFault;

    const NAME: &'static str = "credentials";

    const MAX_FILE: u64 = 1024 * 1024;

    /// Empty lines and those that begin with `#` don't count.
    fn add(&mut self, number: usize, line: &[u8]) -> Result<(), PasswordFault> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            return Ok(());
        }
        if line.iter().any(u8::is_ascii_control) {
            return Err(PasswordFault::ControlCharacter(number));
        }
        let Some(colon) = memchr::memchr(b':', line) else {
            return Err(PasswordFault::NoColon(number));
        };
        let (user, password) = (&line[..colon], &line[colon + 1..]);
        if user.is_empty() {
            return Err(PasswordFault::NoUser(number));
        }
        match password.len() {
            0 => return Err(PasswordFault::NoPassword(number)),
            1..=MAX_PASSWORD => {}
            _ => return Err(PasswordFault::LongPassword(number)),
        }
        let folded = user.to_ascii_lowercase().into();
        let password = Secret::new(password.to_vec());
        match self.0.insert(folded, password) {
            Some(_) => Err(PasswordFault::Twice(number)),
            None => Ok(()),
        }
    }

    fn count(&self) -> usize {
        self.0.len()
    }
}

impl CredentialFiles {
    /// The password of a user in the file at this path.
    pub fn password(&self, path: &Path, user: &[u8]) -> Option<Secret> {
        let folded = user.to_ascii_lowercase();
        self.get(path)?.content().0.get(folded.as_slice()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::lookup::{LookupFileFault, parse};
    use super::*;

    fn passwords(content: &str) -> Result<Passwords, LookupFileFault<PasswordFault>> {
        parse(content.as_bytes())
    }

    fn password(content: &str, user: &str) -> Option<String> {
        let passwords = passwords(content).expect("it is in order");
        let password = passwords.0.get(user.as_bytes())?;
        Some(String::from_utf8_lossy(password.expose()).into_owned())
    }

    fn fault(content: &str) -> String {
        let fault = passwords(content).expect_err("it is not in order");
        fault.to_string()
    }

    #[test]
    fn a_line_is_split_at_its_first_colon_and_all_behind_it_is_the_password() {
        let content = "# partners\n\nAcme: p:w# \r\njoe doe:x\n";
        assert_eq!(password(content, "acme").as_deref(), Some(" p:w# "));
        assert_eq!(password(content, "joe doe").as_deref(), Some("x"));
        assert_eq!(password(content, "bob"), None);
        assert_eq!(password("\u{feff}a:b\n", "a").as_deref(), Some("b"));
    }

    #[test]
    fn each_fault_is_told_by_its_line_and_without_what_stands_there() {
        for (content, expected) in [
            ("", "the file is empty"),
            ("a:b", "may be half written"),
            ("a:b\nhunter2\n", "line 2 has no colon"),
            (":hunter2\n", "line 1 has no user"),
            ("a:\n", "line 1 has no password"),
            ("a:hunter2\nA:other\n", "line 2 has a user that an earlier"),
            ("a:hunter\u{1}2\n", "line 1 has a control character"),
            (&format!("a:{}\n", "x".repeat(1025)), "line 1 is longer"),
        ] {
            let fault = fault(content);
            assert!(fault.contains(expected), "{fault}");
            assert!(!fault.contains("hunter"), "{fault}");
        }
    }

    #[test]
    fn a_file_in_use_stays_the_same_one_and_gets_the_new_passwords() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("partners");
        let load = |former: &CredentialFiles| CredentialFiles::load([path.as_path()], former);
        fs::write(&path, "acme:one\n").expect("written");
        let former = load(&CredentialFiles::default()).expect("good").apply();
        fs::write(&path, "acme:two\n").expect("written");
        let loaded = load(&former).expect("good");
        let shown = |files: &CredentialFiles| {
            let password = files.password(&path, b"ACME").expect("there is one");
            password.expose().to_vec()
        };
        assert_eq!(shown(&former), b"one", "not in force yet");
        loaded.apply();
        assert_eq!(shown(&former), b"two");
        assert!(!format!("{former:?}").contains("two"));
    }
}
