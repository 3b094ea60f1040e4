//! A strict, incremental XML 1.0 reader with namespaces, for documents that arrive in pieces.
//!
//! Bytes go through three rooms: [`encoding`] turns them into text and refuses characters that XML
//! forbids, [`tokeniser`] cuts the text at markup boundaries with quick-xml whatever the pieces look
//! like, and [`element`] takes a complete tag apart, checks names and attributes and keeps the stack
//! of open elements and namespace scopes. A [`Visitor`] is told what is found.
//!
//! Everything that is not well-formed is refused, so that no reader behind the gateway can take a
//! document for anything else than what was seen here. There are no entities but the five
//! predefined ones and no document type declarations.

mod characters;
mod declaration;
mod element;
mod encoding;
mod namespace;
mod reference;
mod tokeniser;

pub(crate) use characters::is_allowed;
pub(crate) use element::Element;
pub(crate) use namespace::Namespace;
pub(crate) use tokeniser::Tokeniser;

use crate::reject::RejectKind;

/// Is told what a document holds, in document order.
pub(crate) trait Visitor {
    /// An element begins.
    fn start(&mut self, element: &Element<'_>) -> Result<(), RejectKind>;

    /// Character data within the root element, references resolved. One run of text may come in
    /// any number of pieces. `depth` counts the open elements.
    fn text(&mut self, depth: usize, text: &str) -> Result<(), RejectKind>;

    /// The element at this depth (the root is 1) ends.
    fn end(&mut self, depth: usize) -> Result<(), RejectKind>;
}

/// Whether text is nothing but XML white space.
pub(crate) fn is_blank(text: &str) -> bool {
    text.bytes().all(characters::is_space)
}
