//! ActiveSync: what each command is answered.
//!
//! Nothing is decoded: what matters of a request is found by its bytes, and what is not said in the
//! recordings is not known here. A Sync is answered for its first collection only.

pub(super) mod mailbox;
pub(super) mod query;
pub(super) mod recorded;

use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};

use super::answer::Answer;
use super::connection::Shared;
use super::ledger::Sent;
use super::options::Profile;
use super::site::{Poll, Reply, Request};
use mailbox::Mailbox;
use recorded::{fill, text_of};

/// MS-ASProtocolVersions.
const VERSIONS: &str = "2.0,2.1,2.5,12.0,12.1,14.0,14.1,16.0,16.1";
/// MS-ASProtocolCommands.
const COMMANDS: &str = "Sync,SendMail,SmartForward,SmartReply,GetAttachment,GetHierarchy,\
    CreateCollection,DeleteCollection,MoveCollection,FolderSync,FolderCreate,FolderDelete,\
    FolderUpdate,MoveItems,GetItemEstimate,MeetingResponse,Search,Settings,Ping,ItemOperations,\
    Provision,ResolveRecipients,ValidateCert,Find";
/// The one attachment there is.
pub(super) const ATTACHMENT: &[u8] = b"%PDF-1.4\n% The sandbox's invoice.\n%%EOF\n";
/// The folder that has mail.
const INBOX: &str = "5";
/// How long the bench profile's fixed Sync answer is.
const BENCH_SYNC: usize = 2048;
/// How long the bench profile's fixed attachment is, as it stands in the answer.
const BENCH_ATTACHMENT: usize = 25 * 1024 * 1024;

/// Open tags with content, by which a request's facts are found: page and token of MS-ASWBXML.
mod tag {
    pub(super) const AIRSYNC_SYNC_KEY: u8 = 0x4b;
    pub(super) const AIRSYNC_COLLECTION_ID: u8 = 0x52;
    pub(super) const AIRSYNC_WAIT: u8 = 0x64;
    pub(super) const AIRSYNC_HEARTBEAT_INTERVAL: u8 = 0x69;
    pub(super) const AIRSYNC_COMMANDS: u8 = 0x56;
    pub(super) const FOLDER_SYNC_KEY: u8 = 0x52;
    pub(super) const PING_HEARTBEAT_INTERVAL: u8 = 0x48;
    pub(super) const PROVISION_POLICY_KEY: u8 = 0x49;
    pub(super) const AIRSYNC_BASE_FILE_REFERENCE: u8 = 0x51;
    pub(super) const AIRSYNC_SERVER_ID: u8 = 0x4d;
    pub(super) const MOVE_SOURCE_MESSAGE: u8 = 0x47;
    pub(super) const ESTIMATE_COLLECTION_ID: u8 = 0x4a;
    pub(super) const MEETING_REQUEST_ID: u8 = 0x48;
    pub(super) const COMPOSE_CLIENT_ID: u8 = 0x51;
    pub(super) const RECIPIENTS_TO: u8 = 0x50;
}

/// What an open poll will say in the end.
pub(super) enum Held {
    Ping,
    Sync { collection: String, key: String },
}

/// The ordinary answer of a request with valid credentials.
pub(super) fn reply(shared: &Shared, request: &Request<'_>) -> Reply {
    match request.head.method.as_str() {
        "OPTIONS" => Reply::Answer(options()),
        "POST" => command(shared, request),
        _ => Reply::Answer(Answer::status(405).header("Allow", "OPTIONS, POST")),
    }
}

fn options() -> Answer {
    Answer::status(200)
        .header("Cache-Control", "private")
        .header("Allow", "OPTIONS,POST")
        .header("Public", "OPTIONS,POST")
        .header("MS-Server-ActiveSync", "15.1")
        .header("MS-ASProtocolVersions", VERSIONS)
        .header("MS-ASProtocolCommands", COMMANDS)
}

