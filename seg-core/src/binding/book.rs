//! What is known of each device: whom it is bound to, and what speaks against it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::RandomState;
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use seg_compliance::{DeviceKey, Protocol, UserKey, api};
use serde::{Deserialize, Serialize};

use super::client::{Hello, family};
use super::hexadecimal;
use super::places::{Places, network};
use super::{BindingRules, Seen, Suspicion};
use crate::config::BindingPart;
use crate::config::binding_table::Bound as Row;
use crate::identify::{ClientCertificate, Term};
use crate::line_file::{self, LineFile};

/// The book on disk.
const LINES: line_file::Kind = line_file::Kind {
    name: "bindings",
    waiting: 65_536,
    longest: 16 * 1024,
};
const SHARDS: usize = 64;
/// Devices that are bound at most; beyond, first uses bind nothing.
const KEPT: usize = 4_000_000;
/// Devices that one user's first uses bind at most: nobody fills the book alone.
const OF_ONE_USER: u32 = 64;

/// Whose a device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Bound {
    user: UserKey,
    since: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<Shown>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    eas: Option<Client>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ews: Option<Client>,
}

/// A certificate that was shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Shown {
    #[serde(with = "hexadecimal")]
    sha256: [u8; 32],
    #[serde(flatten)]
    term: Term,
}

/// A mail client, without its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Client {
    agent: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hello: Option<Hello>,
}

/// The last that was seen against a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Accused {
    reason: Suspicion,
    user: UserKey,
    network: IpAddr,
    agent: Box<str>,
    first: Timestamp,
    last: Timestamp,
    count: u64,
}

/// All that is known of one device.
#[derive(Debug, Default)]
struct Entry {
    bound: Option<Bound>,
    accused: Option<Box<Accused>>,
    places: Option<Box<Places>>,
}

/// A line of the journal: the state of one device, whole.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    device: DeviceKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bound: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accused: Option<Box<Accused>>,
}

type Shard = HashMap<DeviceKey, Entry, RandomState>;

/// The book of all devices. Read and written on the path of a request, kept on disk by a thread of
/// its own.
#[derive(Debug)]
pub struct Bindings {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    /// How many devices first uses have bound to one user.
    of_user: Mutex<HashMap<UserKey, u32>>,
    bound: AtomicUsize,
    journal: RwLock<Option<LineFile>>,
}

/// The book can't be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}; whose devices are can't be kept without it", path.display())]
pub struct OpenError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

impl Default for Bindings {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            of_user: Mutex::default(),
            bound: AtomicUsize::new(0),
            journal: RwLock::default(),
        }
    }
}

impl Bindings {
    /// Reads the book of a data folder, once; called wherever `binding.mode` is on.
    ///
    /// # Errors
    /// Its file can't be read or written. Nobody is trusted anew because of that.
    pub fn open(&self, folder: &Path) -> Result<(), OpenError> {
        let mut held = self.journal.write();
        if held.is_some() {
            return Ok(());
        }
        let path = folder.join("bindings.ndjson");
        let failed = |source| OpenError {
            path: path.clone(),
            source,
        };
        let read = line_file::read(&path, LINES, |line: Line| {
            let entry = Entry {
                bound: line.bound,
                accused: line.accused,
                places: None,
            };
            self.put(line.device, entry);
        })
        .map_err(failed)?;
        if read.damaged > 0 {
            tracing::error!(
                file = %path.display(),
                lines = read.damaged,
                "lines of the bindings are damaged: their devices are bound anew by their next use"
            );
        }
        let live = self.shards.iter().map(|shard| shard.lock().len()).sum();
        if read.is_worth_rewriting(live) {
            let lines = self.shards.iter().flat_map(|shard| {
                let shard = shard.lock();
                let lines = shard
                    .iter()
                    .map(|(device, entry)| line_file::encode(&line(device, entry)));
                lines.collect::<Vec<_>>()
            });
            line_file::rewrite(&path, lines).map_err(failed)?;
        }
        *held = Some(LineFile::start(&path, LINES).map_err(failed)?);
        Ok(())
    }

