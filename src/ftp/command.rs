//! A client's command: its verb, its argument, and what kind of thing the verb asks for.
//!
//! Commands are bytes, not text: path names may be in any encoding (RFC 2640 §3.1), and only the verb has to be ASCII.
//! Nothing with a CR, LF or NUL inside becomes a [`Command`], so that what is forwarded is one command for every
//! server, whatever it takes for the end of a line.

use std::fmt;

use bytes::Bytes;

use crate::outcome::Direction;

const MUNGED_PASV: &[u8] = b"P@SW";

/// "Interpret as command" of RFC 854.
const IAC: u8 = 0xFF;

/// The beginning and the end of a subnegotiation.
const SB: u8 = 0xFA;
const SE: u8 = 0xF0;

/// The SITE commands on files and directories that servers have (ProFTPD, Pure-FTPd, vsftpd, IIS).
const SITE_COMMANDS_OF_FILES: [&[u8]; 11] = [
    b"CHMOD", b"CHGRP", b"CHOWN", b"COPY", b"CPFR", b"CPTO", b"MKDIR", b"RMDIR", b"SYMLINK",
    b"UTIME", b"UMASK",
];

/// The longest verb in use is far shorter; more than this is noise.
const MAX_VERB: usize = 12;

/// A command as the client sent it, known to be safe to forward.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    verb: Verb,
    line: Bytes,
    argument_at: usize,
}

/// Why a line is not a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCommand {
    /// An empty line: vsftpd and Pure-FTPd ignore them, and so do we.
    #[error("empty line")]
    Empty,
    /// No verb of ASCII letters and digits in front, the first of them a letter.
    #[error("no verb in front")]
    NoVerb,
    /// CR or NUL inside: a second command to a server that ends lines there.
    #[error("a CR or NUL inside the line")]
    ControlCharacter,
    /// The request line of a browser or scanner.
    #[error("an HTTP request")]
    Http,
}

/// The verbs that mean something to a proxy; every other one is [`Verb::Other`] and is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are the RFCs' own
pub enum Verb {
    // RFC 959, access control
    User,
    Pass,
    Acct,
    Rein,
    Quit,
    // RFC 959 and 2428, data ports
    Port,
    Pasv,
    Eprt,
    Epsv,
    // transfers
    Retr,
    Stor,
    Stou,
    Appe,
    List,
    Nlst,
    Mlsd,
    Rest,
    /// RANG (draft-bryan-ftp-range): the next transfer is of these bytes alone.
    Rang,
    Abor,
    // RFC 959, directories and files, with the names of RFC 775 for the same
    Cwd,
    Cdup,
    Pwd,
    Dele,
    Rnfr,
    Rnto,
    Mkd,
    Rmd,
    Smnt,
    Site,
    // parameters and information
    /// SIZE (RFC 3659).
    Size,
    Type,
    Stru,
    Mode,
    Stat,
    Noop,
    Help,
    Feat,
    Opts,
    Clnt,
    Lang,
    Host,
    // RFC 2228 and 4217
    Auth,
    Pbsz,
    Prot,
    Ccc,
    /// ADAT, MIC, CONF, ENC: RFC 2228's other mechanisms.
    Protected,
    /// Verbs that would open or announce data connections in ways not offered here: LPRT, LPSV, SPSV, CPSV, SSCN.
    OtherDataPort,
    /// Anything else.
    Other,
}

