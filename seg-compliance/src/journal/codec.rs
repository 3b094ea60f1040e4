//! A change as bytes: `kind, revision, key, body`, each number a LEB128 varint, key and body with
//! their length before them. A body is a list of `tag, length, value`. Compaction copies bodies
//! without reading them.

use jiff::Timestamp;

use super::{Change, Sequenced};
use crate::clock::from_millisecond;
use crate::intern::Interner;
use crate::judge::Override;
use crate::order::{Order, OrderKind, OrderState};
use crate::record::{APPS_MAX, Facts, Flag, GROUPS_MAX, PackedTime};
use crate::{DeviceKey, UserKey, Verdict};

/// Why bytes are no changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("the bytes end inside {0}")]
    Ends(&'static str),
    #[error("{0} has a value that it can't have")]
    Value(&'static str),
    #[error("{0} is not known to this version")]
    Unknown(&'static str),
}

/// The kinds of changes. Numbers are on disk: never use one again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Record = 1,
    RecordRemoved = 2,
    DeviceOverride = 3,
    DeviceOverrideCleared = 4,
    UserOverride = 5,
    UserOverrideCleared = 6,
    Forgotten = 7,
    Ordered = 8,
    OrderCleared = 9,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Record,
        Self::RecordRemoved,
        Self::DeviceOverride,
        Self::DeviceOverrideCleared,
        Self::UserOverride,
        Self::UserOverrideCleared,
        Self::Forgotten,
        Self::Ordered,
        Self::OrderCleared,
    ];

    /// Whether it leaves nothing behind: dead once it is compacted.
    pub(crate) fn ends(self) -> bool {
        matches!(
            self,
            Self::RecordRemoved
                | Self::DeviceOverrideCleared
                | Self::UserOverrideCleared
                | Self::Forgotten
                | Self::OrderCleared
        )
    }
}

/// One change, not read further than its key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'b> {
    pub(crate) kind: Kind,
    pub(crate) revision: u64,
    pub(crate) key: &'b str,
    body: &'b [u8],
    /// All of it, to copy.
    pub(crate) bytes: &'b [u8],
}

/// The tags of a body. Numbers are on disk: never use one again.
mod tag {
    pub(super) const USER: u8 = 1;
    pub(super) const MANAGED: u8 = 2;
    pub(super) const COMPLIANT: u8 = 3;
    pub(super) const COMPROMISED: u8 = 4;
    pub(super) const ENCRYPTED: u8 = 5;
    pub(super) const PROFILE: u8 = 6;
    pub(super) const VERDICT: u8 = 7;
    pub(super) const REASON: u8 = 8;
    pub(super) const PLATFORM: u8 = 9;
    pub(super) const MODEL: u8 = 10;
    pub(super) const OS_VERSION: u8 = 11;
    pub(super) const OWNERSHIP: u8 = 12;
    pub(super) const SOURCE: u8 = 13;
    pub(super) const GROUPS: u8 = 14;
    pub(super) const GROUP: u8 = 15;
    pub(super) const LAST_SEEN: u8 = 16;
    pub(super) const UPDATED: u8 = 17;
    pub(super) const EXPIRES: u8 = 18;
    pub(super) const ORDER_KIND: u8 = 19;
    pub(super) const ORDER_STATE: u8 = 20;
    pub(super) const ORDERED: u8 = 21;
    pub(super) const CHANGED: u8 = 22;
    pub(super) const SINCE: u8 = 32;
    pub(super) const PASSCODE: u8 = 33;
    pub(super) const ATTESTED: u8 = 34;
    pub(super) const REVOKED: u8 = 35;
    pub(super) const APPS: u8 = 36;
    pub(super) const APP: u8 = 37;
}

const FLAGS: [(u8, Flag); 8] = [
    (tag::MANAGED, Flag::Managed),
    (tag::COMPLIANT, Flag::Compliant),
    (tag::COMPROMISED, Flag::Compromised),
    (tag::ENCRYPTED, Flag::Encrypted),
    (tag::PROFILE, Flag::Profile),
    (tag::PASSCODE, Flag::Passcode),
    (tag::ATTESTED, Flag::Attested),
    (tag::REVOKED, Flag::Revoked),
];

