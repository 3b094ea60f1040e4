//! Questions: a device, a page of devices, all records, what is in flight, what was seen.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Engine, Shared};
use crate::api;
use crate::intern::Symbol;
use crate::judge::Override;
use crate::record::{Facts, Record};
use crate::table::{LastSeen, SeenDevice};
use crate::{Ask, DeviceKey, UserKey, Verdict};

/// Most devices of one page.
pub const PAGE_MAX: usize = 1_000;

/// Which devices a page shows. Everything given must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this user.
    pub user: Option<UserKey>,
    /// For whom this verdict holds now.
    pub verdict: Option<Verdict>,
    /// With a record (`true`), or without one (`false`).
    pub known: Option<bool>,
}

/// A page of devices, by id.
pub type Page = api::Devices;

/// How many there are, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Devices with a record.
    pub known: u64,
    /// Devices seen without a record.
    pub unknown: u64,
    /// Devices with an override.
    pub overridden: u64,
    /// Users with an override.
    pub users_overridden: u64,
    /// Requests in flight.
    pub live: u64,
}

/// All records, by id, each as it is when its turn comes.
pub struct Records<'e> {
    engine: &'e Engine,
    keys: std::vec::IntoIter<DeviceKey>,
}

impl Iterator for Records<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        loop {
            let key = self.keys.next()?;
            let record = self.engine.shared.devices.read(&key, |entry| {
                entry
                    .filter(|entry| entry.known)
                    .map(|entry| entry.facts.record(&key))
            });
            if record.is_some() {
                return record;
            }
        }
    }
}

impl Engine {
    /// A device as it is, with what holds for it and `user` (`None`: its record's user). `None`:
    /// there is no record, no override, and it was not seen.
    #[must_use]
    pub fn device(&self, device: &DeviceKey, user: Option<&UserKey>) -> Option<api::Device> {
        self.shared.view(device, user)
    }

    /// The user of a device's record.
    #[must_use]
    pub fn owner(&self, device: &DeviceKey) -> Option<UserKey> {
        self.shared.devices.read(device, |entry| {
            entry.and_then(|entry| entry.owner().cloned())
        })
    }

    /// The devices after `after` that `filter` picks, at most `limit` (and [`PAGE_MAX`]) of them.
    #[must_use]
    pub fn list(&self, filter: &Filter, after: Option<&DeviceKey>, limit: usize) -> Page {
        let shared = &self.shared;
        let limit = limit.clamp(1, PAGE_MAX);
        let mut after = after.cloned();
        let mut devices = Vec::new();
        loop {
            let candidates = shared.keys_after(after.as_ref(), filter, limit);
            let ended = candidates.len() < limit;
            for key in candidates {
                if devices.len() == limit {
                    return api::Devices {
                        next: after,
                        devices,
                    };
                }
                let view = shared.view(&key, None).filter(|view| filter.picks(view));
                devices.extend(view);
                after = Some(key);
            }
            if ended {
                return api::Devices {
                    devices,
                    next: None,
                };
            }
        }
    }

    /// All records, for `export`.
    #[must_use]
    pub fn export(&self) -> Records<'_> {
        let mut keys = Vec::with_capacity(self.shared.devices.len());
        self.shared.devices.each(|key, entry| {
            if entry.known {
                keys.push(key.clone());
            }
        });
        keys.sort_unstable();
        Records {
            engine: self,
            keys: keys.into_iter(),
        }
    }

    /// The requests in flight.
    #[must_use]
    pub fn sessions(&self) -> Vec<api::Session> {
        let mut sessions = self.shared.lanes.collect(|_, asked| {
            Some(api::Session {
                device: asked.device.clone(),
                user: asked.user.clone(),
                protocol: asked.protocol,
                command: asked.command.clone(),
                since: asked.since,
                deadline: asked.deadline,
            })
        });
        sessions.sort_by_key(|session| session.since);
        sessions
    }

    /// Notes a request that was answered with `status`: the last request of a known device, or a
    /// device seen without a record, of which the newest 100,000 are remembered.
    pub fn saw(&self, ask: &Ask<'_>, status: u16, now: Timestamp) {
        if let Some(device) = ask.device {
            self.shared.saw(device, ask, status, now);
        }
    }

    /// How many devices, overrides and requests there are.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let shared = &self.shared;
        let mut counts = Counts {
            unknown: shared.seen.len() as u64,
            users_overridden: shared.users.speaking() as u64,
            live: shared.lanes.pick(|_| true).len() as u64,
            ..Counts::default()
        };
        shared.devices.each(|_, entry| {
            counts.known += u64::from(entry.known);
            counts.overridden += u64::from(entry.set.is_some());
        });
        counts
    }
}

impl Filter {
    fn picks(&self, view: &api::Device) -> bool {
        self.user
            .as_ref()
            .is_none_or(|user| view.record.user.as_ref() == Some(user))
            && self
                .verdict
                .is_none_or(|verdict| view.decision.verdict == verdict)
            && self.known.is_none_or(|known| view.known == known)
    }
}

