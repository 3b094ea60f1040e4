//! What is looked at before a mail is parsed: how many parts and header lines it can have, and
//! which parts are mail themselves.
//!
//! mail-parser reads a mail inside of a mail, and a mail inside of that, as deep as they go, and
//! gives them as a chain that is taken apart by recursion: a megabyte of `Content-Type:
//! message/rfc822` is deeper than a stack. So it never sees that a part is mail: the type has
//! another name in the copy that it gets, of the same length, and [`super::mime`] reads the part
//! in its turn, to a depth of its own. What is encoded is no way around that.

use std::borrow::Cow;

use super::boundaries;

/// Parts of a mail: lines that may hold a boundary.
const PARTS: usize = 20_000;
/// Parts that are made of parts: lines that may name a boundary. The parser looks for each to the
/// end of the mail.
const MULTIPARTS: usize = 200;
/// Header lines of all parts.
const HEADERS: usize = 50_000;
/// Parameters of headers that are continued or encoded (RFC 2231).
const CONTINUED: usize = 10_000;
/// Bytes of all headers.
const HEADER_BYTES: usize = 4 << 20;
/// Mail in mail in mail: so deep it is looked into.
pub(super) const DEPTH: usize = 32;

/// The subtypes of which mail-parser makes mail, and the name that each has in the copy.
const HIDDEN: [(&str, &str); 3] = [
    ("rfc822", "rfc82_"),
    ("global", "globa_"),
    ("digest", "diges_"),
];

/// Why a mail can't be looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It does not begin with headers.
    #[error("the mail has no headers")]
    NoHeaders,
    /// More parts than are looked at.
    #[error("the mail has more than {PARTS} parts, or {MULTIPARTS} that are made of parts")]
    Parts,
    /// More headers than are looked at.
    #[error(
        "the headers of the mail are more than {HEADERS}, larger than {HEADER_BYTES} bytes, or have more than \
         {CONTINUED} parameters that are continued"
    )]
    Headers,
    /// Mail in mail, too deep.
    #[error("the mail has mail in it, more than {DEPTH} deep")]
    Depth,
    /// Two readers could see two things in it.
    #[error("the mail can be read in two ways: it has {0}")]
    Ambiguous(&'static str),
}

/// A mail that may be parsed.
#[derive(Debug)]
pub(super) struct Shape<'a> {
    /// As it is.
    pub(super) raw: &'a [u8],
    /// As the parser may see it.
    pub(super) shown: Cow<'a, [u8]>,
    /// How many mails it is in.
    pub(super) depth: usize,
}

impl<'a> Shape<'a> {
    /// Looks at a mail, or its beginning.
    ///
    /// # Errors
    /// When its parts or headers are too many.
    pub(super) fn of(raw: &'a [u8]) -> Result<Self, Unreadable> {
        Self::within(raw, 0)
    }

    /// Looks at a mail that is in so many others.
    ///
    /// # Errors
    /// When its parts or headers are too many, or it is too deep.
    pub(super) fn within(raw: &'a [u8], depth: usize) -> Result<Self, Unreadable> {
        if depth > DEPTH {
            return Err(Unreadable::Depth);
        }
        let shown = shown(raw)?;
        Ok(Self { raw, shown, depth })
    }
}

fn shown(raw: &[u8]) -> Result<Cow<'_, [u8]>, Unreadable> {
    let mut shown = Cow::Borrowed(raw);
    let mut boundaries = Vec::new();
    let (mut at, mut parts, mut multiparts) = (0, 0, 0);
    let (mut headers, mut bytes, mut continued) = (0, 0, 0);
    let mut in_headers = true;
    for line in raw.split_inclusive(|byte| *byte == b'\n') {
        // A boundary counts wherever it stands in its line, and headers may begin right behind it.
        if memchr::memmem::find(line, b"--").is_some() {
            parts += 1;
            in_headers = true;
        } else if line.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
            in_headers = false;
        }
        if in_headers {
            headers += usize::from(memchr::memchr(b':', line).is_some());
            bytes += line.len();
            continued += continued_in(line);
            multiparts += usize::from(names_boundary(line));
            boundaries.extend(boundaries::named(line));
            hide(line, at, &mut shown);
        }
        if parts > PARTS || multiparts > MULTIPARTS {
            return Err(Unreadable::Parts);
        }
        if headers > HEADERS || bytes > HEADER_BYTES || continued > CONTINUED {
            return Err(Unreadable::Headers);
        }
        at += line.len();
    }
    boundaries::hide(raw, &boundaries, &mut shown);
    Ok(shown)
}

fn continued_in(line: &[u8]) -> usize {
    let behind = memchr::memchr_iter(b'*', line).filter_map(|at| line.get(at + 1));
    behind
        .filter(|byte| byte.is_ascii_digit() || **byte == b'=')
        .count()
}

fn names_boundary(line: &[u8]) -> bool {
    memchr::memchr2_iter(b'b', b'B', line).any(|at| {
        let word = line.get(at..at + "boundary".len());
        word.is_some_and(|word| word.eq_ignore_ascii_case(b"boundary"))
    })
}

/// Gives the subtypes in a header line their other names. A subtype stands in one line with its
/// slash; blanks, quotes and comments may stand between them.
fn hide(line: &[u8], begin: usize, shown: &mut Cow<'_, [u8]>) {
    let Some(slash) = memchr::memchr(b'/', line) else {
        return;
    };
    for at in slash + 1..line.len() {
        let Some(rest) = line.get(at..) else { return };
        let Some((subtype, name)) = HIDDEN.iter().find(|(subtype, _)| {
            rest.get(..subtype.len())
                .is_some_and(|found| found.eq_ignore_ascii_case(subtype.as_bytes()))
        }) else {
            continue;
        };
        let before = line.get(..at).unwrap_or_default().trim_ascii_end().last();
        let behind = rest.get(subtype.len());
        if matches!(before, Some(b'/' | b')' | b'"' | b'\\'))
            && behind.is_none_or(|byte| {
                byte.is_ascii_whitespace() || matches!(byte, b';' | b'(' | b'"' | b'\\')
            })
            && let Some(place) = shown.to_mut().get_mut(begin + at..begin + at + name.len())
        {
            place.copy_from_slice(name.as_bytes());
        }
    }
}

/// What a hidden subtype is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `message/rfc822` and `message/global`: mail.
    Mail,
    /// `multipart/digest`: its parts are mail where they don't say otherwise.
    Digest,
}

/// What stands behind a type as the parser has seen it, and the type as it is.
pub(super) fn uncovered(class: &str, subtype: &str) -> Option<(Kind, String)> {
    let (given, _) = HIDDEN.iter().find(|(_, name)| *name == subtype)?;
    let kind = match (class, *given) {
        ("multipart", "digest") => Kind::Digest,
        ("message", "rfc822" | "global") => Kind::Mail,
        _ => return None,
    };
    Some((kind, format!("{class}/{given}")))
}
