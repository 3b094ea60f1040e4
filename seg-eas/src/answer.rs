//! Answers that the gateway gives itself, byte for byte.
//!
//! They are literal bytes and not written by [`crate::wbxml::Writer`]: an answer that refuses a
//! device must not depend on the code that it guards, and a reader can check it by eye. The header
//! is `03 01 6A 00`, then SWITCH_PAGE where the page is not 0, the root, Status with an inline
//! string, two ENDs.

use std::borrow::Cow;

use crate::{Command, ProtocolVersion};

/// The Content-Type of a WBXML answer (MS-ASHTTP, "Content-Type" of a response).
const WBXML: &str = "application/vnd.ms-sync.wbxml";

/// An answer without upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The Content-Type; `None` where there is no body.
    pub content_type: Option<&'static str>,
    /// The body, complete; its length is the Content-Length.
    pub body: Cow<'static, [u8]>,
}

impl Answer {
    const fn bare(status: u16) -> Self {
        Self {
            status,
            content_type: None,
            body: Cow::Borrowed(&[]),
        }
    }

    const fn wbxml(body: &'static [u8]) -> Self {
        Self::message(Cow::Borrowed(body))
    }

    /// HTTP 200 with this WBXML message.
    #[must_use]
    pub const fn message(body: Cow<'static, [u8]>) -> Self {
        Self {
            status: 200,
            content_type: Some(WBXML),
            body,
        }
    }

    /// HTTP 200 without a body: of a Sync, no changes (MS-ASCMD, "Empty Sync Response").
    #[must_use]
    pub const fn empty() -> Self {
        Self::bare(200)
    }
}

/// A Status that is common to all commands (MS-ASCMD, "Common Status Codes").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 110, ServerError: the device tries again later.
    ServerError,
    /// 111, ServerErrorRetryLater.
    RetryLater,
    /// 122, AttachmentIsTooLarge: mail that is not sent for what it carries.
    AttachmentRefused,
    /// 129, DeviceIsBlockedForThisUser.
    Blocked,
    /// 130, AccessDenied.
    AccessDenied,
    /// 137, CommandNotSupported.
    CommandNotSupported,
    /// 138, VersionNotSupported.
    VersionNotSupported,
    /// 140, RemoteWipeRequested: the device asks Provision for the order.
    WipeRequested,
    /// 142, DeviceNotProvisioned: the device provisions anew.
    NotProvisioned,
}

impl Status {
    /// The number from version 14.0 on, as it stands in the answer.
    const fn digits(self) -> &'static [u8; 3] {
        match self {
            Self::ServerError => b"110",
            Self::RetryLater => b"111",
            Self::AttachmentRefused => b"122",
            Self::Blocked => b"129",
            Self::AccessDenied => b"130",
            Self::CommandNotSupported => b"137",
            Self::VersionNotSupported => b"138",
            Self::WipeRequested => b"140",
            Self::NotProvisioned => b"142",
        }
    }

    /// The HTTP status that says the same up to version 12.1.
    const fn http(self) -> u16 {
        match self {
            Self::ServerError | Self::AttachmentRefused => 500,
            Self::RetryLater => 503,
            Self::Blocked | Self::AccessDenied => 403,
            Self::CommandNotSupported => 501,
            Self::VersionNotSupported => 400,
            Self::WipeRequested | Self::NotProvisioned => 449,
        }
    }
}

/// An answer that is nothing but a common Status: from 14.0 on in the root of the command's own
/// answer, before that and where no WBXML is expected as an HTTP status; see [`refusal`].
#[must_use]
pub fn common(
    status: Status,
    command: Option<Command>,
    version: Option<ProtocolVersion>,
    raw_mime: bool,
) -> Answer {
    let mut answer = refusal(command, version, raw_mime);
    if status == Status::Blocked {
        return answer;
    }
    let blocked = Status::Blocked.digits();
    let Some(at) = memchr::memmem::find(&answer.body, blocked) else {
        return Answer::bare(status.http());
    };
    if let Some(digits) = answer.body.to_mut().get_mut(at..at + blocked.len()) {
        digits.copy_from_slice(status.digits());
    }
    answer
}

