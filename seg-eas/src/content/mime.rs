//! Mail as it stands in a body of type 4 and in what a device sends (RFC 2045 to 2049): parts are
//! taken out or changed, everything else stays byte for byte.
//!
//! The parser says where the parts are, and what their headers are; what stands in them is read here,
//! as mail programs read it.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashSet;

use mail_parser::parsers::MessageStream;
use mail_parser::{HeaderName, Message, MessageParser, MessagePart, MimeHeaders, PartType};

/// What is read of HTML: the words, without tags and references.
pub(super) use mail_parser::decoders::html::html_to_text as html_text;

use super::Classified;
use super::attachments::Met;
use super::boundaries;
use super::coding::{Read, Transfer, Way, base64_lines};
use super::shape::{self, Kind, Shape, Unreadable};

/// How much of an attachment is looked at to find its type, in bytes.
const BEGIN: usize = 8192;

/// Who looks at the parts of a mail.
pub(super) trait Visit {
    /// An attachment: the text that stands in its place, if it goes.
    fn attachment(&mut self, met: &Met<'_>) -> Option<String>;

    /// A text that is shown: what it becomes, if it changes.
    fn text(&mut self, html: bool, text: &str) -> Option<String>;
}

/// A mail that has been read.
pub(super) struct Mail<'a> {
    raw: &'a [u8],
    message: Message<'a>,
    from: String,
    to: String,
    /// How many mails this one is in.
    depth: usize,
}

/// A part that is not made of parts.
struct Leaf<'m> {
    /// With its headers.
    whole: Place,
    body: Place,
    raw: &'m [u8],
    /// The type that it declares.
    declared: Option<String>,
    /// All that it is called.
    names: Vec<&'m str>,
    transfer: Transfer,
    charset: Option<&'m str>,
    kind: LeafKind,
    /// It has a name, or says that it is an attachment.
    is_attached: bool,
    /// It says that it is an attachment.
    is_offered: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LeafKind {
    Mail,
    /// A text that a mail program shows.
    Shown {
        html: bool,
    },
    Other,
}

impl<'a> Mail<'a> {
    /// Reads a mail, or its beginning.
    ///
    /// # Errors
    /// When it has no headers, or two readers could see two mails in it.
    pub(super) fn read(shape: &'a Shape<'a>) -> Result<Self, Unreadable> {
        let message = MessageParser::default()
            .parse(&*shape.shown)
            .ok_or(Unreadable::NoHeaders)?;
        boundaries::check(shape.raw, &shape.shown, &message)?;
        let addresses = |names: &[HeaderName<'_>]| {
            let headers = message.parts.first().map(|part| part.headers.iter());
            let headers = headers.into_iter().flatten();
            let lists = headers
                .filter(|header| names.contains(&header.name))
                .filter_map(|header| header.value.as_address());
            let all = lists.flat_map(|list| list.iter());
            let found: Vec<_> = all
                .filter_map(|one| one.address())
                .map(|address| format!("<{address}>"))
                .collect();
            found.join(", ")
        };
        let from = addresses(&[HeaderName::From]);
        let to = addresses(&[HeaderName::To, HeaderName::Cc, HeaderName::Bcc]);
        Ok(Self {
            raw: shape.raw,
            message,
            from,
            to,
            depth: shape.depth,
        })
    }

