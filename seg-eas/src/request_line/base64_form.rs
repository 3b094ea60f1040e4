//! The base64 query, MS-ASHTTP 2.2.1.1.1.1.
//!
//! ```text
//! u8 version * 10 | u8 command | u16le locale | u8 n, n bytes device id
//! u8 0 or 4, u32le policy key | u8 n, n bytes device type | { u8 tag, u8 n, n bytes }*
//! ```

use super::parameter::{Fields, Parameter};
use super::{RequestLineError, percent};
use crate::{Command, DeviceId, ProtocolVersion};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::borrow::Cow;

/// The standard alphabet; the closing `=` may be missing, spare bits must be 0.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Bit 0 of Options: keep a sent message in Sent Items.
const SAVE_IN_SENT: u8 = 0x01;
/// Bit 1 of Options: the answer may be multipart.
const ACCEPT_MULTIPART: u8 = 0x02;

pub(super) fn read<'q>(query: &str) -> Result<Fields<'q>, RequestLineError> {
    let record = BASE64
        .decode(query)
        .map_err(|_| RequestLineError::NotBase64)?;
    let mut record = Record {
        total: record.len(),
        rest: &record,
    };
    let mut fields = Fields::default();

    let [version] = record.array("the protocol version")?;
    let known = ProtocolVersion::from_code(version);
    fields.version = Some(known.ok_or(RequestLineError::Version(version))?);
    let [code] = record.array("the command code")?;
    fields.command = Some(Command::from_code(code).ok_or(RequestLineError::UnknownCode(code))?);
    fields.locale = Some(u16::from_le_bytes(record.array("the locale")?));
    fields.device_id = Some(DeviceId::from_raw(record.counted("the device id")?)?);
    fields.policy_key = policy_key(record.counted("the policy key")?)?;
    let at = record.offset();
    let device_type = text(record.counted("the device type")?, at)?;
    fields.set(Parameter::DeviceType, device_type)?;
    while !record.rest.is_empty() {
        parameter(&mut record, &mut fields)?;
    }
    Ok(fields)
}

/// The record of another command, up to the device type.
pub(super) fn turned(query: &str, command: Command) -> Option<Vec<u8>> {
    let bytes = BASE64.decode(query).ok()?;
    let mut record = Record {
        total: bytes.len(),
        rest: &bytes,
    };
    let [_version, _command] = record.array("the version and the command code").ok()?;
    let [_, _] = record.array("the locale").ok()?;
    for what in ["the device id", "the policy key", "the device type"] {
        record.counted(what).ok()?;
    }
    let mut turned = bytes.get(..record.offset())?.to_vec();
    *turned.get_mut(1)? = u8::try_from(command.index()).ok()?;
    Some(turned)
}

/// Takes in one tagged parameter; one with an unknown tag is passed over.
fn parameter(record: &mut Record<'_>, fields: &mut Fields<'_>) -> Result<(), RequestLineError> {
    let at = record.offset();
    let [tag] = record.array("a parameter's tag")?;
    let value = record.counted("a parameter")?;
    let Some(parameter) = Parameter::from_tag(tag) else {
        return Ok(());
    };
    fields.meet(parameter)?;
    if parameter != Parameter::Options {
        return fields.set(parameter, text(value, at)?);
    }
    let flags = match value {
        // Seen in the field, and as good as no parameter.
        [] => 0,
        [flags] => *flags,
        _ => return Err(RequestLineError::OptionsLength(length_byte(value))),
    };
    fields.save_in_sent = flags & SAVE_IN_SENT != 0;
    fields.accept_multipart = flags & ACCEPT_MULTIPART != 0;
    Ok(())
}

fn policy_key(bytes: &[u8]) -> Result<Option<u32>, RequestLineError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let key = <[u8; 4]>::try_from(bytes);
    key.map(|key| Some(u32::from_le_bytes(key)))
        .map_err(|_| RequestLineError::PolicyKeyLength(length_byte(bytes)))
}

fn text<'q>(bytes: &[u8], at: usize) -> Result<Cow<'q, str>, RequestLineError> {
    let text = std::str::from_utf8(bytes).map_err(|_| RequestLineError::NotUtf8 { at })?;
    percent::refuse_control(text, at)?;
    Ok(Cow::Owned(text.to_owned()))
}

/// The length of what a length byte counted.
fn length_byte(counted: &[u8]) -> u8 {
    u8::try_from(counted.len()).unwrap_or(u8::MAX)
}

/// The decoded record, read from front to back.
struct Record<'r> {
    rest: &'r [u8],
    total: usize,
}

impl<'r> Record<'r> {
    const fn offset(&self) -> usize {
        self.total - self.rest.len()
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], RequestLineError> {
        let at = self.offset();
        let (array, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(RequestLineError::Truncated { what, at })?;
        self.rest = rest;
        Ok(*array)
    }

    /// Bytes that are preceded by a byte that counts them.
    fn counted(&mut self, what: &'static str) -> Result<&'r [u8], RequestLineError> {
        let at = self.offset();
        let [length] = self.array(what)?;
        let (bytes, rest) = self
            .rest
            .split_at_checked(usize::from(length))
            .ok_or(RequestLineError::Truncated { what, at })?;
        self.rest = rest;
        Ok(bytes)
    }
}
