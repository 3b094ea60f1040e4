//! `identity.certificate.map.path`: single certificates, by their serial number, to users and
//! devices. A CSV file with the columns `serial,user,device`; user or device may be empty.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The most certificates that are read.
const MAX_ROWS: usize = 2_000_000;
/// The longest field, in bytes.
const MAX_FIELD: usize = 256;

/// Whose one certificate is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The user.
    pub user: Option<Box<str>>,
    /// The device.
    pub device: Option<Box<str>>,
}

/// Serial number, in lower-case hexadecimal without leading zeros, to its row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateMap(HashMap<Box<str>, Row>);

/// A file that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct CertificateMapError {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1, where one is to blame.
    pub line: Option<u64>,
    /// What is wrong and how to mend it.
    pub message: String,
}

impl fmt::Display for CertificateMapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl CertificateMap {
    /// The row of a serial number in hexadecimal, with or without leading zeros.
    pub fn row(&self, serial: &str) -> Option<&Row> {
        self.0.get(serial.trim_start_matches('0'))
    }

    /// How many certificates there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads the file. A first line `serial,user,device` is a heading; lines that start with `#` are
/// passed over; colons and blanks in serial numbers don't matter.
///
/// # Errors
/// The first line that isn't a certificate's, or that speaks of one that stands further up.
pub fn load(file: &Path) -> Result<CertificateMap, CertificateMapError> {
    let wrong = |line: Option<u64>, message: String| CertificateMapError {
        file: file.to_path_buf(),
        line,
        message,
    };
    let text = std::fs::read(file).map_err(|error| {
        let mend = "check identity.certificate.map.path";
        wrong(None, format!("can't be read: {error}; {mend}"))
    })?;
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .comment(Some(b'#'))
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&text));
    let mut rows = HashMap::new();
    for record in reader.records() {
        let place = match &record {
            Ok(record) => record.position(),
            Err(error) => error.position(),
        };
        let line = place.map(csv::Position::line);
        let record = record.map_err(|error| wrong(line, format!("can't be read: {error}")))?;
        let (Some(serial), Some(user), device) = (record.get(0), record.get(1), record.get(2))
        else {
            return Err(wrong(line, "expected serial,user,device".to_owned()));
        };
        if serial.eq_ignore_ascii_case("serial") && rows.is_empty() {
            continue;
        }
        let serial: String = serial
            .chars()
            .filter(|c| !matches!(c, ':' | ' '))
            .map(|c| c.to_ascii_lowercase())
            .collect();
        let is_serial = !serial.is_empty() && serial.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_serial || serial.len() > MAX_FIELD {
            let message =
                "the serial number must be hexadecimal, as `openssl x509 -serial` prints it";
            return Err(wrong(line, message.to_owned()));
        }
        let field = |text: &str| (!text.is_empty()).then(|| Box::from(text));
        let row = Row {
            user: field(user),
            device: device.and_then(field),
        };
        let long = |text: &Option<Box<str>>| text.as_ref().is_some_and(|t| t.len() > MAX_FIELD);
        if row == Row::default() || long(&row.user) || long(&row.device) {
            let message = format!("user or device must have 1 to {MAX_FIELD} bytes of text");
            return Err(wrong(line, message));
        }
        if rows.len() >= MAX_ROWS {
            return Err(wrong(line, format!("more than {MAX_ROWS} certificates")));
        }
        let key = Box::from(serial.trim_start_matches('0'));
        if rows.insert(key, row).is_some() {
            let message = format!("{serial} stands further up; keep one of the two");
            return Err(wrong(line, message));
        }
    }
    Ok(CertificateMap(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Result<CertificateMap, CertificateMapError> {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("map.csv");
        std::fs::write(&file, text).expect("write");
        load(&file)
    }

    #[test]
    fn serial_numbers_are_found_in_every_spelling() {
        let map = from("serial,user,device\n00:AB:0C,alice,\n# x\n1f,,DEV1\n").expect("a map");
        assert_eq!(map.len(), 2);
        let alice = map.row("ab0c").expect("a row");
        assert_eq!(alice.user.as_deref(), Some("alice"));
        assert_eq!(alice.device, None);
        assert_eq!(
            map.row("001f").and_then(|row| row.device.as_deref()),
            Some("DEV1")
        );
        assert!(map.row("ff").is_none() && !map.is_empty());
    }

    #[test]
    fn refusals_name_the_line() {
        for (text, line, part) in [
            ("ab,alice\nxyz,bob\n", 2, "hexadecimal"),
            ("ab,,\n", 1, "user or device"),
            ("ab,alice\n00AB,bob\n", 2, "further up"),
            ("ab\n", 1, "expected"),
        ] {
            let error = from(text).expect_err(part);
            assert_eq!(error.line, Some(line), "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
