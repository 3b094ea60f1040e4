//! From WBXML to readable XML.

use super::notation;
use crate::wbxml::pages::Tag;
use crate::wbxml::{Error, Event, HEADER, Header, Limits, Reader, global};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write;

/// How the text begins.
const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n";

/// The version bytes of WBXML 1.1 to 1.3. No element begins with one of them, so the first byte
/// tells a message from a body without header.
const VERSIONS: std::ops::RangeInclusive<u8> = 0x01..=0x03;

/// Writes a WBXML message as readable XML, from which [`super::encode_from_xml`] makes the same
/// bytes again. The notation is described in [`super`].
///
/// A message whose first byte is no WBXML version is read as a body without header. For
/// `seg wbxml decode` the limits are [`Limits::INSPECTION`], which let a string table through.
///
/// # Errors
/// When the message is malformed or exceeds the limits.
pub fn decode_to_xml(message: &[u8], limits: &Limits) -> Result<String, Error> {
    let whole = message.first().is_none_or(|first| VERSIONS.contains(first));
    let (reader, header) = if whole {
        let header = Header::read(message, limits)?.bytes;
        (Reader::new(message, *limits)?, header)
    } else {
        (Reader::body(message, *limits), [].as_slice())
    };
    let mut printer = Printer {
        message,
        reader,
        header: Some(header).filter(|header| whole && *header != HEADER),
        // The tags of a message grow to about five times their size, its strings do not grow.
        out: String::with_capacity(message.len().saturating_mul(3)),
        open: Vec::new(),
        pending: None,
        declares_prefix: false,
    };
    printer.out.push_str(DECLARATION);
    if whole {
        printer.children()?;
    } else {
        printer.fragment()?;
    }
    Ok(printer.out)
}

struct Printer<'a> {
    message: &'a [u8],
    reader: Reader<'a>,
    /// The header, until it has been written.
    header: Option<&'a [u8]>,
    out: String,
    open: Vec<Open>,
    /// An item that was read ahead.
    pending: Option<Item<'a>>,
    /// Whether the start tag that is being written declares the prefix `w` already.
    declares_prefix: bool,
}

/// An open element.
struct Open {
    tag: Tag,
    /// The page whose namespace is the default one inside of it; `None` before the first.
    namespace: Option<u8>,
}

/// An event, or the end of the message, and the bytes around it.
#[derive(Clone, Copy)]
struct Item<'a> {
    event: Option<Event<'a>>,
    /// The SWITCH_PAGEs before the event.
    switches: &'a [u8],
    /// The page before these.
    page_before: u8,
    /// How many bytes the event takes.
    length: usize,
}

impl Item<'_> {
    /// Whether the SWITCH_PAGEs before the event are those that the writer writes by itself.
    fn switches_as_needed(&self) -> bool {
        match (self.switches, self.event) {
            ([], _) => true,
            (&[global::SWITCH_PAGE, page], Some(Event::Start(_) | Event::Empty(_))) => {
                page != self.page_before
            }
            _ => false,
        }
    }
}

impl<'a> Printer<'a> {
    fn fragment(&mut self) -> Result<(), Error> {
        self.push_all(&["<", notation::FRAGMENT, ">\n"]);
        let end = self.children()?;
        self.switch_element(end.switches, self.level());
        self.push_all(&["</", notation::FRAGMENT, ">\n"]);
        Ok(())
    }

