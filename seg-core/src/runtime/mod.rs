//! What runs where.
//!
//! One `current_thread` tokio runtime per core serves clients: each with its own listeners, its own
//! upstream connections and its own commands, so that nothing on a request's path wakes another
//! core. A second, multi-thread runtime carries the admin API, timers, health checks, and
//! everything that blocks or computes for long.

mod administered;
mod administration;
mod background;
mod besides;
mod core;
mod cutter;
mod explained;
mod gateway;
mod reload;
pub mod service;
mod silence;
mod slots;
mod snapshot;

pub(crate) use self::administration::Administration;
pub use self::core::Core;
pub use besides::Doors;
pub use gateway::{Gateway, StartError, StartOptions};
pub use reload::{ReloadRefused, Reloader};
pub use slots::{CutOrder, Signal, Slots, Ticket};
pub use snapshot::{Snapshot, SnapshotError};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use seg_compliance::Engine;

use crate::binding::Bindings;
use crate::decide::{Folders, Proofs, Rates, Restarts, Withheld, callout, misses};
use crate::identify::DigestKey;
use crate::outbound::Outbound;
use crate::protocol::PollMemory;
use crate::protocol::ews::EwsMemory;
use crate::redirect::Moves;
use crate::telemetry::metrics::Metrics;
use crate::tls::revocation::Revocations;
use crate::webhook;

/// What all cores share. Read on the path of a request, written from outside of it.
pub struct Shared {
    snapshot: ArcSwap<Snapshot>,
    /// The engine that decides.
    pub engine: Arc<Engine>,
    /// Whose devices are.
    pub bindings: Bindings,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Which client certificates were revoked.
    pub revocations: Revocations,
    /// The gateway's own requests.
    pub outbound: Outbound,
    /// Answers of the decision service that `callout.url` names.
    pub callouts: callout::Answers,
    /// Unknown devices that sources were asked for.
    pub misses: misses::Misses,
    /// Signatures of webhook calls.
    pub webhooks: webhook::Used,
    /// Which credentials the servers have accepted.
    pub proofs: Proofs,
    /// Attachments that a device must not fetch, and the rule that says so.
    pub withheld: Withheld,
    /// What the folders of devices are.
    pub folders: Folders,
    /// What has begun anew since it was ordered to.
    pub restarts: Restarts,
    /// How often devices ask.
    pub rates: Rates,
    /// Which polls devices asked for last.
    pub polls: PollMemory,
    /// What is remembered for EWS.
    pub ews: EwsMemory,
    /// The key of credential fingerprints.
    pub digest_key: DigestKey,
    /// Which users have moved to another server.
    pub moves: Moves,
    draining: AtomicBool,
    listening: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("generation", &self.snapshot().generation)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// The configuration as it is now. A request takes it once and keeps it to its end.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Whether the gateway is about to stop: `/lb-health` says so.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether every listener is open.
    pub fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Relaxed)
    }
}
