//! Attachments that are fetched piece by piece (MS-ASCMD, "Range (ItemOperations)").
//!
//! What an attachment is, its first bytes say. A device that asks for the bytes behind them would get
//! them unseen; so where a rule is about types, the server is asked for everything up to the last byte
//! that is wanted, the beginning is looked at, and the device gets what it has asked for. Once an
//! attachment was looked at, its further pieces pass as they are.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::answer::{
    BEGIN, FETCH, FETCH_DATA, FETCH_PROPERTIES, FETCH_STATUS, FILE_REFERENCE, PART,
};
use super::attachments::decoded;
use super::{Action, Rule};
use crate::multipart::Multipart;
use crate::wbxml::{Content, Edits, Limits, Outline, OutlineError, Place, Tag};

pub(super) const RANGE: Tag = Tag::new(20, 0x09);
/// Which properties of an item are wanted.
const SCHEMA: Tag = Tag::new(20, 0x10);

/// ItemOperations Status 8: the byte range is not one of the attachment.
const INVALID_RANGE: &[u8] = b"8";

/// Bytes of an attachment that are looked at.
pub(super) const LOOKED_AT: u64 = BEGIN as u64 / 4 * 3;

/// A piece that a device has asked for, where the server was asked for more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Widened {
    reference: String,
    /// First and last byte.
    from: u64,
    to: u64,
}

/// A request that asks for more than the device did, and what that was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wider {
    /// The body that goes on.
    pub body: Vec<u8>,
    /// The pieces to be cut out of the answer, by [`cut`].
    pub asked: Vec<Widened>,
}

/// Whether a rule must see the beginning of an attachment: what it is, or what is in it where it is a
/// mail.
fn looks_inside(rules: &[&Rule]) -> bool {
    rules.iter().any(|rule| {
        let attachments = rule.attachments.as_ref();
        attachments.is_some_and(|attachments| attachments.action != Action::Allow)
            || rule.classified.is_some()
    })
}

/// The body of an ItemOperations request with its ranges begun at the first byte, and for items as they
/// are: who asks for a body without its subject, or for attachments without their sender, hides what a
/// rule must see. `None`: it stays as it is. `is_known`: this attachment was looked at before.
///
/// # Errors
/// When the body can't be read, or two readers could read two ranges in it.
pub fn widened(
    rules: &[&Rule],
    body: &[u8],
    is_known: &dyn Fn(&str) -> bool,
) -> Result<Option<Wider>, OutlineError> {
    if body.is_empty() {
        return Ok(None);
    }
    let looks_inside = looks_inside(rules);
    let outline = Outline::read(body, Limits::TRAFFIC)?;
    let joined = outline.joined()?;
    let outline = match &joined {
        Some(joined) => Outline::read(joined, Limits::TRAFFIC)?,
        None => outline,
    };
    let Some((root, _)) = outline.root() else {
        return Ok(None);
    };
    let (mut edits, mut asked) = (Edits::new(&outline), Vec::new());
    for (fetch, _) in outline.children(root).filter(|(_, tag)| *tag == FETCH) {
        let all = |wanted: Tag| {
            let found = outline.inside(fetch).filter(move |(_, tag)| *tag == wanted);
            found.map(|(at, _)| at).collect::<Vec<_>>()
        };
        all(SCHEMA).into_iter().for_each(|at| edits.remove(at));
        if !looks_inside {
            continue;
        }
        let (ranges, references) = (all(RANGE), all(FILE_REFERENCE));
        let [reference] = references[..] else {
            if references.is_empty() {
                continue;
            }
            return Err(OutlineError::Scattered);
        };
        let reference = outline.text(reference);
        let range = match ranges[..] {
            [] => continue,
            [range] => range,
            _ => return Err(OutlineError::Scattered),
        };
        if is_known(reference) {
            continue;
        }
        match parsed(outline.text(range)) {
            Some((0, to)) if to + 1 >= LOOKED_AT => {}
            Some((from, to)) => {
                let wide = format!("0-{}", to.max(LOOKED_AT - 1));
                edits.set(range, wide.as_bytes());
                let reference = reference.to_owned();
                asked.push(Widened {
                    reference,
                    from,
                    to,
                });
            }
            // A server may read what we can't: it is asked for the whole.
            None => edits.remove(range),
        }
    }
    Ok((!edits.is_empty()).then(|| Wider {
        body: edits.apply(),
        asked,
    }))
}

