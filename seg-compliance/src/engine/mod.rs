//! The engine: who may have mail, and what is in flight.
//!
//! # The life of a block
//!
//! 1. `block` reaches [`Engine::override_device`]. Under the sequencer's lock the change gets its
//!    revision and is stored in the device's entry; from this instant [`Engine::admit`] refuses,
//!    because it reads the verdict and hands out its lease under the same entry's lock. The state
//!    that was durable stays beside it (`Before`): until the journal has flushed, the stricter of
//!    the two holds, so a block works at once and an unblock only when it can't be lost.
//! 2. The change is queued for the journal's writer thread; the lock is let go.
//! 3. The leases that stood in the entry are judged again, each with what it had asked; those that
//!    are refused are taken out of the entry, and each core gets one [`Cutter::cut`] with all of
//!    its own. Who took a lease out is the only one to cut it.
//! 4. The writer thread flushes, drops `Before`, publishes `change` and `decision`, and wakes the
//!    caller: now the block is acknowledged.
//!
//! Time changes verdicts too: an override ends, a device has been silent for too long, a window
//! opens. Whoever judges notes until when the verdict stands ([`crate::policy`]); a request in
//! flight carries that time in its lane, and [`Engine::tick`] judges again what is due.
//!
//! An override of a user, settings and policies don't stand in the device's entry. Whoever changes
//! them stores first, raises the epoch, then judges all leases in the lanes again; `admit` has put
//! its request into its lane before it judged, and reads the epoch again after it registered. So
//! one of the two always sees the other.
//!
//! Requests without a device stand in the entry of their user, under the number of the last change
//! of one of his devices (`version`), which registration compares.

mod admit;
mod audit;
mod change;
mod expiry;
mod feed;
mod import;
mod open;
mod orders;
mod plan;
mod ranks;
mod report;
mod settle;
mod sources;
mod succession;
mod view;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use crate::api;
use crate::clock::Clock;
use crate::intern::Interner;
use crate::journal::{Store, Writer};
use crate::judge::{Known, Rules, Steps, judge, judge_traced, user_row};
use crate::policy::{Moment, Policies};
use crate::table::{
    Devices, Entry, LaneAsk, Lanes, LeaseRef, Marks, NOTHING_SAID, SEEN_MAX, Says, Seen, UserSays,
    Users,
};
use crate::{Ask, Decision, DeviceKey, Settings, UserKey, UserMode, Verdict};
pub use admit::{Admission, Lease};
pub use audit::Period;
pub use feed::{Feed, Gone};
pub use import::{IMPORT_ERRORS_MAX, Import, ImportMode, ImportOptions, Refused, SOURCE_DEFAULT};
pub use sources::SourceAge;
pub use succession::Relay;
pub use view::{Counts, Filter, PAGE_MAX, Page, Records};

/// Tells the cores which of their requests to end. Called outside every lock, once a core and
/// change.
pub trait Cutter: Send + Sync {
    /// Ends the requests of `core`. A token whose request has ended meanwhile, or whose admission
    /// was refused in the end, is to be ignored.
    fn cut(&self, core: u16, cuts: Vec<Cut>);
}

/// One request to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The token it was admitted with.
    pub token: u64,
    /// Why: the answer to give.
    pub decision: Decision,
}

/// The compliance engine. See the [module](self) for the life of a block.
pub struct Engine {
    shared: Arc<Shared>,
    /// The store; `None`: it was let go of for another process.
    hold: Mutex<Option<Hold>>,
}

/// What is held of a store. In the order in which it is let go of.
struct Hold {
    writer: Writer,
    store: Arc<dyn Store>,
    /// Keeps other gateways out of the data folder.
    _lock: Option<File>,
}

/// The devices of a user, as they were at one time.
struct His {
    devices: Vec<DeviceKey>,
    marks: Marks,
    /// The number of the last change of one.
    version: u32,
}

