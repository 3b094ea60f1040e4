//! From readable XML to WBXML.

use super::attributes::{Attributes, Content, Form};
use super::notation;
use crate::wbxml::pages::Tag;
use crate::wbxml::reader::string_at;
use crate::wbxml::{Header, Limits, WriteError, Writer};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use quick_xml::NsReader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::name::{Namespace, ResolveResult};
use thiserror::Error;

/// How deep elements may be nested in the text.
const MAX_DEPTH: usize = 256;

/// How many namespaces an element declares in our own text: the page's and ours.
const BINDINGS_PER_ELEMENT: usize = 2;

/// Why a text is no readable form of a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{kind}, before byte {offset}")]
pub struct EncodeError {
    /// What is wrong.
    pub kind: EncodeErrorKind,
    /// How many bytes of the text had been read when that was found.
    pub offset: usize,
}

/// What can be wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeErrorKind {
    /// It is not well-formed XML.
    #[error("not well-formed XML: {0}")]
    Xml(String),
    /// It ends before its root does, or has none.
    #[error("the text has no root element, or ends before it does")]
    Incomplete,
    /// Something follows the root element.
    #[error("something follows the root element")]
    AfterRoot,
    /// Elements are nested deeper than 256.
    #[error("elements are nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// An element that no code page has.
    #[error(
        "no code page has element {name} in namespace {namespace:?}; <w:tag> can say any token"
    )]
    UnknownElement {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// An entity other than those of XML itself.
    #[error("entity &{0}; is not known")]
    Entity(String),
    /// Text beside elements, which must stand in `<w:data>`.
    #[error("text beside elements; put it in <w:data>")]
    MixedText,
    /// An element inside of `<w:data>`, `<w:switch>` or an element whose attributes say that it
    /// holds something else.
    #[error("no element can stand in <w:data>, <w:switch> or what an attribute says")]
    ElementInContent,
    /// An attribute that has no meaning where it stands.
    #[error("attribute {0} has no meaning here")]
    UnknownAttribute(String),
    /// An attribute with a value that it can't have, or one that is missing.
    #[error("attribute {0} is missing, or has a value that it can't have")]
    BadAttribute(&'static str),
    /// Content that is said to be base64 and is not.
    #[error("the content is not base64")]
    NotBase64,
    /// The text of a reference is not what stands at its place in the string table.
    #[error(
        "the text is not what the string table has at place {0}; take w:table away to change it"
    )]
    NotInTable(u32),
    /// What XML can hold and WBXML can't.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Makes the WBXML message of a readable text, as [`super::decode_to_xml`] writes it. The notation
/// is described in [`super`].
///
/// Comments, processing instructions and a DOCTYPE are passed over, and no entity is expanded but
/// those of XML itself. Names may be the older ones of the code page table.
///
/// # Errors
/// When the text is not well-formed, names what no code page has, or can't be said in WBXML.
pub fn encode_from_xml(text: &str) -> Result<Vec<u8>, EncodeError> {
    let mut reader = NsReader::from_str(text);
    reader
        .resolver_mut()
        .set_max_namespace_bindings(MAX_DEPTH * BINDINGS_PER_ELEMENT);
    let mut encoder = Encoder::default();
    loop {
        let step = encoder.step(&mut reader);
        let offset = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
        match step {
            Ok(true) => {}
            Ok(false) => break,
            Err(kind) => return Err(EncodeError { kind, offset }),
        }
    }
    encoder.finish().map_err(|kind| EncodeError {
        kind,
        offset: text.len(),
    })
}

#[derive(Default)]
struct Encoder {
    /// `None` until the root says what kind of message it is.
    writer: Option<Writer>,
    /// The string table of the header.
    string_table: Vec<u8>,
    open: Vec<Open>,
    /// The text since the last tag.
    text: String,
    root_ended: bool,
}

