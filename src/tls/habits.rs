//! How a client makes use of the TLS sessions that it may resume.
//!
//! Whoever waits for a client's next data connection wants to know whether that will name the FTP session. What a client
//! did so far tells.

/// How a client asked for an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presented {
    /// By the session ID of TLS 1.2, which is good for any number of times.
    Id,
    /// By a ticket. Many clients use those of TLS 1.3 once (RFC 8446 appendix C.4).
    Ticket,
}

/// What has been seen of one client. Numbers are those of entries, in the order in which the client got them.
#[derive(Debug, Default)]
pub(super) struct Habits {
    /// A data connection has proven that it resumes this FTP session.
    resumes: bool,
    /// It presents the same TLS session more than once: OpenSSL, GnuTLS, everybody in TLS 1.2.
    repeats: bool,
    /// It keeps more than the latest ticket.
    hoards: bool,
    /// It keeps the TLS sessions of several FTP sessions in one place and may present any of them: `curl --parallel`,
    /// rclone.
    mixes: bool,
    last_used: Option<u64>,
}

impl Habits {
    /// It presents an entry of its own, for the first time or again.
    pub fn presents(&mut self, number: u64, used: bool, presented: Presented) {
        self.repeats |= used || presented == Presented::Id;
        self.hoards |= self.last_used > Some(number);
        self.last_used = Some(number);
    }

    /// It presented another FTP session's entry, or the other way round.
    pub fn mixes(&mut self) {
        self.mixes = true;
    }

    /// A handshake has proven that it resumes.
    pub fn resumes(&mut self) {
        self.resumes = true;
    }

    /// Whether its next data connection can be relied upon to name the FTP session: it has done so, it never named another
    /// one, and it has something left to name it with.
    pub fn rely_on(&self, mut unused: impl Iterator<Item = u64>) -> bool {
        let mut has_one_left = || unused.any(|number| self.hoards || Some(number) > self.last_used);
        self.resumes && !self.mixes && (self.repeats || has_one_left())
    }
}
