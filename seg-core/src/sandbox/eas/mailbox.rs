//! What the server remembers of a device and its user.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;

/// By user and device.
pub(in crate::sandbox) type Mailboxes = Mutex<HashMap<(String, String), Mailbox>>;

/// One user's mailbox as one device sees it.
#[derive(Clone, Debug, Default)]
pub(in crate::sandbox) struct Mailbox {
    /// The last Ping with a body, for those without (MS-ASCMD 2.2.1.13).
    pub(in crate::sandbox) ping: Option<Bytes>,
    /// The last Sync with a body, for those without (MS-ASCMD 2.2.1.21).
    pub(in crate::sandbox) sync: Option<Bytes>,
    /// A mail has come that the device has not synchronised yet.
    pub(in crate::sandbox) fresh: bool,
}