/// What leases and the journal's writer hold too.
pub(crate) struct Shared {
    devices: Devices,
    users: Users,
    lanes: Lanes,
    seen: Seen,
    interner: Interner,
    rules: ArcSwap<Rules>,
    /// Who changes the rules comes one after the other.
    ruling: Mutex<()>,
    sources: sources::Sources,
    /// The devices of each user have their places; kept from the first policy that looks at them.
    ranked: AtomicBool,
    /// The number of the last entry of the audit trail.
    entries: AtomicU64,
    /// Raised after every change that does not stand in an entry: user overrides, rules.
    epoch: AtomicU64,
    /// Whether a device was ever given an order: until then no request looks for one.
    any_order: AtomicBool,
    cutter: RwLock<Option<Arc<dyn Cutter>>>,
    clock: Arc<dyn Clock>,
    expiries: Mutex<expiry::Expiries>,
    feed: feed::Publisher,
    /// Up to where the process before has put changes in force; where there is none, all are.
    obeyed: tokio::sync::watch::Sender<u64>,
    /// Orders changes: held while a change gets its revision, is stored and queued.
    sequencer: Mutex<change::Sequencer>,
}

impl Engine {
    /// Names who ends requests in flight. Until then cuts are only counted and published.
    pub fn set_cutter(&self, cutter: Arc<dyn Cutter>) {
        *self.shared.cutter.write() = Some(cutter);
    }

    /// Puts settings and policies in force, judges everything in flight again and cuts what they
    /// refuse. `changed`: the properties that changed, for the `reload` event. Answers how many
    /// were cut.
    pub fn configure(&self, settings: Settings, policies: Policies, changed: &[&str]) -> u64 {
        let shared = &self.shared;
        if policies.look_at_ranks() {
            shared.rank_devices();
        }
        let ages = shared
            .sources
            .ages(settings.stale_after, shared.clock.now());
        shared.rule(|held| Rules {
            settings,
            policies,
            generation: held.generation.wrapping_add(1),
            tried: false,
            ages,
        });
        let cut = shared.judge_again(shared.lanes.pick(|_| true));
        shared.feed.publish(|revision| api::Event::Reload {
            revision,
            changed: changed.iter().map(|&key| key.to_owned()).collect(),
        });
        cut
    }

    /// Everybody who uses a device now may be its copy: judges its requests in flight again and
    /// cuts what is refused. Answers how many were cut.
    pub fn suspect(&self, device: &DeviceKey, why: &str) -> u64 {
        let shared = &self.shared;
        shared.judge_again(shared.lanes.suspect(device, why))
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.shared.rules.load().settings
    }

    /// The verdict, without a lease.
    #[must_use]
    pub fn decide(&self, ask: &Ask<'_>) -> Decision {
        self.shared.decide(ask, &self.shared.moment())
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
    fn new(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        let rules = Arc::new(Rules {
            settings,
            ..Rules::default()
        });
        Self {
            devices: Devices::new(&rules),
            users: Users::new(),
            lanes: Lanes::new(),
            seen: Seen::new(SEEN_MAX),
            interner: Interner::default(),
            rules: ArcSwap::new(rules),
            ruling: Mutex::default(),
            sources: sources::Sources::default(),
            ranked: AtomicBool::new(false),
            entries: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            any_order: AtomicBool::new(false),
            cutter: RwLock::new(None),
            clock,
            expiries: Mutex::default(),
            feed: feed::Publisher::new(),
            obeyed: tokio::sync::watch::Sender::new(u64::MAX),
            sequencer: Mutex::default(),
        }
    }

    /// Puts other rules in force; whoever was judged by the former ones is to be judged again.
    fn rule(&self, change: impl FnOnce(&Rules) -> Rules) {
        let turn = self.ruling.lock();
        let rules = Arc::new(change(&self.rules.load()));
        self.rules.store(Arc::clone(&rules));
        self.devices.rule(&rules);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        drop(turn);
    }

    /// The time of a judgement that begins now.
    fn moment(&self) -> Moment<'_> {
        Moment::new(&*self.clock)
    }

