//! The parameters that both forms share, and the one place that takes them in.

use super::RequestLineError;
use crate::{Command, DeviceId, ProtocolVersion};
use std::borrow::Cow;
use std::fmt;

/// A parameter of the query (MS-ASHTTP 2.2.1.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    /// The command.
    Cmd,
    /// The user.
    User,
    /// The device.
    DeviceId,
    /// The kind of device.
    DeviceType,
    /// The attachment of GetAttachment.
    AttachmentName,
    /// A folder.
    CollectionId,
    /// A folder's name, up to 2.5.
    CollectionName,
    /// An item.
    ItemId,
    /// A search result.
    LongId,
    /// A parent folder, up to 2.5.
    ParentId,
    /// An occurrence of a recurring item.
    Occurrence,
    /// Whether to keep a sent message; plain form only.
    SaveInSent,
    /// Flags; base64 form only.
    Options,
}

struct Row {
    parameter: Parameter,
    name: &'static str,
    /// The tag in the base64 record.
    tag: Option<u8>,
    /// The name in a plain query is understood.
    plain: bool,
    max_len: usize,
}

const fn row(
    parameter: Parameter,
    name: &'static str,
    tag: Option<u8>,
    plain: bool,
    max_len: usize,
) -> Row {
    Row {
        parameter,
        name,
        tag,
        plain,
        max_len,
    }
}

/// In the order of the enum. Tag 8 is used by clients of Z-Push; the specification ends at 7.
#[rustfmt::skip]
static ROWS: [Row; 13] = [
    //  parameter                  name              tag      plain  bytes
    row(Parameter::Cmd,            "Cmd",            None,    true,    32),
    row(Parameter::User,           "User",           Some(8), true,   320),
    row(Parameter::DeviceId,       "DeviceId",       None,    true,   256),
    row(Parameter::DeviceType,     "DeviceType",     None,    true,   256),
    row(Parameter::AttachmentName, "AttachmentName", Some(0), true,  1024),
    row(Parameter::CollectionId,   "CollectionId",   Some(1), true,   256),
    row(Parameter::CollectionName, "CollectionName", Some(2), true,   256),
    row(Parameter::ItemId,         "ItemId",         Some(3), true,   256),
    row(Parameter::LongId,         "LongId",         Some(4), true,   512),
    row(Parameter::ParentId,       "ParentId",       Some(5), true,   256),
    row(Parameter::Occurrence,     "Occurrence",     Some(6), true,   256),
    row(Parameter::SaveInSent,     "SaveInSent",     None,    true,    32),
    row(Parameter::Options,        "Options",        Some(7), false,    1),
];

impl Parameter {
    /// The parameter of a name in a plain query, compared without ASCII case.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        let row = ROWS.iter().find(|row| {
            row.name.len() == name.len() && row.plain && row.name.eq_ignore_ascii_case(name)
        })?;
        Some(row.parameter)
    }

    /// The parameter of a tag in a base64 record.
    pub(super) fn from_tag(tag: u8) -> Option<Self> {
        ROWS.iter()
            .find(|row| row.tag == Some(tag))
            .map(|row| row.parameter)
    }

    const fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().name)
    }
}

/// The parameters found so far.
#[derive(Default)]
pub(super) struct Fields<'q> {
    pub(super) command: Option<Command>,
    pub(super) device_id: Option<DeviceId>,
    pub(super) device_type: Option<Cow<'q, str>>,
    pub(super) user: Option<Cow<'q, str>>,
    pub(super) version: Option<ProtocolVersion>,
    pub(super) policy_key: Option<u32>,
    pub(super) locale: Option<u16>,
    pub(super) save_in_sent: bool,
    pub(super) accept_multipart: bool,
    pub(super) attachment_name: Option<Cow<'q, str>>,
    pub(super) collection_id: Option<Cow<'q, str>>,
    pub(super) collection_name: Option<Cow<'q, str>>,
    pub(super) item_id: Option<Cow<'q, str>>,
    pub(super) long_id: Option<Cow<'q, str>>,
    pub(super) parent_id: Option<Cow<'q, str>>,
    pub(super) occurrence: Option<Cow<'q, str>>,
    /// One bit per parameter that has been there.
    seen: u16,
}

impl<'q> Fields<'q> {
    /// Notes that a parameter is there.
    ///
    /// # Errors
    /// When it is there for the second time.
    pub(super) fn meet(&mut self, parameter: Parameter) -> Result<(), RequestLineError> {
        let bit = 1_u16 << parameter as u16;
        if self.seen & bit != 0 {
            return Err(RequestLineError::Duplicate(parameter));
        }
        self.seen |= bit;
        Ok(())
    }

    /// Takes in a decoded value. An empty one counts as missing, except for Cmd and DeviceId, where
    /// it is an error.
    pub(super) fn set(
        &mut self,
        parameter: Parameter,
        value: Cow<'q, str>,
    ) -> Result<(), RequestLineError> {
        let limit = parameter.row().max_len;
        if value.len() > limit {
            return Err(RequestLineError::ValueTooLong {
                parameter,
                len: value.len(),
                limit,
            });
        }
        let slot = match parameter {
            Parameter::Cmd => {
                let command = Command::from_name(&value);
                self.command = Some(command.ok_or(RequestLineError::UnknownCommand)?);
                return Ok(());
            }
            Parameter::DeviceId => {
                self.device_id = Some(DeviceId::parse_text(&value)?);
                return Ok(());
            }
            Parameter::SaveInSent => {
                self.save_in_sent = value.eq_ignore_ascii_case("T");
                return Ok(());
            }
            // Options is no text; the base64 form takes it in by itself.
            Parameter::Options => return Ok(()),
            Parameter::User => &mut self.user,
            Parameter::DeviceType => &mut self.device_type,
            Parameter::AttachmentName => &mut self.attachment_name,
            Parameter::CollectionId => &mut self.collection_id,
            Parameter::CollectionName => &mut self.collection_name,
            Parameter::ItemId => &mut self.item_id,
            Parameter::LongId => &mut self.long_id,
            Parameter::ParentId => &mut self.parent_id,
            Parameter::Occurrence => &mut self.occurrence,
        };
        *slot = Some(value).filter(|value| !value.is_empty());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_order_of_the_enum() {
        for (place, row) in ROWS.iter().enumerate() {
            assert_eq!(row.parameter as usize, place);
            assert_eq!(format!("{:?}", row.parameter), row.name);
            assert_eq!(row.parameter.to_string(), row.name);
        }
    }
}
