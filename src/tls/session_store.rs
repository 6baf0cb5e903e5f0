//! The store of TLS sessions that clients may resume, with their owners.
//!
//! One store serves the whole process. Every entry belongs to one FTP session; only views made for that session find
//! it, and it goes when the FTP session ends. The store is bounded by the number of FTP sessions times
//! [`ENTRIES_PER_OWNER`].

use std::collections::hash_map::{Entry, HashMap};
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::client_cache::ClientCache;
pub(super) use super::resumption_profile::Presented;
use super::resumption_profile::ResumptionProfile;
use crate::base::{SessionId, SiteId};
use crate::outcome::Resumption;

/// How many TLS sessions of one FTP session are kept.
pub const ENTRIES_PER_OWNER: usize = 16;

/// How many of them may come from the control connection: what it issues in one handshake.
pub(super) const CONTROL_ENTRIES: usize = 4;

const DATA_ENTRIES: usize = ENTRIES_PER_OWNER - CONTROL_ENTRIES;

/// Identifies the login of an FTP session: a hash of site and user. Two logins may collide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LoginId(u64);

impl LoginId {
    /// The number of this user of this site, or of one that has named no site.
    pub fn of(site: Option<SiteId>, user: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        (site, user).hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// The owner of a TLS session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TicketOwner {
    /// The FTP session that may resume it.
    pub session: SessionId,
    /// The account logged in there; `None` before the login.
    pub account: Option<LoginId>,
    /// The cache in which the client keeps the TLS session.
    pub cache: ClientCache,
}

/// On which connection a TLS session was established.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EstablishedOn {
    /// Kept as long as the FTP session lasts: FileZilla and OpenSSL present the control connection's ticket on each data
    /// connection, however many tickets the ones before have brought.
    Control,
    /// TLS sessions of data connections: kept are those that the client has yet to use, for clients that use each TLS 1.3 ticket
    /// once, and the one used last.
    Data,
}

/// The result of looking up a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    Own(Vec<u8>),
    /// An entry of another live FTP session with a login, whose client shares no cache with this one's.
    Foreign,
    Missing,
}

/// The TLS sessions of all FTP sessions.
#[derive(Default)]
pub struct SessionStore {
    state: Mutex<StoreState>,
}

#[derive(Default)]
struct StoreState {
    entries: HashMap<Arc<[u8]>, StoredSession>,
    owners: HashMap<SessionId, OwnerState>,
    /// The owners with a login, by their account.
    logins: HashMap<LoginId, HashSet<SessionId>>,
    /// The last number that an entry or a moment in the life of a [`ClientCache`] has got.
    sequence: u64,
}

struct StoredSession {
    owner: SessionId,
    value: Vec<u8>,
    /// The entry's number in the order of issue.
    number: u64,
    /// When a ClientHello last offered it, be it that of a connection that was reset then.
    offered: Option<u64>,
    used: bool,
}

/// The keys of one owner's entries, oldest first, and how its client makes use of them.
struct OwnerState {
    control: VecDeque<Arc<[u8]>>,
    data: VecDeque<Arc<[u8]>>,
    profile: ResumptionProfile,
    account: Option<LoginId>,
    cache: ClientCache,
    /// The session whose entry this one's control connection asked for, and the last one whose control connection asked for
    /// one of this session's: of one client, once both have logged in.
    asked_for: Option<SessionId>,
    asked_by: Option<SessionId>,
}

impl OwnerState {
    /// Whether an entry of this session may stand on a data connection of the other one's own client.
    fn may_be_presented_by(&self, other: &Self) -> bool {
        self.cache.is_shared() && other.cache.is_shared()
            || self.account == other.account && !self.cache.is_separate_from(&other.cache)
    }
}

impl SessionStore {
    /// A store without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// The owner of the first known of these names, which a ClientHello offers. Many clients won't offer it again.
    pub fn owner_of(&self, names: &[Vec<u8>]) -> Option<TicketOwner> {
        let mut state = self.state();
        let known = |name: &&Vec<u8>| state.entries.contains_key(name.as_slice());
        let name = names.iter().find(known)?;
        let sequence = state.next_sequence();
        let entry = state.entries.get_mut(name.as_slice())?;
        entry.offered = Some(sequence);
        let session = entry.owner;
        let owned = state.owners.get(&session)?;
        Some(TicketOwner {
            session,
            account: owned.account,
            cache: owned.cache,
        })
    }

