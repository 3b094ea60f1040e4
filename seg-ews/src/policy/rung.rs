//! Where the device of a request is looked for.

use std::fmt;

/// Longest name of a header, parameter or claim, in bytes.
const NAME_MAX: usize = 64;

/// One place to look, in the order in which a class lists them. Behind the last, the user is
/// judged over all of his devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rung {
    /// A header that somebody trusted sets, by its name in lower case: `header:X-Device-Id`.
    Header(String),
    /// A parameter of the URL, by its name: `query:deviceId`. It is not forwarded.
    Query(String),
    /// A segment of the URL: `/EWS/d/<device>/Exchange.asmx`. It is not forwarded.
    Path,
    /// The verified client certificate: `certificate:cn`, `certificate:serial`, `certificate:uri`.
    Certificate(CertificatePart),
    /// A claim of the bearer token, by its name: `claim:deviceid`.
    Claim(String),
    /// The one device with which the same user has lately been admitted on ActiveSync.
    Learned,
}

/// Which part of a certificate names the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificatePart {
    /// The subject's common name.
    CommonName,
    /// The serial number in hexadecimal, without leading zeros.
    Serial,
    /// Behind the last `/` or `:` of the first URI among the alternative names.
    Uri,
}

/// The claims that may name a device.
const CLAIMS: &[&str] = &["deviceid", "oid"];

impl Rung {
    /// Reads one word of a class's `device` list.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once(':').unwrap_or((text, ""));
        let is_name = !name.is_empty()
            && name.len() <= NAME_MAX
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        match (kind, name) {
            ("header", name) if is_name => Ok(Self::Header(name.to_ascii_lowercase())),
            ("query", name) if is_name => Ok(Self::Query(name.to_owned())),
            ("path", "") => Ok(Self::Path),
            ("certificate", "cn") => Ok(Self::Certificate(CertificatePart::CommonName)),
            ("certificate", "serial") => Ok(Self::Certificate(CertificatePart::Serial)),
            ("certificate", "uri") => Ok(Self::Certificate(CertificatePart::Uri)),
            ("claim", name) if CLAIMS.contains(&name) => Ok(Self::Claim(name.to_owned())),
            ("learned", "") => Ok(Self::Learned),
            _ => Err(format!(
                "{text:?} is none of header:<name>, query:<name>, path, certificate:cn, \
                 certificate:serial, certificate:uri, claim:deviceid, claim:oid, learned"
            )),
        }
    }

    /// The kind, for the request's event and `explain`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Header(_) => "header",
            Self::Query(_) => "query",
            Self::Path => "path",
            Self::Certificate(_) => "certificate",
            Self::Claim(_) => "claim",
            Self::Learned => "learned",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::Header(name) | Self::Query(name) | Self::Claim(name) => write!(f, ":{name}"),
            Self::Certificate(CertificatePart::CommonName) => f.write_str(":cn"),
            Self::Certificate(CertificatePart::Serial) => f.write_str(":serial"),
            Self::Certificate(CertificatePart::Uri) => f.write_str(":uri"),
            Self::Path | Self::Learned => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rung_is_read_and_written_alike() {
        for text in [
            "header:x-device-id",
            "query:deviceId",
            "path",
            "certificate:cn",
            "certificate:serial",
            "certificate:uri",
            "claim:deviceid",
            "learned",
        ] {
            assert_eq!(Rung::parse(text).expect(text).to_string(), text);
        }
        for text in [
            "",
            "header",
            "header:",
            "header:a b",
            "path:x",
            "claim:upn",
            "user",
        ] {
            assert!(Rung::parse(text).is_err(), "{text}");
        }
    }
}
