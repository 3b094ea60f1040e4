//! Reading what a source says: one JSON object, with its limits.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use super::{APPS_MAX, GROUPS_MAX, Patch, REASON_MAX, TEXT_MAX};
use crate::{DeviceKey, UserKey, Verdict};

/// Longest line of an import, in bytes.
pub const LINE_MAX: usize = 64 * 1024;

/// One line of an import: what it says about a device, or why it says nothing.
pub type Line = Result<(DeviceKey, Patch), BadLine>;

/// A line that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct BadLine {
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub message: String,
    /// The device it speaks of, where at least that could be read: a snapshot keeps it.
    pub device: Option<DeviceKey>,
}

pub(super) fn from_json(json: &[u8]) -> Result<(Option<DeviceKey>, Patch), String> {
    let given: Given = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let device = given.device_id.clone();
    Ok((device, given.into_patch()?))
}

/// The device that a line names, where the rest of it can't be used.
pub(super) fn device_of(json: &[u8]) -> Option<DeviceKey> {
    #[derive(Deserialize)]
    struct Named {
        device_id: DeviceKey,
    }
    serde_json::from_slice::<Named>(json)
        .ok()
        .map(|named| named.device_id)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Given {
    device_id: Option<DeviceKey>,
    #[serde(deserialize_with = "said")]
    user: Option<Option<UserKey>>,
    #[serde(deserialize_with = "said")]
    managed: Option<Option<bool>>,
    #[serde(deserialize_with = "said")]
    compliant: Option<Option<bool>>,
    #[serde(deserialize_with = "said")]
    compromised: Option<Option<bool>>,
    #[serde(deserialize_with = "said")]
    encrypted: Option<Option<bool>>,
    #[serde(deserialize_with = "said")]
    platform: Option<Option<String>>,
    #[serde(deserialize_with = "said")]
    model: Option<Option<String>>,
    #[serde(deserialize_with = "said")]
    os_version: Option<Option<String>>,
    #[serde(deserialize_with = "said")]
    last_seen: Option<Option<Timestamp>>,
    #[serde(deserialize_with = "said")]
    profile: Option<Option<bool>>,
    #[serde(deserialize_with = "said")]
    ownership: Option<Option<String>>,
    #[serde(deserialize_with = "said")]
    groups: Option<Option<Vec<String>>>,
    #[serde(deserialize_with = "said")]
    verdict: Option<Option<Verdict>>,
    #[serde(deserialize_with = "said")]
    reason: Option<Option<String>>,
    #[serde(deserialize_with = "said")]
    updated: Option<Option<Timestamp>>,
    #[serde(deserialize_with = "said")]
    passcode: Option<Option<bool>>,
    #[serde(deserialize_with = "said")]
    attested: Option<Option<bool>>,
    #[serde(deserialize_with = "said")]
    revoked: Option<Option<bool>>,
    #[serde(deserialize_with = "said")]
    apps: Option<Option<Vec<String>>>,
}

/// A field that is there, be it null.
fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

impl Given {
    fn into_patch(self) -> Result<Patch, String> {
        let patch = Patch {
            user: self.user,
            managed: self.managed,
            compliant: self.compliant,
            compromised: self.compromised,
            encrypted: self.encrypted,
            platform: self.platform,
            model: self.model,
            os_version: self.os_version,
            last_seen: self.last_seen,
            profile: self.profile,
            ownership: self.ownership,
            groups: self.groups,
            verdict: self.verdict,
            reason: self.reason,
            updated: self.updated,
            passcode: self.passcode,
            attested: self.attested,
            revoked: self.revoked,
            apps: self.apps,
        };
        patch.check()?;
        Ok(patch)
    }
}

impl Patch {
    /// The limits of texts and lists.
    pub(super) fn check(&self) -> Result<(), String> {
        let texts = [
            ("platform", &self.platform, TEXT_MAX),
            ("model", &self.model, TEXT_MAX),
            ("os_version", &self.os_version, TEXT_MAX),
            ("ownership", &self.ownership, TEXT_MAX),
            ("reason", &self.reason, REASON_MAX),
        ];
        for (name, text, limit) in texts {
            if let Some(Some(text)) = text {
                check_text(name, text, limit)?;
            }
        }
        let lists = [
            ("groups", &self.groups, GROUPS_MAX),
            ("apps", &self.apps, APPS_MAX),
        ];
        for (name, list, limit) in lists {
            let Some(Some(list)) = list else { continue };
            if list.len() > limit {
                let given = list.len();
                return Err(format!("{name}: {given} are given, {limit} are allowed"));
            }
            for text in list {
                check_text(name, text, TEXT_MAX)?;
            }
        }
        Ok(())
    }
}

fn check_text(name: &str, text: &str, limit: usize) -> Result<(), String> {
    if text.len() > limit {
        return Err(format!(
            "{name}: {} bytes are given, {limit} are allowed",
            text.len()
        ));
    }
    match text.chars().find(|character| character.is_control()) {
        Some(character) => Err(format!("{name}: holds the control character {character:?}")),
        None => Ok(()),
    }
}
