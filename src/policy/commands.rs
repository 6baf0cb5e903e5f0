//! The commands that a site's clients may use.
//!
//! A preset is a list of what is allowed, not of what is denied: servers have write commands that no list knows. Verbs and
//! the sub-verbs of SITE are read as the most generous server reads them: quotes and blanks around a sub-verb, and the X
//! forms of RFC 775, lead around no rule.

use std::fmt;

/// The commands that a site denies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandRules {
    preset: Option<Preset>,
    denied: Vec<DeniedCommand>,
}

/// A preset of the actions that clients are allowed at a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// List and download.
    ReadOnly,
    /// List, upload and make directories; nothing that is there can be read, renamed or deleted. A file of the same name is
    /// replaced, as the server's rights allow.
    UploadOnly,
}

/// A command of a `deny` list, in upper case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeniedCommand {
    verb: String,
    /// The command of SITE that is denied; `None` is the whole verb.
    sub_verb: Option<String>,
}

/// Why a command can't be denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DenyError {
    /// The word is no FTP verb.
    #[error("isn't a command")]
    NotACommand,
    /// The text has a second word, and isn't SITE.
    #[error("has an argument; only SITE has commands of its own")]
    Argument,
    /// Each session needs the command.
    #[error("can't be denied: sessions can't do without it")]
    Needed,
}

/// The longest name of a command.
const MAX_VERB: usize = 12;

/// The longest line, without its ending, at a site that denies commands. The servers of BSD, and GNU inetutils to this day, read
/// 511 bytes at a time, and take the rest for another command, which could be a denied one.
const MAX_LINE: usize = 509;

/// Commands that a session needs, or that Portcullis answers itself or sends for purposes of its own.
const NEEDED: [&str; 19] = [
    "USER", "PASS", "ACCT", "QUIT", "REIN", "HOST", "AUTH", "PBSZ", "PROT", "CCC", "FEAT", "NOOP",
    "PASV", "EPSV", "PORT", "EPRT", "ABOR", "LPRT", "LPSV",
];

/// Commands that neither change a file nor show its content, besides [`NEEDED`].
const HARMLESS: [&str; 23] = [
    "CWD", "CDUP", "PWD", "LIST", "NLST", "MLSD", "MLST", "STAT", "SIZE", "MDTM", "REST", "RANG",
    "TYPE", "STRU", "MODE", "HELP", "SYST", "OPTS", "CLNT", "LANG", "CSID", "AVBL", "PRET",
];

/// Commands that show the content of files, or a hash of it.
const READING: [&str; 14] = [
    "RETR", "HASH", "XCRC", "CRC", "XMD5", "MD5", "MMD5", "XSHA", "XSHA1", "SHA1", "XSHA256",
    "SHA256", "XSHA512", "SHA512",
];

/// Commands that make files and directories.
const CREATING: [&str; 5] = ["STOR", "STOU", "APPE", "ALLO", "MKD"];

/// Commands that change and delete, as far as servers are known to have them.
const CHANGING: [&str; 12] = [
    "DELE", "RMD", "RNFR", "RNTO", "MFMT", "MFF", "MFCT", "SITE", "SMNT", "COMB", "RMDA", "THMB",
];

/// The sub-verbs of SITE that change nothing at the server.
const HARMLESS_SITE: [&str; 4] = ["HELP", "DIRSTYLE", "IDLE", "WHO"];

/// Features (RFC 2389) that are no commands.
const NO_COMMANDS: [&str; 3] = ["UTF8", "TVFS", "UTF-8"];

impl CommandRules {
    /// Rules that deny whatever the preset doesn't allow, and these commands besides.
    pub fn new(preset: Option<Preset>, denied: Vec<DeniedCommand>) -> Self {
        Self { preset, denied }
    }

    /// The preset.
    pub fn preset(&self) -> Option<Preset> {
        self.preset
    }

    /// The commands that are denied besides the preset's.
    pub fn denied(&self) -> impl Iterator<Item = &DeniedCommand> {
        self.denied.iter()
    }

    /// Whether every command is allowed.
    pub fn is_empty(&self) -> bool {
        self.preset.is_none() && self.denied.is_empty()
    }