    /// A connection that was opened for one of these sessions has presented an entry of the other.
    pub fn mark_shared_cache(&self, one: SessionId, other: SessionId) {
        self.state().mark_shared_cache(one, other);
    }

    /// Lets `owner` have entries, until the handle is dropped.
    pub(super) fn register(self: &Arc<Self>, owner: SessionId) -> Owner {
        let mut state = self.state();
        state.owners.entry(owner).or_insert_with(|| OwnerState {
            control: VecDeque::new(),
            data: VecDeque::new(),
            profile: ResumptionProfile::default(),
            account: None,
            cache: ClientCache::new(owner),
            asked_for: None,
            asked_by: None,
        });
        drop(state);
        Owner {
            id: owner,
            sessions: Arc::clone(self),
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.state().entries.len()
    }

    fn state(&self) -> MutexGuard<'_, StoreState> {
        // Nothing below panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoreState {
    /// The entries of an owner that have not been presented yet.
    fn unused(&self, owner: SessionId) -> impl Iterator<Item = &StoredSession> {
        let owned = self.owners.get(&owner);
        owned
            .into_iter()
            .flat_map(|owned| owned.control.iter().chain(&owned.data))
            .filter_map(|key| self.entries.get(key))
            .filter(|entry| !entry.used && entry.offered.is_none())
    }

    /// Whether no other session of the account can have the same client, as far as that keeps several sessions in one
    /// cache.
    fn is_separate_within_account(&self, owned: &OwnerState) -> bool {
        let of_account = owned.account.and_then(|account| self.logins.get(&account));
        let mut others = of_account
            .into_iter()
            .flatten()
            .filter(|id| **id != owned.cache.session())
            .filter_map(|id| self.owners.get(id));
        others.all(|other| owned.cache.is_separate_from(&other.cache))
    }

    /// An owner is logged in to this account no more.
    fn forget_login(&mut self, owner: SessionId, account: LoginId) {
        if let Entry::Occupied(mut logins) = self.logins.entry(account) {
            logins.get_mut().remove(&owner);
            if logins.get().is_empty() {
                logins.remove();
            }
        }
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// A control connection of the one has asked for an entry of the other. Any peer that has seen its name on the wire can, so
    /// that counts where both have logged in, be it as two users of one program.
    fn mark_if_logged_in(&mut self, one: SessionId, other: SessionId) {
        let is_logged_in = |id| {
            let owned = self.owners.get(&id);
            owned.is_some_and(|owned| owned.account.is_some())
        };
        if is_logged_in(one) && is_logged_in(other) {
            self.mark_shared_cache(one, other);
        }
    }

    fn mark_shared_cache(&mut self, one: SessionId, other: SessionId) {
        for id in [one, other] {
            if let Some(owned) = self.owners.get_mut(&id) {
                owned.cache.mark_shared();
            }
        }
    }
}

impl fmt::Debug for SessionStore {
    /// Without the entries, which are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStore").finish_non_exhaustive()
    }
}

/// The right of one FTP session to have entries; they go when it is dropped.
pub(super) struct Owner {
    id: SessionId,
    sessions: Arc<SessionStore>,
}

impl Owner {
    /// A way to this owner's entries that doesn't keep them alive, for connections that outlast the FTP session.
    pub(super) fn entries(&self) -> OwnEntries {
        OwnEntries {
            id: self.id,
            sessions: Arc::clone(&self.sessions),
        }
    }

    /// Records that a login has succeeded.
    pub(super) fn logged_in(&self, account: LoginId) {
        let mut state = self.sessions.state();
        let sequence = state.next_sequence();
        if let Some(owned) = state.owners.get_mut(&self.id) {
            let former = owned.account.replace(account);
            // The client has answered replies that were sent after its tickets.
            owned.cache.on_received(sequence);
            for other in [owned.asked_for, owned.asked_by].into_iter().flatten() {
                state.mark_if_logged_in(self.id, other);
            }
            if let Some(former) = former {
                state.forget_login(self.id, former);
            }
            state.logins.entry(account).or_default().insert(self.id);
        }
    }

