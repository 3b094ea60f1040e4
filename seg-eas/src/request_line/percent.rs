//! Percent-decoding (RFC 3986 2.1), once and strictly.

use super::RequestLineError;
use std::borrow::Cow;

/// Decodes a name or a value that stands at `at` in the query. `+` stays a plus: a form decoder's
/// blank would make two spellings of one address.
pub(super) fn decode(raw: &str, at: usize) -> Result<Cow<'_, str>, RequestLineError> {
    let decoded = match memchr::memchr(b'%', raw.as_bytes()) {
        None => Cow::Borrowed(raw),
        Some(_) => {
            let bytes = decode_bytes(raw, at)?;
            Cow::Owned(String::from_utf8(bytes).map_err(|_| RequestLineError::NotUtf8 { at })?)
        }
    };
    refuse_control(&decoded, at)?;
    Ok(decoded)
}

/// # Errors
/// When `text` has a control character, which has no place in a name, a key or a header.
pub(super) fn refuse_control(text: &str, at: usize) -> Result<(), RequestLineError> {
    // Without branches, so that the compiler looks at many bytes at a time; nearly all text is ASCII.
    let plain = !text
        .bytes()
        .fold(false, |found, byte| found | !(0x20..0x7F).contains(&byte));
    if plain || !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(RequestLineError::Control { at })
}

/// Undoes the three escapes that a base64 query may have.
pub(super) fn undo_base64_escapes(raw: &str) -> Result<Cow<'_, str>, RequestLineError> {
    if memchr::memchr(b'%', raw.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(raw));
    }
    let bytes = decode_bytes(raw, 0)?;
    let text = String::from_utf8(bytes).map_err(|_| RequestLineError::NotBase64)?;
    // Everything that was written as an escape and is none of the three would be a second spelling.
    let escapes = raw.match_indices('%');
    for (at, _) in escapes {
        let digits = raw.get(at + 1..at + 3).unwrap_or_default();
        if !["2B", "2F", "3D"]
            .iter()
            .any(|known| digits.eq_ignore_ascii_case(known))
        {
            return Err(RequestLineError::Escape { at });
        }
    }
    Ok(Cow::Owned(text))
}

fn decode_bytes(raw: &str, at: usize) -> Result<Vec<u8>, RequestLineError> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    loop {
        let until = memchr::memchr(b'%', rest).unwrap_or(rest.len());
        let (plain, escaped) = rest.split_at(until);
        decoded.extend_from_slice(plain);
        rest = escaped;
        let Some((_, after)) = rest.split_first() else {
            return Ok(decoded);
        };
        let escape = RequestLineError::Escape {
            at: at + raw.len() - rest.len(),
        };
        let [high, low, after @ ..] = after else {
            return Err(escape);
        };
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
            return Err(escape);
        };
        decoded.push(high << 4 | low);
        rest = after;
    }
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
