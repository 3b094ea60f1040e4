//! How the content of a part is written: its transfer encoding and its character set.
//!
//! Mail programs read what they can and pass over what they can't, so nothing is refused here: what is
//! no base64 in base64 is left out, and a character set that nobody knows is taken for one that has
//! ASCII in it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_parser::decoders::charsets::map::charset_decoder;

/// Characters on a line of base64 and of quoted-printable (RFC 2045 6.7, 6.8).
const LINE: usize = 76;

/// A transfer encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transfer {
    Plain,
    Base64,
    QuotedPrintable,
}

impl Transfer {
    /// What a header names. Whatever stands around the name, a mail program may have found it.
    pub(super) fn of(header: &str) -> Self {
        let header = header.to_ascii_lowercase();
        if header.contains("base64") {
            Self::Base64
        } else if header.contains("quoted-printable") {
            Self::QuotedPrintable
        } else {
            Self::Plain
        }
    }

    /// The content.
    pub(super) fn decoded(self, raw: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Plain => Cow::Borrowed(raw),
            Self::Base64 => Cow::Owned(base64(raw, usize::MAX)),
            Self::QuotedPrintable => Cow::Owned(from_quoted_printable(raw)),
        }
    }

    /// Its first bytes.
    pub(super) fn begin(self, raw: &[u8], most: usize) -> Cow<'_, [u8]> {
        match self {
            Self::Plain => Cow::Borrowed(raw.get(..raw.len().min(most)).unwrap_or_default()),
            Self::Base64 => Cow::Owned(base64(raw, most)),
            Self::QuotedPrintable => {
                let mut begin =
                    from_quoted_printable(raw.get(..raw.len().min(most * 4)).unwrap_or_default());
                begin.truncate(most);
                Cow::Owned(begin)
            }
        }
    }

    /// How many bytes it has.
    pub(super) fn length(self, raw: &[u8]) -> u64 {
        match self {
            Self::Plain => raw.len() as u64,
            Self::Base64 => {
                let digits = raw.iter().filter(|byte| digit(**byte).is_some()).count();
                digits as u64 * 3 / 4
            }
            Self::QuotedPrintable => from_quoted_printable(raw).len() as u64,
        }
    }

    /// The content, written.
    pub(super) fn encoded(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => bytes.to_vec(),
            Self::Base64 => base64_lines(bytes),
            Self::QuotedPrintable => quoted_printable(bytes),
        }
    }
}

/// The number that a character of base64 stands for.
const fn digit(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value as u32)
}

/// What stands in base64, at most so many bytes. What is no digit of it is passed over; behind `=` it
/// may begin anew.
pub(super) fn base64(raw: &[u8], most: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(most.min(raw.len() / 4 * 3 + 3));
    let (mut word, mut digits) = (0_u32, 0_u32);
    let mut flush = |word: u32, digits: u32| {
        let bytes = (word << (6 * (4 - digits))).to_be_bytes();
        let count = (digits * 6 / 8) as usize;
        out.extend_from_slice(bytes.get(1..=count).unwrap_or_default());
        out.len() >= most
    };
    for byte in raw {
        match digit(*byte) {
            Some(value) => {
                word = word << 6 | value;
                digits += 1;
                if digits < 4 {
                    continue;
                }
            }
            None if *byte == b'=' => {}
            None => continue,
        }
        if flush(word, digits) {
            digits = 0;
            break;
        }
        (word, digits) = (0, 0);
    }
    let _full = flush(word, digits);
    out.truncate(most);
    out
}

pub(super) fn base64_lines(bytes: &[u8]) -> Vec<u8> {
    let text = STANDARD.encode(bytes);
    let mut out = Vec::with_capacity(text.len() + text.len() / LINE * 2 + 2);
    for line in text.as_bytes().chunks(LINE) {
        if !out.is_empty() {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(line);
    }
    out
}

/// RFC 2045 6.7. What is no escape stays.
fn from_quoted_printable(raw: &[u8]) -> Vec<u8> {
    let hex = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'=' {
            out.push(byte);
            continue;
        }
        if let (Some(high), Some(low)) = (hex(behind.first()), hex(behind.get(1))) {
            out.push((high << 4 | low) as u8);
            rest = behind.get(2..).unwrap_or_default();
            continue;
        }
        let blanks = behind
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
            .count();
        match behind.get(blanks) {
            Some(b'\n') => rest = behind.get(blanks + 1..).unwrap_or_default(),
            None => rest = &[],
            Some(_) => out.push(byte),
        }
    }
    out
}

/// RFC 2045 6.7. Line ends of the text stay line ends.
fn quoted_printable(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 8);
    let mut column = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte == b'\n' || byte == b'\r' {
            out.push(byte);
            column = 0;
            continue;
        }
        let last = bytes
            .get(at + 1)
            .is_none_or(|next| matches!(next, b'\r' | b'\n'));
        let plain = matches!(byte, b'!'..=b'<' | b'>'..=b'~') || byte == b' ' && !last;
        let width = if plain { 1 } else { 3 };
        if column + width >= LINE {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
        if plain {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("={byte:02X}").as_bytes());
        }
        column += width;
    }
    out
}

/// A text that was read, and how it goes back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read<'t> {
    pub(super) text: Cow<'t, str>,
    pub(super) way: Way,
}

/// How a text goes back into its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// As it is.
    Same,
    /// Each character is a byte.
    Bytes,
    /// In a character set of our own choice: it was written in one of its own.
    Anew,
}

