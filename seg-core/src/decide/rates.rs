//! How often a device asks, and how many polls it holds open.
//!
//! Counted by device and credentials together, so that somebody who only knows the name of a
//! device can't use up what it may ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use seg_compliance::DeviceKey;
use seg_eas::firewall::Firewall;

use super::Generations;
use crate::identify::{CredentialDigest, Known};

/// Devices that are counted at least.
const REMEMBERED: usize = 200_000;

/// The span of `requests_per_minute`.
const WINDOW: Duration = Duration::from_secs(60);

/// What every device has asked lately. Shared by all cores.
#[derive(Debug)]
pub struct Rates(Generations<(DeviceKey, CredentialDigest), Arc<Tally>>);

#[derive(Debug)]
struct Tally {
    pings: AtomicU32,
    /// When the current minute began, and what was asked in it.
    window: Mutex<(Instant, u32)>,
}

/// A Ping that counts until it is dropped.
#[derive(Debug)]
pub struct OpenPing(Arc<Tally>);

impl Drop for OpenPing {
    fn drop(&mut self) {
        self.0.pings.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a request has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooBusy {
    /// `max_pings` are open.
    Pings,
    /// `requests_per_minute` have been made.
    Requests,
}

impl TooBusy {
    /// The label of `seg_bad_requests_total`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Pings => "too_many_pings",
            Self::Requests => "too_many_requests",
        }
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self(Generations::new(REMEMBERED))
    }
}

impl Rates {
    /// Counts a request; `ping`: one that is held open.
    ///
    /// # Errors
    /// The rule that it breaks; it does not count then.
    pub fn enter(
        &self,
        device: Option<&DeviceKey>,
        known: &Known,
        ping: bool,
        firewall: &Firewall,
    ) -> Result<Option<OpenPing>, TooBusy> {
        let Some(device) = device.filter(|_| firewall.max_pings | firewall.requests_per_minute > 0)
        else {
            return Ok(None);
        };
        let key = (device.clone(), known.digest.unwrap_or_default());
        self.count(key, ping, firewall, Instant::now())
    }

    fn count(
        &self,
        key: (DeviceKey, CredentialDigest),
        ping: bool,
        firewall: &Firewall,
        now: Instant,
    ) -> Result<Option<OpenPing>, TooBusy> {
        let tally = self.0.recall_or(key, || {
            Arc::new(Tally {
                pings: AtomicU32::new(0),
                window: Mutex::new((now, 0)),
            })
        });
        if firewall.requests_per_minute > 0 {
            let mut window = tally.window.lock();
            if now.saturating_duration_since(window.0) >= WINDOW {
                *window = (now, 0);
            }
            if window.1 >= firewall.requests_per_minute {
                return Err(TooBusy::Requests);
            }
            window.1 += 1;
        }
        if !ping || firewall.max_pings == 0 {
            return Ok(None);
        }
        let open = tally.pings.fetch_add(1, Ordering::Relaxed);
        let ping = OpenPing(tally);
        if open >= firewall.max_pings {
            return Err(TooBusy::Pings);
        }
        Ok(Some(ping))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(device: &str) -> (DeviceKey, CredentialDigest) {
        (DeviceKey::new(device).expect("a device"), [0; 16])
    }

    #[test]
    fn a_minute_holds_so_many_requests_of_one_device() {
        let rates = Rates::default();
        let firewall = Firewall {
            requests_per_minute: 2,
            ..Firewall::default()
        };
        let begin = Instant::now();
        let at = |device, seconds| {
            let now = begin + Duration::from_secs(seconds);
            rates.count(key(device), false, &firewall, now).map(drop)
        };
        assert_eq!(at("A", 0), Ok(()));
        assert_eq!(at("A", 59), Ok(()));
        assert_eq!(at("A", 59), Err(TooBusy::Requests));
        assert_eq!(at("B", 59), Ok(()));
        assert_eq!(at("A", 60), Ok(()));
    }

    #[test]
    fn a_ping_counts_until_it_ends() {
        let rates = Rates::default();
        let firewall = Firewall {
            max_pings: 1,
            ..Firewall::default()
        };
        let ask = || rates.count(key("A"), true, &firewall, Instant::now());
        let first = ask().expect("the first");
        assert!(matches!(ask(), Err(TooBusy::Pings)));
        assert!(
            rates
                .count(key("A"), false, &firewall, Instant::now())
                .is_ok()
        );
        drop(first);
        assert!(ask().is_ok());
    }
}
