//! Words with `*`, compared without case.

/// Longest pattern, in bytes.
const PATTERN_MAX: usize = 512;

/// A text where `*` stands for any characters, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// Lower-case bytes.
    folded: Box<[u8]>,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > PATTERN_MAX {
            return Err(format!("a pattern must have 1 to {PATTERN_MAX} bytes"));
        }
        Ok(Self {
            folded: text.to_ascii_lowercase().into_bytes().into(),
        })
    }

    pub(super) fn all(texts: &[String]) -> Result<Vec<Self>, String> {
        texts.iter().map(|text| Self::new(text)).collect()
    }

    /// Greedy match that goes back to the last star only: at most |pattern| × |text| steps.
    pub(super) fn matches(&self, text: &str) -> bool {
        let text = text.as_bytes();
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

/// Whether any of the patterns matches.
pub(super) fn any(patterns: &[Pattern], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, expected) in [
            ("*.awmdm.com", "ENS.awmdm.com", true),
            ("*.awmdm.com", "awmdm.com", false),
            ("*.awmdm.com", "ens.awmdm.com.evil.example", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("*", "", true),
            ("a", "", false),
        ] {
            let pattern = Pattern::new(pattern).expect("a pattern");
            assert_eq!(pattern.matches(text), expected, "{pattern:?} {text}");
        }
        assert!(Pattern::new("").is_err());
    }
}
