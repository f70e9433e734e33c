//! A small cache whose entries live for a few seconds: what every request needs (credentials, projects,
//! deployments) is read from the catalog once per [`TTL_MS`] instead of once per request. Changes made by
//! this process forget the entry at once; changes made by others are seen after the time to live.

use std::{collections::HashMap, hash::Hash, sync::Mutex};

use model::WallTime;

/// How long an entry is believed.
pub(crate) const TTL_MS: i64 = 5_000;

/// Entries per cache.
const ENTRIES_MAX: usize = 4_096;

/// A bounded map with a time to live.
pub(crate) struct Cache<K, V> {
    entries: Mutex<HashMap<K, Entry<V>>>,
    ttl_ms: i64,
}

struct Entry<V> {
    value: V,
    until: WallTime,
}

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    pub(crate) fn new(ttl_ms: i64) -> Self {
        Self { entries: Mutex::new(HashMap::new()), ttl_ms }
    }

    /// The value, when it is young enough.
    pub(crate) fn get<Q>(&self, key: &Q, now: WallTime) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let entries = self.lock();
        // A clock that was set back must not keep an entry alive for longer than its time.
        entries
            .get(key)
            .filter(|e| now < e.until && e.until <= now.plus_ms(self.ttl_ms))
            .map(|e| e.value.clone())
    }

    /// Remembers a value.
    pub(crate) fn put(&self, key: K, value: V, now: WallTime) {
        let mut entries = self.lock();
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
        self.lock().clear();
    }

    /// Forgets one entry.
    pub(crate) fn forget<Q>(&self, key: &Q)
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.lock().remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<K, Entry<V>>> {
        // Nothing panics while the lock is held, and a cache may be used as it is after a panic.
        self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_lives_for_its_time_and_no_longer() {
        let cache = Cache::new(5);
        cache.put("k", 1, WallTime(100));
        assert_eq!(cache.get("k", WallTime(104)), Some(1));
        assert_eq!(cache.get("k", WallTime(105)), None);
        assert_eq!(cache.get("k", WallTime(50)), None, "a clock set back must not prolong it");
        cache.forget("k");
        assert_eq!(cache.get("k", WallTime(101)), None);
    }

    #[test]
    fn it_stays_bounded() {
        let cache = Cache::new(5);
        for key in 0..ENTRIES_MAX * 3 {
            cache.put(key, key, WallTime(0));
        }
        assert!(cache.lock().len() <= ENTRIES_MAX);
    }
}
