//! Texts that advise the operator what to look at first where a login or a check fails at a backend, and what to do where a stage
//! of a probe does.

use std::io::ErrorKind;

use super::CheckError;
use crate::backend::control::ReplyError;
use crate::backend::dial::DialError;
use crate::backend::site_backend::Backend;
use crate::config::TlsMode;
use crate::ftp::command::Verb;
use crate::ftp::refusal;
use crate::ftp::reply::{Class, Reply};
use crate::tls::HandshakeFault;

/// Advice where nothing better is known.
const SEE_ITS_LOG: &str = "see the server's own log at this time";
const ASK_IN_CLEAR: &str = "turn on TLS (AUTH TLS) in the server; or write `tls: none` for it, if an unencrypted connection to it is acceptable";
const PROTECT: &str = "allow PBSZ and PROT P in the server; without them it can be used in clear text alone (`tls: none`)";
const PASSIVE_PORTS: &str = "give the server a fixed range of passive ports (vsftpd pasv_min_port, ProFTPD PassivePorts, IIS FTP \
    firewall support) and open it in every firewall between; or write `passive_mode: active` for the site";
const SESSION_REUSE: &str = "the server may demand that data connections resume the TLS session and have lost it: leave \
    `max_version` at 1.2, and see its log";

const NO_PASSIVE: &str = "allow passive mode in the server (EPSV or PASV), or write `passive_mode: active` for the site; where it \
    is active already, allow PORT in the server";
const NO_ACTIVE: &str = "let the server connect to any port of this machine, through every firewall between; or leave \
    `passive_mode` of the site at auto";
const LOGIN: &str = "check the user, the password file, and whether the server lets this account in from this machine's address; \
    the user on the wire may have to name a host, as in `host|user`";
const LOGIN_BUSY: &str =
    "the server takes no more logins just now: try again later, or raise its limits";
/// Advice for an entry whose servers are discovered by DNS.
pub(super) const ASK_NAME_SERVERS: &str = "are the name and `dns: {servers: …}` right, and do those name servers know it (`dig NAME`, or \
    `dig NAME SRV`)?";
const LOGIN_QUEUE: &str = "the backends of a site are logged in to one after the other: probe fewer at a time (`--backend`)";
const DATA_HEADER: &str = "do its data ports expect a PROXY header? `data: true` or `false` in the backend's `proxy_protocol` has to \
    agree with it";
/// Hint where a backend may have been sent a PROXY header that it doesn't expect.
const HEADER_SENT: &str =
    "does this backend expect a PROXY header? It was sent one, as its proxy_protocol says";
/// Hint where a backend may have waited for a PROXY header.
const NO_HEADER_SENT: &str =
    "does this backend expect a PROXY header? It was sent none, since it has no proxy_protocol";
/// Hint where a backend takes no logins in clear text.
const WANTS_TLS: &str = "this server takes no logins in clear text: write `tls: explicit` for this backend, so that they are sent to it \
    under TLS";
/// Hint where a server of TLS 1.2 may have waited for a certificate: TLS 1.2 has no alert for that.
const NO_CERTIFICATE_SHOWN: &str = "does this backend require a client certificate? It was shown none, since it has no client_certificate";

impl CheckError {
    /// Advice what to do about this error.
    pub fn remedy(&self, backend: &Backend) -> String {
        let text = match self {
            Self::Dial(error) => return error.remedy(backend),
            Self::Login {
                hint: Some(hint), ..
            } => hint,
            Self::Login { class, .. } => match class {
                Class::TransientFailure => LOGIN_BUSY,
                _ => LOGIN,
            },
            Self::NoTurn(_) => LOGIN_QUEUE,
            Self::Discovery(_) | Self::DiscoveryTimeout(_) => ASK_NAME_SERVERS,
            Self::Unprotected => PROTECT,
            Self::NoPort(ReplyError::Rejected(reply))
                if reply.class() == Class::PermanentFailure =>
            {
                NO_PASSIVE
            }
            Self::DataConnect { .. } => PASSIVE_PORTS,
            Self::DataAccept { .. } => NO_ACTIVE,
            Self::DataHandshake(_) | Self::DataTimeout(_) | Self::DataBroke(_)
                if backend.settings.proxy_protocol.is_some() =>
            {
                DATA_HEADER
            }
            Self::DataHandshake(HandshakeFault::Closed) => SESSION_REUSE,
            Self::List(ReplyError::Rejected(reply)) => of_refused_list(reply),
            Self::Reply { .. }
            | Self::NoPort(_)
            | Self::DataHandshake(_)
            | Self::DataTimeout(_)
            | Self::DataBroke(_)
            | Self::List(_) => SEE_ITS_LOG,
        };
        text.to_owned()
    }
}