impl<'t> Read<'t> {
    /// Reads the bytes of a text.
    pub(super) fn of(bytes: Cow<'t, [u8]>, charset: Option<&str>) -> Self {
        let is_utf8 = |name: &str| {
            ["utf-8", "utf8"]
                .iter()
                .any(|utf8| name.eq_ignore_ascii_case(utf8))
        };
        let charset = charset
            .map(str::trim)
            .filter(|name| !name.is_empty() && !is_utf8(name));
        if let Some(decoder) = charset.and_then(|name| charset_decoder(name.as_bytes())) {
            let text = decoder(&bytes);
            let way = if text.as_bytes() == &*bytes {
                Way::Same
            } else {
                Way::Anew
            };
            return Self {
                text: Cow::Owned(text),
                way,
            };
        }
        let same = match bytes {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes)
                .map(Cow::Borrowed)
                .map_err(|_| Cow::Borrowed(bytes)),
            Cow::Owned(bytes) => String::from_utf8(bytes)
                .map(Cow::Owned)
                .map_err(|error| Cow::Owned(error.into_bytes())),
        };
        match same {
            Ok(text) => Self {
                text,
                way: Way::Same,
            },
            Err(bytes) => Self {
                text: bytes.iter().copied().map(char::from).collect(),
                way: Way::Bytes,
            },
        }
    }
}

impl Way {
    /// The bytes of a text that was read this way.
    pub(super) fn back(self, text: String) -> Vec<u8> {
        match self {
            Self::Same | Self::Anew => text.into_bytes(),
            Self::Bytes => {
                let bytes = text
                    .chars()
                    .map(|letter| u8::try_from(letter).unwrap_or(b'?'));
                bytes.collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_parser::decoders::quoted_printable::quoted_printable_decode;
    use proptest::prelude::*;

    #[test]
    fn base64_is_read_as_mail_programs_read_it() {
        for (raw, bytes) in [
            ("TVpQQVlMT0FE", "MZPAYLOAD"),
            ("TVpQ\r\n  QVlM\r\nT0FE\r\n", "MZPAYLOAD"),
            ("--TV!pQ*QVl-MT0FE", "MZPAYLOAD"),
            ("TVo=UEFZTE9BRA==", "MZPAYLOAD"),
            ("TVpQQVlMT0F", "MZPAYLOA"),
            ("", ""),
            ("====", ""),
        ] {
            assert_eq!(
                base64(raw.as_bytes(), usize::MAX),
                bytes.as_bytes(),
                "{raw}"
            );
        }
        assert_eq!(base64(b"TVpQQVlMT0FE", 2), b"MZ");
        let padded = [[b' '; 20_000].as_slice(), b"TVpQ"].concat();
        assert_eq!(&*Transfer::Base64.begin(&padded, 100), b"MZP");
        assert_eq!(Transfer::Base64.length(b"TVo= \r\n"), 2);
    }

    #[test]
    fn a_transfer_encoding_is_what_a_reader_may_find() {
        for (header, transfer) in [
            ("base64", Transfer::Base64),
            (" BASE64 (really)", Transfer::Base64),
            ("\"base64\";", Transfer::Base64),
            ("Quoted-Printable", Transfer::QuotedPrintable),
            ("8bit", Transfer::Plain),
        ] {
            assert_eq!(Transfer::of(header), transfer, "{header}");
        }
        let quoted = Transfer::QuotedPrintable;
        assert_eq!(&*quoted.decoded(b"a=3Db= \r\nc=zz=4"), b"a=bc=zz=4");
        assert_eq!(&*quoted.begin(b"=4D=5A=50", 2), b"MZ");
    }

    #[test]
    fn texts_are_read_in_their_character_set_and_go_back() {
        let read = |bytes: &'static [u8], charset| Read::of(Cow::Borrowed(bytes), charset);
        for (bytes, charset, text, way) in [
            (b"caf\xc3\xa9".as_slice(), None, "café", Way::Same),
            (b"caf\xc3\xa9", Some("UTF-8"), "café", Way::Same),
            (b"caf\xe9", Some("utf-8"), "café", Way::Bytes),
            (b"caf\xe9", Some("x-nobody"), "café", Way::Bytes),
            (b"cafe", Some("iso-8859-1"), "cafe", Way::Same),
            (b"caf\xe9", Some("ISO-8859-1"), "café", Way::Anew),
            (b"h\0i\0", Some("utf-16le"), "hi", Way::Anew),
            (b"+AGg-i", Some("utf-7"), "hi", Way::Anew),
            (b"\x93\xfa\x96\x7b", Some("shift_jis"), "日本", Way::Anew),
        ] {
            let read = read(bytes, charset);
            assert_eq!((&*read.text, read.way), (text, way), "{charset:?}");
        }
        assert_eq!(Way::Bytes.back("caf\u{e9}".to_owned()), b"caf\xe9");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for transfer in [Transfer::Plain, Transfer::Base64] {
                let written = transfer.encoded(&bytes);
                prop_assert_eq!(&*transfer.decoded(&written), &bytes[..]);
                prop_assert_eq!(transfer.length(&written), bytes.len() as u64);
            }
        }

        #[test]
        fn quoted_printable_comes_back(text in "[ -~\t\u{e4}]{0,200}") {
            let coded = quoted_printable(text.as_bytes());
            prop_assert!(coded.split(|byte| *byte == b'\n').all(|line| line.len() <= LINE + 1));
            prop_assert_eq!(quoted_printable_decode(&coded), Some(text.clone().into_bytes()));
            prop_assert_eq!(from_quoted_printable(&coded), text.into_bytes());
        }

        /// A byte that no character set explains goes back as it came.
        #[test]
        fn no_byte_is_lost(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let read = Read::of(Cow::Borrowed(&bytes), Some("x-nobody"));
            prop_assert_eq!(read.way.back(read.text.into_owned()), bytes);
        }
    }
}