    /// Whether a line of this length may not be sent, whatever its content: its tail could be a command that is denied.
    pub fn deny_length(&self, line: usize) -> bool {
        !self.is_empty() && line > MAX_LINE
    }

    /// Whether a client may not use this command.
    pub fn deny(&self, verb: &[u8], argument: &[u8]) -> bool {
        if self.is_empty() {
            return false;
        }
        if self.deny_length(verb.len() + 1 + argument.len()) {
            return true;
        }
        let verb = canonical(verb);
        let verb = match verb.as_str() {
            "MDTM" if sets_a_time(argument) => "MFMT",
            verb => verb,
        };
        if NEEDED.contains(&verb) {
            return false;
        }
        let sub_verb = (verb == "SITE").then(|| SubVerb::of(argument));
        let listed = self.denied.iter().any(|denied| {
            denied.verb == verb
                && match (&denied.sub_verb, &sub_verb) {
                    (Some(denied), Some(used)) => used.may_be(denied),
                    (None, _) | (_, None) => true,
                }
        });
        let by_preset = |preset: Preset| match &sub_verb {
            Some(used) => !used.is_one_of(&HARMLESS_SITE),
            None => !preset.allows(verb),
        };
        listed || self.preset.is_some_and(by_preset)
    }

    /// Whether a line of the backend's reply to FEAT (RFC 2389 §3.2) offers what clients may not use.
    pub fn deny_feature(&self, line: &[u8]) -> bool {
        if self.is_empty() {
            return false;
        }
        let line = line.trim_ascii();
        let end = line
            .iter()
            .position(|byte| *byte == b' ')
            .unwrap_or(line.len());
        let (verb, argument) = line.split_at(end);
        !NO_COMMANDS
            .iter()
            .any(|it| it.as_bytes().eq_ignore_ascii_case(verb))
            && self.deny(verb, argument.trim_ascii())
    }
}

impl Preset {
    fn allows(self, verb: &str) -> bool {
        let more: &[&str] = match self {
            Self::ReadOnly => &READING,
            Self::UploadOnly => &CREATING,
        };
        HARMLESS.contains(&verb) || more.contains(&verb)
    }
}

impl fmt::Display for DeniedCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.verb)?;
        match &self.sub_verb {
            Some(sub_verb) => write!(f, " {sub_verb}"),
            None => Ok(()),
        }
    }
}

impl DeniedCommand {
    /// Whether Portcullis has heard of it; servers have others.
    pub fn is_known(&self) -> bool {
        let known: [&[&str]; 4] = [&HARMLESS, &READING, &CREATING, &CHANGING];
        known
            .iter()
            .any(|verbs| verbs.contains(&self.verb.as_str()))
    }

    /// `DELE`, or `SITE CHMOD`, in any case.
    ///
    /// # Errors
    /// If that is no command, or one that can't be denied.
    pub fn new(text: &str) -> Result<Self, DenyError> {
        let mut words = text.split_ascii_whitespace();
        let verb = words
            .next()
            .filter(|verb| is_verb(verb))
            .ok_or(DenyError::NotACommand)?;
        let verb = canonical(verb.as_bytes());
        let sub_verb = words.next().map(str::to_ascii_uppercase);
        if sub_verb.is_some() && verb != "SITE" {
            return Err(DenyError::Argument);
        }
        if words.next().is_some() || sub_verb.as_deref().is_some_and(|word| !is_plain(word)) {
            return Err(DenyError::NotACommand);
        }
        if NEEDED.contains(&verb.as_str()) {
            return Err(DenyError::Needed);
        }
        Ok(Self { verb, sub_verb })
    }
}

/// The word after SITE.
enum SubVerb {
    /// The word in upper case.
    Plain(String),
    /// Something that servers read differently.
    Odd,
}

impl SubVerb {
    fn of(argument: &[u8]) -> Self {
        let word = argument
            .split(|byte| byte.is_ascii_whitespace())
            .find(|word| !word.is_empty())
            .unwrap_or_default();
        match std::str::from_utf8(word) {
            Ok(word) if is_plain(word) => Self::Plain(word.to_ascii_uppercase()),
            _ => Self::Odd,
        }
    }

