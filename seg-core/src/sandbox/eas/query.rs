//! The two forms of an ActiveSync query (MS-ASHTTP 2.2.1.1.1), read just far enough to know the
//! command and the device. Deliberately not seg-eas.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Command codes of the base64 form (MS-ASHTTP 2.2.1.1.1.2), by number.
const COMMANDS: [&str; 24] = [
    "Sync",
    "SendMail",
    "SmartForward",
    "SmartReply",
    "GetAttachment",
    "GetHierarchy",
    "CreateCollection",
    "DeleteCollection",
    "MoveCollection",
    "FolderSync",
    "FolderCreate",
    "FolderDelete",
    "FolderUpdate",
    "MoveItems",
    "GetItemEstimate",
    "MeetingResponse",
    "Search",
    "Settings",
    "Ping",
    "ItemOperations",
    "Provision",
    "ResolveRecipients",
    "ValidateCert",
    "Find",
];

/// What a query says; empty where it says nothing.
#[derive(Debug, Default, Eq, PartialEq)]
pub(in crate::sandbox) struct Query {
    pub(in crate::sandbox) command: String,
    pub(in crate::sandbox) device: String,
}

/// Reads either form.
pub(in crate::sandbox) fn parse(query: &str) -> Query {
    let plain = query.split('&').any(|pair| {
        pair.get(..4)
            .is_some_and(|name| name.eq_ignore_ascii_case("cmd="))
    });
    if plain {
        parse_plain(query)
    } else {
        parse_base64(query).unwrap_or_default()
    }
}

fn parse_plain(query: &str) -> Query {
    let mut read = Query::default();
    for pair in query.split('&') {
        let Some((name, value)) = pair.split_once('=') else {
            continue;
        };
        if name.eq_ignore_ascii_case("Cmd") {
            read.command = percent_decoded(value);
        } else if name.eq_ignore_ascii_case("DeviceId") {
            read.device = percent_decoded(value);
        }
    }
    read
}

/// `version, command, locale (2), length + device id, …`
fn parse_base64(query: &str) -> Option<Query> {
    let bytes = STANDARD.decode(percent_decoded(query)).ok()?;
    let command = COMMANDS.get(usize::from(*bytes.get(1)?))?;
    let length = usize::from(*bytes.get(4)?);
    let device = bytes.get(5..5 + length)?;
    let printable = device.iter().all(|byte| byte.is_ascii_graphic());
    let device = if printable {
        String::from_utf8_lossy(device).into_owned()
    } else {
        device.iter().map(|byte| format!("{byte:02X}")).collect()
    };
    Some(Query {
        command: (*command).to_owned(),
        device,
    })
}

fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match tail {
            [high, low, ..] if *first == b'%' => hexadecimal(*high).zip(hexadecimal(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                decoded.push(high << 4 | low);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_name_command_and_device() {
        let query = |command: &str, device: &str| Query {
            command: command.to_owned(),
            device: device.to_owned(),
        };
        for (text, expected) in [
            (
                "Cmd=Ping&User=alice&DeviceId=Appl1&DeviceType=iPhone",
                query("Ping", "Appl1"),
            ),
            ("deviceid=a%2Bb&CMD=Sync", query("Sync", "a+b")),
            // 14.1, FolderSync, en-US, 4 bytes "DEV1", no policy key, 2 bytes "WP"
            ("jQkJBARERVYxAAJXUA==", query("FolderSync", "DEV1")),
            // 14.0, FolderSync, 16 raw bytes
            (
                "jAkJBBCoHzHhi8b5YrNnTZh4inyaAAA=",
                query("FolderSync", "A81F31E18BC6F962B3674D98788A7C9A"),
            ),
            ("", Query::default()),
            ("%%%", Query::default()),
            ("jAkJBP8=", Query::default()),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
