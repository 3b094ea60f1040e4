//! What a long poll asks for.
//!
//! Ping and Sync may be held open by the server for as long as the client says. The gateway's
//! timeouts follow what is read here, instead of cutting every poll at one limit.

use crate::Command;
use crate::wbxml::{Error, Event, Limits, Reader, Tag};

const PING: Tag = Tag::new(13, 0x05);
const PING_HEARTBEAT_INTERVAL: Tag = Tag::new(13, 0x08);
const SYNC: Tag = Tag::new(0, 0x05);
const SYNC_WAIT: Tag = Tag::new(0, 0x24);
const SYNC_PARTIAL: Tag = Tag::new(0, 0x26);
const SYNC_HEARTBEAT_INTERVAL: Tag = Tag::new(0, 0x29);

const SECONDS_PER_MINUTE: u32 = 60;

/// How long a request asks the server to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollAsk {
    /// It does not say: the server goes by what it remembers of the device. That is the empty body,
    /// a Ping without HeartbeatInterval, and a partial Sync without Wait and HeartbeatInterval
    /// (MS-ASCMD, "HeartbeatInterval (Ping)" and "Partial").
    Empty,
    /// It asks to be held open for this long. Not checked against any bound; may be 0 for a Ping.
    Wait {
        /// The time in seconds.
        seconds: u32,
    },
    /// It wants its answer at once: a Sync with neither Wait nor HeartbeatInterval, or 0 in them,
    /// and every command that is not a poll.
    NoWait,
}

/// Reads what the body of a `command` asks for: HeartbeatInterval of a Ping (seconds), Wait
/// (minutes, from 12.1) or HeartbeatInterval (seconds, from 14.0) of a Sync (MS-ASCMD,
/// "HeartbeatInterval" and "Wait").
///
/// Allocates nothing. A value that is no number counts as missing. Where several are given, which
/// the specification forbids, the longest counts: giving up on a server too early hurts, too late
/// does not.
///
/// # Errors
/// When the body is no well-formed message. A caller that does not judge bodies falls back on the
/// timeout of a request that does not wait, or on what it remembers of the device.
pub fn read(command: Command, body: &[u8]) -> Result<PollAsk, Error> {
    let root = match command {
        Command::Ping => PING,
        Command::Sync => SYNC,
        _ => return Ok(PollAsk::NoWait),
    };
    if body.is_empty() {
        return Ok(PollAsk::Empty);
    }
    let asked = Asked::read(Reader::new(body, Limits::TRAFFIC)?, root)?;
    Ok(match (command, asked.seconds) {
        (Command::Ping, Some(seconds)) => PollAsk::Wait { seconds },
        (Command::Ping, None) => PollAsk::Empty,
        (_, Some(0)) => PollAsk::NoWait,
        (_, Some(seconds)) => PollAsk::Wait { seconds },
        (_, None) if asked.partial => PollAsk::Empty,
        (_, None) => PollAsk::NoWait,
    })
}

/// What stands directly below the root.
#[derive(Default)]
struct Asked {
    seconds: Option<u32>,
    partial: bool,
}

impl Asked {
    /// Reads to the end, so that a body is either read whole or not at all. A root other than
    /// `root` asks for nothing.
    fn read(mut reader: Reader<'_>, root: Tag) -> Result<Self, Error> {
        const CHILD: u32 = 2;
        let mut asked = Self::default();
        let mut in_root = false;
        let mut unit = None;
        while let Some(event) = reader.next_event()? {
            match event {
                Event::Start(tag) if reader.depth() == 1 => in_root = tag == root,
                Event::Start(tag) if in_root && reader.depth() == CHILD => {
                    unit = unit_of(tag);
                    asked.partial |= tag == SYNC_PARTIAL;
                }
                Event::Empty(tag) if in_root && reader.depth() == 1 => {
                    asked.partial |= tag == SYNC_PARTIAL;
                }
                Event::Text(text) if reader.depth() == CHILD => {
                    if let (Some(unit), Ok(number)) = (unit, text.trim_ascii().parse::<u32>()) {
                        asked.seconds = asked.seconds.max(Some(number.saturating_mul(unit)));
                    }
                }
                Event::End if reader.depth() < CHILD => unit = None,
                _ => {}
            }
        }
        Ok(asked)
    }
}

