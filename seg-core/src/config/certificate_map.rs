//! `identity.certificate.map.path`: single certificates, by their serial number, to users and
//! devices. A CSV file with the columns `serial,user,device`; user or device may be empty.

use std::collections::HashMap;
use std::path::Path;

use super::table_file::{self, MAX_FIELD, TableError, is_name};

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
pub fn load(file: &Path) -> Result<CertificateMap, TableError> {
    let mut rows = HashMap::new();
    table_file::read(file, "identity.certificate.map.path", |record, first| {
        let (Some(serial), Some(user), device) = (record.get(0), record.get(1), record.get(2))
        else {
            return Err("expected serial,user,device".to_owned());
        };
        if first && serial.eq_ignore_ascii_case("serial") {
            return Ok(());
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
            return Err(message.to_owned());
        }
        let field = |text: &str| (!text.is_empty()).then(|| Box::from(text));
        let row = Row {
            user: field(user),
            device: device.and_then(field),
        };
        let given = [row.user.as_deref(), row.device.as_deref()];
        if row == Row::default() || !given.into_iter().flatten().all(is_name) {
            return Err(format!(
                "user or device must have 1 to {MAX_FIELD} bytes of text"
            ));
        }
        let key = Box::from(serial.trim_start_matches('0'));
        if rows.insert(key, row).is_some() {
            return Err(format!("{serial} stands further up; keep one of the two"));
        }
        Ok(())
    })?;
    Ok(CertificateMap(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Result<CertificateMap, TableError> {
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
            ("ab,alice\n# people\n\nxyz,bob\n", 4, "hexadecimal"),
            ("ab,al\u{7}ice\n", 1, "user or device"),
        ] {
            let error = from(text).expect_err(part);
            assert_eq!(error.line, Some(line), "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
