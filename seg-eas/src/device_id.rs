//! The device a request comes from.

use std::fmt;
use thiserror::Error;

/// Length in bytes of the binary form of a device id (a GUID).
const RAW_LEN: usize = 16;

/// A DeviceId in its canonical form, so that the plain and the base64 query of one device give one
/// key (MS-ASHTTP 2.2.1.1.1).
///
/// Text is made upper-case ASCII, because device ids are compared without case; 16 bytes that are
/// not text become 32 upper-case hexadecimal digits, which is how the same client writes its id in
/// the plain form. The value is held inline and never allocates.
///
/// Text may hold letters, digits and `- _ . : @ { }`. The specification forbids "commas and special
/// characters"; the rest of ASCII is refused because a device id ends up in file formats, paths and
/// headers, where a quote, a blank or a line break would be a way to lie.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId {
    /// Canonical ASCII, zero beyond `len`.
    text: [u8; Self::MAX_LEN],
    len: u8,
}

/// Why a device id was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DeviceIdError {
    /// There is no character in it.
    #[error("the DeviceId is empty; the client must send one")]
    Empty,
    /// More than [`DeviceId::MAX_LEN`] characters.
    #[error("the DeviceId has {len} characters, {} are allowed", DeviceId::MAX_LEN)]
    TooLong {
        /// How many there are.
        len: usize,
    },
    /// A byte that can't stand in a device id.
    #[error(
        "the DeviceId has byte 0x{byte:02X} at place {at}; letters, digits and -_.:@{{}} are allowed"
    )]
    Character {
        /// The byte.
        byte: u8,
        /// Its place, from 0.
        at: usize,
    },
}

impl DeviceId {
    /// The most characters a canonical device id has. MS-ASHTTP allows 32; some clients send more.
    pub const MAX_LEN: usize = 64;

    /// The device id of a plain query, percent-decoded.
    ///
    /// # Errors
    /// When it is empty, too long, or has a character that can't stand in a device id.
    pub fn parse_text(text: &str) -> Result<Self, DeviceIdError> {
        Self::from_text_bytes(text.as_bytes())
    }

    /// The device id of a base64 query: text when every byte may stand in one, else the
    /// hexadecimal form of 16 raw bytes.
    ///
    /// # Errors
    /// As [`DeviceId::parse_text`] for what is neither.
    pub fn from_raw(raw: &[u8]) -> Result<Self, DeviceIdError> {
        let text = Self::from_text_bytes(raw);
        match (text, <&[u8; RAW_LEN]>::try_from(raw)) {
            (Err(DeviceIdError::Character { .. }), Ok(raw)) => Ok(Self::from_guid(raw)),
            _ => text,
        }
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let text = self.text.get(..usize::from(self.len)).unwrap_or_default();
        // Only ASCII gets in, so the empty string is never returned.
        std::str::from_utf8(text).unwrap_or_default()
    }

    fn from_text_bytes(bytes: &[u8]) -> Result<Self, DeviceIdError> {
        if bytes.is_empty() {
            return Err(DeviceIdError::Empty);
        }
        if let Some((at, &byte)) = bytes
            .iter()
            .enumerate()
            .find(|(_, byte)| !may_stand(**byte))
        {
            return Err(DeviceIdError::Character { byte, at });
        }
        let too_long = DeviceIdError::TooLong { len: bytes.len() };
        let len = u8::try_from(bytes.len()).map_err(|_| too_long)?;
        let mut text = [0; Self::MAX_LEN];
        text.get_mut(..bytes.len())
            .ok_or(too_long)?
            .copy_from_slice(bytes);
        text.make_ascii_uppercase();
        Ok(Self { text, len })
    }

    fn from_guid(raw: &[u8; RAW_LEN]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        const LEN: usize = RAW_LEN * 2;
        let mut text = [0; Self::MAX_LEN];
        for (pair, byte) in text.chunks_exact_mut(2).zip(raw) {
            if let [high, low] = pair {
                *high = DIGITS[usize::from(byte >> 4)];
                *low = DIGITS[usize::from(byte & 0x0F)];
            }
        }
        Self {
            text,
            len: LEN as u8,
        }
    }
}

const fn may_stand(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b'@' | b'{' | b'}')
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_the_same_device_in_any_case_and_either_form() {
        let plain = DeviceId::parse_text("ApplDN6GK1XYDFHW").unwrap();
        assert_eq!(plain.as_str(), "APPLDN6GK1XYDFHW");
        assert_eq!(DeviceId::parse_text("appldn6gk1xydfhw"), Ok(plain));
        assert_eq!(DeviceId::from_raw(b"ApplDN6GK1XYDFHW"), Ok(plain));
    }

    #[test]
    fn sixteen_raw_bytes_are_the_hexadecimal_text_of_the_plain_form() {
        let raw = [
            0xA8, 0x1F, 0x31, 0xE1, 0x8B, 0xC6, 0xF9, 0x62, 0xB3, 0x67, 0x4D, 0x98, 0x78, 0x8A,
            0x7C, 0x9A,
        ];
        let device = DeviceId::from_raw(&raw).unwrap();
        assert_eq!(device.as_str(), "A81F31E18BC6F962B3674D98788A7C9A");
        assert_eq!(
            DeviceId::parse_text("a81f31e18bc6f962b3674d98788a7c9a"),
            Ok(device)
        );
    }

    #[test]
    fn what_could_lie_in_a_log_or_a_header_is_refused() {
        for (text, byte, at) in [
            ("abc\r\nX: y", b'\r', 3),
            ("a,b", b',', 1),
            ("a b", b' ', 1),
            ("a/b", b'/', 1),
            ("\"a", b'"', 0),
            ("a+b", b'+', 1),
            ("é", 0xC3, 0),
            ("a\0", 0, 1),
        ] {
            let refused = Err(DeviceIdError::Character { byte, at });
            assert_eq!(DeviceId::parse_text(text), refused, "{text:?}");
            assert_eq!(DeviceId::from_raw(text.as_bytes()), refused, "{text:?}");
        }
    }

    #[test]
    fn the_length_is_1_to_64() {
        assert_eq!(DeviceId::parse_text(""), Err(DeviceIdError::Empty));
        assert!(DeviceId::parse_text(&"a".repeat(64)).is_ok());
        for len in [65, 300] {
            let refused = Err(DeviceIdError::TooLong { len });
            assert_eq!(DeviceId::parse_text(&"a".repeat(len)), refused);
        }
    }
}
