//! The outline of a message: which elements there are, and where their bytes stand.
//!
//! For code that has to look at an element before it decides about another, and then changes some
//! and leaves the rest as it is, byte for byte. No content is copied.

use std::ops::Range;

use super::pages::Tag;
use super::{Event, Limits, Reader, global};
use thiserror::Error as ThisError;

/// The most elements of one outline: a message of empty elements must not become a heap of nodes.
pub const MAX_ELEMENTS: usize = 500_000;

/// Why there is no outline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
pub enum OutlineError {
    /// The message is malformed.
    #[error(transparent)]
    Malformed(#[from] super::Error),
    /// There are more than [`MAX_ELEMENTS`].
    #[error("the message has more than {MAX_ELEMENTS} elements")]
    TooMany,
    /// An element holds text beside elements, or a body more than one text: two readers could read
    /// two things.
    #[error("an element has its text in several places")]
    Scattered,
}

/// What an element holds besides elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// Nothing.
    None,
    /// One string.
    Text(&'a str),
    /// One byte array.
    Opaque(&'a [u8]),
    /// Several strings or arrays in a row, which no known sender writes.
    Several,
}

/// One element.
#[derive(Debug, Clone)]
struct Node {
    tag: Tag,
    /// Where its first byte stands, SWITCH_PAGEs before it included.
    begin: usize,
    /// Behind its last byte.
    end: usize,
    /// The page before it and the page behind it.
    pages: (u8, u8),
    /// Its content's bytes, token included; of several pieces from the first to the last.
    content: Range<usize>,
    several: bool,
    /// The place of the first node that is not inside of it.
    next: usize,
}

/// The elements of a message in document order.
#[derive(Debug, Clone)]
pub struct Outline<'a> {
    message: &'a [u8],
    nodes: Vec<Node>,
    /// Whether an element holds text beside elements.
    is_mixed: bool,
    /// Whether a text stands in several pieces.
    has_pieces: bool,
}

/// The place of an element in its outline.
pub type Place = usize;

impl<'a> Outline<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// When it is malformed, or has too many elements.
    pub fn read(message: &'a [u8], limits: Limits) -> Result<Self, OutlineError> {
        let mut reader = Reader::new(message, limits)?;
        let mut nodes: Vec<Node> = Vec::new();
        let mut open: Vec<Place> = Vec::new();
        let (mut is_mixed, mut has_pieces) = (false, false);
        let (mut offset, mut page) = (reader.offset(), reader.page());
        while let Some(event) = reader.next_event()? {
            match event {
                Event::Start(tag) | Event::Empty(tag) => {
                    if nodes.len() == MAX_ELEMENTS {
                        return Err(OutlineError::TooMany);
                    }
                    let parent = open.last().and_then(|at| nodes.get(*at));
                    is_mixed |= parent.is_some_and(|parent| !parent.content.is_empty());
                    let end = reader.offset();
                    nodes.push(Node {
                        tag,
                        begin: offset,
                        end,
                        pages: (page, reader.page()),
                        content: end..end,
                        several: false,
                        next: nodes.len() + 1,
                    });
                    if matches!(event, Event::Start(_)) {
                        open.push(nodes.len() - 1);
                    }
                }
                Event::End => {
                    let next = nodes.len();
                    if let Some(node) = open.pop().and_then(|at| nodes.get_mut(at)) {
                        node.end = reader.offset();
                        node.pages.1 = reader.page();
                        node.next = next;
                    }
                }
                Event::Text(_) | Event::Opaque(_) | Event::Reference { .. } => {
                    let last = nodes.len();
                    if let Some(node) = open.last().and_then(|at| nodes.get_mut(*at)) {
                        // With elements before it, the last node is one of them.
                        is_mixed |= open.last().is_some_and(|at| at + 1 < last);
                        let begin = if node.content.is_empty() {
                            reader.event_offset()
                        } else {
                            node.several = true;
                            has_pieces = true;
                            node.content.start
                        };
                        node.content = begin..reader.offset();
                    }
                }
            }
            (offset, page) = (reader.offset(), reader.page());
        }
        Ok(Self {
            message,
            nodes,
            is_mixed,
            has_pieces,
        })
    }

