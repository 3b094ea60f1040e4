//! Pseudonyms for the two names in the log that stand for a person: the DeviceId and the user.
//! With a key the same name always has the same pseudonym, so a reader can still follow one device
//! through the log; without the key nobody can tell which one it is.

use std::fmt;

use aws_lc_rs::hmac;

/// Bytes of the HMAC that are kept. 80 bits: among a million devices two share a pseudonym with a
/// chance below one in a trillion.
const KEPT: usize = 10;

/// How names are written to the log.
#[derive(Clone, Default)]
pub struct Pseudonym {
    key: Option<hmac::Key>,
}

impl fmt::Debug for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.key.is_some() { "keyed" } else { "none" };
        write!(f, "Pseudonym({kind})")
    }
}

impl Pseudonym {
    /// Names are written as they are.
    pub const fn none() -> Self {
        Self { key: None }
    }

    /// Names are written as HMAC-SHA256 under `key`, truncated to 80 bits.
    pub fn keyed(key: &[u8]) -> Self {
        Self {
            key: Some(hmac::Key::new(hmac::HMAC_SHA256, key)),
        }
    }

    /// A DeviceId as it may stand in the log.
    pub fn device<'n>(&self, name: &'n str) -> Name<'n> {
        self.of(b"device:", name)
    }

    /// A user as he may stand in the log.
    pub fn user<'n>(&self, name: &'n str) -> Name<'n> {
        self.of(b"user:", name)
    }

    /// `kind` keeps a user and a device of the same spelling apart.
    fn of<'n>(&self, kind: &[u8], name: &'n str) -> Name<'n> {
        let Some(key) = &self.key else {
            return Name(Form::Plain(name));
        };
        let mut context = hmac::Context::with_key(key);
        context.update(kind);
        context.update(name.as_bytes());
        let tag = context.sign();
        let mut hex = [b'0'; KEPT * 2];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(tag.as_ref()) {
            if let [high, low] = pair {
                *high = HEX[usize::from(byte >> 4)];
                *low = HEX[usize::from(byte & 0x0f)];
            }
        }
        Name(Form::Keyed(hex))
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A name ready for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'n>(Form<'n>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form<'n> {
    Plain(&'n str),
    Keyed([u8; KEPT * 2]),
}

impl Name<'_> {
    /// As it stands in the log.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Form::Plain(name) => name,
            // Hexadecimal digits are text.
            Form::Keyed(hex) => std::str::from_utf8(hex).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_key_names_are_plain() {
        let plain = Pseudonym::none();
        assert_eq!(plain.device("APPL1").to_string(), "APPL1");
        assert_eq!(
            plain.user("alice@corp.example").to_string(),
            "alice@corp.example"
        );
    }

    #[test]
    fn with_a_key_names_are_stable_and_hidden() {
        let keyed = Pseudonym::keyed(b"a key");
        let name = keyed.user("alice@corp.example").to_string();
        assert_eq!(name.len(), 2 * KEPT);
        assert_eq!(name, keyed.user("alice@corp.example").to_string());
        assert_ne!(name, keyed.user("bob@corp.example").to_string());
        assert_ne!(name, keyed.device("alice@corp.example").to_string());
        let other = Pseudonym::keyed(b"another key");
        assert_ne!(name, other.user("alice@corp.example").to_string());
    }

    #[test]
    fn the_key_is_not_shown() {
        assert_eq!(
            format!("{:?}", Pseudonym::keyed(b"secret")),
            "Pseudonym(keyed)"
        );
    }

    #[test]
    fn the_mac_is_hmac_sha256() {
        // RFC 4231 test case 2, cut to the bytes that are kept.
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
        let tag = hmac::sign(&key, b"what do ya want for nothing?");
        let pseudonym = Pseudonym::keyed(b"Jefe");
        let Name(Form::Keyed(kept)) = pseudonym.of(b"what do ya want ", "for nothing?") else {
            panic!("a key gives a keyed name");
        };
        let hex: String = tag
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert!(hex.as_bytes().starts_with(&kept));
        assert!(tag.as_ref().starts_with(&[0x5b, 0xdc, 0xc1, 0x46]));
    }
}
