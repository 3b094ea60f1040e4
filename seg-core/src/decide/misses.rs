//! A device that nobody has reported, but that a source may know by now: it is asked once, with a
//! deadline, and a "no" is remembered for a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use seg_compliance::engine::ImportOptions;
use seg_compliance::record::ndjson;
use seg_compliance::sources::{self, Definition};
use seg_compliance::{Decision, DeviceKey, Step};
use tokio::sync::Semaphore;

use crate::config::ProxyAddress;
use crate::runtime::Shared;

/// How long a source may take: a phone waits.
const WITHIN: Duration = Duration::from_secs(2);
/// How long a device that no source knows is not asked for again.
const FORGOTTEN: Duration = Duration::from_secs(300);
/// Most devices that are remembered as unknown.
const REMEMBERED: usize = 100_000;
/// Devices that are asked for at one time; one more is as unknown as before, until it comes again.
const AT_ONCE: usize = 16;

/// The devices that were asked for.
#[derive(Debug)]
pub struct Misses {
    asked: Mutex<HashMap<DeviceKey, Instant>>,
    places: Semaphore,
}

impl Default for Misses {
    fn default() -> Self {
        Self {
            asked: Mutex::default(),
            places: Semaphore::new(AT_ONCE),
        }
    }
}

impl Misses {
    /// Whether it is worth asking: the device is unknown, and was not asked for a moment ago.
    pub fn is_new(&self, decision: &Decision, device: &DeviceKey) -> bool {
        if decision.step != Step::Default || decision.reason.as_deref() != Some("unknown_device") {
            return false;
        }
        let asked = self.asked.lock();
        asked.get(device).is_none_or(|at| at.elapsed() >= FORGOTTEN)
    }

    /// Notes that a device is asked for now; not, where somebody else just did.
    fn begin(&self, device: &DeviceKey) -> bool {
        let mut asked = self.asked.lock();
        if asked.len() >= REMEMBERED {
            asked.retain(|_, at| at.elapsed() < FORGOTTEN);
            if asked.len() >= REMEMBERED {
                return false;
            }
        }
        let before = asked.insert(device.clone(), Instant::now());
        before.is_none_or(|at| at.elapsed() >= FORGOTTEN)
    }
}

/// Asks the sources that can be asked, one after the other, and takes over what one of them knows.
/// Answers whether one did.
pub async fn ask(shared: &Shared, device: &DeviceKey) -> bool {
    let Ok(_place) = shared.misses.places.try_acquire() else {
        return false;
    };
    if !shared.misses.begin(device) {
        return false;
    }
    let snapshot = shared.snapshot();
    let able: Vec<Definition> = snapshot
        .sources
        .iter()
        .filter(|source| source.on_miss)
        .cloned()
        .collect();
    let proxy = snapshot.config.outbound_proxy.as_ref();
    let proxy = proxy.map(ProxyAddress::url);
    for mut source in able {
        source.default_proxy(proxy.as_deref());
        let (name, id) = (source.name.clone(), device.as_str().to_owned());
        let asked = shared
            .outbound
            .runtime()
            .spawn_blocking(move || sources::lookup(&source, &id));
        let records = match tokio::time::timeout(WITHIN, asked).await {
            Ok(Ok(Ok(records))) => records,
            Ok(Ok(Err(error))) => {
                tracing::warn!(source = name, %error, "a device could not be asked for");
                continue;
            }
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(source = name, "a device could not be asked for in time");
                continue;
            }
        };
        if records.is_empty() {
            continue;
        }
        let mut import = shared.engine.begin_import(ImportOptions {
            source: Some(name),
            event: true,
            ..ImportOptions::default()
        });
        let text: String = records.iter().map(|record| format!("{record}\n")).collect();
        let mut lines = Vec::new();
        let mut reader = ndjson::Reader::new();
        reader.feed(text.as_bytes(), &mut |line| lines.push(line));
        for mut line in lines {
            if let Ok((_, patch)) = &mut line
                && let Some(Some(user)) = &mut patch.user
                && let Some(canonical) = snapshot.identity.canonical(user.as_str())
            {
                *user = canonical;
            }
            if import.push(line).await.is_err() {
                return false;
            }
        }
        return import.finish().await.is_ok();
    }
    false
}
