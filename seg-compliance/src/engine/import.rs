//! Imports: many records from one source, batch by batch while they arrive.
//!
//! What a line gives replaces that fact, `null` takes it back, what it does not name stays as it
//! was; so a source that knows groups and one that knows compliance don't wipe each other's facts.
//! The source that reports a device takes its record over. A **snapshot** names every device of its
//! source: a record of that same source which it does not name is removed at its end. Records of
//! other sources, made by hand, and overrides stay. A device on a bad line counts as named; where a
//! bad line does not even name a device, nothing is removed at all, for it may have been any.
//!
//! Each batch of up to 1,024 records is durable whole or not at all. An import that ends before
//! [`Import::finish`] removes nothing.
//!
//! A **supplement** tells more of devices that others report, such as the groups of their users: it
//! takes no record over, makes none and removes none.
//!
//! A snapshot or a supplement can be **guarded**: it is held until its last line, what it would
//! change is counted, and where that is more than a share of its devices (its source's and those that
//! it takes over from others, or for a supplement all that are known) nothing is applied. So half a
//! list that a system gave for a whole one blocks nobody, and neither does a source under a new name.

use std::collections::HashSet;
use std::collections::VecDeque;

use ahash::RandomState;

use super::change::Pending;
use super::plan::Planned;
use super::{Engine, Shared};
use crate::DeviceKey;
use crate::api::{ImportError, ImportResult};
use crate::intern::Symbol;
use crate::journal::{BATCH_MAX, Change, Sequenced, StoreError};
use crate::record::{Facts, Line, Said};
use crate::table::Entry;

/// Most bad lines an import reports; it counts them all.
pub const IMPORT_ERRORS_MAX: usize = 1_000;
/// The source of an import that names none.
pub const SOURCE_DEFAULT: &str = "import";
/// Batches that may wait for the journal before the import waits for them.
const WAITING_MAX: usize = 8;

/// What an import names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImportMode {
    /// Some devices.
    #[default]
    Delta,
    /// Every device of its source.
    Snapshot,
}

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Delta or snapshot.
    pub mode: ImportMode,
    /// Who reports; `None`: `import`.
    pub source: Option<String>,
    /// Nothing is applied where one line is bad. The records are held in memory until the end.
    pub strict: bool,
    /// Nothing is applied: only counted. Requests that would be cut are not.
    pub dry_run: bool,
    /// With `dry_run`: tells which verdicts would be others, at most so many of them one by one.
    pub plan: Option<usize>,
    /// A snapshot that would change the verdict of more than so many percent of its source's
    /// devices, or remove them, is refused, and so is a supplement that would of all known ones;
    /// `None`: is not.
    pub guard: Option<u8>,
    /// The source tells of single devices as they change: its other facts become no fresher.
    pub event: bool,
    /// The source tells more of devices that others report: their records stay with those others,
    /// and a device without a record stays without one.
    pub supplement: bool,
}

/// An import that was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A strict import with bad lines: nothing was applied.
    #[error("{} of {} lines are bad, nothing was applied", .0.errors.len(), .0.read)]
    BadLines(Box<ImportResult>),
    /// A guarded import would change too much: nothing was applied.
    #[error(
        "the import would change {changed} of the {devices} devices that it concerns, more than \
         {percent} percent; nothing was applied"
    )]
    TooMuch {
        /// Devices that would have another verdict, or none.
        changed: u64,
        /// Devices of the source, and those that it takes over.
        devices: u64,
        /// What is allowed.
        percent: u8,
    },
    /// The store failed. Batches before may be durable; what makes a verdict stricter is in force.
    #[error(transparent)]
    Store(#[from] StoreError),
}

type Devices<'d> = HashSet<&'d DeviceKey, RandomState>;

/// An import under way.
pub struct Import<'e> {
    engine: &'e Engine,
    source: Symbol,
    options: ImportOptions,
    /// Records that wait for their batch, or for the end where it is strict or guarded.
    held: Vec<(DeviceKey, Said)>,
    /// Devices named, where that matters.
    named: HashSet<DeviceKey, RandomState>,
    /// A bad line named no device.
    nameless: bool,
    bad: u64,
    result: ImportResult,
    plan: Option<Planned>,
    waiting: VecDeque<Pending>,
}

impl Engine {
    /// Begins an import.
    #[must_use]
    pub fn begin_import(&self, options: ImportOptions) -> Import<'_> {
        let source = options.source.as_deref().unwrap_or(SOURCE_DEFAULT);
        Import {
            engine: self,
            source: self.shared.interner.symbol(source),
            plan: options.plan.map(Planned::new),
            options,
            held: Vec::new(),
            named: HashSet::default(),
            nameless: false,
            bad: 0,
            result: ImportResult::default(),
            waiting: VecDeque::new(),
        }
    }
}