    /// The message with each text in one piece, for readers that look at whole texts; `None`: each
    /// stands in one piece already.
    ///
    /// # Errors
    /// An element holds text beside elements.
    pub fn joined(&self) -> Result<Option<Vec<u8>>, OutlineError> {
        if self.is_mixed {
            return Err(OutlineError::Scattered);
        }
        if !self.has_pieces {
            return Ok(None);
        }
        let mut reader = Reader::new(self.message, Limits::TRAFFIC)?;
        let mut out = Vec::with_capacity(self.message.len());
        let mut pieces = Pieces::default();
        let mut copied = 0; // The header goes along with the first tag.
        while let Some(event) = reader.next_event()? {
            let bytes = self.message.get(copied..reader.offset());
            let bytes = bytes.unwrap_or_default();
            // What stands before an event's own bytes are SWITCH_PAGEs.
            let switches = bytes.get(..reader.event_offset().saturating_sub(copied));
            copied = reader.offset();
            match event {
                Event::Text(text) => pieces.add(switches, text.as_bytes(), true),
                Event::Opaque(array) => pieces.add(switches, array, false),
                _ => {
                    pieces.write(&mut out);
                    out.extend_from_slice(bytes);
                }
            }
        }
        Ok(Some(out))
    }

    /// The root element.
    #[must_use]
    pub fn root(&self) -> Option<(Place, Tag)> {
        self.nodes.first().map(|node| (0, node.tag))
    }

    /// The children of an element.
    pub fn children(&self, parent: Place) -> impl Iterator<Item = (Place, Tag)> + '_ {
        let end = self.nodes.get(parent).map_or(0, |node| node.next);
        let mut at = parent + 1;
        std::iter::from_fn(move || {
            let node = self.nodes.get(at).filter(|_| at < end)?;
            let found = (at, node.tag);
            at = node.next;
            Some(found)
        })
    }

    /// Everything inside of an element, in document order.
    pub fn inside(&self, parent: Place) -> impl Iterator<Item = (Place, Tag)> + '_ {
        let end = self.nodes.get(parent).map_or(0, |node| node.next);
        let begin = parent + 1;
        let nodes = self.nodes.get(begin..end).unwrap_or_default();
        nodes
            .iter()
            .enumerate()
            .map(move |(at, node)| (begin + at, node.tag))
    }

    /// The first child with this tag.
    #[must_use]
    pub fn child(&self, parent: Place, tag: Tag) -> Option<Place> {
        self.children(parent)
            .find(|(_, found)| *found == tag)
            .map(|(at, _)| at)
    }

    /// What an element holds.
    #[must_use]
    pub fn content(&self, at: Place) -> Content<'a> {
        let Some(node) = self.nodes.get(at) else {
            return Content::None;
        };
        if node.several {
            return Content::Several;
        }
        let bytes = self.message.get(node.content.clone()).unwrap_or_default();
        match bytes {
            [] => Content::None,
            [global::STR_I, text @ .., 0] => {
                std::str::from_utf8(text).map_or(Content::Several, Content::Text)
            }
            [global::OPAQUE, rest @ ..] => {
                let begin = rest.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
                Content::Opaque(rest.get(begin..).unwrap_or_default())
            }
            _ => Content::Several,
        }
    }

    /// The text of an element; empty where it has none.
    #[must_use]
    pub fn text(&self, at: Place) -> &'a str {
        match self.content(at) {
            Content::Text(text) => text,
            Content::Opaque(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
            Content::None | Content::Several => "",
        }
    }

    /// The text of the first child with this tag.
    #[must_use]
    pub fn text_of(&self, parent: Place, tag: Tag) -> Option<&'a str> {
        self.child(parent, tag).map(|at| self.text(at))
    }
}

/// The pieces of a text in a row.
#[derive(Default)]
struct Pieces {
    switches: Vec<u8>,
    whole: Vec<u8>,
    /// How many, and how many of them were strings.
    count: usize,
    texts: usize,
}

impl Pieces {
    fn add(&mut self, switches: Option<&[u8]>, piece: &[u8], is_text: bool) {
        self.switches
            .extend_from_slice(switches.unwrap_or_default());
        self.whole.extend_from_slice(piece);
        self.count += 1;
        self.texts += usize::from(is_text);
    }

    /// Writes them as one, and begins anew.
    fn write(&mut self, out: &mut Vec<u8>) {
        let pieces = std::mem::take(self);
        out.extend_from_slice(&pieces.switches);
        match std::str::from_utf8(&pieces.whole) {
            _ if pieces.count == 0 => {}
            Ok(text) if pieces.texts == pieces.count => push_text(out, text),
            _ => push_opaque(out, &pieces.whole),
        }
    }
}

