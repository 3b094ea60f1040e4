//! The reader of a message that comes in pieces.
//!
//! A long upload is checked while it passes, without being held: the pieces may end anywhere, in
//! the middle of a character, a length or a SWITCH_PAGE. What this reader accepts and refuses is
//! what [`super::Reader`] accepts and refuses of the whole message.

use super::pages::{KNOWN_TOKENS, Tag};
use super::reader::{string_at, unused};
use super::{Error, ErrorKind, Header, Limits, UnknownTags, global};

/// The bytes of a header without its string table, at most: version, public identifier with its
/// place in the string table, charset, length; four integers of five bytes.
const LONGEST_HEADER: usize = 1 + 4 * 5;

/// What a piece of a message brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// An element that has content.
    Start(Tag),
    /// An element without content.
    Empty(Tag),
    /// The end of the innermost open element.
    End,
    /// A part of an inline string. All parts together are UTF-8; one part may begin and end in the
    /// middle of a character.
    Text {
        /// The part, which may be empty.
        bytes: &'a [u8],
        /// Whether the string ends with it.
        last: bool,
    },
    /// A part of a byte array.
    Opaque {
        /// The part, which may be empty.
        bytes: &'a [u8],
        /// Whether the array ends with it.
        last: bool,
    },
    /// A whole string of the string table.
    Reference(&'a str),
}

/// Reads one WBXML message that comes in pieces. Holds the header and nothing else of it.
#[derive(Debug, Clone)]
pub struct PieceReader {
    state: State,
    /// How many bytes were read before the current piece.
    before: usize,
    /// Where the token begins that is being read.
    begun: usize,
    /// How long the whole message is, where that was announced.
    total: Option<usize>,
    /// The header, until it is whole; then the string table.
    held: Vec<u8>,
    known: u64,
    page: u8,
    depth: u32,
    may_begin: bool,
    unknown: u64,
    limits: Limits,
    /// The begin of a character whose end has not come.
    character: Character,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Header,
    Content,
    Page,
    Text,
    Length(Integer),
    Opaque { left: usize },
    Place(Integer),
}

#[derive(Debug, Clone, Copy, Default)]
struct Integer {
    value: u32,
    bytes: u8,
}

#[derive(Debug, Clone, Copy, Default)]
struct Character {
    bytes: [u8; 4],
    length: u8,
}

impl PieceReader {
    /// A reader of a message of `total` bytes, where its length is known.
    #[must_use]
    pub fn new(limits: Limits, total: Option<u64>) -> Self {
        Self {
            state: State::Header,
            before: 0,
            begun: 0,
            total: total.map(|total| usize::try_from(total).unwrap_or(usize::MAX)),
            held: Vec::new(),
            known: KNOWN_TOKENS.first().copied().unwrap_or(0),
            page: 0,
            depth: 0,
            may_begin: true,
            unknown: 0,
            limits,
            character: Character::default(),
        }
    }

