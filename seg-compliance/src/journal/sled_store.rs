//! The log in sled 0.34: one tree of batches, and one key that says which tree.

use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::time::Duration;

use parking_lot::RwLock;

use super::durable::Durable;
use super::{Batch, Store, StoreError};

/// Pages that sled keeps: the log is read once.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// How often, and how far apart, a store that is still being let go of is tried: 5 s in all.
const LOCK_TRIES: u32 = 500;
const LOCK_WAIT: Duration = Duration::from_millis(10);
const META: &[u8] = b"meta";
const META_VERSION: u8 = 1;
const TREE: &str = "journal.";
const NOTE: &[u8] = b"note.";
const AUDIT: &str = "audit";
/// Entries that are deleted in one step.
const STRIKE: usize = 1_024;

/// Which tree is the log, and from where on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meta {
    generation: u32,
    floor: u64,
}

/// The store of a gateway.
pub(super) struct SledStore {
    db: sled::Db,
    durable: Durable,
    log: RwLock<(Meta, sled::Tree)>,
}

impl SledStore {
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        let db = open_db(folder)?;
        let meta = match db.get(META).map_err(|error| classified(&error))? {
            Some(bytes) => Meta::read(&bytes)
                .ok_or_else(|| StoreError::Damaged("the key of the log is unreadable".into()))?,
            None => {
                let meta = Meta {
                    generation: 1,
                    floor: 0,
                };
                db.insert(META, meta.write())
                    .map_err(|error| classified(&error))?;
                meta
            }
        };
        let tree = db
            .open_tree(meta.tree())
            .map_err(|error| classified(&error))?;
        // A compaction that was killed before or after its switch leaves a tree behind.
        for name in db.tree_names() {
            if name.starts_with(TREE.as_bytes()) && name != meta.tree().as_bytes() {
                db.drop_tree(&name).map_err(|error| classified(&error))?;
            }
        }
        db.flush().map_err(|error| classified(&error))?;
        Ok(Self {
            db,
            durable: Durable::open(folder)?,
            log: RwLock::new((meta, tree)),
        })
    }

    fn audit(&self) -> Result<sled::Tree, StoreError> {
        self.db.open_tree(AUDIT).map_err(|error| classified(&error))
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(|error| classified(&error))?;
        self.durable.sync()
    }
}