/// Appends a change.
pub(crate) fn write(out: &mut Vec<u8>, sequenced: &Sequenced) {
    let mut body = Vec::with_capacity(192);
    let (kind, key) = match &sequenced.change {
        Change::Record { device, facts } => {
            write_facts(&mut body, facts);
            (Kind::Record, device.as_str())
        }
        Change::RecordRemoved { device } => (Kind::RecordRemoved, device.as_str()),
        Change::DeviceOverride { device, set } => {
            write_override(&mut body, set);
            (Kind::DeviceOverride, device.as_str())
        }
        Change::DeviceOverrideCleared { device } => (Kind::DeviceOverrideCleared, device.as_str()),
        Change::UserOverride { user, set } => {
            write_override(&mut body, set);
            (Kind::UserOverride, user.as_str())
        }
        Change::UserOverrideCleared { user } => (Kind::UserOverrideCleared, user.as_str()),
        Change::Forgotten { device } => (Kind::Forgotten, device.as_str()),
        Change::Ordered { device, order } => {
            write_order(&mut body, order);
            (Kind::Ordered, device.as_str())
        }
        Change::OrderCleared { device } => (Kind::OrderCleared, device.as_str()),
    };
    out.push(kind as u8);
    write_number(out, sequenced.revision);
    write_bytes(out, key.as_bytes());
    write_bytes(out, &body);
}

/// Takes the next change off `bytes`; `None` at their end.
pub(crate) fn read<'b>(bytes: &mut &'b [u8]) -> Result<Option<Raw<'b>>, CodecError> {
    let whole = *bytes;
    let Some((&kind, rest)) = whole.split_first() else {
        return Ok(None);
    };
    *bytes = rest;
    let kind = Kind::ALL
        .into_iter()
        .find(|known| *known as u8 == kind)
        .ok_or(CodecError::Unknown("a kind of change"))?;
    let revision = read_number(bytes)?;
    let key =
        std::str::from_utf8(read_bytes(bytes, "a key")?).map_err(|_| CodecError::Value("a key"))?;
    let body = read_bytes(bytes, "a body")?;
    let length = whole.len() - bytes.len();
    let bytes = whole.get(..length).unwrap_or_default();
    Ok(Some(Raw {
        kind,
        revision,
        key,
        body,
        bytes,
    }))
}

impl Raw<'_> {
    /// The change, read to its end.
    pub(crate) fn decode(&self, interner: &Interner) -> Result<Sequenced, CodecError> {
        let device = || DeviceKey::new(self.key).map_err(|_| CodecError::Value("a device id"));
        let user = || UserKey::new(self.key).map_err(|_| CodecError::Value("a user"));
        let change = match self.kind {
            Kind::Record => Change::Record {
                device: device()?,
                facts: Box::new(read_facts(self.body, interner)?),
            },
            Kind::RecordRemoved => Change::RecordRemoved { device: device()? },
            Kind::DeviceOverride => Change::DeviceOverride {
                device: device()?,
                set: Box::new(self.read_override(interner)?),
            },
            Kind::DeviceOverrideCleared => Change::DeviceOverrideCleared { device: device()? },
            Kind::UserOverride => Change::UserOverride {
                user: user()?,
                set: Box::new(self.read_override(interner)?),
            },
            Kind::UserOverrideCleared => Change::UserOverrideCleared { user: user()? },
            Kind::Forgotten => Change::Forgotten { device: device()? },
            Kind::Ordered => Change::Ordered {
                device: device()?,
                order: Box::new(read_order(self.body, interner)?),
            },
            Kind::OrderCleared => Change::OrderCleared { device: device()? },
        };
        Ok(Sequenced {
            revision: self.revision,
            change,
        })
    }

    fn read_override(&self, interner: &Interner) -> Result<Override, CodecError> {
        let (mut verdict, mut reason, mut expires) = (None, None, None);
        for field in Fields(self.body) {
            match field? {
                (tag::VERDICT, value) => verdict = Some(read_verdict(value)?),
                (tag::REASON, value) => reason = Some(interner.reason(read_text(value)?)),
                (tag::EXPIRES, value) => expires = Some(read_time(value)?),
                // Of a later version.
                _ => {}
            }
        }
        let verdict = verdict.ok_or(CodecError::Ends("an override"))?;
        Ok(Override {
            verdict,
            reason,
            expires,
            revision: self.revision,
        })
    }
}

