//! The verdict: one pure function of what is known, asked and set, used by every question.
//!
//! Whoever decides, explains or judges again calls [`judge`]; the explanation is the same walk with
//! a pen in hand, so the two can't disagree.

mod memory;
mod trace;

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;

use crate::intern::Symbol;
use crate::policy::{Moment, Policies, Presumed, Subject};
use crate::record::{Facts, Flag};
use crate::{Ask, Decision, Mode, Settings, StaleAnswer, Step, Trial, Verdict};
pub(crate) use memory::Memory;
pub(crate) use trace::{Steps, user_row};

/// How long the facts of sources hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ages {
    of: Arc<[Age]>,
    any_over: bool,
}

/// How long the facts of one source hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Age {
    pub(crate) source: Symbol,
    /// Until then, in milliseconds since 1970.
    pub(crate) until: i64,
    /// That is over.
    pub(crate) over: bool,
}

impl FromIterator<Age> for Ages {
    fn from_iter<I: IntoIterator<Item = Age>>(ages: I) -> Self {
        let of: Arc<[Age]> = ages.into_iter().collect();
        let any_over = of.iter().any(|age| age.over);
        Self { of, any_over }
    }
}

/// What is in force besides the facts: swapped whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) settings: Settings,
    pub(crate) policies: Policies,
    /// Counts what was in force; what is remembered of policies holds for one of them.
    pub(crate) generation: u32,
    /// Rules that are only tried: nothing is remembered under them.
    pub(crate) tried: bool,
    /// How long the facts of sources hold.
    pub(crate) ages: Ages,
}

impl Rules {
    /// How long the facts hold; `None`: for ever.
    fn age(&self, facts: &Facts) -> Option<&Age> {
        let source = facts.source.as_ref()?;
        self.ages.of.iter().find(|age| age.source == *source)
    }

    /// Whether the facts are too old. While those of no source are, that costs a look at one word.
    fn is_stale(&self, facts: &Facts) -> bool {
        self.ages.any_over && self.is_over(facts)
    }

    /// Apart, because the compiler would else look at the record's source in any case: that is a
    /// third cache line of the device's row, as slow as the first two together.
    #[cold]
    #[inline(never)]
    fn is_over(&self, facts: &Facts) -> bool {
        self.age(facts).is_some_and(|age| age.over)
    }
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
    pub(crate) fn expired(&self, moment: &Moment<'_>) -> bool {
        self.expires
            .is_some_and(|expires| moment.reached(expires.as_millisecond()))
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
    /// The device's place among those of its user; 0: nobody asks.
    pub(crate) rank: u16,
    /// The place that a device without a record would take; 0: nobody asks.
    pub(crate) next_rank: u16,
    /// What is remembered of the policies.
    pub(crate) memory: Option<&'a Memory>,
}

impl Known<'_> {
    pub(crate) const NOTHING: Known<'static> = Known {
        facts: None,
        device: None,
        user: None,
        revision: 0,
        rank: 0,
        next_rank: 0,
        memory: None,
    };
}

static NOT_COMPLIANT: LazyLock<Arc<str>> = LazyLock::new(|| "not_compliant".into());
static UNKNOWN_DEVICE: LazyLock<Arc<str>> = LazyLock::new(|| "unknown_device".into());
static USER_MISMATCH: LazyLock<Arc<str>> = LazyLock::new(|| "user_mismatch".into());
static STALE_FACTS: LazyLock<Arc<str>> = LazyLock::new(|| "stale_facts".into());
static SUSPECT: LazyLock<Arc<str>> = LazyLock::new(|| "binding.suspect".into());
static DEVICE: LazyLock<Arc<str>> = LazyLock::new(|| "device".into());
static USER: LazyLock<Arc<str>> = LazyLock::new(|| "user".into());

/// The verdict for `ask`:
/// 1. an unexpired override: of the device's and the user's the stricter; a device's `allow` holds
///    only for its record's user;
/// 2. the verdict that the MDM pushed, or `not_compliant`;
/// 3. `binding.suspect` for a request that may come from a copy of its device; policies in file
///    order;
/// 4. the default for a known or an unknown device.
///
/// A record with a user speaks of that user only; another user's device is unknown. A record
/// without a user, and an override of a device without a record, hold for everybody.
///
/// Where the facts are too old, policies that read them and the default answer as configured for
/// that. An override and what the management system pushed are words, not facts: they don't age.
pub(crate) fn judge(
    rules: &Rules,
    ask: &Ask<'_>,
    known: Known<'_>,
    moment: &Moment<'_>,
) -> Decision {
    Case::new(rules, ask, known, moment).spoken()
}

