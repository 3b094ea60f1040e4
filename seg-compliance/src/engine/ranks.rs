//! The places of a user's devices: the oldest record is the first. Kept only once a policy looks at
//! them, because they are a second look into every device that changes hands.

use std::sync::atomic::Ordering;

use super::Shared;
use crate::UserKey;
use crate::table::LeaseRef;

impl Shared {
    /// Gives every device its place, and keeps places from now on.
    pub(super) fn rank_devices(&self) {
        if self.ranked.swap(true, Ordering::SeqCst) {
            return;
        }
        let mut users = Vec::new();
        self.users.each(|user| users.push(user.clone()));
        for user in &users {
            let _turn = self.sequencer.lock();
            self.rank(user);
        }
    }

    /// The devices of `user` have changed: gives them their places anew. Answers the leases of
    /// those that have another one now. Called in the order of changes.
    pub(super) fn rank(&self, user: &UserKey) -> Vec<LeaseRef> {
        if !self.ranked.load(Ordering::SeqCst) {
            return Vec::new();
        }
        let mut devices: Vec<_> = self
            .devices_of(user)
            .devices
            .into_iter()
            .map(|device| {
                let since = self.devices.read(&device, |entry| {
                    entry.map_or(u32::MAX, |entry| entry.facts.since)
                });
                (since, device)
            })
            .collect();
        devices.sort_unstable();
        let mut moved = Vec::new();
        for (rank, (_, device)) in (1..=u16::MAX).zip(&devices) {
            self.devices.update(device, |entry| {
                if entry.rank != rank {
                    entry.rank = rank;
                    entry.memory.forget();
                    moved.extend(entry.leases.iter().copied());
                }
            });
        }
        moved
    }
}
