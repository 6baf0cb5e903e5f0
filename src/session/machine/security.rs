//! TLS on the client's control connection: AUTH, PBSZ and PROT (RFC 2228, RFC 4217).

use std::sync::Arc;

use super::context::Context;
use super::pre_login::NoBackend;
use super::{Action, Ending, Protection, State};
use crate::base::text::decimal;
use crate::config::HostName;
use crate::ftp::answer::{self, Answer};
use crate::policy::ClientIdentity;

/// The client's control connection, as far as TLS goes.
#[derive(Debug)]
pub(super) enum Security {
    /// The connection is in clear text.
    Off,
    /// AUTH was accepted; the handshake is under way.
    Upgrading(Protection),
    /// The connection is under TLS.
    On {
        /// The server name that the client sent, if it is a host name.
        sni: Option<HostName>,
        /// The certificate that the client has shown, and whose key it holds.
        certificate: Option<Arc<ClientIdentity>>,
        /// The host of a site that HOST had named by then, and for which the certificate was chosen that the client was shown.
        named_before: Option<HostName>,
        protection: Protection,
        chosen_by: ChosenBy,
    },
}

/// How the protection level of data connections was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChosenBy {
    /// The level is the default: of the listener, or of AUTH. The client may not know it.
    Default,
    /// The client has chosen the level, by PROT.
    Client,
}

impl Security {
    pub fn is_on(&self) -> bool {
        matches!(self, Self::On { .. })
    }

    pub fn is_upgrading(&self) -> bool {
        matches!(self, Self::Upgrading(_))
    }

    pub fn sni(&self) -> Option<&HostName> {
        match self {
            Self::On { sni, .. } => sni.as_ref(),
            Self::Off | Self::Upgrading(_) => None,
        }
    }

    /// The host of a site that HOST had named before the handshake.
    pub fn named_before(&self) -> Option<&HostName> {
        match self {
            Self::On { named_before, .. } => named_before.as_ref(),
            Self::Off | Self::Upgrading(_) => None,
        }
    }

    pub fn certificate(&self) -> Option<&ClientIdentity> {
        match self {
            Self::On { certificate, .. } => certificate.as_deref(),
            Self::Off | Self::Upgrading(_) => None,
        }
    }

    /// Whether the client has sent PROT and so knows what is in force.
    pub fn is_protection_chosen(&self) -> bool {
        matches!(
            self,
            Self::On {
                chosen_by: ChosenBy::Client,
                ..
            }
        )
    }

    /// The protection level of data connections at present.
    pub fn protection(&self) -> Protection {
        match self {
            Self::On { protection, .. } => *protection,
            Self::Off | Self::Upgrading(_) => Protection::Clear,
        }
    }

    /// The answer to PBSZ (RFC 4217 §8).
    pub fn pbsz(&self, argument: &[u8]) -> Answer {
        let number = std::str::from_utf8(argument.trim_ascii())
            .ok()
            .and_then(decimal::<u32>);
        match (self, number) {
            (Self::Off | Self::Upgrading(_), _) => answer::NEEDS_AUTH,
            (Self::On { .. }, None) => answer::PBSZ_ARGUMENT,
            (Self::On { .. }, Some(_)) => answer::PBSZ_ACCEPTED,
        }
    }

    /// PROT (RFC 4217 §9), also without the PBSZ that RFC 2228 §3 requires before it: under TLS there is only PBSZ 0,
    /// vsftpd, ProFTPD and Pure-FTPd don't ask for it, and a client that ignores the 503 would send TLS into a file.
    pub fn prot(&mut self, argument: &[u8], data_required: bool) -> Answer {
        let Self::On {
            protection,
            chosen_by,
            ..
        } = self
        else {
            return answer::NEEDS_AUTH;
        };
        match argument.trim_ascii().to_ascii_uppercase().as_slice() {
            b"P" => {
                *protection = Protection::Private;
                *chosen_by = ChosenBy::Client;
                answer::PROT_PRIVATE
            }
            b"C" if data_required => answer::PROT_CLEAR_REFUSED,
            b"C" => {
                *protection = Protection::Clear;
                *chosen_by = ChosenBy::Client;
                answer::PROT_CLEAR
            }
            b"S" | b"E" => answer::PROT_UNSUPPORTED,
            _ => answer::PROT_UNKNOWN,
        }
    }

    /// The protection level that AUTH leads to (RFC 2228 §3, RFC 4217 §4), or why it leads nowhere.
    fn after_auth(&self, argument: &[u8]) -> Result<Protection, Answer> {
        if self.is_on() {
            return Err(answer::ALREADY_SECURE);
        }
        match argument.trim_ascii().to_ascii_uppercase().as_slice() {
            b"" => Err(answer::AUTH_ARGUMENT),
            b"TLS" | b"TLS-C" => Ok(Protection::Clear),
            // In the drafts before RFC 4217, which IIS and ProFTPD still follow, these imply PROT P.
            b"SSL" | b"TLS-P" => Ok(Protection::Private),
            _ => Err(answer::AUTH_UNKNOWN),
        }
    }
}

/// AUTH, with nothing else under way.
pub(super) fn on_auth(state: State, argument: &[u8], cx: &mut Context) -> State {
    let protection = match cx.security.after_auth(argument) {
        Ok(protection) => protection,
        Err(answer) => {
            cx.reply(answer);
            return state;
        }
    };
    if !cx.config.has_certificate {
        cx.reply(answer::NO_CERTIFICATE);
        return state;
    }
    if !cx.queue.is_empty() {
        // They came in clear text, behind AUTH, while a transfer ran: the same injection as in the driver's buffer.
        return cx.close_with_reply(answer::BYTES_BEHIND_AUTH, Ending::Abuse);
    }
    // Input in clear text may have been injected, so it is discarded (RFC 4217 §4), but for HOST, which RFC 7151 §3.2.2
    // shows in front of AUTH.
    if !matches!(state, State::NoBackend(_)) {
        cx.push(Action::DropData);
        cx.push(Action::CloseBackend);
    }
    cx.settings.clear();
    cx.only_epsv = false;
    cx.security = Security::Upgrading(protection);
    cx.push(Action::StartTls);
    State::NoBackend(NoBackend)
}

impl State {
    /// Records that the handshake is done.
    pub(super) fn on_secured(
        self,
        sni: Option<HostName>,
        certificate: Option<Arc<ClientIdentity>>,
        cx: &mut Context,
    ) -> Self {
        let Security::Upgrading(protection) = cx.security else {
            return cx.unexpected(self, "a handshake that was not asked for");
        };
        cx.security = Security::On {
            sni,
            certificate,
            named_before: cx.host.clone(),
            protection,
            chosen_by: ChosenBy::Default,
        };
        self
    }
}
