//! A record as it lives in memory, a million at a time: shared texts, packed times.

use jiff::Timestamp;

use super::{Flag, Flags, Patch, Record};
use crate::clock::from_millisecond;
use crate::intern::{Interner, Symbol, Words};
use crate::{DeviceKey, UserKey, Verdict};

/// A time to the millisecond, or none, in eight bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackedTime(i64);

impl PackedTime {
    const NONE: Self = Self(i64::MIN);

    pub(crate) fn new(time: Option<Timestamp>) -> Self {
        time.map_or(Self::NONE, |time| Self(time.as_millisecond()))
    }

    /// Milliseconds since 1970.
    pub(crate) fn millisecond(self) -> Option<i64> {
        (self != Self::NONE).then_some(self.0)
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

/// What is known about a device, without its name, which the table's key is. In this order: what
/// every verdict reads comes first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Facts {
    pub(crate) user: Option<UserKey>,
    /// When the record was made, in seconds since 1970: the order of a user's devices.
    pub(crate) since: u32,
    pub(crate) flags: Flags,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) reason: Option<Symbol>,
    pub(crate) platform: Option<Symbol>,
    pub(crate) model: Option<Symbol>,
    pub(crate) os_version: Option<Symbol>,
    pub(crate) ownership: Option<Symbol>,
    pub(crate) groups: Option<Words>,
    pub(crate) apps: Option<Words>,
    /// Who said so last; a snapshot removes only what its own source said.
    pub(crate) source: Option<Symbol>,
    pub(crate) last_seen: PackedTime,
    pub(crate) updated: PackedTime,
}

impl Facts {
    /// Bytes at the beginning that every verdict reads.
    #[cfg(test)]
    pub(crate) const READ_BY_ALL: usize = std::mem::offset_of!(Self, reason);

    /// Whether the management system refuses the device, by a word of its own or as not compliant.
    #[inline]
    pub(crate) fn is_spoken_of(&self) -> bool {
        !matches!(self.verdict, None | Some(Verdict::Allow))
            | (self.flag(Flag::Compliant) == Some(false))
    }

    #[inline]
    pub(crate) fn flag(&self, flag: Flag) -> Option<bool> {
        self.flags.get(flag)
    }

    /// The facts after `said`: what it gives replaces, what it takes back goes, the rest stays.
    pub(crate) fn merged(&self, said: &Said) -> Self {
        let is = |field: u32| said.fields & field != 0;
        fn pick<T: Clone>(said: bool, new: &T, old: &T) -> T {
            if said { new.clone() } else { old.clone() }
        }
        let new = &said.facts;
        let mut flags = self.flags;
        for flag in Flag::ALL {
            if is(Said::flag(flag)) {
                flags.set(flag, new.flag(flag));
            }
        }
        Self {
            user: pick(is(Said::USER), &new.user, &self.user),
            reason: pick(is(Said::REASON), &new.reason, &self.reason),
            platform: pick(is(Said::PLATFORM), &new.platform, &self.platform),
            model: pick(is(Said::MODEL), &new.model, &self.model),
            os_version: pick(is(Said::OS_VERSION), &new.os_version, &self.os_version),
            ownership: pick(is(Said::OWNERSHIP), &new.ownership, &self.ownership),
            groups: pick(is(Said::GROUPS), &new.groups, &self.groups),
            apps: pick(is(Said::APPS), &new.apps, &self.apps),
            source: self.source.clone(),
            last_seen: pick(is(Said::LAST_SEEN), &new.last_seen, &self.last_seen),
            updated: pick(is(Said::UPDATED), &new.updated, &self.updated),
            since: self.since,
            flags,
            verdict: pick(is(Said::VERDICT), &new.verdict, &self.verdict),
        }
    }

    pub(crate) fn record(&self, device: &DeviceKey) -> Record {
        let text = |symbol: &Option<Symbol>| symbol.as_ref().map(|s| s.as_str().to_owned());
        let words = |list: &Option<Words>| {
            list.as_ref()
                .map(|list| list.iter().map(str::to_owned).collect())
        };
        Record {
            device_id: device.clone(),
            user: self.user.clone(),
            managed: self.flag(Flag::Managed),
            compliant: self.flag(Flag::Compliant),
            compromised: self.flag(Flag::Compromised),
            encrypted: self.flag(Flag::Encrypted),
            platform: text(&self.platform),
            model: text(&self.model),
            os_version: text(&self.os_version),
            last_seen: self.last_seen.get(),
            profile: self.flag(Flag::Profile),
            ownership: text(&self.ownership),
            groups: words(&self.groups),
            verdict: self.verdict,
            reason: text(&self.reason),
            updated: self.updated.get(),
            passcode: self.flag(Flag::Passcode),
            attested: self.flag(Flag::Attested),
            revoked: self.flag(Flag::Revoked),
            apps: words(&self.apps),
        }
    }
}

