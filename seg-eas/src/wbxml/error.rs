//! Why a message was refused, and where.

use super::pages::Tag;
use std::fmt;
use thiserror::Error as ThisError;

/// A refusal with the place where reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error {
    /// What is wrong.
    pub kind: ErrorKind,
    /// The offset in bytes, from the start of the input, of what is wrong.
    pub offset: usize,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, at byte {}", self.kind, self.offset)
    }
}

impl std::error::Error for Error {}

impl Error {
    /// A short word for counters; there are few of them and none comes from the client.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self.kind {
            ErrorKind::Version(_) | ErrorKind::Charset(_) => "wbxml_header",
            ErrorKind::StringTable { .. } | ErrorKind::StringReference(_) => "wbxml_string_table",
            ErrorKind::Truncated(_) | ErrorKind::MissingEnd { .. } | ErrorKind::NoRoot => {
                "wbxml_cut_off"
            }
            ErrorKind::TrailingBytes(_) | ErrorKind::StrayEnd | ErrorKind::ContentOutsideRoot => {
                "wbxml_outside_root"
            }
            ErrorKind::TooDeep(_) => "wbxml_depth",
            ErrorKind::IntegerTooLong | ErrorKind::BeyondEnd { .. } => "wbxml_length",
            ErrorKind::Utf8 => "wbxml_utf8",
            ErrorKind::Attributes(_)
            | ErrorKind::Literal(_)
            | ErrorKind::Extension(_)
            | ErrorKind::ProcessingInstruction
            | ErrorKind::Entity => "wbxml_token",
            ErrorKind::UnknownPage(_) | ErrorKind::UnknownToken(_) => "wbxml_unknown_tag",
        }
    }
}

/// What can be wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
pub enum ErrorKind {
    /// The header names a WBXML version other than 1.1 to 1.3.
    #[error("WBXML version byte 0x{0:02X}; ActiveSync uses 0x03 (WBXML 1.3)")]
    Version(u8),
    /// The header names a charset other than UTF-8.
    #[error("charset {0}; ActiveSync uses 106 (UTF-8)")]
    Charset(u32),
    /// There is a string table longer than [`super::Limits::string_table`].
    #[error("a string table of {length} bytes where {limit} are allowed")]
    StringTable {
        /// The length that the header announces.
        length: u32,
        /// The length that is allowed.
        limit: u32,
    },
    /// The input ends inside the header, a token or a string.
    #[error("the input ends in the middle of {0}")]
    Truncated(&'static str),
    /// The input ends while elements are open.
    #[error("the input ends with {open} elements still open (END is missing)")]
    MissingEnd {
        /// How many are open.
        open: u32,
    },
    /// There is no element at all.
    #[error("there is no root element")]
    NoRoot,
    /// Something follows the root element.
    #[error("{0} bytes follow the root element")]
    TrailingBytes(usize),
    /// END without an open element.
    #[error("END (0x01) without an open element")]
    StrayEnd,
    /// A string or byte array outside of the root element.
    #[error("content outside of the root element")]
    ContentOutsideRoot,
    /// Elements nested deeper than [`super::Limits::depth`].
    #[error("elements are nested deeper than {0}")]
    TooDeep(u32),
    /// An mb_u_int32 of more than five bytes or above 32 bits.
    #[error("an integer of more than 32 bits")]
    IntegerTooLong,
    /// A byte array or string table that reaches beyond the input.
    #[error("{what} of {length} bytes, but {remaining} remain")]
    BeyondEnd {
        /// What it is.
        what: &'static str,
        /// The length that it announces.
        length: u32,
        /// How many bytes remain.
        remaining: usize,
    },
    /// A reference that points outside of the string table.
    #[error("a reference to place {0}, which the string table does not have")]
    StringReference(u32),
    /// A string that is not UTF-8. The offset is that of the first bad byte.
    #[error("a string that is not UTF-8")]
    Utf8,
    /// A tag with attributes.
    #[error("tag byte 0x{0:02X} with attributes, which ActiveSync does not use")]
    Attributes(u8),
    /// A literal tag (LITERAL, LITERAL_A, LITERAL_C, LITERAL_AC).
    #[error("literal tag 0x{0:02X}, which ActiveSync does not use")]
    Literal(u8),
    /// An extension (EXT_0 to EXT_2, EXT_I_0 to EXT_I_2, EXT_T_0 to EXT_T_2).
    #[error("extension token 0x{0:02X}, which ActiveSync does not use")]
    Extension(u8),
    /// A processing instruction.
    #[error("a processing instruction, which ActiveSync does not use")]
    ProcessingInstruction,
    /// A character entity.
    #[error("a character entity, which ActiveSync does not use")]
    Entity,
    /// SWITCH_PAGE to a page that the table does not have, where these are refused.
    #[error("unknown code page {0}")]
    UnknownPage(u8),
    /// A tag that the table does not have, where these are refused.
    #[error("unknown token 0x{:02X} in code page {}", .0.token(), .0.page())]
    UnknownToken(Tag),
}
