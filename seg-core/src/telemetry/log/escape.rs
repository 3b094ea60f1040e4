//! Escaping of logged values. Whatever a client put into a header or a query may end up in an
//! event; no byte of it may end a line, move a terminal's cursor or turn text around.

use std::fmt::{self, Write};

/// Appends what is written to it as the inside of a JSON string (RFC 8259 section 7). Beyond what
/// JSON asks for, DEL, the C1 controls, line separators and bidirectional overrides are escaped.
pub(super) struct Escaped<'o>(pub(super) &'o mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if is_plain(text) {
            self.0.push_str(text);
            return Ok(());
        }
        let mut clean_from = 0;
        for (at, byte) in text.bytes().enumerate() {
            // Only a first byte is ever suspicious, so `at` is a character's boundary.
            if !SUSPICIOUS[usize::from(byte)] {
                continue;
            }
            let (Some(clean), Some(rest)) = (text.get(clean_from..at), text.get(at..)) else {
                continue;
            };
            let Some(character) = rest.chars().next().filter(|c| must_escape(*c)) else {
                continue;
            };
            self.0.push_str(clean);
            escape(self.0, character);
            clean_from = at + character.len_utf8();
        }
        self.0.push_str(text.get(clean_from..).unwrap_or_default());
        Ok(())
    }
}

/// Whether the text is ASCII that needs no escape: nearly every value is. Without branches, so that
/// the compiler looks at 16 bytes at a time.
fn is_plain(text: &str) -> bool {
    !text.bytes().fold(false, |found, byte| {
        found | (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (byte >= 0x7f)
    })
}

/// First bytes (of a UTF-8 sequence) of characters that may have to be escaped.
static SUSPICIOUS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[0x7f] = true;
    table[0xc2] = true; // C1 controls
    table[0xe2] = true; // separators, bidirectional controls
    table
};

fn must_escape(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x1f' | '"' | '\\' | '\x7f'..='\u{9f}'
        | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

fn escape(out: &mut String, character: char) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        other => {
            // All of them lie in the basic plane: one unit of UTF-16, four digits.
            let _ = write!(out, "\\u{:04x}", u32::from(other));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escaped(text: &str) -> String {
        let mut out = String::new();
        Escaped(&mut out).write_str(text).unwrap();
        out
    }

    #[test]
    fn controls_and_overrides_never_pass() {
        assert_eq!(escaped("plain – text ü €"), "plain – text ü €");
        assert_eq!(escaped("a\r\nb\t\"\\"), "a\\r\\nb\\t\\\"\\\\");
        assert_eq!(escaped("\x1b[31m\x7f\u{9b}"), "\\u001b[31m\\u007f\\u009b");
        assert_eq!(escaped("\u{202e}x\u{2028}"), "\\u202ex\\u2028");
    }

    proptest! {
        #[test]
        fn any_text_reads_back_as_itself(text in "\\PC*|[\\x00-\\xff\\u{2000}-\\u{2100}]*") {
            let out = escaped(&text);
            prop_assert!(!out.chars().any(char::is_control));
            let back: String = serde_json::from_str(&format!("\"{out}\"")).unwrap();
            prop_assert_eq!(back, text);
        }
    }
}