    fn put(&self, device: DeviceKey, entry: Entry) {
        let mut shard = self.shard(&device).lock();
        let is_empty = entry.bound.is_none() && entry.accused.is_none();
        let user = entry.bound.as_ref().map(|bound| bound.user.clone());
        let before = if is_empty {
            shard.remove(&device)
        } else {
            shard.insert(device, entry)
        };
        self.counted(before.and_then(|entry| entry.bound).map(|b| b.user), user);
    }

    /// Whether a request may come from a copy of its device. Locks one shard, allocates nothing.
    pub fn suspect(&self, rules: &BindingRules, seen: &Seen<'_>) -> Option<Suspicion> {
        let shard = self.shard(seen.device).lock();
        suspicion(rules, shard.get(seen.device), seen)
    }

    /// A request with proven credentials was answered: a device without an owner is bound to it;
    /// what does not fit is remembered. Answers what is to be told, if something is.
    pub fn witness(&self, rules: &BindingRules, seen: &Seen<'_>) -> Option<Suspicion> {
        let mut shard = self.shard(seen.device).lock();
        let found = suspicion(rules, shard.get(seen.device), seen);
        if found == Some(Suspicion::Unbound) {
            // The table does not name it, nor need we: anybody can make up more of those.
            return found;
        }
        let device = seen.device;
        let known = shard.get(device);
        let binds = rules.learns()
            && rules.table.row(device).is_none()
            && (known.is_some_and(|entry| entry.bound.is_some())
                || self.has_room(seen.user, seen.owner));
        let compares_places = rules.config.compares(BindingPart::Places);
        if known.is_none() && !binds && found.is_none() && !compares_places {
            return None;
        }
        let entry = match shard.get_mut(device) {
            Some(entry) => entry,
            None => shard.entry(device.clone()).or_default(),
        };
        let mut found = found;
        let mut written = false;
        if found.is_none() {
            if compares_places && entry.moves(rules, seen) {
                found = Some(Suspicion::TwoPlaces);
            } else if binds {
                let before = entry.bound.as_ref().map(|bound| bound.user.clone());
                written = entry.bind(seen);
                let now = entry.bound.as_ref().map(|bound| bound.user.clone());
                self.counted(before, now);
            }
        }
        let told = found.filter(|reason| entry.accuse(*reason, seen));
        if written || told.is_some() {
            self.keep(device, entry);
        }
        told
    }

    /// Forgets whom a device is bound to, and what speaks against it; the next use binds it anew.
    /// `false`: nothing was known.
    pub fn forget(&self, device: &DeviceKey) -> bool {
        let Some(entry) = self.shard(device).lock().remove(device) else {
            return false;
        };
        self.counted(entry.bound.map(|bound| bound.user), None);
        self.keep(device, &Entry::default());
        true
    }

    /// What the admin API tells of a device.
    pub fn view(&self, rules: &BindingRules, device: &DeviceKey) -> Option<api::Binding> {
        let shard = self.shard(device).lock();
        let entry = shard.get(device);
        let row = rules.table.row(device);
        if entry.is_none() && row.is_none() {
            return None;
        }
        let bound = entry.and_then(|entry| entry.bound.as_ref());
        let client = |of: Option<&Client>| of.map(|client| client.agent.to_string());
        let mut view = api::Binding {
            user: bound.map(|bound| bound.user.clone()),
            certificate: bound
                .and_then(|bound| bound.certificate.as_ref())
                .map(|shown| hexadecimal::text(&shown.sha256)),
            eas_agent: client(bound.and_then(|bound| bound.eas.as_ref())),
            ews_agent: client(bound.and_then(|bound| bound.ews.as_ref())),
            since: bound.map(|bound| bound.since),
            configured: row.is_some(),
            suspect: entry
                .and_then(|entry| entry.accused.as_deref())
                .map(|accused| api::Suspect {
                    reason: accused.reason.word().to_owned(),
                    user: accused.user.clone(),
                    network: accused.network.to_string(),
                    agent: accused.agent.to_string(),
                    first: accused.first,
                    last: accused.last,
                    count: accused.count,
                    stands: accused.reason == Suspicion::TwoPlaces
                        && rules.config.compares(BindingPart::Places),
                }),
        };
        if let Some(row) = row {
            view.user = row.user.clone().or(view.user);
            view.certificate = row
                .certificate
                .as_deref()
                .map(str::to_owned)
                .or(view.certificate);
        }
        Some(view)
    }

