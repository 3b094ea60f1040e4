//! Regular expressions: `request.agent.matches('^Apple-iPhone1[0-9]')`.

use regex_lite::{Regex, RegexBuilder};

/// Longest pattern, in bytes, and the deepest.
const LENGTH_MAX: usize = 512;
const DEPTH_MAX: u32 = 32;
/// Largest compiled pattern, in bytes, and the size from which it is looked for.
const SIZE_MAX: usize = 16 * 1024;
const SIZE_MIN: usize = 256;
/// Bytes of a compiled pattern for which a step is counted.
const STEP: usize = 16;

/// A regular expression, in the syntax of RE2 without classes of Unicode. It is looked for anywhere
/// in a text, in a time that is linear in the text's length.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// What one look costs.
    pub(super) steps: usize,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Self, String> {
        if text.len() > LENGTH_MAX {
            return Err(format!("longer than {LENGTH_MAX} bytes"));
        }
        // How large it is, is not told: it is known by where it still fits.
        let mut size = SIZE_MIN;
        loop {
            match RegexBuilder::new(text)
                .nest_limit(DEPTH_MAX)
                .size_limit(size)
                .build()
            {
                Ok(regex) => {
                    let steps = size / STEP;
                    return Ok(Self { regex, steps });
                }
                Err(_) if size < SIZE_MAX => size *= 2,
                Err(error) => return Err(format!("is no regular expression: {error}")),
            }
        }
    }

    pub(super) fn is_in(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}