    /// Whether it is marked: in a subject, in a header or in a text, its own or those of a mail in it.
    ///
    /// # Errors
    /// When a mail in it can't be looked into.
    pub(super) fn is_marked(&self, classified: &Classified) -> Result<bool, Unreadable> {
        if self.has_marked_header(classified) {
            return Ok(true);
        }
        for leaf in self.leaves() {
            let marked = match leaf.kind {
                LeafKind::Mail => {
                    match self.inner(&leaf.decoded(), |mail| mail.is_marked(classified)) {
                        Err(Unreadable::NoHeaders) => {
                            classified.marks_body(&String::from_utf8_lossy(&leaf.decoded()))
                        }
                        marked => marked?,
                    }
                }
                LeafKind::Shown { html } => {
                    let text = leaf.text().text;
                    classified.marks_body(&text) || html && classified.marks_body(&html_text(&text))
                }
                LeafKind::Other => false,
            };
            if marked {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_marked_header(&self, classified: &Classified) -> bool {
        let headers = self.message.parts.first().map(|part| &part.headers);
        let mut headers = headers.into_iter().flatten();
        headers.any(|header| {
            let value = (header.offset_start as usize, header.offset_end as usize);
            let value = self.raw.get(value.0..value.1).unwrap_or_default();
            let line = [value.trim_ascii(), b"\n\n"].concat();
            let decoded = MessageStream::new(&line).parse_unstructured().into_text();
            let written = String::from_utf8_lossy(value);
            let values = [&*written, decoded.as_deref().unwrap_or_default()];
            let is_subject = header.name == HeaderName::Subject;
            values.into_iter().any(|value| {
                is_subject && classified.marks_subject(value)
                    || classified.marks_header(header.name(), value)
            })
        })
    }

    /// Whether it is signed or encrypted as a whole: a change would break the one and can't reach the
    /// other. What only has such a part among others is looked into like any mail.
    pub(super) fn is_sealed(&self) -> bool {
        let root = self.message.parts.first();
        root.and_then(MimeHeaders::content_type)
            .is_some_and(|kind| {
                let subtype = kind.subtype().unwrap_or_default();
                let is_one_of = |names: &[&str]| {
                    let mut names = names.iter();
                    names.any(|name| name.eq_ignore_ascii_case(subtype))
                };
                match kind.ctype() {
                    "multipart" => is_one_of(&["signed", "encrypted"]),
                    "application" => is_one_of(&["pkcs7-mime", "x-pkcs7-mime"]),
                    _ => false,
                }
            })
    }

    /// The mail as `visit` wants it; `None`: as it is.
    ///
    /// # Errors
    /// When a mail in it can't be looked into.
    pub(super) fn edited(&self, visit: &mut dyn Visit) -> Result<Option<Vec<u8>>, Unreadable> {
        let mut edits = Vec::new();
        for leaf in self.leaves() {
            edits.extend(self.edit(&leaf, visit)?);
        }
        if edits.is_empty() {
            return Ok(None);
        }
        edits.sort_by_key(|(begin, ..)| *begin);
        let (mut out, mut copied) = (Vec::with_capacity(self.raw.len()), 0);
        for (begin, end, bytes) in edits {
            if begin < copied {
                continue;
            }
            out.extend_from_slice(self.raw.get(copied..begin).unwrap_or_default());
            out.extend_from_slice(&bytes);
            copied = end;
        }
        out.extend_from_slice(self.raw.get(copied..).unwrap_or_default());
        Ok(Some(out))
    }

    /// The same headers over a plain text.
    pub(super) fn replaced(&self, text: &str) -> Vec<u8> {
        let end = self
            .message
            .parts
            .first()
            .map_or(0, |part| part.offset_body);
        let headers = self.raw.get(..end as usize).unwrap_or_default();
        [kept_headers(headers, &[b"content-"]), text_part(text)].concat()
    }

    fn edit(&self, leaf: &Leaf<'_>, visit: &mut dyn Visit) -> Result<Option<Edit>, Unreadable> {
        let is_shown = matches!(leaf.kind, LeafKind::Shown { .. });
        let is_plain = !leaf.is_attached && leaf.is_text_of_a_mail();
        if !is_plain {
            let begin = match leaf.kind {
                LeafKind::Mail => Cow::Borrowed(b"".as_slice()),
                _ => leaf.transfer.begin(leaf.raw, BEGIN),
            };
            let met = Met {
                names: &leaf.names,
                is_shown: is_shown && !leaf.is_attached,
                declared: leaf.declared.as_deref(),
                begin: &begin,
                size: Some(leaf.transfer.length(leaf.raw)),
                from: Some(&self.from),
                to: Some(&self.to),
            };
            if let Some(text) = visit.attachment(&met) {
                let new = self.in_place(leaf, &text);
                return Ok(Some((leaf.whole.0, leaf.whole.1, new)));
            }
        }
        match leaf.kind {
            LeafKind::Mail => {
                let inner = leaf.decoded();
                let new = match self.inner(&inner, |mail| mail.edited(visit)) {
                    // Without headers it is shown as a text.
                    Err(Unreadable::NoHeaders) => {
                        let text = String::from_utf8_lossy(&inner);
                        visit.text(false, &text).map(String::into_bytes)
                    }
                    new => new?,
                };
                Ok(new.map(|new| (leaf.body.0, leaf.body.1, leaf.transfer.encoded(&new))))
            }
            // A file that is offered stays as it is; a mail that is nothing else is shown all the same.
            LeafKind::Shown { .. } if leaf.is_offered && leaf.whole.0 > 0 => Ok(None),
            LeafKind::Shown { html } => {
                let Read { text, way } = leaf.text();
                let Some(new) = visit.text(html, &text) else {
                    return Ok(None);
                };
                if way == Way::Anew {
                    let new = self.anew(leaf, &new);
                    return Ok(Some((leaf.whole.0, leaf.whole.1, new)));
                }
                let new = leaf.transfer.encoded(&way.back(new));
                Ok(Some((leaf.body.0, leaf.body.1, new)))
            }
            LeafKind::Other => Ok(None),
        }
    }

    /// Has a mail that is in this one looked at.
    fn inner<T>(
        &self,
        raw: &[u8],
        look: impl FnOnce(&Mail<'_>) -> Result<T, Unreadable>,
    ) -> Result<T, Unreadable> {
        let shape = Shape::within(raw, self.depth + 1)?;
        look(&Mail::read(&shape)?)
    }

    fn leaves(&self) -> impl Iterator<Item = Leaf<'_>> {
        let digested = self.digested();
        let parts = self.message.parts.iter().enumerate();
        parts
            .filter(|(_, part)| !matches!(part.body, PartType::Multipart(_)))
            .map(move |(index, part)| self.leaf(part, digested.contains(&index)))
    }

    fn leaf<'m>(&'m self, part: &'m MessagePart<'_>, is_digested: bool) -> Leaf<'m> {
        let whole = (part.offset_header as usize, part.offset_end as usize);
        let body = (part.offset_body as usize, part.offset_end as usize);
        let raw = self.raw.get(body.0..body.1).unwrap_or_default();
        let (kind, declared) = declared(part);
        let named = |name: HeaderName<'static>, parameter: &'static str| {
            let headers = part
                .headers
                .iter()
                .filter(move |header| header.name == name);
            let values = headers.filter_map(|header| header.value.as_content_type());
            let parameters = values.filter_map(|value| value.attributes()).flatten();
            parameters
                .filter(move |found| found.name == parameter)
                .map(|found| &*found.value)
        };
        let mut names: Vec<&str> = named(HeaderName::ContentDisposition, "filename").collect();
        names.extend(named(HeaderName::ContentType, "name"));
        names.dedup();
        let class = declared.as_deref().unwrap_or("text/plain");
        let kind = if kind == Some(Kind::Mail) || part.content_type().is_none() && is_digested {
            LeafKind::Mail
        } else if class.starts_with("text/") || class.starts_with("multipart/") {
            let html = class == "text/html";
            LeafKind::Shown { html }
        } else if class == "application/xhtml+xml" {
            LeafKind::Shown { html: true }
        } else {
            LeafKind::Other
        };
        let mut dispositions = part.headers.iter();
        let is_offered = dispositions.any(|header| {
            header.name == HeaderName::ContentDisposition
                && header
                    .value
                    .as_content_type()
                    .is_some_and(|found| !found.is_inline())
        });
        let transfer = part.headers.iter();
        let transfer = transfer
            .filter(|header| header.name == HeaderName::ContentTransferEncoding)
            .find_map(|header| header.value.as_text());
        Leaf {
            whole,
            body,
            raw,
            kind,
            is_attached: is_offered || !names.is_empty(),
            is_offered,
            names,
            transfer: transfer.map_or(Transfer::Plain, Transfer::of),
            charset: part
                .content_type()
                .and_then(|found| found.attribute("charset")),
            declared,
        }
    }

    /// The parts that are mail where they don't say otherwise, as they are in a digest.
    fn digested(&self) -> HashSet<usize> {
        let parts = self.message.parts.iter();
        let digests = parts.filter(|part| declared(part).0 == Some(Kind::Digest));
        let inside = digests.filter_map(|part| match &part.body {
            PartType::Multipart(inside) => Some(inside),
            _ => None,
        });
        inside.flatten().map(|part| *part as usize).collect()
    }

    /// A part that says what stood in its place. Of the mail itself the headers stay.
    fn in_place(&self, leaf: &Leaf<'_>, text: &str) -> Vec<u8> {
        let headers = self.headers_of(leaf);
        if leaf.whole.0 == 0 {
            [kept_headers(headers, &[b"content-"]), text_part(text)].concat()
        } else {
            text_part(text)
        }
    }

    /// A text in a character set of our own choice, under the headers that it has had.
    fn anew(&self, leaf: &Leaf<'_>, text: &str) -> Vec<u8> {
        let says: [&[u8]; 2] = [b"content-type:", b"content-transfer-encoding:"];
        let headers = kept_headers(self.headers_of(leaf), &says);
        let kind = leaf.declared.as_deref().unwrap_or("text/plain");
        [headers, part_of(kind, text)].concat()
    }

    fn headers_of(&self, leaf: &Leaf<'_>) -> &[u8] {
        self.raw.get(leaf.whole.0..leaf.body.0).unwrap_or_default()
    }
}

impl Leaf<'_> {
    fn decoded(&self) -> Cow<'_, [u8]> {
        self.transfer.decoded(self.raw)
    }

    fn text(&self) -> Read<'_> {
        Read::of(self.decoded(), self.charset)
    }

    /// Whether it is what mail is written in. Other texts may be shown, or be offered as a file.
    fn is_text_of_a_mail(&self) -> bool {
        let declared = self.declared.as_deref().unwrap_or("text/plain");
        let is_multipart = declared.starts_with("multipart/");
        is_multipart || matches!(declared, "text/plain" | "text/html")
    }
}

