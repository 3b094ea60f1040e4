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

use std::collections::HashSet;
use std::collections::VecDeque;

use ahash::RandomState;

use super::change::Pending;
use super::{Engine, Shared};
use crate::DeviceKey;
use crate::api::{ImportError, ImportResult};
use crate::journal::{BATCH_MAX, Change, Sequenced, StoreError};
use crate::record::{Line, Patch};

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
}

/// An import that was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A strict import with bad lines: nothing was applied.
    #[error("{} of {} lines are bad, nothing was applied", .0.errors.len(), .0.read)]
    BadLines(Box<ImportResult>),
    /// The store failed. Batches before may be durable; what makes a verdict stricter is in force.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An import under way.
pub struct Import<'e> {
    engine: &'e Engine,
    source: String,
    options: ImportOptions,
    /// Records that wait for their batch, or for the end where it is strict.
    held: Vec<(DeviceKey, Patch)>,
    /// Devices named, where that matters.
    named: HashSet<DeviceKey, RandomState>,
    /// A bad line named no device.
    nameless: bool,
    bad: u64,
    result: ImportResult,
    waiting: VecDeque<Pending>,
}

impl Engine {
    /// Begins an import.
    #[must_use]
    pub fn begin_import(&self, options: ImportOptions) -> Import<'_> {
        Import {
            engine: self,
            source: options
                .source
                .clone()
                .unwrap_or_else(|| SOURCE_DEFAULT.to_owned()),
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
        self.held.push((device, patch));
        if !self.options.strict && self.held.len() >= BATCH_MAX {
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
        self.apply_held().await?;
        if self.is_snapshot() && !self.nameless {
            self.remove_unnamed().await?;
        }
        // Records that were so already may be so by a change that is not durable yet.
        let last = self.engine.shared.commit_stored(|_, _| ());
        self.result.revision = self.result.revision.max(self.engine.revision());
        self.waiting.push_back(last);
        self.wait_for(0).await?;
        Ok(self.result)
    }

    fn is_snapshot(&self) -> bool {
        self.options.mode == ImportMode::Snapshot
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

    fn count(&mut self, batch: &[(DeviceKey, Patch)]) {
        for (device, patch) in batch {
            match self.engine.shared.merge(device, patch, Some(&self.source)) {
                Some(_) => self.result.applied += 1,
                None => self.result.unchanged += 1,
            }
        }
    }

    async fn apply(&mut self, batch: &[(DeviceKey, Patch)]) -> Result<(), StoreError> {
        let mut applied = 0;
        let pending = self
            .engine
            .shared
            .commit_each(batch.iter(), |shared, (device, patch)| {
                let facts = Box::new(shared.merge(device, patch, Some(&self.source))?);
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
        let (source, named) = (self.source.as_str(), &self.named);
        self.engine.shared.devices.each(|device, entry| {
            let from = entry.facts.source.as_ref().map(|source| source.as_str());
            if entry.known && from == Some(source) && !named.contains(device) {
                unnamed.push(device.clone());
            }
        });
        unnamed.sort_unstable();
        if self.options.dry_run {
            self.result.removed = unnamed.len() as u64;
            return Ok(());
        }
        for batch in unnamed.chunks(BATCH_MAX) {
            let mut removed = 0;
            let source = self.source.as_str();
            let pending = self
                .engine
                .shared
                .commit_each(batch.iter(), |shared, device| {
                    // Another source may have taken it over meanwhile.
                    let still = shared.devices.read(device, |entry| {
                        entry.is_some_and(|entry| {
                            let from = entry.facts.source.as_ref().map(|source| source.as_str());
                            entry.known && from == Some(source)
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
