//! The sandbox as the tests of this folder start it.

use seg_core::sandbox::{Filter, Kind, Sandbox, SandboxOptions, requests};
use seg_tests::eas::Request;
use seg_tests::eventually;
use seg_tests::message::Message;

/// A sandbox behind TLS, with the three users.
pub(crate) fn start() -> Sandbox {
    Sandbox::start(SandboxOptions::default()).expect("a sandbox")
}

/// A server without TLS, for whatever a test scripts it to say.
pub(crate) fn start_plain() -> Sandbox {
    Sandbox::start(SandboxOptions::plain()).expect("a sandbox")
}

/// A FolderSync of Alice's device.
pub(crate) fn folder_sync(device: &str) -> Request {
    Request::eas("FolderSync", "alice", device, requests::FOLDER_SYNC)
}

/// A Ping of Alice's device that the sandbox holds for an hour.
pub(crate) fn ping(device: &str) -> Request {
    Request::eas("Ping", "alice", device, requests::ping(3540))
}

/// Waits until the sandbox holds a poll of this device.
pub(crate) async fn holds_poll(sandbox: &Sandbox, device: &str) {
    let filter = Filter::any().device(device);
    eventually("a poll that the sandbox holds", || async {
        (!sandbox.open_polls(&filter).is_empty()).then_some(())
    })
    .await;
}

/// What has reached the sandbox from this device.
pub(crate) fn count(sandbox: &Sandbox, device: &str) -> u64 {
    sandbox.count(&Filter::any().device(device))
}

/// Everything of a protocol that has reached the sandbox; its health pages are not counted.
pub(crate) fn arrivals(sandbox: &Sandbox) -> u64 {
    [Kind::Eas, Kind::Ews, Kind::Autodiscover, Kind::Other]
        .map(|kind| sandbox.count(&Filter::kind(kind)))
        .iter()
        .sum()
}

/// FolderSync as the sandbox answers it: Status 1. Page 7, FolderSync, Status (MS-ASWBXML
/// 2.1.2.1.8).
pub(crate) fn is_served(answer: &Message) -> bool {
    answer.status() == 200
        && answer
            .body
            .starts_with(b"\x03\x01\x6a\x00\x00\x07\x56\x4c\x031\x00\x01")
}

/// FolderSync refused: Status 129 and nothing else.
pub(crate) const FOLDER_SYNC_REFUSED: &[u8] =
    b"\x03\x01\x6a\x00\x00\x07\x56\x4c\x03129\x00\x01\x01";

/// Ping refused: page 13, Ping, Status (MS-ASWBXML 2.1.2.1.14).
pub(crate) const PING_REFUSED: &[u8] = b"\x03\x01\x6a\x00\x00\x0d\x45\x47\x03129\x00\x01\x01";

/// Sync refused: page 0, Sync, Status (MS-ASWBXML 2.1.2.1.1).
pub(crate) const SYNC_REFUSED: &[u8] = b"\x03\x01\x6a\x00\x45\x4e\x03129\x00\x01\x01";
