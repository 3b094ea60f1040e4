//! The query of another command of the same device.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::parameter::Parameter;
use super::{QueryForm, base64_form, form_of, percent};
use crate::Command;

/// The query with which the device of a forwarded query would send `command`: in the same form, with
/// the same version, policy key and names, and without what belongs to the first command. `None`: the
/// query can't be read.
#[must_use]
pub fn as_command(query: &str, command: Command) -> Option<String> {
    match form_of(query) {
        QueryForm::Plain => plain(query, command),
        QueryForm::Base64 => Some(STANDARD.encode(base64_form::turned(query, command)?)),
    }
}

fn plain(query: &str, command: Command) -> Option<String> {
    let mut turned = format!("Cmd={}", command.name());
    for component in query.split('&') {
        let (name, _) = component.split_once('=')?;
        let name = percent::decode(name, 0).ok()?;
        let names = [Parameter::User, Parameter::DeviceId, Parameter::DeviceType];
        if Parameter::from_name(&name).is_some_and(|found| names.contains(&found)) {
            turned.push('&');
            turned.push_str(component);
        }
    }
    Some(turned)
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn a_query_is_turned_into_that_of_another_command() {
        let query = "User=CORP%5Calice&Cmd=Sync&DeviceId=Ab1&CollectionId=5&DeviceType=iPhone";
        assert_eq!(
            as_command(query, Command::ItemOperations).as_deref(),
            Some("Cmd=ItemOperations&User=CORP%5Calice&DeviceId=Ab1&DeviceType=iPhone")
        );
        assert_eq!(as_command("Cmd", Command::ItemOperations), None);
        // Version 14.1, Sync, locale, device ABC, a policy key, type SP, Options: multipart.
        let record = b"\x8d\x00\x09\x04\x03ABC\x04\x01\x02\x03\x04\x02SP\x07\x01\x02";
        let turned = as_command(&STANDARD.encode(record), Command::ItemOperations);
        let turned = turned.expect("a query");
        let line = parse(&turned).expect("a query");
        assert_eq!(line.command, Command::ItemOperations);
        assert!(!line.accept_multipart);
        assert_eq!(line.policy_key, Some(0x0403_0201));
        assert_eq!(line.device_type.as_deref(), Some("SP"));
        assert_eq!(
            line.device_id,
            parse(&STANDARD.encode(record))
                .ok()
                .and_then(|line| line.device_id)
        );
        assert_eq!(
            as_command(&STANDARD.encode(b"\x8d\x00\x09"), Command::Sync),
            None
        );
    }
}