/// Whether what a server says of the range that it gives holds the first byte; without a range it
/// gives the whole.
pub(super) fn begins(range: Option<&str>) -> bool {
    range.is_none_or(|range| parsed(range).is_some_and(|(from, _)| from == 0))
}

/// First and last byte of a range.
fn parsed(range: &str) -> Option<(u64, u64)> {
    let (from, to) = range.split_once('-')?;
    let number = |text: &str| text.trim().parse::<u32>().ok().map(u64::from);
    let (from, to) = (number(from)?, number(to)?);
    (from <= to).then_some((from, to))
}

/// An answer to a widened request with each piece as it was asked for; `None`: it stays as it is.
///
/// # Errors
/// When it can't be read.
pub fn cut(
    body: &[u8],
    multipart: bool,
    asked: &[Widened],
) -> Result<Option<Vec<u8>>, OutlineError> {
    if body.is_empty() || asked.is_empty() {
        return Ok(None);
    }
    let mut parts = parts_of(body, multipart)?;
    let message = parts
        .first()
        .map_or(Cow::Borrowed([].as_slice()), Cow::clone);
    let outline = Outline::read(&message, Limits::TRAFFIC)?;
    let Some((root, _)) = outline.root() else {
        return Ok(None);
    };
    let mut edits = Edits::new(&outline);
    let mut asked: Vec<&Widened> = asked.iter().collect();
    for (fetch, _) in outline.inside(root).filter(|(_, tag)| *tag == FETCH) {
        let reference = outline.text_of(fetch, FILE_REFERENCE);
        let place = asked
            .iter()
            .position(|one| Some(one.reference.as_str()) == reference);
        let Some(one) = place.map(|place| asked.remove(place)) else {
            continue;
        };
        let Some(properties) = outline.child(fetch, FETCH_PROPERTIES) else {
            continue;
        };
        // A server that gives no range gives the whole, and so does the gateway.
        let Some(range) = outline.child(properties, RANGE) else {
            continue;
        };
        let given = given(&outline, properties, &parts);
        match given.as_ref().and_then(|given| given.piece(one)) {
            Some(piece) => {
                let last = one.from + piece.len() as u64 - 1;
                edits.set(range, format!("{}-{last}", one.from).as_bytes());
                match given.as_ref().map(|given| given.at) {
                    Some(At::Data(data)) => edits.set(data, STANDARD.encode(piece).as_bytes()),
                    Some(At::Part(part)) => {
                        let piece = piece.to_vec();
                        if let Some(slot) = parts.get_mut(part) {
                            *slot = Cow::Owned(piece);
                        }
                    }
                    None => {}
                }
            }
            None => {
                if let Some(status) = outline.child(fetch, FETCH_STATUS) {
                    edits.set(status, INVALID_RANGE);
                }
                if let Some(At::Part(part)) = given.map(|given| given.at)
                    && let Some(slot) = parts.get_mut(part)
                {
                    *slot = Cow::Borrowed(&[]);
                }
                edits.remove(properties);
            }
        }
    }
    if edits.is_empty() {
        return Ok(None);
    }
    let message = edits.apply();
    Ok(Some(if multipart {
        if let Some(first) = parts.first_mut() {
            *first = Cow::Owned(message);
        }
        Multipart::written(&parts)
    } else {
        message
    }))
}

/// The parts of an answer; the first is the message.
pub(super) fn parts_of(body: &[u8], multipart: bool) -> Result<Vec<Cow<'_, [u8]>>, OutlineError> {
    if !multipart {
        return Ok(vec![Cow::Borrowed(body)]);
    }
    let Ok(multipart) = Multipart::parse(body) else {
        return Err(OutlineError::Malformed(crate::wbxml::Error {
            kind: crate::wbxml::ErrorKind::Truncated("a multipart answer"),
            offset: 0,
        }));
    };
    Ok(multipart.parts().map(Cow::Borrowed).collect())
}

/// What the server has given of an attachment.
struct Given {
    at: At,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy)]
enum At {
    Data(Place),
    Part(usize),
}

