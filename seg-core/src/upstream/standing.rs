//! How a server stands: whether it answers its health checks, whether requests have failed on it
//! lately, how much it has to do.
//!
//! Written by whoever talks to the server, on whatever core; read for every choice among several.
//! All of it is atomics: the path of a request takes no lock here.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// The longest ejection.
const LONGEST: Duration = Duration::from_secs(600);

/// Moments are counted in milliseconds from here, so that one fits into an atomic.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// When a server is left out for requests that failed on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ejection {
    /// After so many failures in a row; 0: never.
    pub after: u32,
    /// For how long the first time. Each time that it fails again at once doubles it, up to ten
    /// minutes.
    pub first: Duration,
}

impl Ejection {
    /// Nobody is ever left out.
    pub const NEVER: Self = Self {
        after: 0,
        first: Duration::ZERO,
    };
}

/// How one server stands. Outlives reloads: a server that is still named keeps it.
#[derive(Debug)]
pub struct Standing {
    up: AtomicBool,
    in_flight: AtomicUsize,
    connections: AtomicUsize,
    /// Those who wait for a connection because of a limit.
    waiting: AtomicUsize,
    /// In a row.
    failures: AtomicU32,
    /// In a row, without a success between them.
    ejections: AtomicU32,
    /// Milliseconds; 0: not ejected.
    ejected_until: AtomicU64,
    /// When it came back; 0: it was never gone.
    back_since: AtomicU64,
    eject_after: AtomicU32,
    eject_first: AtomicU64,
}

/// How a server stands, at one moment, for those who look at it from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StandingNow {
    /// It answers its health checks.
    pub up: bool,
    /// Until when it is left out for failed requests.
    pub ejected_for: Option<Duration>,
    /// Failures in a row.
    pub failures: u32,
    /// Requests that it has not answered to their end.
    pub in_flight: usize,
    /// Connections to it, idle ones included.
    pub connections: usize,
}

/// What a choice among several servers needs to know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fitness {
    /// It may be asked.
    Good,
    /// It has been back for this share of its slow start, in thousandths.
    Warming(u32),
    /// Left out for a while.
    Ejected,
    /// Its health checks fail.
    Down,
}

impl Standing {
    /// A server of which nothing bad is known.
    #[must_use]
    pub fn new(ejection: Ejection) -> Self {
        let standing = Self {
            up: AtomicBool::new(true),
            in_flight: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            back_since: AtomicU64::new(0),
            eject_after: AtomicU32::new(0),
            eject_first: AtomicU64::new(0),
        };
        standing.set_ejection(ejection);
        standing
    }

    /// Puts another rule in force.
    pub fn set_ejection(&self, ejection: Ejection) {
        self.eject_after.store(ejection.after, Ordering::Relaxed);
        self.eject_first
            .store(millis(ejection.first), Ordering::Relaxed);
    }

    /// Whether its health checks succeed. True until they have failed.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// The health checks say so.
    pub fn set_up(&self, up: bool) {
        let before = self.up.swap(up, Ordering::Relaxed);
        if up && !before {
            self.back_since.store(now(), Ordering::Relaxed);
        }
    }

    /// Requests that it has not answered to their end.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether it may be asked; `slow_start` is how long it takes until a server that came back
    /// has its whole share again.
    pub fn fitness(&self, slow_start: Duration) -> Fitness {
        if !self.is_up() {
            return Fitness::Down;
        }
        let until = self.ejected_until.load(Ordering::Relaxed);
        let since = self.back_since.load(Ordering::Relaxed);
        // The clock is not read while all is well.
        if until == 0 && since == 0 {
            return Fitness::Good;
        }
        let now = now();
        if now < until {
            return Fitness::Ejected;
        }
        let whole = millis(slow_start);
        let age = now.saturating_sub(since.max(until));
        if age >= whole {
            self.back_since.store(0, Ordering::Relaxed);
            return Fitness::Good;
        }
        let share = age.saturating_mul(1000).checked_div(whole).unwrap_or(1000);
        Fitness::Warming(u32::try_from(share).unwrap_or(1000))
    }

    /// How it stands now.
    pub fn look(&self) -> StandingNow {
        let until = self.ejected_until.load(Ordering::Relaxed);
        let left = until.saturating_sub(now());
        StandingNow {
            up: self.is_up(),
            ejected_for: (left > 0).then(|| Duration::from_millis(left)),
            failures: self.failures.load(Ordering::Relaxed),
            in_flight: self.in_flight(),
            connections: self.connections.load(Ordering::Relaxed),
        }
    }