/// The refusal of a blocked device in the form that the command and the version expect.
///
/// From 14.0 on it is HTTP 200 with Status 129 (DeviceIsBlockedForThisUser, MS-ASCMD "Common Status Codes") in the
/// root of the command's own answer. Protocol versions up to 12.1 have no such status and get HTTP
/// 403, as do requests that name no version, GetAttachment and mail sent as raw MIME (`raw_mime`,
/// a SendMail, SmartReply or SmartForward with `message/rfc822`), whose clients don't expect WBXML,
/// and requests whose command is not known. Provision is refused like the others: if it succeeded,
/// clients that take 403 for "please provision" would ask in a circle.
///
/// Never 401, which would make an authenticated person type his password, and never 503, which
/// means "later".
#[must_use]
pub fn refusal(
    command: Option<Command>,
    version: Option<ProtocolVersion>,
    raw_mime: bool,
) -> Answer {
    let in_band = version.is_some_and(|version| version >= ProtocolVersion::V14_0) && !raw_mime;
    command
        .filter(|_| in_band)
        .and_then(|command| REFUSALS.iter().find(|(known, _)| *known == command))
        .map_or(Answer::bare(403), |(_, body)| Answer::wbxml(body))
}

/// The answer that ends a held-open poll as if nothing had happened, for a gateway that shuts down:
/// Ping Status 1, the heartbeat interval expired before any changes occurred; for a Sync the empty
/// body, no changes (MS-ASCMD, "Status (Ping)" and "Empty Sync Response"). Other commands are
/// not polls: they get 503.
#[must_use]
pub const fn idle_end(command: Command) -> Answer {
    match command {
        Command::Ping => Answer::wbxml(b"\x03\x01\x6a\x00\x00\x0d\x45\x47\x031\x00\x01\x01"),
        Command::Sync => Answer::bare(200),
        _ => Answer::bare(503),
    }
}

