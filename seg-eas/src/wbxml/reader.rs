//! The pull reader.

use super::pages::{KNOWN_TOKENS, PAGE_COUNT, Tag};
use super::{CHARSET_UTF_8, Error, ErrorKind, Limits, UnknownTags, global};

/// What the reader found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// An element that has content; its [`Event::End`] follows.
    Start(Tag),
    /// An element without content; no [`Event::End`] follows.
    Empty(Tag),
    /// The end of the innermost open element.
    End,
    /// An inline string, STR_I. An element may hold several in a row.
    Text(&'a str),
    /// A byte array, OPAQUE.
    Opaque(&'a [u8]),
    /// A string of the string table, STR_T. Never seen unless [`Limits::string_table`] is raised.
    Reference {
        /// The place in the string table, in bytes.
        offset: u32,
        /// The string that stands there.
        text: &'a str,
    },
}

/// What stands before the root element of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The version byte, 0x03 for WBXML 1.3.
    pub version: u8,
    /// The public identifier; 1 is "unknown", which ActiveSync uses. 0 means that the identifier
    /// stands in the string table.
    pub public_id: u32,
    /// The string table; empty in ActiveSync.
    pub string_table: &'a [u8],
    /// The header as it stands in the message.
    pub bytes: &'a [u8],
}

/// Reads one WBXML message, event by event.
///
/// The reader borrows from the message, allocates nothing, and never panics. SWITCH_PAGE is no
/// event: [`Reader::event_offset`] and [`Reader::offset`] tell where the last event's own bytes
/// begin and end, so that what lies between two events, SWITCH_PAGE only, can be told as well.
///
/// ```
/// use seg_eas::wbxml::{Event, Limits, Reader, Tag};
/// # fn main() -> Result<(), seg_eas::wbxml::Error> {
/// // <Ping><Status>1</Status></Ping>
/// let message = b"\x03\x01\x6a\x00\x00\x0d\x45\x47\x031\x00\x01\x01";
/// let mut reader = Reader::new(message, Limits::TRAFFIC)?;
/// assert_eq!(reader.next_event()?, Some(Event::Start(Tag::new(13, 0x05))));
/// assert_eq!(reader.next_event()?, Some(Event::Start(Tag::new(13, 0x07))));
/// assert_eq!(reader.next_event()?, Some(Event::Text("1")));
/// assert_eq!(reader.next_event()?, Some(Event::End));
/// assert_eq!(reader.next_event()?, Some(Event::End));
/// assert_eq!(reader.next_event()?, None);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    /// What has not been read.
    rest: &'a [u8],
    /// How many bytes were there at the start.
    total: usize,
    /// The offset of the last event's first byte.
    event_offset: usize,
    /// One bit per token that the current page knows.
    known: u64,
    page: u8,
    depth: u32,
    /// Whether another element may begin at depth 0.
    may_begin: bool,
    /// Whether the input is a body without header, where several elements may stand side by side.
    fragment: bool,
    unknown: u64,
    limits: Limits,
    string_table: &'a [u8],
    /// Bytes that are known to be UTF-8; texts are cut out of them.
    checked: &'a str,
    /// The offset of the first of them.
    checked_from: usize,
    /// What [`Reader::any_event`] has found.
    found: Option<Event<'a>>,
}

/// How many bytes are looked at in one go for whether they are UTF-8. Texts are short and many, and
/// tags are ASCII, so one look at a stretch of the message does for all texts in it; no more, because
/// some readers stop early.
const CHECKED_AT_ONCE: usize = 1024;

/// How much of a text is searched for its end in line; texts mostly end before that.
const SHORT_TEXT: usize = 32;

impl<'a> Reader<'a> {
    /// A reader of a whole message, header first.
    ///
    /// # Errors
    /// When the header is not that of an ActiveSync message within `limits`.
    pub fn new(message: &'a [u8], limits: Limits) -> Result<Self, Error> {
        let header = Header::read(message, &limits)?;
        let mut reader = Self::body(message, limits);
        reader.rest = message.get(header.bytes.len()..).unwrap_or_default();
        reader.event_offset = reader.offset();
        reader.string_table = header.string_table;
        reader.fragment = false;
        Ok(reader)
    }

    /// A reader of a body without header, as it stands inside other formats: elements side by side
    /// until the input ends, beginning in code page 0.
    #[must_use]
    pub fn body(body: &'a [u8], limits: Limits) -> Self {
        Self {
            rest: body,
            total: body.len(),
            event_offset: 0,
            known: KNOWN_TOKENS.first().copied().unwrap_or(0),
            page: 0,
            depth: 0,
            may_begin: true,
            fragment: true,
            unknown: 0,
            limits,
            string_table: &[],
            checked: "",
            checked_from: 0,
            found: None,
        }
    }

