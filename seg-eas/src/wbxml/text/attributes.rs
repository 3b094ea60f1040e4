//! The attributes of the readable form, read.

use super::encode::{EncodeErrorKind, Name, xml};
use super::notation;
use crate::wbxml::pages::Tag;
use quick_xml::events::BytesStart;
use quick_xml::name::{Namespace, ResolveResult};
use quick_xml::{NsReader, XmlVersion};

/// What the text of an element is on the wire.
#[derive(Clone, Copy, Default)]
pub(super) struct Content {
    pub(super) form: Form,
    /// Whether a string, in line or in the table, is written in base64.
    pub(super) base64: bool,
    pub(super) octets: usize,
}

#[derive(Clone, Copy, Default)]
pub(super) enum Form {
    /// STR_I.
    #[default]
    Plain,
    /// OPAQUE, in base64.
    Opaque,
    /// STR_T.
    Table(u32),
    /// Nothing at all.
    Nothing,
}

/// The attributes of an element, read.
#[derive(Default)]
pub(super) struct Attributes {
    pub(super) content: Content,
    pub(super) switch: Vec<u8>,
    pub(super) header: Option<Vec<u8>>,
    page: Option<u8>,
    token: Option<u8>,
    pub(super) pages: Option<Vec<u8>>,
}

impl Content {
    pub(super) const fn is_plain(self) -> bool {
        matches!(self.form, Form::Plain) && !self.base64
    }
}

impl Attributes {
    pub(super) fn read(
        reader: &NsReader<&[u8]>,
        start: &BytesStart<'_>,
        name: &Name,
    ) -> Result<Self, EncodeErrorKind> {
        let mut read = Self::default();
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| EncodeErrorKind::Xml(error.to_string()))?;
            if attribute.key.as_namespace_binding().is_some() {
                continue;
            }
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(xml)?;
            let (namespace, local) = reader.resolver().resolve_attribute(attribute.key);
            let ours = namespace == ResolveResult::Bound(Namespace(notation::NAMESPACE));
            let unnamed = namespace == ResolveResult::Unbound;
            match (name, local.as_ref()) {
                (Name::Known(_) | Name::Unknown | Name::Data, key)
                    if ours && read.content(key, &value)? => {}
                (Name::Known(_) | Name::Unknown, notation::HEADER) if ours => {
                    let bytes = from_hex(&value).ok_or(EncodeErrorKind::BadAttribute("w:header"));
                    read.header = Some(bytes?);
                }
                (Name::Unknown, notation::PAGE) if unnamed => {
                    let page = value
                        .parse()
                        .map_err(|_| EncodeErrorKind::BadAttribute("page"));
                    read.page = Some(page?);
                }
                (Name::Unknown, notation::TOKEN) if unnamed => {
                    let token = token(&value).ok_or(EncodeErrorKind::BadAttribute("token"));
                    read.token = Some(token?);
                }
                (Name::Switch, notation::PAGES) if unnamed => {
                    let pages = page_list(&value).ok_or(EncodeErrorKind::BadAttribute("pages"));
                    read.pages = Some(pages?);
                }
                _ => {
                    let key = attribute.key.0.to_owned();
                    return Err(EncodeErrorKind::UnknownAttribute(key));
                }
            }
        }
        if matches!(name, Name::Switch) && read.pages.is_none() {
            return Err(EncodeErrorKind::BadAttribute("pages"));
        }
        Ok(read)
    }

    /// Takes in an attribute that says what the content is, or what stands before it.
    fn content(&mut self, key: &str, value: &str) -> Result<bool, EncodeErrorKind> {
        let must_be = |word, name| {
            if value == word {
                Ok(())
            } else {
                Err(EncodeErrorKind::BadAttribute(name))
            }
        };
        match key {
            notation::OPAQUE => {
                must_be(notation::BASE64, "w:opaque")?;
                self.content.form = Form::Opaque;
            }
            notation::TEXT => {
                must_be(notation::BASE64, "w:text")?;
                self.content.base64 = true;
            }
            notation::CONTENT => {
                must_be(notation::NONE, "w:content")?;
                self.content.form = Form::Nothing;
            }
            notation::TABLE => {
                let place = value
                    .parse()
                    .map_err(|_| EncodeErrorKind::BadAttribute("w:table"));
                self.content.form = Form::Table(place?);
            }
            notation::OCTETS => {
                const OCTETS: std::ops::RangeInclusive<usize> = 1..=5;
                let octets = value.parse().ok().filter(|octets| OCTETS.contains(octets));
                let octets = octets.ok_or(EncodeErrorKind::BadAttribute("w:octets"));
                self.content.octets = octets?;
            }
            notation::SWITCH => {
                let pages = page_list(value).ok_or(EncodeErrorKind::BadAttribute("w:switch"));
                self.switch = pages?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn unknown_tag(&self) -> Result<Tag, EncodeErrorKind> {
        let page = self.page.ok_or(EncodeErrorKind::BadAttribute("page"))?;
        let token = self.token.ok_or(EncodeErrorKind::BadAttribute("token"))?;
        Ok(Tag::new(page, token))
    }
}

fn token(value: &str) -> Option<u8> {
    let digits = value.strip_prefix("0x")?;
    let token = u8::from_str_radix(digits, 16).ok()?;
    (0x05..=0x3F).contains(&token).then_some(token)
}

fn page_list(value: &str) -> Option<Vec<u8>> {
    value
        .split_ascii_whitespace()
        .map(|page| page.parse().ok())
        .collect()
}

fn from_hex(value: &str) -> Option<Vec<u8>> {
    if !value.len().is_multiple_of(2) {
        return None;
    }
    let pairs = (0..value.len()).step_by(2).map(|at| value.get(at..at + 2));
    pairs
        .map(|pair| u8::from_str_radix(pair?, 16).ok())
        .collect()
}