fn command(shared: &Shared, request: &Request<'_>) -> Reply {
    let body = request.body.as_ref();
    let found = |token| text_of(body, token).unwrap_or_default().as_bytes();
    let answer = match request.seen.name.as_str() {
        "Ping" => return ping(shared, request),
        "Sync" => return sync(shared, request),
        "FolderSync" => match text_of(body, tag::FOLDER_SYNC_KEY) {
            None | Some("0") => Answer::wbxml(recorded::FOLDER_SYNC),
            Some(key) => Answer::wbxml(fill(
                recorded::FOLDER_SYNC_UNCHANGED,
                &[("key", key.as_bytes())],
            )),
        },
        "FolderCreate" => Answer::wbxml(recorded::FOLDER_CREATE),
        "FolderDelete" => Answer::wbxml(recorded::FOLDER_DELETE),
        "FolderUpdate" => Answer::wbxml(recorded::FOLDER_UPDATE),
        "Provision" => Answer::wbxml(match text_of(body, tag::PROVISION_POLICY_KEY) {
            None => recorded::PROVISION_OFFER,
            Some(_) => recorded::PROVISION_AGREED,
        }),
        "ItemOperations" => item_operations(shared, request),
        "SendMail" | "SmartReply" | "SmartForward" => {
            let client_id = text_of(body, tag::COMPOSE_CLIENT_ID).map(str::to_owned);
            let seen = request.seen.clone();
            shared.ledger.message(Sent {
                seen,
                client_id,
                body: request.body.clone(),
            });
            Answer::wbxml(Bytes::new())
        }
        "GetAttachment" => Answer::ok("application/pdf", ATTACHMENT),
        "MoveItems" => Answer::wbxml(fill(
            recorded::MOVE_ITEMS,
            &[("item", found(tag::MOVE_SOURCE_MESSAGE))],
        )),
        "GetItemEstimate" => {
            let collection = found(tag::ESTIMATE_COLLECTION_ID);
            Answer::wbxml(fill(
                recorded::GET_ITEM_ESTIMATE,
                &[("collection", collection)],
            ))
        }
        "Search" => Answer::wbxml(recorded::SEARCH),
        "Settings" => {
            let user = request.seen.user.as_bytes();
            Answer::wbxml(fill(recorded::SETTINGS, &[("user", user)]))
        }
        "MeetingResponse" => {
            let item = found(tag::MEETING_REQUEST_ID);
            Answer::wbxml(fill(recorded::MEETING_RESPONSE, &[("item", item)]))
        }
        "ResolveRecipients" => {
            let to = found(tag::RECIPIENTS_TO);
            Answer::wbxml(fill(recorded::RESOLVE_RECIPIENTS, &[("to", to)]))
        }
        "ValidateCert" => Answer::wbxml(recorded::VALIDATE_CERT),
        "" => Answer::status(400),
        _ => Answer::status(501),
    };
    Reply::Answer(answer)
}

fn ping(shared: &Shared, request: &Request<'_>) -> Reply {
    let seconds = with_mailbox(shared, request, |mailbox| {
        if !request.body.is_empty() {
            mailbox.ping = Some(request.body.clone());
        }
        let asked = mailbox.ping.as_deref().unwrap_or_default();
        text_of(asked, tag::PING_HEARTBEAT_INTERVAL).and_then(|seconds| seconds.parse().ok())
    });
    match seconds {
        None => Reply::Answer(Answer::wbxml(recorded::PING_MISSING_PARAMETERS)),
        Some(seconds) => Reply::Poll(Poll {
            limit: Duration::from_secs(seconds),
            held: Held::Ping,
        }),
    }
}

fn sync(shared: &Shared, request: &Request<'_>) -> Reply {
    let known = with_mailbox(shared, request, |mailbox| {
        if !request.body.is_empty() {
            mailbox.sync = Some(request.body.clone());
        }
        mailbox.sync.clone().map(|body| (body, mailbox.fresh))
    });
    let Some((body, fresh)) = known else {
        return Reply::Answer(Answer::wbxml(recorded::SYNC_SEND_WHOLE));
    };
    let key = text_of(&body, tag::AIRSYNC_SYNC_KEY).unwrap_or("0");
    let collection = text_of(&body, tag::AIRSYNC_COLLECTION_ID).unwrap_or(INBOX);
    let number = |token| text_of(&body, token).and_then(|text| text.parse::<u64>().ok());
    let wait = number(tag::AIRSYNC_WAIT)
        .map(|minutes| minutes.saturating_mul(60))
        .or_else(|| number(tag::AIRSYNC_HEARTBEAT_INTERVAL));
    let answer = |recording| Reply::Answer(Answer::wbxml(sync_body(recording, collection, key)));

    if shared.options.profile == Profile::Bench && wait.is_none() {
        return Reply::Answer(Answer::wbxml(bench_sync()));
    }
    if key == "0" {
        return answer(recorded::SYNC_FIRST);
    }
    if key == "1" && collection == INBOX {
        return answer(recorded::SYNC_MAIL);
    }
    if fresh && collection == INBOX {
        with_mailbox(shared, request, |mailbox| mailbox.fresh = false);
        return answer(recorded::SYNC_FRESH);
    }
    // The client's own changes: the tag Commands, and an Add, Change, Delete or Fetch in it.
    let changes = [0x47, 0x48, 0x49, 0x4a];
    if changes
        .iter()
        .any(|change| find(&body, &[tag::AIRSYNC_COMMANDS, *change]))
    {
        return answer(recorded::SYNC_ACKNOWLEDGED);
    }
    match wait {
        None => Reply::Answer(Answer::wbxml(Bytes::new())),
        Some(seconds) => {
            let held = Held::Sync {
                collection: collection.to_owned(),
                key: key.to_owned(),
            };
            Reply::Poll(Poll {
                limit: Duration::from_secs(seconds),
                held,
            })
        }
    }
}

