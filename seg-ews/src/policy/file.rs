//! The `[ews]` table as it is written.

use serde::Deserialize;

/// `[ews]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    /// The class of clients that no `[[ews.client]]` tells.
    pub(super) default_class: Option<String>,
    /// Networks whose header naming a device is believed.
    pub(super) trusted_networks: Vec<String>,
    /// How classes are told, in order.
    pub(super) client: Vec<Client>,
    pub(super) ens: Option<Class>,
    pub(super) native: Option<Class>,
    pub(super) desktop: Option<Class>,
    pub(super) service: Option<Class>,
}

/// `[[ews.client]]`: all that is given must hold.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Client {
    pub(super) class: String,
    #[serde(default)]
    pub(super) networks: Vec<String>,
    #[serde(default)]
    pub(super) agents: Vec<String>,
    #[serde(default)]
    pub(super) certificates: Vec<String>,
}

/// `[ews.<class>]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Class {
    pub(super) groups: Option<Vec<String>>,
    pub(super) allow: Vec<String>,
    pub(super) deny: Vec<String>,
    pub(super) unknown: Vec<String>,
    pub(super) refusal: Option<String>,
    pub(super) impersonation: Vec<Grant>,
    pub(super) management_role: Vec<String>,
    pub(super) foreign_mailboxes: Vec<Grant>,
    pub(super) push_hosts: Vec<String>,
    pub(super) attachments: Option<String>,
    pub(super) mime_content: Option<String>,
    pub(super) fields: Option<Vec<String>>,
    pub(super) meter: Option<Meter>,
    pub(super) device: Vec<String>,
}

/// Who may reach whose mailboxes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grant {
    pub(super) by: String,
    #[serde(default)]
    pub(super) of: Vec<String>,
}

/// `meter = { minutes, bytes, items }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Meter {
    pub(super) minutes: u32,
    pub(super) bytes: Option<u64>,
    pub(super) items: Option<u64>,
}
