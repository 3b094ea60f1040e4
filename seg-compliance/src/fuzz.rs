//! Entries for fuzzers, one a decoder: any bytes must end in a value or an error, in bounds.

use crate::intern::Interner;
use crate::journal::frame;
use crate::record::{Line, csv, ndjson};

/// Lines of an NDJSON import.
pub fn record_ndjson(bytes: &[u8]) {
    let mut lines = 0;
    let mut count = |_: Line| lines += 1;
    let mut reader = ndjson::Reader::new();
    reader.feed(bytes, &mut count);
    reader.finish(&mut count);
    assert!(lines <= bytes.len());
}

/// Lines of a CSV import.
pub fn record_csv(bytes: &[u8]) {
    let mut lines = 0;
    let mut count = |_: Line| lines += 1;
    let mut reader = csv::Reader::new();
    reader.feed(bytes, &mut count);
    reader.finish(&mut count);
    assert!(lines <= bytes.len() + 1);
}

/// A batch of the journal, and what its checksum covers.
pub fn journal_frame(bytes: &[u8]) {
    let _ = frame::open(bytes);
    let _ = frame::unpack(bytes);
}

/// The changes of an opened batch.
pub fn journal_changes(bytes: &[u8]) {
    let interner = Interner::default();
    let _ = frame::each(bytes, |change| change.decode(&interner).map(|_| ()));
}
