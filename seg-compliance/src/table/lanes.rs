//! Lanes: the requests in flight of each core, with what they asked, so that they can be judged
//! again and listed. A slot is used again and again, its texts with it: a lease allocates nothing
//! once a core has warmed up.

use std::net::IpAddr;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::policy::Moment;
use crate::{Ask, DeviceKey, Protocol, UserKey, Via};

/// Lanes; cores beyond share.
const LANES: usize = 64;
/// Longest text kept of an agent, device type or command, in bytes.
const TEXT_MAX: usize = 512;

/// A lease, as the entry of its device or user holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseRef {
    pub(crate) token: u64,
    pub(crate) slot: u32,
    pub(crate) core: u16,
}

/// What a request in flight asked.
#[derive(Clone, Debug)]
pub(crate) struct LaneAsk {
    pub(crate) device: Option<DeviceKey>,
    pub(crate) user: Option<UserKey>,
    agent: String,
    device_type: String,
    pub(crate) command: String,
    pub(crate) protocol: Protocol,
    address: Option<IpAddr>,
    host: String,
    path: String,
    method: String,
    version: String,
    suspect: String,
    pub(crate) since: Timestamp,
    pub(crate) deadline: Option<Timestamp>,
}

impl LaneAsk {
    pub(crate) fn ask(&self) -> Ask<'_> {
        Ask {
            device: self.device.as_ref(),
            user: self.user.as_ref(),
            agent: &self.agent,
            device_type: &self.device_type,
            protocol: self.protocol,
            command: &self.command,
            via: Via {
                address: self.address,
                host: &self.host,
                path: &self.path,
                method: &self.method,
                version: &self.version,
                suspect: &self.suspect,
            },
        }
    }
}

struct Slot {
    token: Option<u64>,
    core: u16,
    /// Until when its verdict stands, as far as time goes: milliseconds since 1970.
    stands: i64,
    asked: LaneAsk,
}

#[derive(Default)]
struct Lane {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

/// The requests in flight.
pub(crate) struct Lanes(Box<[Mutex<Lane>]>);

impl Lanes {
    pub(crate) fn new() -> Self {
        Self((0..LANES).map(|_| Mutex::default()).collect())
    }

    /// Notes a request before it is judged.
    pub(crate) fn open(
        &self,
        core: u16,
        token: u64,
        ask: &Ask<'_>,
        since: Timestamp,
        deadline: Option<Timestamp>,
    ) -> LeaseRef {
        let mut lane = self.lane(core).lock();
        let reused = lane.free.pop();
        if let Some((slot, held)) =
            reused.and_then(|slot| Some((slot, lane.slots.get_mut(slot as usize)?)))
        {
            held.token = Some(token);
            held.core = core;
            held.asked.device = ask.device.cloned();
            held.asked.user = ask.user.cloned();
            refill(&mut held.asked.agent, ask.agent);
            refill(&mut held.asked.device_type, ask.device_type);
            refill(&mut held.asked.command, ask.command);
            refill(&mut held.asked.host, ask.via.host);
            refill(&mut held.asked.path, ask.via.path);
            refill(&mut held.asked.method, ask.via.method);
            refill(&mut held.asked.version, ask.via.version);
            refill(&mut held.asked.suspect, ask.via.suspect);
            held.asked.address = ask.via.address;
            held.stands = Moment::ALWAYS;
            held.asked.protocol = ask.protocol;
            held.asked.since = since;
            held.asked.deadline = deadline;
            return LeaseRef { token, slot, core };
        }
        let slot = u32::try_from(lane.slots.len()).unwrap_or(u32::MAX);
        lane.slots.push(Slot {
            token: Some(token),
            core,
            stands: Moment::ALWAYS,
            asked: LaneAsk {
                device: ask.device.cloned(),
                user: ask.user.cloned(),
                agent: cut(ask.agent).to_owned(),
                device_type: cut(ask.device_type).to_owned(),
                command: cut(ask.command).to_owned(),
                protocol: ask.protocol,
                address: ask.via.address,
                host: cut(ask.via.host).to_owned(),
                path: cut(ask.via.path).to_owned(),
                method: cut(ask.via.method).to_owned(),
                version: cut(ask.via.version).to_owned(),
                suspect: cut(ask.via.suspect).to_owned(),
                since,
                deadline,
            },
        });
        LeaseRef { token, slot, core }
    }

    /// The request has ended.
    pub(crate) fn close(&self, lease: LeaseRef) {
        let mut lane = self.lane(lease.core).lock();
        let held = lane
            .slots
            .get_mut(lease.slot as usize)
            .filter(|held| held.token == Some(lease.token) && held.core == lease.core);
        if let Some(held) = held {
            held.token = None;
            held.asked.device = None;
            held.asked.user = None;
            lane.free.push(lease.slot);
        }
    }

