//! The JSON bodies of the admin API, shared by the gateway that serves them and the program that
//! reads them. Field names are a contract.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::record::Record;
use crate::{DeviceKey, Protocol, Step, UserKey, Verdict};

/// `{"error":{…}}`, with every status that is no success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// A word for programs: `not_found`, `bad_request`, …
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// The property or field it is about.
    #[serde(default)]
    pub key: Option<String>,
    /// The line it is about.
    #[serde(default)]
    pub line: Option<u64>,
}

/// A decision on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// The step that gave it.
    pub step: Step,
    /// See [`crate::Decision::rule`].
    pub rule: Option<String>,
    /// See [`crate::Decision::reason`].
    pub reason: Option<String>,
    /// See [`crate::Decision::revision`].
    pub revision: u64,
    /// False in observe mode.
    pub enforced: bool,
    /// What a policy in `mode = "test"` would have made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
}

/// See [`crate::Trial`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The id of the policy.
    pub rule: String,
    /// The verdict that it would have given.
    pub verdict: Verdict,
}

impl From<&crate::Decision> for Decision {
    fn from(decision: &crate::Decision) -> Self {
        Self {
            verdict: decision.verdict,
            step: decision.step,
            rule: decision.rule.as_deref().map(str::to_owned),
            reason: decision.reason.as_deref().map(str::to_owned),
            revision: decision.revision,
            enforced: decision.enforced,
            trial: decision.trial.as_ref().map(|trial| Trial {
                rule: trial.rule.to_string(),
                verdict: trial.verdict,
            }),
        }
    }
}

/// An override, as `PUT …/override` takes it and views show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// What holds from now on.
    pub verdict: Verdict,
    /// Why, for people.
    #[serde(default)]
    pub reason: Option<String>,
    /// When it ends by itself; `None`: never.
    #[serde(default)]
    pub expires: Option<Timestamp>,
}

/// An order, as `POST /v1/devices/{id}:wipe` and its sisters take it. The body may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OrderGiven {
    /// Of a wipe: the account only (ActiveSync 16.1); the device's other content stays.
    pub account_only: bool,
    /// The one user of the device whom it concerns; missing: the user of its record.
    pub user: Option<String>,
    /// Why, for people.
    pub reason: Option<String>,
}

/// An administrator's order to a device, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What is ordered.
    pub action: crate::OrderKind,
    /// How far it is.
    pub state: crate::OrderState,
    /// The one user of the device whom it concerns; `None`: whoever uses it.
    pub user: Option<UserKey>,
    /// Why, for people.
    pub reason: Option<String>,
    /// When it was given to us.
    pub ordered: Timestamp,
    /// When its state changed last.
    pub changed: Timestamp,
}

/// The last request of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRequest {
    /// When it ended.
    pub at: Timestamp,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its command or operation.
    pub command: String,
    /// The HTTP status it was answered with.
    pub status: u16,
    /// Its User-Agent.
    pub agent: String,
    /// Its user.
    pub user: Option<UserKey>,
}

/// A device: what its record says, what holds for it, and what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The record; of an unknown device only the id and the user it was seen with.
    #[serde(flatten)]
    pub record: Record,
    /// Whether there is a record.
    pub known: bool,
    /// Who reported the record last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The device's own override.
    #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
    pub device_override: Option<Override>,
    /// The last order to the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// The override of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_override: Option<Override>,
    /// Whose it is by its own use, where devices are bound; the gateway's part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Box<Binding>>,
    /// What holds for this device and user.
    pub decision: Decision,
    /// Requests in flight.
    pub live: u32,
    /// When an unknown device was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_request: Option<Timestamp>,
    /// The last request, since the gateway started.
    pub last_request: Option<LastRequest>,
}

/// `GET /v1/devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devices {
    /// One page, by device id.
    pub devices: Vec<Device>,
    /// The `after` of the next page; `None`: this was the last.
    pub next: Option<DeviceKey>,
}

/// The answer to a change of one device or user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The revision of the change, or the current one where nothing changed.
    pub revision: u64,
    /// Requests in flight that were cut.
    pub cut: u64,
    /// What holds now: for a device with its record's user, for a user without a device.
    pub decision: Decision,
}

/// The answer to an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportResult {
    /// Lines read, bad ones included, empty ones not.
    pub read: u64,
    /// Records made or changed.
    pub applied: u64,
    /// Records that were so already.
    pub unchanged: u64,
    /// Records that a snapshot no longer names.
    pub removed: u64,
    /// Requests in flight that were cut.
    pub cut: u64,
    /// The last revision of the import, or the current one where nothing changed.
    pub revision: u64,
    /// The bad lines, at most [`crate::engine::IMPORT_ERRORS_MAX`] of them.
    pub errors: Vec<ImportError>,
    /// Of a dry run that was asked for it: which verdicts would be others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