/// An open element.
struct Open {
    kind: OpenKind,
    content: Content,
    has_children: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OpenKind {
    Fragment,
    /// A tag that has content, known or not.
    Tag,
    /// A tag without content.
    Empty,
    Data,
    Switch,
}

/// What an element's name says.
pub(super) enum Name {
    Fragment,
    Known(Tag),
    Unknown,
    Data,
    Switch,
}

impl Content {
    /// The string that an element's text stands for.
    fn string(self, text: String) -> Result<String, EncodeErrorKind> {
        if !self.base64 {
            return Ok(text);
        }
        let bytes = from_base64(&text).ok_or(EncodeErrorKind::NotBase64)?;
        String::from_utf8(bytes).map_err(|_| EncodeErrorKind::NotBase64)
    }
}

impl Encoder {
    /// Takes in the next piece of XML; `false` at its end.
    fn step(&mut self, reader: &mut NsReader<&[u8]>) -> Result<bool, EncodeErrorKind> {
        match reader.read_event().map_err(xml)? {
            Event::Start(start) => self.start(reader, &start, false)?,
            Event::Empty(start) => self.start(reader, &start, true)?,
            Event::End(_) => self.end()?,
            Event::Text(text) => self.text.push_str(&text.xml10_content()),
            Event::CData(text) => self.text.push_str(&text.xml10_content()),
            Event::GeneralRef(reference) => self.reference(&reference)?,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            Event::Eof => return Ok(false),
        }
        if self.open.is_empty() && !is_layout(&self.text) {
            return Err(EncodeErrorKind::MixedText);
        }
        Ok(true)
    }

    /// Takes in a start tag, or an element written as `<a/>` (`closed`).
    fn start(
        &mut self,
        reader: &NsReader<&[u8]>,
        start: &BytesStart<'_>,
        closed: bool,
    ) -> Result<(), EncodeErrorKind> {
        self.begin_child()?;
        let name = name_of(reader, start, self.open.is_empty())?;
        let attributes = Attributes::read(reader, start, &name)?;
        if self.writer.is_none() {
            self.begin_message(&name, &attributes)?;
        } else if attributes.header.is_some() {
            return Err(EncodeErrorKind::UnknownAttribute(
                notation::HEADER.to_owned(),
            ));
        }
        let writer = self.writer()?;
        for page in attributes
            .switch
            .iter()
            .chain(attributes.pages.iter().flatten())
        {
            writer.switch_page(*page);
        }
        let tag = match name {
            Name::Known(tag) => Some(tag),
            Name::Unknown => Some(attributes.unknown_tag()?),
            Name::Fragment | Name::Data | Name::Switch => None,
        };
        let kind = match (name, tag) {
            (Name::Fragment, _) => OpenKind::Fragment,
            (Name::Switch, _) => OpenKind::Switch,
            // Tools that write XML anew may shorten an empty byte array to `<a w:opaque="…"/>`.
            (_, Some(tag)) if closed && attributes.content.is_plain() => {
                writer.empty(tag);
                OpenKind::Empty
            }
            (_, Some(tag)) => {
                writer.start(tag);
                OpenKind::Tag
            }
            (_, None) => OpenKind::Data,
        };
        self.open.push(Open {
            kind,
            content: attributes.content,
            has_children: false,
        });
        if closed { self.end() } else { Ok(()) }
    }

    /// Checks that an element may stand here.
    fn begin_child(&mut self) -> Result<(), EncodeErrorKind> {
        if self.root_ended {
            return Err(EncodeErrorKind::AfterRoot);
        }
        if self.open.len() == MAX_DEPTH {
            return Err(EncodeErrorKind::TooDeep);
        }
        if !is_layout(&self.text) {
            return Err(EncodeErrorKind::MixedText);
        }
        self.text.clear();
        let Some(parent) = self.open.last_mut() else {
            return Ok(());
        };
        if matches!(parent.kind, OpenKind::Data | OpenKind::Switch) || !parent.content.is_plain() {
            return Err(EncodeErrorKind::ElementInContent);
        }
        parent.has_children = true;
        Ok(())
    }

    /// Begins the message: without header for a fragment, with the header that the root says, or
    /// with the ordinary one.
    fn begin_message(
        &mut self,
        name: &Name,
        attributes: &Attributes,
    ) -> Result<(), EncodeErrorKind> {
        let Some(bytes) = &attributes.header else {
            let fragment = matches!(name, Name::Fragment);
            self.writer = Some(if fragment {
                Writer::body()
            } else {
                Writer::message()
            });
            return Ok(());
        };
        let limits = Limits {
            string_table: u32::MAX,
            ..Limits::INSPECTION
        };
        match Header::read(bytes, &limits) {
            Ok(header) if header.bytes == bytes => {
                self.string_table = header.string_table.to_vec();
                self.writer = Some(Writer::after(bytes.clone()));
                Ok(())
            }
            _ => Err(EncodeErrorKind::BadAttribute("w:header")),
        }
    }