impl Store for SledStore {
    fn scan(
        &self,
        after: u64,
        each: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let tree = self.log.read().1.clone();
        let from = after.to_be_bytes();
        for item in tree.range::<&[u8], _>((Bound::Excluded(&from[..]), Bound::Unbounded)) {
            let (key, frame) = item.map_err(|error| classified(&error))?;
            let key = key
                .as_ref()
                .try_into()
                .map_err(|_| StoreError::Damaged("a key of the log has a wrong length".into()))?;
            if each(u64::from_be_bytes(key), &frame).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn append(&self, batches: &[Batch]) -> Result<(), StoreError> {
        apply(&self.log.read().1, batches)?;
        self.flush()
    }

    fn floor(&self) -> u64 {
        self.log.read().0.floor
    }

    fn stage(&self, first: bool, batches: &[Batch]) -> Result<(), StoreError> {
        let next = self.log.read().0.next(0);
        if first {
            self.db
                .drop_tree(next.tree())
                .map_err(|error| classified(&error))?;
        }
        let tree = self
            .db
            .open_tree(next.tree())
            .map_err(|error| classified(&error))?;
        apply(&tree, batches)
    }

    fn switch(&self, floor: u64) -> Result<(), StoreError> {
        let mut log = self.log.write();
        let next = log.0.next(floor);
        let tree = self
            .db
            .open_tree(next.tree())
            .map_err(|error| classified(&error))?;
        self.flush()?;
        // The one step: before it the old tree is the log, after it the new one.
        self.db
            .insert(META, next.write())
            .map_err(|error| classified(&error))?;
        self.flush()?;
        let old = std::mem::replace(&mut *log, (next, tree));
        drop(log);
        self.db
            .drop_tree(old.0.tree())
            .map_err(|error| classified(&error))?;
        self.flush()
    }

    fn note(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        let key = [NOTE, name.as_bytes()].concat();
        self.db
            .insert(key, value)
            .map_err(|error| classified(&error))?;
        self.flush()
    }

    fn notes(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let mut notes = Vec::new();
        for item in self.db.scan_prefix(NOTE) {
            let (key, value) = item.map_err(|error| classified(&error))?;
            let name = key.get(NOTE.len()..).unwrap_or_default();
            notes.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
        }
        Ok(notes)
    }

    fn enter(&self, entries: &[(u64, Vec<u8>)]) -> Result<(), StoreError> {
        apply(&self.audit()?, entries)?;
        self.flush()
    }

    fn entries(
        &self,
        from: u64,
        each: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        for item in self.audit()?.range(from.to_be_bytes()..) {
            let (key, entry) = item.map_err(|error| classified(&error))?;
            if each(number(&key)?, &entry).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn last_entry(&self) -> Result<u64, StoreError> {
        let last = self.audit()?.last().map_err(|error| classified(&error))?;
        last.map_or(Ok(0), |(key, _)| number(&key))
    }

    fn strike(&self, before: u64) -> Result<(), StoreError> {
        let tree = self.audit()?;
        loop {
            let mut batch = sled::Batch::default();
            let mut count = 0;
            for item in tree.range(..before.to_be_bytes()).take(STRIKE) {
                batch.remove(item.map_err(|error| classified(&error))?.0);
                count += 1;
            }
            tree.apply_batch(batch)
                .map_err(|error| classified(&error))?;
            self.flush()?;
            if count < STRIKE {
                return Ok(());
            }
        }
    }
}

fn number(key: &[u8]) -> Result<u64, StoreError> {
    let key = key.try_into();
    let key = key.map_err(|_| StoreError::Damaged("a key of the audit trail is bad".into()))?;
    Ok(u64::from_be_bytes(key))
}

impl Meta {
    fn tree(self) -> String {
        format!("{TREE}{}", self.generation)
    }

    fn next(self, floor: u64) -> Self {
        Self {
            generation: self.generation.wrapping_add(1),
            floor,
        }
    }

    fn write(self) -> Vec<u8> {
        let mut bytes = vec![META_VERSION];
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&self.floor.to_le_bytes());
        let sum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
            return None;
        }
        let (version, body) = body.split_first()?;
        let (generation, floor) = body.split_first_chunk::<4>()?;
        (*version == META_VERSION).then_some(())?;
        Some(Self {
            generation: u32::from_le_bytes(*generation),
            floor: u64::from_le_bytes(floor.try_into().ok()?),
        })
    }
}

/// A store that was open a moment ago, or that could not be opened, lets go of its lock a moment
/// later, on threads of sled's own. That no other process has it is known by a lock of ours.
fn open_db(folder: &Path) -> Result<sled::Db, StoreError> {
    let config = sled::Config::new()
        .path(folder)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None);
    let mut tries = 0;
    loop {
        match config.open() {
            Ok(db) => return Ok(db),
            Err(sled::Error::Io(error))
                if tries < LOCK_TRIES && error.to_string().contains("acquire lock") =>
            {
                tries += 1;
                std::thread::sleep(LOCK_WAIT);
            }
            Err(error) => return Err(classified(&error)),
        }
    }
}

fn apply(tree: &sled::Tree, batches: &[Batch]) -> Result<(), StoreError> {
    let mut batch = sled::Batch::default();
    for (last, frame) in batches {
        batch.insert(&last.to_be_bytes(), frame.as_slice());
    }
    tree.apply_batch(batch).map_err(|error| classified(&error))
}

/// What to climb the ladder for, and what only somebody else can mend.
fn classified(error: &sled::Error) -> StoreError {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match error {
        sled::Error::Io(io) if !matches!(io.kind(), InvalidData | InvalidInput | UnexpectedEof) => {
            StoreError::Failed(error.to_string())
        }
        _ => StoreError::Damaged(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_log_is_guarded() {
        let meta = Meta {
            generation: 7,
            floor: 1 << 40,
        };
        let mut bytes = meta.write();
        assert_eq!(Meta::read(&bytes), Some(meta));
        bytes[3] ^= 1;
        assert_eq!(Meta::read(&bytes), None);
        assert_eq!(Meta::read(b""), None);
    }

    #[test]
    fn a_log_survives_its_switch_and_what_a_killed_compaction_left() {
        let folder = tempfile::tempdir().unwrap();
        let batches = |store: &SledStore| {
            let mut found = Vec::new();
            store
                .scan(0, &mut |last, frame| {
                    found.push((last, frame.to_vec()));
                    ControlFlow::Continue(())
                })
                .unwrap();
            found
        };
        let store = SledStore::open(folder.path()).unwrap();
        store.append(&[(2, vec![2]), (300, vec![3])]).unwrap();
        store.stage(true, &[(1, vec![9])]).unwrap();
        drop(store);
        let store = SledStore::open(folder.path()).unwrap();
        assert_eq!(batches(&store), [(2, vec![2]), (300, vec![3])]);
        assert_eq!(
            store.db.tree_names().len(),
            2,
            "the default tree and the log"
        );
        store.stage(true, &[(300, vec![4])]).unwrap();
        store.switch(300).unwrap();
        assert_eq!(
            (batches(&store), store.floor()),
            (vec![(300, vec![4])], 300)
        );
        drop(store);
        let store = SledStore::open(folder.path()).unwrap();
        assert_eq!(
            (batches(&store), store.floor()),
            (vec![(300, vec![4])], 300)
        );
        assert_eq!(store.db.tree_names().len(), 2);
    }
}