impl Import<'_> {
    /// Takes the next line. Waits where the journal does not keep up.
    ///
    /// # Errors
    /// The store failed; the import is over.
    pub async fn push(&mut self, line: Line) -> Result<(), StoreError> {
        self.result.read += 1;
        let (device, patch) = match line {
            Ok(said) => said,
            Err(bad) => {
                self.bad += 1;
                match bad.device {
                    Some(device) if self.is_snapshot() => drop(self.named.insert(device)),
                    Some(_) => {}
                    None => self.nameless = true,
                }
                if self.result.errors.len() < IMPORT_ERRORS_MAX {
                    let (line, message) = (bad.line, bad.message);
                    self.result.errors.push(ImportError { line, message });
                }
                return Ok(());
            }
        };
        if self.is_snapshot() {
            self.named.insert(device.clone());
        }
        // A strict import with a bad line applies nothing any more: there is nothing to hold.
        if self.options.strict && self.bad > 0 {
            self.held = Vec::new();
            return Ok(());
        }
        let said = Said::new(&patch, &self.engine.shared.interner);
        self.held.push((device, said));
        if !self.waits_for_the_end() && self.held.len() >= BATCH_MAX {
            self.apply_held().await?;
        }
        Ok(())
    }

    /// The end of the lines: applies what is held, removes what a snapshot no longer names, and
    /// waits until everything is durable.
    ///
    /// # Errors
    /// [`Refused`]: a strict import had bad lines, or the store failed.
    pub async fn finish(mut self) -> Result<ImportResult, Refused> {
        if self.options.strict && self.bad > 0 {
            self.result.revision = self.engine.revision();
            return Err(Refused::BadLines(Box::new(self.result)));
        }
        self.check_guard()?;
        self.apply_held().await?;
        if self.is_snapshot() && !self.nameless {
            self.remove_unnamed().await?;
        }
        // Records that were so already may be so by a change that is not durable yet.
        let last = self.engine.shared.commit_stored(|_, _| ());
        self.result.revision = self.result.revision.max(self.engine.revision());
        self.waiting.push_back(last);
        self.wait_for(0).await?;
        if !self.options.dry_run && !self.options.event {
            // What was read is the source's word: its facts are fresh.
            self.engine.source_reported(self.source.as_str()).await?;
        }
        self.result.plan = self.plan.map(Planned::done);
        Ok(self.result)
    }

    fn is_snapshot(&self) -> bool {
        self.options.mode == ImportMode::Snapshot
    }

    fn waits_for_the_end(&self) -> bool {
        self.options.strict || self.guard().is_some()
    }

    fn guard(&self) -> Option<u8> {
        let whole = self.is_snapshot() || self.options.supplement;
        let guarded = whole && !self.options.dry_run;
        self.options
            .guard
            .filter(|percent| guarded && *percent < 100)
    }

    /// Counts what a guarded import would change before it does.
    fn check_guard(&self) -> Result<(), Refused> {
        let Some(percent) = self.guard() else {
            return Ok(());
        };
        let shared = &self.engine.shared;
        let mut devices = 0_u64;
        let mut changed = 0_u64;
        shared.devices.each(|device, entry| {
            if self.concerns(entry) {
                devices += 1;
                let goes = self.is_snapshot() && !self.nameless && !self.named.contains(device);
                changed += u64::from(goes);
            }
        });
        // A device may stand on several lines.
        let (mut taken, mut judged) = (Devices::default(), Devices::default());
        for (device, said) in &self.held {
            let (known, own) = shared.devices.read(device, |entry| {
                let known = entry.filter(|entry| entry.known);
                (
                    known.is_some(),
                    known.is_some_and(|entry| self.concerns(entry)),
                )
            });
            if !known {
                continue;
            }
            if !own && taken.insert(device) {
                devices += 1;
            }
            if let Some(facts) = self.made(shared, device, said) {
                let (was, will) = shared.foresee(device, Some(&facts));
                if was.verdict != will.verdict && judged.insert(device) {
                    changed += 1;
                }
            }
        }
        if changed.saturating_mul(100) > devices.saturating_mul(percent.into()) {
            return Err(Refused::TooMuch {
                changed,
                devices,
                percent,
            });
        }
        Ok(())
    }

    /// Whether a device is one of those that this import speaks of as a whole.
    fn concerns(&self, entry: &Entry) -> bool {
        let own = entry.facts.source.as_ref() == Some(&self.source);
        entry.known && (self.options.supplement || own)
    }

    /// The record after a line; `None`: as it was.
    fn made(&self, shared: &Shared, device: &DeviceKey, said: &Said) -> Option<Facts> {
        if !self.options.supplement {
            return shared.merge(device, said, Some(&self.source));
        }
        let known = shared
            .devices
            .read(device, |entry| entry.is_some_and(|entry| entry.known));
        known.then(|| shared.merge(device, said, None))?
    }

    async fn apply_held(&mut self) -> Result<(), StoreError> {
        let held = std::mem::take(&mut self.held);
        for batch in held.chunks(BATCH_MAX) {
            if self.options.dry_run {
                self.count(batch);
            } else {
                self.apply(batch).await?;
            }
        }
        Ok(())
    }

    fn count(&mut self, batch: &[(DeviceKey, Said)]) {
        let shared = &self.engine.shared;
        for (device, said) in batch {
            match self.made(shared, device, said) {
                Some(facts) => {
                    self.result.applied += 1;
                    if let Some(plan) = &mut self.plan {
                        let user = facts.user.clone();
                        plan.note(device, user, shared.foresee(device, Some(&facts)));
                    }
                }
                None => self.result.unchanged += 1,
            }
        }
    }

    async fn apply(&mut self, batch: &[(DeviceKey, Said)]) -> Result<(), StoreError> {
        self.engine.shared.heard(&self.source);
        let mut applied = 0;
        let pending = self
            .engine
            .shared
            .commit_each(batch.iter(), |shared, (device, said)| {
                let facts = Box::new(self.made(shared, device, said)?);
                applied += 1;
                Some(Change::Record {
                    device: device.clone(),
                    facts,
                })
            });
        self.result.applied += applied;
        self.result.unchanged += batch.len() as u64 - applied;
        self.note(pending, applied).await
    }

    async fn remove_unnamed(&mut self) -> Result<(), StoreError> {
        let mut unnamed = Vec::new();
        let (source, named) = (&self.source, &self.named);
        self.engine.shared.devices.each(|device, entry| {
            let from = entry.facts.source.as_ref();
            if entry.known && from == Some(source) && !named.contains(device) {
                unnamed.push(device.clone());
            }
        });
        unnamed.sort_unstable();
        if self.options.dry_run {
            self.result.removed = unnamed.len() as u64;
            if let Some(plan) = &mut self.plan {
                for device in &unnamed {
                    let shared = &self.engine.shared;
                    let user = shared.owner(device);
                    plan.note(device, user, shared.foresee(device, None));
                }
            }
            return Ok(());
        }
        for batch in unnamed.chunks(BATCH_MAX) {
            let mut removed = 0;
            let source = &self.source;
            let pending = self
                .engine
                .shared
                .commit_each(batch.iter(), |shared, device| {
                    // Another source may have taken it over meanwhile.
                    let still = shared.devices.read(device, |entry| {
                        entry.is_some_and(|entry| {
                            entry.known && entry.facts.source.as_ref() == Some(source)
                        })
                    });
                    removed += u64::from(still);
                    still.then(|| Change::RecordRemoved {
                        device: device.clone(),
                    })
                });
            self.result.removed += removed;
            self.note(pending, removed).await?;
        }
        Ok(())
    }

    async fn note(&mut self, pending: Pending, changed: u64) -> Result<(), StoreError> {
        self.result.cut += pending.cut;
        if changed > 0 {
            self.result.revision = pending.revision;
        }
        self.waiting.push_back(pending);
        self.wait_for(WAITING_MAX).await
    }

    /// Waits until no more than `rest` batches wait for the journal.
    async fn wait_for(&mut self, rest: usize) -> Result<(), StoreError> {
        while self.waiting.len() > rest {
            if let Some(pending) = self.waiting.pop_front() {
                pending.durable().await?;
            }
        }
        Ok(())
    }
}

impl Shared {
    /// One batch: a change for each item that `make` makes one of, each made from what the ones
    /// before it left.
    fn commit_each<T>(
        &self,
        items: impl Iterator<Item = T>,
        mut make: impl FnMut(&Self, T) -> Option<Change>,
    ) -> Pending {
        self.commit_stored(|mut revision, store| {
            for item in items {
                if let Some(change) = make(self, item) {
                    store(Sequenced { revision, change });
                    revision += 1;
                }
            }
        })
    }
}
