//! How a session ends, and why.

use super::{Action, Cause, Client, Loss, Machine, Record, State};
use crate::ftp::answer::{self, Answer};
use crate::observe::metrics::LoginResult;

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// QUIT.
    Quit,
    /// The client closed or lost its control connection.
    ClientGone,
    /// No command for too long.
    Idle,
    /// Not logged in in time.
    LoginTimeout,
    /// The client's TLS handshake failed.
    Handshake,
    /// The backend could not be reached or verified.
    BackendUnavailable,
    /// The backend said 421.
    BackendClosed,
    /// The backend's control connection ended or lost step.
    BackendLost,
    /// The process ends.
    Drain,
    /// Too much nonsense, HTTP, or bytes behind AUTH.
    Abuse,
    /// Too many failed logins.
    Blocked,
    /// Too many sessions at the site.
    SiteFull,
}

impl Ending {
    /// The word for it in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quit => "quit",
            Self::ClientGone => "client gone",
            Self::Idle => "idle timeout",
            Self::LoginTimeout => "login timeout",
            Self::Handshake => "tls handshake failed",
            Self::BackendUnavailable => "backend unavailable",
            Self::BackendClosed => "closed by backend",
            Self::BackendLost => "backend lost",
            Self::Drain => "drain",
            Self::Abuse => "abuse",
            Self::Blocked => "blocked",
            Self::SiteFull => "site full",
        }
    }
}

impl Machine {
    pub(super) fn on_client_gone(&mut self) {
        if let Some(transfer) = self.transfer() {
            if self.queue.holds_quit() && !transfer.needs_its_client() {
                // QUIT and then the end of the connection is in order: RFC 959 §4.1.1 lets the transfer finish.
                self.client = Client::Gone;
                return;
            }
            // The control connection's loss is ABOR and QUIT together; the transfer must not look complete.
            self.cut_transfer(Cause::ClientGone);
        }
        self.close(Ending::ClientGone);
    }

    pub(super) fn on_drain_over(&mut self) {
        if self.transfer().is_some() {
            self.cut_transfer(Cause::Drain);
        }
        self.farewell(answer::SHUTTING_DOWN, Ending::Drain);
    }

    /// Gives the backend up.
    pub(super) fn lose_backend(&mut self, why: Loss) {
        if matches!(self.state, State::Login(_) | State::LoggedIn(_)) {
            let record = Record::BackendLost(self.stage(), why);
            self.push(Action::Record(record));
        }
        self.close_without_backend();
    }

    pub(super) fn close_without_backend(&mut self) {
        match self.state {
            State::NoBackend | State::Dialling(_) | State::Closed => {}
            State::Login(_) | State::LoggedIn(_) => {
                if self.transfer().is_some() {
                    self.cut_transfer(Cause::BackendGone);
                }
                self.break_off_login();
                self.answer(answer::SITE_LOST);
                self.close(Ending::BackendLost);
            }
        }
    }

    /// The backend gives a login up that it has not judged.
    pub(super) fn break_off_login(&mut self) {
        if let State::Login(login) = &self.state
            && !login.is_ready()
        {
            self.push(Action::Record(Record::Login(
                LoginResult::BackendUnavailable,
            )));
        }
    }

    pub(super) fn farewell(&mut self, answer: Answer, ending: Ending) {
        self.answer(answer);
        self.close(ending);
    }

    pub(super) fn close(&mut self, ending: Ending) {
        self.state = State::Closed;
        self.queue.clear();
        self.push(Action::Close(ending));
    }
}