    /// Whether the client's next data connection can be relied upon to name this FTP session: see
    /// [`ResumptionProfile::will_identify_itself`].
    pub(super) fn will_identify_itself(&self) -> bool {
        let state = self.sessions.state();
        state.owners.get(&self.id).is_some_and(|owned| {
            let unused = state.unused(self.id).map(|entry| entry.number);
            !owned.cache.is_shared()
                && owned.profile.will_identify_itself(unused)
                && state.is_separate_within_account(owned)
        })
    }

    /// How far the client's data connections have resumed; `None` before the first that could.
    pub(super) fn resumption(&self) -> Option<Resumption> {
        let state = self.sessions.state();
        state.owners.get(&self.id)?.profile.resumption()
    }

    /// The cache in which the client keeps its TLS sessions, as far as it is known.
    pub(super) fn client_cache(&self) -> Option<ClientCache> {
        let state = self.sessions.state();
        state.owners.get(&self.id).map(|owned| owned.cache)
    }

    /// A data connection of its client did not resume: it isn't relied upon until one has again.
    pub(super) fn not_resumed(&self) {
        self.entries().not_resumed();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut state = self.sessions.state();
        let Some(owned) = state.owners.remove(&self.id) else {
            return;
        };
        if let Some(account) = owned.account {
            state.forget_login(self.id, account);
        }
        for key in owned.control.iter().chain(&owned.data) {
            state.entries.remove(key);
        }
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Owner").field(&self.id).finish()
    }
}

/// The entries of one owner.
#[derive(Debug, Clone)]
pub(super) struct OwnEntries {
    id: SessionId,
    sessions: Arc<SessionStore>,
}

impl OwnEntries {
    /// Returns the value under `key` for this owner. The entry stays: most clients present a ticket more than once, which is
    /// safe without early data.
    pub(super) fn get(&self, key: &[u8], presented: Presented) -> Lookup {
        let mut guard = self.sessions.state();
        let state = &mut *guard;
        let sequence = state.next_sequence();
        let Some(entry) = state.entries.get_mut(key) else {
            return Lookup::Missing;
        };
        if entry.owner != self.id {
            let owners = (state.owners.get(&self.id), state.owners.get(&entry.owner));
            return match owners {
                (Some(own), Some(other)) if other.may_be_presented_by(own) => Lookup::Missing,
                (_, Some(other)) if other.account.is_none() => Lookup::Missing,
                _ => Lookup::Foreign,
            };
        }
        if let Some(owned) = state.owners.get_mut(&self.id) {
            owned
                .profile
                .on_presented(entry.number, entry.used, presented);
        }
        entry.used = true;
        entry.offered = Some(sequence);
        Lookup::Own(entry.value.clone())
    }

    /// A new control connection asks for `key`. There is nothing for it to resume, but if an FTP session that is live has
    /// it, and both log in, they are of one client that doesn't tell them apart.
    pub(super) fn requested_by_control(&self, key: &[u8]) {
        let mut state = self.sessions.state();
        if let Some(other) = state.entries.get(key).map(|entry| entry.owner)
            && other != self.id
        {
            if let Some(owned) = state.owners.get_mut(&self.id) {
                owned.asked_for = Some(other);
            }
            if let Some(owned) = state.owners.get_mut(&other) {
                owned.asked_by = Some(self.id);
            }
            state.mark_if_logged_in(self.id, other);
        }
    }

    /// How many of this owner's entries have not been presented yet.
    pub(super) fn unused(&self) -> usize {
        self.sessions.state().unused(self.id).count()
    }

    /// A data connection has proven to be of the client of this FTP session.
    pub(super) fn proven(&self) {
        let mut state = self.sessions.state();
        let sequence = state.next_sequence();
        if let Some(owned) = state.owners.get_mut(&self.id)
            && let Some(entry) = owned.profile.on_resumed()
        {
            owned.cache.on_own_chosen(entry, sequence);
        }
    }

    /// A data connection of the client did a full handshake.
    pub(super) fn not_resumed(&self) {
        if let Some(owned) = self.sessions.state().owners.get_mut(&self.id) {
            owned.profile.on_not_resumed();
        }
    }

