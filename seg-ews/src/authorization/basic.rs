//! The user name in Basic credentials (RFC 7617), and never the password.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

/// Longest credentials that are read, in bytes of base64.
const MAX_BYTES: usize = 8 * 1024;

/// Standard alphabet, with or without padding.
const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The user name in what follows `Basic`, read as UTF-8 and where it is not that, as Latin-1.
///
/// None where it is no base64, has no colon, or the name is empty or holds control characters.
/// The password is overwritten before this returns.
pub fn basic_user(credentials: &[u8]) -> Option<String> {
    if credentials.len() > MAX_BYTES {
        return None;
    }
    let decoded = Zeroizing::new(ENGINE.decode(credentials).ok()?);
    let colon = decoded.iter().position(|&byte| byte == b':')?;
    let user = decoded.get(..colon)?;
    let user = match std::str::from_utf8(user) {
        Ok(user) => user.to_owned(),
        Err(_) => user.iter().copied().map(char::from).collect(),
    };
    (!user.is_empty() && !user.chars().any(char::is_control)).then_some(user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    fn user_of(plain: &[u8]) -> Option<String> {
        basic_user(STANDARD.encode(plain).as_bytes())
    }

    #[test]
    fn the_user_ends_at_the_first_colon() {
        assert_eq!(user_of(b"alice:secret").as_deref(), Some("alice"));
        assert_eq!(
            user_of(b"CORP\\alice:a:b:c").as_deref(),
            Some("CORP\\alice")
        );
        assert_eq!(
            user_of(b"alice@corp.example:").as_deref(),
            Some("alice@corp.example")
        );
        assert_eq!(basic_user(b"YWxpY2U6cHc").as_deref(), Some("alice"));
    }

    #[test]
    fn latin_1_comes_after_utf_8() {
        assert_eq!(user_of("jörg:pw".as_bytes()).as_deref(), Some("jörg"));
        assert_eq!(user_of(b"j\xf6rg:pw").as_deref(), Some("jörg"));
        // The password has no say in how the name is read.
        assert_eq!(user_of("jörg:\u{fffd}".as_bytes()).as_deref(), Some("jörg"));
        assert_eq!(user_of(b"alice:p\xf6").as_deref(), Some("alice"));
    }

    #[test]
    fn what_names_nobody_is_nobody() {
        for plain in [&b"alice"[..], b":secret", b"al\0ice:x", b"al\nice:x", b""] {
            assert_eq!(user_of(plain), None, "{plain:?}");
        }
        assert_eq!(basic_user(b"not base64!"), None);
        assert_eq!(basic_user(b"YWxp Y2U6cHc="), None);
        assert_eq!(basic_user(&vec![b'A'; MAX_BYTES + 4]), None);
    }
}
