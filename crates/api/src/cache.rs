//! A small cache whose entries live for a few seconds: what every request needs (credentials, projects,
//! deployments) is read from the catalog once per [`TTL_MS`] instead of once per request. Changes made by
//! this process forget the entry at once, and whatever is being read in that moment; changes made by others are seen
//! after the time to live.

use std::{collections::HashMap, hash::Hash, sync::Mutex};

use model::WallTime;

/// How long an entry is believed.
pub(crate) const TTL_MS: i64 = 5_000;

/// Entries per cache.
const ENTRIES_MAX: usize = 4_096;

/// A bounded map with a time to live.
pub(crate) struct Cache<K, V> {
    held: Mutex<Held<K, V>>,
    ttl_ms: i64,
}

struct Held<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// How many times something was forgotten.
    generation: u64,
}

struct Entry<V> {
    value: V,
    until: WallTime,
}

/// How much had been forgotten when this was asked for.
#[derive(Clone, Copy)]
pub(crate) struct Generation(u64);

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    pub(crate) fn new(ttl_ms: i64) -> Self {
        Self { held: Mutex::new(Held { entries: HashMap::new(), generation: 0 }), ttl_ms }
    }

    /// The value, when it is young enough.
    pub(crate) fn get<Q>(&self, key: &Q, now: WallTime) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let held = self.lock();
        // A clock that was set back must not keep an entry alive for longer than its time.
        held.entries
            .get(key)
            .filter(|e| now < e.until && e.until <= now.plus_ms(self.ttl_ms))
            .map(|e| e.value.clone())
    }

    /// To be asked for before a value is read.
    pub(crate) fn generation(&self) -> Generation {
        Generation(self.lock().generation)
    }

    /// Remembers a value that was read after that generation was asked for. When something was forgotten meanwhile, it may be
    /// what was there before a change, and is not remembered.
    pub(crate) fn put(&self, key: K, value: V, before: Generation, now: WallTime) {
        let mut held = self.lock();
        if held.generation != before.0 {
            return;
        }
        let entries = &mut held.entries;
        if entries.len() >= ENTRIES_MAX && !entries.contains_key(&key) {
            entries.retain(|_, entry| now < entry.until);
            if entries.len() >= ENTRIES_MAX {
                entries.clear();
            }
        }
        entries.insert(key, Entry { value, until: now.plus_ms(self.ttl_ms) });
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        let mut held = self.lock();
        held.generation += 1;
        held.entries.clear();
    }

    /// Forgets one entry.
    pub(crate) fn forget<Q>(&self, key: &Q)
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let mut held = self.lock();
        held.generation += 1;
        held.entries.remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held<K, V>> {
        // Nothing panics while the lock is held, and a cache may be used as it is after a panic.
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_lives_for_its_time_and_no_longer() {
        let cache = Cache::new(5);
        cache.put("k", 1, cache.generation(), WallTime(100));
        assert_eq!(cache.get("k", WallTime(104)), Some(1));
        assert_eq!(cache.get("k", WallTime(105)), None);
        assert_eq!(cache.get("k", WallTime(50)), None, "a clock set back must not prolong it");
        cache.forget("k");
        assert_eq!(cache.get("k", WallTime(101)), None);
    }

    #[test]
    fn what_was_read_before_something_was_forgotten_is_not_remembered() {
        let cache = Cache::new(5);
        let before = cache.generation();
        cache.clear();
        cache.put("k", 1, before, WallTime(0));
        assert_eq!(cache.get("k", WallTime(0)), None, "it comes back");
        let before = cache.generation();
        cache.forget("k");
        cache.put("k", 2, before, WallTime(0));
        assert_eq!(cache.get("k", WallTime(0)), None, "it comes back");
        cache.put("k", 3, cache.generation(), WallTime(0));
        assert_eq!(cache.get("k", WallTime(0)), Some(3));
    }

    #[test]
    fn it_stays_bounded() {
        let cache = Cache::new(5);
        for key in 0..ENTRIES_MAX * 3 {
            cache.put(key, key, cache.generation(), WallTime(0));
        }
        assert!(cache.lock().entries.len() <= ENTRIES_MAX);
    }
}
