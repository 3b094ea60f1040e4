//! The plain query, MS-ASHTTP 2.2.1.1.1.2.

use super::parameter::{Fields, Parameter};
use super::{RequestLineError, base64_form, percent};

pub(super) fn read(query: &str) -> Result<Fields<'_>, RequestLineError> {
    let mut fields = Fields::default();
    let mut at = 0;
    let mut rest = query;
    loop {
        let (component, after) = match memchr::memchr(b'&', rest.as_bytes()) {
            Some(end) => rest.split_at(end),
            None => (rest, ""),
        };
        if !component.is_empty() {
            take(component, at, &mut fields)?;
        }
        at += component.len() + 1;
        let Some(next) = after.get(1..) else {
            return Ok(fields);
        };
        rest = next;
    }
}

fn take<'q>(
    component: &'q str,
    at: usize,
    fields: &mut Fields<'q>,
) -> Result<(), RequestLineError> {
    let equals = memchr::memchr(b'=', component.as_bytes());
    let Some((name, value)) =
        equals.and_then(|at| Some((component.get(..at)?, component.get(at + 1..)?)))
    else {
        return Err(if is_base64_record(component) {
            RequestLineError::BothForms { at }
        } else {
            RequestLineError::BareWord { at }
        });
    };
    // Names are decoded like values: servers do, and `%44eviceId` must not hide a second DeviceId.
    let name_text = percent::decode(name, at)?;
    let Some(parameter) = Parameter::from_name(&name_text) else {
        // The padding of a base64 record looks like the `=` of an empty value.
        if value.bytes().all(|byte| byte == b'=') && is_base64_record(component) {
            return Err(RequestLineError::BothForms { at });
        }
        // PHP takes blanks from the begin of a name and reads `Cmd[` and `De.vice` in its own way:
        // ` Cmd=` would be a second Cmd there, and nothing here.
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        return if !name_text.is_empty() && name_text.bytes().all(is_name) {
            Ok(())
        } else {
            Err(RequestLineError::Name { at })
        };
    };
    fields.meet(parameter)?;
    let value = percent::decode(value, at + name.len() + 1)?;
    fields.set(parameter, value)
}

fn is_base64_record(component: &str) -> bool {
    percent::undo_base64_escapes(component)
        .is_ok_and(|component| base64_form::read(&component).is_ok())
}
