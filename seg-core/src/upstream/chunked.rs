//! Chunked transfer coding (RFC 9112 section 7.1): a strict decoder without I/O, and the framing
//! of our own uploads.

use bytes::{Bytes, BytesMut};

use super::error::ChunkError;

/// Longest chunk extension of one chunk, bytes. Extensions are read over and dropped.
const EXTENSION_LIMIT: u16 = 4 * 1024;
/// Longest trailer section, bytes. Trailers are read over and dropped.
const TRAILER_LIMIT: u16 = 16 * 1024;
/// Hexadecimal digits of a chunk size: what fits into 64 bits, leading zeros included.
const SIZE_DIGITS: u8 = 16;

/// Reads chunked framing over input that is split anywhere.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    state: State,
    /// Bytes of the current chunk that are still to come; while reading a size, the size so far.
    left: u64,
    /// Length so far of what has a limit: digits, an extension, the trailer section.
    length: u16,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Size,
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerLine,
    TrailerLf,
    EndLf,
    Done,
}

/// What the decoder found.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Data of the body, never empty.
    Data(Bytes),
    /// The input is used up.
    More,
    /// The body is complete. What is left of the input does not belong to it.
    End,
}

impl Decoder {
    /// The next piece of body data out of `input`.
    pub(super) fn next(&mut self, input: &mut Bytes) -> Result<Step, ChunkError> {
        self.skip_framing(input)?;
        if self.state == State::Done {
            return Ok(Step::End);
        }
        if input.is_empty() {
            return Ok(Step::More);
        }
        let here = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(input.len());
        let data = input.split_to(here);
        self.left -= here as u64;
        if self.left == 0 {
            self.state = State::DataCr;
        }
        Ok(Step::Data(data))
    }

    /// Reads over everything that is not data; whether that reached the end of the body.
    pub(super) fn skip_framing(&mut self, input: &mut Bytes) -> Result<bool, ChunkError> {
        let mut used = 0;
        for &byte in input.iter() {
            if matches!(self.state, State::Data | State::Done) {
                break;
            }
            self.framing_byte(byte)?;
            used += 1;
        }
        let _framing = input.split_to(used);
        Ok(self.state == State::Done)
    }

    /// Reads over a body, data and all. How many of `bytes` belonged to it, once it is complete.
    ///
    /// # Errors
    /// Its framing is not as RFC 9112 has it.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Result<Option<usize>, ChunkError> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self.state {
                State::Done => break,
                State::Data => {
                    let here = bytes.len() - at;
                    let here = usize::try_from(self.left).unwrap_or(here).min(here);
                    at += here;
                    self.left -= here as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                }
                _ => {
                    self.framing_byte(byte)?;
                    at += 1;
                }
            }
        }
        Ok((self.state == State::Done).then_some(at))
    }

    fn framing_byte(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.state = match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                return self.size_digit(byte);
            }
            (State::Size, _) if self.length == 0 => return Err(ChunkError::Size),
            (State::Size | State::Blank, b';') => {
                self.length = 0;
                State::Extension
            }
            (State::Size | State::Blank | State::Extension, b'\r') => State::SizeLf,
            (State::Size | State::Blank, b' ' | b'\t') => {
                // The size is read; from here on the length counts blanks.
                if self.state == State::Size {
                    self.length = 0;
                }
                self.grow(EXTENSION_LIMIT, ChunkError::Extension)?;
                State::Blank
            }
            (State::Size | State::Blank | State::Extension, b'\n') => {
                return Err(ChunkError::LineEnd);
            }
            (State::Size, _) => return Err(ChunkError::Size),
            (State::Blank, _) => return Err(ChunkError::Extension),
            (State::Extension, _) => {
                if is_control(byte) {
                    return Err(ChunkError::Extension);
                }
                self.grow(EXTENSION_LIMIT, ChunkError::Extension)?;
                State::Extension
            }
            (State::SizeLf, b'\n') => {
                self.length = 0;
                if self.left == 0 {
                    State::TrailerStart
                } else {
                    State::Data
                }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerLine, b'\r') => State::TrailerLf,
            (State::TrailerStart | State::TrailerLine, b'\n') => return Err(ChunkError::LineEnd),
            (State::TrailerStart | State::TrailerLine, _) => {
                if is_control(byte) {
                    return Err(ChunkError::Trailer);
                }
                self.grow(TRAILER_LIMIT, ChunkError::Trailer)?;
                State::TrailerLine
            }
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::Done,
            (
                State::SizeLf | State::DataCr | State::DataLf | State::TrailerLf | State::EndLf,
                _,
            ) => return Err(ChunkError::LineEnd),
            (State::Data | State::Done, _) => self.state,
        };
        Ok(())
    }

    fn size_digit(&mut self, byte: u8) -> Result<(), ChunkError> {
        let digit = char::from(byte).to_digit(16).ok_or(ChunkError::Size)?;
        self.grow(u16::from(SIZE_DIGITS), ChunkError::Size)?;
        self.left = (self.left << 4) | u64::from(digit);
        Ok(())
    }

    fn grow(&mut self, limit: u16, refusal: ChunkError) -> Result<(), ChunkError> {
        if self.length >= limit {
            return Err(refusal);
        }
        self.length += 1;
        Ok(())
    }
}

fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

/// Appends the line that opens a chunk of `len` bytes; the CR LF that closes the chunk before
/// it comes first, so that a chunk needs one write and no copy of its data.
pub(super) fn open_chunk(out: &mut BytesMut, first: bool, len: usize) {
    if !first {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("{len:x}\r\n").as_bytes());
}