impl Command {
    /// Reads one line, without its ending.
    ///
    /// Telnet commands in front of the verb are dropped: lftp, Perl's Net::FTP and others send IP and Synch before
    /// ABOR, as RFC 959 §4.1.3 asks, each in an order of its own. Inside a line such bytes are part of a name (Latin-1
    /// has letters there) and stay. CRs behind it belong to its ending: a program that writes CRLF to a stream in text
    /// mode sends CR CR LF.
    pub fn parse(line: Bytes) -> Result<Self, BadCommand> {
        let mut end = line.len();
        while end > 0 && line[end - 1] == b'\r' {
            end -= 1;
        }
        let start = telnet_prefix(&line[..end]);
        let line = line.slice(start..end);
        if line.is_empty() {
            return Err(BadCommand::Empty);
        }
        if line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(BadCommand::ControlCharacter);
        }
        let end = line
            .iter()
            .position(|byte| !byte.is_ascii_alphanumeric())
            .unwrap_or(line.len());
        let verb_ends = matches!(line.get(end), None | Some(b' '));
        // XMD5, XSHA256, MD5: RFC 959 has verbs of letters alone, and servers list these in FEAT.
        let begins = line.first().is_some_and(u8::is_ascii_alphabetic);
        if !begins || end > MAX_VERB || !verb_ends {
            let argument_at = munged_pasv(&line).ok_or(BadCommand::NoVerb)?;
            return Ok(Self {
                verb: Verb::Pasv,
                line,
                argument_at,
            });
        }
        let verb = Verb::named(&line[..end].to_ascii_uppercase()).ok_or(BadCommand::Http)?;
        Ok(Self {
            verb,
            argument_at: (end + 1).min(line.len()),
            line,
        })
    }

    /// The verb.
    pub fn verb(&self) -> Verb {
        self.verb
    }

    /// Everything behind the one space after the verb, untrimmed: further spaces belong to a path (RFC 2640 §3.1).
    pub fn argument(&self) -> &[u8] {
        &self.line[self.argument_at..]
    }

    /// As much of the argument as may be shown. SITE commands may have passwords behind their first word (`SITE PSWD`,
    /// `SITE GPASS`), but for those that are known to be about files.
    pub fn shown_argument(&self) -> &[u8] {
        let argument = self.argument();
        if self.verb != Verb::Site {
            return argument;
        }
        // Servers part words at a tab as well.
        let mut words = argument.split(|byte| !byte.is_ascii_alphanumeric());
        let first = words.next().unwrap_or_default();
        let is_about_files = SITE_COMMANDS_OF_FILES
            .iter()
            .any(|known| known.eq_ignore_ascii_case(first));
        if is_about_files { argument } else { first }
    }

    /// The whole line, without an ending.
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// The verb as sent.
    pub fn verb_text(&self) -> &str {
        let end = self
            .line
            .iter()
            .position(|byte| *byte == b' ')
            .unwrap_or(self.line.len());
        // The verb is ASCII by construction.
        std::str::from_utf8(&self.line[..end]).unwrap_or_default()
    }
}

/// Shows the verb alone: an argument may be a password, of PASS or of some SITE command.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({} ..)", self.verb_text())
    }
}

impl Verb {
    /// The verb of these upper-case letters; `None` for an HTTP method.
    fn named(letters: &[u8]) -> Option<Self> {
        Some(match letters {
            b"USER" => Self::User,
            b"PASS" => Self::Pass,
            b"ACCT" => Self::Acct,
            b"REIN" => Self::Rein,
            b"QUIT" => Self::Quit,
            b"PORT" => Self::Port,
            b"PASV" => Self::Pasv,
            b"EPRT" => Self::Eprt,
            b"EPSV" => Self::Epsv,
            b"RETR" => Self::Retr,
            b"STOR" => Self::Stor,
            b"STOU" => Self::Stou,
            b"APPE" => Self::Appe,
            b"LIST" => Self::List,
            b"NLST" => Self::Nlst,
            b"MLSD" => Self::Mlsd,
            b"REST" => Self::Rest,
            b"RANG" => Self::Rang,
            b"SIZE" => Self::Size,
            b"ABOR" => Self::Abor,
            b"CWD" | b"XCWD" => Self::Cwd,
            b"CDUP" | b"XCUP" => Self::Cdup,
            b"PWD" | b"XPWD" => Self::Pwd,
            b"DELE" => Self::Dele,
            b"RNFR" => Self::Rnfr,
            b"RNTO" => Self::Rnto,
            b"MKD" | b"XMKD" => Self::Mkd,
            b"RMD" | b"XRMD" => Self::Rmd,
            b"SMNT" => Self::Smnt,
            b"SITE" => Self::Site,
            b"TYPE" => Self::Type,
            b"STRU" => Self::Stru,
            b"MODE" => Self::Mode,
            b"STAT" => Self::Stat,
            b"NOOP" => Self::Noop,
            b"HELP" => Self::Help,
            b"FEAT" => Self::Feat,
            b"OPTS" => Self::Opts,
            b"CLNT" => Self::Clnt,
            b"LANG" => Self::Lang,
            b"HOST" => Self::Host,
            b"AUTH" => Self::Auth,
            b"PBSZ" => Self::Pbsz,
            b"PROT" => Self::Prot,
            b"CCC" => Self::Ccc,
            b"ADAT" | b"MIC" | b"CONF" | b"ENC" => Self::Protected,
            b"LPRT" | b"LPSV" | b"SPSV" | b"CPSV" | b"SSCN" => Self::OtherDataPort,
            b"GET" | b"POST" | b"PUT" | b"HEAD" | b"OPTIONS" | b"DELETE" | b"PATCH"
            | b"CONNECT" | b"TRACE" => {
                return None;
            }
            _ => Self::Other,
        })
    }

