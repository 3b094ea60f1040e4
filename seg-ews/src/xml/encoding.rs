//! From bytes to text: UTF-8, or UTF-16 with a byte order mark.

use super::characters::first_forbidden;
use crate::reject::RejectKind;

/// Text of a UTF-16 document is handed on in pieces of about this many bytes.
const PIECE_BYTES: usize = 4096;

/// What the bytes are in, as far as their start tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// UTF-8, with or without a byte order mark.
    Utf8,
    /// UTF-16, least significant byte first.
    Utf16Le,
    /// UTF-16, most significant byte first.
    Utf16Be,
}

/// Turns bytes into text across any splits. Holds at most three bytes back.
#[derive(Debug)]
pub(super) struct Decoder {
    encoding: Option<Encoding>,
    /// Bytes of an incomplete character or byte order mark.
    held: [u8; 4],
    held_len: usize,
    /// The first half of a UTF-16 surrogate pair.
    surrogate: Option<u16>,
}

impl Decoder {
    pub(super) const fn new() -> Self {
        Self {
            encoding: None,
            held: [0; 4],
            held_len: 0,
            surrogate: None,
        }
    }

    /// Hands the text of these bytes to `sink`, up to the first mistake.
    ///
    /// # Errors
    /// What `sink` returns, and by `wrong` a [`RejectKind::Encoding`] or
    /// [`RejectKind::Character`], after the text before it has been handed on.
    pub(super) fn decode<S: Sink>(&mut self, bytes: &[u8], sink: &mut S) -> Result<(), S::Error> {
        let mut rest = bytes;
        while self.encoding.is_none() {
            let Some((&byte, after)) = rest.split_first() else {
                return Ok(());
            };
            rest = after;
            self.hold(byte);
            self.recognise(sink)?;
        }
        match self.encoding.unwrap_or(Encoding::Utf8) {
            Encoding::Utf8 => self.utf8(rest, sink),
            encoding => self.utf16(encoding, rest, sink),
        }
    }

    /// Whether the bytes so far end within a character.
    pub(super) fn is_mid_character(&self) -> bool {
        self.held_len > 0 || self.surrogate.is_some()
    }

    fn hold(&mut self, byte: u8) {
        if let Some(slot) = self.held.get_mut(self.held_len) {
            *slot = byte;
            self.held_len += 1;
        }
    }

    fn held(&self) -> &[u8] {
        self.held.get(..self.held_len).unwrap_or_default()
    }

    /// Looks for a byte order mark in the bytes held at the very start.
    fn recognise<S: Sink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        let encoding = match self.held() {
            [0xef] | [0xef, 0xbb] | [0xff] | [0xfe] => return Ok(()),
            [0xff, 0xfe] => Encoding::Utf16Le,
            [0xfe, 0xff] => Encoding::Utf16Be,
            [0xef, 0xbb, 0xbf] => Encoding::Utf8,
            _ => {
                self.encoding = Some(Encoding::Utf8);
                let (held, len) = (self.held, self.held_len);
                self.held_len = 0;
                return self.utf8(held.get(..len).unwrap_or_default(), sink);
            }
        };
        self.encoding = Some(encoding);
        self.held_len = 0;
        Ok(())
    }

    fn utf8<S: Sink>(&mut self, bytes: &[u8], sink: &mut S) -> Result<(), S::Error> {
        let mut rest = bytes;
        while self.held_len > 0 {
            let Some((&byte, after)) = rest.split_first() else {
                return Ok(());
            };
            rest = after;
            self.hold(byte);
            match std::str::from_utf8(self.held()) {
                Ok(_) => {
                    let (held, len) = (self.held, self.held_len);
                    self.held_len = 0;
                    let text = held
                        .get(..len)
                        .and_then(|held| std::str::from_utf8(held).ok());
                    checked(Encoding::Utf8, text.unwrap_or_default(), sink)?;
                }
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(sink.wrong(RejectKind::Encoding)),
            }
        }
        match std::str::from_utf8(rest) {
            Ok(text) => checked(Encoding::Utf8, text, sink),
            Err(error) => {
                let (valid, tail) = rest
                    .split_at_checked(error.valid_up_to())
                    .unwrap_or_default();
                let text = std::str::from_utf8(valid).unwrap_or_default();
                checked(Encoding::Utf8, text, sink)?;
                if error.error_len().is_some() {
                    return Err(sink.wrong(RejectKind::Encoding));
                }
                tail.iter().for_each(|&byte| self.hold(byte));
                Ok(())
            }
        }
    }

    fn utf16<S: Sink>(
        &mut self,
        encoding: Encoding,
        bytes: &[u8],
        sink: &mut S,
    ) -> Result<(), S::Error> {
        let unit = match encoding {
            Encoding::Utf16Be => u16::from_be_bytes,
            Encoding::Utf8 | Encoding::Utf16Le => u16::from_le_bytes,
        };
        let mut text = String::with_capacity(bytes.len().min(PIECE_BYTES) + 4);
        for &byte in bytes {
            self.hold(byte);
            let &[first, second] = self.held() else {
                continue;
            };
            self.held_len = 0;
            let unit = unit([first, second]);
            let decoded = match (self.surrogate.take(), unit) {
                (None, 0xd800..=0xdbff) => {
                    self.surrogate = Some(unit);
                    continue;
                }
                (None, unit) => char::from_u32(u32::from(unit)),
                (Some(high), unit) => char::decode_utf16([high, unit]).next().and_then(Result::ok),
            };
            let Some(character) = decoded else {
                checked(encoding, &text, sink)?;
                return Err(sink.wrong(RejectKind::Encoding));
            };
            text.push(character);
            if text.len() >= PIECE_BYTES {
                checked(encoding, &text, sink)?;
                text.clear();
            }
        }
        checked(encoding, &text, sink)
    }
}

