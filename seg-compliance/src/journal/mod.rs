//! The journal: every change, in order, durable before it is acknowledged.
//!
//! sled is used as a log and never as a device table. Key: the last revision of a batch,
//! big-endian; value: one frame of up to [`BATCH_MAX`] changes. A start is one ordered scan, in
//! which the last change of a device wins; after it, everything is read from memory.
//!
//! One thread writes: it takes what is queued, appends it with one flush, and only then are the
//! changes acknowledged. A batch is one value, so it is there whole or not at all. When dead
//! changes outnumber live ones, the live state is written into a new tree, one durable key is
//! switched, and the old tree is dropped; changes keep their revisions, and readers of the feed who
//! ask for older ones are told that they are gone. Every hour the live state is exported to a file
//! of its own, from which a damaged store is rebuilt (see [`recovery`]).

mod change;
mod codec;
mod compact;
mod durable;
mod export;
pub(crate) mod frame;
mod memory;
mod mend;
pub mod recovery;
mod sled_store;
mod writer;

use std::ops::ControlFlow;

pub(crate) use change::{Change, Sequenced};
pub(crate) use memory::MemoryStore;
pub(crate) use recovery::{Load, open};
pub use recovery::{Recovery, State};
pub(crate) use writer::{Commit, Sink, Work, Writer};

/// Most changes of one batch.
pub const BATCH_MAX: usize = 1_024;

/// The store failed, or what was asked of it can't be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the data folder.
    #[error("{path}: another gateway uses this data folder; stop it, or set another data.dir")]
    Locked {
        /// The lock file.
        path: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {reason}")]
    File {
        /// The file or folder.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// The store gave an error that is no damage to climb the ladder for.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The store holds what it can't hold: bytes were damaged.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The writer has ended.
    #[error("the journal is closed")]
    Closed,
}

impl StoreError {
    fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::File {
            path: path.display().to_string(),
            reason: error.to_string(),
        }
    }
}

/// A batch: its last revision, and its frame.
pub(crate) type Batch = (u64, Vec<u8>);

/// A log of batches. Everything durable when the call returns.
pub(crate) trait Store: Send + Sync {
    /// Hands each batch after revision `after` to `each`, in order.
    fn scan(
        &self,
        after: u64,
        each: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;

    /// Appends batches: all of them or none. One that stands there already is replaced.
    fn append(&self, batches: &[Batch]) -> Result<(), StoreError>;

    /// The revision up to which changes are compacted away.
    fn floor(&self) -> u64;

    /// Writes batches beside the log, for [`Store::switch`]. `first`: what an earlier attempt left
    /// there goes.
    fn stage(&self, first: bool, batches: &[Batch]) -> Result<(), StoreError>;

    /// Makes what was staged the log, in one step, and drops the old one.
    fn switch(&self, floor: u64) -> Result<(), StoreError>;

    /// Keeps a small thing under its name, beside the log.
    fn note(&self, name: &str, value: &[u8]) -> Result<(), StoreError>;

    /// All small things, by name.
    fn notes(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// Appends entries of the audit trail.
    fn enter(&self, entries: &[(u64, Vec<u8>)]) -> Result<(), StoreError>;

    /// Hands the entries of the audit trail from number `from` on to `each`, in order.
    fn entries(
        &self,
        from: u64,
        each: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;

    /// The number of the last entry of the audit trail; 0: there is none.
    fn last_entry(&self) -> Result<u64, StoreError>;

    /// Deletes the entries before number `before`.
    fn strike(&self, before: u64) -> Result<(), StoreError>;
}
