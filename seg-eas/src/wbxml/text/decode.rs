//! From WBXML to readable XML.
//!
//! A message is mostly elements of one page, each with elements or one short text inside. These are
//! written by [`Printer::plain`], in the same words as everything else but with less ado.

use super::lines::{Lines, Until, push_indent, push_namespace};
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
    /// Whether the start tag that is being written declares the prefix `w` already.
    declares_prefix: bool,
}

/// An open element.
struct Open {
    tag: Tag,
    /// The page whose namespace is the default one inside of it; `None` before the first.
    namespace: Option<u8>,
}

/// An element whose tag the table knows and that needs no attribute of ours, read and not yet written.
#[derive(Clone, Copy)]
struct Begun {
    tag: Tag,
    lines: Lines,
    /// Whether its namespace is the default one where it stands.
    is_declared: bool,
}

impl Begun {
    const fn open(self) -> Open {
        Open {
            tag: self.tag,
            namespace: Some(self.tag.page()),
        }
    }
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

/// Whether the SWITCH_PAGEs before a tag are those that the writer writes by itself.
fn are_as_needed(switches: &[u8], page_before: u8) -> bool {
    match *switches {
        [] => true,
        [global::SWITCH_PAGE, page] => page != page_before,
        _ => false,
    }
}

impl<'a> Printer<'a> {
    fn fragment(&mut self) -> Result<(), Error> {
        self.push_all(&["<", notation::FRAGMENT, ">\n"]);
        let end = self.children()?;
        self.switch_element(end.switches);
        self.push_all(&["</", notation::FRAGMENT, ">\n"]);
        Ok(())
    }

    /// Writes everything to the end of the message, which it returns.
    fn children(&mut self) -> Result<Item<'a>, Error> {
        let mut ahead = None;
        loop {
            let (begun, item) = match ahead.take() {
                Some(item) => (None, item),
                None => self.plain()?,
            };
            if let Some(begun) = begun {
                self.plain_start(begun, Until::Attributes);
                self.declares_prefix = false;
                ahead = self.content_of(begun.open(), item)?;
                continue;
            }
            match item.event {
                None => return Ok(item),
                Some(Event::Start(tag)) => {
                    let namespace = self.start_tag(item.switches, item.page_before, tag);
                    let first = self.next()?;
                    ahead = self.content_of(Open { tag, namespace }, first)?;
                }
                Some(Event::Empty(tag)) => {
                    self.start_tag(item.switches, item.page_before, tag);
                    self.out.push_str("/>\n");
                }
                Some(Event::End) => {
                    self.switch_element(item.switches);
                    self.end_tag();
                }
                Some(Event::Text(_) | Event::Opaque(_) | Event::Reference { .. }) => {
                    self.data_element(item);
                }
            }
        }
    }

    /// Writes what is plain. Returns the item that is not, or that ends the message, and what has been
    /// read before it and is still to be written.
    ///
    /// Plain is: a tag that the table knows, with no SWITCH_PAGE before it but the one that it needs; the
    /// end of an element with none at all, and so a text that XML can hold and that is all that its
    /// element holds.
    fn plain(&mut self) -> Result<(Option<Begun>, Item<'a>), Error> {
        let mut begun: Option<Begun> = None;
        loop {
            let (from, page_before) = (self.reader.offset(), self.reader.page());
            let event = self.reader.next_event()?;
            let switches = self.reader.event_offset().wrapping_sub(from);
            match (event, begun) {
                (Some(Event::Start(tag)), _)
                    if (switches == 0 || switches == 2 && tag.page() != page_before)
                        && let Some(lines) = Lines::of(tag)
                        && self.header.is_none() =>
                {
                    if let Some(begun) = begun {
                        self.plain_start(begun, Until::Elements);
                        self.open.push(begun.open());
                    }
                    let is_declared = self.namespace() == Some(tag.page());
                    begun = Some(Begun {
                        tag,
                        lines,
                        is_declared,
                    });
                }
                (Some(Event::Text(text)), Some(element))
                    if switches == 0
                        && self.message.get(self.reader.offset()) == Some(&global::END)
                        && let form = Form::of(text)
                        && form != Form::Base64 =>
                {
                    self.reader.next_event()?;
                    self.plain_start(element, Until::Text);
                    if form == Form::Plain {
                        self.out.push_str(text);
                    } else {
                        push_escaped(&mut self.out, text);
                    }
                    element.lines.push_end_line(&mut self.out);
                    begun = None;
                }
                (Some(Event::End), None) if switches == 0 => self.end_tag(),
                _ => return Ok((begun, self.item(event, from, page_before))),
            }
        }
    }

    #[inline(always)]
    fn plain_start(&mut self, element: Begun, until: Until) {
        self.indent();
        if element.is_declared {
            element.lines.push_start(&mut self.out, until);
        } else {
            element.lines.push_start(&mut self.out, Until::Attributes);
            push_namespace(&mut self.out, element.tag.page(), until);
        }
    }