    /// Reads the next piece. `take` is given what is in it, with the depth behind it: of a
    /// [`Piece::Start`] that of its content.
    ///
    /// # Errors
    /// As [`super::Reader::next_event`]. A reader that gave an error is of no more use.
    pub fn feed(
        &mut self,
        piece: &[u8],
        take: &mut impl FnMut(Piece<'_>, u32),
    ) -> Result<(), Error> {
        let mut rest = piece;
        while !rest.is_empty() {
            let at = self.before + (piece.len() - rest.len());
            rest = self.step(rest, at, take)?;
        }
        self.before += piece.len();
        Ok(())
    }

    /// Says that no more will come.
    ///
    /// # Errors
    /// When the message is not whole.
    pub fn finish(&self) -> Result<(), Error> {
        let cut_off = match self.state {
            State::Header => ErrorKind::Truncated("the header"),
            State::Page => ErrorKind::Truncated("SWITCH_PAGE"),
            State::Text => ErrorKind::Truncated("a string (no closing NUL)"),
            State::Length(_) => ErrorKind::Truncated("the length of a byte array"),
            State::Opaque { .. } => ErrorKind::Truncated("a byte array (OPAQUE)"),
            State::Place(_) => ErrorKind::Truncated("a string reference"),
            State::Content if self.depth > 0 => ErrorKind::MissingEnd { open: self.depth },
            State::Content if self.may_begin => ErrorKind::NoRoot,
            State::Content => return Ok(()),
        };
        let offset = match self.state {
            State::Header | State::Content => self.before,
            _ => self.begun,
        };
        Err(error(cut_off, offset))
    }

    /// How many tags so far are not in [`super::pages`].
    #[must_use]
    pub const fn unknown_tags(&self) -> u64 {
        self.unknown
    }

    /// Reads at least one byte of `rest`, which begins `at`; returns what is left.
    fn step<'p>(
        &mut self,
        rest: &'p [u8],
        at: usize,
        take: &mut impl FnMut(Piece<'_>, u32),
    ) -> Result<&'p [u8], Error> {
        match self.state {
            State::Header => self.header(rest),
            State::Content => self.content(rest, at, take),
            State::Page => {
                let Some((&page, rest)) = rest.split_first() else {
                    return Ok(rest);
                };
                let known = KNOWN_TOKENS.get(usize::from(page)).copied();
                if known.is_none() && self.limits.unknown_tags == UnknownTags::Refuse {
                    return Err(error(ErrorKind::UnknownPage(page), self.begun));
                }
                self.page = page;
                self.known = known.unwrap_or(0);
                self.state = State::Content;
                Ok(rest)
            }
            State::Text => self.text(rest, at, take),
            State::Length(integer) => {
                let (integer, done, rest) = integer.read(rest, self.begun)?;
                if !done {
                    self.state = State::Length(integer);
                    return Ok(rest);
                }
                let left = usize::try_from(integer.value).unwrap_or(usize::MAX);
                let begin = self.begun + 1 + usize::from(integer.bytes);
                if let Some(remaining) = self.total.map(|total| total.saturating_sub(begin))
                    && left > remaining
                {
                    let kind = ErrorKind::BeyondEnd {
                        what: "a byte array (OPAQUE)",
                        length: integer.value,
                        remaining,
                    };
                    return Err(error(kind, self.begun));
                }
                if left == 0 {
                    self.state = State::Content;
                    take(
                        Piece::Opaque {
                            bytes: &[],
                            last: true,
                        },
                        self.depth,
                    );
                } else {
                    self.state = State::Opaque { left };
                }
                Ok(rest)
            }
            State::Opaque { left } => {
                let (bytes, rest) = rest.split_at_checked(left).unwrap_or((rest, [].as_slice()));
                let left = left - bytes.len();
                let last = left == 0;
                self.state = if last {
                    State::Content
                } else {
                    State::Opaque { left }
                };
                take(Piece::Opaque { bytes, last }, self.depth);
                Ok(rest)
            }
            State::Place(integer) => {
                let (integer, done, rest) = integer.read(rest, self.begun)?;
                self.state = State::Place(integer);
                if done {
                    let text = string_at(&self.held, integer.value)
                        .map_err(|kind| error(kind, self.begun))?;
                    take(Piece::Reference(text), self.depth);
                    self.state = State::Content;
                }
                Ok(rest)
            }
        }
    }

