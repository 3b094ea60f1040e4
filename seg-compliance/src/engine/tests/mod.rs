//! The engine in memory, with a clock that stands still and a cutter that writes down.

mod aging;
mod agreement;
mod cuts;
mod durable;
mod feed;
mod imports;
mod people;
mod policies;
mod races;
mod succession;
mod time;
mod verdicts;

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::{Admission, Cut, Cutter, Engine, Lease};
use crate::clock::ManualClock;
use crate::record::Patch;
use crate::{Ask, DeviceKey, Protocol, Settings, UserKey, Verdict, api};

/// What was cut, command by command.
#[derive(Default)]
pub(super) struct Written(pub(super) Mutex<Vec<(u16, Vec<Cut>)>>);

impl Cutter for Written {
    fn cut(&self, core: u16, cuts: Vec<Cut>) {
        self.0.lock().push((core, cuts));
    }
}

pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) clock: Arc<ManualClock>,
    pub(super) written: Arc<Written>,
}

pub(super) fn bench(settings: Settings) -> Bench {
    let clock = Arc::new(ManualClock::new(
        Timestamp::from_second(1_800_000_000).unwrap(),
    ));
    let engine = Engine::in_memory_at(settings, Arc::clone(&clock) as Arc<_>);
    let written = Arc::new(Written::default());
    engine.set_cutter(Arc::clone(&written) as Arc<_>);
    Bench {
        engine,
        clock,
        written,
    }
}

impl Bench {
    pub(super) async fn record(&self, device: &str, json: &str) -> api::Applied {
        let patch = Patch::from_json(json.as_bytes()).unwrap().1;
        self.engine.put_record(&key(device), &patch).await.unwrap()
    }

    pub(super) async fn override_device(&self, device: &str, verdict: Verdict) -> api::Applied {
        self.engine
            .override_device(&key(device), set(verdict))
            .await
            .unwrap()
    }

    pub(super) async fn override_user(&self, name: &str, verdict: Verdict) -> api::Applied {
        self.engine
            .override_user(&user(name), set(verdict))
            .await
            .unwrap()
    }

    pub(super) fn decide(&self, device: &str, name: &str) -> crate::Decision {
        let (device, user) = (keys(device), users(name));
        self.engine.decide(&ask(device.as_ref(), user.as_ref()))
    }

    pub(super) fn admit(&self, device: &str, name: &str, core: u16, token: u64) -> Admission {
        let (device, user) = (keys(device), users(name));
        let since = Timestamp::UNIX_EPOCH;
        self.engine.admit(
            &ask(device.as_ref(), user.as_ref()),
            core,
            token,
            since,
            None,
        )
    }

    pub(super) fn granted(&self, device: &str, name: &str, core: u16, token: u64) -> Lease {
        match self.admit(device, name, core, token) {
            Admission::Granted(lease, _) => lease,
            Admission::Denied(decision) => panic!("{decision:?}"),
        }
    }

    /// The tokens cut since the last call, a command each.
    pub(super) fn cuts(&self) -> Vec<(u16, Vec<u64>)> {
        let written = std::mem::take(&mut *self.written.0.lock());
        written
            .into_iter()
            .map(|(core, cuts)| {
                let mut tokens: Vec<u64> = cuts.iter().map(|cut| cut.token).collect();
                tokens.sort_unstable();
                (core, tokens)
            })
            .collect()
    }
}

pub(super) fn ask<'a>(device: Option<&'a DeviceKey>, user: Option<&'a UserKey>) -> Ask<'a> {
    Ask {
        device,
        user,
        agent: "Apple-iPhone/1",
        device_type: "iPhone",
        protocol: Protocol::Eas,
        command: "Ping",
        via: crate::Via::default(),
    }
}

pub(super) fn set(verdict: Verdict) -> api::Override {
    api::Override {
        verdict,
        reason: Some(format!("said {verdict}")),
        expires: None,
    }
}

pub(super) fn key(device: &str) -> DeviceKey {
    DeviceKey::new(device).unwrap()
}

pub(super) fn user(name: &str) -> UserKey {
    UserKey::new(name).unwrap()
}

fn keys(device: &str) -> Option<DeviceKey> {
    (!device.is_empty()).then(|| key(device))
}

fn users(name: &str) -> Option<UserKey> {
    (!name.is_empty()).then(|| user(name))
}
