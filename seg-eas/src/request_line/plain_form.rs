//! The plain query, MS-ASHTTP 2.2.1.1.1.2.

use super::parameter::{Fields, Parameter};
use super::{RequestLineError, base64_form, percent};

pub(super) fn read(query: &str) -> Result<Fields<'_>, RequestLineError> {
    let mut fields = Fields::default();
    let mut at = 0;
    for component in query.split('&') {
        if !component.is_empty() {
            take(component, at, &mut fields)?;
        }
        at += component.len() + 1;
    }
    Ok(fields)
}

fn take<'q>(
    component: &'q str,
    at: usize,
    fields: &mut Fields<'q>,
) -> Result<(), RequestLineError> {
    let Some((name, value)) = component.split_once('=') else {
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
        return Ok(());
    };
    fields.meet(parameter)?;
    let value = percent::decode(value, at + name.len() + 1)?;
    fields.set(parameter, value)
}

fn is_base64_record(component: &str) -> bool {
    percent::undo_base64_escapes(component)
        .is_ok_and(|component| base64_form::read(&component).is_ok())
}
