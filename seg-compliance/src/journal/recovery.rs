//! Opening a store that may be damaged: a ladder of five rungs, each reported.
//!
//! 1. open it as it is; a batch that can't be read is put aside, its hole is filled from the newest
//!    good export where that knows it ([`mend`]), and the rest is used;
//! 2. put sled's snapshots (`snap.*`) aside and open it again: sled rebuilds them from its log;
//! 3. put the whole store aside and rebuild it from the newest good export, unless what could be
//!    read of the log is newer;
//! 4. go on with what could be read of the log;
//! 5. start empty.
//!
//! A log that opens but ends before the newest acknowledged revision is damaged too.
//!
//! After a loss the store is [`State::Unsynced`]: what is missing is judged as unknown until the
//! sources have reported again. Nothing is ever deleted; `quarantine/` keeps what was put aside. An
//! error that is no damage (no permission, no space, another gateway) climbs nothing: it is
//! returned.

use std::fs::{self, File, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::mend::{Filled, Hole};
use super::sled_store::SledStore;
use super::{Batch, Sequenced, Store, StoreError, export, frame, mend};
use crate::intern::Interner;

const STORE: &str = "journal";
const EXPORTS: &str = "exports";
const QUARANTINE: &str = "quarantine";
const LOCK: &str = "lock";
const MARK: &str = "mark";

/// How an engine came up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Whether everything that was acknowledged is there.
    pub state: State,
    /// What had to be done, in order; empty: nothing.
    pub steps: Vec<String>,
    /// Batches that could not be read and were put aside.
    pub damaged_batches: u64,
    /// Changes read.
    pub changes: u64,
    /// The newest revision.
    pub revision: u64,
}

/// Whether everything that was acknowledged is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is.
    Synced,
    /// Something was lost: the sources must report again.
    Unsynced,
}

/// What a log is read into.
pub(crate) trait Load {
    fn interner(&self) -> &Interner;
    fn load(&self, change: &Sequenced);
}

/// An opened store and what it held.
pub(crate) struct Opened<T> {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) state: T,
    pub(crate) recovery: Recovery,
    pub(crate) exports: PathBuf,
    pub(crate) mark: Mark,
    /// Held as long as the store is open.
    pub(crate) lock: File,
}

/// Opens the store in `folder` and reads it into what `fresh` makes, climbing the ladder. A rung
/// that failed leaves nothing behind: the next one starts with a fresh state.
pub(crate) fn open<T: Load>(
    folder: &Path,
    now: Timestamp,
    fresh: &dyn Fn() -> T,
) -> Result<Opened<T>, StoreError> {
    fs::create_dir_all(folder).map_err(|error| StoreError::file(folder, &error))?;
    let lock = lock(&folder.join(LOCK))?;
    let mut ladder = Ladder {
        folder,
        now,
        steps: Vec::new(),
    };
    let exports = folder.join(EXPORTS);
    let acknowledged = Mark::read(&folder.join(MARK));
    let mark = Mark::open(&folder.join(MARK))?;
    let finished = |loaded: Loaded<T>, ladder: Ladder<'_>, lossless: bool| {
        let lossless = lossless && loaded.lossless;
        Opened {
            store: loaded.store,
            state: loaded.state,
            recovery: Recovery {
                state: if lossless {
                    State::Synced
                } else {
                    State::Unsynced
                },
                steps: ladder.steps,
                damaged_batches: loaded.damaged,
                changes: loaded.changes,
                // No revision is given out twice, be the change lost or not.
                revision: loaded.revision.max(acknowledged),
            },
            mark,
            exports: folder.join(EXPORTS),
            lock,
        }
    };

    let mut short = match ladder.attempt(fresh) {
        Ok(loaded) if loaded.revision >= acknowledged => {
            return Ok(finished(loaded, ladder, true));
        }
        Ok(loaded) => ladder.short(&loaded, acknowledged),
        Err(error) => ladder.damaged("the store can't be opened", error)?,
    };
    if ladder.put_snapshots_aside()? > 0 {
        short = match ladder.attempt(fresh) {
            Ok(loaded) if loaded.revision >= acknowledged => {
                return Ok(finished(loaded, ladder, true));
            }
            Ok(loaded) => ladder.short(&loaded, acknowledged),
            Err(error) => ladder.damaged("it can't be opened without its snapshots", error)?,
        };
    }
    for path in export::newest_first(&exports) {
        match export::read(&path) {
            // What is left of the log is newer.
            Ok((revision, _)) if short.is_some_and(|held| held >= revision) => break,
            Ok((revision, batches)) => {
                ladder.put_store_aside()?;
                ladder.step(format!(
                    "rebuilt from {} (revision {revision}); later changes are lost",
                    path.display()
                ));
                let loaded = ladder.rebuild(&batches, fresh)?;
                return Ok(finished(loaded, ladder, false));
            }
            Err(why) => ladder.step(format!("{} is no good export: {why}", path.display())),
        }
    }
    if short.is_some_and(|held| held > 0) {
        ladder.step("no newer export: going on with what is left of the log".to_owned());
        let loaded = ladder.attempt(fresh)?;
        return Ok(finished(loaded, ladder, false));
    }
    ladder.put_store_aside()?;
    ladder.step("no good export: starting empty; the sources must report again".to_owned());
    let loaded = ladder.rebuild(&[], fresh)?;
    Ok(finished(loaded, ladder, false))
}

