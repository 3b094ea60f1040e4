//! References: `&amp;`, `&#38;` and nothing else.

use super::characters::is_allowed;
use crate::reject::RejectKind;
use quick_xml::escape::resolve_xml_entity;
use std::borrow::Cow;

/// Longest text between `&` and `;`; leading zeros beyond it help nobody.
pub(super) const MAX_BYTES: usize = 16;

/// The character that a reference stands for, given what is between `&` and `;`.
pub(super) fn resolve(name: &str) -> Result<char, RejectKind> {
    let Some(number) = name.strip_prefix('#') else {
        let character = resolve_xml_entity(name).and_then(|text| text.chars().next());
        return character.ok_or(RejectKind::Entity);
    };
    let (digits, radix) = match number.strip_prefix('x') {
        Some(digits) => (digits, 16),
        None => (number, 10),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(RejectKind::Entity);
    }
    let code = u32::from_str_radix(digits, radix).map_err(|_| RejectKind::Entity)?;
    char::from_u32(code)
        .filter(|&character| is_allowed(character))
        .ok_or(RejectKind::Character)
}

/// An attribute value with its references resolved and its white space made spaces
/// (XML 1.0 section 3.3.3).
pub(super) fn expand(value: &str) -> Result<Cow<'_, str>, RejectKind> {
    // No early exit, so that it becomes vector code; other control characters are forbidden anyway.
    let plain = value
        .bytes()
        .fold(true, |plain, byte| plain & (byte != b'&') & (byte >= b' '));
    if plain {
        return Ok(Cow::Borrowed(value));
    }
    let mut expanded = String::with_capacity(value.len());
    let mut parts = value.split('&');
    push_spaced(&mut expanded, parts.next().unwrap_or_default());
    for part in parts {
        let (name, text) = part.split_once(';').ok_or(RejectKind::Entity)?;
        if name.len() > MAX_BYTES {
            return Err(RejectKind::Entity);
        }
        expanded.push(resolve(name)?);
        push_spaced(&mut expanded, text);
    }
    Ok(Cow::Owned(expanded))
}

fn push_spaced(to: &mut String, text: &str) {
    to.extend(text.chars().map(|character| match character {
        '\t' | '\n' | '\r' => ' ',
        other => other,
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        for (name, character) in [
            ("amp", '&'),
            ("lt", '<'),
            ("gt", '>'),
            ("quot", '"'),
            ("apos", '\''),
            ("#65", 'A'),
            ("#x41", 'A'),
            ("#x1F4E7", '\u{1f4e7}'),
            ("#0009", '\t'),
        ] {
            assert_eq!(resolve(name), Ok(character), "{name}");
        }
        for name in [
            "",
            "x",
            "nbsp",
            "AMP",
            "#",
            "#x",
            "#X41",
            "#+65",
            "#-1",
            "#6 5",
            "#99999999999",
        ] {
            assert_eq!(resolve(name), Err(RejectKind::Entity), "{name}");
        }
        for name in ["#0", "#1", "#xD800", "#xFFFF", "#x110000"] {
            assert_eq!(resolve(name), Err(RejectKind::Character), "{name}");
        }
    }

    #[test]
    fn values() {
        assert_eq!(expand("plain").as_deref(), Ok("plain"));
        assert_eq!(expand("a&amp;b&#10;\tc").as_deref(), Ok("a&b\n c"));
        assert_eq!(expand("a&amp"), Err(RejectKind::Entity));
        assert_eq!(expand("a&;"), Err(RejectKind::Entity));
        assert_eq!(expand("&x;"), Err(RejectKind::Entity));
    }
}
