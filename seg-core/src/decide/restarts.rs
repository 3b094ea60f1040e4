//! Devices that were ordered to begin anew, and which of their folders have.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use seg_compliance::DeviceKey;
use seg_eas::sync_keys::{Collection, FIRST};

use super::Generations;

/// Devices that are remembered at least.
const REMEMBERED: usize = 50_000;

/// Folders of one device that are remembered.
const MAX_FOLDERS: usize = 1_000;

/// The folders of a device that have begun anew.
type Begun = Arc<Mutex<HashSet<Box<str>>>>;

/// What has begun anew since a resync. Shared by all cores; a restart of the gateway forgets it,
/// and folders that had not begun anew by then go on as they were.
#[derive(Debug)]
pub struct Restarts {
    any: AtomicBool,
    devices: Generations<(DeviceKey, Box<str>), Begun>,
}

impl Default for Restarts {
    fn default() -> Self {
        Self {
            any: AtomicBool::new(false),
            devices: Generations::new(REMEMBERED),
        }
    }
}

impl Restarts {
    /// Whether there was a resync since the start.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// From now on each folder of the device has to begin anew once.
    pub fn begin(&self, device: &DeviceKey, user: &str) {
        self.devices
            .insert((device.clone(), user.into()), Begun::default());
        self.any.store(true, Ordering::Relaxed);
    }

    /// Whether the key of a folder is one from before. A folder that begins is remembered.
    pub fn is_stale(&self, device: &DeviceKey, user: &str, collection: &Collection<'_>) -> bool {
        let Some(begun) = self.devices.recall(&(device.clone(), user.into())) else {
            return false;
        };
        let mut begun = begun.lock();
        if collection.key == FIRST && begun.len() < MAX_FOLDERS {
            begun.insert(collection.id.into());
        }
        collection.key != FIRST && begun.len() < MAX_FOLDERS && !begun.contains(collection.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_folder_begins_anew_once() {
        let restarts = Restarts::default();
        let device = DeviceKey::new("D").expect("a device");
        let stale = |id, key| {
            let collection = Collection {
                id,
                key,
                class: None,
            };
            restarts.is_stale(&device, "alice", &collection)
        };
        assert!(!restarts.any());
        assert!(!stale("5", "17"), "nobody has ordered anything");
        restarts.begin(&device, "alice");
        assert!(restarts.any());
        assert!(stale("5", "17"));
        assert!(!stale("5", "0"));
        assert!(!stale("5", "1"));
        assert!(stale("6", "4"));
    }
}
