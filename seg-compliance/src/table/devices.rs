//! Devices: record, override and live leases of each in one entry, under one lock.

use ahash::RandomState;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;
use jiff::Timestamp;
use smallvec::SmallVec;

use super::{LeaseRef, SHARDS};
use crate::intern::Symbol;
use crate::judge::{Known, Override};
use crate::order::Order;
use crate::record::Facts;
use crate::{DeviceKey, Protocol, UserKey};

/// All that is held of one device.
#[derive(Default)]
pub(crate) struct Entry {
    /// The record's facts; meaningful where `known`.
    pub(crate) facts: Facts,
    /// Whether there is a record.
    pub(crate) known: bool,
    pub(crate) set: Option<Box<Override>>,
    pub(crate) order: Option<Box<Order>>,
    /// The newest of the states under changes that are not durable yet.
    pub(crate) before: Option<Box<Before>>,
    pub(crate) leases: SmallVec<[LeaseRef; 1]>,
    pub(crate) last: Option<Box<LastSeen>>,
    /// The last change of record or override.
    pub(crate) revision: u64,
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
    /// The state as it will be when everything is durable.
    pub(crate) fn current<'a>(&'a self, user: Option<&'a Override>) -> Known<'a> {
        Known {
            facts: self.known.then_some(&self.facts),
            device: self.set.as_deref(),
            user,
            revision: self.revision,
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

/// The table of devices.
pub(crate) struct Devices(DashMap<DeviceKey, Box<Entry>, RandomState>);

impl Devices {
    pub(crate) fn new() -> Self {
        Self(DashMap::with_hasher_and_shard_amount(
            RandomState::new(),
            SHARDS,
        ))
    }

    /// Reads the entry of `key` under its lock.
    pub(crate) fn read<R>(&self, key: &DeviceKey, read: impl FnOnce(Option<&Entry>) -> R) -> R {
        let held = self.0.get(key);
        read(held.as_ref().map(|held| &***held))
    }

    /// Changes the entry of `key` under its lock; makes one where there is none, and keeps it only
    /// if there is something to keep.
    pub(crate) fn update<R>(&self, key: &DeviceKey, change: impl FnOnce(&mut Entry) -> R) -> R {
        if let Some(mut held) = self.0.get_mut(key) {
            let result = change(&mut held);
            if !held.is_vacant() {
                return result;
            }
            drop(held);
            self.0.remove_if(key, |_, held| held.is_vacant());
            return result;
        }
        match self.0.entry(key.clone()) {
            Slot::Occupied(mut held) => {
                let result = change(held.get_mut());
                if held.get().is_vacant() {
                    held.remove();
                }
                result
            }
            Slot::Vacant(place) => {
                let mut entry = Entry::default();
                let result = change(&mut entry);
                if !entry.is_vacant() {
                    place.insert(Box::new(entry));
                }
                result
            }
        }
    }

    /// Walks all entries, one shard locked at a time.
    pub(crate) fn each(&self, mut look: impl FnMut(&DeviceKey, &Entry)) {
        for held in &self.0 {
            look(held.key(), held.value());
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stays_small() {
        // Up to 192 the allocator gives the same.
        assert!(size_of::<Entry>() <= 176, "{}", size_of::<Entry>());
    }

    #[test]
    fn an_entry_lives_as_long_as_something_is_in_it() {
        let devices = Devices::new();
        let key = DeviceKey::new("D1").unwrap();
        devices.update(&key, |_| ());
        assert_eq!(devices.len(), 0);
        devices.update(&key, |entry| entry.known = true);
        assert_eq!(devices.len(), 1);
        devices.update(&key, |entry| entry.known = false);
        assert_eq!(devices.len(), 0);
    }
}
