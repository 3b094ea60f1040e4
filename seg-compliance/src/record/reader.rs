//! Records in either form.

use super::given::Line;
use super::{csv, ndjson};

/// Splits a stream into records and reads each, in the form that it has.
#[derive(Debug)]
pub enum Reader {
    /// One JSON object a line.
    Ndjson(ndjson::Reader),
    /// CSV with the record's columns.
    Csv(csv::Reader),
}

impl Reader {
    /// A reader of NDJSON.
    #[must_use]
    pub fn ndjson() -> Self {
        Self::Ndjson(ndjson::Reader::new())
    }

    /// A reader of CSV.
    #[must_use]
    pub fn csv() -> Self {
        Self::Csv(csv::Reader::new())
    }

    /// Takes the next bytes of the stream and hands every record that ends in them to `each`.
    pub fn feed(&mut self, bytes: &[u8], each: &mut dyn FnMut(Line)) {
        match self {
            Self::Ndjson(reader) => reader.feed(bytes, each),
            Self::Csv(reader) => reader.feed(bytes, each),
        }
    }

    /// The stream has ended.
    pub fn finish(self, each: &mut dyn FnMut(Line)) {
        match self {
            Self::Ndjson(reader) => reader.finish(each),
            Self::Csv(reader) => reader.finish(each),
        }
    }
}