impl Shared {
    /// The first `limit` device ids after `after` that can pass `filter`.
    fn keys_after(
        &self,
        after: Option<&DeviceKey>,
        filter: &Filter,
        limit: usize,
    ) -> BTreeSet<DeviceKey> {
        let mut first = BTreeSet::new();
        let mut offer = |key: &DeviceKey| {
            let late = first.len() >= limit && first.last().is_some_and(|last| key >= last);
            if late || after.is_some_and(|after| key <= after) {
                return;
            }
            first.insert(key.clone());
            if first.len() > limit {
                first.pop_last();
            }
        };
        if filter.known != Some(true) {
            self.seen.keys().iter().for_each(&mut offer);
        }
        match &filter.user {
            Some(user) if filter.known == Some(true) => {
                self.devices_of(user).devices.iter().for_each(&mut offer);
            }
            _ => self.devices.each(|key, entry| {
                if filter.known.is_none_or(|known| known == entry.known) {
                    offer(key);
                }
            }),
        }
        first
    }

    fn view(&self, device: &DeviceKey, user: Option<&UserKey>) -> Option<api::Device> {
        #[derive(Default)]
        struct Held {
            known: bool,
            facts: Facts,
            set: Option<api::Override>,
            order: Option<api::Order>,
            last: Option<LastSeen>,
            live: usize,
        }
        let held = self.devices.read(device, |entry| {
            entry.map(|entry| Held {
                known: entry.known,
                facts: entry.facts.clone(),
                set: entry.set.as_ref().map(|set| set.wire()),
                order: entry.order.as_ref().map(|order| order.wire()),
                last: entry.last.as_deref().cloned(),
                live: entry.leases.len(),
            })
        });
        let seen = self.seen.find(device);
        if held.is_none() && seen.is_none() {
            return None;
        }
        let held = held.unwrap_or_default();
        let mut record = held.facts.record(device);
        if !held.known {
            record.user = seen.as_ref().and_then(|seen| seen.user.clone());
        }
        let last = held
            .last
            .map(LastSeen::wire)
            .or_else(|| seen.as_ref().map(SeenDevice::wire));
        let user = user.or(record.user.as_ref());
        let agent = last.as_ref().map_or("", |last| last.agent.as_str());
        let ask = super::change::plain_ask(Some(device), user, agent);
        let decision = self.decide(&ask, &self.moment());
        Some(api::Device {
            known: held.known,
            source: held
                .facts
                .source
                .as_ref()
                .map(|source| source.as_str().to_owned()),
            device_override: held.set,
            order: held.order,
            binding: None,
            user_override: self.says(user).current.as_ref().map(Override::wire),
            decision: api::Decision::from(&decision),
            live: u32::try_from(held.live).unwrap_or(u32::MAX),
            first_request: seen.map(|seen| seen.first),
            last_request: last,
            record,
        })
    }

    fn saw(&self, device: &DeviceKey, ask: &Ask<'_>, status: u16, now: Timestamp) {
        let known = self.devices.update(device, |entry| {
            if !entry.known {
                return false;
            }
            match &mut entry.last {
                Some(last) => {
                    last.at = now;
                    last.status = status;
                    last.protocol = ask.protocol;
                    if last.user.as_ref() != ask.user {
                        last.user = ask.user.cloned();
                    }
                    self.reuse(&mut last.command, ask.command);
                    self.reuse(&mut last.agent, ask.agent);
                }
                None => {
                    entry.last = Some(Box::new(LastSeen {
                        at: now,
                        command: self.interner.symbol(crate::table::cut(ask.command)),
                        agent: self.interner.symbol(crate::table::cut(ask.agent)),
                        user: ask.user.cloned(),
                        status,
                        protocol: ask.protocol,
                    }));
                }
            }
            true
        });
        if !known {
            self.seen.note(
                device,
                SeenDevice {
                    user: ask.user.cloned(),
                    agent: crate::table::cut(ask.agent).to_owned(),
                    command: crate::table::cut(ask.command).to_owned(),
                    protocol: ask.protocol,
                    status,
                    first: now,
                    last: now,
                },
            );
        }
    }

    /// A device sends the same texts again and again: the shared copy is looked for only when one
    /// changes.
    fn reuse(&self, held: &mut Symbol, text: &str) {
        let text = crate::table::cut(text);
        if held.as_str() != text {
            *held = self.interner.symbol(text);
        }
    }
}

impl LastSeen {
    fn wire(self) -> api::LastRequest {
        api::LastRequest {
            at: self.at,
            protocol: self.protocol,
            command: self.command.as_str().to_owned(),
            status: self.status,
            agent: self.agent.as_str().to_owned(),
            user: self.user,
        }
    }
}

impl SeenDevice {
    fn wire(&self) -> api::LastRequest {
        api::LastRequest {
            at: self.last,
            protocol: self.protocol,
            command: self.command.clone(),
            status: self.status,
            agent: self.agent.clone(),
            user: self.user.clone(),
        }
    }
}
