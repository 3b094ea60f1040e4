//! ActiveSync request bodies for those who talk to a sandbox: like its answers, made by libwbxml.

use bytes::Bytes;

use super::eas::recorded::{self, fill};

/// FolderSync with key 0.
pub const FOLDER_SYNC: &[u8] = recorded::REQUEST_FOLDER_SYNC;
/// FolderCreate of "Projects" under the root.
pub const FOLDER_CREATE: &[u8] = recorded::REQUEST_FOLDER_CREATE;
/// The first phase of Provision.
pub const PROVISION: &[u8] = recorded::REQUEST_PROVISION;
/// The second phase of Provision, with the key that the sandbox gives.
pub const PROVISION_AGREE: &[u8] = recorded::REQUEST_PROVISION_AGREE;
/// ItemOperations: a Fetch of the sandbox's attachment.
pub const ITEM_OPERATIONS: &[u8] = recorded::REQUEST_ITEM_OPERATIONS;
/// MoveItems of the first mail.
pub const MOVE_ITEMS: &[u8] = recorded::REQUEST_MOVE_ITEMS;
/// GetItemEstimate of the inbox.
pub const GET_ITEM_ESTIMATE: &[u8] = recorded::REQUEST_GET_ITEM_ESTIMATE;
/// Search for "bob" in the address list.
pub const SEARCH: &[u8] = recorded::REQUEST_SEARCH;
/// Settings: UserInformation.
pub const SETTINGS: &[u8] = recorded::REQUEST_SETTINGS;
/// ResolveRecipients of "bob".
pub const RESOLVE_RECIPIENTS: &[u8] = recorded::REQUEST_RESOLVE_RECIPIENTS;

/// A Ping of the inbox with this HeartbeatInterval.
pub fn ping(seconds: u32) -> Bytes {
    fill(
        recorded::REQUEST_PING,
        &[("seconds", seconds.to_string().as_bytes())],
    )
}

/// A Sync of the inbox with this SyncKey.
pub fn sync(key: &str) -> Bytes {
    fill(recorded::REQUEST_SYNC, &[("key", key.as_bytes())])
}

/// A Sync of the inbox that waits, by Wait in minutes.
pub fn sync_wait(key: &str, minutes: u32) -> Bytes {
    let minutes = minutes.to_string();
    let texts = [("key", key.as_bytes()), ("minutes", minutes.as_bytes())];
    fill(recorded::REQUEST_SYNC_WAIT, &texts)
}

/// A Sync of the inbox that waits, by HeartbeatInterval in seconds.
pub fn sync_heartbeat(key: &str, seconds: u32) -> Bytes {
    let seconds = seconds.to_string();
    let texts = [("key", key.as_bytes()), ("seconds", seconds.as_bytes())];
    fill(recorded::REQUEST_SYNC_HEARTBEAT, &texts)
}

/// A SendMail with this ClientId and a short mail to Bob.
pub fn send_mail(client_id: &str) -> Bytes {
    fill(
        recorded::REQUEST_SEND_MAIL,
        &[("client-id", client_id.as_bytes())],
    )
}

/// A SmartReply with this ClientId to the first mail.
pub fn smart_reply(client_id: &str) -> Bytes {
    fill(
        recorded::REQUEST_SMART_REPLY,
        &[("client-id", client_id.as_bytes())],
    )
}
