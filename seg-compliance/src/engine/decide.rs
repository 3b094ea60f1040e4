//! Judgements: what holds for a request now, of which changes that are not durable yet are a part.

use std::sync::atomic::Ordering;

use super::{Engine, Shared};
use crate::api;
use crate::judge::{Known, Rules, Steps, judge, judge_traced, user_row};
use crate::policy::Moment;
use crate::table::{Entry, Marks, NOTHING_SAID, Says, UserSays};
use crate::{Ask, Decision, DeviceKey, UserKey, UserMode, Verdict};

/// The devices of a user, as they were at one time.
pub(super) struct His {
    pub(super) devices: Vec<DeviceKey>,
    pub(super) marks: Marks,
    /// The number of the last change of one.
    pub(super) version: u32,
}

impl Engine {
    /// The verdict, without a lease.
    #[must_use]
    pub fn decide(&self, ask: &Ask<'_>) -> Decision {
        self.shared.decide_now(ask)
    }

    /// The verdict and every step to it.
    #[must_use]
    pub fn explain(&self, ask: &Ask<'_>) -> api::Explanation {
        let mut steps = Steps::default();
        let (decision, known) = self.shared.explain(ask, &mut steps);
        let wire = api::Decision::from(&decision);
        api::Explanation {
            identity: serde_json::Map::new(),
            verdict: wire.verdict,
            step: wire.step,
            rule: wire.rule,
            reason: wire.reason,
            revision: wire.revision,
            enforced: wire.enforced,
            known,
            steps: steps.0,
        }
    }
}