/// What would be, under other policies or other records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Devices that were looked at.
    pub devices: u64,
    /// Devices whose verdict would be another.
    pub changed: u64,
    /// How many would go from which verdict to which: `allow to block`.
    pub verdicts: BTreeMap<String, u64>,
    /// The first of them, one by one.
    pub changes: Vec<PlanChange>,
    /// Policies that ask each request for something, so that nobody knows before it comes: a network,
    /// a command, a version.
    pub unforeseen: Vec<String>,
}

/// One device whose verdict would be another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanChange {
    /// The device.
    pub device: DeviceKey,
    /// The user of its record.
    pub user: Option<UserKey>,
    /// What holds now.
    pub was: Decision,
    /// What would hold.
    pub will: Decision,
}

/// The fleet in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When it was counted.
    pub at: Timestamp,
    /// Devices with a record.
    pub devices: u64,
    /// Devices seen without a record.
    pub unknown: u64,
    /// The counts.
    pub rows: Vec<ReportRow>,
    /// The sources.
    pub sources: Vec<ReportSource>,
}

/// Devices that have something in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportRow {
    /// `verdict`, `step`, `reason`, `platform`, `client`, `source`, `test` (the policy in test mode
    /// that would have decided).
    pub kind: String,
    /// What they have in common; empty: not reported.
    pub value: String,
    /// How many there are.
    pub devices: u64,
    /// How many of them are allowed.
    pub allow: u64,
    /// How many are quarantined.
    pub quarantine: u64,
    /// How many are blocked.
    pub block: u64,
}

/// A source and the age of what it reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportSource {
    /// Its name.
    pub source: String,
    /// When it last reported everything it had to report.
    pub reported: Timestamp,
    /// How long ago that is.
    pub age_seconds: i64,
    /// Whether that is longer than it may be.
    pub stale: bool,
}

/// `GET /v1/policies`: the policies in force, in their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicyList {
    /// The policies.
    pub policies: Vec<PolicyView>,
}

/// A policy as it stands in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyView {
    /// Its id.
    pub id: String,
    /// The line on which it begins.
    pub line: u64,
    /// Its other fields.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl PolicyList {
    /// What these policies say.
    #[must_use]
    pub fn of(policies: &crate::Policies) -> Self {
        let view = |policy: &crate::policy::Policy| PolicyView {
            id: policy.id().to_string(),
            line: policy.line() as u64,
            fields: policy.said().as_object().cloned().unwrap_or_default(),
        };
        Self {
            policies: policies.iter().map(view).collect(),
        }
    }
}

/// A bad line of an import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportError {
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub message: String,
}

/// To whom and what the gateway has bound a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The user.
    pub user: Option<UserKey>,
    /// The SHA-256 of the certificate, in hexadecimal.
    pub certificate: Option<String>,
    /// The ActiveSync client.
    pub eas_agent: Option<String>,
    /// The EWS client.
    pub ews_agent: Option<String>,
    /// The first use.
    pub since: Option<Timestamp>,
    /// Whether the table of bindings names the device.
    pub configured: bool,
    /// What speaks against it.
    pub suspect: Option<Suspect>,
}

/// The last request that did not fit a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    /// `another_user`, `another_certificate`, `no_certificate`, `another_agent`, `another_tls`,
    /// `two_places`.
    pub reason: String,
    /// Who sent it.
    pub user: UserKey,
    /// The network it came from.
    pub network: String,
    /// The mail client.
    pub agent: String,
    /// When the first such request was seen.
    pub first: Timestamp,
    /// When the last was.
    pub last: Timestamp,
    /// How many there were; after a restart, as far as they were written down.
    pub count: u64,
    /// Whether it holds for every request of the device, until the binding is deleted.
    pub stands: bool,
}

/// `GET /v1/explain`. The gateway adds `identity`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Who was asked for and how he was made out; the gateway's part.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub identity: Map<String, Value>,
    /// The verdict.
    pub verdict: Verdict,
    /// The step that gave it.
    pub step: Step,
    /// See [`crate::Decision::rule`].
    pub rule: Option<String>,
    /// See [`crate::Decision::reason`].
    pub reason: Option<String>,
    /// See [`crate::Decision::revision`].
    pub revision: u64,
    /// False in observe mode.
    pub enforced: bool,
    /// Whether there is a record of this device for this user, or of any device of this user
    /// where none was named.
    pub known: bool,
    /// Every step, in order.
    pub steps: Vec<ExplainStep>,
}

