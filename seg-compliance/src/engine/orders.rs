//! Orders of administrators to devices: given, told, carried out. See [`crate::order`].

use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::{Cut, Engine, Shared};
use crate::api;
use crate::journal::{Change, StoreError};
use crate::judge::Override;
use crate::order::{Order, OrderKind, OrderState};
use crate::record::REASON_MAX;
use crate::{DeviceKey, UserKey, Verdict};

impl Engine {
    /// Gives a device an order, in place of one that stands. It concerns `user`, or the user of the
    /// record where none is named. What is in flight is cut when the order is durable, so that the
    /// device comes for it.
    ///
    /// # Errors
    /// The store failed: nothing is ordered then.
    pub async fn order(
        &self,
        device: &DeviceKey,
        kind: OrderKind,
        user: Option<&UserKey>,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<api::Applied, StoreError> {
        let shared = &self.shared;
        let pending = shared.commit(|_| {
            let owner = shared.devices.read(device, |entry| {
                entry.and_then(|entry| entry.owner().cloned())
            });
            Some(Change::Ordered {
                device: device.clone(),
                order: Box::new(Order {
                    kind,
                    state: OrderState::Pending,
                    user: user.cloned().or(owner),
                    reason: reason.map(|reason| {
                        let end = reason.floor_char_boundary(REASON_MAX);
                        shared.interner.reason(reason.get(..end).unwrap_or(reason))
                    }),
                    ordered: now,
                    changed: now,
                }),
            })
        });
        let mut applied = self.applied_device(device, pending).await?;
        applied.cut += shared.cut_all(device);
        Ok(applied)
    }

    /// Takes an order back. `None`: none stands.
    ///
    /// # Errors
    /// The store failed: the order stands.
    pub async fn cancel_order(
        &self,
        device: &DeviceKey,
    ) -> Result<Option<api::Applied>, StoreError> {
        let shared = &self.shared;
        let mut there = false;
        let pending = shared.commit(|_| {
            there = shared
                .devices
                .read(device, |entry| entry.is_some_and(|e| e.order.is_some()));
            there.then(|| Change::OrderCleared {
                device: device.clone(),
            })
        });
        let applied = self.applied_device(device, pending).await?;
        Ok(there.then_some(applied))
    }

    /// The order that a request of `user` on `device` is to be told: durable, and not carried out.
    /// While nobody has ordered anything it costs one load.
    #[must_use]
    pub fn standing_order(&self, device: &DeviceKey, user: Option<&UserKey>) -> Option<Order> {
        if !self.shared.any_order.load(Ordering::Relaxed) {
            return None;
        }
        self.shared.devices.read(device, |entry| {
            let order = entry?.durable_order()?;
            order.concerns(user).then(|| order.clone())
        })
    }

    /// Notes how far a standing order is. A wipe that is done blocks the device with the reason
    /// `wiped`: what it had is gone, and what comes under its name has to be admitted anew.
    ///
    /// # Errors
    /// The store failed.
    pub async fn order_became(
        &self,
        device: &DeviceKey,
        kind: OrderKind,
        state: OrderState,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let shared = &self.shared;
        let pending = shared.commit_stored(|revision, store| {
            let held = shared.devices.read(device, |entry| {
                let order = entry?.order.as_deref()?;
                let stands = order.kind == kind && order.state.stands() && order.state != state;
                stands.then(|| order.clone())
            });
            let Some(order) = held else { return };
            store(crate::journal::Sequenced {
                revision,
                change: Change::Ordered {
                    device: device.clone(),
                    order: Box::new(Order {
                        state,
                        changed: now,
                        ..order
                    }),
                },
            });
            if state == OrderState::Done && kind.erases() {
                let revision = revision + 1;
                store(crate::journal::Sequenced {
                    revision,
                    change: Change::DeviceOverride {
                        device: device.clone(),
                        set: Box::new(Override {
                            verdict: Verdict::Block,
                            reason: Some(shared.interner.reason(WIPED)),
                            expires: None,
                            revision,
                        }),
                    },
                });
            }
        });
        pending.durable().await
    }
}

/// The reason of the block that follows a wipe.
const WIPED: &str = "wiped";

impl Shared {
    /// Cuts everything of a device that is in flight, whatever its verdict. Answers how many.
    fn cut_all(&self, device: &DeviceKey) -> u64 {
        let leases = self.devices.update(device, |entry| entry.leases.to_vec());
        let mut cuts = Vec::new();
        for lease in leases {
            let Some(asked) = self.lanes.asked(lease) else {
                continue;
            };
            if self.detach(&asked, lease) {
                let decision = self.decide(&asked.ask(), &self.moment());
                let token = lease.token;
                cuts.push((lease.core, Cut { token, decision }));
            }
        }
        let count = cuts.len() as u64;
        self.send(cuts);
        count
    }
}
