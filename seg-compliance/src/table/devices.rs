//! Devices: record, override and live leases of each in one entry, under one lock.

use std::sync::Arc;

use ahash::RandomState;
use jiff::Timestamp;
use parking_lot::RwLock;
use smallvec::SmallVec;

use super::shard::Shard;
use super::{LeaseRef, SHARDS};
use crate::intern::Symbol;
use crate::judge::{Known, Memory, Override, Plain, Rules};
use crate::order::Order;
use crate::record::Facts;
use crate::{DeviceKey, Protocol, UserKey};

/// All that is held of one device, in this order: what a verdict reads comes first, so that it lies
/// in two cache lines together with the name.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Entry {
    /// The newest of the states under changes that are not durable yet.
    pub(crate) before: Option<Box<Before>>,
    pub(crate) set: Option<Box<Override>>,
    /// Whether there is a record.
    pub(crate) known: bool,
    /// The device's place among those of its user, from 1; 0 while no policy looks at it.
    pub(crate) rank: u16,
    /// The last change of record or override.
    pub(crate) revision: u64,
    /// What is remembered of the policies' answer.
    pub(crate) memory: Memory,
    /// The record's facts; meaningful where `known`.
    pub(crate) facts: Facts,
    pub(crate) leases: SmallVec<[LeaseRef; 1]>,
    pub(crate) order: Option<Box<Order>>,
    pub(crate) last: Option<Box<LastSeen>>,
}

/// The state under a change that is not durable yet. Until it is, the strictest of all such states
/// and the newest holds: a block at once, an unblock when it can't be lost any more.
pub(crate) struct Before {
    pub(crate) facts: Facts,
    pub(crate) known: bool,
    pub(crate) set: Option<Box<Override>>,
    pub(crate) order: Option<Box<Order>>,
    pub(crate) revision: u64,
    /// The change that waits.
    pub(crate) until: u64,
    /// The state under a change before that one, which waits too.
    older: Option<Box<Self>>,
}

impl Before {
    pub(crate) fn known<'a>(&'a self, user: Option<&'a Override>) -> Known<'a> {
        Known {
            facts: self.known.then_some(&self.facts),
            device: self.set.as_deref(),
            user,
            revision: self.revision,
            ..Known::NOTHING
        }
    }

    /// The owner of the record.
    pub(crate) fn owner(&self) -> Option<&UserKey> {
        self.facts.user.as_ref().filter(|_| self.known)
    }
}

/// The last request of a known device, since the start.
#[derive(Clone)]
pub(crate) struct LastSeen {
    pub(crate) at: Timestamp,
    pub(crate) command: Symbol,
    pub(crate) agent: Symbol,
    pub(crate) user: Option<UserKey>,
    pub(crate) status: u16,
    pub(crate) protocol: Protocol,
}

