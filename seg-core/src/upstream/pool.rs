//! Idle connections of one core.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::closer::Closer;
use super::connection::Connection;
use super::target::Target;

/// How often idle connections are looked through.
const SWEEP: Duration = Duration::from_secs(5);

/// The bounds of a pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolSettings {
    /// How long a connection may idle. Below the 120 s after which IIS closes, so that it is us
    /// who close and no request meets a connection that is just going away.
    pub idle_timeout: Duration,
    /// Idle connections kept at most, over all targets. A pool belongs to one core: divide what
    /// the process may hold by the number of cores.
    pub max_idle: usize,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(90),
            max_idle: 1024,
        }
    }
}

/// A fingerprint of a client's identity that means nothing outside of the process (a truncated
/// HMAC, say): it keeps connections that carried a connection-bound login (Negotiate, NTLM)
/// apart.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct IdentityHash([u8; 16]);

impl IdentityHash {
    /// Wraps a fingerprint; equal bytes mean the same identity.
    #[must_use]
    pub const fn new(fingerprint: [u8; 16]) -> Self {
        Self(fingerprint)
    }
}

impl fmt::Debug for IdentityHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityHash(..)")
    }
}

/// What makes two connections interchangeable. A target stands for its TLS settings too; a
/// private connection belongs to one identity from its first request to its end.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Key {
    target: u64,
    private: Option<IdentityHash>,
}

impl Key {
    pub(super) fn new(target: &Target, private: Option<IdentityHash>) -> Self {
        Self {
            target: target.id(),
            private,
        }
    }

    /// The same identity's, at another target.
    pub(super) fn at(self, target: &Target) -> Self {
        Self {
            target: target.id(),
            ..self
        }
    }
}

/// The connections of one core that wait for the next request, per target and identity. The one
/// used last is used next, so that as few as possible stay warm and the rest can go.
///
/// Cloning gives another handle to the same pool.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    settings: PoolSettings,
    idle: Mutex<Idle>,
    closer: Closer,
    counts: Counts,
}

#[derive(Default)]
struct Idle {
    /// Oldest first.
    #[expect(
        clippy::vec_box,
        reason = "connections travel as the pointer that they came as"
    )]
    stacks: AHashMap<Key, Vec<Box<Connection>>>,
    total: usize,
}

#[derive(Default)]
struct Counts {
    opened: AtomicU64,
    reused: AtomicU64,
    discarded: AtomicU64,
    replays: AtomicU64,
    reconnects: AtomicU64,
}

