//! A map of bounded size whose entries expire, for state kept per client. When it is full, the entry that would expire
//! first is evicted.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Instant;

/// What is remembered, by whom it is about.
#[derive(Debug)]
pub(crate) struct Book<K, E> {
    capacity: usize,
    entries: HashMap<K, E>,
    /// The same keys, in the order in which they expire.
    by_end: BTreeSet<(Instant, K)>,
}

/// Something that is worth remembering until a certain moment.
pub(crate) trait Entry {
    /// The moment. It doesn't change while the entry is in a book.
    fn end(&self) -> Instant;
}

impl<K: Clone + Ord + Hash, E: Entry> Book<K, E> {
    /// An empty book, for at most so many.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            entries: HashMap::new(),
            by_end: BTreeSet::new(),
        }
    }

    /// The entry for `key`.
    pub fn get(&self, key: &K) -> Option<&E> {
        self.entries.get(key)
    }

    /// Removes all expired entries.
    pub fn forget_until(&mut self, now: Instant) {
        while let Some((end, _)) = self.by_end.first()
            && *end <= now
        {
            self.forget_first();
        }
    }

    /// Removes an entry, to insert another one under its key.
    pub fn take(&mut self, key: &K) -> Option<E> {
        let (key, entry) = self.entries.remove_entry(key)?;
        self.by_end.remove(&(entry.end(), key));
        Some(entry)
    }

    /// Writes an entry down, and says whether another had to go for it before its time.
    pub fn enter(&mut self, key: K, entry: E) -> bool {
        self.take(&key);
        let full = self.entries.len() >= self.capacity;
        if full {
            self.forget_first();
        }
        self.by_end.insert((entry.end(), key.clone()));
        self.entries.insert(key, entry);
        full
    }

    fn forget_first(&mut self) {
        if let Some((_, key)) = self.by_end.pop_first() {
            self.entries.remove(&key);
        }
    }

    /// All keys, in the order in which they expire.
    #[cfg(test)]
    pub fn by_end(&self) -> Vec<(Instant, K)> {
        assert_eq!(self.entries.len(), self.by_end.len());
        self.by_end.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    impl Entry for Instant {
        fn end(&self) -> Instant {
            *self
        }
    }

    #[test]
    fn what_has_ended_is_forgotten_and_no_more() {
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        let mut book = Book::new(3);
        for (key, end) in [("b", 2), ("a", 1), ("c", 3)] {
            assert!(!book.enter(key, later(end)));
        }
        book.forget_until(later(2));
        assert_eq!(book.by_end(), [(later(3), "c")]);
        assert_eq!(book.get(&"a"), None);
    }

    #[test]
    fn whoever_would_be_forgotten_first_makes_room_for_others_and_not_for_itself() {
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        let mut book = Book::new(2);
        book.enter("a", later(1));
        book.enter("b", later(2));
        assert!(!book.enter("a", later(3)), "it has its place");
        assert!(book.enter("c", later(1)));
        assert_eq!(book.by_end(), [(later(1), "c"), (later(3), "a")]);
    }
}
