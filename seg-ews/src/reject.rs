//! Why a request body is refused.

use thiserror::Error;

/// A refused body: what is wrong and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{kind} (at byte {offset})")]
pub struct Reject {
    /// What is wrong.
    pub kind: RejectKind,
    /// Where: the offset in the text as UTF-8 of the piece of markup or character at fault, not
    /// counting a byte order mark. 0 where a header and not the body is at fault.
    pub offset: u64,
}

impl Reject {
    pub(crate) const fn new(kind: RejectKind, offset: u64) -> Self {
        Self { kind, offset }
    }
}

/// What is wrong with a body. Each variant is one reason to give in a log line or a counter.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RejectKind {
    /// A `Content-Type` other than one XML document.
    #[error(
        "the content type is not text/xml or application/xml; multipart and other packaging can't be inspected"
    )]
    ContentType,
    /// A `charset` parameter other than UTF-8 or UTF-16.
    #[error("the charset of the content type is neither utf-8 nor utf-16")]
    ContentCharset,
    /// A `Content-Encoding` other than `identity`.
    #[error("the request body is compressed or otherwise encoded; send it as it is")]
    ContentEncoding,
    /// Bytes that are not UTF-8, or not UTF-16 after its byte order mark.
    #[error("the text is neither valid UTF-8 nor UTF-16 with a byte order mark")]
    Encoding,
    /// An XML declaration that names another encoding than the bytes are in.
    #[error("the XML declaration names an encoding other than that of the text")]
    DeclaredEncoding,
    /// A malformed XML declaration, one in the wrong place, or a version other than 1.0.
    #[error("the XML declaration is malformed, misplaced or not of version 1.0")]
    Declaration,
    /// A character that XML 1.0 forbids, NUL included, also as a reference.
    #[error("a character that XML forbids")]
    Character,
    /// A document type declaration.
    #[error("a document type declaration; EWS has none and entities are not expanded")]
    Dtd,
    /// An entity other than the five predefined ones.
    #[error("a reference to an undefined entity")]
    Entity,
    /// A malformed tag, comment, section or instruction.
    #[error("malformed markup")]
    Markup,
    /// A malformed element or attribute name.
    #[error("a malformed name")]
    Name,
    /// A malformed attribute.
    #[error("a malformed attribute")]
    Attribute,
    /// An attribute twice on one element, by its name or by what its name means.
    #[error("an attribute is given twice on one element")]
    DuplicateAttribute,
    /// A prefix without a declaration, or a forbidden declaration.
    #[error("a namespace prefix is undeclared or declared in a forbidden way")]
    NamespacePrefix,
    /// An end tag that closes another element than the open one, or none.
    #[error("an end tag does not match the open element")]
    MismatchedTag,
    /// A second root element, a second document behind the first.
    #[error("a second root element follows the first")]
    SecondRoot,
    /// Text before or after the root element.
    #[error("text outside the root element")]
    TextOutsideRoot,
    /// Text in the body beside the operation.
    #[error("text in the SOAP body beside the operation")]
    TextInBody,
    /// The document ends early.
    #[error("the document ends before its root element does")]
    Truncated,
    /// More nesting than [`Limits::depth`](crate::Limits::depth).
    #[error("elements are nested too deeply")]
    TooDeep,
    /// A tag or instruction beyond [`Limits::markup_bytes`](crate::Limits::markup_bytes).
    #[error("a tag or processing instruction is too long")]
    MarkupTooLong,
    /// A name beyond [`Limits::name_bytes`](crate::Limits::name_bytes).
    #[error("a name is too long")]
    NameTooLong,
    /// More than [`Limits::attributes`](crate::Limits::attributes).
    #[error("an element has too many attributes")]
    TooManyAttributes,
    /// A value beyond [`Limits::attribute_bytes`](crate::Limits::attribute_bytes), or the name of
    /// a namespace beyond [`Limits::namespace_bytes`](crate::Limits::namespace_bytes).
    #[error("an attribute value is too long")]
    AttributeTooLong,
    /// More than [`Limits::namespaces`](crate::Limits::namespaces).
    #[error("too many namespace declarations")]
    TooManyNamespaces,
    /// A value that policy needs is beyond [`Limits::value_bytes`](crate::Limits::value_bytes),
    /// or all together beyond [`Limits::values_bytes`](crate::Limits::values_bytes) or
    /// [`Limits::values`](crate::Limits::values).
    #[error("an address, URL or id is too long, or there are too many of them")]
    ValueTooLong,
    /// The root is no SOAP envelope.
    #[error("the root element is no SOAP 1.1 envelope")]
    NotSoap,
    /// A SOAP 1.2 envelope.
    #[error("a SOAP 1.2 envelope; EWS speaks SOAP 1.1")]
    Soap12,
    /// A well-known namespace spelled with `https://`, as some documentation pages show it.
    #[error("a namespace is spelled with https:// where the real one begins with http://")]
    NamespaceTypo,
    /// An element in the envelope that is neither header nor body.
    #[error("the envelope holds an element that is neither header nor body")]
    UnexpectedElement,
    /// A second header.
    #[error("a second SOAP header")]
    SecondHeader,
    /// A header behind the body.
    #[error("a SOAP header follows the body")]
    HeaderAfterBody,
    /// A second body.
    #[error("a second SOAP body")]
    SecondBody,
    /// No body, or an empty one.
    #[error("the envelope has no operation in its body")]
    NoOperation,
    /// A second element in the body.
    #[error("the body holds a second operation")]
    SecondOperation,
    /// The operation is in another namespace than that of EWS messages.
    #[error("the operation <{0}> is not in the EWS messages namespace")]
    ForeignOperation(String),
    /// A header or value that must be unique is given twice.
    #[error("<{0}> is given twice")]
    Repeated(&'static str),
    /// An element within a value that policy reads.
    #[error("an element stands inside a value that must be plain text")]
    ElementInValue,
}