    /// The direction of the bytes, if this verb starts a transfer.
    pub fn transfer(self) -> Option<Direction> {
        match self {
            Self::Retr => Some(Direction::Download),
            Self::Stor | Self::Stou | Self::Appe => Some(Direction::Upload),
            Self::List | Self::Nlst | Self::Mlsd => Some(Direction::Listing),
            _ => None,
        }
    }
}

/// Offset of the argument of a `P@SW`. Clients send this when PASV has failed, in the hope that a firewall on the way doesn't
/// know it (Microsoft's, Novell's); vsftpd and Pure-FTPd take it for PASV.
fn munged_pasv(line: &[u8]) -> Option<usize> {
    let (verb, rest) = line.split_at_checked(MUNGED_PASV.len())?;
    let is_one =
        verb.eq_ignore_ascii_case(MUNGED_PASV) && matches!(rest.first(), None | Some(b' '));
    is_one.then(|| (verb.len() + 1).min(line.len()))
}

/// How many bytes of Telnet commands (RFC 854) stand in front of the line, whole or not.
///
/// The last byte of urgent data gets lost behind a proxy that does not read urgent data in line (HAProxy): of BSD's IAC
/// IP IAC DM the second IAC. No verb begins with such a byte.
fn telnet_prefix(line: &[u8]) -> usize {
    let mut at = 0;
    if line.first().is_none_or(|first| *first < SE) {
        return at;
    }
    loop {
        at += match line.get(at..).unwrap_or_default() {
            // WILL, WONT, DO, DONT name an option.
            [IAC, 0xFB..=0xFE, ..] => 3,
            // A subnegotiation goes on until IAC SE.
            [IAC, SB, negotiated @ ..] => {
                let end = negotiated.windows(2).position(|pair| pair == [IAC, SE]);
                2 + end.map_or(negotiated.len(), |end| end + 2)
            }
            [IAC, SE..=0xFE, ..] => 2,
            // Twice it is the byte 255, and none of Telnet's.
            [IAC, IAC, ..] | [IAC] => return at.min(line.len()),
            [IAC | SE..=0xFE, ..] => 1,
            _ => return at.min(line.len()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &[u8]) -> Result<Command, BadCommand> {
        Command::parse(Bytes::copy_from_slice(line))
    }

    #[test]
    fn verbs_are_known_in_any_case() {
        for line in [&b"stor a"[..], b"STOR a", b"StOr a"] {
            assert_eq!(parse(line).unwrap().verb(), Verb::Stor);
        }
    }

    #[test]
    fn a_verb_may_have_digits_behind_its_first_letter() {
        for line in ["XMD5 a", "XSHA512 a", "MD5 a", "CRC32 a", "xsha1"] {
            let command = parse(line.as_bytes()).unwrap();
            assert_eq!(command.verb(), Verb::Other, "{line}");
            assert_eq!(Some(command.verb_text()), line.split(' ').next());
        }
        for line in ["5MD a", "12", "MD5-1 a", "MD5:a"] {
            assert_eq!(parse(line.as_bytes()), Err(BadCommand::NoVerb), "{line}");
        }
    }

    #[test]
    fn only_one_space_is_cut_from_the_argument() {
        assert_eq!(parse(b"STOR   a ").unwrap().argument(), b"  a ");
        assert_eq!(parse(b"STOR ").unwrap().argument(), b"");
        assert_eq!(parse(b"STOR").unwrap().argument(), b"");
    }

    #[test]
    fn names_keep_every_byte_but_the_three_that_end_lines() {
        let command = parse(b"RETR \xE9t\xE9 \xFF\xFF\xF4\t\"x\"").unwrap();
        assert_eq!(command.argument(), b"\xE9t\xE9 \xFF\xFF\xF4\t\"x\"");
        assert_eq!(parse(b"CWD x\0"), Err(BadCommand::ControlCharacter));
        for byte in [b'\r', 0] {
            let line = [b"CWD x", &[byte][..], b"DELE y"].concat();
            assert_eq!(parse(&line), Err(BadCommand::ControlCharacter));
        }
    }

    #[test]
    fn what_may_be_a_password_is_not_shown() {
        for (line, shown) in [
            (&b"DELE a b"[..], &b"a b"[..]),
            (b"SITE CHMOD 644 a b", b"CHMOD 644 a b"),
            (b"site chmod 644 a", b"chmod 644 a"),
            (b"SITE PSWD old new", b"PSWD"),
            (b"SITE PSWD\told\tnew", b"PSWD"),
            (b"SITE PSWD=old", b"PSWD"),
            (b"SITE \"PSWD old", b""),
            (b"SITE", b""),
        ] {
            assert_eq!(parse(line).unwrap().shown_argument(), shown);
        }
    }

    #[test]
    fn any_number_of_crs_ends_a_line() {
        for line in [&b"CWD x"[..], b"CWD x\r", b"CWD x\r\r"] {
            assert_eq!(parse(line).unwrap().line(), b"CWD x");
        }
        assert_eq!(parse(b"\r\r"), Err(BadCommand::Empty));
    }

    #[test]
    fn telnet_commands_in_front_of_the_verb_are_dropped() {
        for in_front in [
            // lftp; BSD's ftp and Perl; the Synch first; without the IP.
            &b"\xFF\xF4\xFF\xF2"[..],
            b"\xFF\xF4\xFF\xF4\xFF\xF2",
            b"\xFF\xF2\xFF\xF4",
            b"\xFF\xF2",
            // BSD's and lftp's with the urgent byte lost.
            b"\xFF\xF4\xF2",
            b"\xFF\xF4\xFF\xF4\xF2",
            b"\xF2",
            b"\xF2\xFF\xF4",
            // Of a Telnet client.
            b"\xFF\xFB\x01\xFF\xFD\x03",
            b"\xFF\xFA\x18\x00xterm\xFF\xF0",
        ] {
            let command = parse(&[in_front, b"ABOR"].concat()).unwrap();
            assert_eq!(command.line(), b"ABOR", "{}", in_front.escape_ascii());
            assert_eq!(parse(in_front).unwrap_err(), BadCommand::Empty);
        }
        assert_eq!(parse(b"\xFF\xF4\xFFABOR").unwrap().line(), b"ABOR");
        assert_eq!(parse(b"\xFF\xFFABOR").unwrap_err(), BadCommand::NoVerb);
        assert_eq!(parse(b"\xFF").unwrap_err(), BadCommand::NoVerb);
        assert_eq!(parse(b"\xFF\xFB").unwrap_err(), BadCommand::Empty);
        assert_eq!(parse(b"\xFF\xFA\x18ABOR").unwrap_err(), BadCommand::Empty);
        assert_eq!(parse(b"\xEFABOR").unwrap_err(), BadCommand::NoVerb);
    }

    #[test]
    fn a_pasv_that_firewalls_should_not_see_is_one() {
        for line in [&b"P@SW"[..], b"p@sw", b"P@SW "] {
            let command = parse(line).unwrap();
            assert_eq!((command.verb(), command.argument()), (Verb::Pasv, &b""[..]));
        }
        assert_eq!(parse(b"P@SWX"), Err(BadCommand::NoVerb));
        assert_eq!(parse(b"P@S"), Err(BadCommand::NoVerb));
    }

    #[test]
    fn what_is_no_verb_is_refused() {
        for line in [
            &b" NOOP"[..],
            b"P@SV",
            b"NOOP\tx",
            b"Host: x",
            b"\x80\x80",
            b"ABCDEFGHIJKLM",
        ] {
            assert_eq!(
                parse(line),
                Err(BadCommand::NoVerb),
                "{}",
                line.escape_ascii()
            );
        }
    }

    #[test]
    fn http_requests_are_told_from_ftp() {
        assert_eq!(parse(b"GET / HTTP/1.1"), Err(BadCommand::Http));
        assert_eq!(parse(b"POST /x HTTP/1.0"), Err(BadCommand::Http));
    }

    #[test]
    fn what_is_printed_of_a_command_holds_no_argument() {
        let command = parse(b"PASS hunter2").unwrap();
        assert_eq!(format!("{command:?}"), "Command(PASS ..)");
    }

    #[test]
    fn transfers_know_their_direction() {
        assert_eq!(Verb::Appe.transfer(), Some(Direction::Upload));
        assert_eq!(Verb::Retr.transfer(), Some(Direction::Download));
        assert_eq!(Verb::Mlsd.transfer(), Some(Direction::Listing));
        assert_eq!(Verb::Stat.transfer(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_command_that_two_servers_read_differently(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(command) = parse(&line) {
                prop_assert!(!command.line().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
                prop_assert!(command.line().starts_with(command.verb_text().as_bytes()));
            }
        }
    }
}