/// The newest acknowledged revision, in a file of its own: sled 0.34 opens some ruined logs as
/// empty ones without a word. Written after each flush, so that it is never ahead of the log; it
/// survives a killed process, and a power cut may leave it behind, which only makes it less sharp.
pub(crate) struct Mark(File);

impl Mark {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(path)
            .map(Self)
            .map_err(|error| StoreError::file(path, &error))
    }

    pub(super) fn write(&mut self, revision: u64) -> std::io::Result<()> {
        let revision = revision.to_le_bytes();
        let mut bytes = [0; 12];
        let (number, sum) = bytes.split_at_mut(revision.len());
        number.copy_from_slice(&revision);
        sum.copy_from_slice(&crc32c::crc32c(&revision).to_le_bytes());
        self.0.seek(SeekFrom::Start(0))?;
        self.0.write_all(&bytes)
    }

    /// 0 where there is none, or none that can be read.
    fn read(path: &Path) -> u64 {
        let bytes = fs::read(path).unwrap_or_default();
        let read = || {
            let (number, sum) = bytes.split_first_chunk::<8>()?;
            let fits = sum == crc32c::crc32c(number).to_le_bytes();
            fits.then(|| u64::from_le_bytes(*number))
        };
        read().unwrap_or(0)
    }
}

struct Loaded<T> {
    store: Arc<dyn Store>,
    state: T,
    damaged: u64,
    /// What was damaged has been filled in without a loss.
    lossless: bool,
    changes: u64,
    revision: u64,
}

struct Ladder<'f> {
    folder: &'f Path,
    now: Timestamp,
    steps: Vec<String>,
}

