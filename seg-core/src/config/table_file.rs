//! Tables that the configuration names: CSV files, checked line by line before any of it counts.

use std::fmt;
use std::path::{Path, PathBuf};

use csv::StringRecord;

/// The most rows of one table.
const MAX_ROWS: usize = 2_000_000;
/// The longest field, in bytes.
pub(super) const MAX_FIELD: usize = 256;

/// A table that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct TableError {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1, where one is to blame.
    pub line: Option<u64>,
    /// What is wrong and how to mend it.
    pub message: String,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Gives every row of the file that the property `key` names to `take`, with whether it is the
/// first: that one may be a heading. Blank lines and lines that start with `#` are passed over,
/// blanks around fields are cut off.
///
/// # Errors
/// The first row that can't be read or that `take` refuses, with its line.
pub(super) fn read(
    file: &Path,
    key: &str,
    mut take: impl FnMut(&StringRecord, bool) -> Result<(), String>,
) -> Result<(), TableError> {
    let wrong = |line: Option<u64>, message: String| TableError {
        file: file.to_path_buf(),
        line,
        message,
    };
    let text = std::fs::read(file)
        .map_err(|error| wrong(None, format!("can't be read: {error}; check {key}")))?;
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&text);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .comment(Some(b'#'))
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text);
    for (rows, record) in reader.records().enumerate() {
        let place = match &record {
            Ok(record) => record.position(),
            Err(error) => error.position(),
        };
        let place = place.map(csv::Position::line);
        let wrong = |message: String| wrong(place.map(|line| written_from(text, line)), message);
        let record = record.map_err(|error| wrong(format!("can't be read: {error}")))?;
        if rows >= MAX_ROWS {
            return Err(wrong(format!("more than {MAX_ROWS} rows")));
        }
        take(&record, rows == 0).map_err(wrong)?;
    }
    Ok(())
}

/// Whether a field can be a name: some text, and none that would move a cursor.
pub(super) fn is_name(field: &str) -> bool {
    (1..=MAX_FIELD).contains(&field.len()) && !field.chars().any(char::is_control)
}

/// The line of a record that the reader places where the one before it ended: blank lines and
/// comments lie in between.
fn written_from(text: &[u8], line: u64) -> u64 {
    let passed_over = text
        .split(|byte| *byte == b'\n')
        .skip(
            usize::try_from(line)
                .unwrap_or(usize::MAX)
                .saturating_sub(1),
        )
        .take_while(|line| line.trim_ascii().is_empty() || line.starts_with(b"#"))
        .count();
    line.saturating_add(u64::try_from(passed_over).unwrap_or(u64::MAX))
}
