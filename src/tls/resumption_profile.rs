//! How a client uses the TLS sessions that it may resume.
//!
//! Predicts whether a client's next data connection will name its FTP session.

use crate::outcome::Resumption;

/// The way in which a client presented an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presented {
    /// By the session ID or the ticket of TLS 1.2, which is good for any number of times.
    Id,
    /// By a ticket of TLS 1.3. Many clients use those once (RFC 8446 appendix C.4).
    Ticket,
}

/// The observed behaviour of one client. Numbers are those of entries, in the order in which they were issued.
#[derive(Debug, Default)]
pub(super) struct ResumptionProfile {
    /// The last data connection has proven that it resumes this FTP session.
    resumes: bool,
    /// A data connection has resumed.
    has_resumed: bool,
    /// A data connection has not resumed.
    has_not_resumed: bool,
    /// The client presents the same TLS session more than once: OpenSSL, GnuTLS, every client in TLS 1.2.
    reuses_tickets: bool,
    /// The client keeps more than the latest ticket.
    keeps_old_tickets: bool,
    last_used: Option<u64>,
}

impl ResumptionProfile {
    /// Records that the client has presented an entry of its own, for the first time or again.
    pub fn on_presented(&mut self, number: u64, used: bool, presented: Presented) {
        self.reuses_tickets |= used || presented == Presented::Id;
        self.keeps_old_tickets |= self.last_used > Some(number);
        self.last_used = Some(number);
    }

    /// A handshake has proven that it resumes; returns the number of the entry.
    pub fn on_resumed(&mut self) -> Option<u64> {
        self.resumes = true;
        self.has_resumed = true;
        self.last_used
    }

    /// A data connection of it did a full handshake, or named nothing: it may have lost its cache.
    pub fn on_not_resumed(&mut self) {
        self.resumes = false;
        self.has_not_resumed = true;
    }

    /// How far the client's data connections have resumed; `None` before the first.
    pub fn resumption(&self) -> Option<Resumption> {
        match (self.has_resumed, self.has_not_resumed) {
            (false, false) => None,
            (true, false) => Some(Resumption::Always),
            (true, true) => Some(Resumption::Sometimes),
            (false, true) => Some(Resumption::Never),
        }
    }

    /// Whether the client's next data connection can be relied upon to name the FTP session: the last one did, and it has
    /// something left to name it with.
    pub fn will_identify_itself(&self, mut unused: impl Iterator<Item = u64>) -> bool {
        let mut has_one_left =
            || unused.any(|number| self.keeps_old_tickets || Some(number) > self.last_used);
        self.resumes && (self.reuses_tickets || has_one_left())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_known_by_all_of_its_data_connections() {
        let after = |resumed: &[bool]| {
            let mut profile = ResumptionProfile::default();
            for resumed in resumed {
                if *resumed {
                    let _ = profile.on_resumed();
                } else {
                    profile.on_not_resumed();
                }
            }
            profile.resumption()
        };
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[true, true]), Some(Resumption::Always));
        assert_eq!(after(&[false, false]), Some(Resumption::Never));
        assert_eq!(after(&[true, false]), Some(Resumption::Sometimes));
        assert_eq!(after(&[false, true]), Some(Resumption::Sometimes));
    }
}
