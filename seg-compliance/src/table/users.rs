//! Users: override, devices, and the leases of requests that carry no device.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::RandomState;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;
use smallvec::SmallVec;

use super::{LeaseRef, Mark, SHARDS};
use crate::UserKey;
use crate::judge::Override;

/// Devices of a user; most have no more than lie in place.
pub(crate) type Marks = SmallVec<[Mark; 3]>;

/// All that is held of one user.
#[derive(Default)]
pub(crate) struct UserEntry {
    /// The devices whose records name him.
    pub(crate) devices: Marks,
    /// What few users have.
    pub(crate) rest: Option<Box<UserRest>>,
    /// Raised by every change of one of his devices; a request that was judged by them registers
    /// only where it still stands.
    pub(crate) version: u32,
}

/// What few users have.
#[derive(Default)]
pub(crate) struct UserRest {
    pub(crate) set: Option<Override>,
    /// What was said before each change that is not durable yet, with that change, the oldest
    /// first.
    pub(crate) before: Vec<(Option<Override>, u64)>,
    pub(crate) leases: Vec<LeaseRef>,
}

impl UserEntry {
    pub(crate) fn says(&self) -> UserSays {
        match &self.rest {
            None => UserSays::default(),
            Some(rest) => UserSays {
                current: rest.set.clone(),
                before: rest
                    .before
                    .iter()
                    .map(|(before, _)| before.clone())
                    .collect(),
                next_rank: 0,
            },
        }
    }

    pub(crate) fn rest(&mut self) -> &mut UserRest {
        self.rest.get_or_insert_default()
    }

    fn speaks(&self) -> bool {
        self.rest
            .as_ref()
            .is_some_and(|rest| rest.set.is_some() || !rest.before.is_empty())
    }

    fn tidy(&mut self) {
        if self.rest.as_ref().is_some_and(|rest| {
            rest.set.is_none() && rest.before.is_empty() && rest.leases.is_empty()
        }) {
            self.rest = None;
        }
    }

    fn is_vacant(&self) -> bool {
        self.devices.is_empty() && self.rest.is_none()
    }
}

/// The override of a user: as it will be, and as it was under changes that are not durable yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct UserSays {
    pub(crate) current: Option<Override>,
    pub(crate) before: Vec<Option<Override>>,
    /// The place that another device of his would take; 0: nobody asks.
    pub(crate) next_rank: u16,
}

impl UserSays {
    /// Neither now nor before a change that is not durable.
    #[inline(always)]
    pub(crate) fn is_nothing(&self) -> bool {
        self.current.is_none() && self.before.is_empty()
    }
}

/// What is said of most users.
pub(crate) static NOTHING_SAID: UserSays = UserSays {
    current: None,
    before: Vec::new(),
    next_rank: 0,
};

/// What is said of a user; for most of them nothing, and then nothing is made of it.
#[derive(Default)]
pub(crate) struct Says(Option<Box<UserSays>>);

impl From<UserSays> for Says {
    fn from(says: UserSays) -> Self {
        Self(Some(Box::new(says)))
    }
}

impl Deref for Says {
    type Target = UserSays;

    fn deref(&self) -> &UserSays {
        self.0.as_deref().unwrap_or(&NOTHING_SAID)
    }
}

impl DerefMut for Says {
    fn deref_mut(&mut self) -> &mut UserSays {
        self.0.get_or_insert_default()
    }
}

/// The table of users.
pub(crate) struct Users {
    map: DashMap<UserKey, Box<UserEntry>, RandomState>,
    /// Users with an override: while there is none, no request looks for one.
    speaking: AtomicUsize,
}

impl Users {
    pub(crate) fn new() -> Self {
        Self {
            map: DashMap::with_hasher_and_shard_amount(RandomState::new(), SHARDS),
            speaking: AtomicUsize::new(0),
        }
    }

    /// Whether an override says anything of any user.
    #[inline]
    pub(crate) fn is_anyone_spoken_of(&self) -> bool {
        self.speaking.load(Ordering::SeqCst) != 0
    }

    /// What an override says of `user`.
    pub(crate) fn says(&self, user: Option<&UserKey>) -> Says {
        if !self.is_anyone_spoken_of() {
            return Says::default();
        }
        let held = user.and_then(|user| self.map.get(user));
        held.map_or_else(Says::default, |held| held.says().into())
    }

    pub(crate) fn read<R>(&self, key: &UserKey, read: impl FnOnce(Option<&UserEntry>) -> R) -> R {
        let held = self.map.get(key);
        read(held.as_ref().map(|held| &***held))
    }

    /// Changes the entry of `key` under its lock, as [`super::Devices::update`] does.
    pub(crate) fn update<R>(&self, key: &UserKey, change: impl FnOnce(&mut UserEntry) -> R) -> R {
        match self.map.entry(key.clone()) {
            Slot::Occupied(mut held) => {
                let result = self.counted(held.get_mut(), change);
                if held.get().is_vacant() {
                    held.remove();
                }
                result
            }
            Slot::Vacant(place) => {
                let mut entry = UserEntry::default();
                let result = self.counted(&mut entry, change);
                if !entry.is_vacant() {
                    place.insert(Box::new(entry));
                }
                result
            }
        }
    }

    /// The copy of a name that the table holds, where it does: a user of many devices has one.
    pub(crate) fn shared(&self, user: &UserKey) -> UserKey {
        let held = self.map.get(user);
        held.map_or_else(|| user.clone(), |held| held.key().clone())
    }

    /// Walks all users, one shard locked at a time.
    pub(crate) fn each(&self, mut look: impl FnMut(&UserKey)) {
        for held in &self.map {
            look(held.key());
        }
    }

    /// Notes that the record of `device` names `user`.
    pub(crate) fn link(&self, user: &UserKey, device: Mark) {
        self.update(user, |entry| {
            if !entry.devices.contains(&device) {
                entry.devices.push(device);
            }
        });
    }

    /// Notes that it no longer does.
    pub(crate) fn unlink(&self, user: &UserKey, device: Mark) {
        self.update(user, |entry| entry.devices.retain(|held| *held != device));
    }

    /// A device of `user` has changed: the leases of his requests without a device.
    pub(crate) fn touch(&self, user: &UserKey) -> Vec<LeaseRef> {
        self.map.get_mut(user).map_or_else(Vec::new, |mut held| {
            held.version = held.version.wrapping_add(1);
            held.rest
                .as_ref()
                .map_or_else(Vec::new, |rest| rest.leases.clone())
        })
    }

    /// Users with an override.
    pub(crate) fn speaking(&self) -> usize {
        self.speaking.load(Ordering::SeqCst)
    }

    fn counted<R>(&self, entry: &mut UserEntry, change: impl FnOnce(&mut UserEntry) -> R) -> R {
        let spoke = entry.speaks();
        let result = change(entry);
        match (spoke, entry.speaks()) {
            (false, true) => {
                self.speaking.fetch_add(1, Ordering::SeqCst);
            }
            (true, false) => {
                self.speaking.fetch_sub(1, Ordering::SeqCst);
            }
            _ => {}
        }
        entry.tidy();
        result
    }
}
