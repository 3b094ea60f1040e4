//! A SEG V2 file carried over: what has a meaning here is kept, everything else is commented out
//! with the reason.

use std::fmt::Write as _;

use super::keys;
use super::properties::{escaped, parse};

/// A file carried over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The new properties file.
    pub text: String,
    /// How many keys were kept.
    pub kept: usize,
    /// How many were commented out.
    pub dropped: usize,
}

/// The text of a file that Java wrote: UTF-8 or, as Java did for most of its life, ISO 8859-1.
pub fn java_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| {
        error
            .as_bytes()
            .iter()
            .map(|byte| char::from(*byte))
            .collect()
    })
}

/// Carries a SEG V2 `application.properties` over, in the order of the file.
pub fn migrate(text: &str) -> Migrated {
    let parsed = parse(text);
    let mut migrated = Migrated {
        text: String::new(),
        kept: 0,
        dropped: 0,
    };
    let out = &mut migrated.text;
    // Writing to a String can't fail.
    for problem in &parsed.problems {
        let _ = writeln!(out, "# left out: {problem}");
    }
    for entry in parsed.entries {
        let line = format!(
            "{}={}",
            escaped(&entry.key, true),
            escaped(&entry.value, false)
        );
        let reason = match keys::find(&entry.key) {
            Some(_) => None,
            None => Some(keys::no_effect_here(&entry.key).map_or_else(
                || {
                    format!(
                        "unknown here; the nearest known key is {}",
                        keys::nearest(&entry.key)
                    )
                },
                |reason| format!("no effect here, because {reason}"),
            )),
        };
        match reason {
            None => {
                let _ = writeln!(out, "{line}");
                migrated.kept += 1;
            }
            Some(reason) => {
                let _ = writeln!(out, "# {reason}\n#{line}");
                migrated.dropped += 1;
            }
        }
    }
    migrated
}
