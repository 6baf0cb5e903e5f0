//! Knowledge of the TLS session cache that a client keeps for one control connection.
//!
//! FileZilla, WinSCP and lftp keep the TLS session of each control connection apart, so a data connection that resumes
//! it belongs to that control connection. `curl --parallel` and rclone keep one cache for all their control connections
//! to a server and present the newest entry of it, so that the name of one session may stand on a data connection of
//! another. A client shows that it shares a cache by offering another live session's entry. That it doesn't is proved by
//! an entry that it passed over: see [`ClientCache::is_separate_from`].

use crate::base::SessionId;

/// The cache behind one control connection, as far as it has shown itself. Moments are numbers of one sequence that
/// the process counts up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientCache {
    session: SessionId,
    /// When the control connection's last ticket or session ID was issued.
    issued: u64,
    /// When the client was first known to have read those: it has answered a reply that was sent after them.
    received: Option<u64>,
    /// Whether the client has presented another session's entry, or another client has presented one of this session.
    shares: bool,
    choice: Option<Choice>,
}

/// On a data connection the client resumed an entry of its own control connection's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Choice {
    /// When that entry was issued.
    issued: u64,
    at: u64,
}

impl ClientCache {
    /// The cache for a control connection that has issued nothing yet.
    pub fn new(session: SessionId) -> Self {
        Self {
            session,
            issued: 0,
            received: None,
            shares: false,
            choice: None,
        }
    }

    /// The client's FTP session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Whether the client is known to keep the TLS sessions of several control connections in one cache.
    pub fn is_shared(&self) -> bool {
        self.shares
    }

    /// The control connection issued an entry.
    pub fn on_issued(&mut self, at: u64) {
        self.issued = at;
    }

    /// The client is known to have read all that its control connection issued.
    pub fn on_received(&mut self, at: u64) {
        self.received.get_or_insert(at);
    }

    /// An entry was presented on a connection of another session than its own: this session's or by this session's client.
    pub fn mark_shared(&mut self) {
        self.shares = true;
    }

    /// A data connection has resumed an entry of this session that was issued at `issued`.
    pub fn on_own_chosen(&mut self, issued: u64, at: u64) {
        // The oldest entry proves most, and the latest moment.
        if self.choice.is_none_or(|choice| issued <= choice.issued) {
            self.choice = Some(Choice { issued, at });
        }
    }

    /// Whether neither client can present the other's TLS sessions, as far as clients are known that present the newest
    /// entry of their cache: a data connection of the one resumed its own session although the other one's newer
    /// entries were there. That a later control connection offers nothing proves nothing: curl drops entries that it
    /// has used.
    pub fn is_separate_from(&self, other: &Self) -> bool {
        self.session != other.session
            && !(self.shares && other.shares)
            && (self.passed_over(other) || other.passed_over(self))
    }

    fn was_received_by(&self, sequence: u64) -> bool {
        self.received.is_some_and(|received| received < sequence)
    }

    /// Whether the client chose its own entry where one of `other`'s was newer.
    fn passed_over(&self, other: &Self) -> bool {
        self.choice
            .is_some_and(|choice| choice.issued < other.issued && other.was_received_by(choice.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two control connections whose handshakes overlap, so that neither could have offered the other's session.
    fn at_once() -> (ClientCache, ClientCache) {
        let mut one = ClientCache::new(SessionId(1));
        let mut other = ClientCache::new(SessionId(2));
        one.on_issued(3);
        other.on_issued(4);
        one.on_received(5);
        other.on_received(6);
        (one, other)
    }

    fn are_separate(one: &ClientCache, other: &ClientCache) -> bool {
        let separate = one.is_separate_from(other);
        assert_eq!(separate, other.is_separate_from(one));
        separate
    }

    #[test]
    fn clients_that_came_at_once_are_not_known_to_be_separate() {
        let (one, other) = at_once();
        assert!(!are_separate(&one, &other));
    }

    #[test]
    fn a_client_that_passes_over_a_newer_entry_is_separate() {
        let (mut one, mut other) = at_once();
        other.on_own_chosen(4, 7);
        assert!(!are_separate(&one, &other), "the newest one of both");
        one.on_own_chosen(3, 8);
        assert!(are_separate(&one, &other));
    }

    #[test]
    fn an_entry_that_the_client_may_not_have_read_yet_proves_nothing() {
        let (mut one, _) = at_once();
        let mut other = ClientCache::new(SessionId(2));
        other.on_issued(4);
        one.on_own_chosen(3, 8);
        other.on_received(9);
        assert!(!are_separate(&one, &other));
        one.on_own_chosen(3, 10);
        assert!(are_separate(&one, &other));
    }

    #[test]
    fn clients_that_share_are_not_separate_whatever_they_chose_before() {
        let (mut one, mut other) = at_once();
        one.on_own_chosen(3, 8);
        one.mark_shared();
        other.mark_shared();
        assert!(!are_separate(&one, &other));
    }

    #[test]
    fn a_session_is_not_separate_from_itself() {
        let (one, _) = at_once();
        assert!(!are_separate(&one, &one));
    }
}