/// A record of which nothing else is said: no override, no change that is not durable.
#[derive(Clone, Copy)]
pub(crate) struct Plain<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) memory: &'a Memory,
    pub(crate) revision: u64,
}

impl Plain<'_> {
    /// What [`judge`] says where no step before the default has anything to say; `None`: one may
    /// have. Most requests are of devices of which there is nothing to say, and for those nothing is
    /// made that a step would need: a verdict is as fast as few instructions let the processor look
    /// for the next device meanwhile.
    #[inline(always)]
    pub(crate) fn judged(self, rules: &Rules, ask: &Ask<'_>) -> Option<Decision> {
        let (settings, facts) = (&rules.settings, self.facts);
        let suspect = settings.suspect.is_some() && !ask.via.suspect.is_empty();
        if facts.is_spoken_of() | rules.ages.any_over | suspect {
            return None;
        }
        if let (Some(owner), Some(user)) = (&facts.user, ask.user)
            && owner != user
        {
            return None;
        }
        let policies = rules.policies.len();
        if policies > 0 && (rules.tried || !self.memory.is_silent(rules.generation, policies)) {
            return None;
        }
        Some(Decision {
            verdict: settings.known_device,
            step: Step::Default,
            rule: None,
            reason: None,
            revision: self.revision,
            enforced: settings.mode == Mode::Enforce,
            trial: None,
        })
    }
}

/// The verdict, and every step to it.
pub(crate) fn judge_traced(
    rules: &Rules,
    ask: &Ask<'_>,
    known: Known<'_>,
    moment: &Moment<'_>,
    steps: &mut Steps,
) -> Decision {
    let case = Case::new(rules, ask, known, moment);
    let decision = case.spoken();
    steps.walk(&case, &decision);
    decision
}

/// Everything that one judgement looks at.
#[derive(Clone, Copy)]
pub(crate) struct Case<'c> {
    rules: &'c Rules,
    known: Known<'c>,
    mismatch: bool,
    subject: Subject<'c>,
    moment: &'c Moment<'c>,
}

impl<'c> Case<'c> {
    fn new(rules: &'c Rules, ask: &'c Ask<'c>, known: Known<'c>, moment: &'c Moment<'c>) -> Self {
        let mismatch = match (known.facts.and_then(|facts| facts.user.as_ref()), ask.user) {
            (Some(owner), Some(user)) => owner != user,
            _ => false,
        };
        let facts = known.facts.filter(|_| !mismatch);
        let stale = facts.is_some_and(|facts| rules.is_stale(facts));
        Self {
            rules,
            known: Known { facts, ..known },
            mismatch,
            subject: Subject {
                ask,
                facts,
                rank: if facts.is_some() {
                    known.rank
                } else {
                    known.next_rank
                },
                stale: stale.then_some(rules.settings.stale),
            },
            moment,
        }
    }

    /// Every step, in order.
    fn spoken(self) -> Decision {
        let mut trial = None;
        let found = self
            .by_override()
            .or_else(|| self.by_mdm())
            .or_else(|| self.by_suspicion())
            .or_else(|| self.by_policy(self.presumed(), &mut trial));
        let decision = found.unwrap_or_else(|| self.by_default());
        Decision { trial, ..decision }
    }

    fn found(
        &self,
        step: Step,
        verdict: Verdict,
        rule: Option<&Arc<str>>,
        why: Option<&Arc<str>>,
    ) -> Decision {
        let known = &self.known;
        Decision {
            verdict,
            step,
            rule: rule.cloned(),
            reason: why.cloned(),
            revision: known.revision.max(known.user.map_or(0, |set| set.revision)),
            enforced: self.rules.settings.mode == Mode::Enforce,
            trial: None,
        }
    }