    /// What is said of a user; mostly nothing of anybody, and that is two looks.
    #[inline]
    fn says(&self, user: Option<&UserKey>) -> Says {
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

    #[inline(always)]
    fn decide(&self, ask: &Ask<'_>, moment: &Moment<'_>) -> Decision {
        if self.is_anyone_spoken_of() {
            return self.decide_saying(ask, &self.says_of(ask.user), moment);
        }
        // Most verdicts are of this kind, and what is not made needs not be looked through.
        self.decide_in_place(ask, &NOTHING_SAID, moment)
    }

    #[cold]
    #[inline(never)]
    fn decide_saying(&self, ask: &Ask<'_>, says: &UserSays, moment: &Moment<'_>) -> Decision {
        self.decide_in_place(ask, says, moment)
    }

    #[inline(always)]
    fn decide_in_place(&self, ask: &Ask<'_>, says: &UserSays, moment: &Moment<'_>) -> Decision {
        match ask.device {
            Some(device) => self.devices.read_ruled(device, |rules, entry| {
                self.judge_entry(rules, ask, entry, says, moment)
            }),
            None => self.decide_as(ask, says, moment),
        }
    }

    /// The verdict, as if `says` was said of the user.
    fn decide_as(&self, ask: &Ask<'_>, says: &UserSays, moment: &Moment<'_>) -> Decision {
        self.decide_under(&self.rules.load(), ask, says, moment)
    }

    /// The verdict under these rules.
    fn decide_under(
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
    fn judge_entry(
        &self,
        rules: &Rules,
        ask: &Ask<'_>,
        entry: Option<&Entry>,
        says: &UserSays,
        moment: &Moment<'_>,
    ) -> Decision {
        if says.is_nothing()
            && let Some(decision) = entry
                .and_then(Entry::plain)
                .and_then(|plain| plain.judged(rules, ask))
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
    fn judge_user(
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
    fn devices_of(&self, user: &UserKey) -> His {
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

    /// Judges requests in flight again and cuts what is refused now. Answers how many.
    fn judge_again(&self, leases: Vec<LeaseRef>) -> u64 {
        let mut cuts: Vec<(u16, Cut)> = Vec::new();
        for lease in leases {
            let Some(asked) = self.lanes.asked(lease) else {
                continue;
            };
            let moment = self.moment();
            let decision = self.decide(&asked.ask(), &moment);
            self.lanes.stands(lease, moment.until());
            if decision.refuses() && self.detach(&asked, lease) {
                self.feed.publish(|revision| api::Event::Cut {
                    revision,
                    device: asked.device.clone(),
                    user: asked.user.clone(),
                    protocol: asked.protocol,
                    command: asked.command.clone(),
                    decision: api::Decision::from(&decision),
                });
                cuts.push((
                    lease.core,
                    Cut {
                        token: lease.token,
                        decision,
                    },
                ));
            }
        }
        let count = cuts.len() as u64;
        self.send(cuts);
        count
    }

    /// Takes a lease out of the entry it stands in; who succeeds is the one to end it.
    fn detach(&self, asked: &LaneAsk, lease: LeaseRef) -> bool {
        match (&asked.device, &asked.user) {
            (Some(device), _) => self.devices.update(device, |entry| {
                let at = entry.leases.iter().position(|held| *held == lease);
                at.map(|at| entry.leases.swap_remove(at)).is_some()
            }),
            (None, Some(user)) => self.users.update(user, |entry| {
                let leases = entry.rest.as_mut().map(|rest| &mut rest.leases);
                leases.is_some_and(|leases| {
                    let at = leases.iter().position(|held| *held == lease);
                    at.map(|at| leases.swap_remove(at)).is_some()
                })
            }),
            // A request of nobody on nothing stands in no entry: its lane is its entry.
            (None, None) => true,
        }
    }

    /// One command a core, outside every lock.
    fn send(&self, mut cuts: Vec<(u16, Cut)>) {
        if cuts.is_empty() {
            return;
        }
        let Some(cutter) = self.cutter.read().clone() else {
            return;
        };
        cuts.sort_by_key(|(core, _)| *core);
        let mut cuts = cuts.into_iter().peekable();
        while let Some((core, cut)) = cuts.next() {
            let mut of_core = vec![cut];
            while let Some((_, cut)) = cuts.next_if(|(other, _)| *other == core) {
                of_core.push(cut);
            }
            cutter.cut(core, of_core);
        }
    }
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

#[cfg(test)]
mod tests;