    /// The next event; `None` at the proper end of the message.
    ///
    /// # Errors
    /// When the message is malformed or exceeds the limits. The reader stays where it is: asked
    /// again, it gives the same error.
    // In line in every loop that reads, so that an event is in registers: to put one together in
    // memory and take it apart again costs more than to read it.
    #[inline(always)]
    pub fn next_event(&mut self) -> Result<Option<Event<'a>>, Error> {
        if let Some(event) = self.plain_event() {
            return Ok(Some(event));
        }
        self.any_event()?;
        Ok(self.found)
    }

    /// The next event where it is one of those that messages are made of: an element of the current
    /// page, the end of one, a text that is known to be UTF-8. `None` says nothing: look again.
    #[inline(always)]
    fn plain_event(&mut self) -> Option<Event<'a>> {
        if self.depth == 0 {
            return None;
        }
        let (mut byte, mut rest) = self.rest.split_first()?;
        while *byte == global::SWITCH_PAGE {
            let (&page, after) = rest.split_first()?;
            self.known = *KNOWN_TOKENS.get(usize::from(page))?;
            self.page = page;
            self.rest = after;
            (byte, rest) = after.split_first()?;
        }
        let byte = *byte;
        let tag = match byte {
            global::END => {
                self.depth -= 1;
                self.event_offset = self.offset();
                self.rest = rest;
                return Some(Event::End);
            }
            global::STR_I => {
                let length = length_of_text(rest)?;
                let from = (self.offset() + 1).wrapping_sub(self.checked_from);
                let text = self.checked.get(from..from.saturating_add(length))?;
                self.event_offset = self.offset();
                self.rest = rest.get(length + 1..)?;
                return Some(Event::Text(text));
            }
            _ if byte & global::ATTRIBUTES != 0 => return None,
            _ => Tag::new(self.page, byte),
        };
        if self.known >> tag.token() & 1 == 0 {
            return None;
        }
        if byte & global::CONTENT == 0 {
            self.event_offset = self.offset();
            self.rest = rest;
            return Some(Event::Empty(tag));
        }
        if self.depth == self.limits.depth {
            return None;
        }
        self.depth += 1;
        self.event_offset = self.offset();
        self.rest = rest;
        Some(Event::Start(tag))
    }

    /// The next event, whichever it is, into [`Reader::found`].
    #[inline(never)]
    fn any_event(&mut self) -> Result<(), Error> {
        loop {
            let Some((&byte, rest)) = self.rest.split_first() else {
                self.found = None;
                return self.finish();
            };
            if byte == global::SWITCH_PAGE {
                self.switch_page(rest)?;
                continue;
            }
            let event = if byte & global::TOKEN >= global::FIRST_TAG {
                self.tag(byte, rest)?
            } else if self.depth == 0 {
                return Err(self.outside_root(byte));
            } else {
                self.event_offset = self.offset();
                match byte {
                    global::END => {
                        self.rest = rest;
                        self.depth -= 1;
                        Event::End
                    }
                    global::STR_I => self.text(rest)?,
                    global::OPAQUE => self.opaque(rest)?,
                    global::STR_T => self.reference(rest)?,
                    _ => return Err(self.error(unused(byte))),
                }
            };
            self.found = Some(event);
            return Ok(());
        }
    }

    /// Reads on to the end of the innermost open element, the one whose [`Event::Start`] came last
    /// and whose content has not been read to its end.
    ///
    /// # Errors
    /// As [`Reader::next_event`].
    pub fn skip_element(&mut self) -> Result<(), Error> {
        let outside = self.depth.saturating_sub(1);
        while self.depth > outside {
            if self.next_event()?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Where reading goes on: the end of the last event.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.total - self.rest.len()
    }

    /// Where the last event's own bytes begin, SWITCH_PAGE before it left out.
    #[must_use]
    pub const fn event_offset(&self) -> usize {
        self.event_offset
    }

    /// How many elements are open.
    #[must_use]
    pub const fn depth(&self) -> u32 {
        self.depth
    }

    /// The current code page.
    #[must_use]
    pub const fn page(&self) -> u8 {
        self.page
    }

    /// How many tags so far are not in [`super::pages`].
    #[must_use]
    pub const fn unknown_tags(&self) -> u64 {
        self.unknown
    }

    fn tag(&mut self, byte: u8, rest: &'a [u8]) -> Result<Event<'a>, Error> {
        let tag = Tag::new(self.page, byte);
        if byte & global::ATTRIBUTES != 0 {
            return Err(self.error(ErrorKind::Attributes(byte)));
        }
        if self.known >> tag.token() & 1 == 0 {
            self.meet_unknown(tag)?;
        }
        if self.depth == 0 {
            self.begin_root()?;
        }
        if byte & global::CONTENT == 0 {
            self.event_offset = self.offset();
            self.rest = rest;
            return Ok(Event::Empty(tag));
        }
        if self.depth == self.limits.depth {
            return Err(self.error(ErrorKind::TooDeep(self.limits.depth)));
        }
        self.event_offset = self.offset();
        self.depth += 1;
        self.rest = rest;
        Ok(Event::Start(tag))
    }

    fn switch_page(&mut self, rest: &'a [u8]) -> Result<(), Error> {
        if self.depth == 0 && !self.may_begin {
            return Err(self.error(ErrorKind::TrailingBytes(self.rest.len())));
        }
        let Some((&page, rest)) = rest.split_first() else {
            return Err(self.error(ErrorKind::Truncated("SWITCH_PAGE")));
        };
        let known = KNOWN_TOKENS.get(usize::from(page)).copied();
        if known.is_none() && self.limits.unknown_tags == UnknownTags::Refuse {
            return Err(self.error(ErrorKind::UnknownPage(page)));
        }
        self.page = page;
        self.known = known.unwrap_or(0);
        self.rest = rest;
        Ok(())
    }

    fn text(&mut self, rest: &'a [u8]) -> Result<Event<'a>, Error> {
        let Some(length) = length_of_text(rest) else {
            return Err(self.error(ErrorKind::Truncated("a string (no closing NUL)")));
        };
        let from = (self.offset() + 1).wrapping_sub(self.checked_from);
        let text = match self.checked.get(from..from.saturating_add(length)) {
            Some(text) => text,
            None => self.check_text(rest, length)?,
        };
        self.rest = rest.get(length + 1..).unwrap_or_default();
        Ok(Event::Text(text))
    }

    /// The first `length` bytes of `rest` as text; what follows them is checked as well.
    #[cold]
    fn check_text(&mut self, rest: &'a [u8], length: usize) -> Result<&'a str, Error> {
        let stretch = rest.get(..length.max(CHECKED_AT_ONCE)).unwrap_or(rest);
        let checked = match std::str::from_utf8(stretch) {
            Ok(checked) => checked,
            Err(error) => {
                let valid = stretch.get(..error.valid_up_to()).unwrap_or_default();
                std::str::from_utf8(valid).unwrap_or_default()
            }
        };
        let text = checked.get(..length).ok_or_else(|| Error {
            kind: ErrorKind::Utf8,
            offset: self.offset() + 1 + checked.len(),
        })?;
        self.checked = checked;
        self.checked_from = self.offset() + 1;
        Ok(text)
    }

    fn opaque(&mut self, rest: &'a [u8]) -> Result<Event<'a>, Error> {
        let (length, rest) =
            integer(rest, "the length of a byte array").map_err(|kind| self.error(kind))?;
        let what = "a byte array (OPAQUE)";
        let (bytes, rest) = take(rest, length, what).map_err(|kind| self.error(kind))?;
        self.rest = rest;
        Ok(Event::Opaque(bytes))
    }

    fn reference(&mut self, rest: &'a [u8]) -> Result<Event<'a>, Error> {
        let (offset, rest) =
            integer(rest, "a string reference").map_err(|kind| self.error(kind))?;
        let text = string_at(self.string_table, offset).map_err(|kind| self.error(kind))?;
        self.rest = rest;
        Ok(Event::Reference { offset, text })
    }

    fn begin_root(&mut self) -> Result<(), Error> {
        if !self.may_begin {
            return Err(self.error(ErrorKind::TrailingBytes(self.rest.len())));
        }
        self.may_begin = self.fragment;
        Ok(())
    }

    fn finish(&self) -> Result<(), Error> {
        if self.depth > 0 {
            return Err(self.error(ErrorKind::MissingEnd { open: self.depth }));
        }
        if self.may_begin && !self.fragment {
            return Err(self.error(ErrorKind::NoRoot));
        }
        Ok(())
    }

    #[cold]
    fn meet_unknown(&mut self, tag: Tag) -> Result<(), Error> {
        match self.limits.unknown_tags {
            UnknownTags::Refuse => Err(self.error(ErrorKind::UnknownToken(tag))),
            UnknownTags::Pass => {
                self.unknown = self.unknown.saturating_add(1);
                Ok(())
            }
        }
    }

    #[cold]
    fn outside_root(&self, byte: u8) -> Error {
        let unused = unused(byte);
        self.error(match byte {
            _ if !self.may_begin => ErrorKind::TrailingBytes(self.rest.len()),
            global::END => ErrorKind::StrayEnd,
            global::STR_I | global::OPAQUE | global::STR_T => ErrorKind::ContentOutsideRoot,
            _ => unused,
        })
    }

    #[cold]
    fn error(&self, kind: ErrorKind) -> Error {
        Error {
            kind,
            offset: self.offset(),
        }
    }
}

impl<'a> Header<'a> {
    /// Reads the header at the start of `message`.
    ///
    /// # Errors
    /// When it is not that of an ActiveSync message, or has a longer string table than `limits`
    /// allows.
    pub fn read(message: &'a [u8], limits: &Limits) -> Result<Self, Error> {
        let whole = message;
        let at = |rest: &[u8], kind| Error {
            kind,
            offset: whole.len() - rest.len(),
        };
        let (&version, rest) = message
            .split_first()
            .ok_or_else(|| at(message, ErrorKind::Truncated("the header")))?;
        if !(0x01..=0x03).contains(&version) {
            return Err(at(message, ErrorKind::Version(version)));
        }
        let number = |rest| integer(rest, "the header").map_err(|kind| at(rest, kind));
        let (public_id, rest) = number(rest)?;
        let (public_name, rest) = if public_id == 0 {
            let (place, rest) = number(rest)?;
            (Some(place), rest)
        } else {
            (None, rest)
        };
        let (charset, after_charset) = number(rest)?;
        if charset != CHARSET_UTF_8 {
            return Err(at(rest, ErrorKind::Charset(charset)));
        }
        let (length, after_length) = number(after_charset)?;
        let limit = limits.string_table;
        if length > limit {
            return Err(at(after_charset, ErrorKind::StringTable { length, limit }));
        }
        let (string_table, rest) =
            take(after_length, length, "a string table").map_err(|kind| at(after_charset, kind))?;
        if let Some(place) = public_name {
            string_at(string_table, place).map_err(|kind| at(whole, kind))?;
        }
        let bytes = whole.get(..whole.len() - rest.len()).unwrap_or_default();
        Ok(Self {
            version,
            public_id,
            string_table,
            bytes,
        })
    }
}

/// The error of a token that ActiveSync does not use, inside of the root element.
#[cold]
pub(super) fn unused(byte: u8) -> ErrorKind {
    match byte {
        global::ENTITY => ErrorKind::Entity,
        global::PI => ErrorKind::ProcessingInstruction,
        global::EXT_I_0..=global::EXT_I_2
        | global::EXT_T_0..=global::EXT_T_2
        | global::EXT_0..=global::EXT_2 => ErrorKind::Extension(byte),
        _ => ErrorKind::Literal(byte),
    }
}

/// How many bytes stand before the first NUL. What is asked of memchr has to be worth the call.
#[inline]
fn length_of_text(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);
    let (words, _) = bytes.get(..SHORT_TEXT).unwrap_or_default().as_chunks();
    for (before, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The lowest top bit that is set stands in the first byte that is NUL.
        let nul = word.wrapping_sub(ONES) & !word & TOPS;
        if nul != 0 {
            return Some(before * 8 + nul.trailing_zeros() as usize / 8);
        }
    }
    memchr::memchr(0, bytes)
}

/// Splits at the first NUL, which is dropped.
fn terminated(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

/// Reads an mb_u_int32 (WBXML 1.3 section 5.1): seven bits a byte, highest first, the top bit set
/// on all but the last, at most five bytes.
fn integer<'a>(bytes: &'a [u8], what: &'static str) -> Result<(u32, &'a [u8]), ErrorKind> {
    const MAX_BYTES: usize = 5;
    let mut value = 0_u32;
    let mut rest = bytes;
    for _ in 0..MAX_BYTES {
        let (&byte, after) = rest.split_first().ok_or(ErrorKind::Truncated(what))?;
        if value > u32::MAX >> 7 {
            return Err(ErrorKind::IntegerTooLong);
        }
        value = value << 7 | u32::from(byte & 0x7F);
        rest = after;
        if byte & 0x80 == 0 {
            return Ok((value, rest));
        }
    }
    Err(ErrorKind::IntegerTooLong)
}

/// Splits off `length` bytes.
fn take<'a>(
    bytes: &'a [u8],
    length: u32,
    what: &'static str,
) -> Result<(&'a [u8], &'a [u8]), ErrorKind> {
    usize::try_from(length)
        .ok()
        .and_then(|length| bytes.split_at_checked(length))
        .ok_or(ErrorKind::BeyondEnd {
            what,
            length,
            remaining: bytes.len(),
        })
}

/// The string at a place of the string table.
pub(super) fn string_at(table: &[u8], place: u32) -> Result<&str, ErrorKind> {
    let nowhere = ErrorKind::StringReference(place);
    let start = usize::try_from(place).map_err(|_| nowhere)?;
    let (text, _) = table.get(start..).and_then(terminated).ok_or(nowhere)?;
    std::str::from_utf8(text).map_err(|_| ErrorKind::Utf8)
}

const _: () = assert!(
    PAGE_COUNT <= u8::MAX as usize,
    "a page is numbered by one byte"
);
