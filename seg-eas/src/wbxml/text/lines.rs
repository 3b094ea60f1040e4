//! The tags of the code pages as they stand in the readable form, ready to be copied.
//!
//! Most of a text is tags, each of a few bytes. A copy of a fixed width is two or three
//! instructions where one of the right length is a call, so a piece is copied with what follows it
//! and the text is cut again.

use crate::wbxml::pages::{PAGE_COUNT, PAGES, TOKENS_PER_PAGE, Tag};

/// How much is copied in one go. A name and what stands around it fit.
const WIDTH: usize = 48;

/// How deep an element may stand for its indentation to be one copy.
const INDENTED: usize = WIDTH / 2;

const BLANKS: &str = "                                                ";

/// Where the lines of a tag stand in [`LINES`].
#[derive(Clone, Copy)]
pub(super) struct Lines {
    at: u16,
    /// How long the name is; 0 where the table does not know the tag.
    name: u8,
}

/// How much of the end of a start tag is copied with it.
#[derive(Clone, Copy)]
pub(super) enum Until {
    /// Nothing: attributes may follow.
    Attributes,
    /// `>`: text follows.
    Text,
    /// `>` and a line feed: elements follow.
    Elements,
}

/// What stands around a name: `<Name>`, a line feed, `</Name>` and another.
const AROUND: usize = 7;

/// What stands around a namespace.
const NAMESPACE: (&[u8], &[u8]) = (b" xmlns=\"", b"\">\n");

/// How long all lines are together.
const LENGTH: usize = length();

/// For each page ` xmlns="Namespace">`, for each tag that the table knows `<Name>` and `</Name>`, each with a
/// line feed, and at the end enough to copy the last one like the others.
static LINES: &str = match std::str::from_utf8(&DRAWN.bytes) {
    Ok(lines) => lines,
    Err(_) => panic!("names are ASCII"),
};

const DRAWN: Drawn = drawn();

static BY_TAG: [[Lines; TOKENS_PER_PAGE]; PAGE_COUNT] = DRAWN.by_tag;

/// Where ` xmlns="Namespace"` of a page stands, and how long it is.
static NAMESPACES: [(u16, u8); PAGE_COUNT] = DRAWN.namespaces;

impl Lines {
    /// The lines of a tag; `None` when the table does not know it.
    #[inline]
    pub(super) fn of(tag: Tag) -> Option<Self> {
        let page = BY_TAG.get(usize::from(tag.page()))?;
        let lines = *page.get(usize::from(tag.token()))?;
        (lines.name > 0).then_some(lines)
    }

    /// `<Name`, and what ends the tag.
    #[inline]
    pub(super) fn push_start(self, out: &mut String, until: Until) {
        push(out, LINES, self.at.into(), self.name() + 1 + until as usize);
    }

    /// `</Name>` and a line feed.
    #[inline]
    pub(super) fn push_end_line(self, out: &mut String) {
        let at = usize::from(self.at) + self.name() + 3;
        push(out, LINES, at, self.name() + 4);
    }

    const fn name(self) -> usize {
        self.name as usize
    }
}

/// ` xmlns="Namespace"`, and what ends the tag.
#[inline]
pub(super) fn push_namespace(out: &mut String, page: u8, until: Until) {
    if let Some(&(at, length)) = NAMESPACES.get(usize::from(page)) {
        push(out, LINES, at.into(), usize::from(length) + until as usize);
    }
}

/// Two blanks for each level.
#[inline]
pub(super) fn push_indent(out: &mut String, level: usize) {
    let mut level = level;
    while level > INDENTED {
        out.push_str(BLANKS);
        level -= INDENTED;
    }
    push(out, BLANKS, 0, 2 * level);
}

/// Pushes `length` bytes of an ASCII text, at most [`WIDTH`], that has so many bytes from there on.
#[inline(always)]
fn push(out: &mut String, text: &str, at: usize, length: usize) {
    let end = out.len() + length;
    out.push_str(text.get(at..at + WIDTH).unwrap_or_default());
    out.truncate(end);
}