/// Takes text, and turns a mistake into an error that knows its place.
pub(super) trait Sink {
    type Error;
    fn text(&mut self, encoding: Encoding, text: &str) -> Result<(), Self::Error>;
    fn wrong(&mut self, kind: RejectKind) -> Self::Error;
}

/// Hands on text up to the first forbidden character.
fn checked<S: Sink>(encoding: Encoding, text: &str, sink: &mut S) -> Result<(), S::Error> {
    match first_forbidden(text) {
        None if text.is_empty() => Ok(()),
        None => sink.text(encoding, text),
        Some(at) => {
            sink.text(encoding, text.get(..at).unwrap_or_default())?;
            Err(sink.wrong(RejectKind::Character))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Collected(String);

    impl Sink for Collected {
        type Error = RejectKind;
        fn text(&mut self, _: Encoding, text: &str) -> Result<(), RejectKind> {
            self.0.push_str(text);
            Ok(())
        }
        fn wrong(&mut self, kind: RejectKind) -> RejectKind {
            kind
        }
    }

    fn decode(bytes: &[u8], piece: usize) -> (String, Result<bool, RejectKind>) {
        let mut decoder = Decoder::new();
        let mut collected = Collected::default();
        for piece in bytes.chunks(piece) {
            if let Err(kind) = decoder.decode(piece, &mut collected) {
                return (collected.0, Err(kind));
            }
        }
        (collected.0, Ok(decoder.is_mid_character()))
    }

    fn utf16(text: &str, bytes_of: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes_of).collect()
    }

    #[test]
    fn text_is_the_same_in_every_encoding_and_split() {
        let text = "<a>größe \u{1f4e7} </a>";
        let with_mark = format!("\u{feff}{text}");
        for piece in 1..8 {
            for bytes in [
                text.as_bytes().to_vec(),
                with_mark.as_bytes().to_vec(),
                utf16(&with_mark, u16::to_le_bytes),
                utf16(&with_mark, u16::to_be_bytes),
            ] {
                assert_eq!(decode(&bytes, piece), (text.to_owned(), Ok(false)));
            }
        }
    }

    #[test]
    fn mistakes_come_after_the_text_before_them() {
        for piece in 1..4 {
            for (bytes, kind) in [
                (&b"ab\xff"[..], RejectKind::Encoding),
                (b"ab\xc3\x28", RejectKind::Encoding),
                (b"ab\xed\xa0\x80", RejectKind::Encoding),
                (b"ab\0", RejectKind::Character),
                (b"\xff\xfea\0b\0\0\xdc", RejectKind::Encoding),
                (b"\xff\xfea\0b\0\0\0", RejectKind::Character),
                (b"\xff\xfea\0b\0\x3d\xd8x\0", RejectKind::Encoding),
            ] {
                assert_eq!(
                    decode(bytes, piece),
                    ("ab".to_owned(), Err(kind)),
                    "{bytes:?}"
                );
            }
        }
        assert_eq!(decode(b"ab\xc3", 1), ("ab".to_owned(), Ok(true)));
        assert_eq!(
            decode(b"\xfe\xff\0a\xd8\x3d", 1),
            ("a".to_owned(), Ok(true))
        );
    }
}