/// What is said about a device, as small as what is known of it: an import that has to be seen
/// whole before it is applied holds one of these a line.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    facts: Facts,
    /// Which facts are spoken of.
    fields: u32,
}

impl Said {
    const USER: u32 = 1 << 8;
    const REASON: u32 = 1 << 9;
    const PLATFORM: u32 = 1 << 10;
    const MODEL: u32 = 1 << 11;
    const OS_VERSION: u32 = 1 << 12;
    const OWNERSHIP: u32 = 1 << 13;
    const GROUPS: u32 = 1 << 14;
    const APPS: u32 = 1 << 15;
    const LAST_SEEN: u32 = 1 << 16;
    const UPDATED: u32 = 1 << 17;
    const VERDICT: u32 = 1 << 18;

    const fn flag(flag: Flag) -> u32 {
        1 << flag as u32
    }

    pub(crate) fn new(patch: &Patch, interner: &Interner) -> Self {
        let mut fields = 0;
        let mut facts = Facts::default();
        for (flag, said) in [
            (Flag::Managed, patch.managed),
            (Flag::Compliant, patch.compliant),
            (Flag::Compromised, patch.compromised),
            (Flag::Encrypted, patch.encrypted),
            (Flag::Profile, patch.profile),
            (Flag::Passcode, patch.passcode),
            (Flag::Attested, patch.attested),
            (Flag::Revoked, patch.revoked),
        ] {
            if let Some(said) = said {
                fields |= Self::flag(flag);
                facts.flags.set(flag, said);
            }
        }
        for (field, said, place) in [
            (Self::REASON, &patch.reason, &mut facts.reason),
            (Self::PLATFORM, &patch.platform, &mut facts.platform),
            (Self::MODEL, &patch.model, &mut facts.model),
            (Self::OS_VERSION, &patch.os_version, &mut facts.os_version),
            (Self::OWNERSHIP, &patch.ownership, &mut facts.ownership),
        ] {
            if let Some(said) = said {
                fields |= field;
                *place = said.as_deref().map(|text| interner.symbol(text));
            }
        }
        for (field, said, place) in [
            (Self::GROUPS, &patch.groups, &mut facts.groups),
            (Self::APPS, &patch.apps, &mut facts.apps),
        ] {
            if let Some(said) = said {
                fields |= field;
                let words = said.as_ref();
                *place = words.map(|words| interner.words(words.iter().map(String::as_str)));
            }
        }
        for (field, said, place) in [
            (Self::LAST_SEEN, patch.last_seen, &mut facts.last_seen),
            (Self::UPDATED, patch.updated, &mut facts.updated),
        ] {
            if let Some(said) = said {
                fields |= field;
                *place = PackedTime::new(said);
            }
        }
        if let Some(user) = &patch.user {
            fields |= Self::USER;
            facts.user.clone_from(user);
        }
        if let Some(verdict) = patch.verdict {
            fields |= Self::VERDICT;
            facts.verdict = verdict;
        }
        Self { facts, fields }
    }
}

#[cfg(test)]
impl Facts {
    /// The facts that a record of this JSON makes.
    pub(crate) fn of_json(json: &str, interner: &Interner) -> Self {
        let patch = Patch::from_json(json.as_bytes()).unwrap().1;
        Self::default().merged(&Said::new(&patch, interner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(json: &str, interner: &Interner) -> Said {
        Said::new(&Patch::from_json(json.as_bytes()).unwrap().1, interner)
    }

    #[test]
    fn what_is_given_replaces_and_the_rest_stays() {
        let interner = Interner::default();
        let text = r#"{"platform":"ios","managed":true,"groups":["a","b"],"verdict":"block"}"#;
        let first = Facts::of_json(text, &interner);
        let text = r#"{"managed":false,"groups":["c"],"verdict":null}"#;
        let second = first.merged(&said(text, &interner));
        assert_eq!(second.platform, first.platform);
        assert_eq!(second.flag(Flag::Managed), Some(false));
        assert_eq!(
            second.groups.as_ref().unwrap().iter().collect::<Vec<_>>(),
            ["c"]
        );
        assert_eq!(second.verdict, None);
        assert_eq!(second.flag(Flag::Compromised), None, "missing is not false");
    }

    #[test]
    fn a_million_records_fit() {
        assert!(size_of::<Facts>() <= 128, "{}", size_of::<Facts>());
    }
}