    fn by_override(&self) -> Option<Decision> {
        let device = self
            .known
            .device
            .filter(|set| !(self.mismatch && set.verdict == Verdict::Allow))
            .filter(|set| !set.expired(self.moment));
        let user = self.known.user.filter(|set| !set.expired(self.moment));
        let (set, rule) = match (device, user) {
            (Some(device), Some(user)) if user.verdict > device.verdict => (user, &*USER),
            (Some(device), _) => (device, &*DEVICE),
            (None, Some(user)) => (user, &*USER),
            (None, None) => return None,
        };
        let reason = set.reason.as_ref();
        Some(self.found(Step::Override, set.verdict, Some(rule), reason))
    }

    /// `allow` is a fact for the last step, never a way around the policies; but who pushed it has
    /// spoken, so `compliant` is not asked.
    fn by_mdm(&self) -> Option<Decision> {
        let facts = self.known.facts?;
        match (facts.verdict, facts.flag(Flag::Compliant)) {
            (Some(Verdict::Allow), _) => None,
            (Some(verdict), _) => {
                let reason: Option<Arc<str>> =
                    facts.reason.as_ref().map(|reason| reason.as_str().into());
                Some(self.found(Step::Mdm, verdict, None, reason.as_ref()))
            }
            (None, Some(false)) => {
                Some(self.found(Step::Mdm, Verdict::Block, None, Some(&NOT_COMPLIANT)))
            }
            (None, _) => None,
        }
    }

    /// The policy that stands before all others: who may be a copy is not asked what he may.
    fn by_suspicion(&self) -> Option<Decision> {
        let verdict = self.rules.settings.suspect?;
        let suspect = self.subject.ask.via.suspect;
        if suspect.is_empty() {
            return None;
        }
        let reason: Arc<str> = suspect.into();
        Some(self.found(Step::Policy, verdict, Some(&SUSPECT), Some(&reason)))
    }

    /// How far the record decides among the policies: as remembered, or found out now.
    fn presumed(&self) -> Option<Presumed> {
        if self.rules.policies.is_empty() || self.rules.tried || self.subject.facts.is_none() {
            return None;
        }
        // What is remembered was found out from facts that were fresh.
        if self.subject.stale.is_some() {
            return None;
        }
        let memory = self.known.memory?;
        if let Some((presumed, until)) = memory.recall(self.rules.generation, self.moment) {
            if until != Moment::ALWAYS {
                self.moment.note(until);
            }
            return Some(presumed);
        }
        // A moment of its own: what it notes belongs to the policies alone.
        let now = self.moment.sibling();
        let presumed = self.rules.policies.presume(&self.subject, &now);
        memory.keep(self.rules.generation, presumed, now.until());
        if now.until() != Moment::ALWAYS {
            self.moment.note(now.until());
        }
        Some(presumed)
    }

    fn by_policy(&self, presumed: Option<Presumed>, trial: &mut Option<Trial>) -> Option<Decision> {
        if self.rules.policies.is_empty() {
            return None;
        }
        let walked = self
            .rules
            .policies
            .walk(&self.subject, self.moment, presumed);
        *trial = walked.trial.map(|(policy, verdict)| Trial {
            rule: Arc::clone(policy.id()),
            verdict,
        });
        walked.ends.map(|(policy, verdict, stale)| {
            let reason = if stale {
                &*STALE_FACTS
            } else {
                policy.reason().unwrap_or_else(|| policy.id())
            };
            self.found(Step::Policy, verdict, Some(policy.id()), Some(reason))
        })
    }

    fn by_default(&self) -> Decision {
        let settings = &self.rules.settings;
        match (self.known.facts, self.subject.stale) {
            (Some(_), Some(StaleAnswer::Block)) => {
                self.found(Step::Default, Verdict::Block, None, Some(&STALE_FACTS))
            }
            (Some(_), Some(StaleAnswer::Allow)) => {
                self.found(Step::Default, Verdict::Allow, None, None)
            }
            (Some(_), _) => self.found(Step::Default, settings.known_device, None, None),
            (None, _) => {
                let reason = if self.mismatch {
                    &*USER_MISMATCH
                } else {
                    &*UNKNOWN_DEVICE
                };
                self.found(Step::Default, settings.unknown_device, None, Some(reason))
            }
        }
    }
}