/// What a pool has done since its start, and holds now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PoolStats {
    /// Connections opened.
    pub opened: u64,
    /// Requests that found an idle connection.
    pub reused: u64,
    /// Idle connections found closed, too old or talking out of turn.
    pub discarded: u64,
    /// Requests sent once more after a reused connection had given no byte.
    pub replays: u64,
    /// Requests moved to a fresh connection before one byte of them had left.
    pub reconnects: u64,
    /// Idle connections now.
    pub idle: usize,
    /// Abandoned connections that wait to be closed now.
    pub closing: usize,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(settings: PoolSettings) -> Self {
        Self(Arc::new(Shared {
            settings,
            idle: Mutex::default(),
            closer: Closer::default(),
            counts: Counts::default(),
        }))
    }

    /// What the pool has done and holds.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let counts = &self.0.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        PoolStats {
            opened: read(&counts.opened),
            reused: read(&counts.reused),
            discarded: read(&counts.discarded),
            replays: read(&counts.replays),
            reconnects: read(&counts.reconnects),
            idle: self.0.idle.lock().total,
            closing: self.0.closer.waiting(),
        }
    }

    /// Keeps the pool in order for as long as it is polled: closes connections that idle too
    /// long or that the server has closed, and abandoned ones a few at a time. Run it once per
    /// pool, on the pool's core.
    pub async fn tend(self) {
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let closing = self.0.closer.run();
        let mut closing = std::pin::pin!(closing);
        loop {
            tokio::select! {
                _ = sweep.tick() => self.sweep(),
                () = &mut closing => return,
            }
        }
    }

    /// Closes every idle connection, for a drain or after a change of certificates.
    pub fn clear(&self) {
        let stacks = {
            let mut idle = self.0.idle.lock();
            idle.total = 0;
            std::mem::take(&mut idle.stacks)
        };
        drop(stacks);
    }

    /// Closes the idle connections of one identity, which will not come back.
    pub fn close_private(&self, identity: IdentityHash) {
        let gone: Vec<_> = {
            let mut idle = self.0.idle.lock();
            let idle = &mut *idle;
            let gone: Vec<_> = idle
                .stacks
                .extract_if(|key, _| key.private == Some(identity))
                .collect();
            let count: usize = gone.iter().map(|(_, stack)| stack.len()).sum();
            idle.total = idle.total.saturating_sub(count);
            gone
        };
        // After the lock: closing is a system call.
        drop(gone);
    }

    /// The idle connection used last, if it still lives.
    pub(super) fn take(&self, key: &Key) -> Option<Box<Connection>> {
        let timeout = self.0.settings.idle_timeout;
        let mut dead = Vec::new();
        let found = {
            let mut idle = self.0.idle.lock();
            let idle = &mut *idle;
            let stack = idle.stacks.get_mut(key)?;
            loop {
                let Some(mut connection) = stack.pop() else {
                    break None;
                };
                idle.total = idle.total.saturating_sub(1);
                if connection.idle_since.elapsed() < timeout && connection.is_quiet() {
                    break Some(connection);
                }
                dead.push(connection);
            }
        };
        if !dead.is_empty() {
            self.0
                .counts
                .discarded
                .fetch_add(dead.len() as u64, Ordering::Relaxed);
        }
        if found.is_some() {
            self.0.counts.reused.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    /// Takes a connection back at the clean end of an exchange.
    pub(super) fn put(&self, mut connection: Box<Connection>) {
        // Somebody, maybe on another core, waits for the place that it takes.
        if connection.target().standing().is_waited_for() {
            return;
        }
        // Whether it is silent is asked when it is taken: right before it is used again.
        if connection.is_left_behind() {
            self.0.counts.discarded.fetch_add(1, Ordering::Relaxed);
            return;
        }
        connection.reused = true;
        connection.idle_since = Instant::now();
        connection.timer.let_go();
        let mut idle = self.0.idle.lock();
        if idle.total >= self.0.settings.max_idle {
            // Dropped after the lock: closing is a system call.
            drop(idle);
            drop(connection);
            return;
        }
        idle.total += 1;
        idle.stacks
            .entry(*connection.key())
            .or_default()
            .push(connection);
    }

    /// Closes a connection whose exchange was given up, when there is time for it.
    pub(super) fn close_later(&self, connection: Box<Connection>) {
        self.0.closer.push(connection);
    }

    pub(super) fn count_opened(&self) {
        self.0.counts.opened.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_replay(&self) {
        self.0.counts.replays.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_reconnect(&self) {
        self.0.counts.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    fn sweep(&self) {
        let timeout = self.0.settings.idle_timeout;
        let mut dead = Vec::new();
        {
            let mut idle = self.0.idle.lock();
            let idle = &mut *idle;
            for stack in idle.stacks.values_mut() {
                dead.extend(stack.extract_if(.., |connection| {
                    connection.idle_since.elapsed() >= timeout
                        || connection.target().standing().is_waited_for()
                        || !connection.is_quiet()
                        || connection.is_left_behind()
                }));
            }
            idle.stacks.retain(|_, stack| !stack.is_empty());
            idle.total = idle.total.saturating_sub(dead.len());
        }
        self.0
            .counts
            .discarded
            .fetch_add(dead.len() as u64, Ordering::Relaxed);
    }
}