    /// Gathers the header until it can be read.
    fn header<'p>(&mut self, rest: &'p [u8]) -> Result<&'p [u8], Error> {
        let room = LONGEST_HEADER + usize::try_from(self.limits.string_table).unwrap_or(usize::MAX);
        let held_before = self.held.len();
        let (taken, _) = rest
            .split_at_checked(room.saturating_sub(held_before))
            .unwrap_or((rest, &[]));
        self.held.extend_from_slice(taken);
        let header = match Header::read(&self.held, &self.limits) {
            Ok(header) => header,
            // More may come.
            Err(Error {
                kind: ErrorKind::Truncated(_) | ErrorKind::BeyondEnd { .. },
                ..
            }) if taken.len() == rest.len() => return Ok(&[]),
            Err(error) => return Err(error),
        };
        let length = header.bytes.len();
        let table = header.string_table.to_vec();
        self.held = table;
        self.state = State::Content;
        Ok(rest.get(length - held_before..).unwrap_or_default())
    }

    fn content<'p>(
        &mut self,
        rest: &'p [u8],
        at: usize,
        take: &mut impl FnMut(Piece<'_>, u32),
    ) -> Result<&'p [u8], Error> {
        let whole = rest.len();
        let mut rest = rest;
        // The usual bytes, without a way through `step` for each.
        while let Some((&byte, after)) = rest.split_first() {
            let here = at + (whole - rest.len());
            if byte & global::TOKEN >= global::FIRST_TAG {
                self.tag(byte, here, take)?;
                rest = after;
                continue;
            }
            if self.depth == 0 {
                self.outside_root(byte, here)?;
            }
            rest = after;
            self.begun = here;
            match byte {
                global::END => {
                    self.depth -= 1;
                    take(Piece::End, self.depth);
                    continue;
                }
                global::SWITCH_PAGE => self.state = State::Page,
                global::STR_I => self.state = State::Text,
                global::OPAQUE => self.state = State::Length(Integer::default()),
                global::STR_T => self.state = State::Place(Integer::default()),
                _ => return Err(error(unused(byte), here)),
            }
            break;
        }
        Ok(rest)
    }

    fn tag(
        &mut self,
        byte: u8,
        at: usize,
        take: &mut impl FnMut(Piece<'_>, u32),
    ) -> Result<(), Error> {
        let tag = Tag::new(self.page, byte);
        if byte & global::ATTRIBUTES != 0 {
            return Err(error(ErrorKind::Attributes(byte), at));
        }
        if self.known >> tag.token() & 1 == 0 {
            if self.limits.unknown_tags == UnknownTags::Refuse {
                return Err(error(ErrorKind::UnknownToken(tag), at));
            }
            self.unknown = self.unknown.saturating_add(1);
        }
        if self.depth == 0 {
            if !self.may_begin {
                return Err(self.trailing(at));
            }
            self.may_begin = false;
        }
        if byte & global::CONTENT == 0 {
            take(Piece::Empty(tag), self.depth);
            return Ok(());
        }
        if self.depth == self.limits.depth {
            return Err(error(ErrorKind::TooDeep(self.limits.depth), at));
        }
        self.depth += 1;
        take(Piece::Start(tag), self.depth);
        Ok(())
    }

    fn text<'p>(
        &mut self,
        rest: &'p [u8],
        at: usize,
        take: &mut impl FnMut(Piece<'_>, u32),
    ) -> Result<&'p [u8], Error> {
        let end = memchr::memchr(0, rest);
        let bytes = end.and_then(|end| rest.get(..end)).unwrap_or(rest);
        self.character.follow(bytes, at)?;
        let last = end.is_some();
        if last {
            if self.character.length > 0 {
                let begun = usize::from(self.character.length);
                return Err(error(ErrorKind::Utf8, at + bytes.len() - begun));
            }
            self.state = State::Content;
        }
        take(Piece::Text { bytes, last }, self.depth);
        Ok(rest
            .get(bytes.len() + usize::from(last)..)
            .unwrap_or_default())
    }

    fn outside_root(&self, byte: u8, at: usize) -> Result<(), Error> {
        if !self.may_begin {
            return Err(self.trailing(at));
        }
        match byte {
            global::SWITCH_PAGE => Ok(()),
            global::END => Err(error(ErrorKind::StrayEnd, at)),
            global::STR_I | global::OPAQUE | global::STR_T => {
                Err(error(ErrorKind::ContentOutsideRoot, at))
            }
            _ => Err(error(unused(byte), at)),
        }
    }

    fn trailing(&self, at: usize) -> Error {
        // How many follow is known only where the length was announced; one does.
        let bytes = self.total.map_or(1, |total| total.saturating_sub(at));
        error(ErrorKind::TrailingBytes(bytes), at)
    }
}

impl Integer {
    /// Reads on. The second value says whether the integer is whole.
    fn read(mut self, bytes: &[u8], at: usize) -> Result<(Self, bool, &[u8]), Error> {
        const MAX_BYTES: u8 = 5;
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if self.bytes == MAX_BYTES || self.value > u32::MAX >> 7 {
                return Err(error(ErrorKind::IntegerTooLong, at));
            }
            self.value = self.value << 7 | u32::from(byte & 0x7F);
            self.bytes += 1;
            rest = after;
            if byte & 0x80 == 0 {
                return Ok((self, true, rest));
            }
        }
        Ok((self, false, rest))
    }
}

impl Character {
    /// Goes on with `bytes`, which begin `at`.
    fn follow(&mut self, bytes: &[u8], at: usize) -> Result<(), Error> {
        let mut rest = bytes;
        while self.length > 0 {
            let Some((&byte, after)) = rest.split_first() else {
                return Ok(());
            };
            let place = usize::from(self.length);
            if let Some(slot) = self.bytes.get_mut(place) {
                *slot = byte;
            }
            self.length += 1;
            let so_far = self.bytes.get(..=place).unwrap_or_default();
            match std::str::from_utf8(so_far) {
                Ok(_) => self.length = 0,
                Err(bad) if bad.error_len().is_none() => {}
                Err(_) => {
                    let begun = (at + bytes.len() - rest.len()).saturating_sub(place);
                    return Err(error(ErrorKind::Utf8, begun));
                }
            }
            rest = after;
        }
        let offset = at + (bytes.len() - rest.len());
        let Err(bad) = std::str::from_utf8(rest) else {
            return Ok(());
        };
        let begun = rest.get(bad.valid_up_to()..).unwrap_or_default();
        if bad.error_len().is_some() {
            return Err(error(ErrorKind::Utf8, offset + bad.valid_up_to()));
        }
        for (slot, byte) in self.bytes.iter_mut().zip(begun) {
            *slot = *byte;
            self.length += 1;
        }
        Ok(())
    }
}

