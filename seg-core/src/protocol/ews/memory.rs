//! What the gateway remembers for EWS, shared by all cores: with which device a user has lately
//! been on ActiveSync, how much each device has taken, and how many subscriptions are being ended.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use seg_compliance::{DeviceKey, UserKey};
use seg_ews::policy::{ClientClass, Meter};
use smallvec::SmallVec;
use tokio::sync::Semaphore;

use crate::decide::Generations;

/// Users and meters that are remembered at least.
const REMEMBERED: usize = 200_000;

/// A device that was not seen for so long names nobody any more.
const SEEN_WITHIN: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A device that was seen this recently is not written down again.
const FRESH: Duration = Duration::from_secs(60 * 60);

/// Devices that are remembered of one user; who has more names none anyway.
const DEVICES: usize = 4;

/// Subscriptions that are ended at the same time, so that a thousand cut streams are no storm.
const UNSUBSCRIBING: usize = 16;

/// The memory of the EWS part.
#[derive(Debug)]
pub struct EwsMemory {
    devices: Generations<UserKey, Arc<[(DeviceKey, Instant)]>>,
    meters: Generations<(ClientClass, Box<str>), Arc<Taken>>,
    unsubscribing: Semaphore,
    offers: Mutex<Offers>,
    begun: Instant,
}

impl Default for EwsMemory {
    fn default() -> Self {
        Self {
            devices: Generations::new(REMEMBERED),
            meters: Generations::new(REMEMBERED),
            unsubscribing: Semaphore::new(UNSUBSCRIBING),
            offers: Mutex::default(),
            begun: Instant::now(),
        }
    }
}

impl EwsMemory {
    /// Learns that `user` was admitted with `device` on ActiveSync.
    pub fn learn(&self, user: &UserKey, device: &DeviceKey) {
        let known = self.devices.recall(user);
        let known = known.as_deref().unwrap_or_default();
        if known
            .iter()
            .any(|(seen, at)| seen == device && at.elapsed() < FRESH)
        {
            return;
        }
        let mut now: SmallVec<[(DeviceKey, Instant); DEVICES]> = SmallVec::new();
        now.push((device.clone(), Instant::now()));
        let others = known
            .iter()
            .filter(|(seen, at)| seen != device && at.elapsed() < SEEN_WITHIN);
        now.extend(others.take(DEVICES - 1).cloned());
        self.devices.insert(user.clone(), now.to_vec().into());
    }

    /// The device of `user`, where there is exactly one.
    pub fn only_device(&self, user: &UserKey) -> Option<DeviceKey> {
        let known = self.devices.recall(user)?;
        let mut lately = known.iter().filter(|(_, at)| at.elapsed() < SEEN_WITHIN);
        match (lately.next(), lately.next()) {
            (Some((device, _)), None) => Some(device.clone()),
            _ => None,
        }
    }

    /// What `who` has taken of its class's measure in the window that is running.
    pub fn taken(&self, class: ClientClass, who: &str, meter: Meter) -> Arc<Taken> {
        let window = self.begun.elapsed().as_secs() / (u64::from(meter.minutes) * 60);
        let key = (class, Box::from(who));
        match self.meters.recall(&key) {
            Some(taken) if taken.window == window => taken,
            _ => {
                let taken = Arc::new(Taken {
                    window,
                    bytes: AtomicU64::new(0),
                    items: AtomicU64::new(0),
                });
                self.meters.insert(key, Arc::clone(&taken));
                taken
            }
        }
    }

    /// Notes the ways to log in that a leg has offered. Where the legs differ, what each offers:
    /// once for each difference.
    pub fn offers(&self, ews: bool, schemes: BTreeSet<String>) -> Option<(String, String)> {
        let mut offers = self.offers.lock();
        let offers = &mut *offers;
        let of = if ews {
            &mut offers.ews
        } else {
            &mut offers.eas
        };
        if of.as_ref() == Some(&schemes) {
            return None;
        }
        *of = Some(schemes);
        let (eas, ews) = offers.eas.as_ref().zip(offers.ews.as_ref())?;
        let joined = |of: &BTreeSet<String>| of.iter().cloned().collect::<Vec<_>>().join(", ");
        (eas != ews).then(|| (joined(eas), joined(ews)))
    }

    /// A place among those who end a subscription.
    pub(super) async fn unsubscribe(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.unsubscribing.acquire().await.ok()
    }
}

/// The ways to log in that each leg has offered last.
#[derive(Debug, Default)]
struct Offers {
    eas: Option<BTreeSet<String>>,
    ews: Option<BTreeSet<String>>,
}

/// What one device has taken in one window.
#[derive(Debug)]
pub struct Taken {
    window: u64,
    bytes: AtomicU64,
    items: AtomicU64,
}

impl Taken {
    /// Adds to it.
    pub fn add(&self, bytes: u64, items: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.items.fetch_add(items, Ordering::Relaxed);
    }

    /// Whether the measure is full.
    pub fn is_full(&self, meter: Meter) -> bool {
        self.bytes.load(Ordering::Relaxed) >= meter.bytes
            || self.items.load(Ordering::Relaxed) >= meter.items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_with_one_device_is_known_by_it() {
        let memory = EwsMemory::default();
        let user = UserKey::new("alice@corp.example").expect("a user");
        let device = |id| DeviceKey::new(id).expect("a device");
        assert_eq!(memory.only_device(&user), None);
        memory.learn(&user, &device("D1"));
        memory.learn(&user, &device("D1"));
        assert_eq!(memory.only_device(&user), Some(device("D1")));
        for id in ["D2", "D3", "D4", "D5", "D6"] {
            memory.learn(&user, &device(id));
            assert_eq!(memory.only_device(&user), None, "{id}");
        }
    }

    #[test]
    fn a_difference_between_the_legs_is_told_once() {
        let memory = EwsMemory::default();
        let schemes = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(memory.offers(false, schemes(&["basic", "bearer"])), None);
        assert_eq!(memory.offers(false, schemes(&["basic", "bearer"])), None);
        let told = Some(("basic, bearer".to_owned(), "basic".to_owned()));
        assert_eq!(memory.offers(true, schemes(&["basic"])), told);
        assert_eq!(memory.offers(true, schemes(&["basic"])), None);
        assert_eq!(memory.offers(false, schemes(&["basic"])), None);
    }

    #[test]
    fn each_class_and_device_has_a_measure_of_its_own() {
        let memory = EwsMemory::default();
        let meter = Meter {
            minutes: 60,
            bytes: 100,
            items: u64::MAX,
        };
        let of = |class, who| memory.taken(class, who, meter);
        of(ClientClass::Ens, "d1").add(60, 1);
        of(ClientClass::Ens, "d1").add(60, 1);
        assert!(of(ClientClass::Ens, "d1").is_full(meter));
        assert!(!of(ClientClass::Ens, "d2").is_full(meter));
        assert!(!of(ClientClass::Native, "d1").is_full(meter));
    }
}
