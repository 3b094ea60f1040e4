//! Words with `*`, compared without case.

/// Longest pattern, in bytes.
const PATTERN_MAX: usize = 512;

/// A text where `*` stands for any characters, or none.
#[derive(Debug)]
pub(super) struct Pattern {
    /// Lower-case bytes.
    folded: Box<[u8]>,
}

/// In lower case, each character for itself.
fn folded(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > PATTERN_MAX {
            return Err(format!("a pattern must have 1 to {PATTERN_MAX} bytes"));
        }
        Ok(Self {
            folded: folded(text).into_bytes().into(),
        })
    }

    /// Whether it fits, without case.
    pub(super) fn matches(&self, text: &str) -> bool {
        // Letters beyond ASCII can be longer in lower case; few texts have any.
        if text.is_ascii() {
            self.fits(text.as_bytes())
        } else {
            self.fits(folded(text).as_bytes())
        }
    }

    /// Greedy match that goes back to the last star only: at most |pattern| × |text| steps.
    fn fits(&self, text: &[u8]) -> bool {
        let (mut at, mut star) = ((0, 0), None);
        while let Some(byte) = text.get(at.1) {
            match self.folded.get(at.0) {
                Some(b'*') => {
                    star = Some(at);
                    at.0 += 1;
                }
                Some(wanted) if *wanted == byte.to_ascii_lowercase() => {
                    at = (at.0 + 1, at.1 + 1);
                }
                _ => match star {
                    Some((pattern, from)) => {
                        star = Some((pattern, from + 1));
                        at = (pattern + 1, from + 1);
                    }
                    None => return false,
                },
            }
        }
        self.folded.iter().skip(at.0).all(|byte| *byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, expected) in [
            ("Apple-iPhone*", "apple-iphone15C2/2201.99", true),
            ("*boxer*", "AirWatch Boxer/23", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("ios", "ios", true),
            ("ios", "ipados", false),
            ("*", "", true),
            ("a", "", false),
            ("J\u{d6}RG@*", "j\u{f6}rg@corp.example", true),
            ("j\u{f6}rg@*", "J\u{d6}RG@corp.example", true),
            ("*B\u{fc}ro*", "Z\u{fc}rich-B\u{dc}RO-2", true),
            ("jorg@*", "j\u{f6}rg@corp.example", false),
        ] {
            assert_eq!(
                Pattern::new(pattern).unwrap().matches(text),
                expected,
                "{pattern} {text}"
            );
        }
    }

    fn plain(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, rest) => rest.is_none(),
            (Some((b'*', rest)), _) => {
                plain(rest, text) || text.split_first().is_some_and(|(_, t)| plain(pattern, t))
            }
            (Some((p, rest)), Some((t, text))) => p == t && plain(rest, text),
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_plain_definition(pattern in "[ab*]{1,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(
                Pattern::new(&pattern).unwrap().matches(&text),
                plain(pattern.as_bytes(), text.as_bytes())
            );
        }
    }
}