impl DialError {
    /// Advice what to look at first, if a disagreement about PROXY headers with this backend shows in this way.
    pub fn hint(&self, backend: &Backend) -> Option<&'static str> {
        let sent = backend.settings.proxy_protocol.is_some();
        // Else the handshake comes behind a greeting, and no header is at fault.
        let handshake_first = backend
            .tls
            .as_ref()
            .is_some_and(|tls| tls.start == TlsMode::Implicit);
        match self {
            Self::Greeting(ReplyError::Rejected(reply))
            | Self::User(ReplyError::Rejected(reply))
                if backend.tls.is_none() && refusal::wants_tls(reply) =>
            {
                Some(WANTS_TLS)
            }
            // Busy.
            Self::Greeting(ReplyError::Rejected(reply))
            | Self::User(ReplyError::Rejected(reply))
                if reply.class() == Class::TransientFailure =>
            {
                None
            }
            // Some servers take a header for a command, and their answer to it for that to the next.
            Self::Greeting(_) | Self::Auth(_) | Self::Injected | Self::User(_) if sent => {
                Some(HEADER_SENT)
            }
            Self::Handshake(fault) if sent && handshake_first && !fault.is_certificate() => {
                Some(HEADER_SENT)
            }
            Self::Handshake(fault)
                if fault.may_miss_certificate() && !backend.shows_certificate() =>
            {
                Some(NO_CERTIFICATE_SHOWN)
            }
            // Those that wait for one say nothing, and some close then.
            Self::Greeting(ReplyError::TimedOut(_) | ReplyError::Closed) if !sent => {
                Some(NO_HEADER_SENT)
            }
            Self::HandshakeTimeout(_) | Self::Handshake(HandshakeFault::Closed)
                if !sent && handshake_first =>
            {
                Some(NO_HEADER_SENT)
            }
            _ => None,
        }
    }

    fn remedy(&self, backend: &Backend) -> String {
        let implicit = backend
            .tls
            .as_ref()
            .is_some_and(|tls| tls.start == TlsMode::Implicit);
        let text = match self {
            Self::Dns(_) => {
                "is the name right, and do this machine's name servers know it (`getent ahosts NAME`)? An IP address needs none"
            }
            Self::Connect(cause) => match cause.kind() {
                ErrorKind::ConnectionRefused => {
                    "nothing listens there: is the server running, and is the port right (21, or 990 for implicit TLS)?"
                }
                ErrorKind::TimedOut => {
                    "nothing answers there: is the address right, and do the firewalls between let this machine through?"
                }
                ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                    "there is no way to that address: check it, and the routes of this machine"
                }
                _ => "check the address, and what this machine may connect to",
            },
            Self::Greeting(ReplyError::Rejected(reply)) => match reply.class() {
                Class::TransientFailure => {
                    "the server is full, or takes no more from this machine's address: raise its limits for that address"
                }
                _ => "the server refuses this machine: allow its address there",
            },
            Self::Greeting(ReplyError::TimedOut(_) | ReplyError::Closed)
                if backend.tls.is_none() =>
            {
                return format!(
                    "is it the port of implicit TLS, where the client speaks first (`tls: implicit`)? {}",
                    self.hint(backend).unwrap_or_default()
                );
            }
            Self::Greeting(ReplyError::Malformed(_)) => {
                "that is no FTP server, or not the port for this `tls`: check the address, the port and `tls`"
            }
            Self::Auth(ReplyError::Rejected(_)) => ASK_IN_CLEAR,
            Self::Injected => {
                "something on the way puts text into the connection: find it before you send passwords there"
            }
            Self::Handshake(fault) if fault.is_certificate() => return of_certificate(fault),
            Self::Handshake(HandshakeFault::NotTls) if implicit => {
                "the server speaks clear text first: write `tls: explicit` if it knows AUTH TLS, else `tls: none`"
            }
            Self::Handshake(HandshakeFault::NoCommonVersion) => {
                "allow TLS 1.2 in the server (docs/tls-limits.md)"
            }
            Self::Handshake(HandshakeFault::NoCommonCipher) => {
                "allow ECDHE with AES-GCM in the server (docs/tls-limits.md)"
            }
            Self::ClientCertificate { shown: false, .. } => {
                "write `client_certificate: {certificate: FILE, private_key: FILE}` for this backend, with a pair that the server \
                 trusts"
            }
            Self::ClientCertificate { shown: true, .. } => {
                "let the server trust the issuer of `client_certificate`, or configure the pair that it expects; its own log says \
                 what it has against this one"
            }
            Self::HandshakeTimeout(_) | Self::Handshake(HandshakeFault::Closed) if implicit => {
                "is it the port of implicit TLS (990)? On port 21 write `tls: explicit`"
            }
            Self::Protection {
                reason: ReplyError::Rejected(_),
                ..
            } => PROTECT,
            _ => SEE_ITS_LOG,
        };
        match self.hint(backend) {
            Some(hint) => format!("{hint}; {text}"),
            None => text.to_owned(),
        }
    }
}

