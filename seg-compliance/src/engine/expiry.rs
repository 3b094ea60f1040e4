//! Overrides that end by themselves. A verdict looks at the clock each time; what is in flight must
//! be looked at when the time comes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::{Engine, Shared};
use crate::{DeviceKey, UserKey};

/// Whose override ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    Device(DeviceKey),
    User(UserKey),
}

/// Ends to come, the nearest first. An override that was replaced leaves its old end here, which
/// then finds nothing to do.
pub(super) type Expiries = BinaryHeap<Reverse<(Timestamp, Whose)>>;

impl Engine {
    /// When the next override ends: the time to call [`Engine::tick`]. It can become earlier with
    /// every override that is set.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.shared
            .expiries
            .lock()
            .peek()
            .map(|Reverse((at, _))| *at)
    }

    /// Looks at the overrides that have ended by `now`: deletes them; judges again every request in
    /// flight whose verdict stood only until now, because an override, a window or the patience
    /// with a silent device or source has ended. That a source has been silent for too long is noticed
    /// here alone. Answers how many were cut.
    pub fn tick(&self, now: Timestamp) -> u64 {
        let mut ended = Vec::new();
        {
            let mut expiries = self.shared.expiries.lock();
            while expiries.peek().is_some_and(|Reverse((at, _))| *at <= now) {
                ended.extend(expiries.pop().map(|Reverse((_, whose))| whose));
            }
        }
        let ended: u64 = ended
            .iter()
            .map(|whose| self.shared.end_override(whose, now))
            .sum();
        let due = if self.shared.refresh_ages(now) {
            self.shared.lanes.pick(|_| true)
        } else {
            self.shared.lanes.due(now.as_millisecond())
        };
        ended + self.shared.judge_again(due)
    }
}

impl Shared {
    pub(super) fn expect_end(&self, at: Option<Timestamp>, whose: Whose) {
        if let Some(at) = at {
            self.expiries.lock().push(Reverse((at, whose)));
        }
    }

    /// An ended override says nothing any more, so that deleting it changes no verdict; the journal
    /// keeps it until it is compacted, and it is as dead there.
    fn end_override(&self, whose: &Whose, now: Timestamp) -> u64 {
        match whose {
            Whose::Device(device) => {
                let (leases, owner) = self.devices.update(device, |entry| {
                    entry.set.take_if(|set| set.ends_by(now));
                    (entry.leases.to_vec(), entry.owner().cloned())
                });
                let mut leases = leases;
                leases.extend(
                    owner
                        .map(|owner| self.users.touch(&owner))
                        .unwrap_or_default(),
                );
                self.judge_again(leases)
            }
            Whose::User(user) => {
                self.users.update(user, |entry| {
                    if let Some(rest) = &mut entry.rest {
                        rest.set.take_if(|set| set.ends_by(now));
                    }
                });
                self.epoch.fetch_add(1, Ordering::SeqCst);
                self.judge_again(self.lanes.pick(|asked| asked.user.as_ref() == Some(user)))
            }
        }
    }
}
