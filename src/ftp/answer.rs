//! Every reply whose text is Portcullis' own, in one place.
//!
//! None of them repeats what the client sent (an attacker who redirects a browser here must not get its input
//! reflected), and none names a backend, its software or its address. The words follow IIS where operators know them
//! from there.

use crate::base::text::decimal;

/// A reply of one line, without its ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer(&'static str);

impl Answer {
    /// The reply as sent.
    pub fn bytes(self) -> Vec<u8> {
        [self.0.as_bytes(), b"\r\n"].concat()
    }

    /// The code of the answer.
    pub fn number(self) -> u16 {
        self.0.get(..3).and_then(decimal).unwrap_or_default()
    }

    /// The code and the text of the answer.
    pub fn text(self) -> &'static str {
        self.0
    }
}

/// The greeting with the configured text: one line.
pub fn greeting(text: &str) -> Vec<u8> {
    [b"220 ", text.as_bytes(), b"\r\n"].concat()
}

macro_rules! answers {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Answer = Answer($text);)*

        #[cfg(test)]
        const ALL: &[Answer] = &[$($name),*];
    };
}

answers! {
    // Goodbye

    /// QUIT.
    GOODBYE = "221 Goodbye.";
    /// Beyond a limit on sessions.
    TOO_MANY_SESSIONS = "421 Too many connections, try again later.";
    /// Beyond the limit on sessions at one site.
    SITE_FULL = "421 Too many connections to this site, try again later.";
    /// An operator has taken the site out of service.
    SITE_IN_MAINTENANCE = "421 This site is out of service for maintenance, try again later.";
    /// Too many failed logins; 421 and not 530, so that no client asks its user for another password (RFC 2577 §5).
    TOO_MANY_FAILURES = "421 Too many failed logins from your address, try again later.";
    /// No command for too long.
    IDLE_TIMEOUT = "421 Idle for too long, closing control connection.";
    /// Not logged in in time.
    LOGIN_TIMEOUT = "421 Login took too long, closing control connection.";
    /// SIGTERM.
    SHUTTING_DOWN = "421 Service shutting down, try again later.";
    /// An operator ends the session.
    TERMINATED = "421 Session ended by an administrator, closing control connection.";
    /// The backend can't be reached, greeted badly, or couldn't be verified.
    SITE_UNAVAILABLE = "421 The site is not available at the moment, try again later.";
    /// The backend's control connection ended or became unsynchronised.
    SITE_LOST = "421 The connection to the site was lost.";
    /// Too much nonsense before login.
    TOO_MANY_ERRORS = "421 Too many errors, closing control connection.";
    /// Bytes in clear text behind AUTH: possible command injection (see RFC 3207 §6).
    BYTES_BEHIND_AUTH = "421 Commands must not follow AUTH before the TLS handshake.";

    // TLS (RFC 4217)

    /// AUTH accepted.
    AUTH_ACCEPTED = "234 AUTH accepted, begin the TLS handshake.";
    /// AUTH before there is a certificate; the words are those of IIS.
    NO_CERTIFICATE = "534 Local policy on server does not allow TLS secure connections.";
    /// AUTH within TLS.
    ALREADY_SECURE = "503 The control connection is secure already.";
    /// AUTH with a mechanism other than TLS.
    AUTH_UNKNOWN = "504 Security mechanism not supported, use AUTH TLS.";
    /// AUTH without argument.
    AUTH_ARGUMENT = "501 AUTH needs a mechanism, use AUTH TLS.";
    /// USER in clear text where TLS is required; the words are those of IIS.
    POLICY_REQUIRES_TLS = "534 Policy requires SSL. Use AUTH TLS first.";
    /// PBSZ.
    PBSZ_ACCEPTED = "200 PBSZ=0";
    /// PBSZ with no number.
    PBSZ_ARGUMENT = "501 PBSZ needs a number of at most 32 bits.";
    /// PBSZ or PROT without TLS.
    NEEDS_AUTH = "503 Use AUTH TLS first.";
    /// PROT P.
    PROT_PRIVATE = "200 Data connections are private.";
    /// PROT C.
    PROT_CLEAR = "200 Data connections are clear.";
    /// PROT C where data connections have to be private.
    PROT_CLEAR_REFUSED = "534 Policy requires private data connections, use PROT P.";
    /// A transfer without PROT P where that is required (RFC 4217 §10).
    PROT_REQUIRED = "521 Data connection must be private, use PROT P first.";
    /// PROT S and E.
    PROT_UNSUPPORTED = "536 Only protection levels C and P are supported with TLS.";
    /// PROT with anything else.
    PROT_UNKNOWN = "504 Unknown protection level, use PROT P.";
    /// CCC.
    CCC_REFUSED = "534 The control connection stays protected.";
    /// ADAT, MIC, CONF, ENC.
    OTHER_MECHANISM = "502 Only TLS is supported.";

    // Login

    /// No site for this login; the words are those of IIS, which operators search for.
    HOST_EXPECTED = "530 Valid hostname is expected.";
    /// A login that the site's policy doesn't allow, and no word of why; the words are those of IIS.
    NOT_ALLOWED = "530 User cannot log in.";
    /// The site requires a certificate, and the client has shown none that is right for the user; no word of which.
    CERTIFICATE_REQUIRED = "530 User cannot log in without the right client certificate.";
    /// PASS after a login by certificate.
    LOGGED_IN_ALREADY = "230 Already logged in.";
    /// REIN.
    REINITIALISED = "220 Ready for a new user.";
    /// A command that needs a login.
    NOT_LOGGED_IN = "530 Please login with USER and PASS.";
    /// PASS without USER.
    USER_FIRST = "503 Login with USER first.";
    /// USER for another site while logged in.
    OTHER_SITE = "503 Already logged in to another site, open a new connection.";
    /// USER without argument.
    USER_ARGUMENT = "501 USER needs a user name.";
    /// HOST for a site.
    HOST_ACCEPTED = "220 Host accepted.";
    /// HOST for no site (RFC 7151 §3.3).
    HOST_UNKNOWN = "504 Host not known here.";
    /// HOST with an invalid host name.
    HOST_SYNTAX = "501 HOST needs a host name or an address in its usual form, without a port.";
    /// HOST after login.
    HOST_TOO_LATE = "503 HOST must come before login.";

    // Commands

    /// NOOP.
    NOOP_OK = "200 OK.";
    /// TYPE, STRU and MODE that every server knows, kept for the backend.
    NOTED = "200 Noted.";
    /// OPTS, CLNT and LANG, kept for the backend, which may not know them: 202 is "superfluous at this site".
    WISHED = "202 Noted, the site decides at the login.";
    /// OPTS that can't be kept for a backend.
    OPTION_UNKNOWN = "501 Option not known.";
    /// HELP before login.
    HELP_TEXT = "214 FTP proxy. Login with USER host|user and PASS.";
    /// A line that is not a command.
    NOT_A_COMMAND = "500 Command not understood.";
    /// A command that isn't offered.
    NOT_IMPLEMENTED = "502 Command not implemented.";
    /// A command that the site denies.
    COMMAND_DENIED = "550 Permission denied.";
    /// A line over the limit.
    LINE_TOO_LONG = "500 Line too long.";
    /// CR or NUL in a line.
    BAD_CHARACTER = "501 Control characters are not allowed in a command.";
    /// MODE B and C, whose data connections stay open.
    MODE_UNSUPPORTED = "504 Only transfer modes S and Z are supported.";
    /// ABOR with nothing to abort and no backend to ask.
    NOTHING_TO_ABORT = "225 No transfer to abort.";

    // Data ports

    /// A transfer command without a data port.
    DATA_PORT_FIRST = "425 Use EPSV, PASV, EPRT or PORT first.";
    /// EPSV ALL.
    EPSV_ALL_OK = "200 From now on only EPSV is accepted.";
    /// PORT, PASV or EPRT after EPSV ALL (RFC 2428 §4).
    EPSV_ALL_GIVEN = "503 Only EPSV is accepted after EPSV ALL.";
    /// PASV over IPv6, which a 227 can't express.
    PASV_NEEDS_IPV4 = "425 Use EPSV, PASV knows only IPv4.";
    /// EPSV 2 over IPv4.
    ONLY_IPV4 = "522 Network protocol not supported, use (1)";
    /// EPSV 1 over IPv6.
    ONLY_IPV6 = "522 Network protocol not supported, use (2)";
    /// EPRT with an unknown family.
    EPRT_FAMILY = "522 Network protocol not supported, use (1,2)";
    /// PORT, EPRT or EPSV with an argument that names nothing.
    ADDRESS_SYNTAX = "501 Address not understood.";
    /// PORT or EPRT elsewhere than to the client itself (RFC 2577 §3).
    ADDRESS_REFUSED = "504 Active mode only to your own address and ports from 1024.";
    /// PORT and EPRT switched off.
    ACTIVE_REFUSED = "502 Active mode is switched off, use EPSV or PASV.";
    /// PORT and EPRT.
    PORT_ACCEPTED = "200 PORT command successful.";
    /// No passive port became free, or none could be opened for the backend.
    NO_PASSIVE_PORT = "425 No data port is free, try again later.";
    /// The backend opened no data port.
    NO_BACKEND_PORT = "425 The site opened no data port.";

    // Transfers

    /// The client opened no data connection in time.
    NO_DATA_CONNECTION = "425 Can't open data connection: none came from your address.";
    /// The client could not be reached in active mode.
    DATA_PORT_UNREACHABLE = "425 Can't open data connection: your data port can't be reached.";
    /// The backend's data port could not be reached.
    NO_BACKEND_DATA = "425 The site's data connection could not be opened.";
    /// The client's handshake on the data connection failed.
    DATA_HANDSHAKE_FAILED = "522 TLS handshake on the data connection failed.";
    /// Clear text instead of TLS on a data connection under PROT P.
    DATA_IN_CLEAR_TEXT = "522 Clear text on the data connection, but PROT P is in force.";
    /// No handshake on a data connection under PROT P.
    DATA_WITHOUT_HANDSHAKE = "522 No TLS handshake on the data connection, but PROT P is in force.";
    /// Session reuse is required and didn't happen.
    REUSE_REQUIRED = "522 The data connection has to resume the TLS session of the control connection.";
    /// A full handshake without the certificate that the login rests on.
    DATA_CERTIFICATE = "522 The data connection has to show the client certificate of the control connection.";
    /// Another connection of the client's address arrived at its data port, or may yet arrive.
    AMBIGUOUS_DATA = "426 Can't tell your data connection from another one of your address, try again.";
    /// The client began no transfer, and another session of its address needed the port.
    PORT_WITHDRAWN = "425 Your data port was needed by another session of your address, ask for another one.";
    /// The client's data connection broke.
    CLIENT_DATA_LOST = "426 Data connection broken, transfer incomplete.";
    /// The client's upload ended without close_notify.
    UNCLEAN_UPLOAD = "426 TLS connection not closed properly, upload incomplete.";
    /// TLS on a data connection in clear text.
    UNEXPECTED_TLS = "426 TLS on a data connection in clear text, use PROT P first.";
    /// The upload stalled before its end, so it may have been ended by the load balancer instead of the client.
    STALLED_UPLOAD = "426 Data connection stood still before its end, upload may be incomplete.";
    /// So much input is queued behind an upload without TLS that an ABOR may be among it.
    UNHEARD_UPLOAD = "426 Too many commands behind the upload, it may not be complete.";
    /// The backend's data connection broke.
    BACKEND_DATA_LOST = "426 The site's data connection broke, transfer incomplete.";
    /// No byte for too long.
    DATA_TIMEOUT = "426 Data connection idle for too long, transfer aborted.";
    /// The backend sent no final reply.
    NO_FINAL_REPLY = "426 The site did not confirm the transfer.";
    /// This machine has nothing left for a data connection.
    SHORTAGE = "451 Out of resources for data connections, transfer incomplete; try again later.";
    /// We have failed ourselves.
    INTERNAL_ERROR = "451 Internal error, transfer incomplete.";
    /// The backend called an upload complete before it was.
    EARLY_COMPLETION = "426 The site ended the transfer early, upload incomplete.";
    /// ABOR: the transfer.
    TRANSFER_ABORTED = "426 Transfer aborted.";
    /// ABOR: itself.
    ABORT_DONE = "226 Abort successful.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::line::Line;
    use crate::ftp::reply::ReplyParser;

    #[test]
    fn every_answer_is_one_well_formed_reply() {
        for answer in ALL {
            let line = Line::Whole(answer.text().as_bytes().into());
            let reply = ReplyParser::default()
                .push(line)
                .unwrap()
                .expect("a whole reply");
            assert_eq!(reply.bytes(), &answer.bytes());
            assert!(
                answer.text().is_ascii() && answer.text().len() <= 100,
                "{}",
                answer.text()
            );
        }
    }
}
