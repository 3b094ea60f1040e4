//! The query of an ActiveSync request (MS-ASHTTP 2.2.1.1.1), in its two forms.
//!
//! **Plain**: `Cmd=Sync&User=alice&DeviceId=ApplDN…&DeviceType=iPhone`. Parameters in any order,
//! names without regard to case; names and values are percent-decoded once, and `+` is a plus.
//!
//! **Base64** (from 12.1): one base64 string over a small binary record. The alphabet is the
//! standard one, and its `+`, `/` and `=` stand raw in the query, so nothing may form-decode it.
//! The closing `=` may be missing. Some HTTP libraries percent-encode the three characters:
//! `%2B`, `%2F` and `%3D` are understood (RFC 3986 2.1), and no other escape, so that a record has
//! no other spelling. Because not every server undoes them,
//! [`RequestLine::upstream_query`] is the query with raw characters and is what is to be forwarded.
//!
//! Servers differ in which of two equal parameters they believe, in whether they look after the
//! last `?`, and in what they take a mixture of both forms for: SOGo, ASP.NET and NetScaler give
//! three different answers. What could be read in two ways is therefore refused:
//! a parameter twice, both forms in one query, a second `?`, an unfinished escape, control
//! characters in a name or a value, a name that is none. No error repeats a value that the client sent.

mod base64_form;
mod error;
mod parameter;
mod percent;
mod plain_form;
mod turned;

pub use error::RequestLineError;
pub use parameter::Parameter;
pub use turned::as_command;

use crate::{Command, DeviceId, ProtocolVersion};
use parameter::Fields;
use std::borrow::Cow;
use std::fmt;

/// The longest query that is read, in bytes.
pub const MAX_QUERY: usize = 4096;

/// Which of the two forms a query has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryForm {
    /// MS-ASHTTP 2.2.1.1.1.2.
    Plain,
    /// MS-ASHTTP 2.2.1.1.1.1.
    Base64,
}

/// What the query of a request says. Its `Debug` form leaves out what must not be logged.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestLine<'q> {
    /// Which form the query has.
    pub form: QueryForm,
    /// What the request wants.
    pub command: Command,
    /// The device, canonical. Always there in the base64 form; a plain query may lack it.
    pub device_id: Option<DeviceId>,
    /// What the device calls itself, for example `iPhone`. At most 256 bytes.
    pub device_type: Option<Cow<'q, str>>,
    /// The user that the client names; the one that counts is the authenticated one. At most 320
    /// bytes.
    pub user: Option<Cow<'q, str>>,
    /// The protocol version; base64 only, where it replaces the `MS-ASProtocolVersion` header.
    pub version: Option<ProtocolVersion>,
    /// The policy key; base64 only, where it replaces the `X-MS-PolicyKey` header.
    pub policy_key: Option<u32>,
    /// The locale (LCID); base64 only.
    pub locale: Option<u16>,
    /// Whether a sent message is to be kept in Sent Items: `SaveInSent=T`, or bit 0 of Options.
    pub save_in_sent: bool,
    /// Whether the answer may be multipart: bit 1 of Options; base64 only, where it replaces the
    /// `MS-ASAcceptMultiPart` header.
    pub accept_multipart: bool,
    /// The attachment that GetAttachment asks for. At most 1,024 bytes.
    pub attachment_name: Option<Cow<'q, str>>,
    /// The folder of the item that SmartForward or SmartReply is about. At most 256 bytes.
    pub collection_id: Option<Cow<'q, str>>,
    /// A folder's name, in protocol 2.5 and earlier. At most 256 bytes.
    pub collection_name: Option<Cow<'q, str>>,
    /// The item that SmartForward or SmartReply is about. At most 256 bytes.
    pub item_id: Option<Cow<'q, str>>,
    /// The search result that SmartForward or SmartReply is about. At most 512 bytes.
    pub long_id: Option<Cow<'q, str>>,
    /// A parent folder, in protocol 2.5 and earlier. At most 256 bytes.
    pub parent_id: Option<Cow<'q, str>>,
    /// The occurrence of a recurring item. At most 256 bytes.
    pub occurrence: Option<Cow<'q, str>>,
    /// The query to send upstream: as the client sent it, but a base64 query without escapes.
    pub upstream_query: Cow<'q, str>,
}

