//! A text as a body of type 3: compressed RTF (MS-OXRTFCP), uncompressed as that format has it, in
//! base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// `MELA`: what follows is not compressed.
const UNCOMPRESSED: [u8; 4] = *b"MELA";
/// Bytes of the header behind its first field, which does not count itself.
const HEADER: usize = 12;

/// A text that is shown as it is.
pub(super) fn of(text: &str) -> String {
    let mut rtf = String::from("{\\rtf1\\ansi ");
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte @ (b'\\' | b'{' | b'}')) => rtf.extend(['\\', char::from(byte)]),
            Ok(b'\n') => rtf.push_str("\\par "),
            Ok(byte @ b' '..=b'~') => rtf.push(char::from(byte)),
            Ok(0..=0x1F) => {}
            // Numbers are signed; `?` is for readers that know none of this.
            _ => rtf.push_str(&format!("\\u{}?", unit.cast_signed())),
        }
    }
    rtf.push('}');
    let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = Vec::with_capacity(HEADER + 4 + rtf.len());
    bytes.extend(length(HEADER + rtf.len()));
    bytes.extend(length(rtf.len()));
    bytes.extend(UNCOMPRESSED);
    bytes.extend([0; 4]); // The checksum: of compressed content only.
    bytes.extend_from_slice(rtf.as_bytes());
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_wrapped() {
        let bytes = STANDARD.decode(of("a{b}\r\n\u{20ac}")).unwrap();
        let rtf = b"{\\rtf1\\ansi a\\{b\\}\\par \\u8364?}";
        let mut wanted = b"\x2b\0\0\0\x1f\0\0\0MELA\0\0\0\0".to_vec();
        wanted.extend_from_slice(rtf);
        assert_eq!(bytes, wanted);
        assert_eq!(usize::from(bytes[0]), bytes.len() - 4);
        assert_eq!(usize::from(bytes[4]), rtf.len());
    }
}
