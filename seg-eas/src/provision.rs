//! Provision: what a device asks or says, and the orders to erase that go with the answer
//! (MS-ASPROV 3.1.5.1.2).

use std::borrow::Cow;

use crate::answer::Answer;
use crate::wbxml::{Error, Event, Limits, Reader, Tag, WriteError, Writer};

const PROVISION: Tag = Tag::new(14, 0x05);
const POLICY_KEY: Tag = Tag::new(14, 0x09);
const STATUS: Tag = Tag::new(14, 0x0B);
const REMOTE_WIPE: Tag = Tag::new(14, 0x0C);
const ACCOUNT_ONLY: Tag = Tag::new(14, 0x3B);

/// What is erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wipe {
    /// Everything on the device.
    Device,
    /// The account; from version 16.1 on.
    Account,
}

impl Wipe {
    const fn tag(self) -> Tag {
        match self {
            Self::Device => REMOTE_WIPE,
            Self::Account => ACCOUNT_ONLY,
        }
    }
}

/// What a Provision request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It asks for policies, or for the order that it was told to fetch.
    Asks,
    /// It takes the policies whose temporary key it names.
    AgreesToPolicies,
    /// It will erase itself (`true`), or says that it can't. A claim of the device's, no proof.
    Erases(Wipe, bool),
}

/// Reads a Provision request.
///
/// # Errors
/// When the body is no well-formed message. An empty body asks.
pub fn read(body: &[u8]) -> Result<Said, Error> {
    if body.is_empty() {
        return Ok(Said::Asks);
    }
    let mut reader = Reader::new(body, Limits::TRAFFIC)?;
    let (mut said, mut path) = (Said::Asks, Vec::new());
    while let Some(event) = reader.next_event()? {
        match event {
            Event::Start(tag) => {
                if tag == POLICY_KEY && said == Said::Asks {
                    said = Said::AgreesToPolicies;
                }
                path.push(tag);
            }
            Event::End => {
                path.pop();
            }
            Event::Text(text) => {
                let erases = match path.as_slice() {
                    [PROVISION, REMOTE_WIPE, STATUS] => Some(Wipe::Device),
                    [PROVISION, ACCOUNT_ONLY, STATUS] => Some(Wipe::Account),
                    _ => None,
                };
                if let Some(wipe) = erases {
                    said = Said::Erases(wipe, text.trim_ascii() == "1");
                }
            }
            _ => {}
        }
    }
    Ok(said)
}

/// The answer that orders a device to erase itself: Status 1 and the empty directive.
#[must_use]
pub fn order(wipe: Wipe) -> Answer {
    answer(|writer| {
        writer.element(STATUS, "1")?;
        writer.empty(wipe.tag());
        Ok(())
    })
}

/// The answer to a device that says it erases itself: taken note of, nothing more to do.
#[must_use]
pub fn noted() -> Answer {
    answer(|writer| writer.element(STATUS, "1"))
}

fn answer(write: impl FnOnce(&mut Writer) -> Result<(), WriteError>) -> Answer {
    let mut writer = Writer::message();
    writer.start(PROVISION);
    let body = write(&mut writer)
        .and_then(|()| writer.end())
        .and_then(|()| writer.finish());
    Answer::message(Cow::Owned(body.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_says_is_told_apart() {
        let said = |body: &[u8]| read(&[b"\x03\x01\x6a\x00\x00\x0e", body].concat()).unwrap();
        assert_eq!(read(b""), Ok(Said::Asks));
        assert_eq!(said(b"\x05"), Said::Asks);
        // Policies, Policy, PolicyType
        assert_eq!(
            said(b"\x45\x46\x47\x48\x03MS-EAS-Provisioning-WBXML\x00\x01\x01\x01\x01"),
            Said::Asks
        );
        // … PolicyKey, Status
        assert_eq!(
            said(b"\x45\x46\x47\x48\x03M\x00\x01\x49\x03123\x00\x01\x4b\x031\x00\x01\x01\x01\x01"),
            Said::AgreesToPolicies
        );
        assert_eq!(
            said(b"\x45\x4c\x4b\x031\x00\x01\x01\x01"),
            Said::Erases(Wipe::Device, true)
        );
        assert_eq!(
            said(b"\x45\x4c\x4b\x032\x00\x01\x01\x01"),
            Said::Erases(Wipe::Device, false)
        );
        assert_eq!(
            said(b"\x45\x7b\x4b\x031\x00\x01\x01\x01"),
            Said::Erases(Wipe::Account, true)
        );
    }

    #[test]
    fn the_orders_are_those_of_the_specification() {
        assert_eq!(
            &order(Wipe::Device).body[..],
            b"\x03\x01\x6a\x00\x00\x0e\x45\x4b\x031\x00\x01\x0c\x01"
        );
        assert_eq!(
            &order(Wipe::Account).body[..],
            b"\x03\x01\x6a\x00\x00\x0e\x45\x4b\x031\x00\x01\x3b\x01"
        );
        assert_eq!(
            &noted().body[..],
            b"\x03\x01\x6a\x00\x00\x0e\x45\x4b\x031\x00\x01\x01"
        );
    }
}