/// How many seconds one is, in the elements that hold a time.
fn unit_of(tag: Tag) -> Option<u32> {
    match tag {
        PING_HEARTBEAT_INTERVAL | SYNC_HEARTBEAT_INTERVAL => Some(1),
        SYNC_WAIT => Some(SECONDS_PER_MINUTE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wbxml::ErrorKind;

    const HEADER: &[u8] = b"\x03\x01\x6a\x00";

    fn ask(command: Command, body: &[u8]) -> PollAsk {
        read(command, &[HEADER, body].concat()).unwrap()
    }

    #[test]
    fn a_ping_waits_for_its_heartbeat_interval() {
        // HeartbeatInterval 470, one folder.
        let body = b"\x00\x0d\x45\x48\x03470\x00\x01\x49\x4a\x4b\x031\x00\x01\x01\x01\x01";
        assert_eq!(ask(Command::Ping, body), PollAsk::Wait { seconds: 470 });
    }

    #[test]
    fn a_ping_that_does_not_say_goes_by_what_the_server_remembers() {
        assert_eq!(read(Command::Ping, b""), Ok(PollAsk::Empty));
        assert_eq!(
            ask(
                Command::Ping,
                b"\x00\x0d\x45\x49\x4a\x4b\x031\x00\x01\x01\x01\x01"
            ),
            PollAsk::Empty
        );
        assert_eq!(ask(Command::Ping, b"\x00\x0d\x05"), PollAsk::Empty);
    }

    #[test]
    fn a_sync_waits_minutes_or_seconds() {
        assert_eq!(
            ask(Command::Sync, b"\x45\x64\x0315\x00\x01\x01"),
            PollAsk::Wait { seconds: 900 }
        );
        assert_eq!(
            ask(Command::Sync, b"\x45\x69\x03300\x00\x01\x01"),
            PollAsk::Wait { seconds: 300 }
        );
        let both = b"\x45\x64\x031\x00\x01\x69\x0390\x00\x01\x01";
        assert_eq!(ask(Command::Sync, both), PollAsk::Wait { seconds: 90 });
    }

    #[test]
    fn a_sync_that_does_not_wait_is_no_poll() {
        assert_eq!(
            ask(Command::Sync, b"\x45\x5c\x4f\x4b\x030\x00\x01\x01\x01\x01"),
            PollAsk::NoWait
        );
        assert_eq!(
            ask(Command::Sync, b"\x45\x64\x030\x00\x01\x01"),
            PollAsk::NoWait
        );
        assert_eq!(
            ask(Command::FolderSync, b"not read at all"),
            PollAsk::NoWait
        );
    }

    #[test]
    fn a_partial_or_empty_sync_goes_by_what_the_server_remembers() {
        assert_eq!(read(Command::Sync, b""), Ok(PollAsk::Empty));
        assert_eq!(ask(Command::Sync, b"\x45\x26\x01"), PollAsk::Empty);
        assert_eq!(ask(Command::Sync, b"\x45\x66\x01\x01"), PollAsk::Empty);
        assert_eq!(
            ask(Command::Sync, b"\x45\x26\x64\x035\x00\x01\x01"),
            PollAsk::Wait { seconds: 300 }
        );
    }

    #[test]
    fn a_wait_deeper_down_or_in_another_root_is_not_meant() {
        let deeper = b"\x45\x5c\x64\x0315\x00\x01\x01\x01";
        assert_eq!(ask(Command::Sync, deeper), PollAsk::NoWait);
        let other_root = b"\x00\x07\x56\x00\x00\x64\x0315\x00\x01\x01";
        assert_eq!(ask(Command::Sync, other_root), PollAsk::NoWait);
    }

    #[test]
    fn what_is_no_number_counts_as_missing() {
        for value in ["", "ten", "-1", "99999999999", "1 0"] {
            let body = [b"\x45\x69\x03", value.as_bytes(), b"\x00\x01\x01"].concat();
            assert_eq!(ask(Command::Sync, &body), PollAsk::NoWait, "{value}");
        }
        let huge = b"\x45\x64\x034294967295\x00\x01\x01";
        assert_eq!(
            ask(Command::Sync, huge),
            PollAsk::Wait { seconds: u32::MAX }
        );
    }

    #[test]
    fn a_broken_body_is_an_error_with_a_name() {
        let error = read(
            Command::Ping,
            b"\x03\x01\x6a\x00\x00\x0d\x45\x48\x03470\x00",
        )
        .unwrap_err();
        assert_eq!(error.kind, ErrorKind::MissingEnd { open: 2 });
    }

    #[test]
    fn the_tags_are_those_of_the_specification() {
        for (tag, name) in [
            (PING, "Ping"),
            (PING_HEARTBEAT_INTERVAL, "HeartbeatInterval"),
            (SYNC, "Sync"),
            (SYNC_WAIT, "Wait"),
            (SYNC_PARTIAL, "Partial"),
            (SYNC_HEARTBEAT_INTERVAL, "HeartbeatInterval"),
        ] {
            assert_eq!(tag.definition().unwrap().name(), name);
        }
    }
}