fn write_facts(out: &mut Vec<u8>, facts: &Facts) {
    for (tag, flag) in FLAGS {
        if let Some(value) = facts.flag(flag) {
            write_field(out, tag, &[u8::from(value)]);
        }
    }
    let texts = [
        (tag::USER, facts.user.as_ref().map(UserKey::as_str)),
        (
            tag::REASON,
            facts.reason.as_ref().map(|symbol| symbol.as_str()),
        ),
        (
            tag::PLATFORM,
            facts.platform.as_ref().map(|symbol| symbol.as_str()),
        ),
        (
            tag::MODEL,
            facts.model.as_ref().map(|symbol| symbol.as_str()),
        ),
        (
            tag::OS_VERSION,
            facts.os_version.as_ref().map(|symbol| symbol.as_str()),
        ),
        (
            tag::OWNERSHIP,
            facts.ownership.as_ref().map(|symbol| symbol.as_str()),
        ),
        (
            tag::SOURCE,
            facts.source.as_ref().map(|symbol| symbol.as_str()),
        ),
    ];
    for (tag, text) in texts {
        if let Some(text) = text {
            write_field(out, tag, text.as_bytes());
        }
    }
    let lists = [
        (tag::GROUPS, tag::GROUP, &facts.groups),
        (tag::APPS, tag::APP, &facts.apps),
    ];
    for (list, item, words) in lists {
        if let Some(words) = words {
            write_field(out, list, &[]);
            for word in words.iter() {
                write_field(out, item, word.as_bytes());
            }
        }
    }
    if let Some(verdict) = facts.verdict {
        write_field(out, tag::VERDICT, &[verdict_number(verdict)]);
    }
    for (tag, time) in [
        (tag::LAST_SEEN, facts.last_seen),
        (tag::UPDATED, facts.updated),
    ] {
        if let Some(time) = time.get() {
            write_field(out, tag, &time.as_millisecond().to_le_bytes());
        }
    }
    if facts.since > 0 {
        write_field(out, tag::SINCE, &facts.since.to_le_bytes());
    }
}

/// A field of a later version is skipped: what it says is lost on this one, the rest is not.
fn read_facts(body: &[u8], interner: &Interner) -> Result<Facts, CodecError> {
    let mut facts = Facts::default();
    let mut groups: Option<Vec<&str>> = None;
    let mut apps: Option<Vec<&str>> = None;
    for field in Fields(body) {
        let (tag, value) = field?;
        if let Some((_, flag)) = FLAGS.iter().find(|(known, _)| *known == tag) {
            facts.flags.set(*flag, Some(read_flag(value)?));
            continue;
        }
        match tag {
            tag::USER => {
                let user = UserKey::new(read_text(value)?);
                facts.user = Some(user.map_err(|_| CodecError::Value("a user"))?);
            }
            tag::REASON => facts.reason = Some(interner.symbol(read_text(value)?)),
            tag::PLATFORM => facts.platform = Some(interner.symbol(read_text(value)?)),
            tag::MODEL => facts.model = Some(interner.symbol(read_text(value)?)),
            tag::OS_VERSION => facts.os_version = Some(interner.symbol(read_text(value)?)),
            tag::OWNERSHIP => facts.ownership = Some(interner.symbol(read_text(value)?)),
            tag::SOURCE => facts.source = Some(interner.symbol(read_text(value)?)),
            tag::GROUPS => groups = Some(Vec::new()),
            tag::GROUP => read_item(&mut groups, value, GROUPS_MAX)?,
            tag::APPS => apps = Some(Vec::new()),
            tag::APP => read_item(&mut apps, value, APPS_MAX)?,
            tag::VERDICT => facts.verdict = Some(read_verdict(value)?),
            tag::LAST_SEEN => facts.last_seen = PackedTime::new(Some(read_time(value)?)),
            tag::UPDATED => facts.updated = PackedTime::new(Some(read_time(value)?)),
            tag::SINCE => {
                let bytes = value.try_into();
                facts.since = u32::from_le_bytes(bytes.map_err(|_| CodecError::Value("a time"))?);
            }
            _ => {}
        }
    }
    facts.groups = groups.map(|names| interner.words(names.into_iter()));
    facts.apps = apps.map(|names| interner.words(names.into_iter()));
    Ok(facts)
}

fn read_item<'b>(
    list: &mut Option<Vec<&'b str>>,
    value: &'b [u8],
    most: usize,
) -> Result<(), CodecError> {
    let list = list.get_or_insert_default();
    if list.len() >= most {
        return Err(CodecError::Value("a list of a record"));
    }
    list.push(read_text(value)?);
    Ok(())
}

fn write_override(out: &mut Vec<u8>, set: &Override) {
    write_field(out, tag::VERDICT, &[verdict_number(set.verdict)]);
    if let Some(reason) = &set.reason {
        write_field(out, tag::REASON, reason.as_bytes());
    }
    if let Some(expires) = set.expires {
        write_field(out, tag::EXPIRES, &expires.as_millisecond().to_le_bytes());
    }
}

