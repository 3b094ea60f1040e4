//! 32 bytes as text.

use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer, Serializer};

pub(super) fn text(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(bytes))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<[u8; 32], D::Error> {
    let text = String::deserialize(deserializer)?;
    let mut bytes = [0; 32];
    let mut pairs = text.as_bytes().chunks_exact(2);
    for byte in &mut bytes {
        let pair = pairs.next().and_then(|pair| std::str::from_utf8(pair).ok());
        *byte = pair
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
            .ok_or_else(|| D::Error::custom("expected 64 hexadecimal digits"))?;
    }
    if pairs.next().is_some() {
        return Err(D::Error::custom("expected 64 hexadecimal digits"));
    }
    Ok(bytes)
}