type Place = (usize, usize);
type Edit = (usize, usize, Vec<u8>);

/// The type that a part declares, and what it is where the parser was not shown it.
fn declared(part: &MessagePart<'_>) -> (Option<Kind>, Option<String>) {
    let Some((class, subtype)) = part
        .content_type()
        .and_then(|kind| Some((kind.ctype(), kind.subtype()?)))
    else {
        return (None, None);
    };
    match shape::uncovered(class, subtype) {
        Some((kind, declared)) => (Some(kind), Some(declared)),
        None => (
            None,
            Some(format!("{class}/{subtype}").to_ascii_lowercase()),
        ),
    }
}

/// A part, or a mail, that is a plain text.
pub(super) fn text_part(text: &str) -> Vec<u8> {
    part_of("text/plain", text)
}

fn part_of(kind: &str, text: &str) -> Vec<u8> {
    let head =
        format!("Content-Type: {kind}; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n");
    [head.as_bytes(), &base64_lines(text.as_bytes()), b"\r\n"].concat()
}

/// The header lines whose names begin with none of `without`, and without the empty line behind them.
fn kept_headers(headers: &[u8], without: &[&[u8]]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(headers.len());
    let mut keeps = true;
    for line in headers.split_inclusive(|byte| *byte == b'\n') {
        if line.iter().all(u8::is_ascii_whitespace) {
            break;
        }
        let folded = line.first().is_some_and(u8::is_ascii_whitespace);
        if !folded {
            // Blanks in a name are nothing to some readers.
            let name = line.iter().filter(|byte| !matches!(byte, b' ' | b'\t'));
            let name: Vec<u8> = name.take(40).map(u8::to_ascii_lowercase).collect();
            keeps = !without.iter().any(|begin| name.starts_with(begin));
        }
        if keeps {
            kept.extend_from_slice(line);
        }
    }
    kept
}
