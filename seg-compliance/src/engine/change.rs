//! Changes: stored, in force as far as they are strict, queued, durable, in force.

use std::sync::mpsc;

use tokio::sync::{oneshot, watch};

use super::expiry::Whose;
use super::{Engine, Shared};
use crate::api;
use crate::intern::Symbol;
use crate::journal::{Change, Commit, Sequenced, StoreError, Work};
use crate::judge::Override;
use crate::record::{Facts, Patch, REASON_MAX, Said};
use crate::table::{Entry, LeaseRef};
use crate::{Ask, Decision, DeviceKey, Protocol, UserKey, Via};

/// The order of changes.
#[derive(Default)]
pub(super) struct Sequencer {
    /// The last revision given out.
    pub(super) revision: u64,
    /// Where changes are queued; `None`: the engine is not open yet.
    pub(super) works: Option<mpsc::Sender<Work>>,
}

/// What changes reach beyond their own entry.
#[derive(Default)]
pub(super) struct Reach {
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
    obeyed: watch::Receiver<u64>,
}

impl Pending {
    /// Waits until the changes are durable, and in force at the process before too, as long as there
    /// is one.
    pub(super) async fn durable(mut self) -> Result<(), StoreError> {
        self.durable.await.unwrap_or(Err(StoreError::Closed))?;
        let obeyed = self.obeyed.wait_for(|known| *known >= self.revision);
        obeyed.await.map_err(|_| StoreError::Closed)?;
        Ok(())
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
            let said = Said::new(patch, &shared.interner);
            shared
                .merge(device, &said, None)
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
                entry.is_some_and(|e| e.known || e.set.is_some() || e.order.is_some())
            });
            held.then(|| Change::Forgotten {
                device: device.clone(),
            })
        });
        let applied = self.applied_device(device, pending).await?;
        Ok((held || seen).then_some(applied))
    }

    pub(super) async fn applied_device(
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
        let ask = plain_ask(None, Some(user), "");
        let decision = api::Decision::from(&self.shared.decide(&ask, &self.shared.moment()));
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
        via: Via::default(),
    }
}

impl Shared {
    /// What holds for a device and the user of its record, with the agent it last came with.
    pub(super) fn standing(&self, device: &DeviceKey) -> Decision {
        let (owner, agent) = self.owner_and_agent(device);
        let agent = agent.as_ref().map_or("", |agent| agent.as_str());
        self.decide(
            &plain_ask(Some(device), owner.as_ref(), agent),
            &self.moment(),
        )
    }

    /// The user of a device's record, and the agent that the device last came with.
    pub(super) fn owner_and_agent(&self, device: &DeviceKey) -> (Option<UserKey>, Option<Symbol>) {
        self.devices.read(device, |entry| {
            let owner = entry.and_then(|entry| entry.owner().cloned());
            let last = entry.and_then(|entry| entry.last.as_ref());
            (owner, last.map(|last| last.agent.clone()))
        })
    }

    /// One change, made under the sequencer's lock from what is known there.
    pub(super) fn commit(&self, change: impl FnOnce(u64) -> Option<Change>) -> Pending {
        self.commit_stored(|revision, store| {
            if let Some(change) = change(revision) {
                store(Sequenced { revision, change });
            }
        })
    }

    /// A batch of changes, at most [`crate::journal::BATCH_MAX`]. `make` is given the first revision
    /// and hands over one change after the other, each with the next revision and each stored at
    /// once, so that the next is made from what it left.
    pub(super) fn commit_stored(
        &self,
        make: impl FnOnce(u64, &mut dyn FnMut(Sequenced)),
    ) -> Pending {
        let mut changes = Vec::new();
        let mut reach = Reach::default();
        let (done, durable) = oneshot::channel();
        let revision = {
            let mut sequencer = self.sequencer.lock();
            make(sequencer.revision + 1, &mut |change| {
                self.store(&change, true, &mut reach);
                changes.push(change);
            });
            if let Some(last) = changes.last() {
                sequencer.revision = last.revision;
            }
            // Without changes it is a question: is everything before it durable? A queue that is
            // gone drops `done`, and the caller hears of it.
            if let Some(works) = &sequencer.works {
                let _ = works.send(Work::Commit(Commit { changes, done }));
            }
            sequencer.revision
        };
        let cut = self.reach(reach);
        Pending {
            revision,
            cut,
            durable,
            obeyed: self.obeyed.subscribe(),
        }
    }

    /// Judges again whoever the changes can have reached. Answers how many were cut.
    pub(super) fn reach(&self, reach: Reach) -> u64 {
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
    pub(super) fn store(&self, sequenced: &Sequenced, pending: bool, reach: &mut Reach) {
        let revision = sequenced.revision;
        match &sequenced.change {
            Change::Record { device, facts } => {
                let mut facts = (**facts).clone();
                facts.user = facts.user.map(|user| self.users.shared(&user));
                self.store_device(device, revision, pending, reach, |entry| {
                    entry.facts = facts;
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
            Change::Ordered { device, order } => {
                self.any_order
                    .store(true, std::sync::atomic::Ordering::Relaxed);
                self.store_device(device, revision, pending, reach, |entry| {
                    entry.order = Some(order.clone());
                });
            }
            Change::OrderCleared { device } => {
                self.store_device(device, revision, pending, reach, |entry| entry.order = None);
            }
            Change::Forgotten { device } => {
                self.store_device(device, revision, pending, reach, |entry| {
                    entry.facts = Facts::default();
                    entry.known = false;
                    entry.set = None;
                    entry.order = None;
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
            entry.memory.forget();
            reach.leases.extend(entry.leases.iter().copied());
            (old, entry.owner().cloned())
        });
        if old != new {
            if let Some(new) = &new {
                self.users.link(new, self.devices.mark(device));
            }
            // The old owner is judged by this device until it is durable that it is not his.
            if let (Some(old), false) = (&old, pending) {
                self.users.unlink(old, self.devices.mark(device));
            }
            for owner in old.iter().chain(&new) {
                reach.leases.extend(self.rank(owner));
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
                rest.before.push((rest.set.clone(), revision));
            }
            rest.set = set;
        });
        self.epoch.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        reach.users.push(user.clone());
    }

    /// The facts of `device` after `said`; `None`: as they were. A source takes the record over; a
    /// change by hand (no source) leaves it with the source it came from.
    pub(super) fn merge(
        &self,
        device: &DeviceKey,
        said: &Said,
        source: Option<&Symbol>,
    ) -> Option<Facts> {
        self.devices.read(device, |entry| {
            let known = entry.filter(|entry| entry.known);
            let nothing = Facts::default();
            let held = known.map_or(&nothing, |entry| &entry.facts);
            let mut facts = held.merged(said);
            match (source, known) {
                (Some(source), _) => facts.source = Some(source.clone()),
                (None, None) => facts.source = Some(self.interner.symbol("admin")),
                (None, Some(_)) => {}
            }
            if known.is_none() {
                let now = self.clock.now().as_second();
                facts.since = u32::try_from(now).unwrap_or_default();
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
