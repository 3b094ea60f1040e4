//! The service behind `email.server.login=kerberos`: who gets which ticket, fetched once, kept for
//! minutes.

mod controllers;
mod names;
mod threads;

use controllers::folder;
use names::user_name;
use threads::{Done, finished};

pub use controllers::prepare_process;
pub(crate) use controllers::tend;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Digest, SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use parking_lot::Mutex;
use seg_compliance::UserKey;
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, Semaphore};

use super::refusal::{BAD_OPTION, Refusal, Stage, USER_UNKNOWN};
use super::tickets::{self, Accepted, Begun, Failed, Granted, Own, UserName};
use crate::config::{self, Config, Kdc};
use crate::servers::{Leg, Upstream};

/// Tickets that are kept at most.
const KEPT: usize = 50_000;
/// After this long without an answer the domain controllers are probed, and a second attempt goes
/// to those that live.
const IMPATIENT: Duration = Duration::from_secs(1);
/// How long a refusal is kept: for an account, and for anything else.
const REFUSED_FOR: Duration = Duration::from_secs(30);
const FAILED_FOR: Duration = Duration::from_secs(3);
/// Who is logged in where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    realm: Box<str>,
    user: UserName,
    spn: Box<str>,
}

/// What became of one fetch.
#[derive(Debug)]
struct Fetched {
    outcome: Result<Granted, Refusal>,
    until: Instant,
    renew_at: Instant,
    renewing: AtomicBool,
}

type Slot = Arc<OnceCell<Fetched>>;

/// Fetches tickets and keeps them.
#[derive(Debug)]
pub struct Delegation {
    config: config::Kerberos,
    /// What the keytab held when this began.
    keys: Option<Digest>,
    /// Of our own tickets: those that were fetched with other keys are left behind.
    cache: String,
    folder: PathBuf,
    slots: Mutex<HashMap<Key, Slot>>,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// For each service, somebody who got a ticket to it last.
    last_good: Mutex<HashMap<Box<str>, UserName>>,
    /// How far the clock of a domain controller was ahead of ours at the last probe, in seconds.
    ahead: AtomicI64,
    /// The domain controllers that answered the last probe; none known yet: all.
    live: Mutex<Option<Vec<Kdc>>>,
}

/// What the mail server, or the client, is still owed.
#[derive(Debug)]
pub struct Answer(Begun);

/// A client's verified ticket to us.
#[derive(Debug)]
pub struct Ticket {
    accepted: Accepted,
}

impl Ticket {
    /// `account@REALM`.
    pub fn principal(&self) -> &str {
        &self.accepted.principal
    }

    /// What proves to the client that it is us: the value of a `WWW-Authenticate`.
    pub fn answer(&self) -> Option<HeaderValue> {
        let answer = self.accepted.answer.as_deref()?;
        negotiate(answer)
    }
}

impl Answer {
    /// Checks the `WWW-Authenticate` of the server's answer.
    ///
    /// # Errors
    /// It is not the server that we meant.
    pub fn check(self, value: &[u8]) -> Result<(), Refusal> {
        let failed = |said: &str| Failed {
            minor: 0,
            said: said.to_owned(),
            stage: Stage::Answer,
        };
        let encoded = value
            .get(..10)
            .filter(|scheme| scheme.eq_ignore_ascii_case(b"Negotiate "))
            .and_then(|_| value.get(10..))
            .unwrap_or_default();
        let message = BASE64_STANDARD
            .decode(encoded.trim_ascii())
            .map_err(|_| failed("its token is no base64").refusal())?;
        self.0.finish(&message).map_err(|failed| failed.refusal())
    }
}

impl Delegation {
    /// The service that a configuration asks for, if it does. What was fetched stays where nothing
    /// about Kerberos has changed, our own keys included.
    pub fn new(config: &Config, before: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        if !config.needs_kerberos() {
            return None;
        }
        let kerberos = &config.kerberos;
        let keytab = kerberos.keytab.as_ref();
        let keys = keytab.and_then(|file| std::fs::read(file).ok());
        let keys = keys.map(|keys| digest(&SHA256, &keys));
        let same = |before: &Digest, now: &Digest| before.as_ref() == now.as_ref();
        let same_keys = |before: &Self| match (&before.keys, &keys) {
            (Some(before), Some(now)) => same(before, now),
            (before, now) => before.is_none() && now.is_none(),
        };
        let unchanged = |before: &&Arc<Self>| before.config == *kerberos && same_keys(before);
        if let Some(before) = before.filter(unchanged) {
            return Some(Arc::clone(before));
        }
        static BEGUN: AtomicUsize = AtomicUsize::new(0);
        Some(Arc::new(Self {
            keys,
            cache: format!("MEMORY:seg-{}", BEGUN.fetch_add(1, Ordering::Relaxed)),
            folder: folder(config),
            slots: Mutex::default(),
            permits: Arc::new(Semaphore::new(kerberos.threads)),
            waiting: AtomicUsize::new(0),
            last_good: Mutex::default(),
            ahead: AtomicI64::new(0),
            live: Mutex::default(),
            config: kerberos.clone(),
        }))
    }

