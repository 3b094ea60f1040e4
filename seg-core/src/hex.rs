//! A SHA-256 as people write it: 64 hexadecimal digits.

/// Its bytes; `None` where it is anything else.
pub(crate) fn sha256(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let mut digits = text.chars().map(|digit| digit.to_digit(16));
    for byte in &mut bytes {
        let (high, low) = (digits.next()??, digits.next()??);
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    digits.next().is_none().then_some(bytes)
}

/// Bytes as two digits each.
pub(crate) fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_four_digits_and_nothing_else() {
        assert_eq!(sha256(&"0a".repeat(32)), Some([10; 32]));
        assert_eq!(sha256(&"0A".repeat(32)), Some([10; 32]));
        assert_eq!(text(&[10, 255]), "0aff");
        // A sign is no digit, whatever a number's parser says.
        for wrong in [
            "",
            "0a",
            &"+a".repeat(32),
            &"0a".repeat(33),
            &"0ä".repeat(32),
        ] {
            assert_eq!(sha256(wrong), None, "{wrong}");
        }
    }
}
