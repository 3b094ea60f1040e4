//! Changes: stored, in force as far as they are strict, queued, durable, in force.

use tokio::sync::oneshot;

use super::expiry::Whose;
use super::{Engine, Shared};
use crate::api;
use crate::journal::{Change, Sequenced, StoreError};
use crate::judge::{Override, Silent};
use crate::record::{Facts, Patch, REASON_MAX};
use crate::table::{Before, Entry, LeaseRef, UserSays};
use crate::{Ask, Decision, DeviceKey, Protocol, UserKey, Verdict};

/// The order of changes.
#[derive(Default)]
pub(super) struct Sequencer {
    /// The last revision given out.
    pub(super) revision: u64,
}

/// What changes reach beyond their own entry.
#[derive(Default)]
struct Reach {
    /// Leases in the changed entries.
    leases: Vec<LeaseRef>,
    /// Owners of changed devices: their requests without a device are judged by these.
    owners: Vec<UserKey>,
    /// Users whose override changed.
    users: Vec<UserKey>,
}

/// Changes that wait to be durable.
pub(super) struct Pending {
    /// The last of them, or the newest where there was none.
    pub(super) revision: u64,
    pub(super) cut: u64,
    durable: oneshot::Receiver<Result<(), StoreError>>,
}

impl Pending {
    pub(super) async fn durable(self) -> Result<(), StoreError> {
        self.durable
            .await
            .unwrap_or_else(|_| Err(StoreError("the writer has ended".to_owned())))
    }
}

impl Engine {
    /// Sets the override of a device. A stricter verdict is in force when the future is first
    /// polled, a milder one when the change is durable.
    ///
    /// # Errors
    /// The store failed: what makes the verdict stricter is in force all the same, until a restart.
    pub async fn override_device(
        &self,
        device: &DeviceKey,
        set: api::Override,
    ) -> Result<api::Applied, StoreError> {
        let shared = &self.shared;
        let pending = shared.commit(|revision| {
            let set = Box::new(shared.made(&set, revision));
            Some(Change::DeviceOverride {
                device: device.clone(),
                set,
            })
        });
        self.applied_device(device, pending).await
    }

    /// Deletes the override of a device. Where there is none, nothing changes.
    ///
    /// # Errors
    /// As [`Engine::override_device`].
    pub async fn clear_device_override(
        &self,
        device: &DeviceKey,
    ) -> Result<api::Applied, StoreError> {
        let shared = &self.shared;
        let pending = shared.commit(|_| {
            let there = shared
                .devices
                .read(device, |entry| entry.is_some_and(|e| e.set.is_some()));
            there.then(|| Change::DeviceOverrideCleared {
                device: device.clone(),
            })
        });
        self.applied_device(device, pending).await
    }

    /// Sets the override of a user: of all his devices, and of his requests without one.
    ///
    /// # Errors
    /// As [`Engine::override_device`].
    pub async fn override_user(
        &self,
        user: &UserKey,
        set: api::Override,
    ) -> Result<api::Applied, StoreError> {
        let shared = &self.shared;
        let pending = shared.commit(|revision| {
            let set = Box::new(shared.made(&set, revision));
            Some(Change::UserOverride {
                user: user.clone(),
                set,
            })
        });
        self.applied_user(user, pending).await
    }

    /// Deletes the override of a user. Where there is none, nothing changes.
    ///
    /// # Errors
    /// As [`Engine::override_device`].
    pub async fn clear_user_override(&self, user: &UserKey) -> Result<api::Applied, StoreError> {
        let shared = &self.shared;
        let pending = shared.commit(|_| {
            let there = shared.users.read(user, |entry| {
                entry.is_some_and(|entry| entry.says().current.is_some())
            });
            there.then(|| Change::UserOverrideCleared { user: user.clone() })
        });
        self.applied_user(user, pending).await
    }

    /// Merges `patch` into the record of a device; makes the record where there is none.
    ///
    /// # Errors
    /// As [`Engine::override_device`].
    pub async fn put_record(
        &self,
        device: &DeviceKey,
        patch: &Patch,
    ) -> Result<api::Applied, StoreError> {
        let shared = &self.shared;
        let pending = shared.commit(|_| {
            shared
                .merge(device, patch, None)
                .map(|facts| Change::Record {
                    device: device.clone(),
                    facts: Box::new(facts),
                })
        });
        self.applied_device(device, pending).await
    }

    /// Forgets a device: its record, its override, and that it was seen. `None`: there was nothing
    /// to forget.
    ///
    /// # Errors
    /// As [`Engine::override_device`].
    pub async fn forget(&self, device: &DeviceKey) -> Result<Option<api::Applied>, StoreError> {
        let shared = &self.shared;
        let seen = shared.seen.forget(device);
        let mut held = false;
        let pending = shared.commit(|_| {
            held = shared.devices.read(device, |entry| {
                entry.is_some_and(|e| e.known || e.set.is_some())
            });
            held.then(|| Change::Forgotten {
                device: device.clone(),
            })
        });
        let applied = self.applied_device(device, pending).await?;
        Ok((held || seen).then_some(applied))
    }

