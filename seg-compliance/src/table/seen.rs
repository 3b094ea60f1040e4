//! Devices that came without a record: a bounded table, the one not seen for longest goes first.

use std::collections::{BTreeMap, HashMap};

use ahash::RandomState;
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::{DeviceKey, Protocol, UserKey};

/// Most devices remembered without a record.
pub(crate) const SEEN_MAX: usize = 100_000;

/// A device that came without a record.
#[derive(Clone, Debug)]
pub(crate) struct SeenDevice {
    pub(crate) user: Option<UserKey>,
    pub(crate) agent: String,
    pub(crate) command: String,
    pub(crate) protocol: Protocol,
    pub(crate) status: u16,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
}

#[derive(Default)]
struct Table {
    devices: HashMap<DeviceKey, (SeenDevice, u64), RandomState>,
    /// By the order of the last request.
    order: BTreeMap<u64, DeviceKey>,
    requests: u64,
}

/// The table of devices seen without a record.
pub(crate) struct Seen {
    table: Mutex<Table>,
    limit: usize,
}

impl Seen {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            table: Mutex::default(),
            limit,
        }
    }

    /// Notes a request; the first request of the device is kept.
    pub(crate) fn note(&self, device: &DeviceKey, request: SeenDevice) {
        let mut table = self.table.lock();
        let table = &mut *table;
        table.requests += 1;
        let number = table.requests;
        let first = match table.devices.get(device) {
            Some((held, old)) => {
                table.order.remove(old);
                held.first
            }
            None => request.first,
        };
        table.order.insert(number, device.clone());
        table
            .devices
            .insert(device.clone(), (SeenDevice { first, ..request }, number));
        if table.devices.len() > self.limit
            && let Some((_, oldest)) = table.order.pop_first()
        {
            table.devices.remove(&oldest);
        }
    }

    pub(crate) fn find(&self, device: &DeviceKey) -> Option<SeenDevice> {
        self.table
            .lock()
            .devices
            .get(device)
            .map(|(seen, _)| seen.clone())
    }

    /// Forgets a device: it has a record now, or an administrator says so.
    pub(crate) fn forget(&self, device: &DeviceKey) -> bool {
        let mut table = self.table.lock();
        match table.devices.remove(device) {
            Some((_, number)) => {
                table.order.remove(&number);
                true
            }
            None => false,
        }
    }

    pub(crate) fn keys(&self) -> Vec<DeviceKey> {
        self.table.lock().devices.keys().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.table.lock().devices.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(at: i64) -> SeenDevice {
        let at = Timestamp::from_second(at).unwrap();
        SeenDevice {
            user: None,
            agent: String::new(),
            command: String::new(),
            protocol: Protocol::Eas,
            status: 403,
            first: at,
            last: at,
        }
    }

    #[test]
    fn the_one_not_seen_for_longest_goes_first() {
        let seen = Seen::new(2);
        let key = |name| DeviceKey::new(name).unwrap();
        seen.note(&key("a"), request(1));
        seen.note(&key("b"), request(2));
        seen.note(&key("a"), request(3));
        seen.note(&key("c"), request(4));
        assert!(seen.find(&key("b")).is_none());
        let a = seen.find(&key("a")).unwrap();
        assert_eq!((a.first.as_second(), a.last.as_second()), (1, 3));
        assert_eq!(seen.len(), 2);
        assert!(seen.forget(&key("c")) && !seen.forget(&key("c")));
    }
}