    fn end(&mut self) -> Result<(), EncodeErrorKind> {
        let Some(open) = self.open.pop() else {
            return Err(EncodeErrorKind::AfterRoot);
        };
        self.root_ended = self.open.is_empty();
        match open.kind {
            OpenKind::Data => self.content(open.content),
            OpenKind::Tag => {
                if open.has_children {
                    self.layout()?;
                } else {
                    self.content(open.content)?;
                }
                self.writer()?.end().map_err(EncodeErrorKind::from)
            }
            OpenKind::Empty => Ok(()),
            OpenKind::Fragment | OpenKind::Switch => self.layout(),
        }
    }

    /// Takes the text as layout, which says nothing.
    fn layout(&mut self) -> Result<(), EncodeErrorKind> {
        if !is_layout(&self.text) {
            return Err(EncodeErrorKind::MixedText);
        }
        self.text.clear();
        Ok(())
    }

    /// Writes the text as what the attributes said that it is.
    fn content(&mut self, content: Content) -> Result<(), EncodeErrorKind> {
        let text = std::mem::take(&mut self.text);
        match content.form {
            Form::Plain => {
                let text = content.string(text)?;
                self.writer()?.text(&text)?;
            }
            Form::Opaque => {
                let bytes = from_base64(&text).ok_or(EncodeErrorKind::NotBase64)?;
                self.writer()?.opaque_wide(&bytes, content.octets)?;
            }
            Form::Nothing if is_layout(&text) => {}
            Form::Nothing => return Err(EncodeErrorKind::MixedText),
            Form::Table(place) => {
                let text = content.string(text)?;
                if string_at(&self.string_table, place) != Ok(text.as_str()) {
                    return Err(EncodeErrorKind::NotInTable(place));
                }
                self.writer()?.reference_wide(place, content.octets);
            }
        }
        Ok(())
    }

    fn reference(&mut self, reference: &BytesRef<'_>) -> Result<(), EncodeErrorKind> {
        if let Some(character) = reference.resolve_char_ref().map_err(xml)? {
            self.text.push(character);
            return Ok(());
        }
        let entity = resolve_predefined_entity(reference)
            .ok_or_else(|| EncodeErrorKind::Entity(reference.to_string()))?;
        self.text.push_str(entity);
        Ok(())
    }

    fn writer(&mut self) -> Result<&mut Writer, EncodeErrorKind> {
        self.writer.as_mut().ok_or(EncodeErrorKind::Incomplete)
    }

    fn finish(self) -> Result<Vec<u8>, EncodeErrorKind> {
        match self.writer {
            Some(writer) if self.root_ended => Ok(writer.finish()?),
            _ => Err(EncodeErrorKind::Incomplete),
        }
    }
}

fn name_of(
    reader: &NsReader<&[u8]>,
    start: &BytesStart<'_>,
    is_root: bool,
) -> Result<Name, EncodeErrorKind> {
    let (namespace, local) = reader.resolver().resolve_element(start.name());
    let name = local.as_ref();
    let namespace = match namespace {
        ResolveResult::Bound(Namespace(namespace)) => namespace,
        ResolveResult::Unbound => "",
        ResolveResult::Unknown(prefix) => {
            return Err(EncodeErrorKind::UnknownElement {
                namespace: prefix,
                name: name.to_owned(),
            });
        }
    };
    match (namespace, name) {
        ("", notation::FRAGMENT) if is_root => return Ok(Name::Fragment),
        (notation::NAMESPACE, notation::TAG) => return Ok(Name::Unknown),
        (notation::NAMESPACE, notation::DATA) if !is_root => return Ok(Name::Data),
        (notation::NAMESPACE, notation::SWITCH) if !is_root => return Ok(Name::Switch),
        _ => {}
    }
    Tag::from_name(namespace, name)
        .map(Name::Known)
        .ok_or_else(|| EncodeErrorKind::UnknownElement {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
}

/// Whether text says nothing when it stands between elements (XML 1.0 section 2.3, `S`).
fn is_layout(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

/// Decodes base64 that may be broken into lines.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let bytes: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    STANDARD.decode(bytes).ok()
}

pub(super) fn xml(error: impl std::fmt::Display) -> EncodeErrorKind {
    EncodeErrorKind::Xml(error.to_string())
}
