//! `binding.path`: whose single devices are. A CSV file with the columns
//! `device,user,certificate,agent`; all but the device may be empty.

use std::collections::HashMap;
use std::path::Path;

use seg_compliance::{DeviceKey, UserKey};

use super::table_file::{self, MAX_FIELD, TableError, is_name};

/// What a request of one device must look like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// Its user.
    pub user: Option<UserKey>,
    /// The SHA-256 of its certificate, in lower-case hexadecimal.
    pub certificate: Option<Box<str>>,
    /// Its User-Agent, in lower case; `*` stands for anything.
    pub agent: Option<Box<str>>,
}

impl Bound {
    /// Whether the row lets this User-Agent in.
    pub fn takes_agent(&self, agent: &str) -> bool {
        let wanted = self.agent.as_deref();
        wanted.is_none_or(|pattern| fits(pattern, &agent.to_lowercase()))
    }
}

/// The table, by device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindingTable(HashMap<DeviceKey, Bound>);

impl BindingTable {
    /// The row of a device.
    pub fn row(&self, device: &DeviceKey) -> Option<&Bound> {
        self.0.get(device)
    }
}

/// Reads the file. `user` makes a name canonical. A first line that begins with `device` is a
/// heading; lines that start with `#` are passed over.
///
/// # Errors
/// The first line that is no binding, or that speaks of a device that stands further up.
pub fn load(
    file: &Path,
    user: impl Fn(&str) -> Option<UserKey>,
) -> Result<BindingTable, TableError> {
    let mut rows = HashMap::new();
    table_file::read(file, "binding.path", |record, first| {
        let text = record.get(0).unwrap_or_default();
        if first && text.eq_ignore_ascii_case("device") {
            return Ok(());
        }
        if !(2..=4).contains(&record.len()) {
            return Err("expected device,user,certificate,agent".to_owned());
        }
        let device = seg_eas::DeviceId::parse_text(text).map_err(|error| error.to_string())?;
        let device = DeviceKey::new(device.as_str()).map_err(|error| error.to_string())?;
        let field = |at: usize| record.get(at).filter(|text| !text.is_empty());
        if ![1, 3].into_iter().filter_map(field).all(is_name) {
            return Err(format!(
                "user and agent may have up to {MAX_FIELD} bytes of text"
            ));
        }
        let user = match field(1) {
            Some(name) => Some(user(name).ok_or_else(|| format!("`{name}` is no user"))?),
            None => None,
        };
        let row = Bound {
            user,
            certificate: field(2).map(fingerprint).transpose()?,
            agent: field(3).map(|agent| agent.to_lowercase().into()),
        };
        if row == Bound::default() {
            return Err(format!("{device} is bound to nothing"));
        }
        if rows.insert(device.clone(), row).is_some() {
            return Err(format!("{device} stands further up; keep one of the two"));
        }
        Ok(())
    })?;
    Ok(BindingTable(rows))
}

/// A SHA-256 in hexadecimal, with or without colons, as openssl and browsers print it.
fn fingerprint(text: &str) -> Result<Box<str>, String> {
    let digits: String = text
        .chars()
        .filter(|c| !matches!(c, ':' | ' '))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(digits.into());
    }
    let message = "the certificate must be its SHA-256 in hexadecimal, as `openssl x509 -fingerprint -sha256` prints it";
    Err(message.to_owned())
}

/// Whether `text` fits a pattern in which `*` stands for anything. Greedy from the left, so its
/// time is bounded by the product of both lengths.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(start) else {
        return false;
    };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        let Some(at) = text.find(part) else {
            return false;
        };
        text = text.get(at + part.len()..).unwrap_or_default();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Result<BindingTable, TableError> {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("bindings.csv");
        std::fs::write(&file, text).expect("write");
        load(&file, |name| UserKey::new(name).ok())
    }

    #[test]
    fn rows_are_found_by_the_canonical_device() {
        let print = "AB:".repeat(31) + "cd";
        let table = from(&format!(
            "device,user,certificate,agent\nabc1,Alice@Corp.example,{print},Apple-iPhone*\nDEV2,bob\n"
        ))
        .expect("a table");
        let row = table
            .row(&DeviceKey::new("ABC1").expect("a key"))
            .expect("a row");
        assert_eq!(
            row.user.as_ref().map(UserKey::as_str),
            Some("alice@corp.example")
        );
        assert_eq!(row.certificate.as_deref().map(str::len), Some(64));
        assert!(row.takes_agent("Apple-iPhone15C2/2101") && !row.takes_agent("Android/1"));
        let row = table
            .row(&DeviceKey::new("DEV2").expect("a key"))
            .expect("a row");
        assert!(row.certificate.is_none() && row.takes_agent(""));
    }

    #[test]
    fn refusals_name_the_line() {
        for (text, line, part) in [
            ("DEV1,\n", 1, "bound to nothing"),
            ("DEV1,alice\ndev1,bob\n", 2, "further up"),
            ("DEV1,alice,abcd\n", 1, "SHA-256"),
            ("DEV1\n", 1, "expected"),
            ("D V,alice\n", 1, ""),
        ] {
            let error = from(text).expect_err(part);
            assert_eq!(error.line, Some(line), "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, expected) in [
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "acb", false),
            ("*b*", "abc", true),
            ("*", "", true),
            ("ab", "abc", false),
            ("a*a", "a", false),
            ("*bc*bc", "abcbc", true),
            ("*bc*bc", "abc", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
