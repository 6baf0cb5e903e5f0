//! Rules for which leases of one address may be at one port.

use super::{Identity, LeaseRequest};
use crate::tls::ClientCache;

impl Identity {
    /// The cache in which the client keeps its TLS sessions, if its connection can name any.
    pub fn cache(&self) -> Option<&ClientCache> {
        match self {
            Self::Address => None,
            Self::Unproven(cache)
            | Self::Resuming(cache)
            | Self::Named(cache)
            | Self::Required(cache) => Some(cache),
        }
    }

    /// Whether the lease only takes a connection that names its session.
    pub fn is_named(&self) -> bool {
        matches!(self, Self::Named(_) | Self::Resuming(_) | Self::Required(_))
    }

    /// Whether a connection that names nothing may come for it all the same.
    fn is_yet_to_show(&self) -> bool {
        matches!(self, Self::Required(_))
    }
}

impl LeaseRequest {
    /// Whether connections of the one lease can be mistaken for the other's, while both wait for theirs.
    pub(super) fn conflicts_with(&self, other: &Self) -> bool {
        match (self.identity.is_named(), other.identity.is_named()) {
            (false, false) => true,
            (true, false) if self.identity.is_yet_to_show() => true,
            (false, true) if other.identity.is_yet_to_show() => true,
            (true, false) | (false, true) | (true, true) => self.may_present_names_of(other),
        }
    }

    /// Whether a connection of the one may name the TLS session of the other. Of one account, unless their clients have
    /// shown that they keep them apart; of two, if their clients have shown that they don't.
    pub(super) fn may_present_names_of(&self, other: &Self) -> bool {
        match (self.identity.cache(), other.identity.cache()) {
            // REIN and USER change the account of a session, and not what its client keeps.
            _ if self.is_of_the_session_of(other) => true,
            (Some(one), Some(theirs)) if self.account == other.account => {
                !one.is_separate_from(theirs)
            }
            (Some(one), Some(theirs)) => one.is_shared() && theirs.is_shared(),
            (None, _) | (_, None) => false,
        }
    }

    /// Whether both leases are of one session, under TLS.
    pub(super) fn is_of_the_session_of(&self, other: &Self) -> bool {
        match (self.identity.cache(), other.identity.cache()) {
            (Some(one), Some(theirs)) => one.session() == theirs.session(),
            (None, _) | (_, None) => false,
        }
    }

    /// Whether a late connection of `former`, whose lease is over, can be mistaken for this lease's.
    pub(super) fn accepts_late_connection_of(&self, former: &Self) -> bool {
        !self.identity.is_named() || self.may_present_names_of(former)
    }
}
