//! Where the tags lie in a document that is passed on as it is.
//!
//! The strict reader in [`xml`](crate::xml) judges requests. What comes back from the server is not
//! judged but followed: where an envelope of a stream ends, which elements stand where. Every byte
//! is handed on exactly once and as it came, so that whoever follows can leave bytes out and
//! nothing else. UTF-8 only; a tag that a piece boundary cuts is gathered, nothing else is.

mod lexer;

pub(crate) use lexer::{Lexer, Sink};

use thiserror::Error;

/// A document that can't be followed: no UTF-8 XML, a document type declaration, end tags without
/// a start, a tag or nesting beyond every measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the server's answer is no XML that can be followed")]
pub struct Unreadable;
