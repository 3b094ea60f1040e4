//! One path, one meaning. A path is canonicalised once, here; what can be read in two ways is
//! refused, so that no server behind us reads another path than the one that was judged.

use std::borrow::Cow;

/// The longest path that is looked at, in bytes. Ours have fewer than 50.
const LONGEST: usize = 1024;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// `.` or `..` as a segment, plain or encoded.
    DotSegment,
    /// An encoded `/`, `\` or `%`: a second decoding would change the path.
    EncodedSeparator,
    /// `%` without two hexadecimal digits, or decoding to a control character or broken UTF-8.
    BadEncoding,
    /// A backslash, a semicolon parameter or a control character.
    ForbiddenCharacter,
    /// Longer than any path of ours.
    TooLong,
    /// Not a path at all (`*`, `CONNECT`'s authority).
    NotAbsolute,
}

/// A path whose percent-encoding is undone and whose empty segments are gone.
#[derive(Debug, PartialEq, Eq)]
pub struct CanonicalPath<'p>(Cow<'p, str>);

impl<'p> CanonicalPath<'p> {
    /// Reads a path of a request line.
    pub fn parse(raw: &'p str) -> Result<Self, PathError> {
        if raw.len() > LONGEST {
            return Err(PathError::TooLong);
        }
        if !raw.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        let decoded = decode(raw)?;
        if decoded
            .chars()
            .any(|c| c.is_control() || c == '\\' || c == ';')
        {
            return Err(PathError::ForbiddenCharacter);
        }
        if decoded
            .split('/')
            .any(|segment| segment == "." || segment == "..")
        {
            return Err(PathError::DotSegment);
        }
        Ok(Self(without_empty_segments(decoded)))
    }

    /// In lower case, for the table of routes.
    pub fn lower(&self) -> Cow<'_, str> {
        if self.0.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(self.0.to_ascii_lowercase())
        } else {
            Cow::Borrowed(&self.0)
        }
    }

    /// The path itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn decode(raw: &str) -> Result<Cow<'_, str>, PathError> {
    if !raw.contains('%') {
        return Ok(Cow::Borrowed(raw));
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (Some(high), Some(low)) = (rest.next().and_then(hex), rest.next().and_then(hex)) else {
            return Err(PathError::BadEncoding);
        };
        match high << 4 | low {
            b'/' | b'\\' | b'%' => return Err(PathError::EncodedSeparator),
            byte if byte.is_ascii_control() => return Err(PathError::BadEncoding),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes)
        .map(Cow::Owned)
        .map_err(|_| PathError::BadEncoding)
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// `//` is `/` to IIS; a slash at the end means the same resource.
fn without_empty_segments(path: Cow<'_, str>) -> Cow<'_, str> {
    if !path.contains("//") && (path.len() == 1 || !path.ends_with('/')) {
        return path;
    }
    let mut clean = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        clean.push('/');
        clean.push_str(segment);
    }
    if clean.is_empty() {
        clean.push('/');
    }
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_path_one_meaning() {
        let cases = [
            ("/EWS/Exchange.asmx", Ok("/EWS/Exchange.asmx")),
            ("/ews//exchange.asmx", Ok("/ews/exchange.asmx")),
            ("/EWS/exchange.asmx/", Ok("/EWS/exchange.asmx")),
            ("/%45WS/Exchange.asmx", Ok("/EWS/Exchange.asmx")),
            ("/ews/../mapi/emsmdb", Err(PathError::DotSegment)),
            ("/ews/%2e%2e/powershell", Err(PathError::DotSegment)),
            ("/ews/%2E/x", Err(PathError::DotSegment)),
            ("/ews%2fexchange.asmx", Err(PathError::EncodedSeparator)),
            ("/ews%5cexchange.asmx", Err(PathError::EncodedSeparator)),
            ("/ews/%252e%252e/x", Err(PathError::EncodedSeparator)),
            ("/ews/a;b", Err(PathError::ForbiddenCharacter)),
            ("/ews\\a", Err(PathError::ForbiddenCharacter)),
            ("/ews/%00", Err(PathError::BadEncoding)),
            ("/ews/%zz", Err(PathError::BadEncoding)),
            ("/ews/%2", Err(PathError::BadEncoding)),
            ("/ews/%ff", Err(PathError::BadEncoding)),
            ("/", Ok("/")),
            ("//", Ok("/")),
            ("*", Err(PathError::NotAbsolute)),
        ];
        for (raw, expected) in cases {
            let parsed = CanonicalPath::parse(raw);
            assert_eq!(
                parsed
                    .as_ref()
                    .map(CanonicalPath::as_str)
                    .map_err(|error| *error),
                expected,
                "{raw}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn a_canonical_path_is_its_own_canonical_form(raw in "/[a-zA-Z0-9./%\\\\;]{0,40}") {
            if let Ok(path) = CanonicalPath::parse(&raw) {
                let again = CanonicalPath::parse(path.as_str());
                proptest::prop_assert_eq!(again.as_ref().map(CanonicalPath::as_str), Ok(path.as_str()));
                proptest::prop_assert!(!path.as_str().contains(".."  ) || !path.as_str().split('/').any(|s| s == ".."));
            }
        }
    }
}
