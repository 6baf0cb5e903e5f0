//! TLS on the client's control connection: AUTH, PBSZ and PROT (RFC 2228, RFC 4217).

use super::{Action, Ending, Machine, Protection, State};
use crate::config::HostName;
use crate::ftp::answer;

/// The client's control connection, as far as TLS goes.
#[derive(Debug)]
pub(super) enum Security {
    /// Clear text.
    Off,
    /// AUTH was accepted; the handshake is under way.
    Upgrading(Protection),
    /// Under TLS.
    On {
        /// The server name that the client sent, if it is a host name.
        sni: Option<HostName>,
        protection: Protection,
        chosen_by: ChosenBy,
    },
}

/// Who has said what the protection level of data connections is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChosenBy {
    /// Nobody: it goes with the listener or with AUTH. The client may not know.
    Default,
    /// The client, by PROT.
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

    /// Whether the client has said PROT and so knows what is in force.
    pub fn protection_is_the_clients(&self) -> bool {
        matches!(
            self,
            Self::On {
                chosen_by: ChosenBy::Client,
                ..
            }
        )
    }

    /// The protection level of data connections, as it stands now.
    pub fn protection(&self) -> Protection {
        match self {
            Self::On { protection, .. } => *protection,
            Self::Off | Self::Upgrading(_) => Protection::Clear,
        }
    }
}

impl Machine {
    /// AUTH (RFC 2228 §3, RFC 4217 §4).
    pub(super) fn auth(&mut self, argument: &[u8]) {
        if self.security.is_on() {
            return self.answer(answer::ALREADY_SECURE);
        }
        let protection = match argument.trim_ascii().to_ascii_uppercase().as_slice() {
            b"" => return self.answer(answer::AUTH_ARGUMENT),
            b"TLS" | b"TLS-C" => Protection::Clear,
            // In the drafts before RFC 4217, which IIS and ProFTPD still follow, these imply PROT P.
            b"SSL" | b"TLS-P" => Protection::Private,
            _ => return self.answer(answer::AUTH_UNKNOWN),
        };
        if !self.queue.is_empty() {
            // They came in clear text, behind AUTH, while a transfer ran: the same trap as in the driver's buffer.
            return self.farewell(answer::BYTES_BEHIND_AUTH, Ending::Abuse);
        }
        // What was said in clear text may have been said by anybody, so it's forgotten (RFC 4217 §4), but for HOST,
        // which RFC 7151 §3.2.2 shows in front of AUTH.
        if !matches!(self.state, State::NoBackend) {
            self.push(Action::DropData);
            self.push(Action::HangUp);
            self.state = State::NoBackend;
        }
        self.settings.clear();
        self.only_epsv = false;
        self.security = Security::Upgrading(protection);
        self.push(Action::StartTls);
    }

    pub(super) fn on_secured(&mut self, sni: Option<HostName>) {
        if let Security::Upgrading(protection) = self.security {
            self.security = Security::On {
                sni,
                protection,
                chosen_by: ChosenBy::Default,
            };
        }
    }

    /// PBSZ (RFC 4217 §8).
    pub(super) fn pbsz(&mut self, argument: &[u8]) {
        let number = std::str::from_utf8(argument.trim_ascii())
            .ok()
            // `parse` alone would take a sign as well.
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse::<u32>().ok());
        let answer = match (&self.security, number) {
            (Security::Off | Security::Upgrading(_), _) => answer::NEEDS_AUTH,
            (Security::On { .. }, None) => answer::PBSZ_ARGUMENT,
            (Security::On { .. }, Some(_)) => answer::PBSZ_ACCEPTED,
        };
        self.answer(answer);
    }

    /// PROT (RFC 4217 §9), also without the PBSZ that RFC 2228 §3 wants before it: under TLS there is only PBSZ 0, vsftpd,
    /// ProFTPD and Pure-FTPd don't ask for it, and a client that minds no 503 would send TLS into a file.
    pub(super) fn prot(&mut self, argument: &[u8]) {
        let Security::On {
            protection,
            chosen_by,
            ..
        } = &mut self.security
        else {
            return self.answer(answer::NEEDS_AUTH);
        };
        let answer = match argument.trim_ascii().to_ascii_uppercase().as_slice() {
            b"P" => {
                *protection = Protection::Private;
                *chosen_by = ChosenBy::Client;
                answer::PROT_PRIVATE
            }
            b"C" if self.terms.data_required => answer::PROT_CLEAR_REFUSED,
            b"C" => {
                *protection = Protection::Clear;
                *chosen_by = ChosenBy::Client;
                answer::PROT_CLEAR
            }
            b"S" | b"E" => answer::PROT_UNSUPPORTED,
            _ => answer::PROT_UNKNOWN,
        };
        self.answer(answer);
    }
}
