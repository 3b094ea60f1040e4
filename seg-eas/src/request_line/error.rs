//! Why a query was refused.

use super::{MAX_QUERY, Parameter};
use crate::device_id::DeviceIdError;
use thiserror::Error;

/// Why a query was refused. Places are offsets in bytes: in the query, or, where the text says so,
/// in the record that a base64 query holds. No value that the client sent is repeated, except a
/// single byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RequestLineError {
    /// There is no query.
    #[error("the query is empty; an ActiveSync request must name a command")]
    Empty,
    /// The query is longer than [`MAX_QUERY`].
    #[error("the query has {len} bytes, {MAX_QUERY} are allowed")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// There is a `?` inside of the query.
    #[error("a second '?' in the query, at byte {at}; write it as %3F")]
    QuestionMark {
        /// Where it is.
        at: usize,
    },
    /// A base64 record stands beside named parameters.
    #[error("the query mixes the base64 form with the plain form, at byte {at}")]
    BothForms {
        /// Where the base64 record begins.
        at: usize,
    },
    /// Something between two `&` that has no `=`.
    #[error("the query has a word without '=' at byte {at}")]
    BareWord {
        /// Where it begins.
        at: usize,
    },
    /// A parameter's name that is not of letters, digits, `_` and `-`: some servers read another
    /// name in it.
    #[error("the name of the parameter at byte {at} has a character that no name has")]
    Name {
        /// Where it begins.
        at: usize,
    },
    /// A parameter stands there twice.
    #[error("{0} is given twice; one request names one")]
    Duplicate(Parameter),
    /// `%` without two hexadecimal digits, or, in a base64 query, an escape other than `%2B`,
    /// `%2F` and `%3D`.
    #[error("an escape that can't be read, at byte {at}")]
    Escape {
        /// Where the `%` is.
        at: usize,
    },
    /// A parameter's name or value that is not UTF-8 after decoding.
    #[error("the parameter at byte {at} is not UTF-8")]
    NotUtf8 {
        /// Where the parameter begins; in a base64 query, in the record.
        at: usize,
    },
    /// A control character, such as a line break, in a name or a value.
    #[error("a control character in the parameter at byte {at}")]
    Control {
        /// Where the parameter begins; in a base64 query, in the record.
        at: usize,
    },
    /// A value that is longer than it may be.
    #[error("{parameter} has {len} bytes, {limit} are allowed")]
    ValueTooLong {
        /// Whose value.
        parameter: Parameter,
        /// Its length in bytes.
        len: usize,
        /// The length that is allowed.
        limit: usize,
    },
    /// No Cmd in a plain query.
    #[error("the query names no command (Cmd)")]
    NoCommand,
    /// A Cmd that no version of the protocol has.
    #[error("the query's Cmd is no ActiveSync command")]
    UnknownCommand,
    /// A command code that no version of the protocol has.
    #[error("command code {0} is no ActiveSync command")]
    UnknownCode(u8),
    /// A DeviceId that can't be one.
    #[error(transparent)]
    DeviceId(#[from] DeviceIdError),
    /// Characters that are not base64 in a query that is not plain.
    #[error("the query is neither name=value nor base64 (standard alphabet)")]
    NotBase64,
    /// The base64 record ends too early.
    #[error("the base64 record ends inside {what}, which begins at its byte {at}")]
    Truncated {
        /// Inside of what.
        what: &'static str,
        /// Where that begins in the record.
        at: usize,
    },
    /// The base64 record's version byte is below 1.0.
    #[error("protocol version byte {0} in the base64 record; 141 is 14.1")]
    Version(u8),
    /// A policy key that is not 0 or 4 bytes long.
    #[error("a policy key of {0} bytes in the base64 record; it has 0 or 4")]
    PolicyKeyLength(u8),
    /// An Options parameter that is not 0 or 1 byte long.
    #[error("an Options parameter of {0} bytes in the base64 record; it has 1")]
    OptionsLength(u8),
}

impl RequestLineError {
    /// A short word for counters; there are few of them and none comes from the client.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "query_empty",
            Self::TooLong { .. } => "query_too_long",
            Self::QuestionMark { .. } => "query_question_mark",
            Self::BothForms { .. } => "query_both_forms",
            Self::BareWord { .. } => "query_bare_word",
            Self::Name { .. } => "query_name",
            Self::Duplicate(_) => "query_duplicate",
            Self::Escape { .. } => "query_escape",
            Self::NotUtf8 { .. } => "query_not_utf8",
            Self::Control { .. } => "query_control",
            Self::ValueTooLong { .. } => "query_value_too_long",
            Self::NoCommand => "query_no_command",
            Self::UnknownCommand | Self::UnknownCode(_) => "query_unknown_command",
            Self::DeviceId(_) => "query_device_id",
            Self::NotBase64
            | Self::Truncated { .. }
            | Self::Version(_)
            | Self::PolicyKeyLength(_)
            | Self::OptionsLength(_) => "query_base64",
        }
    }
}