impl Entry {
    /// The record, where there is nothing else.
    #[inline(always)]
    pub(crate) fn plain(&self) -> Option<Plain<'_>> {
        let alone = self.known & self.before.is_none() & self.set.is_none();
        alone.then_some(Plain {
            facts: &self.facts,
            memory: &self.memory,
            revision: self.revision,
        })
    }

    /// The state as it will be when everything is durable.
    pub(crate) fn current<'a>(&'a self, user: Option<&'a Override>) -> Known<'a> {
        Known {
            facts: self.known.then_some(&self.facts),
            device: self.set.as_deref(),
            user,
            revision: self.revision,
            rank: self.rank,
            next_rank: 0,
            memory: Some(&self.memory),
        }
    }

    /// The states under changes that are not durable yet, the newest first.
    pub(crate) fn befores(&self) -> impl Iterator<Item = &Before> {
        std::iter::successors(self.before.as_deref(), |before| before.older.as_deref())
    }

    /// Remembers the state under a change of `revision` that is about to be made.
    pub(crate) fn hold_before(&mut self, revision: u64) {
        self.before = Some(Box::new(Before {
            facts: self.facts.clone(),
            known: self.known,
            set: self.set.clone(),
            order: self.order.clone(),
            revision: self.revision,
            until: revision,
            older: self.before.take(),
        }));
    }

    /// The change of `revision` is durable, and with it all before: the state under it.
    pub(crate) fn settle(&mut self, revision: u64) -> Option<Box<Before>> {
        let mut place = &mut self.before;
        while place.as_ref().is_some_and(|before| before.until > revision) {
            place = &mut place.as_mut()?.older;
        }
        place.take()
    }

    /// The change of `revision` was not made durable and is the newest: the state under it.
    pub(crate) fn revert(&mut self, revision: u64) -> Option<Before> {
        let mut before = *self.before.take_if(|before| before.until == revision)?;
        self.before = before.older.take();
        Some(before)
    }

    /// The owner of the record.
    pub(crate) fn owner(&self) -> Option<&UserKey> {
        self.facts.user.as_ref().filter(|_| self.known)
    }

    /// The order that survives any end of the process.
    pub(crate) fn durable_order(&self) -> Option<&Order> {
        match self.befores().last() {
            Some(oldest) => oldest.order.as_deref(),
            None => self.order.as_deref(),
        }
    }

    /// Nothing is held of it that a verdict or an answer needs.
    fn is_vacant(&self) -> bool {
        !self.known
            && self.set.is_none()
            && self.order.is_none()
            && self.before.is_none()
            && self.leases.is_empty()
    }
}

/// A device in the table: its name lies beside what is held of it, so that finding it costs one
/// look into memory that nobody has looked at. Two cache lines, which memory hands over together,
/// begin with it.
#[repr(C, align(128))]
struct Row {
    key: DeviceKey,
    entry: Entry,
}

impl Row {
    /// Whether this is the row of `key`. Who asks reads on in the second cache line: it is asked for
    /// together with the first, not after the comparison and all that comes behind it.
    fn is_of(&self, key: &DeviceKey) -> bool {
        std::hint::black_box(self.entry.revision);
        self.key == *key
    }
}

/// A device as its user's entry holds it: eight bytes instead of a name. Two devices with one mark
/// are as likely as two equal random numbers of 64 bits; whoever asks for it gets both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(u64);

/// The table of devices.
pub(crate) struct Devices {
    shards: Box<[Locked; SHARDS]>,
    hasher: RandomState,
}

/// A shard under its lock, in a cache line of its own.
#[repr(align(64))]
struct Locked(RwLock<Held>);

struct Held {
    rows: Shard<Row>,
    /// What is in force: whoever judges a device finds it under the lock that he takes anyway.
    rules: Arc<Rules>,
}

impl Devices {
    pub(crate) fn new(rules: &Arc<Rules>) -> Self {
        let shard = || {
            Locked(RwLock::new(Held {
                rows: Shard::default(),
                rules: Arc::clone(rules),
            }))
        };
        Self {
            shards: Box::new(std::array::from_fn(|_| shard())),
            hasher: RandomState::new(),
        }
    }

    /// From the return on, these rules are in force wherever a device is judged.
    pub(crate) fn rule(&self, rules: &Arc<Rules>) {
        for shard in self.shards.iter() {
            shard.0.write().rules = Arc::clone(rules);
        }
    }

    /// Reads the entry of `key` under its lock.
    pub(crate) fn read<R>(&self, key: &DeviceKey, read: impl FnOnce(Option<&Entry>) -> R) -> R {
        self.read_ruled(key, |_, entry| read(entry))
    }

    /// Reads the entry of `key`, and the rules in force, under one lock.
    #[inline(always)]
    pub(crate) fn read_ruled<R>(
        &self,
        key: &DeviceKey,
        read: impl FnOnce(&Rules, Option<&Entry>) -> R,
    ) -> R {
        let hash = self.hash(key);
        let shard = self.shard(hash).read();
        let row = shard.rows.find(hash, |row| row.is_of(key));
        read(&shard.rules, row.map(|row| &row.entry))
    }

