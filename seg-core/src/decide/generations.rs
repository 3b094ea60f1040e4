//! A bounded memory: what was not used for a whole generation is forgotten.

use std::collections::HashMap;
use std::hash::Hash;

use ahash::RandomState;
use parking_lot::Mutex;

const SHARDS: usize = 16;

#[derive(Debug)]
struct Shard<K, V> {
    young: HashMap<K, V, RandomState>,
    old: HashMap<K, V, RandomState>,
}

/// A map that holds between `capacity` and twice as many entries, with constant-time operations
/// and no clock: when the young generation is full it becomes the old one, and the old one goes.
#[derive(Debug)]
pub struct Generations<K, V> {
    shards: Vec<Mutex<Shard<K, V>>>,
    hasher: RandomState,
    shard_capacity: usize,
}

impl<K: Eq + Hash, V: Clone> Generations<K, V> {
    /// A memory of about `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        let shard = || {
            let map = || HashMap::with_hasher(RandomState::new());
            Mutex::new(Shard {
                young: map(),
                old: map(),
            })
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: RandomState::new(),
            shard_capacity: capacity.div_ceil(SHARDS).max(1),
        }
    }

    /// Remembers `value`.
    pub fn insert(&self, key: K, value: V) {
        let Some(shard) = self.shard(&key) else {
            return;
        };
        let mut shard = shard.lock();
        if let Some(known) = shard.young.get_mut(&key) {
            *known = value;
            return;
        }
        shard.old.remove(&key);
        shard.young.insert(key, value);
        if shard.young.len() >= self.shard_capacity {
            let fresh = HashMap::with_hasher(RandomState::new());
            shard.old = std::mem::replace(&mut shard.young, fresh);
        }
    }

    /// What is remembered of `key`.
    pub fn recall(&self, key: &K) -> Option<V> {
        let shard = self.shard(key)?.lock();
        shard.young.get(key).or_else(|| shard.old.get(key)).cloned()
    }

    /// What is remembered of `key`, young again; what `make` makes, where nothing is.
    pub fn recall_or(&self, key: K, make: impl FnOnce() -> V) -> V {
        let Some(shard) = self.shard(&key) else {
            return make();
        };
        let old = {
            let mut shard = shard.lock();
            if let Some(value) = shard.young.get(&key) {
                return value.clone();
            }
            shard.old.remove(&key)
        };
        let value = old.unwrap_or_else(make);
        self.insert(key, value.clone());
        value
    }

    /// Forgets `key`.
    pub fn forget(&self, key: &K) {
        if let Some(shard) = self.shard(key) {
            let mut shard = shard.lock();
            shard.young.remove(key);
            shard.old.remove(key);
        }
    }

    fn shard(&self, key: &K) -> Option<&Mutex<Shard<K, V>>> {
        self.shards.get(self.hasher.hash_one(key) as usize % SHARDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_recent_and_stays_bounded() {
        let memory = Generations::new(160);
        for n in 0..10_000u32 {
            memory.insert(n, n * 2);
            assert_eq!(memory.recall(&n), Some(n * 2));
        }
        let kept = (0..10_000).filter(|n| memory.recall(n).is_some()).count();
        assert!((1..=2 * 16 * 10).contains(&kept), "{kept} kept");
        memory.forget(&9_999);
        assert_eq!(memory.recall(&9_999), None);
    }
}