impl Ladder<'_> {
    fn step(&mut self, what: String) {
        tracing::error!(target: "seg::store", step = %what, "store recovery");
        self.steps.push(what);
    }

    /// A log that ends too early: where it ends.
    fn short<T>(&mut self, loaded: &Loaded<T>, acknowledged: u64) -> Option<u64> {
        let held = loaded.revision;
        self.step(format!(
            "the log ends at revision {held}, {acknowledged} was acknowledged"
        ));
        Some(held)
    }

    /// Damage is a reason to climb; anything else ends the ladder.
    fn damaged(&mut self, what: &str, error: StoreError) -> Result<Option<u64>, StoreError> {
        match error {
            StoreError::Damaged(why) => {
                self.step(format!("{what}: {why}"));
                Ok(None)
            }
            other => Err(other),
        }
    }

    /// sled 0.34 panics on some damage; a panic of its own is damage like any other.
    fn attempt<T: Load>(&mut self, fresh: &dyn Fn() -> T) -> Result<Loaded<T>, StoreError> {
        let folder = self.folder.join(STORE);
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let store: Arc<dyn Store> = Arc::new(SledStore::open(&folder)?);
            load(store, fresh)
        }))
        .unwrap_or_else(|panic| {
            let why = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no reason given");
            Err(StoreError::Damaged(format!("sled gave up: {why}")))
        });
        let (loaded, unreadable) = opened?;
        if unreadable.is_empty() {
            return Ok(loaded);
        }
        for (hole, bytes, why) in &unreadable {
            let batch = hole.last;
            self.step(format!(
                "batch {batch} can't be read and is put aside: {why}"
            ));
            let path = self.quarantine()?.join(format!("batch-{batch:020}"));
            fs::write(&path, bytes).map_err(|error| StoreError::file(&path, &error))?;
        }
        let holes: Vec<Hole> = unreadable.iter().map(|(hole, ..)| *hole).collect();
        let filled = self.fill(&*loaded.store, &holes)?;
        loaded.store.append(&filled.batches)?;
        let (mut loaded, _) = load(loaded.store, fresh)?;
        loaded.damaged = holes.len() as u64;
        loaded.lossless = filled.lossless;
        Ok(loaded)
    }

    /// What takes the place of damaged batches.
    fn fill(&mut self, store: &dyn Store, holes: &[Hole]) -> Result<Filled, StoreError> {
        for path in export::newest_first(&self.folder.join(EXPORTS)) {
            let (revision, batches) = match export::read(&path) {
                Ok(read) => read,
                Err(why) => {
                    self.step(format!("{} is no good export: {why}", path.display()));
                    continue;
                }
            };
            let Some(filled) = mend::fill(store, holes, revision, &batches)? else {
                break;
            };
            self.step(format!(
                "{} changes filled in from {} (revision {revision}); {}",
                filled.changes,
                path.display(),
                if filled.lossless {
                    "nothing is lost"
                } else {
                    "later changes are lost"
                }
            ));
            return Ok(filled);
        }
        self.step("no export knows what they held".to_owned());
        mend::empty(holes)
    }

    fn put_snapshots_aside(&mut self) -> Result<usize, StoreError> {
        let folder = self.folder.join(STORE);
        let mut count = 0;
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with("snap.") {
                let to = self.quarantine()?.join(&name);
                fs::rename(entry.path(), &to).map_err(|error| StoreError::file(&to, &error))?;
                count += 1;
            }
        }
        if count > 0 {
            self.step(format!("{count} snapshots put aside, opening without them"));
        }
        Ok(count)
    }

    fn put_store_aside(&mut self) -> Result<(), StoreError> {
        let from = self.folder.join(STORE);
        let to = self.quarantine()?.join(STORE);
        fs::rename(&from, &to).map_err(|error| StoreError::file(&from, &error))?;
        self.step(format!("the store put aside as {}", to.display()));
        Ok(())
    }

    /// A new store of `batches`. Its revisions go on from the clock, so that none is given out
    /// twice, and whoever reads the feed from before is told that it is gone.
    fn rebuild<T: Load>(
        &mut self,
        batches: &[Batch],
        fresh: &dyn Fn() -> T,
    ) -> Result<Loaded<T>, StoreError> {
        let store: Arc<dyn Store> = Arc::new(SledStore::open(&self.folder.join(STORE))?);
        store.stage(true, batches)?;
        let past = batches.iter().map(|(last, _)| *last).max().unwrap_or(0);
        let clock = u64::try_from(self.now.as_millisecond()).unwrap_or(0);
        store.switch(past.max(clock))?;
        Ok(load(store, fresh)?.0)
    }

    /// A folder of this start.
    fn quarantine(&self) -> Result<PathBuf, StoreError> {
        let path = self
            .folder
            .join(QUARANTINE)
            .join(self.now.as_millisecond().to_string());
        fs::create_dir_all(&path).map_err(|error| StoreError::file(&path, &error))?;
        Ok(path)
    }
}

/// Each with its bytes, and why they are none.
type Unreadable = Vec<(Hole, Vec<u8>, String)>;

/// One ordered scan; the last change of a thing wins.
fn load<T: Load>(
    store: Arc<dyn Store>,
    fresh: &dyn Fn() -> T,
) -> Result<(Loaded<T>, Unreadable), StoreError> {
    let state = fresh();
    let (mut changes, mut revision) = (0, store.floor());
    let mut unreadable = Vec::new();
    let mut after = 0;
    store.scan(0, &mut |last, bytes| {
        revision = revision.max(last);
        match read(bytes, state.interner()) {
            Ok(batch) => {
                changes += batch.len() as u64;
                batch.iter().for_each(|change| state.load(change));
            }
            Err(error) => {
                let hole = Hole { after, last };
                unreadable.push((hole, bytes.to_vec(), error.to_string()));
            }
        }
        after = last;
        ControlFlow::Continue(())
    })?;
    Ok((
        Loaded {
            store,
            state,
            damaged: 0,
            lossless: true,
            changes,
            revision,
        },
        unreadable,
    ))
}

/// The changes of a batch: all of them, or an error.
pub(crate) fn read(bytes: &[u8], interner: &Interner) -> Result<Vec<Sequenced>, frame::FrameError> {
    let raw = frame::open(bytes)?;
    let mut batch = Vec::new();
    frame::each(&raw, |change| {
        batch.push(change.decode(interner)?);
        Ok(())
    })?;
    Ok(batch)
}

/// One gateway a folder. The lock goes with the process, so that none is left behind.
fn lock(path: &Path) -> Result<File, StoreError> {
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(path)
        .map_err(|error| StoreError::file(path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked {
            path: path.display().to_string(),
        }),
        Err(TryLockError::Error(error)) => Err(StoreError::file(path, &error)),
    }
}
