//! `policies.toml`: read once, and handed out by its kinds of tables to those who own their types.
//! What stands inside a table is its owner's business; here only the names of the tables and their
//! places are known.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use seg_eas::content::Rule;
use seg_eas::firewall::Firewall;
use serde::Deserialize;
use toml::{Spanned, Table};

/// The largest policies file that is read.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// The policies by owner. All empty where there is no file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies {
    /// The whole file, out of which seg-compliance takes `[[policy]]`, with the places of everything.
    pub text: String,
    /// `[eas]`: the firewall of ActiveSync, where the table is there. Owned by seg-eas.
    pub eas: Option<Firewall>,
    /// `[[content]]`: what is done with the content of mail. Owned by seg-eas.
    pub content: Vec<Rule>,
    /// `[ews]`: settings of EWS. Owned by seg-ews.
    pub ews: Table,
}

/// A policies file that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PoliciesError {
    /// The file.
    pub file: PathBuf,
    /// Line and column, counted from 1, where a place is to blame.
    pub place: Option<(usize, usize)>,
    /// What is wrong and how to mend it.
    pub message: String,
}

impl fmt::Display for PoliciesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.message)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct File {
    #[serde(rename = "policy")]
    _policy: serde::de::IgnoredAny,
    eas: Option<Firewall>,
    content: Vec<Spanned<Rule>>,
    ews: Table,
}

/// Reads the policies. A missing file is an empty one.
///
/// # Errors
/// The file can't be read, isn't TOML, or has a table that nobody owns.
pub fn load(file: &Path) -> Result<Policies, PoliciesError> {
    let wrong = |message: String| PoliciesError {
        file: file.to_path_buf(),
        place: None,
        message,
    };
    match std::fs::metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Policies::default());
        }
        Err(error) => return Err(wrong(format!("can't be read: {error}"))),
        Ok(about) if about.len() > MAX_FILE_BYTES => {
            return Err(wrong(format!(
                "has {} bytes, more than {MAX_FILE_BYTES}",
                about.len()
            )));
        }
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(file).map_err(|error| {
        wrong(format!(
            "can't be read: {error}; it must be a UTF-8 text file"
        ))
    })?;
    of_text(&text, file)
}

/// Reads policies that somebody has at hand; `file` is their name in what is said of them.
///
/// # Errors
/// The text isn't TOML, or has a table that nobody owns.
pub fn of_text(text: &str, file: &Path) -> Result<Policies, PoliciesError> {
    parse(text).map_err(|(span, message)| PoliciesError {
        file: file.to_path_buf(),
        place: span.map(|span| place(text, span.start)),
        message,
    })
}

fn parse(text: &str) -> Result<Policies, (Option<Range<usize>>, String)> {
    let file: File =
        toml::from_str(text).map_err(|error| (error.span(), error.message().to_owned()))?;
    for rule in &file.content {
        let wrong = |message| (Some(rule.span()), message);
        rule.get_ref().check().map_err(wrong)?;
    }
    for rule in file.eas.iter().flat_map(|eas| &eas.folders) {
        rule.check().map_err(|message| (None, message))?;
    }
    let content = file.content.into_iter().map(Spanned::into_inner);
    Ok(Policies {
        text: text.to_owned(),
        eas: file.eas,
        content: content.collect(),
        ews: file.ews,
    })
}

/// Line and column of a byte, both counted from 1; the column in characters.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    (
        line,
        before.get(start..).unwrap_or_default().chars().count() + 1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Result<Policies, PoliciesError> {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("policies.toml");
        std::fs::write(&file, text).expect("write");
        load(&file)
    }

    #[test]
    fn a_missing_file_is_an_empty_one() {
        let folder = tempfile::tempdir().expect("folder");
        assert_eq!(
            load(&folder.path().join("policies.toml")),
            Ok(Policies::default())
        );
        assert_eq!(from(""), Ok(Policies::default()));
    }

    #[test]
    fn tables_go_to_their_owners_in_order() {
        let policies = from(
            "[eas]\nmax_pings = 5\n\n[[policy]]\nid = \"a\"\n[[content]]\nid = \"c\"\nsealed = \"withhold\"\n[[policy]]\nid = \"b\"\nwhen = { platform = \"ios\" }\n[ews]\nx = 1\n",
        )
        .expect("policies");
        assert!(policies.text.starts_with("[eas]"));
        assert_eq!(policies.content.len(), 1);
        assert_eq!(policies.eas.map(|eas| eas.max_pings), Some(5));
        assert_eq!(policies.ews["x"].as_integer(), Some(1));
    }

    #[test]
    fn refusals_have_a_place() {
        for (text, place, part) in [
            (
                "[[policy]]\nid = \"a\"\n[polices]\n",
                (3, 2),
                "unknown field `polices`",
            ),
            ("# ü\n  x = \n", (2, 7), ""),
            ("content = 1\n", (1, 11), "sequence"),
            ("[[eas]]\n", (1, 1), "map"),
            (
                "[eas]\ncommands = [\"Sync\", \"Synk\"]\n",
                (2, 12),
                "`Synk` is no ActiveSync command",
            ),
            (
                "[eas]\nversions = [\"14\"]\n",
                (2, 12),
                "`14` is no protocol version",
            ),
            ("# one\n[[content]]\nid = \"c\"\n", (2, 1), "does nothing"),
            (
                "[[content]]\nid = \"c\"\nlinks = { template = \"x\" }\n",
                (3, 22),
                "must hold {url}",
            ),
            ("[eas]\nmax_ping = 1\n", (2, 1), "unknown field `max_ping`"),
            (
                "[eas.body_max_bytes]\nsync = 1\nall = 2\n",
                (3, 1),
                "`all` is no ActiveSync command",
            ),
        ] {
            let error = from(text).expect_err(text);
            assert_eq!(error.place, Some(place), "{text:?}: {error}");
            assert!(error.message.contains(part), "{error}");
        }
    }
}
