//! A map of bounded size whose entries expire, for state kept per client. When it is full, the entry that would expire
//! first is evicted.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Instant;

/// Values by key, each with its expiry.
#[derive(Debug)]
pub(crate) struct ExpiringMap<K, E> {
    capacity: usize,
    entries: HashMap<K, E>,
    /// The keys of `entries`, in the order in which they expire.
    by_expiry: BTreeSet<(Instant, K)>,
}

/// A value that expires.
pub(crate) trait Expires {
    /// When the value expires. Must not change while the value is in a map.
    fn expires_at(&self) -> Instant;
}

impl<K: Clone + Ord + Hash, E: Expires> ExpiringMap<K, E> {
    /// An empty map for at most `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            entries: HashMap::new(),
            by_expiry: BTreeSet::new(),
        }
    }

    /// The entry for `key`.
    pub fn get(&self, key: &K) -> Option<&E> {
        self.entries.get(key)
    }

    /// Every entry, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &E)> {
        self.entries.iter()
    }

    /// Removes all expired entries.
    pub fn expire(&mut self, now: Instant) {
        while let Some((expires_at, _)) = self.by_expiry.first()
            && *expires_at <= now
        {
            self.remove_first();
        }
    }

    /// Removes an entry, to insert another one under its key.
    pub fn remove(&mut self, key: &K) -> Option<E> {
        let (key, entry) = self.entries.remove_entry(key)?;
        self.by_expiry.remove(&(entry.expires_at(), key));
        Some(entry)
    }

    /// Inserts an entry; returns whether another was evicted for it.
    pub fn insert(&mut self, key: K, entry: E) -> bool {
        self.remove(&key);
        let full = self.entries.len() >= self.capacity;
        if full {
            self.remove_first();
        }
        self.by_expiry.insert((entry.expires_at(), key.clone()));
        self.entries.insert(key, entry);
        full
    }

    fn remove_first(&mut self) {
        if let Some((_, key)) = self.by_expiry.pop_first() {
            self.entries.remove(&key);
        }
    }

    /// All keys, in the order in which they expire.
    #[cfg(test)]
    pub fn by_expiry(&self) -> Vec<(Instant, K)> {
        assert_eq!(self.entries.len(), self.by_expiry.len());
        self.by_expiry.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    impl Expires for Instant {
        fn expires_at(&self) -> Instant {
            *self
        }
    }

    #[test]
    fn what_has_ended_is_forgotten_and_no_more() {
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        let mut book = ExpiringMap::new(3);
        for (key, expires_at) in [("b", 2), ("a", 1), ("c", 3)] {
            assert!(!book.insert(key, later(expires_at)));
        }
        book.expire(later(2));
        assert_eq!(book.by_expiry(), [(later(3), "c")]);
        assert_eq!(book.get(&"a"), None);
    }

    #[test]
    fn whoever_would_be_forgotten_first_makes_room_for_others_and_not_for_itself() {
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        let mut book = ExpiringMap::new(2);
        book.insert("a", later(1));
        book.insert("b", later(2));
        assert!(!book.insert("a", later(3)), "it has its place");
        assert!(book.insert("c", later(1)));
        assert_eq!(book.by_expiry(), [(later(1), "c"), (later(3), "a")]);
    }
}