    /// Keeps `value` under `key`, at the expense of another entry of this owner and of the same origin. Returns whether it
    /// was kept: not after the owner is gone, and never in place of another owner's entry.
    pub(super) fn put(&self, origin: EstablishedOn, key: Vec<u8>, value: Vec<u8>) -> bool {
        let mut guard = self.sessions.state();
        let state = &mut *guard;
        let number = state.next_sequence();
        let Some(owned) = state.owners.get_mut(&self.id) else {
            return false;
        };
        if let Some(entry) = state.entries.get_mut(key.as_slice()) {
            if entry.owner != self.id {
                return false;
            }
            entry.value = value;
            return true;
        }
        if origin == EstablishedOn::Control {
            owned.cache.on_issued(number);
        }
        let (keys, limit) = match origin {
            EstablishedOn::Control => (&mut owned.control, CONTROL_ENTRIES),
            EstablishedOn::Data => (&mut owned.data, DATA_ENTRIES),
        };
        if keys.len() == limit
            && let Some(evicted) = eviction_candidate(keys, &state.entries)
            && let Some(key) = keys.remove(evicted)
        {
            state.entries.remove(&key);
        }
        let key: Arc<[u8]> = key.into();
        keys.push_back(Arc::clone(&key));
        state.entries.insert(
            key,
            StoredSession {
                owner: self.id,
                value,
                number,
                offered: None,
                used: false,
            },
        );
        true
    }
}

/// The entry of an owner that is missed least: one that was offered and not lately, since a client that offers entries once still
/// has the others, and one that offers an entry again offers the last one. Where there is none, the oldest.
fn eviction_candidate(
    keys: &VecDeque<Arc<[u8]>>,
    entries: &HashMap<Arc<[u8]>, StoredSession>,
) -> Option<usize> {
    let offered = |key: &Arc<[u8]>| entries.get(key).and_then(|entry| entry.offered);
    let last = keys.iter().filter_map(offered).max();
    let rank = |key| match offered(key) {
        offered @ Some(_) if offered == last => (true, 0),
        Some(offered) => (false, offered),
        None => (false, u64::MAX),
    };
    let least = keys.iter().enumerate().min_by_key(|(_, key)| rank(key))?;
    Some(least.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners() -> (Arc<SessionStore>, Owner, Owner) {
        let sessions = Arc::new(SessionStore::new());
        let one = sessions.register(SessionId(1));
        let other = sessions.register(SessionId(2));
        (sessions, one, other)
    }

    #[test]
    fn an_entry_can_be_looked_up_again_and_again_by_its_owner_only() {
        let (_sessions, one, other) = owners();
        one.logged_in(account(b"alice"));
        assert!(
            one.entries()
                .put(EstablishedOn::Control, b"key".to_vec(), b"value".to_vec())
        );
        for _ in 0..3 {
            assert_eq!(
                one.entries().get(b"key", Presented::Ticket),
                Lookup::Own(b"value".to_vec())
            );
        }
        assert_eq!(
            other.entries().get(b"key", Presented::Ticket),
            Lookup::Foreign
        );
    }

    #[test]
    fn an_entry_cannot_be_replaced_by_another_owner() {
        let (_sessions, one, other) = owners();
        assert!(
            one.entries()
                .put(EstablishedOn::Control, b"key".to_vec(), b"mine".to_vec())
        );
        assert!(
            !other
                .entries()
                .put(EstablishedOn::Data, b"key".to_vec(), b"theirs".to_vec())
        );
        assert_eq!(
            one.entries().get(b"key", Presented::Ticket),
            Lookup::Own(b"mine".to_vec())
        );
    }

    #[test]
    fn an_entry_put_twice_counts_once() {
        let (sessions, one, _other) = owners();
        for value in [b"old", b"new"] {
            assert!(
                one.entries()
                    .put(EstablishedOn::Data, b"key".to_vec(), value.to_vec())
            );
        }
        assert_eq!(sessions.len(), 1);
        assert_eq!(
            one.entries().get(b"key", Presented::Ticket),
            Lookup::Own(b"new".to_vec())
        );
    }

    #[test]
    fn the_control_connections_tickets_outlive_any_number_of_data_tickets() {
        let (sessions, one, _other) = owners();
        for ticket in 0..4u8 {
            one.entries()
                .put(EstablishedOn::Control, vec![ticket], vec![ticket]);
        }
        for ticket in 100..=250u8 {
            one.entries()
                .put(EstablishedOn::Data, vec![ticket], vec![ticket]);
        }
        assert_eq!(sessions.len(), ENTRIES_PER_OWNER);
        let keeps = |ticket: u8| {
            matches!(
                one.entries().get(&[ticket], Presented::Ticket),
                Lookup::Own(_)
            )
        };
        assert!((0..4).all(keeps));
        assert!(!keeps(238));
        assert!((239..=250).all(keeps));
    }

    #[test]
    fn a_ticket_that_its_client_still_has_outlives_any_number_that_it_has_used() {
        let (_sessions, one, _other) = owners();
        let entries = one.entries();
        let put = |ticket: u8| entries.put(EstablishedOn::Data, vec![ticket], vec![ticket]);
        let keeps = |ticket: u8| entries.get(&[ticket], Presented::Ticket) != Lookup::Missing;
        // The newest is used first, as by rustls.
        for ticket in 0..3 {
            put(ticket);
        }
        for ticket in 3..=250 {
            put(ticket);
            assert!(keeps(ticket));
        }
        assert!((0..3).all(keeps));
    }

    #[test]
    fn the_ticket_that_was_used_last_outlives_any_number_that_its_client_never_uses() {
        let (_sessions, one, _other) = owners();
        let entries = one.entries();
        let put = |ticket: u8| entries.put(EstablishedOn::Data, vec![ticket], vec![ticket]);
        let keeps = |ticket: u8| entries.get(&[ticket], Presented::Ticket) != Lookup::Missing;
        put(0);
        for ticket in 1..=250 {
            assert!(keeps(0), "{ticket}");
            put(ticket);
        }
        assert!(keeps(0) && keeps(250));
    }

    #[test]
    fn one_owners_flood_leaves_anothers_entries_alone() {
        let (_sessions, one, other) = owners();
        other
            .entries()
            .put(EstablishedOn::Data, b"theirs".to_vec(), b"value".to_vec());
        for ticket in 0..=255u8 {
            one.entries()
                .put(EstablishedOn::Data, vec![ticket], vec![ticket]);
        }
        assert!(matches!(
            other.entries().get(b"theirs", Presented::Ticket),
            Lookup::Own(_)
        ));
    }

    #[test]
    fn nothing_remains_of_an_owner_that_is_gone_and_nothing_comes_after() {
        let (sessions, one, other) = owners();
        let late = one.entries();
        late.put(EstablishedOn::Control, b"one".to_vec(), b"value".to_vec());
        other
            .entries()
            .put(EstablishedOn::Data, b"two".to_vec(), b"value".to_vec());
        drop(one);
        assert_eq!(late.get(b"one", Presented::Ticket), Lookup::Missing);
        assert!(!late.put(EstablishedOn::Data, b"late".to_vec(), b"value".to_vec()));
        assert_eq!(sessions.len(), 1);
        drop(other);
        assert_eq!(sessions.len(), 0);
        assert!(sessions.state().owners.is_empty());
    }

    fn account(user: &[u8]) -> LoginId {
        LoginId::of(Some(SiteId(0)), user)
    }

    fn are_shared(sessions: &SessionStore) -> Vec<bool> {
        let state = sessions.state();
        [1, 2]
            .map(|id| state.owners[&SessionId(id)].cache.is_shared())
            .into()
    }

    #[test]
    fn a_control_connection_that_asks_for_anothers_entry_is_of_its_client_once_both_have_logged_in()
    {
        for order in [[0, 1], [1, 0]] {
            let (sessions, one, other) = owners();
            one.entries()
                .put(EstablishedOn::Control, b"key".to_vec(), b"value".to_vec());
            let owners = [&one, &other];
            owners[order[0]].logged_in(account(b"alice"));
            other.entries().requested_by_control(b"key");
            assert_eq!(are_shared(&sessions), [false; 2]);
            owners[order[1]].logged_in(account(b"bob"));
            assert_eq!(are_shared(&sessions), [true; 2]);
        }
    }

    #[test]
    fn an_entry_of_a_session_without_a_login_is_none() {
        let (_sessions, one, other) = owners();
        one.entries()
            .put(EstablishedOn::Control, b"key".to_vec(), b"value".to_vec());
        assert_eq!(
            other.entries().get(b"key", Presented::Ticket),
            Lookup::Missing
        );
        one.logged_in(account(b"alice"));
        assert_eq!(
            other.entries().get(b"key", Presented::Ticket),
            Lookup::Foreign
        );
        // Of one account, whose clients may keep their entries in one place.
        other.logged_in(account(b"alice"));
        assert_eq!(
            other.entries().get(b"key", Presented::Ticket),
            Lookup::Missing
        );
    }
}
