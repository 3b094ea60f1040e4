//! A store that forgets at its end: tests, and engines without a data folder.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use parking_lot::Mutex;

use super::{Batch, Store, StoreError};

#[derive(Default)]
struct Log {
    batches: BTreeMap<u64, Vec<u8>>,
    staged: BTreeMap<u64, Vec<u8>>,
    floor: u64,
    notes: BTreeMap<String, Vec<u8>>,
    audit: BTreeMap<u64, Vec<u8>>,
    /// For tests: appending fails.
    broken: bool,
}

/// The log in memory.
#[derive(Default)]
pub(crate) struct MemoryStore(Mutex<Log>);

#[cfg(test)]
impl MemoryStore {
    pub(crate) fn break_down(&self, broken: bool) {
        self.0.lock().broken = broken;
    }
}

impl Store for MemoryStore {
    fn scan(
        &self,
        after: u64,
        each: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let log = self.0.lock();
        for (last, frame) in log
            .batches
            .range((Bound::Excluded(after), Bound::Unbounded))
        {
            if each(*last, frame).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn append(&self, batches: &[Batch]) -> Result<(), StoreError> {
        let mut log = self.0.lock();
        if log.broken {
            return Err(StoreError::Failed("broken by a test".to_owned()));
        }
        log.batches.extend(batches.iter().cloned());
        Ok(())
    }

    fn floor(&self) -> u64 {
        self.0.lock().floor
    }

    fn stage(&self, first: bool, batches: &[Batch]) -> Result<(), StoreError> {
        let mut log = self.0.lock();
        if first {
            log.staged.clear();
        }
        log.staged.extend(batches.iter().cloned());
        Ok(())
    }

    fn switch(&self, floor: u64) -> Result<(), StoreError> {
        let mut log = self.0.lock();
        log.batches = std::mem::take(&mut log.staged);
        log.floor = floor;
        Ok(())
    }

    fn note(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.0.lock().notes.insert(name.to_owned(), value.to_vec());
        Ok(())
    }

    fn notes(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let log = self.0.lock();
        Ok(log
            .notes
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect())
    }

    fn enter(&self, entries: &[(u64, Vec<u8>)]) -> Result<(), StoreError> {
        self.0.lock().audit.extend(entries.iter().cloned());
        Ok(())
    }

    fn entries(
        &self,
        from: u64,
        each: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let found: Vec<_> = self
            .0
            .lock()
            .audit
            .range(from..)
            .map(|(number, entry)| (*number, entry.clone()))
            .collect();
        for (number, entry) in found {
            if each(number, &entry).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn last_entry(&self) -> Result<u64, StoreError> {
        let log = self.0.lock();
        Ok(log.audit.last_key_value().map_or(0, |(number, _)| *number))
    }

    fn strike(&self, before: u64) -> Result<(), StoreError> {
        self.0.lock().audit.retain(|number, _| *number >= before);
        Ok(())
    }
}