    fn shard(&self, device: &DeviceKey) -> &Mutex<Shard> {
        let at = self.hasher.hash_one(device) as usize % SHARDS;
        // There are SHARDS of them, made at the start.
        #[allow(clippy::indexing_slicing)]
        &self.shards[at]
    }

    /// Whether a first use may bind another device. One that the record gives to this user anyway
    /// needs no room of his.
    fn has_room(&self, user: &UserKey, owner: Option<&UserKey>) -> bool {
        self.bound.load(Ordering::Relaxed) < KEPT
            && (owner == Some(user)
                || self.of_user.lock().get(user).copied().unwrap_or(0) < OF_ONE_USER)
    }

    fn counted(&self, before: Option<UserKey>, now: Option<UserKey>) {
        if before == now {
            return;
        }
        let mut of_user = self.of_user.lock();
        if let Some(before) = before {
            self.bound.fetch_sub(1, Ordering::Relaxed);
            if let Some(count) = of_user.get_mut(&before) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    of_user.remove(&before);
                }
            }
        }
        if let Some(now) = now {
            self.bound.fetch_add(1, Ordering::Relaxed);
            *of_user.entry(now).or_default() += 1;
        }
    }

    fn keep(&self, device: &DeviceKey, entry: &Entry) {
        if let Some(journal) = &*self.journal.read() {
            journal.write(&line(device, entry));
        }
    }
}

fn line(device: &DeviceKey, entry: &Entry) -> impl Serialize {
    Line {
        device: device.clone(),
        bound: entry.bound.clone(),
        accused: entry.accused.clone(),
    }
}

/// What does not fit, the gravest first.
fn suspicion(rules: &BindingRules, entry: Option<&Entry>, seen: &Seen<'_>) -> Option<Suspicion> {
    let config = &rules.config;
    let standing = || {
        let accused = entry.and_then(|entry| entry.accused.as_deref())?;
        let stands = accused.reason == Suspicion::TwoPlaces && config.compares(BindingPart::Places);
        stands.then_some(Suspicion::TwoPlaces)
    };
    if config.compares(BindingPart::User) && seen.owner.is_some_and(|owner| owner != seen.user) {
        return Some(Suspicion::AnotherUser);
    }
    if let Some(row) = rules.table.row(seen.device) {
        return against_row(rules, row, seen).or_else(standing);
    }
    if !rules.learns() {
        return Some(Suspicion::Unbound);
    }
    let Some(bound) = entry.and_then(|entry| entry.bound.as_ref()) else {
        return standing();
    };
    if bound.user != *seen.user {
        if seen.owner == Some(seen.user) {
            // The record gives the device to this user: whoever came first was not he.
            return None;
        }
        if config.compares(BindingPart::User) {
            return Some(Suspicion::AnotherUser);
        }
    }
    if config.compares(BindingPart::Certificate)
        && seen.is_real
        && let Some(shown) = &bound.certificate
    {
        match seen.certificate {
            None => return Some(Suspicion::NoCertificate),
            Some(certificate)
                if certificate.fingerprint != shown.sha256
                    && !shown.is_followed_by(certificate, seen.now, config.renewal) =>
            {
                return Some(Suspicion::AnotherCertificate);
            }
            Some(_) => {}
        }
    }
    if let Some(client) = bound.client(seen.protocol) {
        if config.compares(BindingPart::Agent)
            && (seen.is_real || !seen.agent.is_empty())
            && *client.agent != *family(seen.agent, seen.device_type)
        {
            return Some(Suspicion::AnotherAgent);
        }
        if config.compares(BindingPart::Tls)
            && let (Some(known), Some(offered)) = (client.hello, seen.hello)
            && known != offered
        {
            return Some(Suspicion::AnotherTls);
        }
    }
    standing()
}

fn against_row(rules: &BindingRules, row: &Row, seen: &Seen<'_>) -> Option<Suspicion> {
    let config = &rules.config;
    if config.compares(BindingPart::User) && row.user.as_ref().is_some_and(|user| user != seen.user)
    {
        return Some(Suspicion::AnotherUser);
    }
    if config.compares(BindingPart::Certificate)
        && seen.is_real
        && let Some(wanted) = row.certificate.as_deref()
    {
        let Some(certificate) = seen.certificate else {
            return Some(Suspicion::NoCertificate);
        };
        if hexadecimal::text(&certificate.fingerprint) != wanted {
            return Some(Suspicion::AnotherCertificate);
        }
    }
    let agent_fits = !config.compares(BindingPart::Agent)
        || !seen.is_real && seen.agent.is_empty()
        || row.takes_agent(seen.agent);
    (!agent_fits).then_some(Suspicion::AnotherAgent)
}

