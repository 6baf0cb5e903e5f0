//! How a session ends, and why.

use super::transfer::Transfer;
use super::{Action, Cause, Client, Machine, ProtocolError, Record, Stage, State};
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
    /// The client says no more. What it has said is carried out and answered, as a server does that reads on to the end: a
    /// script may end its side behind its last command (`printf … | nc -N`).
    pub(super) fn on_client_ended(&mut self) {
        self.client = Client::Gone;
        self.abort_for_gone_client();
        if self.stage() == Stage::DataPort {
            // Nobody is left who could use it, and others may wait for one.
            self.close(Ending::ClientGone);
        }
    }

    /// The client is lost, and hears no more, either.
    pub(super) fn on_client_gone(&mut self) {
        self.client = Client::Gone;
        self.abort_for_gone_client();
        if !self.queue.holds_quit() {
            self.queue.clear();
        }
        if self.transfer().is_none() && !matches!(self.state, State::Closed) {
            self.close(Ending::ClientGone);
        }
    }

    /// The end of the control connection is ABOR and QUIT together (RFC 959 §4.1.1), but behind a QUIT. An upload goes on
    /// whose bytes tell by themselves that they are all: a client that has sent its close_notify may close both of its
    /// connections, be it with replies unread. [`Wait::Orphan`](super::Wait::Orphan) bounds the time for that.
    fn abort_for_gone_client(&mut self) {
        let quits = self.queue.holds_quit();
        match self.transfer() {
            Some(transfer) if transfer.outlives_its_client() || quits => {
                self.lose_upload_of_gone_client();
            }
            Some(_) => self.cut_with_client(),
            None => {}
        }
    }

    /// Where nothing else tells half a file from a whole one, the end of the control connection does.
    pub(super) fn lose_upload_of_gone_client(&mut self) {
        let needs_it = self.transfer().is_some_and(Transfer::needs_its_client);
        if needs_it && self.client == Client::Gone {
            self.cut_with_client();
        }
    }

    pub(super) fn cut_with_client(&mut self) {
        self.cut_transfer(Cause::ClientGone);
        self.close(Ending::ClientGone);
    }

    /// Whether an upload runs whose client is gone, and has yet to show that it is whole. QUIT tells that the client meant to
    /// go.
    pub(super) fn has_orphan(&self) -> bool {
        let transfer = self.transfer().filter(|_| self.client == Client::Gone);
        transfer.is_some_and(Transfer::is_orphaned_without_its_client) && !self.queue.holds_quit()
    }

    pub(super) fn on_drain_over(&mut self) {
        if self.transfer().is_some() {
            self.cut_transfer(Cause::Drain);
        }
        self.farewell(answer::SHUTTING_DOWN, Ending::Drain);
    }

    /// Gives the backend up.
    pub(super) fn drop_backend(&mut self, why: ProtocolError) {
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
