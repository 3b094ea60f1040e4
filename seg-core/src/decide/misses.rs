//! A device that nobody has reported, but that a source may know by now: it is asked once, with a
//! deadline, and a "no" is remembered for a while.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use seg_compliance::api::AuditEvent;
use seg_compliance::engine::ImportOptions;
use seg_compliance::record::ndjson;
use seg_compliance::sources::{self, Definition, Sessions, SourceError};
use seg_compliance::{Decision, DeviceKey, Step};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::config::ProxyAddress;
use crate::runtime::{Shared, Snapshot};

/// How long the sources may take: a phone waits.
const WITHIN: Duration = Duration::from_secs(2);
/// How long a device that no source knows is not asked for again, …
const UNKNOWN: Duration = Duration::from_secs(300);
/// … and one of which a source has said nothing in time.
const UNANSWERED: Duration = Duration::from_secs(30);
/// Most devices that are remembered.
const REMEMBERED: usize = 100_000;
/// Questions at one time; a device too many is as unknown as before, until it comes again.
const AT_ONCE: usize = 16;

/// The devices that were asked for, each with the time until which it is not asked for again.
#[derive(Debug)]
pub struct Misses {
    asked: Mutex<HashMap<DeviceKey, Instant>>,
    places: Arc<Semaphore>,
    sessions: Arc<Sessions>,
}

impl Default for Misses {
    fn default() -> Self {
        Self {
            asked: Mutex::default(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            sessions: Arc::default(),
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
        asked
            .get(device)
            .is_none_or(|until| *until <= Instant::now())
    }

    /// Notes that a device is asked for now; not, where somebody else just did.
    fn begin(&self, device: &DeviceKey, now: Instant) -> bool {
        let mut asked = self.asked.lock();
        if asked.get(device).is_some_and(|until| *until > now) {
            return false;
        }
        if asked.len() >= REMEMBERED {
            asked.retain(|_, until| *until > now);
            if asked.len() >= REMEMBERED {
                return false;
            }
        }
        asked.insert(device.clone(), now + UNKNOWN);
        true
    }

    /// Not every source has answered: that is no "no".
    fn unanswered(&self, device: &DeviceKey, now: Instant) {
        if let Some(until) = self.asked.lock().get_mut(device) {
            *until = now + UNANSWERED;
        }
    }

    /// A place among the questions; it is held until the source's last word, awaited or not.
    fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }
}

/// What a source will have said.
type Asked = JoinHandle<Result<Vec<Value>, SourceError>>;

/// Asks the sources that can be asked, all at once, and takes over what the first of them knows.
/// Answers whether one did.
pub async fn ask(shared: &Shared, device: &DeviceKey) -> bool {
    let misses = &shared.misses;
    let mut place = misses.place();
    if place.is_none() || !misses.begin(device, Instant::now()) {
        return false;
    }
    let snapshot = shared.snapshot();
    let deadline = tokio::time::Instant::now() + WITHIN;
    let proxy = snapshot.config.outbound_proxy.as_ref();
    let proxy = proxy.map(ProxyAddress::url);
    let mut questions: Vec<(String, Asked)> = Vec::new();
    let mut unanswered = false;
    for source in snapshot.sources.iter().filter(|source| source.on_miss) {
        let Some(place) = place.take().or_else(|| misses.place()) else {
            unanswered = true;
            break;
        };
        let mut source = source.clone();
        source.default_proxy(proxy.as_deref());
        let name = source.name.clone();
        questions.push((name, question(shared, source, device, place)));
    }
    for (name, asked) in questions {
        let why = match tokio::time::timeout_at(deadline, asked).await {
            Ok(Ok(Ok(records))) if records.is_empty() => continue,
            Ok(Ok(Ok(records))) => {
                return take_over(shared, &snapshot, name, device, &records).await;
            }
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} seconds", WITHIN.as_secs()),
        };
        tracing::warn!(
            source = name,
            reason = why,
            "a device could not be asked for"
        );
        unanswered = true;
    }
    if unanswered {
        misses.unanswered(device, Instant::now());
    }
    false
}

/// Asks on the background runtime: that waits for the network.
fn question(
    shared: &Shared,
    source: Definition,
    device: &DeviceKey,
    place: OwnedSemaphorePermit,
) -> Asked {
    let device = device.as_str().to_owned();
    let sessions = Arc::clone(&shared.misses.sessions);
    shared.outbound.runtime().spawn_blocking(move || {
        let said = sources::lookup(&source, &device, WITHIN, &sessions);
        drop(place);
        said
    })
}

async fn take_over(
    shared: &Shared,
    snapshot: &Snapshot,
    name: String,
    device: &DeviceKey,
    records: &[Value],
) -> bool {
    let mut import = shared.engine.begin_import(ImportOptions {
        source: Some(name.clone()),
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
    let Ok(result) = import.finish().await else {
        return false;
    };
    let event = AuditEvent {
        who: name,
        role: String::new(),
        action: "look-up".to_owned(),
        target: Some(device.as_str().to_owned()),
        detail: json!({ "applied": result.applied, "bad": result.errors.len() }),
        from: None,
        status: 200,
        revision: result.revision,
    };
    if let Err(error) = shared.engine.audit(event).await {
        tracing::error!(%error, "an entry of the audit trail is lost");
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> DeviceKey {
        DeviceKey::new(text).unwrap()
    }

    #[test]
    fn a_no_is_remembered_longer_than_silence() {
        let (misses, now) = (Misses::default(), Instant::now());
        assert!(misses.begin(&key("D1"), now));
        assert!(!misses.begin(&key("D1"), now), "somebody asks already");
        assert!(!misses.begin(&key("D1"), now + UNKNOWN / 2));
        assert!(
            misses.begin(&key("D1"), now + UNKNOWN),
            "it may be known by now"
        );
        assert!(misses.begin(&key("D2"), now));
        misses.unanswered(&key("D2"), now);
        assert!(!misses.begin(&key("D2"), now + UNANSWERED / 2));
        assert!(misses.begin(&key("D2"), now + UNANSWERED));
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let (misses, now) = (Misses::default(), Instant::now());
        for number in 0..REMEMBERED {
            assert!(misses.begin(&key(&format!("D{number}")), now));
        }
        assert!(!misses.begin(&key("ONEMORE"), now));
        assert_eq!(misses.asked.lock().len(), REMEMBERED);
        assert!(misses.begin(&key("ONEMORE"), now + UNKNOWN));
        assert_eq!(misses.asked.lock().len(), 1);
    }

    #[test]
    fn there_are_so_many_places_and_no_more() {
        let misses = Misses::default();
        let held: Vec<_> = (0..AT_ONCE).map_while(|_| misses.place()).collect();
        assert_eq!(held.len(), AT_ONCE);
        assert!(misses.place().is_none());
        drop(held);
        assert!(misses.place().is_some());
    }
}