/// One step of an explanation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainStep {
    /// `user` (a request without a device), `override`, `mdm`, `policy`, `default`.
    pub step: String,
    /// The verdict it gave; `none`: it says nothing; `not_reached`: an earlier step had decided;
    /// of a policy also `notify`, and `test:<action>` where it fires in test mode.
    pub outcome: String,
    /// See [`crate::Decision::rule`].
    pub rule: Option<String>,
    /// See [`crate::Decision::reason`].
    pub reason: Option<String>,
    /// The line of policies.toml on which the policy begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// What it looked at.
    pub saw: Map<String, Value>,
}

/// `GET /v1/sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// Requests in flight.
    pub sessions: Vec<Session>,
}

/// A request in flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its device.
    pub device: Option<DeviceKey>,
    /// Its user.
    pub user: Option<UserKey>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its command or operation.
    pub command: String,
    /// When it was admitted.
    pub since: Timestamp,
    /// When it must have ended.
    pub deadline: Option<Timestamp>,
}

/// One server-sent event of `GET /v1/events`; its name is [`Event::name`], its id the revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// What holds for a device, or for a user without a device, has become another verdict.
    Decision {
        /// The change that brought it.
        revision: u64,
        /// The device; `None`: the override of a user.
        device: Option<DeviceKey>,
        /// The user of its record, or of the override.
        user: Option<UserKey>,
        /// What held before.
        was: Verdict,
        /// What holds now.
        decision: Decision,
    },
    /// A record or an override was changed. The only event that can be read again later.
    Change {
        /// Its revision.
        revision: u64,
        /// What was changed.
        change: ChangeKind,
        /// The device; `None`: the override of a user.
        device: Option<DeviceKey>,
        /// The user of the record, or of the override.
        user: Option<UserKey>,
        /// The record, where one was put.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        record: Option<Box<Record>>,
        /// The override, where one was set.
        #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
        set: Option<Override>,
        /// The order, where one was given or is further than before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        order: Option<Order>,
    },
    /// A request in flight was cut.
    Cut {
        /// The newest revision when it was cut.
        revision: u64,
        /// Its device.
        device: Option<DeviceKey>,
        /// Its user.
        user: Option<UserKey>,
        /// Its protocol.
        protocol: Protocol,
        /// Its command or operation.
        command: String,
        /// The decision that cut it.
        decision: Decision,
    },
    /// Settings or policies were loaded.
    Reload {
        /// The newest revision at that time.
        revision: u64,
        /// The properties that changed.
        changed: Vec<String>,
    },
}

impl Event {
    /// `decision`, `change`, `cut`, `reload`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Decision { .. } => "decision",
            Self::Change { .. } => "change",
            Self::Cut { .. } => "cut",
            Self::Reload { .. } => "reload",
        }
    }

    /// The revision it belongs to.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        match self {
            Self::Decision { revision, .. }
            | Self::Change { revision, .. }
            | Self::Cut { revision, .. }
            | Self::Reload { revision, .. } => *revision,
        }
    }
}

/// What a change changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// A record was made or changed.
    Record,
    /// A record went: a snapshot of its source no longer names the device.
    RecordRemoved,
    /// A device's override was set.
    DeviceOverride,
    /// A device's override was deleted.
    DeviceOverrideCleared,
    /// A user's override was set.
    UserOverride,
    /// A user's override was deleted.
    UserOverrideCleared,
    /// A device was forgotten: record, override and order.
    Forgotten,
    /// A device was given an order, or is further with it.
    Ordered,
    /// An order was taken back.
    OrderCleared,
}

/// What somebody did, or was refused to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// The name of the token, `file` for a reload by a changed file, or the source of a webhook.
    pub who: String,
    /// What the token may do: `read`, `operate`, `import`, `admin`; empty: it was no token.
    #[serde(default)]
    pub role: String,
    /// What was done, as method and path of the admin API; of a webhook or reload, its name.
    pub action: String,
    /// The device, user, source or file it was done to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What was sent or counted; never a secret.
    #[serde(default)]
    pub detail: Value,
    /// The address it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The status it was answered with.
    pub status: u16,
    /// The newest revision when it was answered.
    pub revision: u64,
}

/// An entry of the audit trail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Counts the entries.
    pub number: u64,
    /// When it was answered.
    pub at: Timestamp,
    /// What was done.
    #[serde(flatten)]
    pub event: AuditEvent,
}

/// `POST /v1/reload`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadResult {
    /// The properties that changed and are in force.
    pub changed: Vec<String>,
    /// Those that changed and wait for a restart.
    pub restart_required: Vec<String>,
}
