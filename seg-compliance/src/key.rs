//! The two names everything is asked for: a device and a user, each in one canonical spelling.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::Text;

/// Longest device key, in bytes. MS-ASHTTP 2.2.1.1.1.1.3 allows 32 characters; hex of raw bytes
/// and identifiers that other mail clients make up are longer.
pub const DEVICE_KEY_MAX: usize = 128;

/// Longest user key, in bytes: the 64 + 1 + 255 of RFC 5321 cut to what directories hold.
pub const USER_KEY_MAX: usize = 256;

/// A device, by its canonical identifier: upper-case text of 1 to [`DEVICE_KEY_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceKey(Text);

impl DeviceKey {
    /// Folds `text` to upper case and checks it.
    ///
    /// # Errors
    /// [`KeyError`] when it is empty, longer than [`DEVICE_KEY_MAX`] bytes, or holds white space
    /// or control characters.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        check(text, "device id", DEVICE_KEY_MAX)?;
        if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Ok(Self(Text::new(&text.to_ascii_uppercase())));
        }
        Ok(Self(Text::new(text)))
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// A user, by the canonical name that `identify` gives him: lower-case text of 1 to
/// [`USER_KEY_MAX`] bytes, `alice@corp.example`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserKey(Text);

impl UserKey {
    /// Folds `text` to lower case and checks it.
    ///
    /// # Errors
    /// [`KeyError`] when it is empty, longer than [`USER_KEY_MAX`] bytes, or holds control
    /// characters.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        check(text, "user", USER_KEY_MAX)?;
        if text.is_ascii() && !text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Ok(Self(Text::new(text)));
        }
        let folded = text.to_lowercase();
        check(&folded, "user", USER_KEY_MAX)?;
        Ok(Self(Text::new(&folded)))
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Why a text is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing was given.
    #[error("the {what} is empty")]
    Empty {
        /// `device id` or `user`.
        what: &'static str,
    },
    /// More bytes than the limit.
    #[error("the {what} has {length} bytes, {limit} are allowed")]
    TooLong {
        /// `device id` or `user`.
        what: &'static str,
        /// Bytes given.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A character that no key may hold.
    #[error("the {what} holds the character {character:?}, which no {what} may hold")]
    Character {
        /// `device id` or `user`.
        what: &'static str,
        /// The first such character.
        character: char,
    },
}

fn check(text: &str, what: &'static str, limit: usize) -> Result<(), KeyError> {
    if text.is_empty() {
        return Err(KeyError::Empty { what });
    }
    if text.len() > limit {
        return Err(KeyError::TooLong {
            what,
            length: text.len(),
            limit,
        });
    }
    // Without branches, so that the compiler looks at many bytes at a time; most keys are of these.
    let plain = text
        .bytes()
        .fold(true, |plain, byte| plain & byte.is_ascii_graphic());
    if plain {
        return Ok(());
    }
    match text.chars().find(|c| c.is_control() || c.is_whitespace()) {
        Some(character) => Err(KeyError::Character { what, character }),
        None => Ok(()),
    }
}

macro_rules! key_text {
    ($key:ident) => {
        impl fmt::Debug for $key {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($key), self.as_str())
            }
        }

        impl fmt::Display for $key {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $key {
            type Err = KeyError;

            fn from_str(text: &str) -> Result<Self, KeyError> {
                Self::new(text)
            }
        }

        impl Serialize for $key {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $key {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

key_text!(DeviceKey);
key_text!(UserKey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_ids_fold_to_upper_case() {
        assert_eq!(
            DeviceKey::new("ApplDNQ1").unwrap(),
            DeviceKey::new("APPLdnq1").unwrap()
        );
        assert_eq!(DeviceKey::new("ApplDNQ1").unwrap().as_str(), "APPLDNQ1");
    }

    #[test]
    fn users_fold_to_lower_case_beyond_ascii() {
        assert_eq!(
            UserKey::new("ÄNNE@Corp.Example").unwrap().as_str(),
            "änne@corp.example"
        );
    }

    #[test]
    fn what_is_no_key_is_refused_by_name() {
        assert_eq!(
            DeviceKey::new(""),
            Err(KeyError::Empty { what: "device id" })
        );
        assert!(matches!(
            DeviceKey::new(&"x".repeat(129)),
            Err(KeyError::TooLong {
                length: 129,
                limit: 128,
                ..
            })
        ));
        assert!(matches!(
            DeviceKey::new("a b"),
            Err(KeyError::Character { character: ' ', .. })
        ));
        assert!(matches!(
            UserKey::new("a\nb"),
            Err(KeyError::Character {
                character: '\n',
                ..
            })
        ));
        // Lower case can be longer than upper case: the limit holds for what is kept.
        assert!(UserKey::new(&"İ".repeat(128)).is_err());
    }
}
