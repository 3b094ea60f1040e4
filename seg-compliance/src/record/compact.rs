//! A record as it lives in memory, a million at a time: shared texts, packed times.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Patch, Record};
use crate::clock::from_millisecond;
use crate::intern::{Groups, Interner, Symbol};
use crate::{DeviceKey, UserKey, Verdict};

/// A time to the millisecond, or none, in eight bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackedTime(i64);

impl PackedTime {
    const NONE: Self = Self(i64::MIN);

    pub(crate) fn new(time: Option<Timestamp>) -> Self {
        time.map_or(Self::NONE, |time| Self(time.as_millisecond()))
    }

    pub(crate) fn get(self) -> Option<Timestamp> {
        (self != Self::NONE).then(|| from_millisecond(self.0))
    }
}

impl Default for PackedTime {
    fn default() -> Self {
        Self::NONE
    }
}

impl std::fmt::Debug for PackedTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}

/// What is known about a device, without its name, which the table's key is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) user: Option<UserKey>,
    pub(crate) reason: Option<Arc<str>>,
    pub(crate) platform: Option<Symbol>,
    pub(crate) model: Option<Symbol>,
    pub(crate) os_version: Option<Symbol>,
    pub(crate) ownership: Option<Symbol>,
    pub(crate) groups: Option<Groups>,
    /// Who said so last; a snapshot removes only what its own source said.
    pub(crate) source: Option<Symbol>,
    pub(crate) last_seen: PackedTime,
    pub(crate) updated: PackedTime,
    pub(crate) managed: Option<bool>,
    pub(crate) compliant: Option<bool>,
    pub(crate) compromised: Option<bool>,
    pub(crate) encrypted: Option<bool>,
    pub(crate) profile: Option<bool>,
    pub(crate) verdict: Option<Verdict>,
}

impl Facts {
    /// The facts after `patch`: what it gives replaces, what it takes back goes, the rest stays.
    pub(crate) fn merged(&self, patch: &Patch, interner: &Interner) -> Self {
        let text = |known: &Option<Symbol>, said: &Option<Option<String>>| match said {
            None => known.clone(),
            Some(said) => said.as_ref().map(|text| interner.symbol(text)),
        };
        let time = |known: PackedTime, said: Option<Option<Timestamp>>| {
            said.map_or(known, PackedTime::new)
        };
        Self {
            user: patch.user.clone().unwrap_or_else(|| self.user.clone()),
            reason: match &patch.reason {
                None => self.reason.clone(),
                Some(said) => said.as_ref().map(|text| interner.reason(text)),
            },
            platform: text(&self.platform, &patch.platform),
            model: text(&self.model, &patch.model),
            os_version: text(&self.os_version, &patch.os_version),
            ownership: text(&self.ownership, &patch.ownership),
            groups: match &patch.groups {
                None => self.groups.clone(),
                Some(said) => said
                    .as_ref()
                    .map(|names| interner.groups(names.iter().map(String::as_str))),
            },
            source: self.source.clone(),
            last_seen: time(self.last_seen, patch.last_seen),
            updated: time(self.updated, patch.updated),
            managed: patch.managed.unwrap_or(self.managed),
            compliant: patch.compliant.unwrap_or(self.compliant),
            compromised: patch.compromised.unwrap_or(self.compromised),
            encrypted: patch.encrypted.unwrap_or(self.encrypted),
            profile: patch.profile.unwrap_or(self.profile),
            verdict: patch.verdict.unwrap_or(self.verdict),
        }
    }

    pub(crate) fn record(&self, device: &DeviceKey) -> Record {
        let text = |symbol: &Option<Symbol>| symbol.as_ref().map(|s| s.as_str().to_owned());
        Record {
            device_id: device.clone(),
            user: self.user.clone(),
            managed: self.managed,
            compliant: self.compliant,
            compromised: self.compromised,
            encrypted: self.encrypted,
            platform: text(&self.platform),
            model: text(&self.model),
            os_version: text(&self.os_version),
            last_seen: self.last_seen.get(),
            profile: self.profile,
            ownership: text(&self.ownership),
            groups: self
                .groups
                .as_ref()
                .map(|list| list.iter().map(str::to_owned).collect()),
            verdict: self.verdict,
            reason: self.reason.as_deref().map(str::to_owned),
            updated: self.updated.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(json: &str) -> Patch {
        Patch::from_json(json.as_bytes()).unwrap().1
    }

    #[test]
    fn what_is_given_replaces_and_the_rest_stays() {
        let interner = Interner::default();
        let first = Facts::default().merged(
            &patch(r#"{"platform":"ios","managed":true,"groups":["a","b"],"verdict":"block"}"#),
            &interner,
        );
        let second = first.merged(
            &patch(r#"{"managed":false,"groups":["c"],"verdict":null}"#),
            &interner,
        );
        assert_eq!(second.platform, first.platform);
        assert_eq!(second.managed, Some(false));
        assert_eq!(
            second.groups.as_ref().unwrap().iter().collect::<Vec<_>>(),
            ["c"]
        );
        assert_eq!(second.verdict, None);
        assert_eq!(second.compromised, None, "missing is not false");
    }

    #[test]
    fn a_million_records_fit() {
        assert!(size_of::<Facts>() <= 104, "{}", size_of::<Facts>());
    }
}