fn write_order(out: &mut Vec<u8>, order: &Order) {
    write_field(out, tag::ORDER_KIND, &[number(&ORDER_KINDS, &order.kind)]);
    write_field(
        out,
        tag::ORDER_STATE,
        &[number(&ORDER_STATES, &order.state)],
    );
    if let Some(user) = &order.user {
        write_field(out, tag::USER, user.as_str().as_bytes());
    }
    if let Some(reason) = &order.reason {
        write_field(out, tag::REASON, reason.as_bytes());
    }
    for (tag, time) in [(tag::ORDERED, order.ordered), (tag::CHANGED, order.changed)] {
        write_field(out, tag, &time.as_millisecond().to_le_bytes());
    }
}

fn read_order(body: &[u8], interner: &Interner) -> Result<Order, CodecError> {
    let (mut kind, mut state, mut user, mut reason) = (None, None, None, None);
    let (mut ordered, mut changed) = (None, None);
    for field in Fields(body) {
        match field? {
            (tag::ORDER_KIND, value) => kind = Some(named(&ORDER_KINDS, value)?),
            (tag::ORDER_STATE, value) => state = Some(named(&ORDER_STATES, value)?),
            (tag::USER, value) => {
                let read = UserKey::new(read_text(value)?);
                user = Some(read.map_err(|_| CodecError::Value("a user"))?);
            }
            (tag::REASON, value) => reason = Some(interner.reason(read_text(value)?)),
            (tag::ORDERED, value) => ordered = Some(read_time(value)?),
            (tag::CHANGED, value) => changed = Some(read_time(value)?),
            _ => return Err(CodecError::Unknown("a field of an order")),
        }
    }
    let ends = CodecError::Ends("an order");
    Ok(Order {
        kind: kind.ok_or(ends)?,
        state: state.ok_or(ends)?,
        user,
        reason,
        ordered: ordered.ok_or(ends)?,
        changed: changed.ok_or(ends)?,
    })
}

/// Numbers are on disk: never use one again.
const ORDER_KINDS: [(u8, OrderKind); 4] = [
    (1, OrderKind::Wipe),
    (2, OrderKind::WipeAccount),
    (3, OrderKind::Resync),
    (4, OrderKind::Reprovision),
];
const ORDER_STATES: [(u8, OrderState); 4] = [
    (1, OrderState::Pending),
    (2, OrderState::Given),
    (3, OrderState::Done),
    (4, OrderState::Failed),
];

fn number<T: PartialEq>(table: &[(u8, T)], value: &T) -> u8 {
    let found = table.iter().find(|(_, known)| known == value);
    found.map_or(0, |(number, _)| *number)
}

fn named<T: Copy>(table: &[(u8, T)], value: &[u8]) -> Result<T, CodecError> {
    let unknown = CodecError::Value("an order");
    let [number] = value else { return Err(unknown) };
    let found = table.iter().find(|(known, _)| known == number);
    found.map(|(_, value)| *value).ok_or(unknown)
}

const VERDICTS: [(u8, Verdict); 3] = [
    (1, Verdict::Allow),
    (2, Verdict::Quarantine),
    (3, Verdict::Block),
];

fn verdict_number(verdict: Verdict) -> u8 {
    VERDICTS
        .iter()
        .find(|(_, known)| *known == verdict)
        .map_or(0, |(number, _)| *number)
}

fn read_verdict(value: &[u8]) -> Result<Verdict, CodecError> {
    match value {
        [number] => VERDICTS
            .iter()
            .find(|(known, _)| known == number)
            .map(|(_, verdict)| *verdict)
            .ok_or(CodecError::Value("a verdict")),
        _ => Err(CodecError::Value("a verdict")),
    }
}

fn read_flag(value: &[u8]) -> Result<bool, CodecError> {
    match value {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(CodecError::Value("a flag")),
    }
}

fn read_time(value: &[u8]) -> Result<Timestamp, CodecError> {
    let bytes = value.try_into().map_err(|_| CodecError::Value("a time"))?;
    Ok(from_millisecond(i64::from_le_bytes(bytes)))
}

fn read_text(value: &[u8]) -> Result<&str, CodecError> {
    std::str::from_utf8(value).map_err(|_| CodecError::Value("a text"))
}

struct Fields<'b>(&'b [u8]);

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(u8, &'b [u8]), CodecError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&tag, rest) = self.0.split_first()?;
        self.0 = rest;
        let value = read_bytes(&mut self.0, "a field");
        if value.is_err() {
            self.0 = &[];
        }
        Some(value.map(|value| (tag, value)))
    }
}

fn write_field(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    out.push(tag);
    write_bytes(out, value);
}

