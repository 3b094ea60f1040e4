//! Plans: which verdicts would be others under other policies or other records, before anything is.

use std::collections::BTreeMap;

use super::change::plain_ask;
use super::{Engine, Shared};
use crate::api::{Plan, PlanChange};
use crate::judge::{Known, Rules, judge};
use crate::record::Facts;
use crate::{Decision, DeviceKey, Policies, UserKey};

/// A plan in the making.
pub(super) struct Planned {
    plan: Plan,
    verdicts: BTreeMap<(&'static str, &'static str), u64>,
    /// Changes that are told one by one.
    most: usize,
}

impl Planned {
    pub(super) fn new(most: usize) -> Self {
        Self {
            plan: Plan::default(),
            verdicts: BTreeMap::new(),
            most,
        }
    }

    pub(super) fn note(
        &mut self,
        device: &DeviceKey,
        user: Option<UserKey>,
        (was, will): (Decision, Decision),
    ) {
        self.plan.devices += 1;
        if was.verdict == will.verdict {
            return;
        }
        self.plan.changed += 1;
        *self
            .verdicts
            .entry((was.verdict.name(), will.verdict.name()))
            .or_default() += 1;
        if self.plan.changes.len() < self.most {
            self.plan.changes.push(PlanChange {
                device: device.clone(),
                user,
                was: (&was).into(),
                will: (&will).into(),
            });
        }
    }

    pub(super) fn done(mut self) -> Plan {
        self.plan
            .changes
            .sort_by(|one, other| one.device.cmp(&other.device));
        self.plan.verdicts = self
            .verdicts
            .into_iter()
            .map(|((was, will), count)| (format!("{was} to {will}"), count))
            .collect();
        self.plan
    }
}

impl Engine {
    /// Which known devices would have another verdict under `policies`, at most `most` of them one
    /// by one. Each is judged as its last request came, without what only a request tells. Blocks
    /// while it walks all devices.
    #[must_use]
    pub fn plan_policies(&self, policies: Policies, most: usize) -> Plan {
        let shared = &self.shared;
        if policies.look_at_ranks() {
            shared.rank_devices();
        }
        let unforeseen = policies.unforeseen();
        let now = shared.rules.load();
        let then = Rules {
            policies,
            tried: true,
            ..(**now).clone()
        };
        let mut keys = Vec::with_capacity(shared.devices.len());
        shared.devices.each(|key, entry| {
            if entry.known {
                keys.push(key.clone());
            }
        });
        let mut planned = Planned::new(most);
        for key in &keys {
            let (owner, agent) = shared.owner_and_agent(key);
            let agent = agent.as_ref().map_or("", |agent| agent.as_str());
            let ask = plain_ask(Some(key), owner.as_ref(), agent);
            let (says, moment) = (shared.says(owner.as_ref()), shared.moment());
            let was = shared.decide_under(&now, &ask, &says, &moment);
            let will = shared.decide_under(&then, &ask, &says, &moment);
            planned.note(key, owner, (was, will));
        }
        Plan {
            unforeseen,
            ..planned.done()
        }
    }

    /// The policies in force.
    #[must_use]
    pub fn policies(&self) -> Policies {
        self.shared.rules.load().policies.clone()
    }
}

impl Shared {
    /// The verdict of a device as it is, and as it would be with these facts (`None`: without a
    /// record), each for the owner of the record.
    pub(super) fn foresee(
        &self,
        device: &DeviceKey,
        facts: Option<&Facts>,
    ) -> (Decision, Decision) {
        let was = self.standing(device);
        let (owner, agent) = self.owner_and_agent(device);
        let user = facts.map_or(owner.as_ref(), |facts| facts.user.as_ref());
        let agent = agent.as_ref().map_or("", |agent| agent.as_str());
        let ask = plain_ask(Some(device), user, agent);
        let (rules, says, moment) = (self.rules.load(), self.says(user), self.moment());
        let will = self.devices.read(device, |entry| {
            let known = Known {
                facts,
                device: entry.and_then(|entry| entry.set.as_deref()),
                user: says.current.as_ref(),
                rank: entry.map_or(says.next_rank, |entry| entry.rank),
                next_rank: says.next_rank,
                ..Known::NOTHING
            };
            judge(&rules, &ask, known, &moment)
        });
        (was, will)
    }

    pub(super) fn owner(&self, device: &DeviceKey) -> Option<UserKey> {
        self.owner_and_agent(device).0
    }
}
