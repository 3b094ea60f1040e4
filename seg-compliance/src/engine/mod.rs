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
mod decide;
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
use crate::judge::Rules;
use crate::policy::Policies;
use crate::table::{Devices, LaneAsk, Lanes, LeaseRef, SEEN_MAX, Seen, Users};
use crate::{Decision, DeviceKey, Settings};
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

#[cfg(test)]
mod tests;
