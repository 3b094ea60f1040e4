//! Where the parts of a mail begin and end, for every reader the same (RFC 2046 5.1.1).
//!
//! The parser takes a boundary for one wherever it stands in a line, and whatever follows it; mail
//! programs don't. A sender who knows that ends the parts for the one and not for the other, and what
//! comes behind is looked at by nobody. So a boundary in the middle of a line is hidden from the
//! parser, and a mail of which two readers could see two structures is not read at all.

use std::borrow::Cow;

use mail_parser::{HeaderName, Message, MessagePart, MimeHeaders, PartType};

use super::shape::Unreadable;

/// Hides from the parser what looks like one of these boundaries in the middle of a line.
pub(super) fn hide(raw: &[u8], boundaries: &[Vec<u8>], shown: &mut Cow<'_, [u8]>) {
    for boundary in boundaries {
        for at in delimiters(raw, boundary) {
            if !begins_line(raw, at)
                && let Some(dash) = shown.to_mut().get_mut(at)
            {
                *dash = b'_';
            }
        }
    }
}

/// The boundary that a header line names, as it is written there.
pub(super) fn named(line: &[u8]) -> Option<Vec<u8>> {
    let at = parameters(line).next()?;
    let value = line.get(at..)?.trim_ascii_start().strip_prefix(b"=")?;
    let value = value.trim_ascii_start();
    let (value, ends): (_, &[u8]) = match value.strip_prefix(b"\"") {
        Some(quoted) => (quoted, b"\"\r\n"),
        None => (value, b"; \t\r\n"),
    };
    let end = value.iter().position(|byte| ends.contains(byte));
    let boundary = value.get(..end.unwrap_or(value.len()))?;
    (!boundary.is_empty()).then(|| boundary.to_vec())
}

/// Where parameters with this name end in a header: what follows is `=`, or the mark of one that is
/// continued or encoded.
fn parameters(header: &[u8]) -> impl Iterator<Item = usize> + '_ {
    const NAME: &[u8] = b"boundary";
    memchr::memchr2_iter(b'b', b'B', header).filter_map(|at| {
        let end = at + NAME.len();
        let name = header.get(at..end)?;
        let behind = header.get(end..)?.trim_ascii_start().first();
        (name.eq_ignore_ascii_case(NAME) && matches!(behind, Some(b'=' | b'*'))).then_some(end)
    })
}

/// Looks whether the structure that the parser has seen is the only one that can be seen.
///
/// # Errors
/// When it is not.
pub(super) fn check(raw: &[u8], shown: &[u8], message: &Message<'_>) -> Result<(), Unreadable> {
    let mut boundaries: Vec<&str> = Vec::new();
    for part in &message.parts {
        headers(raw, part)?;
        let Some(kind) = part
            .content_type()
            .filter(|kind| kind.ctype() == "multipart")
        else {
            continue;
        };
        let body = range(raw, part.offset_body, part.offset_end);
        let boundary = kind.attribute("boundary").unwrap_or_default();
        let is_taken_apart = matches!(part.body, PartType::Multipart(_)) && !boundary.is_empty();
        // What the parser takes for a text, another reader may take apart.
        if !is_taken_apart && lines(body).any(|line| line.starts_with(b"--")) {
            return Err(Unreadable::Ambiguous("no boundary of its own"));
        }
        if is_taken_apart {
            if boundaries.contains(&boundary) {
                return Err(Unreadable::Ambiguous("one boundary twice"));
            }
            boundaries.push(boundary);
        }
    }
    let mut leaves: Vec<(usize, usize)> = message
        .parts
        .iter()
        .filter(|part| !matches!(part.body, PartType::Multipart(_)))
        .map(|part| (part.offset_body as usize, part.offset_end as usize))
        .collect();
    leaves.sort_unstable();
    for boundary in boundaries {
        let mut is_closed = false;
        for at in delimiters(raw, boundary.as_bytes()) {
            if !begins_line(raw, at) {
                if shown.get(at) == Some(&b'-') {
                    return Err(Unreadable::Ambiguous("a boundary inside of a line"));
                }
                continue;
            }
            let behind = raw.get(at + 2 + boundary.len()..).unwrap_or_default();
            let closes = behind.starts_with(b"--");
            let behind = behind.strip_prefix(b"--").unwrap_or(behind);
            let end = behind
                .iter()
                .position(|byte| !matches!(byte, b' ' | b'\t' | b'\r'));
            if end.is_some_and(|end| behind.get(end) != Some(&b'\n')) && behind != b"-" {
                return Err(Unreadable::Ambiguous("a boundary with more behind it"));
            }
            let before = leaves.partition_point(|(begin, _)| *begin <= at);
            let leaf = before.checked_sub(1).and_then(|last| leaves.get(last));
            if is_closed || leaf.is_some_and(|(_, end)| at < *end) {
                return Err(Unreadable::Ambiguous(
                    "a boundary behind the end of its parts",
                ));
            }
            is_closed = closes;
        }
    }
    Ok(())
}

/// Whether the headers of a part say one thing each.
fn headers(raw: &[u8], part: &MessagePart<'_>) -> Result<(), Unreadable> {
    let text = range(raw, part.offset_header, part.offset_body);
    // A line end for one reader, a part of the line for another.
    let is_bare = |at: usize| !matches!(text.get(at + 1), Some(b'\r' | b'\n') | None);
    if memchr::memchr_iter(b'\r', text).any(is_bare) {
        return Err(Unreadable::Ambiguous("a line end inside of a header"));
    }
    for once in [HeaderName::ContentType, HeaderName::ContentTransferEncoding] {
        let mut values = part.headers.iter().filter(|header| header.name == once);
        let value = |header: &mail_parser::Header<'_>| {
            range(raw, header.offset_start, header.offset_end).trim_ascii()
        };
        let first = values.next().map(value);
        if values.any(|header| Some(value(header)) != first) {
            return Err(Unreadable::Ambiguous("one header twice"));
        }
        if once == HeaderName::ContentType
            && first.is_some_and(|value| parameters(value).nth(1).is_some())
            && part
                .content_type()
                .is_some_and(|kind| kind.ctype() == "multipart")
        {
            return Err(Unreadable::Ambiguous("two boundaries"));
        }
    }
    let parameters = part.content_type().and_then(|kind| kind.attributes());
    for once in ["charset", "boundary"] {
        let mut values = parameters.into_iter().flatten();
        let first = values.find(|parameter| parameter.name == once);
        if values.any(|parameter| {
            parameter.name == once && Some(&parameter.value) != first.map(|first| &first.value)
        }) {
            return Err(Unreadable::Ambiguous("one parameter twice"));
        }
    }
    Ok(())
}

/// Where `--` and the boundary stand.
fn delimiters<'r>(raw: &'r [u8], boundary: &[u8]) -> impl Iterator<Item = usize> + use<'r> {
    let delimiter = [b"--".as_slice(), boundary].concat();
    let finder = memchr::memmem::Finder::new(&delimiter).into_owned();
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = from + finder.find(raw.get(from..)?)?;
        from = at + 1;
        Some(at)
    })
}

fn begins_line(raw: &[u8], at: usize) -> bool {
    at.checked_sub(1)
        .is_none_or(|before| raw.get(before) == Some(&b'\n'))
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

fn range(raw: &[u8], begin: u32, end: u32) -> &[u8] {
    raw.get(begin as usize..end as usize).unwrap_or_default()
}
