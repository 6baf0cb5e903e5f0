//! Why a login was refused: wrong credentials, or a reason that is not the client's fault.
//!
//! Every server replies 530 to a wrong password, some reply 430. They send the same code when they are full (ProFTPD's
//! MaxClients, Serv-U, glFTPd), when they require TLS (vsftpd, FileZilla Server), and when the home directory is
//! missing (IIS). Counting those as guesses would block a whole office behind one address at a busy site.

use super::reply::Reply;

/// Phrases for reasons that have nothing to do with a password, in lower case.
const NO_GUESS: &[&str] = &[
    // ProFTPD: "the maximum number of clients (5) from your host are already connected".
    "maximum",
    "max number",
    "max clients",
    "max connections",
    "too many",
    "already connected",
    "already logged in",
    "no more connections",
    "no more users",
    // glFTPd: "restricted to 3 simultaneous logins"; Serv-U: "only 2 sessions from same IP allowed concurrently".
    "simultaneous",
    "concurrent",
    "connection limit",
    "session limit",
    "user limit",
    "limit reached",
    "limit exceeded",
    "server is full",
    "site is full",
    // IIS: "User cannot log in, home directory inaccessible."
    "home directory",
    "maintenance",
];

/// Phrases of servers that take no logins in clear text, in lower case.
const WANTS_TLS: &[&str] = &[
    // vsftpd: "Non-anonymous sessions must use encryption."
    "must use encryption",
    "must use tls",
    "must use ssl",
    "requires tls",
    "requires ssl",
    "require tls",
    "require ssl",
    "tls required",
    "ssl required",
    "tls is required",
    "ssl is required",
    "not allow plain",
    // Pure-FTPd: "Sorry, cleartext sessions and weak ciphers are not accepted on this server."
    "cleartext",
    // FileZilla Server: "Use AUTH first."
    "use auth first",
];

/// Words that make a guess of it all the same: "Too many failed logins", "Maximum number of login attempts".
const GUESS: &[&str] = &[
    "password",
    "incorrect",
    "invalid",
    "attempt",
    "fail",
    "wrong",
    "authentication",
    "credential",
];

/// Whether a refused login may have been a wrong guess, by code and text of the reply.
///
/// `user` is the name that was tried. Some servers repeat it in their reply, and a user name must not be able to make
/// guesses free.
pub fn is_about_credentials(reply: &Reply, user: &[u8]) -> bool {
    if !matches!(reply.number(), 430 | 530) {
        return false;
    }
    let excuses = |text| contains_any(text, NO_GUESS) || contains_any(text, WANTS_TLS);
    let excused = excuses(reply.bytes()) && !contains_any(reply.bytes(), GUESS);
    !excused || excuses(user)
}

/// Whether a server refuses a login since it came in clear text, by code and text of its reply.
pub fn wants_tls(reply: &Reply) -> bool {
    // 534: a higher level of protection is wanted (RFC 2228 §5.1.1).
    reply.class().is_failure() && (reply.number() == 534 || contains_any(reply.bytes(), WANTS_TLS))
}

fn contains_any(text: &[u8], phrases: &[&str]) -> bool {
    let text = text.to_ascii_lowercase();
    let mut phrases = phrases.iter();
    phrases.any(|phrase| memchr::memmem::find(&text, phrase.as_bytes()).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::line::Line;
    use crate::ftp::reply::ReplyParser;

    fn reply(text: &str) -> Reply {
        let mut parser = ReplyParser::default();
        let reply = text.split("\r\n").find_map(|line| {
            let line = Line::Whole(line.to_owned().into());
            parser.push(line).unwrap()
        });
        reply.unwrap()
    }

    fn is_guess(text: &str, user: &str) -> bool {
        is_about_credentials(&reply(text), user.as_bytes())
    }

    #[test]
    fn a_server_that_takes_no_logins_in_clear_text_is_known_by_its_words() {
        for text in [
            "530 Non-anonymous sessions must use encryption.",
            "550 SSL/TLS required on the control channel",
            "421-Sorry, cleartext sessions and weak ciphers are not accepted on this server.\r\n421 Bye",
            "530 This server does not allow plain FTP. You have to use FTP over TLS.",
            "534 Policy requires SSL.",
            "503 Use AUTH first.",
        ] {
            assert!(wants_tls(&reply(text)), "{text}");
        }
        for text in [
            "530 Login incorrect.",
            "421 Too many users",
            "220 TLS required",
        ] {
            assert!(!wants_tls(&reply(text)), "{text}");
        }
    }

    #[test]
    fn a_refused_password_is_a_guess() {
        for text in [
            "530 Login incorrect.",
            "530 Login authentication failed",
            "530 User cannot log in.",
            "530 Not logged in, user or password incorrect!",
            "530 Too many failed login attempts",
            "530 Maximum number of login attempts exceeded",
            "530-Sorry\r\n530 Login incorrect.",
            "530",
            "430 Invalid username or password",
        ] {
            assert!(is_guess(text, "alice"), "{text}");
        }
    }

    #[test]
    fn a_server_that_is_full_or_wants_tls_or_has_no_home_directory_says_nothing_of_a_password() {
        for text in [
            "530 Sorry, the maximum number of clients (5) from your host are already connected.",
            "530 Sorry, the maximum number of clients (5) for this user are already connected.",
            "530 Sorry, the maximum number of allowed clients (5) are already connected.",
            "530 Too many connections.",
            "530 Sorry, no more connections allowed for this account",
            "530 Sorry, your account is restricted to 3 simultaneous logins.",
            "530 Not logged in, only 2 sessions from same IP allowed concurrently.",
            "530 Non-anonymous sessions must use encryption.",
            "530 This server does not allow plain FTP. You have to use FTP over TLS.",
            "530 User cannot log in, home directory inaccessible.",
            "530-Come again.\r\n530-There are TOO MANY users.\r\n530 Goodbye.",
        ] {
            assert!(!is_guess(text, "alice"), "{text}");
        }
    }

    #[test]
    fn another_code_is_no_guess() {
        for text in ["421 Too many users", "534 Use TLS", "451 No", "550 No"] {
            assert!(!is_guess(text, "alice"), "{text}");
        }
    }

    #[test]
    fn a_name_that_the_server_repeats_makes_no_guess_free() {
        let user = "maximum";
        assert!(is_guess("530 User maximum cannot log in.", user));
        assert!(is_guess("530 User Too Many cannot log in.", "Too Many"));
    }
}