    /// It has answered.
    pub(super) fn succeeded(&self) {
        // Read first: a line that nobody writes stays in every core's cache.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if self.ejections.load(Ordering::Relaxed) != 0
            && self.ejected_until.load(Ordering::Relaxed) <= now()
        {
            self.ejections.store(0, Ordering::Relaxed);
        }
    }

    /// A request has failed on it. `true` where it is left out from now on.
    pub(super) fn failed(&self) -> bool {
        let after = self.eject_after.load(Ordering::Relaxed);
        let failures = self
            .failures
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1);
        if after == 0 {
            return false;
        }
        let now = now();
        let until = self.ejected_until.load(Ordering::Relaxed);
        let before = self.ejections.load(Ordering::Relaxed);
        // One that was let back in and fails again at once has used up its patience.
        let due = failures >= after || before > 0;
        if !due || until > now {
            return false;
        }
        let first = self.eject_first.load(Ordering::Relaxed);
        let length = first
            .saturating_mul(1 << before.min(16))
            .min(millis(LONGEST));
        let swapped = self.ejected_until.compare_exchange(
            until,
            now.saturating_add(length),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        // Another core was faster otherwise: one ejection is enough.
        if swapped.is_ok() {
            self.ejections
                .store(before.saturating_add(1), Ordering::Relaxed);
        }
        swapped.is_ok()
    }

    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn disconnected(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether somebody waits for a connection: then none should lie idle.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Somebody waits for a connection until the guard is dropped.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }
}

/// Somebody who waits for a connection.
pub(super) struct Waiting<'s>(&'s Standing);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl StandingNow {
    /// When the ejection ends.
    #[must_use]
    pub fn ejected_until(&self, now: Timestamp) -> Option<Timestamp> {
        now.checked_add(self.ejected_for?).ok()
    }
}

/// Never 0, which means "not at all".
fn now() -> u64 {
    millis(BEGINNING.elapsed()).saturating_add(1)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Ejection = Ejection {
        after: 3,
        first: Duration::from_secs(3600),
    };

    #[test]
    fn failures_in_a_row_eject_and_a_success_between_them_does_not() {
        let standing = Standing::new(RULE);
        for _ in 0..10 {
            assert!(!standing.failed());
            assert!(!standing.failed());
            standing.succeeded();
        }
        assert_eq!(standing.fitness(Duration::ZERO), Fitness::Good);
        assert!(!standing.failed() && !standing.failed());
        assert!(standing.failed(), "the third in a row");
        assert_eq!(standing.fitness(Duration::ZERO), Fitness::Ejected);
        assert!(!standing.failed(), "it is out already");
        assert!(standing.look().ejected_for.is_some());
    }

    #[test]
    fn a_server_that_fails_again_is_out_at_once_and_for_longer() {
        let standing = Standing::new(Ejection {
            after: 1,
            first: Duration::from_secs(1),
        });
        let mut longest = Duration::ZERO;
        for _ in 0..12 {
            // Its time is up.
            standing.ejected_until.store(1, Ordering::Relaxed);
            assert!(standing.failed());
            let now = standing.look().ejected_for.expect("ejected");
            assert!(now >= longest.min(LONGEST - Duration::from_secs(1)));
            longest = now;
        }
        assert!(longest > LONGEST - Duration::from_secs(2) && longest <= LONGEST);
        standing.ejected_until.store(1, Ordering::Relaxed);
        standing.succeeded();
        standing.failed();
        let again = standing.look().ejected_for.expect("ejected");
        assert!(again <= Duration::from_secs(1), "{again:?}");
    }

    #[test]
    fn a_server_that_came_back_warms_up() {
        let standing = Standing::new(Ejection::NEVER);
        let hour = Duration::from_secs(3600);
        assert_eq!(standing.fitness(hour), Fitness::Good, "never gone");
        standing.set_up(false);
        assert_eq!(standing.fitness(hour), Fitness::Down);
        standing.set_up(true);
        assert!(matches!(standing.fitness(hour), Fitness::Warming(share) if share < 1000));
        assert_eq!(standing.fitness(Duration::ZERO), Fitness::Good);
    }

    #[test]
    fn without_a_rule_nobody_is_ejected() {
        let standing = Standing::new(Ejection::NEVER);
        assert!((0..1000).all(|_| !standing.failed()));
        assert_eq!(standing.fitness(Duration::ZERO), Fitness::Good);
    }
}
