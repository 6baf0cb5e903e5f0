//! How a session ends, and why: the client disconnects, an operator ends it, or the process ends.

use super::context::{ClientPresence, Context};
use super::transfer::{AbortedBy, Outcome};
use super::{Stage, State};
use crate::ftp::answer;

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// QUIT.
    Quit,
    /// The client closed or lost its control connection.
    ClientGone,
    /// No command for too long.
    Idle,
    /// The client was not logged in within the time limit.
    LoginTimeout,
    /// The client's TLS handshake failed.
    Handshake,
    /// No certificate is available yet with which TLS could begin.
    NoCertificate,
    /// The backend could not be reached or verified.
    BackendUnavailable,
    /// The backend sent 421.
    BackendClosed,
    /// The backend's control connection ended or became unsynchronised.
    BackendLost,
    /// The process ends.
    Drain,
    /// An operator has ended it.
    Terminated,
    /// The client sent too many malformed lines, HTTP, or bytes after AUTH.
    Abuse,
    /// The client had too many failed logins.
    Blocked,
    /// The site had too many sessions.
    SiteFull,
    /// The site is out of service.
    Maintenance,
}

impl Ending {
    /// The text of the ending in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quit => "quit",
            Self::ClientGone => "client gone",
            Self::Idle => "idle timeout",
            Self::LoginTimeout => "login timeout",
            Self::Handshake => "tls handshake failed",
            Self::NoCertificate => "no certificate yet",
            Self::BackendUnavailable => "backend unavailable",
            Self::BackendClosed => "closed by backend",
            Self::BackendLost => "backend lost",
            Self::Drain => "drain",
            Self::Terminated => "terminated",
            Self::Abuse => "abuse",
            Self::Blocked => "blocked",
            Self::SiteFull => "site full",
            Self::Maintenance => "maintenance",
        }
    }
}

impl State {
    /// The client has ended its side of the connection. Its commands are carried out and answered, as by a server that reads on
    /// to the end: a script may end its side behind its last command (`printf … | nc -N`).
    pub(super) fn on_client_ended(self, cx: &mut Context) -> Self {
        cx.client = ClientPresence::Gone;
        match self {
            Self::Transfer(transfer) => transfer.on_client_gone(cx),
            // It can't be used any more, and other sessions may wait for one.
            state if state.stage() == Stage::DataPort => cx.close(Ending::ClientGone),
            state => state,
        }
    }

    /// The client is lost, and can't be sent anything either.
    pub(super) fn on_client_gone(self, cx: &mut Context) -> Self {
        cx.client = ClientPresence::Gone;
        let Self::Transfer(transfer) = self else {
            return cx.close(Ending::ClientGone);
        };
        let state = transfer.on_client_gone(cx);
        if !cx.queue.holds_quit() {
            cx.queue.clear();
        }
        state
    }

    /// The process is to end: a transfer may finish, and a command may be answered.
    pub(super) fn on_drain(self, cx: &mut Context) -> Self {
        cx.draining = true;
        self
    }

    /// Whether nothing runs that a drain would wait for: no login is begun any more, and a data port leads to a transfer.
    pub(super) fn ends_with_drain(&self, cx: &Context) -> bool {
        matches!(self.stage(), Stage::Login | Stage::DataPort) || self.is_ready(cx)
    }

    /// The process ends, whatever runs.
    pub(super) fn on_drain_over(self, cx: &mut Context) -> Self {
        self.abort_transfer(AbortedBy::Drain, cx);
        cx.close_with_reply(answer::SHUTTING_DOWN, Ending::Drain)
    }

    /// An operator ends the session, whatever runs.
    pub(super) fn on_terminate(self, cx: &mut Context) -> Self {
        self.abort_transfer(AbortedBy::Operator, cx);
        cx.close_with_reply(answer::TERMINATED, Ending::Terminated)
    }

    fn abort_transfer(self, by: AbortedBy, cx: &mut Context) {
        if let Self::Transfer(transfer) = self {
            transfer.abandon(Outcome::Aborted(by), cx);
        }
    }
}
