//! Percent-encoding (RFC 3986 section 2.1), undone.

/// The text that is meant; `None` where a `%` has no two digits behind it, or what is meant is no
/// UTF-8. A `+` is a plus: queries are no forms here.
pub(crate) fn decoded(text: &str) -> Option<String> {
    String::from_utf8(decoded_bytes(text)?).ok()
}

/// The bytes that are meant; `None` where a `%` has no two digits behind it.
pub(crate) fn decoded_bytes(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_not_form_decoded() {
        assert_eq!(decoded("a+b%2Bc%3D").as_deref(), Some("a+b+c="));
        assert_eq!(decoded("%C3%BC").as_deref(), Some("ü"));
        for wrong in ["%", "%4", "%zz", "%+f", "%FF"] {
            assert_eq!(decoded(wrong), None, "{wrong}");
        }
    }
}
