//! A SEG V2 file carried over: what has a meaning here is kept, everything else is commented out
//! with the reason.

use std::fmt::Write as _;

use super::keys;
use super::properties::parse;

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

/// Text as it must be written to be read back the same.
fn escaped(text: &str, key: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for (index, c) in text.chars().enumerate() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            ' ' if key || index == 0 => out.push_str("\\ "),
            '=' | ':' if key => {
                out.push('\\');
                out.push(c);
            }
            '#' | '!' if key && index == 0 => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}