fn write_bytes(out: &mut Vec<u8>, value: &[u8]) {
    write_number(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn read_bytes<'b>(bytes: &mut &'b [u8], what: &'static str) -> Result<&'b [u8], CodecError> {
    let length = usize::try_from(read_number(bytes)?).map_err(|_| CodecError::Ends(what))?;
    let (value, rest) = bytes
        .split_at_checked(length)
        .ok_or(CodecError::Ends(what))?;
    *bytes = rest;
    Ok(value)
}

fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        // The low seven bits; the mask makes the cast exact.
        out.push((number & 0x7F) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7F) as u8);
}

fn read_number(bytes: &mut &[u8]) -> Result<u64, CodecError> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(CodecError::Ends("a number"))?;
        *bytes = rest;
        let part = u64::from(byte & 0x7F);
        if part << shift >> shift != part {
            return Err(CodecError::Value("a number"));
        }
        number |= part << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(CodecError::Value("a number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_change_comes_back_as_it_went() {
        let interner = Interner::default();
        let (device, user) = (
            DeviceKey::new("D1").unwrap(),
            UserKey::new("alice@x").unwrap(),
        );
        let full = Facts::of_json(
            r#"{"user":"alice@x","managed":true,"compliant":false,"compromised":false,
               "encrypted":true,"platform":"ios","model":"iPhone15,2","os_version":"18.1",
               "last_seen":"2026-11-22T09:00:00.123Z","profile":true,"ownership":"corporate",
               "groups":["a","b"],"apps":["com.a"],"passcode":true,"attested":false,"revoked":false,"verdict":"quarantine","reason":"ä","updated":"1969-01-01T00:00:00Z"}"#,
            &interner,
        );
        let set = Override {
            verdict: Verdict::Block,
            reason: Some("lost".into()),
            expires: Some(from_millisecond(1_800_000_000_001)),
            revision: 4,
        };
        let bare = Override {
            reason: None,
            expires: None,
            revision: 6,
            ..set.clone()
        };
        let changes = [
            Change::Record {
                device: device.clone(),
                facts: Box::new(full),
            },
            Change::Record {
                device: device.clone(),
                facts: Box::default(),
            },
            Change::Record {
                device: device.clone(),
                facts: Box::new(Facts::of_json(r#"{"groups":[]}"#, &interner)),
            },
            Change::DeviceOverride {
                device: device.clone(),
                set: Box::new(set),
            },
            Change::DeviceOverrideCleared {
                device: device.clone(),
            },
            Change::UserOverride {
                user: user.clone(),
                set: Box::new(bare),
            },
            Change::UserOverrideCleared { user },
            Change::RecordRemoved {
                device: device.clone(),
            },
            Change::Ordered {
                device: device.clone(),
                order: Box::new(Order {
                    kind: OrderKind::WipeAccount,
                    state: OrderState::Failed,
                    user: Some(UserKey::new("alice@x").unwrap()),
                    reason: Some("sold".into()),
                    ordered: from_millisecond(1_800_000_000_002),
                    changed: from_millisecond(1_800_000_000_003),
                }),
            },
            Change::OrderCleared {
                device: device.clone(),
            },
            Change::Forgotten { device },
        ];
        let mut bytes = Vec::new();
        let changes: Vec<_> = (1..)
            .zip(changes)
            .map(|(revision, change)| Sequenced { revision, change })
            .collect();
        changes.iter().for_each(|change| write(&mut bytes, change));
        let mut rest = bytes.as_slice();
        for change in &changes {
            assert_eq!(
                &read(&mut rest).unwrap().unwrap().decode(&interner).unwrap(),
                change
            );
        }
        assert!(read(&mut rest).unwrap().is_none());
    }

    #[test]
    fn fields_of_a_later_version_are_skipped() {
        let interner = Interner::default();
        let mut body = Vec::new();
        write_field(&mut body, 250, b"later");
        write_field(&mut body, tag::MANAGED, &[1]);
        let facts = read_facts(&body, &interner).unwrap();
        assert_eq!(facts.flag(Flag::Managed), Some(true));
    }

    proptest! {
        #[test]
        fn numbers_come_back(number: u64) {
            let mut bytes = Vec::new();
            write_number(&mut bytes, number);
            prop_assert_eq!(read_number(&mut bytes.as_slice()), Ok(number));
        }

        #[test]
        fn any_bytes_end_in_changes_or_an_error(bytes in proptest::collection::vec(0_u8..20, 0..200)) {
            crate::fuzz::journal_changes(&bytes);
        }
    }
}
