//! Which characters XML 1.0 (fifth edition) allows where.

const SPACE: u8 = 1;
const NAME_START: u8 = 2;
const NAME: u8 = 4;
const FORBIDDEN: u8 = 8;

/// Classes of the ASCII characters. The colon is no name character here: it separates the prefix.
static ASCII: [u8; 128] = {
    let mut table = [0; 128];
    let mut at = 0;
    while at < 128 {
        let byte = at as u8;
        table[at] = match byte {
            b' ' | b'\t' | b'\r' | b'\n' => SPACE,
            b'A'..=b'Z' | b'a'..=b'z' | b'_' => NAME_START | NAME,
            b'0'..=b'9' | b'-' | b'.' => NAME,
            0..=0x1f => FORBIDDEN,
            _ => 0,
        };
        at += 1;
    }
    table
};

fn ascii_is(byte: u8, class: u8) -> bool {
    ASCII
        .get(usize::from(byte))
        .is_some_and(|classes| classes & class != 0)
}

/// White space (production 3).
pub(super) fn is_space(byte: u8) -> bool {
    ascii_is(byte, SPACE)
}

/// A letter that a name without a colon may begin with.
pub(super) fn is_name_start(byte: u8) -> bool {
    ascii_is(byte, NAME_START)
}

/// How many bytes at the start of the text may stand in a name without a colon.
pub(super) fn name_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    bytes
        .iter()
        .position(|&byte| !ascii_is(byte, NAME))
        .unwrap_or(bytes.len())
}

/// A character that may stand in a document (production 2).
pub(crate) const fn is_allowed(character: char) -> bool {
    matches!(character,
        '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Offset of the first character that may not stand in a document.
pub(super) fn first_forbidden(text: &str) -> Option<usize> {
    // Nearly all text is fine; the fold has no early exit so that it becomes vector code.
    let suspicious = text.bytes().fold(false, |seen, byte| {
        seen | (byte == 0xef) | ((byte < b' ') & !is_plain_space(byte))
    });
    if !suspicious {
        return None;
    }
    text.char_indices()
        .find(|&(_, character)| !is_allowed(character))
        .map(|(at, _)| at)
}

const fn is_plain_space(byte: u8) -> bool {
    (byte == b'\t') | (byte == b'\n') | (byte == b'\r')
}

/// A name without a colon (production 4 of Namespaces in XML), in ASCII.
///
/// The editions of XML, and the readers behind us, disagree about other letters. Everything that
/// EWS and SOAP name is ASCII, so a name that is not is refused.
pub(super) fn is_ncname(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| ascii_is(first, NAME_START))
        && bytes.all(|byte| ascii_is(byte, NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_characters_are_found_where_they_stand() {
        assert_eq!(first_forbidden("plain\r\n\ttext"), None);
        assert_eq!(first_forbidden("größer \u{feff} \u{fffd} \u{1f4e7}"), None);
        assert_eq!(first_forbidden("ab\0c"), Some(2));
        assert_eq!(first_forbidden("ab\u{1}"), Some(2));
        assert_eq!(first_forbidden("é\u{ffff}"), Some(2));
        assert_eq!(first_forbidden("\u{fffe}"), Some(0));
    }

    #[test]
    fn names() {
        for good in ["a", "_", "Envelope", "a-b.c1"] {
            assert!(is_ncname(good), "{good}");
        }
        for bad in [
            "",
            "1a",
            "-a",
            "a:b",
            "a b",
            "a/b",
            "a\"",
            "é",
            "a\u{feff}",
            "a<",
        ] {
            assert!(!is_ncname(bad), "{bad}");
        }
    }
}