impl Given {
    fn piece(&self, asked: &Widened) -> Option<&[u8]> {
        let from = usize::try_from(asked.from).ok()?;
        let to = usize::try_from(asked.to)
            .ok()?
            .min(self.bytes.len().checked_sub(1)?);
        self.bytes.get(from..=to).filter(|piece| !piece.is_empty())
    }
}

fn given(outline: &Outline<'_>, properties: Place, parts: &[Cow<'_, [u8]>]) -> Option<Given> {
    if let Some(data) = outline.child(properties, FETCH_DATA) {
        let text = match outline.content(data) {
            Content::Text(text) => text.as_bytes(),
            Content::Opaque(bytes) => bytes,
            Content::None | Content::Several => return None,
        };
        let bytes = decoded(text, usize::MAX)?;
        let at = At::Data(data);
        return Some(Given { at, bytes });
    }
    let part: usize = outline.text_of(properties, PART)?.trim().parse().ok()?;
    let bytes = parts.get(part).filter(|_| part > 0)?.to_vec();
    let at = At::Part(part);
    Some(Given { at, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wbxml::Writer;

    const TOTAL: Tag = Tag::new(20, 0x0A);

    fn rule() -> Rule {
        toml::from_str(
            "id = 'r'\nattachments = { action = 'block-fetch', types = ['application/pdf'] }\n",
        )
        .unwrap()
    }

    /// An ItemOperations request for pieces of attachments.
    fn asks(fetches: &[(&str, Option<&str>)]) -> Vec<u8> {
        let mut writer = Writer::message();
        writer.start(Tag::new(20, 0x05));
        for (reference, range) in fetches {
            writer.start(FETCH);
            writer.element(Tag::new(20, 0x07), "Mailbox").unwrap();
            writer.element(FILE_REFERENCE, reference).unwrap();
            if let Some(range) = range {
                writer.start(Tag::new(20, 0x08));
                writer.element(RANGE, range).unwrap();
                writer.end().unwrap();
            }
            writer.end().unwrap();
        }
        writer.end().unwrap();
        writer.finish().unwrap()
    }

    /// A range, and its part or its bytes.
    type Piece<'p> = Option<(&'p str, Result<&'p str, &'p [u8]>)>;

    /// The answer with what is given, in it or in parts.
    fn gives(fetches: &[(&str, &str, Piece<'_>)]) -> Vec<u8> {
        let mut writer = Writer::message();
        writer.start(Tag::new(20, 0x05));
        writer.start(Tag::new(20, 0x0E));
        for (status, reference, given) in fetches {
            writer.start(FETCH);
            writer.element(FETCH_STATUS, status).unwrap();
            writer.element(FILE_REFERENCE, reference).unwrap();
            if let Some((range, given)) = given {
                writer.start(FETCH_PROPERTIES);
                writer.element(RANGE, range).unwrap();
                writer.element(TOTAL, "9000").unwrap();
                match given {
                    Ok(part) => writer.element(PART, part).unwrap(),
                    Err(bytes) => writer.element(FETCH_DATA, &STANDARD.encode(bytes)).unwrap(),
                }
                writer.end().unwrap();
            }
            writer.end().unwrap();
        }
        writer.end().unwrap();
        writer.end().unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn a_piece_is_asked_for_with_what_stands_before_it() {
        let rule = rule();
        let known = |reference: &str| reference == "known";
        let given = asks(&[
            ("whole", None),
            ("first", Some("0-4095")),
            ("little", Some("0-0")),
            ("second", Some("4096-8191")),
            ("known", Some("4096-8191")),
            ("odd", Some("4096-")),
        ]);
        let Wider { body, asked } = widened(&[&rule], &given, &known).unwrap().unwrap();
        let outline = Outline::read(&body, Limits::TRAFFIC).unwrap();
        let ranges: Vec<_> = outline
            .inside(0)
            .filter(|(_, tag)| *tag == RANGE)
            .map(|(at, _)| outline.text(at))
            .collect();
        assert_eq!(ranges, ["0-4095", "0-767", "0-8191", "4096-8191"]);
        let asked: Vec<_> = asked.iter().map(|one| (one.from, one.to)).collect();
        assert_eq!(asked, [(0, 0), (4096, 8191)]);
        // Nothing to widen, or no rule that would look.
        let whole = asks(&[("whole", None), ("first", Some("0-4095"))]);
        assert_eq!(widened(&[&rule], &whole, &known), Ok(None));
        let links: Rule =
            toml::from_str("id = 'r'\nlinks = { template = 'awbs://{url}' }\n").unwrap();
        assert_eq!(widened(&[&links], &given, &known), Ok(None));
        // Two ranges: nobody knows which of them a server takes.
        let mut writer = Writer::message();
        writer.start(Tag::new(20, 0x05));
        writer.start(FETCH);
        writer.element(FILE_REFERENCE, "a").unwrap();
        writer.element(RANGE, "0-9999").unwrap();
        writer.element(RANGE, "5-9999").unwrap();
        writer.end().unwrap();
        writer.end().unwrap();
        let two = writer.finish().unwrap();
        assert_eq!(
            widened(&[&rule], &two, &known),
            Err(OutlineError::Scattered)
        );
    }

    /// Who asks for a body alone gets the subject with it: a rule may have to see it.
    #[test]
    fn an_item_is_asked_for_with_all_that_it_has() {
        let asks = |schema: bool| {
            let mut writer = Writer::message();
            writer.start(Tag::new(20, 0x05));
            writer.start(FETCH);
            writer.element(Tag::new(0, 0x0D), "5:1").unwrap();
            writer.start(Tag::new(20, 0x08));
            writer.element(Tag::new(0, 0x22), "2").unwrap();
            if schema {
                writer.start(SCHEMA);
                writer.empty(Tag::new(17, 0x0A));
                writer.end().unwrap();
            }
            for _ in 0..3 {
                writer.end().unwrap();
            }
            writer.finish().unwrap()
        };
        let marks: Rule = toml::from_str("id = 'r'\nclassified = { subject = ['x'] }\n").unwrap();
        let wider = widened(&[&marks], &asks(true), &|_| false).unwrap();
        let wider = wider.unwrap();
        assert_eq!(told(&wider.body), told(&asks(false)));
        assert_eq!(wider.asked, []);
        assert_eq!(widened(&[&marks], &asks(false), &|_| false), Ok(None));
    }

    /// All elements and their texts.
    fn told(message: &[u8]) -> Vec<(Tag, String)> {
        let outline = Outline::read(message, Limits::TRAFFIC).unwrap();
        let all = outline.inside(0);
        all.map(|(at, tag)| (tag, outline.text(at).to_owned()))
            .collect()
    }

    #[test]
    fn the_device_gets_the_piece_that_it_asked_for() {
        let bytes: Vec<u8> = (0..=255).collect();
        let one = |reference: &str, from, to| Widened {
            reference: reference.to_owned(),
            from,
            to,
        };
        let asked = [
            one("a", 16, 18),
            one("b", 250, 999),
            one("c", 256, 300),
            one("d", 0, 0),
        ];
        let wide = Some(("0-255", Err(&bytes[..])));
        let given = gives(&[
            ("1", "x", wide),
            ("1", "b", wide),
            ("1", "a", wide),
            ("1", "c", wide),
            ("16", "d", None),
        ]);
        let left = gives(&[
            ("1", "x", wide),
            ("1", "b", Some(("250-255", Err(&bytes[250..])))),
            ("1", "a", Some(("16-18", Err(&bytes[16..19])))),
            ("8", "c", None),
            ("16", "d", None),
        ]);
        let new = cut(&given, false, &asked).unwrap().unwrap();
        assert_eq!(told(&new), told(&left));
        assert_eq!(cut(&given, false, &[one("y", 1, 2)]), Ok(None));

        let message = gives(&[
            ("1", "a", Some(("0-255", Ok("1")))),
            ("1", "c", Some(("0-255", Ok("2")))),
        ]);
        let given = Multipart::written(&[
            Cow::Owned(message),
            Cow::Borrowed(&bytes),
            Cow::Borrowed(&bytes),
        ]);
        let left = gives(&[("1", "a", Some(("16-18", Ok("1")))), ("8", "c", None)]);
        let new = cut(&given, true, &asked).unwrap().unwrap();
        let parts: Vec<&[u8]> = Multipart::parse(&new).unwrap().parts().collect();
        assert_eq!(told(parts[0]), told(&left));
        assert_eq!(parts[1..], [&bytes[16..19], &[]]);
    }
}