/// Changes to a message, gathered in any order and made at once. What is not changed is copied.
#[derive(Debug)]
pub struct Edits<'o, 'a> {
    outline: &'o Outline<'a>,
    made: Vec<(Range<usize>, Vec<u8>)>,
}

impl<'o, 'a> Edits<'o, 'a> {
    /// No changes yet.
    #[must_use]
    pub const fn new(outline: &'o Outline<'a>) -> Self {
        Self {
            outline,
            made: Vec::new(),
        }
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    /// Takes an element out.
    pub fn remove(&mut self, at: Place) {
        self.replace(at, &[]);
    }

    /// Replaces an element by elements that each hold one string.
    pub fn replace(&mut self, at: Place, elements: &[(Tag, &str)]) {
        let Some(node) = self.outline.nodes.get(at) else {
            return;
        };
        let mut page = node.pages.0;
        let mut bytes = Vec::new();
        for (tag, text) in elements {
            switch(&mut bytes, &mut page, tag.page());
            bytes.push(tag.token() | global::CONTENT);
            push_text(&mut bytes, text);
            bytes.push(global::END);
        }
        switch(&mut bytes, &mut page, node.pages.1);
        self.made.push((node.begin..node.end, bytes));
    }

    /// Replaces what an element holds by a string, or by a byte array where it held one.
    pub fn set(&mut self, at: Place, content: &[u8]) {
        let Some(node) = self.outline.nodes.get(at) else {
            return;
        };
        if node.content.is_empty() {
            return;
        }
        let mut bytes = Vec::with_capacity(content.len() + 8);
        match self.outline.content(at) {
            Content::Opaque(_) => push_opaque(&mut bytes, content),
            _ => push_text(&mut bytes, &String::from_utf8_lossy(content)),
        }
        self.made.push((node.content.clone(), bytes));
    }

    /// The message with all changes. A change inside of another is lost with it.
    #[must_use]
    pub fn apply(mut self) -> Vec<u8> {
        self.made
            .sort_by_key(|(range, _)| (range.start, usize::MAX - range.end));
        let message = self.outline.message;
        let added: usize = self.made.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut out = Vec::with_capacity(message.len() + added);
        let mut copied = 0;
        for (range, bytes) in self.made {
            if range.start < copied {
                continue;
            }
            out.extend_from_slice(message.get(copied..range.start).unwrap_or_default());
            out.extend_from_slice(&bytes);
            copied = range.end;
        }
        out.extend_from_slice(message.get(copied..).unwrap_or_default());
        out
    }
}

fn switch(bytes: &mut Vec<u8>, page: &mut u8, to: u8) {
    if *page != to {
        bytes.extend_from_slice(&[global::SWITCH_PAGE, to]);
        *page = to;
    }
}

/// A string on the wire can't hold NUL: it is left out.
fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(global::STR_I);
    bytes.extend(text.bytes().filter(|byte| *byte != 0));
    bytes.push(0);
}