impl Shared {
    /// The time of a judgement that begins now.
    pub(super) fn moment(&self) -> Moment<'_> {
        Moment::new(&*self.clock)
    }

    /// What is said of a user; mostly nothing of anybody, and that is two looks.
    #[inline]
    pub(super) fn says(&self, user: Option<&UserKey>) -> Says {
        if self.is_anyone_spoken_of() {
            self.says_of(user)
        } else {
            Says::default()
        }
    }

    /// Whether anything is said of any user.
    #[inline(always)]
    fn is_anyone_spoken_of(&self) -> bool {
        self.users.is_anyone_spoken_of() || self.ranked.load(Ordering::SeqCst)
    }

    #[cold]
    #[inline(never)]
    fn says_of(&self, user: Option<&UserKey>) -> Says {
        let mut says = self.users.says(user);
        if self.ranked.load(Ordering::SeqCst)
            && let Some(user) = user
        {
            let devices = self
                .users
                .read(user, |entry| entry.map_or(0, |entry| entry.devices.len()));
            says.next_rank = u16::try_from(devices + 1).unwrap_or(u16::MAX);
        }
        says
    }

    /// The verdict at this moment. Most are of a device of which there is nothing to say, asked for
    /// while nothing is said of any user; for those nothing else is made, not even the moment.
    #[inline(always)]
    fn decide_now(&self, ask: &Ask<'_>) -> Decision {
        let (Some(device), false) = (ask.device, self.is_anyone_spoken_of()) else {
            return self.decide(ask, &self.moment());
        };
        self.devices
            .read_ruled(device, |rules, entry| match at_once(rules, ask, entry) {
                Some(decision) => {
                    debug_assert_eq!(decision, self.judge_now(rules, ask, entry));
                    decision
                }
                None => self.judge_now(rules, ask, entry),
            })
    }

    #[inline(never)]
    fn judge_now(&self, rules: &Rules, ask: &Ask<'_>, entry: Option<&Entry>) -> Decision {
        self.judge_whole(rules, ask, entry, &NOTHING_SAID, &self.moment())
    }

    pub(super) fn decide(&self, ask: &Ask<'_>, moment: &Moment<'_>) -> Decision {
        let says = self.says(ask.user);
        match ask.device {
            Some(device) => self.devices.read_ruled(device, |rules, entry| {
                self.judge_entry(rules, ask, entry, &says, moment)
            }),
            None => self.decide_as(ask, &says, moment),
        }
    }

    /// The verdict, as if `says` was said of the user.
    pub(super) fn decide_as(
        &self,
        ask: &Ask<'_>,
        says: &UserSays,
        moment: &Moment<'_>,
    ) -> Decision {
        self.decide_under(&self.rules.load(), ask, says, moment)
    }

    /// The verdict under these rules.
    pub(super) fn decide_under(
        &self,
        rules: &Rules,
        ask: &Ask<'_>,
        says: &UserSays,
        moment: &Moment<'_>,
    ) -> Decision {
        match (ask.device, ask.user) {
            (Some(device), _) => self.devices.read(device, |entry| {
                self.judge_entry(rules, ask, entry, says, moment)
            }),
            (None, Some(user)) => {
                let devices = self.devices_of(user).devices;
                self.judge_user(rules, ask, &devices, says, moment, &mut Vec::new())
            }
            (None, None) => self.judge_entry(rules, ask, None, says, moment),
        }
    }

    fn explain(&self, ask: &Ask<'_>, steps: &mut Steps) -> (Decision, bool) {
        let rules = self.rules.load();
        let owner = match ask.device {
            Some(device) if ask.user.is_none() => self.devices.read(device, |entry| {
                entry.and_then(|entry| entry.owner().cloned())
            }),
            _ => None,
        };
        let ask = &Ask {
            user: ask.user.or(owner.as_ref()),
            ..*ask
        };
        let (says, moment) = (self.says(ask.user), self.moment());
        let traced = |device: Option<&DeviceKey>, ask: &Ask<'_>, steps: &mut Steps| match device {
            Some(device) => self.devices.read(device, |entry| {
                let known = entry.is_some_and(|entry| {
                    entry.known
                        && (ask.user.is_none()
                            || entry.owner().is_none_or(|owner| Some(owner) == ask.user))
                });
                (
                    self.trace_entry(&rules, ask, entry, &says, &moment, steps),
                    known,
                )
            }),
            None => (
                self.trace_entry(&rules, ask, None, &says, &moment, steps),
                false,
            ),
        };
        let (None, Some(user)) = (ask.device, ask.user) else {
            return traced(ask.device, ask, steps);
        };
        let devices = self.devices_of(user).devices;
        let mut verdicts = Vec::new();
        let decision = self.judge_user(&rules, ask, &devices, &says, &moment, &mut verdicts);
        let decisive = verdicts
            .iter()
            .find(|(_, held)| *held == decision)
            .map(|(key, _)| key);
        let rows: Vec<_> = verdicts
            .iter()
            .map(|(key, held)| (key.to_string(), held.verdict))
            .collect();
        steps
            .0
            .push(user_row(&rules.settings, &rows, decision.verdict));
        traced(decisive, ask, steps);
        (decision, !devices.is_empty())
    }

    /// The verdict for a device. While a change is not durable, the stricter of before and after;
    /// device and user can each be in that state.
    #[inline(always)]
    pub(super) fn judge_entry(
        &self,
        rules: &Rules,
        ask: &Ask<'_>,
        entry: Option<&Entry>,
        says: &UserSays,
        moment: &Moment<'_>,
    ) -> Decision {
        if says.is_nothing()
            && let Some(decision) = at_once(rules, ask, entry)
        {
            debug_assert_eq!(decision, self.judge_whole(rules, ask, entry, says, moment));
            return decision;
        }
        self.judge_whole(rules, ask, entry, says, moment)
    }

    #[inline(never)]
    fn judge_whole(
        &self,
        rules: &Rules,
        ask: &Ask<'_>,
        entry: Option<&Entry>,
        says: &UserSays,
        moment: &Moment<'_>,
    ) -> Decision {
        let pends = entry.is_some_and(|entry| entry.before.is_some()) || !says.before.is_empty();
        if pends {
            return self.strictest(rules, ask, entry, says, moment).0;
        }
        judge(rules, ask, current(entry, says), moment)
    }

    fn trace_entry(
        &self,
        rules: &Rules,
        ask: &Ask<'_>,
        entry: Option<&Entry>,
        says: &UserSays,
        moment: &Moment<'_>,
        steps: &mut Steps,
    ) -> Decision {
        let (_, known) = self.strictest(rules, ask, entry, says, moment);
        judge_traced(rules, ask, known, moment, steps)
    }

    #[cold]
    fn strictest<'a>(
        &self,
        rules: &Rules,
        ask: &Ask<'_>,
        entry: Option<&'a Entry>,
        says: &'a UserSays,
        moment: &Moment<'_>,
    ) -> (Decision, Known<'a>) {
        let user = says.current.as_ref();
        let current = current(entry, says);
        let mut strictest = (judge(rules, ask, current, moment), current);
        let mut also = |known: Known<'a>| {
            let decision = judge(rules, ask, known, moment);
            if decision.verdict > strictest.0.verdict {
                strictest = (decision, known);
            }
        };
        let befores = || entry.into_iter().flat_map(Entry::befores);
        befores().for_each(|before| also(before.known(user)));
        for user in &says.before {
            let user = user.as_ref();
            also(Known { user, ..current });
            befores().for_each(|before| also(before.known(user)));
        }
        strictest
    }

    /// The verdict for a request without a device, over the user's known devices; a user with none
    /// is an unknown device. While a change is not durable, the stricter of before and after, taken
    /// over all his devices together: a new device is none of his before.
    pub(super) fn judge_user(
        &self,
        rules: &Rules,
        ask: &Ask<'_>,
        devices: &[DeviceKey],
        says: &UserSays,
        moment: &Moment<'_>,
        verdicts: &mut Vec<(DeviceKey, Decision)>,
    ) -> Decision {
        let mut strictest: Option<Decision> = None;
        for user in std::iter::once(&says.current).chain(&says.before) {
            let user = user.as_ref();
            let (mut now, mut was, mut pending) = (Vec::new(), Vec::new(), false);
            for device in devices {
                let ask = Ask {
                    device: Some(device),
                    ..*ask
                };
                let judged = |known: Known<'_>| {
                    let his = known
                        .facts
                        .is_some_and(|facts| facts.user.as_ref() == ask.user);
                    his.then(|| {
                        let decision = judge(rules, &ask, known, moment);
                        (device.clone(), decision)
                    })
                };
                self.devices.read(device, |entry| {
                    let Some(entry) = entry else { return };
                    let current = judged(entry.current(user));
                    let mut befores = entry.befores().peekable();
                    if befores.peek().is_some() {
                        pending = true;
                        let his = befores.filter_map(|before| judged(before.known(user)));
                        was.extend(his.max_by_key(|(_, decision)| decision.verdict));
                    } else {
                        was.extend(current.clone());
                    }
                    now.extend(current);
                });
            }
            for list in [Some(now), pending.then_some(was)].into_iter().flatten() {
                let nothing = Known {
                    user,
                    ..Known::NOTHING
                };
                let decision = chosen(rules.settings.user_mode, &list)
                    .unwrap_or_else(|| judge(rules, ask, nothing, moment));
                if strictest
                    .as_ref()
                    .is_none_or(|held| decision.verdict > held.verdict)
                {
                    strictest = Some(decision);
                    *verdicts = list;
                }
            }
        }
        strictest.unwrap_or_else(|| self.judge_entry(rules, ask, None, says, moment))
    }

    /// The user's devices.
    pub(super) fn devices_of(&self, user: &UserKey) -> His {
        let (marks, version) = self.users.read(user, |entry| {
            entry.map_or_else(Default::default, |entry| {
                (entry.devices.clone(), entry.version)
            })
        });
        let mut devices = Vec::with_capacity(marks.len());
        for mark in &marks {
            self.devices
                .marked(*mark, |device| devices.push(device.clone()));
        }
        His {
            devices,
            marks,
            version,
        }
    }
}

