//! One target, one corpus, some seconds.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use super::mutation::Inputs;
use super::{Entry, corpus_folder, read_corpus};

/// How long, and which inputs.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// No input is begun after this time.
    pub time: Duration,
    /// What the inputs follow from.
    pub seed: u64,
}

/// How a target's time went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Inputs given, those of the corpus included.
    pub inputs: u64,
    /// Whether the last of them made the target panic.
    pub panicked: bool,
}

/// Gives a target its corpus and mutations of it until the time is over or it panics. Each input
/// stands in the file `last` before it is given, so that it is known whatever the target does to
/// the process.
///
/// # Errors
/// When the corpus can't be read or `last` can't be written.
pub fn run(target: &str, entry: Entry, limits: Limits, last: &Path) -> io::Result<Reached> {
    let corpus = read_corpus(&corpus_folder(target))?;
    let last = File::create(last)?;
    let mut mutated = Inputs::new(&corpus, limits.seed);
    let mut kept = corpus.iter().cloned();
    let end = Instant::now() + limits.time;
    let mut inputs = 0;
    while let Some(input) = kept.next().or_else(|| mutated.draw()) {
        last.write_all_at(&input, 0)?;
        last.set_len(input.len() as u64)?;
        inputs += 1;
        if catch_unwind(AssertUnwindSafe(|| entry(&input))).is_err() {
            return Ok(Reached {
                inputs,
                panicked: true,
            });
        }
        if inputs >= corpus.len() as u64 && Instant::now() >= end {
            return Ok(Reached {
                inputs,
                panicked: false,
            });
        }
    }
    Err(io::Error::other("the corpus can't be mutated"))
}
