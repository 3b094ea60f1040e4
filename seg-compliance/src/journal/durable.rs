//! What a flush of sled's leaves to be done.
//!
//! sled 0.34 flushes with `sync_file_range`, which hands pages to the disk and neither the file's
//! new length nor the disk's own cache (sync_file_range(2), "Warning"), and never syncs the files
//! of its large values, nor a folder. That survives a killed process and no power cut. Here each
//! of them is synced, behind sled's flush and before anybody is told that his change is durable.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::StoreError;

/// Files of sled's below its folder.
const LOG: &str = "db";
const CONF: &str = "conf";
const BLOBS: &str = "blobs";

/// The files of an open store.
pub(super) struct Durable {
    log: File,
    log_path: PathBuf,
    blobs: PathBuf,
    /// Large values that are known to be on the disk. sled never writes one of them again.
    synced: Mutex<HashSet<OsString>>,
}

impl Durable {
    /// The files of the store in `folder`, which is open; on the disk when this returns.
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        let log_path = folder.join(LOG);
        let durable = Self {
            log: File::open(&log_path).map_err(|error| StoreError::file(&log_path, &error))?,
            log_path,
            blobs: folder.join(BLOBS),
            synced: Mutex::default(),
        };
        durable.sync()?;
        sync(&folder.join(CONF))?;
        // The folder's own name, and those within it.
        for folder in folder.ancestors().take(2) {
            sync(folder)?;
        }
        Ok(durable)
    }

    /// Puts everything that sled has written onto the disk.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let failed = |error: std::io::Error| StoreError::file(&self.blobs, &error);
        let mut present = HashSet::new();
        for entry in fs::read_dir(&self.blobs).map_err(failed)? {
            present.insert(entry.map_err(failed)?.file_name());
        }
        let mut synced = self.synced.lock();
        let mut new = false;
        for name in present.difference(&synced) {
            new |= sync(&self.blobs.join(name))?;
        }
        if new {
            sync(&self.blobs)?;
        }
        *synced = present;
        drop(synced);
        self.log
            .sync_data()
            .map_err(|error| StoreError::file(&self.log_path, &error))
    }
}

/// Syncs a file or a folder. `false` where it is gone: sled drops values that nobody needs.
fn sync(path: &Path) -> Result<bool, StoreError> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    match synced {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::file(path, &error)),
    }
}