/// What an open poll is answered when it ends.
pub(super) fn poll_answer(
    shared: &Shared,
    request: &Request<'_>,
    held: &Held,
    changes: bool,
) -> Answer {
    match held {
        Held::Ping if changes => {
            with_mailbox(shared, request, |mailbox| mailbox.fresh = true);
            Answer::wbxml(recorded::PING_CHANGES)
        }
        Held::Ping => Answer::wbxml(recorded::PING_EXPIRED),
        Held::Sync { collection, key } if changes => {
            Answer::wbxml(sync_body(recorded::SYNC_FRESH, collection, key))
        }
        Held::Sync { .. } => Answer::wbxml(Bytes::new()),
    }
}

/// A Sync answer with the key that follows `key`.
fn sync_body(recording: &[u8], collection: &str, key: &str) -> Bytes {
    let next = key
        .parse::<u64>()
        .map_or(1, |key| key.saturating_add(1))
        .to_string();
    fill(
        recording,
        &[
            ("key", next.as_bytes()),
            ("collection", collection.as_bytes()),
        ],
    )
}

fn item_operations(shared: &Shared, request: &Request<'_>) -> Answer {
    if shared.options.profile == Profile::Bench {
        return Answer::wbxml(bench_attachment());
    }
    let Some(reference) = text_of(request.body, tag::AIRSYNC_BASE_FILE_REFERENCE) else {
        let item = text_of(request.body, tag::AIRSYNC_SERVER_ID).unwrap_or("5:1");
        return Answer::wbxml(fill(
            recorded::ITEM_OPERATIONS_MAIL,
            &[("item", item.as_bytes())],
        ));
    };
    let reference = ("reference", reference.as_bytes());
    if request.head.text("MS-ASAcceptMultiPart") == "T" {
        let first = fill(recorded::ITEM_OPERATIONS_MULTIPART, &[reference]);
        let mut answer = Answer::wbxml(multipart(&[&first, ATTACHMENT]));
        for (name, value) in &mut answer.headers {
            if name == "Content-Type" {
                *value = b"application/vnd.ms-sync.multipart".to_vec();
            }
        }
        return answer;
    }
    let data = STANDARD.encode(ATTACHMENT);
    Answer::wbxml(fill(
        recorded::ITEM_OPERATIONS,
        &[reference, ("data", data.as_bytes())],
    ))
}

/// MS-ASCMD 2.2.1.10.1.1: the number of parts, then offset and length of each, little-endian.
fn multipart(parts: &[&[u8]]) -> Bytes {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let mut body = BytesMut::new();
    body.put_u32_le(number(parts.len()));
    let mut offset = 4 + 8 * parts.len();
    for part in parts {
        body.put_u32_le(number(offset));
        body.put_u32_le(number(part.len()));
        offset += part.len();
    }
    for part in parts {
        body.put_slice(part);
    }
    body.freeze()
}

fn bench_sync() -> Bytes {
    static BODY: OnceLock<Bytes> = OnceLock::new();
    let make = || {
        let without = fill(
            recorded::SYNC_2048,
            &[("key", b"2"), ("collection", b"5"), ("filler", b"")],
        );
        let filler = vec![b'x'; BENCH_SYNC.saturating_sub(without.len())];
        let texts: [(&str, &[u8]); 3] = [("key", b"2"), ("collection", b"5"), ("filler", &filler)];
        fill(recorded::SYNC_2048, &texts)
    };
    BODY.get_or_init(make).clone()
}

fn bench_attachment() -> Bytes {
    static BODY: OnceLock<Bytes> = OnceLock::new();
    let make = || {
        let data = vec![b'A'; BENCH_ATTACHMENT];
        fill(
            recorded::ITEM_OPERATIONS,
            &[("reference", b"5%3a2%3a0"), ("data", &data)],
        )
    };
    BODY.get_or_init(make).clone()
}

fn find(body: &[u8], pattern: &[u8]) -> bool {
    memchr::memmem::find(body, pattern).is_some()
}

fn with_mailbox<T>(
    shared: &Shared,
    request: &Request<'_>,
    act: impl FnOnce(&mut Mailbox) -> T,
) -> T {
    let key = (request.seen.user.clone(), request.seen.device.clone());
    act(shared.mailboxes.lock().entry(key).or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixed_answers_have_their_fixed_sizes() {
        assert_eq!(bench_sync().len(), BENCH_SYNC);
        assert!(bench_attachment().len() > BENCH_ATTACHMENT);
    }

    #[test]
    fn parts_lie_where_the_table_says() {
        let body = multipart(&[b"abc", b"defgh"]);
        assert_eq!(
            body.as_ref(),
            b"\x02\0\0\0\x14\0\0\0\x03\0\0\0\x17\0\0\0\x05\0\0\0abcdefgh".as_slice()
        );
    }
}
