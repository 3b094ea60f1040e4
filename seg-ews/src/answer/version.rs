//! `ServerVersionInfo`: which Exchange a client thinks it talks to.

use quick_xml::events::attributes::Attributes;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// How much of an upstream answer [`ServerVersion::scan`] looks at, in bytes. The header comes
/// first, so it lies within the first few hundred.
pub const SCAN_BYTES: usize = 4096;

/// Longest schema version that is taken from upstream, in bytes.
const MAX_SCHEMA_BYTES: usize = 64;

/// The version of an Exchange server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerVersion {
    /// 15 for Exchange 2013 to SE.
    pub major: u16,
    /// 0 for 2013, 1 for 2016, 2 for 2019 and SE.
    pub minor: u16,
    /// Build.
    pub build: u16,
    /// Revision of the build.
    pub revision: u16,
    /// The schema that the server speaks, such as `Exchange2013_SP1` or `V2017_07_11`.
    pub version: String,
}

/// A version that is not four numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a server version is four numbers with dots between, such as 15.1.2507.6")]
pub struct ParseVersionError;

impl ServerVersion {
    /// Finds the version in the start of an upstream answer. None where it is not there, is cut
    /// off, or is not one.
    pub fn scan(prefix: &[u8]) -> Option<Self> {
        let prefix = prefix.get(..SCAN_BYTES).unwrap_or(prefix);
        let (_, after) = split_once(prefix, b"ServerVersionInfo")?;
        let (attributes, _) = split_once(after, b">")?;
        let attributes = std::str::from_utf8(attributes).ok()?;
        let attributes = attributes.strip_suffix('/').unwrap_or(attributes);
        let mut numbers = [None; 4];
        let mut version = None;
        for attribute in Attributes::new(attributes, 0) {
            let attribute = attribute.ok()?;
            let name = attribute.key.into_inner();
            let place = [
                "MajorVersion",
                "MinorVersion",
                "MajorBuildNumber",
                "MinorBuildNumber",
            ]
            .iter()
            .position(|known| *known == name)
            .and_then(|at| numbers.get_mut(at));
            if let Some(place) = place {
                *place = attribute.value.parse().ok();
            } else if name == "Version" && is_schema(&attribute.value) {
                version = Some(attribute.value.into_owned());
            }
        }
        let [major, minor, build, revision] = numbers;
        let mut found =
            Self::from_numbers(major?, minor?, build.unwrap_or(0), revision.unwrap_or(0));
        found.version = version.unwrap_or(found.version);
        Some(found)
    }

    /// The version that these numbers mean, with the schema that such a server reports.
    fn from_numbers(major: u16, minor: u16, build: u16, revision: u16) -> Self {
        let schema = match (major, minor, build) {
            (..=7, _, _) | (8, 0, _) => "Exchange2007",
            (8, _, _) => "Exchange2007_SP1",
            (..=13, _, _) | (14, 0, _) => "Exchange2010",
            (14, 1, _) => "Exchange2010_SP1",
            (14, _, _) => "Exchange2010_SP2",
            (15, 0, ..847) => "Exchange2013",
            (15, 0, _) => "Exchange2013_SP1",
            _ => "V2017_07_11",
        };
        Self {
            major,
            minor,
            build,
            revision,
            version: schema.to_owned(),
        }
    }

    /// The SOAP header element.
    pub(super) fn header(&self) -> String {
        format!(
            r#"<h:ServerVersionInfo MajorVersion="{}" MinorVersion="{}" MajorBuildNumber="{}" MinorBuildNumber="{}" Version="{}" xmlns:h="{}"/>"#,
            self.major,
            self.minor,
            self.build,
            self.revision,
            if is_schema(&self.version) {
                self.version.as_str()
            } else {
                "Exchange2013_SP1"
            },
            super::TYPES,
        )
    }
}

fn split_once<'b>(bytes: &'b [u8], separator: &[u8]) -> Option<(&'b [u8], &'b [u8])> {
    let at = memchr::memmem::find(bytes, separator)?;
    Some((bytes.get(..at)?, bytes.get(at + separator.len()..)?))
}

fn is_schema(version: &str) -> bool {
    (1..=MAX_SCHEMA_BYTES).contains(&version.len())
        && version
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

impl FromStr for ServerVersion {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, ParseVersionError> {
        let mut numbers = text.split('.').map(|number| {
            let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            number
                .parse()
                .ok()
                .filter(|_| digits)
                .ok_or(ParseVersionError)
        });
        let mut next = || numbers.next().unwrap_or(Err(ParseVersionError));
        let version = Self::from_numbers(next()?, next()?, next()?, next()?);
        if numbers.next().is_some() {
            Err(ParseVersionError)
        } else {
            Ok(version)
        }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}.{}.{}",
            self.major, self.minor, self.build, self.revision
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_text() {
        let version: ServerVersion = "15.1.2507.6".parse().expect("a version");
        assert_eq!(version.to_string(), "15.1.2507.6");
        assert_eq!(version.version, "V2017_07_11");
        let old: ServerVersion = "14.3.123.4".parse().expect("a version");
        assert_eq!(old.version, "Exchange2010_SP2");
        for bad in [
            "",
            "15",
            "15.1.2507",
            "15.1.2507.6.1",
            "15.1.x.6",
            "15.1.2507.70000",
            "+1.2.3.4",
        ] {
            assert_eq!(
                bad.parse::<ServerVersion>(),
                Err(ParseVersionError),
                "{bad}"
            );
        }
    }

    #[test]
    fn versions_are_found_in_answers() {
        let version: ServerVersion = "15.2.1258.12".parse().expect("a version");
        let answer = format!(
            "<?xml version=\"1.0\"?><s:Envelope><s:Header>{}",
            version.header()
        );
        assert_eq!(ServerVersion::scan(answer.as_bytes()), Some(version));
        let cut = answer.get(..answer.len() - 1).unwrap_or_default();
        assert_eq!(ServerVersion::scan(cut.as_bytes()), None);
        let short =
            b"<ServerVersionInfo MinorVersion='2' MajorVersion='15' Version=\"Exchange2016\">";
        let found = ServerVersion::scan(short).expect("numbers enough");
        assert_eq!(
            (found.to_string().as_str(), found.version.as_str()),
            ("15.2.0.0", "Exchange2016")
        );
    }

    #[test]
    fn nothing_from_upstream_gets_into_an_answer_unchecked() {
        let hostile =
            br#"<h:ServerVersionInfo MajorVersion="15" MinorVersion="1" Version="&quot;/&gt;"/>"#;
        let found = ServerVersion::scan(hostile).expect("the numbers are fine");
        assert_eq!(found.version, "V2017_07_11");
        let made = ServerVersion {
            version: "\"/><x".to_owned(),
            ..found
        };
        assert!(made.header().contains("Exchange2013_SP1"));
        for nothing in [
            &b""[..],
            b"ServerVersionInfo>",
            b"ServerVersionInfo MajorVersion=15>",
        ] {
            assert_eq!(ServerVersion::scan(nothing), None);
        }
    }
}
