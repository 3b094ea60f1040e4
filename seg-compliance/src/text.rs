//! A name that lies where it is held, not behind a pointer: whoever compares it with another has
//! looked into memory once less, and whoever copies it allocates nothing.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Longest text that lies in place, in bytes. A DeviceId has up to 32 (MS-ASHTTP 2.2.1.1.1.1.3),
/// most users' names have fewer.
const SHORT: usize = 38;

/// A text that does not change: in place where it is short, shared where it is long.
#[derive(Clone)]
pub(crate) struct Text(Form);

#[derive(Clone)]
enum Form {
    Short {
        length: u8,
        /// Zeros behind the text.
        bytes: [u8; SHORT],
    },
    Long(Arc<str>),
}

impl Text {
    pub(crate) fn new(text: &str) -> Self {
        let mut bytes = [0; SHORT];
        let (Some(place), Ok(length)) = (bytes.get_mut(..text.len()), u8::try_from(text.len()))
        else {
            return Self(Form::Long(text.into()));
        };
        place.copy_from_slice(text.as_bytes());
        Self(Form::Short { length, bytes })
    }

    pub(crate) fn as_str(&self) -> &str {
        match &self.0 {
            // Made of a text and cut nowhere, so it always is one.
            Form::Short { .. } => str::from_utf8(self.as_bytes()).unwrap_or_default(),
            Form::Long(text) => text,
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Form::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Form::Long(text) => text.as_bytes(),
        }
    }
}

impl PartialEq for Text {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (
                Form::Short { length, bytes },
                Form::Short {
                    length: others,
                    bytes: other,
                },
            ) => {
                let (one, two) = (words(bytes), words(other));
                let differ = (one.0 ^ two.0) | (one.1 ^ two.1);
                (length == others) & (differ == 0) & (one.2 == two.2)
            }
            (Form::Long(text), Form::Long(other)) => same(text, other),
            // A text has one form.
            _ => false,
        }
    }
}

/// The bytes of a short text as three words, of which the last two overlap: few instructions compare
/// or hash them, where a number of bytes that only the compiler knows is still a call.
#[inline(always)]
fn words(bytes: &[u8; SHORT]) -> (u128, u128, u64) {
    let word = |from: usize| {
        let bytes = bytes.get(from..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u128::from_ne_bytes(*bytes))
    };
    let last = bytes.last_chunk();
    let last = last.map_or(0, |bytes| u64::from_ne_bytes(*bytes));
    (word(0), word(16), last)
}

/// Apart, so that the comparison of short texts stays one of few words in a row.
#[cold]
#[inline(never)]
fn same(text: &str, other: &str) -> bool {
    text == other
}

impl Eq for Text {}

impl Hash for Text {
    #[inline(always)]
    fn hash<H: Hasher>(&self, state: &mut H) {
        match &self.0 {
            Form::Short { bytes, .. } => {
                // The length says nothing that the zeros behind the text don't, almost always.
                let (first, second, last) = words(bytes);
                state.write_u128(first);
                state.write_u128(second);
                state.write_u64(last);
            }
            Form::Long(text) => state.write(text.as_bytes()),
        }
    }
}

/// As texts are ordered: byte by byte, which is character by character.
impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_no_larger_than_what_it_holds() {
        assert_eq!(size_of::<Text>(), SHORT + 2);
        assert_eq!(size_of::<Option<Text>>(), size_of::<Text>());
    }

    proptest! {
        #[test]
        fn it_is_the_text_that_it_was_made_of(one in ".{0,50}", two in ".{0,50}") {
            let (first, second) = (Text::new(&one), Text::new(&two));
            prop_assert_eq!(first.as_str(), one.as_str());
            prop_assert_eq!(first.as_bytes(), one.as_bytes());
            prop_assert_eq!(first == second, one == two);
            prop_assert_eq!(first.cmp(&second), one.cmp(&two));
            prop_assert_eq!(&first, &Text::new(&one));
        }

        #[test]
        fn neighbours_at_the_longest_short_text_are_told_apart(length in SHORT - 2..SHORT + 3) {
            let text = "x".repeat(length);
            let held = Text::new(&text);
            prop_assert_eq!(held.as_str(), text.as_str());
            prop_assert_ne!(&held, &Text::new(&text[1..]));
            for at in 0..length {
                let mut other = text.clone();
                other.replace_range(at..=at, "y");
                prop_assert_ne!(&held, &Text::new(&other));
            }
        }
    }
}