    fn next(&mut self) -> Result<Item<'a>, Error> {
        let (from, page_before) = (self.reader.offset(), self.reader.page());
        let event = self.reader.next_event()?;
        Ok(self.item(event, from, page_before))
    }

    /// The event that was read last, before which reading stood at `from`.
    fn item(&self, event: Option<Event<'a>>, from: usize, page_before: u8) -> Item<'a> {
        let begin = if event.is_some() {
            self.reader.event_offset()
        } else {
            self.reader.offset()
        };
        Item {
            event,
            switches: self.message.get(from..begin).unwrap_or_default(),
            page_before,
            length: self.reader.offset() - begin,
        }
    }

    /// Writes what an element holds, and its end tag, where that is one string or byte array or nothing at
    /// all; else opens the element. Its start tag is written but for the end. Returns the item that
    /// was read ahead.
    fn content_of(&mut self, element: Open, first: Item<'a>) -> Result<Option<Item<'a>>, Error> {
        if first.switches.is_empty() {
            match first.event {
                Some(Event::End) => {
                    self.attribute(notation::CONTENT);
                    self.push_all(&[notation::NONE, "\"/>\n"]);
                    return Ok(None);
                }
                Some(Event::Text(_) | Event::Opaque(_) | Event::Reference { .. }) => {
                    let second = self.next()?;
                    if second.event == Some(Event::End) && second.switches.is_empty() {
                        self.content(first);
                        self.close(element.tag);
                        return Ok(None);
                    }
                    self.open(element);
                    self.data_element(first);
                    return Ok(Some(second));
                }
                _ => {}
            }
        }
        self.open(element);
        Ok(Some(first))
    }

    fn open(&mut self, element: Open) {
        self.out.push_str(">\n");
        self.open.push(element);
    }

    /// Writes a start tag up to the place where more attributes may follow, and returns the page of
    /// the default namespace inside of it.
    fn start_tag(&mut self, switches: &[u8], page_before: u8, tag: Tag) -> Option<u8> {
        self.indent();
        self.declares_prefix = false;
        let outside = self.namespace();
        let namespace = match Lines::of(tag) {
            Some(lines) => {
                lines.push_start(&mut self.out, Until::Attributes);
                if outside != Some(tag.page()) {
                    push_namespace(&mut self.out, tag.page(), Until::Attributes);
                }
                Some(tag.page())
            }
            None => {
                self.unknown_tag(tag);
                outside
            }
        };
        if !are_as_needed(switches, page_before) {
            self.switch_attribute(switches);
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

    fn end_tag(&mut self) {
        if let Some(open) = self.open.pop() {
            self.indent();
            self.close(open.tag);
        }
    }

    fn close(&mut self, tag: Tag) {
        match Lines::of(tag) {
            Some(lines) => lines.push_end_line(&mut self.out),
            None => self.push_all(&["</w:", notation::TAG, ">\n"]),
        }
    }

    fn data_element(&mut self, item: Item<'a>) {
        self.indent();
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
        match Form::of(text) {
            Form::Plain => self.push_all(&[">", text]),
            Form::Escaped => {
                self.out.push('>');
                push_escaped(&mut self.out, text);
            }
            Form::Base64 => {
                self.attribute(notation::TEXT);
                self.push_all(&[notation::BASE64, "\">"]);
                STANDARD.encode_string(text, &mut self.out);
            }
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
    fn switch_element(&mut self, switches: &[u8]) {
        if switches.is_empty() {
            return;
        }
        self.indent();
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
        self.push_all(&["<w:", notation::TAG]);
        self.declare_prefix();
        let (page, token) = (tag.page(), tag.token());
        let _ = write!(
            self.out,
            " {}=\"{page}\" {}=\"0x{token:02X}\"",
            notation::PAGE,
            notation::TOKEN
        );
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

    #[inline(always)]
    fn indent(&mut self) {
        push_indent(&mut self.out, self.open.len());
    }

    /// The page whose namespace is the default one where the next element stands.
    fn namespace(&self) -> Option<u8> {
        self.open.last().and_then(|open| open.namespace)
    }

    fn push_all(&mut self, parts: &[&str]) {
        for part in parts {
            self.out.push_str(part);
        }
    }
}

/// How a text can stand in XML.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As it is.
    Plain,
    /// With some characters escaped.
    Escaped,
    /// Not at all.
    Base64,
}

impl Form {
    fn of(text: &str) -> Self {
        // Looks at every byte, of a long text at many at a time.
        let class = if text.len() < SHORT {
            text.bytes().fold(0, |classes, byte| {
                classes | CLASSES.get(usize::from(byte)).copied().unwrap_or(DOUBTFUL)
            })
        } else {
            text.bytes().fold(0, |classes, byte| classes | class(byte))
        };
        if class == 0 {
            Self::Plain
        } else if class == ESCAPED || text.chars().all(is_xml_char) {
            Self::Escaped
        } else {
            Self::Base64
        }
    }
}

/// Below this length, a look at each byte in a table is faster than to begin with many at a time.
const SHORT: usize = 48;

/// The class of bytes that have to be escaped.
const ESCAPED: u8 = 1;
/// The class of bytes of which some characters are made that XML can't hold.
const DOUBTFUL: u8 = 2;

static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < classes.len() {
        classes[byte] = class(byte as u8);
        byte += 1;
    }
    classes
};

/// The class of a byte in a text; 0 where it can stand as it is.
const fn class(byte: u8) -> u8 {
    let is_escaped = (byte == b'&') | (byte == b'<') | (byte == b'>') | (byte == b'\r');
    // 0xEF begins U+FFFE and U+FFFF, among others.
    let is_control = (byte < 0x20) & (byte != b'\t') & (byte != b'\n') & (byte != b'\r');
    (is_escaped as u8 * ESCAPED) | ((is_control | (byte == 0xEF)) as u8 * DOUBTFUL)
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