#[cold]
const fn error(kind: ErrorKind, offset: usize) -> Error {
    Error { kind, offset }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wbxml::{Event, Reader};
    use proptest::prelude::*;

    /// What a message holds, pieces of content joined.
    #[derive(Debug, PartialEq, Eq)]
    enum Read {
        Start(Tag),
        Empty(Tag),
        End,
        Text(Vec<u8>),
        Opaque(Vec<u8>),
    }

    fn at_once(message: &[u8], limits: Limits) -> Result<Vec<Read>, Error> {
        let mut reader = Reader::new(message, limits)?;
        let mut read = Vec::new();
        while let Some(event) = reader.next_event()? {
            read.push(match event {
                Event::Start(tag) => Read::Start(tag),
                Event::Empty(tag) => Read::Empty(tag),
                Event::End => Read::End,
                Event::Text(text) | Event::Reference { text, .. } => {
                    Read::Text(text.as_bytes().to_vec())
                }
                Event::Opaque(bytes) => Read::Opaque(bytes.to_vec()),
            });
        }
        Ok(read)
    }

    fn in_pieces(message: &[u8], limits: Limits, cuts: &[usize]) -> Result<Vec<Read>, Error> {
        let mut reader = PieceReader::new(limits, Some(message.len() as u64));
        let mut read = Vec::new();
        let mut open: Option<Vec<u8>> = None;
        let mut take = |piece: Piece<'_>, _: u32| match piece {
            Piece::Start(tag) => read.push(Read::Start(tag)),
            Piece::Empty(tag) => read.push(Read::Empty(tag)),
            Piece::End => read.push(Read::End),
            Piece::Reference(text) => read.push(Read::Text(text.as_bytes().to_vec())),
            Piece::Text { bytes, last } => {
                open.get_or_insert_default().extend_from_slice(bytes);
                if last {
                    read.push(Read::Text(open.take().unwrap_or_default()));
                }
            }
            Piece::Opaque { bytes, last } => {
                open.get_or_insert_default().extend_from_slice(bytes);
                if last {
                    read.push(Read::Opaque(open.take().unwrap_or_default()));
                }
            }
        };
        let mut rest = message;
        for cut in cuts {
            let (piece, after) = rest.split_at(cut % (rest.len() + 1));
            reader.feed(piece, &mut take)?;
            rest = after;
        }
        reader.feed(rest, &mut take)?;
        reader.finish()?;
        Ok(read)
    }

    /// A message in which every construct stands.
    const MESSAGE: &[u8] =
        b"\x03\x01\x6a\x00\x45\x4b\x03\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\x00\x01\x00\x11\x4b\
          \xc3\x81\x01\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\
          \x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x20\x21\x22\x23\x24\x25\x26\
          \x27\x28\x29\x2a\x2b\x2c\x2d\x2e\x2f\x30\x31\x32\x33\x34\x35\x36\x37\x38\x39\x3a\x3b\
          \x3c\x3d\x3e\x3f\x40\x41\x42\x43\x44\x45\x46\x47\x48\x49\x4a\x4b\x4c\x4d\x4e\x4f\x50\
          \x51\x52\x53\x54\x55\x56\x57\x58\x59\x5a\x5b\x5c\x5d\x5e\x5f\x60\x61\x62\x63\x64\x65\
          \x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f\x70\x71\x72\x73\x74\x75\x76\x77\x78\x79\x7a\
          \x7b\x7c\x7d\x7e\x7f\x80\x01\x0d\x00\x00\x06\x01";

    #[test]
    fn a_cut_anywhere_changes_nothing() {
        let whole = at_once(MESSAGE, Limits::TRAFFIC).unwrap();
        assert_eq!(whole.len(), 10);
        for cut in 0..=MESSAGE.len() {
            assert_eq!(
                in_pieces(MESSAGE, Limits::TRAFFIC, &[cut]).as_ref(),
                Ok(&whole),
                "{cut}"
            );
        }
        let singly = vec![1; MESSAGE.len()];
        assert_eq!(in_pieces(MESSAGE, Limits::TRAFFIC, &singly), Ok(whole));
    }

    #[test]
    fn every_beginning_is_not_the_whole() {
        for end in 0..MESSAGE.len() {
            let beginning = &MESSAGE[..end];
            assert!(in_pieces(beginning, Limits::TRAFFIC, &[end / 2]).is_err());
        }
    }

    #[test]
    fn refusals_name_what_and_where() {
        let refused = |body: &[u8]| {
            let message = [b"\x03\x01\x6a\x00".as_slice(), body].concat();
            let whole = at_once(&message, Limits::TRAFFIC).unwrap_err();
            let pieces = in_pieces(&message, Limits::TRAFFIC, &[5, 1]).unwrap_err();
            assert_eq!(pieces, whole, "{body:x?}");
            pieces.kind
        };
        assert_eq!(refused(b"\x45\x43\x01"), ErrorKind::ProcessingInstruction);
        assert_eq!(refused(b"\x45\x02\x01"), ErrorKind::Entity);
        assert_eq!(refused(b"\x45\x44\x01"), ErrorKind::Literal(0x44));
        assert_eq!(refused(b"\x45\x80\x01"), ErrorKind::Extension(0x80));
        assert_eq!(refused(b"\xc5\x01\x01"), ErrorKind::Attributes(0xC5));
        assert_eq!(refused(b"\x45\x01\x45"), ErrorKind::TrailingBytes(1));
        assert_eq!(refused(b"\x01"), ErrorKind::StrayEnd);
        assert_eq!(refused(b"\x03a\0"), ErrorKind::ContentOutsideRoot);
        assert_eq!(refused(b"\x45\x03\xff\x00\x01"), ErrorKind::Utf8);
        assert_eq!(refused(&[0x45; 33]), ErrorKind::TooDeep(32));
        assert_eq!(
            refused(b"\x45\xc3\xff\xff\xff\xff\x7f\x01"),
            ErrorKind::IntegerTooLong
        );
        assert_eq!(
            refused(b"\x45\xc3\x05abc\x01"),
            ErrorKind::BeyondEnd {
                what: "a byte array (OPAQUE)",
                length: 5,
                remaining: 4
            }
        );
        assert_eq!(refused(b"\x45"), ErrorKind::MissingEnd { open: 1 });
    }

    #[test]
    fn a_string_table_is_read_where_it_is_allowed() {
        let message = b"\x03\x01\x6a\x04abc\x00\x45\x4b\x83\x00\x01\x01";
        assert_eq!(
            in_pieces(message, Limits::INSPECTION, &[6, 2, 3]),
            at_once(message, Limits::INSPECTION)
        );
        assert_eq!(
            in_pieces(message, Limits::TRAFFIC, &[6]).unwrap_err(),
            at_once(message, Limits::TRAFFIC).unwrap_err()
        );
    }

    /// Bytes that are WBXML more often than chance would have it.
    fn likely() -> impl Strategy<Value = Vec<u8>> {
        let token = prop_oneof![
            4 => Just(vec![0x01]),
            4 => (0x45_u8..0x50).prop_map(|tag| vec![tag]),
            2 => (0x05_u8..0x10).prop_map(|tag| vec![tag]),
            2 => (0_u8..28).prop_map(|page| vec![0, page]),
            2 => "[a-zä€😀]{0,6}".prop_map(|text| [&[3], text.as_bytes(), &[0]].concat()),
            2 => proptest::collection::vec(any::<u8>(), 0..6).prop_map(|bytes| {
                [&[0xC3, u8::try_from(bytes.len()).unwrap()], bytes.as_slice()].concat()
            }),
            1 => any::<u8>().prop_map(|byte| vec![byte]),
        ];
        proptest::collection::vec(token, 0..24)
            .prop_map(|tokens| [b"\x03\x01\x6a\x00".to_vec(), tokens.concat()].concat())
    }

    proptest! {
        #[test]
        fn pieces_and_the_whole_agree(
            message in likely(),
            cuts in proptest::collection::vec(0_usize..16, 0..12),
        ) {
            let whole = at_once(&message, Limits::TRAFFIC);
            let pieces = in_pieces(&message, Limits::TRAFFIC, &cuts);
            match (whole, pieces) {
                (Ok(whole), Ok(pieces)) => prop_assert_eq!(whole, pieces),
                (Err(_), Err(_)) => {}
                (whole, pieces) => prop_assert!(false, "{:?} {:?}", whole, pieces),
            }
        }
    }
}
