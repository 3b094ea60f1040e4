//! What becomes of changes: durable, or not.

use std::sync::atomic::Ordering;

use super::change::{Reach, plain_ask};
use super::{Engine, Shared};
use crate::api;
use crate::intern::Interner;
use crate::journal::{Load, Sequenced, Sink};
use crate::judge::{Known, judge};
use crate::table::{Before, UserSays};
use crate::{Decision, DeviceKey, UserKey, Verdict};

impl Engine {
    /// Whether the journal's last flush succeeded.
    #[must_use]
    pub fn store_ok(&self) -> bool {
        let hold = self.hold.lock();
        hold.as_ref().is_some_and(|hold| hold.writer.is_healthy())
    }
}

impl Sink for Shared {
    fn durable(&self, changes: &[Sequenced]) {
        self.settle(changes);
    }

    fn failed(&self, changes: &[Sequenced]) {
        for sequenced in changes.iter().rev() {
            match (sequenced.change.device(), sequenced.change.user()) {
                (Some(device), _) => self.fail_device(device, sequenced.revision),
                (None, Some(user)) => self.fail_user(user, sequenced.revision),
                (None, None) => {}
            }
        }
    }

    fn compacted(&self, floor: u64) {
        self.feed.compacted(floor);
    }

    fn interner(&self) -> &Interner {
        &self.interner
    }
}

impl Load for Shared {
    fn interner(&self) -> &Interner {
        &self.interner
    }

    fn load(&self, change: &Sequenced) {
        self.store(change, false, &mut Reach::default());
    }
}

impl Shared {
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
            (entry.settle(revision), entry.owner().cloned())
        });
        let before = before?;
        if let Some(old) = before.owner().filter(|old| Some(*old) != owner.as_ref()) {
            self.users.unlink(old, self.devices.mark(device));
            let _turn = self
                .ranked
                .load(Ordering::SeqCst)
                .then(|| self.sequencer.lock());
            self.rank(old);
        }
        if !self.feed.has_readers() {
            return None;
        }
        let user = owner.as_ref().or_else(|| before.owner());
        let was = self.judge_before(device, user, &before);
        let now = self.decide(&plain_ask(Some(device), user, ""), &self.moment());
        (was != now.verdict).then(|| (user.cloned(), was, now))
    }

    fn settle_user(
        &self,
        user: &UserKey,
        revision: u64,
    ) -> Option<(Option<UserKey>, Verdict, Decision)> {
        let before = self.users.update(user, |entry| {
            let rest = entry.rest.as_mut()?;
            let settled = rest.before.partition_point(|(_, until)| *until <= revision);
            rest.before.drain(..settled).next_back()
        });
        let (before, _) = before.filter(|_| self.feed.has_readers())?;
        let ask = plain_ask(None, Some(user), "");
        let was = self
            .decide_as(
                &ask,
                &UserSays {
                    current: before,
                    ..UserSays::default()
                },
                &self.moment(),
            )
            .verdict;
        let now = self.decide(&ask, &self.moment());
        (was != now.verdict).then(|| (Some(user.clone()), was, now))
    }

    /// What held for `user` on a device before the changes that are durable now.
    fn judge_before(&self, device: &DeviceKey, user: Option<&UserKey>, before: &Before) -> Verdict {
        let says = self.says(user);
        let known = before.known(says.current.as_ref());
        let ask = plain_ask(Some(device), user, "");
        judge(&self.rules.load(), &ask, known, &self.moment()).verdict
    }

    /// The store failed. What is stricter stays in force, marked so that the next change writes it
    /// again; what is milder never was in force, and goes.
    fn fail_device(&self, device: &DeviceKey, revision: u64) {
        let rules = self.rules.load();
        let moved = self.devices.update(device, |entry| {
            let mut before = entry.revert(revision)?;
            let verdict = |known: Known<'_>| {
                let owner = known.facts.and_then(|facts| facts.user.as_ref());
                let ask = plain_ask(Some(device), owner, "");
                judge(&rules, &ask, known, &self.moment()).verdict
            };
            let owners = (before.owner().cloned(), entry.owner().cloned());
            // Nothing was ordered that is not durable.
            entry.order = before.order.take();
            if verdict(entry.current(None)) > verdict(before.known(None)) {
                entry.revision = 0;
                return Some((owners.0, owners.1));
            }
            entry.facts = before.facts;
            entry.known = before.known;
            entry.set = before.set;
            entry.revision = before.revision;
            entry.memory.forget();
            Some((owners.1, owners.0))
        });
        // The first of the two no longer owns the device, whichever way it went.
        if let Some((gone, stays)) = moved.filter(|(gone, stays)| gone != stays) {
            if let Some(gone) = &gone {
                self.users.unlink(gone, self.devices.mark(device));
            }
            if let Some(stays) = &stays {
                self.users.link(stays, self.devices.mark(device));
            }
        }
    }

    fn fail_user(&self, user: &UserKey, revision: u64) {
        self.users.update(user, |entry| {
            let Some(rest) = &mut entry.rest else { return };
            let Some((before, _)) = rest.before.pop_if(|(_, until)| *until == revision) else {
                return;
            };
            // Without an override the user is judged by his devices, which can be either.
            let strictness = |set: &Option<crate::judge::Override>| {
                set.as_ref().map_or(Verdict::Allow, |set| set.verdict)
            };
            if strictness(&rest.set) <= strictness(&before) {
                rest.set = before;
            }
        });
    }
}