/// Status 129 for every command whose answer is WBXML. A command that is missing here is refused
/// with 403.
#[rustfmt::skip]
static REFUSALS: [(Command, &[u8]); 19] = [
    // <Sync xmlns="AirSync"><Status>
    (Command::Sync,              b"\x03\x01\x6a\x00\x45\x4e\x03129\x00\x01\x01"),
    // <SendMail xmlns="ComposeMail"><Status>, and its two sisters
    (Command::SendMail,          b"\x03\x01\x6a\x00\x00\x15\x45\x52\x03129\x00\x01\x01"),
    (Command::SmartForward,      b"\x03\x01\x6a\x00\x00\x15\x46\x52\x03129\x00\x01\x01"),
    (Command::SmartReply,        b"\x03\x01\x6a\x00\x00\x15\x47\x52\x03129\x00\x01\x01"),
    // <FolderSync xmlns="FolderHierarchy"><Status>, and its three sisters
    (Command::FolderSync,        b"\x03\x01\x6a\x00\x00\x07\x56\x4c\x03129\x00\x01\x01"),
    (Command::FolderCreate,      b"\x03\x01\x6a\x00\x00\x07\x53\x4c\x03129\x00\x01\x01"),
    (Command::FolderDelete,      b"\x03\x01\x6a\x00\x00\x07\x54\x4c\x03129\x00\x01\x01"),
    (Command::FolderUpdate,      b"\x03\x01\x6a\x00\x00\x07\x55\x4c\x03129\x00\x01\x01"),
    // <MoveItems xmlns="Move"><Status>: a Status at the top is allowed (MS-ASCMD, "Status (MoveItems)")
    (Command::MoveItems,         b"\x03\x01\x6a\x00\x00\x05\x45\x4b\x03129\x00\x01\x01"),
    // <GetItemEstimate xmlns="GetItemEstimate"><Status>
    (Command::GetItemEstimate,   b"\x03\x01\x6a\x00\x00\x06\x45\x4e\x03129\x00\x01\x01"),
    // <MeetingResponse xmlns="MeetingResponse"><Result><Status>: no Status at the top is documented
    (Command::MeetingResponse,   b"\x03\x01\x6a\x00\x00\x08\x47\x4a\x4b\x03129\x00\x01\x01\x01"),
    // <Search xmlns="Search"><Status>
    (Command::Search,            b"\x03\x01\x6a\x00\x00\x0f\x45\x4c\x03129\x00\x01\x01"),
    // <Settings xmlns="Settings"><Status>
    (Command::Settings,          b"\x03\x01\x6a\x00\x00\x12\x45\x46\x03129\x00\x01\x01"),
    // <Ping xmlns="Ping"><Status>
    (Command::Ping,              b"\x03\x01\x6a\x00\x00\x0d\x45\x47\x03129\x00\x01\x01"),
    // <ItemOperations xmlns="ItemOperations"><Status>
    (Command::ItemOperations,    b"\x03\x01\x6a\x00\x00\x14\x45\x4d\x03129\x00\x01\x01"),
    // <Provision xmlns="Provision"><Status>
    (Command::Provision,         b"\x03\x01\x6a\x00\x00\x0e\x45\x4b\x03129\x00\x01\x01"),
    // <ResolveRecipients xmlns="ResolveRecipients"><Status>
    (Command::ResolveRecipients, b"\x03\x01\x6a\x00\x00\x0a\x45\x47\x03129\x00\x01\x01"),
    // <ValidateCert xmlns="ValidateCert"><Status>
    (Command::ValidateCert,      b"\x03\x01\x6a\x00\x00\x0b\x45\x4a\x03129\x00\x01\x01"),
    // <Find xmlns="Find"><Status>
    (Command::Find,              b"\x03\x01\x6a\x00\x00\x19\x45\x4a\x03129\x00\x01\x01"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wbxml::{Event, Limits, Reader, Tag, UnknownTags};

    const V14_1: Option<ProtocolVersion> = Some(ProtocolVersion::V14_1);

    /// The names of the elements around the text, and the text.
    fn decoded(body: &[u8]) -> (Vec<&'static str>, String) {
        let limits = Limits {
            unknown_tags: UnknownTags::Refuse,
            ..Limits::TRAFFIC
        };
        let mut reader = Reader::new(body, limits).unwrap();
        let name = |tag: Tag| tag.definition().unwrap().name();
        let (mut path, mut text) = (Vec::new(), String::new());
        while let Some(event) = reader.next_event().unwrap() {
            match event {
                Event::Start(tag) => path.push(name(tag)),
                Event::Text(status) => text.push_str(status),
                Event::End => {}
                other => panic!("{other:?} has no place in a refusal"),
            }
        }
        (path, text)
    }

    #[test]
    fn every_refusal_is_status_129_in_the_commands_own_root() {
        for (command, body) in &REFUSALS {
            let (path, text) = decoded(body);
            let expected: &[&str] = match command {
                Command::MeetingResponse => &["MeetingResponse", "Result", "Status"],
                _ => &[command.name(), "Status"],
            };
            assert_eq!(
                (path.as_slice(), text.as_str()),
                (expected, "129"),
                "{command:?}"
            );
            let answer = refusal(Some(*command), V14_1, false);
            assert_eq!(answer, Answer::wbxml(body));
        }
    }

    #[test]
    fn exactly_the_commands_with_a_wbxml_root_are_refused_in_band() {
        for command in Command::ALL {
            let in_band = refusal(Some(command), V14_1, false).status == 200;
            assert_eq!(in_band, command.root().is_some(), "{command:?}");
        }
    }

    #[test]
    fn everything_else_is_403_without_a_body() {
        let bare = Answer::bare(403);
        let sync = Some(Command::Sync);
        assert_eq!(refusal(sync, Some(ProtocolVersion::V12_1), false), bare);
        assert_eq!(refusal(sync, Some(ProtocolVersion::V2_5), false), bare);
        assert_eq!(refusal(sync, None, false), bare);
        assert_eq!(refusal(None, V14_1, false), bare);
        assert_eq!(refusal(Some(Command::SendMail), V14_1, true), bare);
        assert_eq!(refusal(Some(Command::GetAttachment), V14_1, false), bare);
        assert_eq!(
            refusal(sync, Some(ProtocolVersion::V14_0), false).status,
            200
        );
    }

    #[test]
    fn a_poll_ends_as_if_its_time_had_passed() {
        let ping = idle_end(Command::Ping);
        assert_eq!(
            decoded(&ping.body),
            (vec!["Ping", "Status"], "1".to_owned())
        );
        assert_eq!((ping.status, ping.content_type), (200, Some(WBXML)));
        assert_eq!(idle_end(Command::Sync), Answer::bare(200));
        assert_eq!(idle_end(Command::FolderSync).status, 503);
    }

    #[test]
    fn a_common_status_stands_where_the_refusal_does() {
        for (status, number, http) in [
            (Status::ServerError, "110", 500),
            (Status::RetryLater, "111", 503),
            (Status::AttachmentRefused, "122", 500),
            (Status::Blocked, "129", 403),
            (Status::AccessDenied, "130", 403),
            (Status::CommandNotSupported, "137", 501),
            (Status::VersionNotSupported, "138", 400),
            (Status::WipeRequested, "140", 449),
            (Status::NotProvisioned, "142", 449),
        ] {
            for (command, body) in &REFUSALS {
                let answer = common(status, Some(*command), V14_1, false);
                assert_eq!(decoded(&answer.body), (decoded(body).0, number.to_owned()));
                let old = common(status, Some(*command), Some(ProtocolVersion::V12_1), false);
                assert_eq!(old, Answer::bare(http));
            }
            assert_eq!(
                common(status, Some(Command::SendMail), V14_1, true),
                Answer::bare(http)
            );
        }
    }
}