/// The verdict for a device of which there is nothing to say; `None`: there may be something.
#[inline(always)]
fn at_once(rules: &Rules, ask: &Ask<'_>, entry: Option<&Entry>) -> Option<Decision> {
    entry?.plain()?.judged(rules, ask)
}

/// What is known as it will be when everything is durable.
#[inline(always)]
fn current<'a>(entry: Option<&'a Entry>, says: &'a UserSays) -> Known<'a> {
    let user = says.current.as_ref();
    let Some(entry) = entry else {
        return Known {
            user,
            next_rank: says.next_rank,
            ..Known::NOTHING
        };
    };
    Known {
        next_rank: says.next_rank,
        ..entry.current(user)
    }
}

/// The decision for a user among those for his devices; `None`: he has none.
fn chosen(mode: UserMode, devices: &[(DeviceKey, Decision)]) -> Option<Decision> {
    let decisions = || devices.iter().map(|(_, decision)| decision);
    let mildest = decisions().min_by_key(|decision| decision.verdict);
    let strictest = decisions().max_by_key(|decision| decision.verdict);
    let blocked = strictest.is_some_and(|decision| decision.verdict == Verdict::Block);
    match mode {
        UserMode::AllCompliant => strictest,
        UserMode::BlockIfAnyBlocked if blocked => strictest,
        UserMode::AnyCompliant | UserMode::BlockIfAnyBlocked => mildest,
    }
    .cloned()
}
