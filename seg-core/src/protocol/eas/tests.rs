//! How long which request may take, and which may be sent twice.

use seg_compliance::UserKey;

use super::*;
use crate::protocol::PollMemory;
use crate::sandbox::requests;

const RESPONSE: u64 = 90;
const MARGIN: u64 = 60;
const LONGEST: u64 = 3540;

/// The seconds that a command with this body is given, and whether it is a poll.
fn planned(polls: &PollMemory, command: &str, device: &str, body: Bytes) -> (u64, bool) {
    let query = format!("Cmd={command}&User=alice&DeviceId={device}&DeviceType=t");
    let lines = LineMemory::default();
    let call = EasCall::identify(&Method::POST, Some(&query), &HeaderMap::new(), &lines)
        .unwrap_or_else(|error| panic!("{command}: {error}"));
    let plan = plan_of(&call, body, polls);
    assert_eq!(plan.body_idle, Duration::from_secs(RESPONSE), "{command}");
    (plan.head_within.as_secs(), plan.poll)
}

fn plan_of(call: &EasCall, body: Bytes, polls: &PollMemory) -> Plan {
    let held = Held {
        bytes: body,
        rest: None,
    };
    let user = UserKey::new("alice@corp.example").expect("a user");
    call.plan(
        &held,
        &PlanContext {
            response: Duration::from_secs(RESPONSE),
            heartbeat_margin: Duration::from_secs(MARGIN),
            heartbeat_max: Duration::from_secs(LONGEST),
            polls,
            user: &user,
        },
    )
}

#[test]
fn a_poll_is_given_its_own_time_and_the_margin() {
    let waits = |seconds| (seconds + MARGIN, true);
    let at_once = (RESPONSE, false);
    let cases = [
        ("Ping", requests::ping(60), waits(60)),
        ("Ping", requests::ping(480), waits(480)),
        ("Ping", requests::ping(3540), waits(LONGEST)),
        ("Ping", requests::ping(100_000), waits(LONGEST)),
        ("Sync", requests::sync_wait("2", 1), waits(60)),
        ("Sync", requests::sync_wait("2", 59), waits(3540)),
        ("Sync", requests::sync_heartbeat("2", 90), waits(90)),
        ("Sync", requests::sync_heartbeat("2", 3541), waits(LONGEST)),
        ("Sync", requests::sync("2"), at_once),
        // Not ours to judge: the server says at once that it can't read it.
        ("Ping", Bytes::from_static(b"\xff\xff"), at_once),
        ("Sync", Bytes::from_static(b"\xff\xff"), at_once),
        (
            "FolderSync",
            Bytes::from_static(requests::FOLDER_SYNC),
            at_once,
        ),
        ("SendMail", requests::send_mail("id"), at_once),
    ];
    for (command, body, expected) in cases {
        let polls = PollMemory::default();
        let planned = planned(&polls, command, "D1", body.clone());
        assert_eq!(planned, expected, "{command} {body:?}");
    }
}

#[test]
fn an_empty_poll_repeats_the_devices_last_full_one() {
    let polls = PollMemory::default();
    let plan = |command: &str, device: &str, body: Bytes| {
        let (seconds, poll) = planned(&polls, command, device, body);
        poll.then(|| seconds - MARGIN)
    };
    // Of whom nothing is known, the longest.
    assert_eq!(plan("Ping", "D1", Bytes::new()), Some(LONGEST));
    assert_eq!(plan("Sync", "D1", Bytes::new()), Some(LONGEST));
    // Each command, and each device, for itself.
    assert_eq!(plan("Ping", "D1", requests::ping(480)), Some(480));
    assert_eq!(plan("Sync", "D1", requests::sync_wait("2", 2)), Some(120));
    assert_eq!(plan("Ping", "D2", requests::ping(60)), Some(60));
    assert_eq!(plan("Ping", "D1", Bytes::new()), Some(480));
    assert_eq!(plan("Sync", "D1", Bytes::new()), Some(120));
    assert_eq!(plan("Ping", "D2", Bytes::new()), Some(60));
    assert_eq!(plan("Sync", "D2", Bytes::new()), Some(LONGEST));
    // A later full one takes the place of the earlier, one that does not wait too.
    assert_eq!(plan("Sync", "D1", requests::sync("3")), None);
    assert_eq!(plan("Sync", "D1", Bytes::new()), None);
    assert_eq!(plan("Ping", "D1", requests::ping(70)), Some(70));
    assert_eq!(plan("Ping", "D1", Bytes::new()), Some(70));
}

#[test]
fn what_may_be_sent_twice_is_this_and_nothing_else() {
    let replayed = |method: &Method, command: &str, body: &[u8]| {
        let query = format!("Cmd={command}&User=alice&DeviceId=D1&DeviceType=t");
        let query = (method == Method::POST).then_some(query.as_str());
        let lines = LineMemory::default();
        let call = EasCall::identify(method, query, &HeaderMap::new(), &lines)
            .unwrap_or_else(|error| panic!("{method} {command}: {error}"));
        plan_of(&call, Bytes::copy_from_slice(body), &PollMemory::default()).replay
    };
    for command in [
        "FolderSync",
        "Sync",
        "Ping",
        "GetItemEstimate",
        "Search",
        "Find",
        "ResolveRecipients",
        "ValidateCert",
    ] {
        assert!(replayed(&Method::POST, command, b""), "{command}");
    }
    for command in [
        "SendMail",
        "SmartReply",
        "SmartForward",
        "MoveItems",
        "MeetingResponse",
        "FolderCreate",
        "FolderDelete",
        "FolderUpdate",
        "Provision",
        "Settings",
        "GetAttachment",
    ] {
        assert!(!replayed(&Method::POST, command, b""), "{command}");
    }
    // ItemOperations (page 20): Fetch, and EmptyFolderContents.
    let fetch = b"\x03\x01\x6a\x00\x00\x14\x45\x46\x47\x03Mailbox\x00\x01\x01\x01";
    let empty = b"\x03\x01\x6a\x00\x00\x14\x45\x52\x00\x00\x52\x031\x00\x01\x01\x01";
    assert!(replayed(&Method::POST, "ItemOperations", fetch));
    assert!(!replayed(&Method::POST, "ItemOperations", empty));
    assert!(replayed(&Method::OPTIONS, "", b""));
    assert!(!replayed(&Method::GET, "", b""));
    assert!(!replayed(&Method::HEAD, "", b""));
}
