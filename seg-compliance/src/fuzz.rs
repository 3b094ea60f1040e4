//! Entries for fuzzers, one a decoder: any bytes must end in a value or an error, in bounds.

use crate::intern::Interner;
use crate::journal::frame;
use crate::policy::{Policies, expression_is_sound};
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

/// A policies.toml, as an administrator writes it.
pub fn policies(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(error) = Policies::parse(&text) {
        assert!(
            error
                .line
                .is_some_and(|line| line <= text.lines().count() + 1)
        );
    }
}

/// A condition in CEL.
pub fn policy_expression(bytes: &[u8]) {
    expression_is_sound(&String::from_utf8_lossy(bytes));
}
