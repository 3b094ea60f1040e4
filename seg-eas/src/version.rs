//! The protocol version a request speaks.

use std::fmt;

/// An ActiveSync protocol version as the base64 query has it: ten times the version, in one byte
/// (MS-ASHTTP 2.2.1.1.1.1.1), so 14.1 is 141.
///
/// Any version that has the form of one is accepted, also one that is published after this was
/// written: which versions are let through is a policy, not a question of reading.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion(u8);

impl ProtocolVersion {
    /// 2.5, Exchange 2003.
    pub const V2_5: Self = Self(25);
    /// 12.0, Exchange 2007.
    pub const V12_0: Self = Self(120);
    /// 12.1, Exchange 2007 SP1; the last that has no Status 1xx common to all commands.
    pub const V12_1: Self = Self(121);
    /// 14.0, Exchange 2010; the first that reports refusals as a Status in the answer.
    pub const V14_0: Self = Self(140);
    /// 14.1, Exchange 2010 SP1 to 2013.
    pub const V14_1: Self = Self(141);
    /// 16.0, Exchange 2016.
    pub const V16_0: Self = Self(160);
    /// 16.1, Exchange 2016 CU and later, Exchange Online.
    pub const V16_1: Self = Self(161);

    /// The smallest version in the byte form: 1.0.
    const MIN: u8 = 10;

    /// The version of the base64 query's first byte. `None` below 1.0.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        if code < Self::MIN {
            None
        } else {
            Some(Self(code))
        }
    }

    /// The byte of the base64 query.
    #[must_use]
    pub const fn code(self) -> u8 {
        self.0
    }

    /// The value of an `MS-ASProtocolVersion` header (MS-ASHTTP 2.2.1.1.2): `14.1`. Blanks around
    /// it are no part of it. `None` for anything but one or two digits, a point and one digit.
    #[must_use]
    pub fn from_header(value: &str) -> Option<Self> {
        let (major, minor) = value.trim_matches([' ', '\t']).split_once('.')?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !(1..=2).contains(&major.len()) || minor.len() != 1 || !digits(major) || !digits(minor) {
            return None;
        }
        let code = major.parse::<u16>().ok()? * 10 + minor.parse::<u16>().ok()?;
        Self::from_code(u8::try_from(code).ok()?)
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

impl fmt::Debug for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_names_the_version_that_the_byte_names() {
        for (text, version) in [
            ("2.5", ProtocolVersion::V2_5),
            ("12.1", ProtocolVersion::V12_1),
            (" 14.0\t", ProtocolVersion::V14_0),
            ("16.1", ProtocolVersion::V16_1),
        ] {
            assert_eq!(ProtocolVersion::from_header(text), Some(version));
            assert_eq!(version.to_string(), text.trim());
        }
    }

    #[test]
    fn what_is_no_version_is_none() {
        for text in [
            "", "14", "14.", ".1", "14.10", "141", "+4.1", "1 4.1", "99.9", "0.5", "١.٢",
        ] {
            assert_eq!(ProtocolVersion::from_header(text), None, "{text}");
        }
        assert_eq!(ProtocolVersion::from_code(9), None);
    }

    #[test]
    fn versions_compare_as_numbers_do() {
        assert!(ProtocolVersion::V2_5 < ProtocolVersion::V12_0);
        assert!(ProtocolVersion::V12_1 < ProtocolVersion::V14_0);
    }
}
