//! A device record: what a device management system says about a device.
//!
//! Every fact may be missing, and missing is not false. Records travel as [`Record`] (what is
//! known) and [`Patch`] (what is said: a fact given, a fact taken back, or nothing), and live in
//! memory as the compact `Facts`.

mod compact;
pub mod csv;
mod flags;
mod given;
pub mod ndjson;
mod reader;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) use compact::{Facts, PackedTime, Said};
pub(crate) use flags::{Flag, Flags};
pub use given::{BadLine, LINE_MAX, Line};
pub use reader::Reader;

use crate::{DeviceKey, UserKey, Verdict};

/// Longest text of one fact, in bytes.
pub const TEXT_MAX: usize = 256;
/// Longest reason, in bytes.
pub const REASON_MAX: usize = 1_024;
/// Most groups of one device.
pub const GROUPS_MAX: usize = 512;
/// Most apps of one device.
pub const APPS_MAX: usize = 2_048;

/// The names of a record's fields, in the order of the CSV columns.
pub const FIELDS: [&str; 20] = [
    "device_id",
    "user",
    "managed",
    "compliant",
    "compromised",
    "encrypted",
    "platform",
    "model",
    "os_version",
    "last_seen",
    "profile",
    "ownership",
    "groups",
    "verdict",
    "reason",
    "updated",
    "passcode",
    "attested",
    "revoked",
    "apps",
];

/// What is known about a device. Absent facts are not written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The canonical EAS DeviceId.
    pub device_id: DeviceKey,
    /// The one user whom this record admits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserKey>,
    /// Enrolled in the management system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<bool>,
    /// Compliant in the management system's own judgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compliant: Option<bool>,
    /// Jailbroken or rooted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compromised: Option<bool>,
    /// Its storage is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<bool>,
    /// `ios`, `android`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The maker's name of the model, `iPhone15,2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Version of the operating system, `18.1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// When the management system last heard of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// Its mail account came by a managed ActiveSync profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<bool>,
    /// `corporate`, `personal`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ownership: Option<String>,
    /// The user's or device's groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// A verdict pushed by the management system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The words to the pushed verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When these facts were gathered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<Timestamp>,
    /// Has a passcode as strong as it must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passcode: Option<bool>,
    /// The maker has attested that its system is as delivered (Knox, Play Integrity).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attested: Option<bool>,
    /// The management system has withdrawn it: reported lost, stolen or to be wiped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<bool>,
    /// Identifiers of the apps on it, `com.example.app`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apps: Option<Vec<String>>,
}

/// What is said about a device. Of each fact: `None`, nothing is said and what is known stays;
/// `Some(None)` (JSON `null`), the fact is taken back; `Some(Some(_))`, this is the fact now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// See [`Record::user`].
    pub user: Option<Option<UserKey>>,
    /// See [`Record::managed`].
    pub managed: Option<Option<bool>>,
    /// See [`Record::compliant`].
    pub compliant: Option<Option<bool>>,
    /// See [`Record::compromised`].
    pub compromised: Option<Option<bool>>,
    /// See [`Record::encrypted`].
    pub encrypted: Option<Option<bool>>,
    /// See [`Record::platform`].
    pub platform: Option<Option<String>>,
    /// See [`Record::model`].
    pub model: Option<Option<String>>,
    /// See [`Record::os_version`].
    pub os_version: Option<Option<String>>,
    /// See [`Record::last_seen`].
    pub last_seen: Option<Option<Timestamp>>,
    /// See [`Record::profile`].
    pub profile: Option<Option<bool>>,
    /// See [`Record::ownership`].
    pub ownership: Option<Option<String>>,
    /// See [`Record::groups`].
    pub groups: Option<Option<Vec<String>>>,
    /// See [`Record::verdict`].
    pub verdict: Option<Option<Verdict>>,
    /// See [`Record::reason`].
    pub reason: Option<Option<String>>,
    /// See [`Record::updated`].
    pub updated: Option<Option<Timestamp>>,
    /// See [`Record::passcode`].
    pub passcode: Option<Option<bool>>,
    /// See [`Record::attested`].
    pub attested: Option<Option<bool>>,
    /// See [`Record::revoked`].
    pub revoked: Option<Option<bool>>,
    /// See [`Record::apps`].
    pub apps: Option<Option<Vec<String>>>,
}

impl Patch {
    /// Reads the JSON object of a record. The device may be named in it or not; the admin API
    /// names it in the path.
    ///
    /// # Errors
    /// The message names the field: unknown, of the wrong kind, too long.
    pub fn from_json(json: &[u8]) -> Result<(Option<DeviceKey>, Self), String> {
        given::from_json(json)
    }
}