    /// Writes everything to the end of the message, which it returns.
    fn children(&mut self) -> Result<Item<'a>, Error> {
        loop {
            let item = self.next()?;
            match item.event {
                None => return Ok(item),
                Some(Event::Start(tag)) => self.element(item, tag)?,
                Some(Event::Empty(tag)) => {
                    self.start_tag(item, tag);
                    self.out.push_str("/>\n");
                }
                Some(Event::End) => self.end_tag(item),
                Some(Event::Text(_) | Event::Opaque(_) | Event::Reference { .. }) => {
                    self.data_element(item);
                }
            }
        }
    }

    fn next(&mut self) -> Result<Item<'a>, Error> {
        if let Some(item) = self.pending.take() {
            return Ok(item);
        }
        let page_before = self.reader.page();
        let from = self.reader.offset();
        let event = self.reader.next_event()?;
        let begin = if event.is_some() {
            self.reader.event_offset()
        } else {
            self.reader.offset()
        };
        let switches = self.message.get(from..begin).unwrap_or_default();
        Ok(Item {
            event,
            switches,
            page_before,
            length: self.reader.offset() - begin,
        })
    }

    /// Writes an element with content: on one line when all it holds is one string or byte array.
    fn element(&mut self, item: Item<'a>, tag: Tag) -> Result<(), Error> {
        let namespace = self.start_tag(item, tag);
        let first = self.next()?;
        if first.switches.is_empty() {
            match first.event {
                Some(Event::End) => {
                    self.attribute(notation::CONTENT);
                    self.push_all(&[notation::NONE, "\"/>\n"]);
                    return Ok(());
                }
                Some(Event::Text(_) | Event::Opaque(_) | Event::Reference { .. }) => {
                    let second = self.next()?;
                    if second.event == Some(Event::End) && second.switches.is_empty() {
                        self.content(first);
                        self.close(tag);
                        return Ok(());
                    }
                    self.out.push_str(">\n");
                    self.open.push(Open { tag, namespace });
                    self.data_element(first);
                    self.pending = Some(second);
                    return Ok(());
                }
                _ => {}
            }
        }
        self.out.push_str(">\n");
        self.open.push(Open { tag, namespace });
        self.pending = Some(first);
        Ok(())
    }

    /// Writes a start tag up to the place where more attributes may follow, and returns the page of
    /// the default namespace inside of it.
    fn start_tag(&mut self, item: Item<'a>, tag: Tag) -> Option<u8> {
        self.indent(self.level());
        self.out.push('<');
        self.declares_prefix = false;
        let outside = self.open.last().and_then(|open| open.namespace);
        let namespace = match tag.definition() {
            Some(token) => {
                self.out.push_str(token.name());
                if outside != Some(tag.page()) {
                    self.default_namespace(tag.page());
                }
                Some(tag.page())
            }
            None => {
                self.unknown_tag(tag);
                outside
            }
        };
        if !item.switches_as_needed() {
            self.switch_attribute(item.switches);
        }
        if let Some(header) = self.header.take() {
            self.attribute(notation::HEADER);
            for byte in header {
                // Writing to a string can't fail.
                let _ = write!(self.out, "{byte:02X}");
            }
            self.out.push('"');
        }
        namespace
    }

    fn end_tag(&mut self, item: Item<'a>) {
        self.switch_element(item.switches, self.level());
        if let Some(open) = self.open.pop() {
            self.indent(self.level());
            self.close(open.tag);
        }
    }

    fn close(&mut self, tag: Tag) {
        match tag.definition() {
            Some(token) => self.push_all(&["</", token.name(), ">\n"]),
            None => self.push_all(&["</w:", notation::TAG, ">\n"]),
        }
    }

    fn data_element(&mut self, item: Item<'a>) {
        self.indent(self.level());
        self.begin_own(notation::DATA);
        if !item.switches.is_empty() {
            self.switch_attribute(item.switches);
        }
        self.content(item);
        self.push_all(&["</w:", notation::DATA, ">\n"]);
    }

    /// Writes the attributes that say what the content is, the end of the start tag, and the
    /// content.
    fn content(&mut self, item: Item<'a>) {
        match item.event {
            Some(Event::Text(text)) => self.text(text),
            Some(Event::Reference { offset, text }) => {
                self.attribute(notation::TABLE);
                let _ = write!(self.out, "{offset}\"");
                // One byte is the token.
                self.octets_attribute(
                    item.length.saturating_sub(1),
                    usize::try_from(offset).unwrap_or(usize::MAX),
                );
                self.text(text);
            }
            Some(Event::Opaque(bytes)) => {
                self.attribute(notation::OPAQUE);
                self.push_all(&[notation::BASE64, "\""]);
                self.octets_attribute(item.length.saturating_sub(1 + bytes.len()), bytes.len());
                self.out.push('>');
                STANDARD.encode_string(bytes, &mut self.out);
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if !is_special(text) {
            self.push_all(&[">", text]);
        } else if text.chars().all(is_xml_char) {
            self.out.push('>');
            push_escaped(&mut self.out, text);
        } else {
            self.attribute(notation::TEXT);
            self.push_all(&[notation::BASE64, "\">"]);
            STANDARD.encode_string(text, &mut self.out);
        }
    }

    fn octets_attribute(&mut self, octets: usize, value: usize) {
        if octets != notation::needed_octets(value) {
            self.attribute(notation::OCTETS);
            let _ = write!(self.out, "{octets}\"");
        }
    }

    fn switch_attribute(&mut self, switches: &[u8]) {
        self.attribute(notation::SWITCH);
        self.pages(switches);
    }

    /// Writes SWITCH_PAGEs that stand before an END, if there are any.
    fn switch_element(&mut self, switches: &[u8], level: usize) {
        if switches.is_empty() {
            return;
        }
        self.indent(level);
        self.begin_own(notation::SWITCH);
        self.push_all(&[" ", notation::PAGES, "=\""]);
        self.pages(switches);
        self.out.push_str("/>\n");
    }

    /// Writes the pages of a row of SWITCH_PAGEs, and the quote after them.
    fn pages(&mut self, switches: &[u8]) {
        let mut before = "";
        for pair in switches.chunks_exact(2) {
            let page = pair.last().copied().unwrap_or_default();
            let _ = write!(self.out, "{before}{page}");
            before = " ";
        }
        self.out.push('"');
    }

    fn unknown_tag(&mut self, tag: Tag) {
        self.push_all(&["w:", notation::TAG]);
        self.declare_prefix();
        let (page, token) = (tag.page(), tag.token());
        let _ = write!(
            self.out,
            " {}=\"{page}\" {}=\"0x{token:02X}\"",
            notation::PAGE,
            notation::TOKEN
        );
    }

    fn default_namespace(&mut self, page: u8) {
        let namespace = crate::wbxml::pages::Page::of(page).map_or("", |page| page.namespace());
        self.push_all(&[" xmlns=\"", namespace, "\""]);
    }

    /// Begins an element of our own.
    fn begin_own(&mut self, name: &str) {
        self.push_all(&["<w:", name]);
        self.declares_prefix = false;
        self.declare_prefix();
    }

    /// Begins an attribute of our own, up to its opening quote.
    fn attribute(&mut self, name: &str) {
        self.declare_prefix();
        self.push_all(&[" w:", name, "=\""]);
    }

    fn declare_prefix(&mut self) {
        if !self.declares_prefix {
            self.push_all(&[" xmlns:w=\"", notation::NAMESPACE, "\""]);
            self.declares_prefix = true;
        }
    }

    /// How deep a child of the innermost open element stands.
    fn level(&self) -> usize {
        self.open.len()
    }

    fn indent(&mut self, level: usize) {
        const BLANKS: &str = "                                                                ";
        let mut width = level.saturating_mul(2);
        while width > 0 {
            let step = width.min(BLANKS.len());
            self.out.push_str(BLANKS.get(..step).unwrap_or_default());
            width -= step;
        }
    }

    fn push_all(&mut self, parts: &[&str]) {
        for part in parts {
            self.out.push_str(part);
        }
    }
}

/// Whether a string has a byte that may not stand in XML as it is. Looks at every byte, which the
/// compiler can do many at a time, and errs on the side of yes.
fn is_special(text: &str) -> bool {
    text.bytes().fold(false, |special, byte| {
        // 0xEF begins U+FFFE and U+FFFF, among others.
        special | (byte < 0x20) | matches!(byte, b'&' | b'<' | b'>' | 0xEF)
    })
}

/// XML 1.0 section 2.2, `Char`.
const fn is_xml_char(character: char) -> bool {
    match character {
        '\t' | '\n' | '\r' => true,
        '\0'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}' => false,
        _ => true,
    }
}

fn push_escaped(out: &mut String, text: &str) {
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            // An XML reader would make a line feed of it.
            b'\r' => "&#13;",
            _ => continue,
        };
        out.push_str(text.get(plain..at).unwrap_or_default());
        out.push_str(escape);
        plain = at + 1;
    }
    out.push_str(text.get(plain..).unwrap_or_default());
}