fn push_opaque(bytes: &mut Vec<u8>, content: &[u8]) {
    bytes.push(global::OPAQUE);
    // The buffers that messages are held in are far below 4 GiB.
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    for place in (0..5).rev() {
        if length >> (7 * place) != 0 || place == 0 {
            let more = if place == 0 { 0 } else { 0x80 };
            bytes.push(more | (length >> (7 * place) & 0x7F) as u8);
        }
    }
    bytes.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// <Sync><Status>1</Status><Body page 17><Data>opaque</Data></Body><SyncKey>2
    const MESSAGE: &[u8] =
        b"\x03\x01\x6a\x00\x45\x4e\x031\x00\x01\x00\x11\x4a\x4b\xc3\x02ab\x01\x01\x00\x00\x4b\x032\x00\x01\x01";

    fn outline() -> Outline<'static> {
        Outline::read(MESSAGE, Limits::TRAFFIC).unwrap()
    }

    #[test]
    fn texts_in_pieces_are_joined() {
        // <Sync><Status>1</Status><Body page 17><Data>"ab" "c" switch 0 "d" </Data>…
        let pieces =
            b"\x03\x01\x6a\x00\x45\x00\x11\x4a\x4b\x03ab\x00\x03c\x00\x00\x00\x03d\x00\x01\x01\x4b\x032\x00\x01\x01";
        let whole =
            b"\x03\x01\x6a\x00\x45\x00\x11\x4a\x4b\x00\x00\x03abcd\x00\x01\x01\x4b\x032\x00\x01\x01";
        let outline = Outline::read(pieces, Limits::TRAFFIC).unwrap();
        assert_eq!(outline.content(2), Content::Several);
        let joined = outline.joined().unwrap();
        assert_eq!(joined.as_deref(), Some(whole.as_slice()));
        let outline = Outline::read(whole, Limits::TRAFFIC).unwrap();
        assert_eq!(outline.text(2), "abcd");
        assert_eq!(outline.joined(), Ok(None));
        // A byte array among them makes one of all.
        let both = b"\x03\x01\x6a\x00\x45\x4b\x03a\x00\xc3\x02\xff\x00\x01\x01";
        let outline = Outline::read(both, Limits::TRAFFIC).unwrap();
        let whole = b"\x03\x01\x6a\x00\x45\x4b\xc3\x03a\xff\x00\x01\x01";
        assert_eq!(outline.joined().unwrap().as_deref(), Some(whole.as_slice()));
        // Text before or behind an element.
        for mixed in [
            b"\x03\x01\x6a\x00\x45\x03a\x00\x0b\x01",
            b"\x03\x01\x6a\x00\x45\x0b\x03a\x00\x01",
        ] {
            let outline = Outline::read(mixed, Limits::TRAFFIC).unwrap();
            assert_eq!(outline.joined(), Err(OutlineError::Scattered));
        }
    }

    #[test]
    fn elements_are_found_by_their_tags() {
        let outline = outline();
        assert_eq!(outline.root(), Some((0, Tag::new(0, 0x05))));
        let tags: Vec<_> = outline.children(0).map(|(_, tag)| tag).collect();
        assert_eq!(
            tags,
            [Tag::new(0, 0x0E), Tag::new(17, 0x0A), Tag::new(0, 0x0B)]
        );
        let body = outline.child(0, Tag::new(17, 0x0A)).unwrap();
        let data = outline.child(body, Tag::new(17, 0x0B)).unwrap();
        assert_eq!(outline.content(data), Content::Opaque(b"ab"));
        assert_eq!(outline.text_of(0, Tag::new(0, 0x0B)), Some("2"));
        assert_eq!(outline.content(body), Content::None);
    }

    #[test]
    fn what_is_not_changed_is_copied() {
        let outline = outline();
        let none = Edits::new(&outline);
        assert!(none.is_empty());
        assert_eq!(none.apply(), MESSAGE);
        let mut edits = Edits::new(&outline);
        edits.remove(outline.child(0, Tag::new(17, 0x0A)).unwrap());
        assert_eq!(
            edits.apply(),
            b"\x03\x01\x6a\x00\x45\x4e\x031\x00\x01\x00\x11\x00\x00\x4b\x032\x00\x01\x01"
        );
    }

    #[test]
    fn a_byte_array_stays_one() {
        let outline = outline();
        let mut edits = Edits::new(&outline);
        let body = outline.child(0, Tag::new(17, 0x0A)).unwrap();
        edits.set(
            outline.child(body, Tag::new(17, 0x0B)).unwrap(),
            &[b'x'; 200],
        );
        edits.replace(
            outline.child(0, Tag::new(0, 0x0E)).unwrap(),
            &[(Tag::new(17, 0x10), "n\0")],
        );
        let edited = edits.apply();
        let read = Outline::read(&edited, Limits::TRAFFIC).unwrap();
        let body = read.child(0, Tag::new(17, 0x0A)).unwrap();
        let data = read.child(body, Tag::new(17, 0x0B)).unwrap();
        assert_eq!(read.content(data), Content::Opaque(&[b'x'; 200]));
        assert_eq!(read.text_of(0, Tag::new(17, 0x10)), Some("n"));
        assert_eq!(read.text_of(0, Tag::new(0, 0x0B)), Some("2"));
    }

    proptest! {
        /// Whatever is taken out, the rest reads as before.
        #[test]
        fn a_message_without_an_element_is_a_message(which in 1_usize..5) {
            let outline = outline();
            let mut edits = Edits::new(&outline);
            edits.remove(which);
            let edited = edits.apply();
            let read = Outline::read(&edited, Limits::TRAFFIC);
            prop_assert!(read.is_ok());
        }
    }
}