impl RejectKind {
    /// A short name for counters and logs, without anything from the request.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::ContentType => "content_type",
            Self::ContentCharset => "content_charset",
            Self::ContentEncoding => "content_encoding",
            Self::Encoding => "encoding",
            Self::DeclaredEncoding => "declared_encoding",
            Self::Declaration => "declaration",
            Self::Character => "character",
            Self::Dtd => "dtd",
            Self::Entity => "entity",
            Self::Markup => "markup",
            Self::Name => "name",
            Self::Attribute => "attribute",
            Self::DuplicateAttribute => "duplicate_attribute",
            Self::NamespacePrefix => "namespace_prefix",
            Self::MismatchedTag => "mismatched_tag",
            Self::SecondRoot => "second_root",
            Self::TextOutsideRoot => "text_outside_root",
            Self::TextInBody => "text_in_body",
            Self::Truncated => "truncated",
            Self::TooDeep => "too_deep",
            Self::MarkupTooLong => "markup_too_long",
            Self::NameTooLong => "name_too_long",
            Self::TooManyAttributes => "too_many_attributes",
            Self::AttributeTooLong => "attribute_too_long",
            Self::TooManyNamespaces => "too_many_namespaces",
            Self::ValueTooLong => "value_too_long",
            Self::NotSoap => "not_soap",
            Self::Soap12 => "soap12",
            Self::NamespaceTypo => "namespace_typo",
            Self::UnexpectedElement => "unexpected_element",
            Self::SecondHeader => "second_header",
            Self::HeaderAfterBody => "header_after_body",
            Self::SecondBody => "second_body",
            Self::NoOperation => "no_operation",
            Self::SecondOperation => "second_operation",
            Self::ForeignOperation(_) => "foreign_operation",
            Self::Repeated(_) => "repeated",
            Self::ElementInValue => "element_in_value",
        }
    }
}