/// Who asks, as far as the query of an OPTIONS request says it: Cmd is not needed there, and most
/// clients send no query at all.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct OptionsLine<'q> {
    /// The device, canonical.
    pub device_id: Option<DeviceId>,
    /// What the device calls itself.
    pub device_type: Option<Cow<'q, str>>,
    /// The user that the client names.
    pub user: Option<Cow<'q, str>>,
}

/// Reads the query of a POST, without the `?` before it.
///
/// # Errors
/// When it has no one meaning; all of them deserve HTTP 400.
pub fn parse(raw_query: &str) -> Result<RequestLine<'_>, RequestLineError> {
    let (form, upstream_query, fields) = read(raw_query)?;
    Ok(RequestLine {
        form,
        command: fields.command.ok_or(RequestLineError::NoCommand)?,
        device_id: fields.device_id,
        device_type: fields.device_type,
        user: fields.user,
        version: fields.version,
        policy_key: fields.policy_key,
        locale: fields.locale,
        save_in_sent: fields.save_in_sent,
        accept_multipart: fields.accept_multipart,
        attachment_name: fields.attachment_name,
        collection_id: fields.collection_id,
        collection_name: fields.collection_name,
        item_id: fields.item_id,
        long_id: fields.long_id,
        parent_id: fields.parent_id,
        occurrence: fields.occurrence,
        upstream_query,
    })
}

/// Reads the query of an OPTIONS request, which may be empty.
///
/// # Errors
/// As [`parse`], but for a missing Cmd.
pub fn parse_options(raw_query: &str) -> Result<OptionsLine<'_>, RequestLineError> {
    if raw_query.is_empty() {
        return Ok(OptionsLine::default());
    }
    let (_, _, fields) = read(raw_query)?;
    Ok(OptionsLine {
        device_id: fields.device_id,
        device_type: fields.device_type,
        user: fields.user,
    })
}

fn read(raw: &str) -> Result<(QueryForm, Cow<'_, str>, Fields<'_>), RequestLineError> {
    if raw.is_empty() {
        return Err(RequestLineError::Empty);
    }
    if raw.len() > MAX_QUERY {
        return Err(RequestLineError::TooLong { len: raw.len() });
    }
    if let Some(at) = memchr::memchr(b'?', raw.as_bytes()) {
        return Err(RequestLineError::QuestionMark { at });
    }
    match form_of(raw) {
        QueryForm::Plain => Ok((QueryForm::Plain, Cow::Borrowed(raw), plain_form::read(raw)?)),
        QueryForm::Base64 => {
            let query = percent::undo_base64_escapes(raw)?;
            let fields = base64_form::read(&query)?;
            Ok((QueryForm::Base64, query, fields))
        }
    }
}

/// A query is plain when anything in it is named: `=` before the end, or `&`.
fn form_of(raw: &str) -> QueryForm {
    let unpadded = raw.trim_end_matches('=');
    match memchr::memchr2(b'=', b'&', unpadded.as_bytes()) {
        Some(_) => QueryForm::Plain,
        None => QueryForm::Base64,
    }
}

impl fmt::Debug for RequestLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestLine")
            .field("form", &self.form)
            .field("command", &self.command)
            .field("device_id", &self.device_id)
            .field("device_type", &self.device_type)
            .field("version", &self.version)
            .field("policy_key", &self.policy_key.is_some())
            .field("locale", &self.locale)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for OptionsLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OptionsLine")
            .field("device_id", &self.device_id)
            .field("device_type", &self.device_type)
            .finish_non_exhaustive()
    }
}