const fn length() -> usize {
    let mut length = 0;
    let mut page = 0;
    while page < PAGE_COUNT {
        length += NAMESPACE.0.len() + PAGES[page].namespace().len() + NAMESPACE.1.len();
        let tokens = PAGES[page].tokens();
        let mut token = 0;
        while token < tokens.len() {
            length += 2 * tokens[token].name().len() + AROUND;
            token += 1;
        }
        page += 1;
    }
    length
}

/// Everything that is drawn from the table of code pages.
struct Drawn {
    bytes: [u8; LENGTH + WIDTH],
    by_tag: [[Lines; TOKENS_PER_PAGE]; PAGE_COUNT],
    namespaces: [(u16, u8); PAGE_COUNT],
}

const fn drawn() -> Drawn {
    let mut bytes = [b' '; LENGTH + WIDTH];
    let mut by_tag = [[Lines { at: 0, name: 0 }; TOKENS_PER_PAGE]; PAGE_COUNT];
    let mut namespaces = [(0, 0); PAGE_COUNT];
    let mut at = 0;
    let mut page = 0;
    while page < PAGE_COUNT {
        let namespace = PAGES[page].namespace().as_bytes();
        let length = NAMESPACE.0.len() + namespace.len() + 1;
        assert!(length + 2 <= WIDTH, "a namespace is too long");
        namespaces[page] = (at as u16, length as u8);
        at = put(&mut bytes, at, NAMESPACE.0);
        at = put(&mut bytes, at, namespace);
        at = put(&mut bytes, at, NAMESPACE.1);
        let tokens = PAGES[page].tokens();
        let mut token = 0;
        while token < tokens.len() {
            let name = tokens[token].name().as_bytes();
            assert!(name.len() + 4 <= WIDTH, "a name is too long");
            assert!(at <= u16::MAX as usize, "the lines are too many");
            by_tag[page][tokens[token].token() as usize] = Lines {
                at: at as u16,
                name: name.len() as u8,
            };
            at = put(&mut bytes, at, b"<");
            at = put(&mut bytes, at, name);
            at = put(&mut bytes, at, b">\n</");
            at = put(&mut bytes, at, name);
            at = put(&mut bytes, at, b">\n");
            token += 1;
        }
        page += 1;
    }
    Drawn {
        bytes,
        by_tag,
        namespaces,
    }
}

const fn put(bytes: &mut [u8], at: usize, piece: &[u8]) -> usize {
    let mut from = 0;
    while from < piece.len() {
        bytes[at + from] = piece[from];
        from += 1;
    }
    at + piece.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tag_has_the_lines_of_its_name() {
        for page in 0..=u8::MAX {
            for token in 0..=0x3F {
                let tag = Tag::new(page, token);
                let lines = Lines::of(tag);
                assert_eq!(lines.is_some(), tag.definition().is_some(), "{tag:?}");
                let (Some(lines), Some(definition)) = (lines, tag.definition()) else {
                    continue;
                };
                let name = definition.name();
                let mut out = String::new();
                lines.push_start(&mut out, Until::Attributes);
                lines.push_start(&mut out, Until::Text);
                lines.push_start(&mut out, Until::Elements);
                lines.push_end_line(&mut out);
                assert_eq!(out, format!("<{name}<{name}><{name}>\n</{name}>\n"));
            }
        }
    }

    #[test]
    fn each_page_has_the_line_of_its_namespace() {
        for page in &PAGES {
            let mut out = String::new();
            push_namespace(&mut out, page.number(), Until::Attributes);
            push_namespace(&mut out, page.number(), Until::Elements);
            let declared = format!(" xmlns=\"{}\"", page.namespace());
            assert_eq!(out, format!("{declared}{declared}>\n"));
        }
    }

    #[test]
    fn an_indentation_may_be_deeper_than_one_copy() {
        for level in [0, 1, INDENTED, INDENTED + 1, 100] {
            let mut out = String::from("x");
            push_indent(&mut out, level);
            assert_eq!(out, format!("x{}", " ".repeat(2 * level)));
        }
    }
}
