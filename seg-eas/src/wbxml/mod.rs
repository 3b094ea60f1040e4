//! WBXML as ActiveSync uses it (MS-ASWBXML): code pages, a pull reader, a writer, and the readable
//! text form.
//!
//! ActiveSync uses a small part of WBXML 1.3: tags in code pages, SWITCH_PAGE, END, inline strings
//! (STR_I) and byte arrays (OPAQUE). There are no attributes, no literals, no entities, no
//! extensions, no processing instructions and, in practice, no string table. The reader refuses all
//! of these by name; see [`ErrorKind`].

mod error;
mod limits;
mod outline;
pub mod pages;
mod pieces;
mod reader;
pub mod text;
mod writer;

pub use error::{Error, ErrorKind};
pub use limits::{Limits, UnknownTags};
pub use outline::{Content, Edits, MAX_ELEMENTS, Outline, OutlineError, Place};
pub use pages::Tag;
pub use pieces::{Piece, PieceReader};
pub use reader::{Event, Header, Reader};
pub use writer::{WriteError, Writer};

/// The global tokens of WBXML 1.3 (section 7.1 there), as they stand in content.
mod global {
    pub(super) const SWITCH_PAGE: u8 = 0x00;
    pub(super) const END: u8 = 0x01;
    pub(super) const ENTITY: u8 = 0x02;
    pub(super) const STR_I: u8 = 0x03;
    pub(super) const EXT_I_0: u8 = 0x40;
    pub(super) const EXT_I_2: u8 = 0x42;
    pub(super) const PI: u8 = 0x43;
    pub(super) const EXT_T_0: u8 = 0x80;
    pub(super) const EXT_T_2: u8 = 0x82;
    pub(super) const STR_T: u8 = 0x83;
    pub(super) const EXT_0: u8 = 0xC0;
    pub(super) const EXT_2: u8 = 0xC2;
    pub(super) const OPAQUE: u8 = 0xC3;

    /// The bits of a tag's byte that are its token.
    pub(super) const TOKEN: u8 = 0x3F;
    /// The token from which on a byte is a tag.
    pub(super) const FIRST_TAG: u8 = 0x05;
    /// The flag bit of a tag that has content, and so an END.
    pub(super) const CONTENT: u8 = 0x40;
    /// The flag bit of a tag that has attributes.
    pub(super) const ATTRIBUTES: u8 = 0x80;
}

/// WBXML 1.3, public identifier 1 ("unknown"), UTF-8, no string table: how every ActiveSync message
/// begins (MS-ASWBXML 2.1.2).
const HEADER: [u8; 4] = [0x03, 0x01, 0x6A, 0x00];

/// The IANA number of UTF-8, the only charset that MS-ASWBXML allows.
const CHARSET_UTF_8: u32 = 106;