    async fn applied_device(
        &self,
        device: &DeviceKey,
        pending: Pending,
    ) -> Result<api::Applied, StoreError> {
        let (revision, cut) = (pending.revision, pending.cut);
        pending.durable().await?;
        let decision = api::Decision::from(&self.shared.standing(device));
        Ok(api::Applied {
            revision,
            cut,
            decision,
        })
    }

    async fn applied_user(
        &self,
        user: &UserKey,
        pending: Pending,
    ) -> Result<api::Applied, StoreError> {
        let (revision, cut) = (pending.revision, pending.cut);
        pending.durable().await?;
        let decision = api::Decision::from(&self.shared.decide(&plain_ask(None, Some(user), "")));
        Ok(api::Applied {
            revision,
            cut,
            decision,
        })
    }
}

/// The question that stands without a request: EAS, nothing more.
pub(super) fn plain_ask<'a>(
    device: Option<&'a DeviceKey>,
    user: Option<&'a UserKey>,
    agent: &'a str,
) -> Ask<'a> {
    Ask {
        device,
        user,
        agent,
        device_type: "",
        protocol: Protocol::Eas,
        command: "",
    }
}

impl Shared {
    /// What holds for a device and the user of its record, with the agent it last came with.
    pub(super) fn standing(&self, device: &DeviceKey) -> Decision {
        let (owner, agent) = self.devices.read(device, |entry| {
            let owner = entry.and_then(|entry| entry.owner().cloned());
            let last = entry.and_then(|entry| entry.last.as_ref());
            (owner, last.map(|last| last.agent.clone()))
        });
        let agent = agent.as_ref().map_or("", |agent| agent.as_str());
        self.decide(&plain_ask(Some(device), owner.as_ref(), agent))
    }

    /// One change, made under the sequencer's lock from what is known there.
    fn commit(&self, change: impl FnOnce(u64) -> Option<Change>) -> Pending {
        let mut change = Some(change);
        self.commit_all(|revision, changes| {
            let made = change.take().and_then(|change| change(revision));
            changes.extend(made.map(|change| Sequenced { revision, change }));
        })
    }

    /// A batch of changes: `make` is given the first revision and stores nothing; each change it
    /// makes must take the next revision.
    fn commit_all(&self, make: impl FnOnce(u64, &mut Vec<Sequenced>)) -> Pending {
        let mut changes = Vec::new();
        let mut reach = Reach::default();
        let (done, durable) = oneshot::channel();
        let revision = {
            let mut sequencer = self.sequencer.lock();
            make(sequencer.revision + 1, &mut changes);
            for change in &changes {
                self.store(change, true, &mut reach);
                sequencer.revision = change.revision;
            }
            sequencer.revision
        };
        let cut = self.reach(reach);
        self.settle(&changes);
        let _ = done.send(Ok(()));
        Pending {
            revision,
            cut,
            durable,
        }
    }

    /// Judges again whoever the changes can have reached. Answers how many were cut.
    fn reach(&self, reach: Reach) -> u64 {
        let Reach {
            mut leases,
            owners,
            users,
        } = reach;
        for owner in &owners {
            leases.extend(self.users.touch(owner));
        }
        if !users.is_empty() {
            leases.extend(
                self.lanes
                    .pick(|asked| asked.user.as_ref().is_some_and(|user| users.contains(user))),
            );
        }
        self.judge_again(leases)
    }

    /// Stores a change in memory. `pending`: it is not durable yet, and what was before is kept
    /// beside it; else it comes from the journal.
    fn store(&self, sequenced: &Sequenced, pending: bool, reach: &mut Reach) {
        let revision = sequenced.revision;
        match &sequenced.change {
            Change::Record { device, facts } => {
                self.store_device(device, revision, pending, reach, |entry| {
                    entry.facts = (**facts).clone();
                    entry.known = true;
                });
                self.seen.forget(device);
            }
            Change::RecordRemoved { device } => {
                self.store_device(device, revision, pending, reach, |entry| {
                    entry.facts = Facts::default();
                    entry.known = false;
                });
            }
            Change::DeviceOverride { device, set } => {
                self.store_device(device, revision, pending, reach, |entry| {
                    entry.set = Some(set.clone());
                });
                self.expect_end(set.expires, Whose::Device(device.clone()));
            }
            Change::DeviceOverrideCleared { device } => {
                self.store_device(device, revision, pending, reach, |entry| entry.set = None);
            }
            Change::Forgotten { device } => {
                self.store_device(device, revision, pending, reach, |entry| {
                    entry.facts = Facts::default();
                    entry.known = false;
                    entry.set = None;
                });
            }
            Change::UserOverride { user, set } => {
                self.store_user(user, revision, pending, reach, Some((**set).clone()));
                self.expect_end(set.expires, Whose::User(user.clone()));
            }
            Change::UserOverrideCleared { user } => {
                self.store_user(user, revision, pending, reach, None);
            }
        }
    }