impl Shown {
    fn of(certificate: &ClientCertificate) -> Option<Self> {
        Some(Self {
            sha256: certificate.fingerprint,
            term: certificate.term()?,
        })
    }

    /// Whether another certificate is this one's renewal: of the same CA, younger, and at a time
    /// when this one is near its end or past it. Any other may be a copy's.
    fn is_followed_by(
        &self,
        certificate: &ClientCertificate,
        now: Timestamp,
        renewal: std::time::Duration,
    ) -> bool {
        let renewal = i64::try_from(renewal.as_secs()).unwrap_or(i64::MAX);
        now.as_second() >= self.term.until.saturating_sub(renewal)
            && certificate
                .term()
                .is_some_and(|term| term.issuer == self.term.issuer && term.from > self.term.from)
    }
}

impl Bound {
    fn client(&self, protocol: Protocol) -> Option<&Client> {
        match protocol {
            Protocol::Eas => self.eas.as_ref(),
            Protocol::Ews => self.ews.as_ref(),
        }
    }
}

impl Entry {
    /// Binds what is not bound yet. `true`: something was new.
    fn bind(&mut self, seen: &Seen<'_>) -> bool {
        let mut is_new = false;
        if self
            .bound
            .as_ref()
            .is_none_or(|bound| bound.user != *seen.user)
        {
            // A device of somebody else's gets here only where its record says that he was wrong.
            self.accused = None;
            self.bound = Some(Bound {
                user: seen.user.clone(),
                since: seen.now,
                certificate: None,
                eas: None,
                ews: None,
            });
            is_new = true;
        }
        let Some(bound) = &mut self.bound else {
            return is_new;
        };
        let shown = bound.certificate.as_ref().map(|shown| shown.sha256);
        if let Some(certificate) = seen.certificate
            && shown != Some(certificate.fingerprint)
            && let Some(fresh) = Shown::of(certificate)
        {
            // The first one, or a renewal: everything else was refused above.
            bound.certificate = Some(fresh);
            is_new = true;
        }
        let client = match seen.protocol {
            Protocol::Eas => &mut bound.eas,
            Protocol::Ews => &mut bound.ews,
        };
        match client {
            Some(client) => {
                if client.hello.is_none() && seen.hello.is_some() {
                    client.hello = seen.hello;
                    is_new = true;
                }
            }
            None if seen.agent.is_empty() => {}
            None => {
                *client = Some(Client {
                    agent: family(seen.agent, seen.device_type),
                    hello: seen.hello,
                });
                is_new = true;
            }
        }
        is_new
    }

    fn moves(&mut self, rules: &BindingRules, seen: &Seen<'_>) -> bool {
        let config = &rules.config;
        let places = self.places.get_or_insert_default();
        places.come(
            seen.address,
            seen.now,
            config.place_changes,
            config.place_window,
        )
    }

    /// Notes what speaks against the device. `true`: it is to be told and kept; the same again is,
    /// the rarer the more often it was.
    fn accuse(&mut self, reason: Suspicion, seen: &Seen<'_>) -> bool {
        let (_, network) = network(seen.address);
        match &mut self.accused {
            Some(accused)
                if accused.reason == Suspicion::TwoPlaces && reason != Suspicion::TwoPlaces =>
            {
                // It stands until somebody has looked at it.
                accused.last = seen.now;
                false
            }
            Some(accused) if accused.reason == reason && accused.user == *seen.user => {
                accused.count = accused.count.saturating_add(1);
                accused.last = seen.now;
                accused.network = network;
                accused.count.is_power_of_two()
            }
            other => {
                *other = Some(Box::new(Accused {
                    reason,
                    user: seen.user.clone(),
                    network,
                    agent: family(seen.agent, ""),
                    first: seen.now,
                    last: seen.now,
                    count: 1,
                }));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests;