/// Appends the end of a chunked body.
pub(super) fn end_chunks(out: &mut BytesMut, first: bool) {
    if !first {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes input that arrives in the given pieces: the data, and what is left behind it.
    fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>, bool), ChunkError> {
        let mut decoder = Decoder::default();
        let mut data = Vec::new();
        let mut left = Vec::new();
        let mut ended = false;
        for piece in pieces {
            let mut input = Bytes::copy_from_slice(piece);
            loop {
                match decoder.next(&mut input)? {
                    Step::Data(bytes) => {
                        assert!(!bytes.is_empty());
                        data.extend_from_slice(&bytes);
                    }
                    Step::More => break,
                    Step::End => {
                        ended = true;
                        left.extend_from_slice(&input);
                        break;
                    }
                }
            }
        }
        Ok((data, left, ended))
    }

    fn whole(input: &[u8]) -> Result<(Vec<u8>, Vec<u8>, bool), ChunkError> {
        decode(&[input])
    }

    #[test]
    fn bodies_with_all_that_is_allowed() {
        for (input, data) in [
            (&b"0\r\n\r\n"[..], &b""[..]),
            (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
            (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world"),
            (b"005;a=b;c=\"d\"\r\nhello\r\n0;x\r\n\r\n", b"hello"),
            (b"5 \t\r\nhello\r\n0\r\n\r\n", b"hello"),
            (b"5 ; a\r\nhello\r\n0\r\n\r\n", b"hello"),
            (
                b"A\r\n0123456789\r\n00\r\nX-T: 1\r\nY: 2\r\n\r\n",
                b"0123456789",
            ),
            (b"3\r\n\r\n0\r\n0\r\n\r\n", b"\r\n0"),
        ] {
            let expected = Ok((data.to_vec(), Vec::new(), true));
            assert_eq!(whole(input), expected, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn what_follows_the_end_is_left_alone() {
        assert_eq!(
            whole(b"1\r\nx\r\n0\r\n\r\nHTTP/1.1"),
            Ok((b"x".to_vec(), b"HTTP/1.1".to_vec(), true))
        );
    }

    #[test]
    fn every_fault_has_its_name() {
        for (input, fault) in [
            (&b"\r\n"[..], ChunkError::Size),
            (b";\r\n", ChunkError::Size),
            (b"-5\r\n", ChunkError::Size),
            (b"+5\r\n", ChunkError::Size),
            (b"0x5\r\n", ChunkError::Size),
            (b" 5\r\n", ChunkError::Size),
            (b"g\r\n", ChunkError::Size),
            (b"00000000000000005\r\n", ChunkError::Size),
            (b"11111111111111111\r\n", ChunkError::Size),
            (b"5\nhello", ChunkError::LineEnd),
            (b"5\rhello", ChunkError::LineEnd),
            (b"5;a\nhello", ChunkError::LineEnd),
            (b"5 a\r\nhello", ChunkError::Extension),
            (b"5;a\x00\r\nhello", ChunkError::Extension),
            (b"5\r\nhello!\r\n", ChunkError::LineEnd),
            (b"5\r\nhello\n", ChunkError::LineEnd),
            (b"0\r\n\n", ChunkError::LineEnd),
            (b"0\r\nX: 1\n\r\n", ChunkError::LineEnd),
            (b"0\r\nX: \x01\r\n\r\n", ChunkError::Trailer),
            (b"0\r\n\rX", ChunkError::LineEnd),
        ] {
            assert_eq!(whole(input), Err(fault), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn extensions_blanks_and_trailers_are_bounded() {
        let padded = |fill: &str, count: usize| {
            let mut input = b"1".to_vec();
            input.extend_from_slice(fill.repeat(count).as_bytes());
            input.extend_from_slice(b"\r\nx\r\n0\r\n\r\n");
            whole(&input).map(|(data, ..)| data)
        };
        let limit = usize::from(EXTENSION_LIMIT);
        assert_eq!(padded(" ", limit), Ok(b"x".to_vec()));
        assert_eq!(padded(" ", limit + 1), Err(ChunkError::Extension));
        assert_eq!(padded(";", limit + 1), Ok(b"x".to_vec()));
        assert_eq!(padded(";", limit + 2), Err(ChunkError::Extension));

        let mut endless = b"0\r\n".to_vec();
        endless.extend(b"X: y\r\n".repeat(10_000));
        assert_eq!(whole(&endless), Err(ChunkError::Trailer));
    }

    #[test]
    fn a_huge_chunk_is_no_allocation() {
        let (data, _, ended) = whole(b"ffffffffffffffff\r\nabc").unwrap();
        assert_eq!((data, ended), (b"abc".to_vec(), false));
    }

    #[test]
    fn framed_uploads_decode_to_what_was_sent() {
        let mut out = BytesMut::new();
        open_chunk(&mut out, true, 5);
        out.extend_from_slice(b"hello");
        open_chunk(&mut out, false, 16);
        out.extend_from_slice(&[b'z'; 16]);
        end_chunks(&mut out, false);
        let mut expected = b"hello".to_vec();
        expected.extend([b'z'; 16]);
        assert_eq!(whole(&out), Ok((expected, Vec::new(), true)));

        let mut empty = BytesMut::new();
        end_chunks(&mut empty, true);
        assert_eq!(&empty[..], b"0\r\n\r\n");
    }

    proptest! {
        #[test]
        fn splitting_changes_nothing(
            input in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..64),
                proptest::collection::vec(
                    prop_oneof![Just(&b"3\r\nabc\r\n"[..]), Just(&b"1;e\r\n;\r\n"[..]),
                        Just(&b"0\r\n\r\n"[..]), Just(&b"0\r\nT: v\r\n"[..]), Just(&b"\r\n"[..])],
                    0..8,
                ).prop_map(|parts| parts.concat()),
            ],
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
            cuts.extend([0, input.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect();
            prop_assert_eq!(decode(&pieces), whole(&input));
        }
    }
}
