//! Admission: the verdict and the lease in one step.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::{Engine, Shared};
use crate::policy::Moment;
use crate::table::LeaseRef;
use crate::{Ask, Decision, DeviceKey, UserKey};

/// The answer to a request that wants to pass.
#[derive(Debug)]
pub enum Admission {
    /// It may. The lease is to be held until the request has ended. In observe mode the decision
    /// may be a block that is not enforced.
    Granted(Lease, Decision),
    /// It may not.
    Denied(Decision),
}

/// A request in flight: while it lives, a change that refuses it sends its token to the
/// [`super::Cutter`]. Dropping it is the end of the request.
pub struct Lease {
    shared: Arc<Shared>,
    device: Option<DeviceKey>,
    user: Option<UserKey>,
    held: LeaseRef,
}

impl Engine {
    /// Judges a request and registers it under one lock. `core` and `token` name it towards the
    /// [`super::Cutter`]; `deadline` is for [`Engine::sessions`]. No await; for a known device no
    /// allocation once the core has had as many requests in flight before.
    #[must_use]
    pub fn admit(
        &self,
        ask: &Ask<'_>,
        core: u16,
        token: u64,
        since: Timestamp,
        deadline: Option<Timestamp>,
    ) -> Admission {
        let shared = &self.shared;
        let mut epoch = shared.epoch.load(Ordering::SeqCst);
        // Into the lane first: who changes the rules looks there after raising the epoch.
        let held = shared.lanes.open(core, token, ask, since, deadline);
        let moment = Moment::new(&*shared.clock);
        let mut decision = match (ask.device, ask.user) {
            (Some(device), _) => shared.register_device(ask, device, held, &moment),
            (None, Some(user)) => shared.register_user(ask, user, held, &moment),
            (None, None) => shared.decide(ask, &moment),
        };
        let lease = Lease {
            shared: Arc::clone(shared),
            device: ask.device.cloned(),
            user: ask.user.cloned(),
            held,
        };
        loop {
            if decision.refuses() {
                // Dropping the lease takes it out of lane and entry.
                return Admission::Denied(decision);
            }
            let now = shared.epoch.load(Ordering::SeqCst);
            if now == epoch {
                if moment.until() != Moment::ALWAYS {
                    shared.lanes.stands(held, moment.until());
                }
                return Admission::Granted(lease, decision);
            }
            epoch = now;
            decision = shared.decide(ask, &moment);
        }
    }
}

impl Shared {
    fn register_device(
        &self,
        ask: &Ask<'_>,
        device: &DeviceKey,
        held: LeaseRef,
        moment: &Moment<'_>,
    ) -> Decision {
        let says = self.says(ask.user);
        self.devices.update_ruled(device, |rules, entry| {
            let decision = self.judge_entry(rules, ask, Some(entry), &says, moment);
            if !decision.refuses() {
                entry.leases.push(held);
            }
            decision
        })
    }

    /// The user's devices are judged one by one, outside his entry; a device that changed
    /// meanwhile has raised the version.
    fn register_user(
        &self,
        ask: &Ask<'_>,
        user: &UserKey,
        held: LeaseRef,
        moment: &Moment<'_>,
    ) -> Decision {
        loop {
            let rules = self.rules.load();
            let says = self.says(Some(user));
            let his = self.devices_of(user);
            let decision =
                self.judge_user(&rules, ask, &his.devices, &says, moment, &mut Vec::new());
            if decision.refuses() {
                return decision;
            }
            let registered = self.users.update(user, |entry| {
                let stands = entry.version == his.version && entry.devices == his.marks;
                if stands {
                    entry.rest().leases.push(held);
                }
                stands
            });
            if registered {
                return decision;
            }
        }
    }
}

impl Lease {
    /// Tells until when the request may last, where that is known only after its admission: for
    /// [`Engine::sessions`] alone.
    pub fn until(&self, deadline: Timestamp) {
        self.shared.lanes.until(self.held, deadline);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match (&self.device, &self.user) {
            (Some(device), _) => self.shared.devices.update(device, |entry| {
                entry.leases.retain(|held| *held != self.held);
            }),
            (None, Some(user)) => self.shared.users.update(user, |entry| {
                if let Some(rest) = &mut entry.rest {
                    rest.leases.retain(|held| *held != self.held);
                }
            }),
            (None, None) => {}
        }
        self.shared.lanes.close(self.held);
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("device", &self.device)
            .field("user", &self.user)
            .field("core", &self.held.core)
            .field("token", &self.held.token)
            .finish()
    }
}