impl Backend {
    /// Advice what to look at first where the control connection is lost before the login is over: servers that know no PROXY
    /// headers may answer one only then, or take it for the end of the session, since version 2 has a QUIT in it.
    pub fn login_hint(&self) -> Option<&'static str> {
        self.settings.proxy_protocol.map(|_| HEADER_SENT)
    }

    /// Advice what to look at first where the backend has refused a login by this reply to USER or PASS: it may want TLS, or have
    /// taken a PROXY header for a command, and its answer to that is then the first to come.
    pub fn refusal_hint(&self, command: Verb, reply: &Reply) -> Option<&'static str> {
        if self.tls.is_none() && refusal::wants_tls(reply) {
            return Some(WANTS_TLS);
        }
        match (command, reply.number()) {
            (Verb::User, 500 | 502 | 503 | 530) => self.login_hint(),
            _ => None,
        }
    }
}

fn of_certificate(fault: &HandshakeFault) -> String {
    const PIN: &str = "pin it by `verify: {fingerprint: \"sha256:…\"}`";
    match fault {
        HandshakeFault::Expired { .. } => {
            format!(
                "renew the certificate in the server; until then only its fingerprint would do: {PIN}"
            )
        }
        HandshakeFault::NotYetValid { .. } => {
            "compare the clocks of the two machines; else wait, or issue the certificate anew"
                .to_owned()
        }
        HandshakeFault::WrongName { presented, .. } => match presented.first() {
            Some(name) => format!(
                "write `server_name: {name}` for this backend, if that is it; or issue a certificate with the right name"
            ),
            None => format!("issue a certificate with a subjectAltName, or {PIN}"),
        },
        HandshakeFault::UnknownIssuer { .. } => format!(
            "write `verify: {{ca: FILE}}` with the certificate of that issuer; have the server send its intermediate \
             certificates; or {PIN}"
        ),
        HandshakeFault::OtherIssuerKey { .. } => format!(
            "write `verify: {{ca: FILE}}` with the certificate that the issuer has now; or {PIN}"
        ),
        HandshakeFault::Fingerprint { seen } => format!(
            "if the server has been given a new certificate, write `verify: {{fingerprint: \"{}\"}}`; if not, find out what \
             answers there",
            crate::tls::Fingerprint(seen)
        ),
        HandshakeFault::SelfSigned { .. } => {
            format!("{PIN}, read on the server itself; or have an authority issue one")
        }
        _ => format!("issue a certificate that can be verified, or {PIN}"),
    }
}

/// 425 and 426 are the data connection's, 522 that of its protection (RFC 4217 §10).
fn of_refused_list(reply: &Reply) -> &'static str {
    match reply.number() {
        522 => SESSION_REUSE,
        425 | 426 => PASSIVE_PORTS,
        450 | 550 => "may this account list the directory that it is led to?",
        _ => SEE_ITS_LOG,
    }
}