    fn store_device(
        &self,
        device: &DeviceKey,
        revision: u64,
        pending: bool,
        reach: &mut Reach,
        change: impl FnOnce(&mut Entry),
    ) {
        let (old, new) = self.devices.update(device, |entry| {
            let old = entry.owner().cloned();
            if pending {
                entry.hold_before(revision);
            }
            change(entry);
            entry.revision = revision;
            reach.leases.extend(entry.leases.iter().copied());
            (old, entry.owner().cloned())
        });
        if old != new {
            if let Some(new) = &new {
                self.users.link(new, device);
            }
            // The old owner is judged by this device until it is durable that it is not his.
            if let (Some(old), false) = (&old, pending) {
                self.users.unlink(old, device);
            }
            reach.owners.extend(old);
        }
        reach.owners.extend(new);
    }

    fn store_user(
        &self,
        user: &UserKey,
        revision: u64,
        pending: bool,
        reach: &mut Reach,
        set: Option<Override>,
    ) {
        self.users.update(user, |entry| {
            let rest = entry.rest();
            if pending {
                match &mut rest.before {
                    Some((_, until)) => *until = revision,
                    None => rest.before = Some((rest.set.clone(), revision)),
                }
            }
            rest.set = set;
        });
        self.epoch.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        reach.users.push(user.clone());
    }

    /// The changes are durable: they alone hold now.
    fn settle(&self, changes: &[Sequenced]) {
        for sequenced in changes {
            self.feed.durable(sequenced.revision);
            let became = match (sequenced.change.device(), sequenced.change.user()) {
                (Some(device), _) => self.settle_device(device, sequenced.revision),
                (None, Some(user)) => self.settle_user(user, sequenced.revision),
                (None, None) => None,
            };
            self.feed.publish(|_| sequenced.event());
            if let Some((user, was, now)) = became {
                self.feed.publish(|_| api::Event::Decision {
                    revision: sequenced.revision,
                    device: sequenced.change.device().cloned(),
                    user,
                    was,
                    decision: api::Decision::from(&now),
                });
            }
        }
    }

    fn settle_device(
        &self,
        device: &DeviceKey,
        revision: u64,
    ) -> Option<(Option<UserKey>, Verdict, Decision)> {
        let (before, owner) = self.devices.update(device, |entry| {
            let before = entry.before.take_if(|before| before.until == revision);
            (before, entry.owner().cloned())
        });
        let before = *before?;
        if let Some(old) = before.owner().filter(|old| Some(*old) != owner.as_ref()) {
            self.users.unlink(old, device);
        }
        if !self.feed.has_readers() {
            return None;
        }
        let user = owner.as_ref().or_else(|| before.owner());
        let was = self.judge_before(device, user, &before);
        let now = self.decide(&plain_ask(Some(device), user, ""));
        (was != now.verdict).then(|| (user.cloned(), was, now))
    }

    fn settle_user(
        &self,
        user: &UserKey,
        revision: u64,
    ) -> Option<(Option<UserKey>, Verdict, Decision)> {
        let before = self.users.update(user, |entry| {
            let rest = entry.rest.as_mut()?;
            rest.before.take_if(|(_, until)| *until == revision)
        });
        let (before, _) = before.filter(|_| self.feed.has_readers())?;
        let ask = plain_ask(None, Some(user), "");
        let was = self
            .decide_as(
                &ask,
                &UserSays {
                    current: before,
                    before: None,
                },
            )
            .verdict;
        let now = self.decide(&ask);
        (was != now.verdict).then(|| (Some(user.clone()), was, now))
    }

    /// What held for `user` on a device before the changes that are durable now.
    fn judge_before(&self, device: &DeviceKey, user: Option<&UserKey>, before: &Before) -> Verdict {
        let says = self.users.says(user);
        let known = before.known(says.current.as_ref());
        let ask = plain_ask(Some(device), user, "");
        self.judge_known(&self.rules.load(), &ask, known, &mut Silent)
            .verdict
    }

    /// The facts of `device` after `patch`; `None`: as they were. A source takes the record over; a
    /// change by hand (no source) leaves it with the source it came from.
    fn merge(&self, device: &DeviceKey, patch: &Patch, source: Option<&str>) -> Option<Facts> {
        self.devices.read(device, |entry| {
            let known = entry.filter(|entry| entry.known);
            let nothing = Facts::default();
            let held = known.map_or(&nothing, |entry| &entry.facts);
            let mut facts = held.merged(patch, &self.interner);
            match (source, known) {
                (Some(source), _) => facts.source = Some(self.interner.symbol(source)),
                (None, None) => facts.source = Some(self.interner.symbol("admin")),
                (None, Some(_)) => {}
            }
            // Revision 0: the store failed at its last change.
            let stands = known.is_some_and(|entry| entry.revision != 0 && entry.facts == facts);
            (!stands).then_some(facts)
        })
    }

    fn made(&self, set: &api::Override, revision: u64) -> Override {
        let reason = set.reason.as_deref().map(|reason| {
            let mut end = reason.len().min(REASON_MAX);
            while !reason.is_char_boundary(end) {
                end -= 1;
            }
            self.interner.reason(reason.get(..end).unwrap_or_default())
        });
        Override {
            verdict: set.verdict,
            reason,
            expires: set.expires,
            revision,
        }
    }
}
