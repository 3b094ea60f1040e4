//! The service behind `email.server.login=kerberos`: who gets which ticket, fetched once, kept for
//! minutes.

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
use tokio::task::JoinError;

use super::kdc::{self, Alive};
use super::refusal::{BAD_OPTION, Refusal, Stage, USER_UNKNOWN};
use super::tickets::{self, Accepted, Begun, Failed, Granted, Own, UserName};
use crate::config::{self, Config, Kdc, KerberosName};
use crate::runtime::Shared;
use crate::servers::{Leg, Upstream};

/// Tickets that are kept at most.
const KEPT: usize = 50_000;
/// Callers that may wait for a thread.
const MAX_WAITING: usize = 512;
/// After this long without an answer the domain controllers are probed, and a second attempt goes
/// to those that live.
const IMPATIENT: Duration = Duration::from_secs(1);
/// How often domain controllers are probed.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// How long a refusal is kept: for an account, and for anything else.
const REFUSED_FOR: Duration = Duration::from_secs(30);
const FAILED_FOR: Duration = Duration::from_secs(3);
/// From a difference of this many seconds on, Kerberos refuses (RFC 4120 8.2).
const MAX_SKEW: u64 = 300;

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

/// The realm that is asked, and the name by which it is asked.
///
/// # Errors
/// A domain that no rule has turned into a suffix is somebody else's: its users are none of the
/// default realm.
fn user_name<'c>(config: &'c config::Kerberos, user: &str) -> Result<(&'c str, UserName), Refusal> {
    if user.contains('\\') {
        return Err(Refusal::foreign(user));
    }
    let default = config.default_realm();
    let (account, domain) = user.rsplit_once('@').unwrap_or((user, default));
    Ok(match (config.user_name, config.realm(domain)) {
        (KerberosName::Principal, Some(realm)) => (
            realm,
            UserName::Principal(format!("{account}@{realm}").into()),
        ),
        // A suffix of its own: the domain controller knows whose it is.
        (_, realm) => (realm.unwrap_or(default), UserName::Enterprise(user.into())),
    })
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

    /// What a refused ticket comes from where the clocks differ: the library makes up for the domain
    /// controller's, and the mail server sees ours.
    pub fn skew(&self) -> Option<Refusal> {
        let ahead = self.ahead.load(Ordering::Relaxed);
        (ahead.unsigned_abs() > MAX_SKEW).then(|| Refusal::skewed(ahead))
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

    /// The name of a user whose domain is none of our realms: a suffix that a domain controller may
    /// know, or another forest's.
    fn of_elsewhere(&self, user: &UserName) -> Option<Box<str>> {
        let UserName::Enterprise(name) = user else {
            return None;
        };
        let (_, domain) = name.rsplit_once('@')?;
        let ours = self.config.realm(domain).is_some();
        (!ours).then(|| name.clone())
    }

    /// Runs blocking work on a thread of the pool, of which there are `kerberos.threads`.
    fn submit<T, W>(
        self: &Arc<Self>,
        runtime: &Handle,
        work: W,
    ) -> Result<impl Future<Output = Result<T, JoinError>> + use<T, W>, Refusal>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        if self.waiting.load(Ordering::Relaxed) >= MAX_WAITING {
            return Err(Refusal::busy());
        }
        let (this, runtime) = (Arc::clone(self), runtime.clone());
        let waits = Waits::new(Arc::clone(self));
        Ok(async move {
            let permit = Arc::clone(&this.permits).acquire_owned().await;
            drop(waits);
            // A thread that hangs keeps its permit: so many may hang, and no more.
            runtime
                .spawn_blocking(move || {
                    let _permit = permit;
                    work()
                })
                .await
        })
    }

    /// Probes every domain controller and tells the library who lives.
    async fn probe_all(&self) {
        if self.config.kdcs.is_empty() {
            return;
        }
        let probes = self.config.kdcs.iter().map(kdc::probe);
        let found = futures_util::future::join_all(probes).await;
        let pairs = self.config.kdcs.iter().zip(&found);
        let furthest = found.iter().filter_map(|found| found.as_ref().ok()?.ahead);
        let furthest = furthest.max_by_key(|ahead| ahead.unsigned_abs());
        self.ahead.store(furthest.unwrap_or(0), Ordering::Relaxed);
        for (kdc, found) in pairs.clone() {
            if let Ok(Alive { ahead: Some(ahead) }) = found
                && ahead.unsigned_abs() > MAX_SKEW
            {
                tracing::error!(
                    kdc = kdc.host,
                    seconds = ahead,
                    "the domain controller's clock is {ahead} seconds ahead: Kerberos allows {MAX_SKEW}"
                );
            }
        }
        let live: Vec<Kdc> = pairs
            .filter(|(_, found)| found.is_ok())
            .map(|(kdc, _)| kdc.clone())
            .collect();
        let mut known = self.live.lock();
        let before = known.as_ref().unwrap_or(&self.config.kdcs);
        if *before == live {
            return;
        }
        for (kdc, found) in self.config.kdcs.iter().zip(&found) {
            let lived = before.contains(kdc);
            match found {
                Ok(_) if !lived => tracing::info!(kdc = kdc.host, "the domain controller answers"),
                Err(why) if lived => {
                    tracing::warn!(
                        kdc = kdc.host,
                        "the domain controller does not answer: {why}"
                    );
                }
                _ => {}
            }
        }
        // Where nobody lives, all are named: one of them may come back first.
        let named: Vec<&Kdc> = if live.is_empty() {
            self.config.kdcs.iter().collect()
        } else {
            live.iter().collect()
        };
        write_configuration(&self.folder, &self.config, &named);
        *known = Some(live);
    }
}