    /// `Authorization` for a user at a server, and what checks the server's answer. `ticket`: the
    /// client's own, where he came with one.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn authorize(
        self: &Arc<Self>,
        runtime: &Handle,
        user: &UserKey,
        leg: &Leg,
        upstream: &Upstream,
        ticket: Option<&mut Ticket>,
    ) -> Result<(HeaderValue, Answer), Refusal> {
        let key = self.key(user, leg, upstream)?;
        let slot = self.slot(&key);
        let fetched = match ticket {
            Some(ticket) if slot.get().is_none() => {
                let evidence = std::mem::take(&mut ticket.accepted.evidence);
                slot.get_or_init(|| self.pass_on(runtime, &key, evidence))
                    .await
            }
            _ => slot.get_or_init(|| self.fetched(runtime, &key)).await,
        };
        let granted = fetched.outcome.as_ref().map_err(Clone::clone)?;
        if Instant::now() >= fetched.renew_at && !fetched.renewing.swap(true, Ordering::Relaxed) {
            let (this, runtime, key) = (Arc::clone(self), runtime.clone(), key.clone());
            let on = runtime.clone();
            on.spawn(async move {
                let fresh = this.fetched(&runtime, &key).await;
                if fresh.outcome.is_ok() {
                    let slot = Arc::new(OnceCell::new_with(Some(fresh)));
                    this.slots.lock().insert(key, slot);
                }
            });
        }
        let binding = upstream.target.channel_binding();
        let binding = binding.as_ref().filter(|_| self.config.channel_binding);
        let binding = binding.map(|binding| binding.as_slice());
        let (begun, message) = granted.begin(binding).map_err(|failed| failed.refusal())?;
        let value = negotiate(&message).ok_or_else(Refusal::busy)?;
        Ok((value, Answer(begun)))
    }

    /// A server of the leg has refused the user's ticket: the next request gets a new one.
    pub fn forget(&self, user: &UserKey, leg: &Leg) {
        let mut slots = self.slots.lock();
        for upstream in &leg.upstreams {
            if let Ok(key) = self.key(user, leg, upstream) {
                slots.remove(&key);
            }
        }
    }

    /// Verifies a client's ticket to us.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub async fn accept(
        self: &Arc<Self>,
        runtime: &Handle,
        message: &[u8],
    ) -> Result<Ticket, Refusal> {
        let own = self.own(self.config.default_realm());
        let message = BASE64_STANDARD.decode(message).unwrap_or_default();
        let work = self.submit(runtime, move || tickets::accept(&own, &message))?;
        let accepted = tokio::time::timeout(self.config.timeout, work)
            .await
            .map_err(|_| Refusal::late(self.config.timeout.as_secs()))?
            .map_err(|_| Refusal::busy())?
            .map_err(|failed| failed.refusal())?;
        Ok(Ticket { accepted })
    }

    fn key(&self, user: &UserKey, leg: &Leg, upstream: &Upstream) -> Result<Key, Refusal> {
        let (realm, user) = user_name(&self.config, user.as_str())?;
        let spn = leg.spn.replace("{host}", upstream.target.host());
        let spn = if spn.contains('@') {
            spn
        } else {
            format!("{spn}@{realm}")
        };
        Ok(Key {
            realm: realm.into(),
            user,
            spn: spn.into(),
        })
    }

    fn own(&self, realm: &str) -> Own {
        let principal = self.config.principals.iter();
        let principal = principal
            .clone()
            .find(|one| one.rsplit('@').next() == Some(realm))
            .or_else(|| self.config.principals.first());
        let keytab = self
            .config
            .keytab
            .as_deref()
            .unwrap_or_else(|| Path::new(""));
        Own {
            principal: principal.cloned().unwrap_or_default(),
            keytab: format!("FILE:{}", keytab.display()),
            ccache: format!("{}-{realm}", self.cache),
        }
    }

    /// The slot of a key; a new one where the last fetch is past its time.
    fn slot(&self, key: &Key) -> Slot {
        let now = Instant::now();
        let is_over = |slot: &Slot| slot.get().is_some_and(|fetched| fetched.until <= now);
        let mut slots = self.slots.lock();
        match slots.get(key) {
            Some(slot) if !is_over(slot) => Arc::clone(slot),
            _ => {
                if slots.len() >= KEPT {
                    slots.retain(|_, slot| !is_over(slot));
                }
                if slots.len() >= KEPT {
                    slots.clear();
                }
                let slot = Slot::default();
                slots.insert(key.clone(), Arc::clone(&slot));
                slot
            }
        }
    }

    async fn fetched(self: &Arc<Self>, runtime: &Handle, key: &Key) -> Fetched {
        let (this, on, key) = (Arc::clone(self), runtime.clone(), key.clone());
        // A task of its own: those who wait for it may leave.
        let task = runtime.spawn(async move {
            let within = this.config.timeout;
            let fetch = this.fetch(&on, &key);
            let outcome = tokio::time::timeout(within, fetch).await;
            let outcome = outcome.unwrap_or_else(|_| Err(Refusal::late(within.as_secs())));
            this.keep(&key, outcome)
        });
        let ended = |_| self.kept(Err(Refusal::busy()));
        task.await.unwrap_or_else(ended)
    }

    async fn pass_on(
        self: &Arc<Self>,
        runtime: &Handle,
        key: &Key,
        evidence: tickets::Evidence,
    ) -> Fetched {
        let spn = key.spn.clone();
        let outcome = match self.submit(runtime, move || tickets::pass_on(evidence, &spn)) {
            Ok(work) => match tokio::time::timeout(self.config.timeout, work).await {
                Ok(done) => done
                    .map_err(|_| Refusal::busy())
                    .and_then(|granted| granted.map_err(|failed| failed.refusal())),
                Err(_) => Err(Refusal::late(self.config.timeout.as_secs())),
            },
            Err(busy) => Err(busy),
        };
        self.keep(key, outcome)
    }

    fn keep(&self, key: &Key, outcome: Result<Granted, Refusal>) -> Fetched {
        match &outcome {
            Ok(_) => {
                let mut last_good = self.last_good.lock();
                last_good.insert(key.spn.clone(), key.user.clone());
            }
            Err(refusal) => tracing::warn!(
                reason = refusal.reason,
                spn = &*key.spn,
                "no Kerberos ticket: {refusal}"
            ),
        }
        self.kept(outcome)
    }

    fn kept(&self, outcome: Result<Granted, Refusal>) -> Fetched {
        let now = Instant::now();
        let holds = match &outcome {
            // A quarter of it is left for the clocks.
            Ok(granted) => self.config.cache.min(granted.lifetime * 3 / 4),
            Err(refusal) if refusal.of_user => REFUSED_FOR,
            Err(_) => FAILED_FOR,
        };
        Fetched {
            renewing: AtomicBool::new(outcome.is_err()),
            outcome,
            until: now + holds,
            renew_at: now + holds * 3 / 4,
        }
    }

    /// One fetch; where it is slow, the domain controllers are probed, and a second attempt knows
    /// who of them lives.
    async fn fetch(self: &Arc<Self>, runtime: &Handle, key: &Key) -> Result<Granted, Refusal> {
        let start = || self.grant(runtime, key);
        let mut first = std::pin::pin!(start()?);
        tokio::select! {
            done = first.as_mut() => return finished(done),
            () = tokio::time::sleep(IMPATIENT) => {}
        }
        self.probe_all().await;
        let mut second = std::pin::pin!(start()?);
        tokio::select! {
            done = first.as_mut() => finished(done),
            done = second.as_mut() => finished(done),
        }
    }

    fn grant(
        self: &Arc<Self>,
        runtime: &Handle,
        key: &Key,
    ) -> Result<impl Future<Output = Done<Granted>> + use<>, Refusal> {
        let (own, key) = (self.own(&key.realm), key.clone());
        let other = self.last_good.lock().get(&key.spn).cloned();
        let elsewhere = self.of_elsewhere(&key.user);
        let work = self.submit(runtime, move || {
            let granted = tickets::grant(&own, &key.user, &key.spn);
            let bad_option = |failed: &Failed| {
                failed.minor.cast_signed() == BAD_OPTION && failed.stage == Stage::Delegate
            };
            match granted {
                // The code is the same whether the user may not be delegated, or we may not
                // delegate. Somebody who got a ticket lately tells the two apart.
                Err(failed) if bad_option(&failed) => {
                    let Some(other) = other.filter(|other| *other != key.user) else {
                        return Err(failed.refusal());
                    };
                    Err(match tickets::grant(&own, &other, &key.spn) {
                        Ok(_) => Refusal::sensitive(&failed.said),
                        Err(_) => Refusal::undelegated(&key.spn, &failed.said),
                    })
                }
                Err(failed) => Err(match (failed.refusal(), elsewhere) {
                    (refusal, Some(name)) if refusal.reason == USER_UNKNOWN => {
                        Refusal::elsewhere(&name, &failed.said)
                    }
                    (refusal, _) => refusal,
                }),
                Ok(granted) => Ok(granted),
            }
        })?;
        Ok(work)
    }
}

fn negotiate(message: &[u8]) -> Option<HeaderValue> {
    let mut value =
        HeaderValue::from_str(&format!("Negotiate {}", BASE64_STANDARD.encode(message))).ok()?;
    value.set_sensitive(true);
    Some(value)
}
