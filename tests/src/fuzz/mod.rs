//! Fuzzing without a nightly compiler: every target is given the kept corpus of `tests/fuzz` and
//! mutations of it, for seconds. `tests/run fuzz` calls it; libFuzzer over the same entry functions
//! is for hours, by hand (tests/fuzz/README.md).

pub mod mutation;
mod session;
mod targets;

pub use session::{Limits, Reached, run};
pub use targets::{Entry, TARGETS, entry};

use std::io;
use std::path::{Path, PathBuf};

/// The kept inputs of a target.
#[must_use]
pub fn corpus_folder(target: &str) -> PathBuf {
    crate::workspace_root()
        .join("tests/fuzz/corpus")
        .join(target)
}

/// Reads all kept inputs of a folder, in the order of their names, so that a seed means the same
/// everywhere.
///
/// # Errors
/// When the folder or a file of it can't be read, or when there is none.
pub fn read_corpus(folder: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut paths = std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    if paths.is_empty() {
        return Err(io::Error::other("no kept input"));
    }
    paths.iter().map(std::fs::read).collect()
}