    /// Whether a server may take it for this one.
    fn may_be(&self, other: &str) -> bool {
        match self {
            Self::Plain(word) => word == other,
            Self::Odd => true,
        }
    }

    /// Whether every server takes the command for one of these.
    fn is_one_of(&self, all: &[&str]) -> bool {
        match self {
            Self::Plain(word) => all.contains(&word.as_str()),
            Self::Odd => false,
        }
    }
}

fn is_verb(text: &str) -> bool {
    (1..=MAX_VERB).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_plain(word: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !word.is_empty() && word.bytes().all(is_plain)
}

/// In upper case, without the X that RFC 775 put before commands which RFC 959 has.
fn canonical(verb: &[u8]) -> String {
    let verb = String::from_utf8_lossy(verb).to_ascii_uppercase();
    match verb.as_str() {
        "XCWD" | "XCUP" | "XPWD" | "XMKD" | "XRMD" => match &verb[1..] {
            "CUP" => "CDUP".to_owned(),
            plain => plain.to_owned(),
        },
        _ => verb,
    }
}

/// `MDTM 20261130120000 file`: an old form of MFMT that some servers still know. Of the time vsftpd wants no more than that it
/// begins with a digit and has a blank behind it.
fn sets_a_time(argument: &[u8]) -> bool {
    let time = argument.trim_ascii_start();
    let unsigned = time
        .strip_prefix(b"+")
        .or(time.strip_prefix(b"-"))
        .unwrap_or(time);
    unsigned.first().is_some_and(u8::is_ascii_digit)
        && time.trim_ascii_end().iter().any(u8::is_ascii_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denying(denied: &[&str]) -> CommandRules {
        let denied = denied.iter().map(|text| DeniedCommand::new(text).unwrap());
        CommandRules::new(None, denied.collect())
    }

    fn is_denied(rules: &CommandRules, line: &str) -> bool {
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        rules.deny(verb.as_bytes(), argument.as_bytes())
    }

    fn assert_all(rules: &CommandRules, denied: bool, lines: &[&str]) {
        for line in lines {
            assert_eq!(is_denied(rules, line), denied, "{line}");
        }
    }

    const WRITING: &[&str] = &[
        "DELE a",
        "RMD a",
        "XRMD a",
        "RNFR a",
        "RNTO b",
        "MFMT 20261130120000 a",
        "MFF modify=20261130120000; a",
        "MDTM 20261130120000 a",
        "MDTM 20261130120000.5 a",
        "MDTM 20010203 f",
        "MDTM 1abcdefg f",
        "MDTM 2020010203x405 f",
        "MDTM  20200102030405 f",
        "MDTM 20200102030405\tf",
        "MDTM +20200102030405 f",
        "SITE CHMOD 777 a",
        "site  chmod 777 a",
        "SITE \"CHMOD\" 777 a",
        "SITE CPFR a",
        "SITE EXEC rm",
        "SITE SYMLINK a b",
        "SITE UTIME a",
        "SITE",
        "SITE HE\\LP",
        "COMB a b",
        "SMNT a",
        "XYZZY",
    ];

    #[test]
    fn read_only_allows_what_reads() {
        let rules = CommandRules::new(Some(Preset::ReadOnly), Vec::new());
        assert_all(&rules, true, WRITING);
        assert_all(
            &rules,
            true,
            &[
                "STOR a", "stor a", "STOU", "APPE a", "MKD a", "XMKD a", "ALLO 5",
            ],
        );
        assert_all(
            &rules,
            false,
            &[
                "RETR a",
                "LIST",
                "NLST",
                "MLSD",
                "MLST a",
                "STAT a",
                "SIZE a",
                "MDTM a",
                "MDTM a b",
                "MDTM 2026",
                "CWD a",
                "XCWD a",
                "CDUP",
                "XCUP",
                "PWD",
                "XPWD",
                "REST 5",
                "XSHA256 a",
                "HASH a",
                "OPTS UTF8 ON",
                "SITE HELP",
                "site dirstyle",
                "TYPE I",
                "PASV",
                "USER b",
                "QUIT",
                "SYST",
            ],
        );
    }

    #[test]
    fn upload_only_allows_what_creates_and_lists() {
        let rules = CommandRules::new(Some(Preset::UploadOnly), Vec::new());
        assert_all(&rules, true, WRITING);
        assert_all(&rules, true, &["RETR a", "retr a", "XMD5 a", "HASH a"]);
        assert_all(
            &rules,
            false,
            &[
                "STOR a", "STOU", "APPE a", "MKD a", "XMKD a", "LIST", "SIZE a", "REST 5", "CWD a",
            ],
        );
    }

    #[test]
    fn a_denied_verb_is_denied_in_every_form() {
        let rules = denying(&["DELE", "mkd", "SITE CHMOD"]);
        assert_all(
            &rules,
            true,
            &[
                "DELE a",
                "dele a",
                "MKD a",
                "XMKD a",
                "SITE CHMOD 1 a",
                "SITE chmod",
                "SITE   CHMOD 1 a",
                "SITE 'CHMOD' 1 a",
                "SITE \tCHMOD",
                "SITE",
            ],
        );
        assert_all(
            &rules,
            false,
            &["RMD a", "SITE UMASK 022", "SITE HELP", "STOR a", "XYZZY"],
        );
        assert_all(
            &denying(&["MFMT"]),
            true,
            &["MFMT 20200102030405 a", "MDTM 20200102030405 a"],
        );
        assert_all(&denying(&["XMKD"]), true, &["MKD a"]);
        assert_all(&denying(&["SITE"]), true, &["SITE HELP", "SITE x", "SITE"]);
    }

    #[test]
    fn a_misspelt_verb_is_told_from_those_that_servers_have() {
        for (text, known) in [
            ("DELE", true),
            ("xmkd", true),
            ("SITE CHMOD", true),
            ("RETR", true),
            ("DELETE", false),
            ("RETRIEVE", false),
            ("1234", false),
        ] {
            assert_eq!(
                DeniedCommand::new(text).unwrap().is_known(),
                known,
                "{text}"
            );
        }
    }

    #[test]
    fn without_rules_everything_is_allowed() {
        assert_all(&CommandRules::default(), false, WRITING);
        assert!(CommandRules::default().is_empty());
    }

    #[test]
    fn a_line_that_servers_would_split_is_denied_where_any_command_is() {
        let rules = denying(&["DELE"]);
        let long = |length: usize| format!("CWD {}", "a".repeat(length - 4));
        assert_all(&rules, false, &[&long(MAX_LINE)]);
        assert_all(&rules, true, &[&long(MAX_LINE + 1)]);
        assert_all(&CommandRules::default(), false, &[&long(MAX_LINE + 1)]);
    }

    #[test]
    fn features_that_are_denied_are_not_offered() {
        let rules = CommandRules::new(Some(Preset::ReadOnly), Vec::new());
        for (feature, denied) in [
            ("MFMT", true),
            (" MFF modify;UNIX.group;UNIX.mode;", true),
            ("SITE MKDIR", true),
            ("SITE", true),
            ("UTF8", false),
            ("TVFS", false),
            ("MLST type*;size*;", false),
            ("REST STREAM", false),
            ("MDTM", false),
            ("HASH SHA-256*", false),
            ("MODE Z", false),
        ] {
            assert_eq!(rules.deny_feature(feature.as_bytes()), denied, "{feature}");
        }
        assert!(!CommandRules::default().deny_feature(b"MFMT"));
    }

    #[test]
    fn what_can_not_be_denied_is_refused() {
        for (text, error) in [
            ("", DenyError::NotACommand),
            ("DE-LE", DenyError::NotACommand),
            ("ABCDEFGHIJKLM", DenyError::NotACommand),
            ("SITE CH\"MOD", DenyError::NotACommand),
            ("SITE CHMOD 777", DenyError::NotACommand),
            ("DELE a", DenyError::Argument),
            ("user", DenyError::Needed),
            ("PASV", DenyError::Needed),
        ] {
            assert_eq!(DeniedCommand::new(text), Err(error), "{text}");
        }
    }
}