    /// Changes the entry of `key` under its lock; makes one where there is none, and keeps it only
    /// if there is something to keep.
    pub(crate) fn update<R>(&self, key: &DeviceKey, change: impl FnOnce(&mut Entry) -> R) -> R {
        self.update_ruled(key, |_, entry| change(entry))
    }

    /// As [`Self::update`], with the rules in force.
    pub(crate) fn update_ruled<R>(
        &self,
        key: &DeviceKey,
        change: impl FnOnce(&Rules, &mut Entry) -> R,
    ) -> R {
        let hash = self.hash(key);
        let mut shard = self.shard(hash).write();
        let Held { rows: shard, rules } = &mut *shard;
        if let Some(row) = shard.find_mut(hash, |row| row.is_of(key)) {
            let result = change(rules, &mut row.entry);
            if row.entry.is_vacant() {
                shard.remove(hash, |row| row.is_of(key), |row| self.hash(&row.key));
            }
            return result;
        }
        let mut entry = Entry::default();
        let result = change(rules, &mut entry);
        if !entry.is_vacant() {
            let key = key.clone();
            shard.insert(hash, Row { key, entry }, |row| self.hash(&row.key));
        }
        result
    }

    /// Walks all entries, one shard locked at a time.
    pub(crate) fn each(&self, mut look: impl FnMut(&DeviceKey, &Entry)) {
        for shard in self.shards.iter() {
            for row in shard.0.read().rows.iter() {
                look(&row.key, &row.entry);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.0.read().rows.len())
            .sum()
    }

    /// The mark of a device.
    pub(crate) fn mark(&self, key: &DeviceKey) -> Mark {
        Mark(self.hash(key))
    }

    /// Hands the devices with this mark on, as long as something is held of them.
    pub(crate) fn marked(&self, mark: Mark, mut look: impl FnMut(&DeviceKey)) {
        let Mark(hash) = mark;
        let shard = self.shard(hash).read();
        shard.rows.of_hash(hash, |row| {
            if self.hash(&row.key) == hash {
                look(&row.key);
            }
        });
    }

    #[inline(always)]
    fn hash(&self, key: &DeviceKey) -> u64 {
        self.hasher.hash_one(key)
    }

    fn shard(&self, hash: u64) -> &RwLock<Held> {
        // Bits that a shard's own table uses neither for its slots nor for its tags. SHARDS is the
        // length of the list, so there is always one.
        #[allow(clippy::indexing_slicing)]
        &self.shards[(hash >> 32) as usize % SHARDS].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stays_small() {
        assert!(size_of::<Row>() <= 256, "{}", size_of::<Row>());
        assert!(size_of::<Locked>() <= 64, "{}", size_of::<Locked>());
        // What every verdict reads, in the first two of them.
        let facts = std::mem::offset_of!(Row, entry) + std::mem::offset_of!(Entry, facts);
        assert!(facts + Facts::READ_BY_ALL <= 128, "{facts}");
    }

    #[test]
    fn a_mark_leads_to_its_device_alone() {
        let devices = Devices::new(&Arc::default());
        let keys: Vec<_> = (0..4_096)
            .map(|number| DeviceKey::new(&format!("D{number}")).unwrap())
            .collect();
        for key in &keys {
            devices.update(key, |entry| entry.known = true);
        }
        for key in &keys {
            let mut found = Vec::new();
            devices.marked(devices.mark(key), |key| found.push(key.clone()));
            assert_eq!(found, std::slice::from_ref(key));
        }
        let gone = DeviceKey::new("GONE").unwrap();
        devices.marked(devices.mark(&gone), |key| panic!("{key}"));
    }

    #[test]
    fn an_entry_lives_as_long_as_something_is_in_it() {
        let devices = Devices::new(&Arc::default());
        let key = DeviceKey::new("D1").unwrap();
        devices.update(&key, |_| ());
        assert_eq!(devices.len(), 0);
        devices.update(&key, |entry| entry.known = true);
        assert_eq!(devices.len(), 1);
        devices.update(&key, |entry| entry.known = false);
        assert_eq!(devices.len(), 0);
    }
}