    /// Tells until when the request of `lease` may last.
    pub(crate) fn until(&self, lease: LeaseRef, deadline: Timestamp) {
        let mut lane = self.lane(lease.core).lock();
        let held = lane
            .slots
            .get_mut(lease.slot as usize)
            .filter(|held| held.token == Some(lease.token) && held.core == lease.core);
        if let Some(held) = held {
            held.asked.deadline = Some(deadline);
        }
    }

    /// Tells until when the verdict of `lease` stands, as far as time goes.
    pub(crate) fn stands(&self, lease: LeaseRef, until: i64) {
        let mut lane = self.lane(lease.core).lock();
        let held = lane
            .slots
            .get_mut(lease.slot as usize)
            .filter(|held| held.token == Some(lease.token) && held.core == lease.core);
        if let Some(held) = held {
            held.stands = until;
        }
    }

    /// The leases whose verdict has to be looked at again by `now`, one lane locked at a time.
    pub(crate) fn due(&self, now: i64) -> Vec<LeaseRef> {
        let mut due = Vec::new();
        for lane in &self.0 {
            for (slot, held) in (0..).zip(&lane.lock().slots) {
                if let (Some(token), true) = (held.token, held.stands <= now) {
                    let core = held.core;
                    due.push(LeaseRef { token, slot, core });
                }
            }
        }
        due
    }

    /// Says of every request of a device in flight that it may come from a copy; one lane locked at
    /// a time.
    pub(crate) fn suspect(&self, device: &DeviceKey, why: &str) -> Vec<LeaseRef> {
        let mut found = Vec::new();
        for lane in &self.0 {
            for (slot, held) in (0..).zip(&mut lane.lock().slots) {
                if let Some(token) = held.token
                    && held.asked.device.as_ref() == Some(device)
                {
                    refill(&mut held.asked.suspect, why);
                    let core = held.core;
                    found.push(LeaseRef { token, slot, core });
                }
            }
        }
        found
    }

    /// What the request of `lease` asked; `None`: it has ended.
    pub(crate) fn asked(&self, lease: LeaseRef) -> Option<LaneAsk> {
        let lane = self.lane(lease.core).lock();
        lane.slots
            .get(lease.slot as usize)
            .filter(|held| held.token == Some(lease.token) && held.core == lease.core)
            .map(|held| held.asked.clone())
    }

    /// Copies the leases that `wanted` picks, one lane locked at a time.
    pub(crate) fn pick(&self, wanted: impl Fn(&LaneAsk) -> bool) -> Vec<LeaseRef> {
        self.collect(|lease, asked| wanted(asked).then_some(lease))
    }

    /// Copies what `look` makes of each request in flight.
    pub(crate) fn collect<R>(&self, look: impl Fn(LeaseRef, &LaneAsk) -> Option<R>) -> Vec<R> {
        let mut found = Vec::new();
        for lane in &self.0 {
            for (slot, held) in (0..).zip(&lane.lock().slots) {
                if let Some(token) = held.token {
                    let lease = LeaseRef {
                        token,
                        slot,
                        core: held.core,
                    };
                    found.extend(look(lease, &held.asked));
                }
            }
        }
        found
    }

    fn lane(&self, core: u16) -> &Mutex<Lane> {
        // LANES is not 0, so there is always one.
        #[allow(clippy::indexing_slicing)]
        &self.0[usize::from(core) % LANES]
    }
}

fn refill(held: &mut String, text: &str) {
    held.clear();
    held.push_str(cut(text));
}

/// The start of an overlong text, which is what policies see too.
pub(crate) fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_and_an_old_lease_does_not_name_it() {
        let lanes = Lanes::new();
        let ask = Ask {
            device: None,
            user: None,
            agent: "a",
            device_type: "",
            protocol: Protocol::Eas,
            command: "Ping",
            via: Via::default(),
        };
        let first = lanes.open(3, 1, &ask, Timestamp::UNIX_EPOCH, None);
        lanes.close(first);
        let second = lanes.open(3, 2, &ask, Timestamp::UNIX_EPOCH, None);
        assert_eq!(first.slot, second.slot);
        lanes.close(first);
        assert!(lanes.asked(first).is_none());
        assert_eq!(lanes.asked(second).unwrap().command, "Ping");
        assert_eq!(lanes.pick(|_| true), [second]);
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let text = "ä".repeat(TEXT_MAX);
        assert_eq!(cut(&text).len(), TEXT_MAX);
        assert_eq!(cut(&format!("x{text}")).len(), TEXT_MAX - 1);
    }
}
