//! The verdict: one pure function of what is known, asked and set, used by every question.
//!
//! Whoever decides, explains or judges again calls [`judge`]; the explanation is the same walk with
//! a pen in hand, so the two can't disagree.

mod trace;

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;

use crate::clock::Clock;
use crate::policy::{Policies, Subject};
use crate::record::Facts;
use crate::{Ask, Decision, Mode, Settings, Step, Verdict};
pub(crate) use trace::{Silent, Steps, Trace, user_row};

/// What is in force besides the facts: swapped whole.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) settings: Settings,
    pub(crate) policies: Policies,
}

/// An administrator's word for a device or a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Override {
    pub(crate) verdict: Verdict,
    pub(crate) reason: Option<Arc<str>>,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) revision: u64,
}

impl Override {
    pub(crate) fn expired(&self, clock: &dyn Clock) -> bool {
        self.expires.is_some() && self.ends_by(clock.now())
    }

    pub(crate) fn ends_by(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// One state of what is known about a device and a user.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    /// The record; `None`: there is none.
    pub(crate) facts: Option<&'a Facts>,
    pub(crate) device: Option<&'a Override>,
    pub(crate) user: Option<&'a Override>,
    /// The last change of the device.
    pub(crate) revision: u64,
}

impl Known<'_> {
    pub(crate) const NOTHING: Known<'static> = Known {
        facts: None,
        device: None,
        user: None,
        revision: 0,
    };
}

static NOT_COMPLIANT: LazyLock<Arc<str>> = LazyLock::new(|| "not_compliant".into());
static UNKNOWN_DEVICE: LazyLock<Arc<str>> = LazyLock::new(|| "unknown_device".into());
static USER_MISMATCH: LazyLock<Arc<str>> = LazyLock::new(|| "user_mismatch".into());
static DEVICE: LazyLock<Arc<str>> = LazyLock::new(|| "device".into());
static USER: LazyLock<Arc<str>> = LazyLock::new(|| "user".into());

/// The verdict for `ask`:
/// 1. an unexpired override: of the device's and the user's the stricter; a device's `allow` holds
///    only for its record's user;
/// 2. the verdict that the MDM pushed, or `not_compliant`;
/// 3. policies in file order;
/// 4. the default for a known or an unknown device.
///
/// A record with a user speaks of that user only; another user's device is unknown. A record
/// without a user, and an override of a device without a record, hold for everybody.
pub(crate) fn judge<T: Trace>(
    rules: &Rules,
    clock: &dyn Clock,
    ask: &Ask<'_>,
    known: Known<'_>,
    trace: &mut T,
) -> Decision {
    let mismatch = match (known.facts.and_then(|facts| facts.user.as_ref()), ask.user) {
        (Some(owner), Some(user)) => owner != user,
        _ => false,
    };
    let known = Known {
        facts: known.facts.filter(|_| !mismatch),
        ..known
    };
    let decision = by_override(clock, known, mismatch)
        .or_else(|| by_mdm(known))
        .or_else(|| by_policy(rules, ask, known))
        .unwrap_or_else(|| by_default(rules, known, mismatch));
    let decision = Decision {
        revision: known.revision.max(known.user.map_or(0, |set| set.revision)),
        enforced: rules.settings.mode == Mode::Enforce,
        ..decision
    };
    trace.walk(rules, clock, ask, known, mismatch, &decision);
    decision
}

/// Revision and mode are filled in by [`judge`].
fn found(
    step: Step,
    verdict: Verdict,
    rule: Option<&Arc<str>>,
    why: Option<&Arc<str>>,
) -> Decision {
    Decision {
        verdict,
        step,
        rule: rule.cloned(),
        reason: why.cloned(),
        revision: 0,
        enforced: true,
    }
}

fn by_override(clock: &dyn Clock, known: Known<'_>, mismatch: bool) -> Option<Decision> {
    let device = known
        .device
        .filter(|set| !(mismatch && set.verdict == Verdict::Allow))
        .filter(|set| !set.expired(clock));
    let user = known.user.filter(|set| !set.expired(clock));
    let (set, rule) = match (device, user) {
        (Some(device), Some(user)) if user.verdict > device.verdict => (user, &*USER),
        (Some(device), _) => (device, &*DEVICE),
        (None, Some(user)) => (user, &*USER),
        (None, None) => return None,
    };
    Some(found(
        Step::Override,
        set.verdict,
        Some(rule),
        set.reason.as_ref(),
    ))
}

/// `allow` is a fact for the last step, never a way around the policies; but who pushed it has
/// spoken, so `compliant` is not asked.
fn by_mdm(known: Known<'_>) -> Option<Decision> {
    let facts = known.facts?;
    match (facts.verdict, facts.compliant) {
        (Some(Verdict::Allow), _) => None,
        (Some(verdict), _) => Some(found(Step::Mdm, verdict, None, facts.reason.as_ref())),
        (None, Some(false)) => Some(found(Step::Mdm, Verdict::Block, None, Some(&NOT_COMPLIANT))),
        (None, _) => None,
    }
}

fn by_policy(rules: &Rules, ask: &Ask<'_>, known: Known<'_>) -> Option<Decision> {
    if rules.policies.is_empty() {
        return None;
    }
    let subject = Subject {
        ask,
        facts: known.facts,
    };
    rules.policies.iter().find_map(|policy| {
        let verdict = policy.verdict()?;
        policy.fires(&subject).then(|| {
            found(
                Step::Policy,
                verdict,
                Some(policy.id()),
                Some(policy.reason().unwrap_or_else(|| policy.id())),
            )
        })
    })
}

fn by_default(rules: &Rules, known: Known<'_>, mismatch: bool) -> Decision {
    let settings = &rules.settings;
    match known.facts {
        Some(_) => found(Step::Default, settings.known_device, None, None),
        None => {
            let reason = if mismatch {
                &*USER_MISMATCH
            } else {
                &*UNKNOWN_DEVICE
            };
            found(Step::Default, settings.unknown_device, None, Some(reason))
        }
    }
}