type Done<T> = Result<Result<T, Refusal>, JoinError>;

fn finished<T>(done: Done<T>) -> Result<T, Refusal> {
    done.unwrap_or_else(|_| Err(Refusal::busy()))
}

/// One who waits for a thread.
struct Waits(Arc<Delegation>);

impl Waits {
    fn new(delegation: Arc<Delegation>) -> Self {
        delegation.waiting.fetch_add(1, Ordering::Relaxed);
        Self(delegation)
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn negotiate(message: &[u8]) -> Option<HeaderValue> {
    let mut value =
        HeaderValue::from_str(&format!("Negotiate {}", BASE64_STANDARD.encode(message))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn folder(config: &Config) -> PathBuf {
    config.data_dir.join("kerberos")
}

fn write_configuration(folder: &Path, config: &config::Kerberos, kdcs: &[&Kdc]) {
    let realms: Vec<String> = config.realms().map(str::to_owned).collect();
    let text = kdc::library_configuration(&realms, kdcs, folder);
    let written = std::fs::create_dir_all(folder).and_then(|()| {
        let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
        std::io::Write::write_all(&mut temporary, text.as_bytes())?;
        let file = folder.join("krb5.conf");
        temporary.persist(file).map_err(|error| error.error)
    });
    if let Err(error) = written {
        tracing::error!(folder = %folder.display(), error = %error, "the Kerberos library can't be configured");
    }
}

/// Tells the Kerberos library where its configuration is. Call it while the process has one
/// thread. Always: a reload may switch Kerberos on.
pub fn prepare_process(config: &Config) {
    let folder = folder(config);
    let kdcs: Vec<&Kdc> = config.kerberos.kdcs.iter().collect();
    if config.needs_kerberos() {
        write_configuration(&folder, &config.kerberos, &kdcs);
    }
    tickets::use_configuration(&folder.join("krb5.conf"));
}

/// Keeps an eye on the domain controllers, for ever.
pub(crate) async fn tend(shared: Arc<Shared>) {
    let mut known: Option<Arc<Delegation>> = None;
    loop {
        let delegation = shared.snapshot().delegation.clone();
        if let Some(delegation) = &delegation {
            let same = known
                .as_ref()
                .is_some_and(|known| Arc::ptr_eq(known, delegation));
            if !same {
                let kdcs: Vec<&Kdc> = delegation.config.kdcs.iter().collect();
                write_configuration(&delegation.folder, &delegation.config, &kdcs);
            }
            delegation.probe_all().await;
        }
        known = delegation;
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_another_domain_is_nobody_of_ours() {
        let config = |user_name| config::Kerberos {
            principals: ["HTTP/gw@CORP.EXAMPLE", "HTTP/gw@LAB.EXAMPLE"]
                .map(str::to_owned)
                .to_vec(),
            keytab: None,
            kdcs: Vec::new(),
            user_name,
            accept: false,
            channel_binding: true,
            cache: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            threads: 1,
        };
        let principal = config(KerberosName::Principal);
        let enterprise = config(KerberosName::Enterprise);
        for (given, as_principal) in [
            ("alice", "alice@CORP.EXAMPLE"),
            ("alice@lab.example", "alice@LAB.EXAMPLE"),
        ] {
            let found = user_name(&principal, given).ok().map(|(_, name)| name);
            assert_eq!(found, Some(UserName::Principal(as_principal.into())));
            let found = user_name(&enterprise, given).ok().map(|(_, name)| name);
            assert_eq!(found, Some(UserName::Enterprise(given.into())));
        }
        for config in [&principal, &enterprise] {
            for given in ["OTHER\\alice", "\\alice", "OTHER\\alice@corp.example"] {
                let refused = user_name(config, given).err();
                let refused = refused.map(|refusal| (refusal.reason, refusal.of_user));
                assert_eq!(refused, Some(("kerberos_user_realm", true)), "{given}");
            }
        }
    }

    /// Threads that hang are so many and no more, and so are those who wait for one of them.
    #[tokio::test]
    async fn blocking_work_is_bounded_and_so_is_its_queue() {
        const THREADS: usize = 2;
        let text = format!(
            "kerberos.accept=true\nkerberos.principals=svc@CORP.EXAMPLE\n\
             kerberos.keytab.path=svc.keytab\nkerberos.threads={THREADS}\n"
        );
        let nothing = std::iter::empty();
        let folder = Path::new("/etc/seg");
        let (loaded, _) = config::from_text(&text, None, folder, nothing);
        let delegation = Delegation::new(&loaded.config, None).expect("asked for");
        let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let ends = Arc::new(Mutex::new(ends));
        let runtime = Handle::current();
        let hangs = || {
            let (started, ends) = (started.clone(), Arc::clone(&ends));
            delegation.submit(&runtime, move || {
                let _ = started.send(());
                let _ = ends.lock().recv();
            })
        };
        let mut all: Vec<_> = (0..MAX_WAITING)
            .map(|_| tokio::spawn(hangs().expect("room to wait")))
            .collect();
        let refused = hangs().err().map(|refusal| refusal.reason);
        assert_eq!(refused, Some(Refusal::busy().reason));
        for _ in 0..THREADS {
            starts.recv().await.expect("work begins");
        }
        // Two have a thread and wait no more: there is room for two others, and no thread.
        all.extend((0..THREADS).map(|_| tokio::spawn(hangs().expect("room to wait"))));
        tokio::task::yield_now().await;
        assert!(hangs().is_err(), "no more than {MAX_WAITING} wait");
        assert!(starts.try_recv().is_err(), "no more than {THREADS} run");
        drop(end);
        for work in all {
            work.await.expect("joined").expect("done");
        }
    }
}
