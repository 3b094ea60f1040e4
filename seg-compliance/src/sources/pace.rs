//! Time for conversations with systems: when the next request may leave, and waiting for that.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;
use parking_lot::Mutex;

/// Longest pause before another try, and the longest that a system may ask for.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);
/// Most conversations that are remembered.
const REMEMBERED: usize = 256;

/// Where time is read and spent; tests move it by hand.
pub(super) trait Time: Sync {
    fn now(&self) -> Instant;
    fn sleep(&self, wait: Duration);
}

/// The machine's.
pub(super) struct RealTime;

impl Time for RealTime {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, wait: Duration) {
        std::thread::sleep(wait);
    }
}

/// What one request leaves to the next: the login, and when that may leave.
#[derive(Default)]
pub(super) struct Session {
    pub(super) authorization: Option<String>,
    free_at: Option<Instant>,
}

impl Session {
    /// Takes the next turn: how long to wait for it. `None`: longer than `patience`, and no turn is
    /// taken.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        pause: Duration,
        patience: Option<Duration>,
    ) -> Option<Duration> {
        let at = self.free_at.map_or(now, |free| free.max(now));
        let wait = at.duration_since(now);
        if patience.is_some_and(|patience| wait > patience) {
            return None;
        }
        self.free_at = Some(at + pause);
        Some(wait)
    }
}

/// Conversations that outlive one question: the next one is asked at the same pace, and with the same
/// login as long as that is taken.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<String, Arc<Mutex<Session>>, RandomState>>);

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sessions")
            .field(&self.0.lock().len())
            .finish()
    }
}

impl Sessions {
    /// The conversation with a system; `of` names everything that it depends on.
    pub(super) fn with(&self, of: &str) -> Arc<Mutex<Session>> {
        let mut sessions = self.0.lock();
        if sessions.len() >= REMEMBERED && !sessions.contains_key(of) {
            // Definitions change rarely: what is forgotten costs one login.
            sessions.clear();
        }
        Arc::clone(sessions.entry(of.to_owned()).or_default())
    }
}

/// Twice as long with each try, and never quite the same: a fleet of gateways must not come back
/// all at once.
pub(super) fn backoff(tries: u32) -> Duration {
    let base = Duration::from_millis(500) * 2_u32.saturating_pow(tries.min(10) - 1);
    let base = base.min(BACKOFF_MAX);
    let random = RandomState::new().hash_one(tries) % 1_000;
    base.mul_f64(0.5 + random as f64 / 1_000.0)
}

/// `Retry-After`: seconds, or a date (RFC 9110 section 10.2.3).
pub(super) fn retry_after(text: &str) -> Option<Duration> {
    let wait = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
            let wait = at.duration_since(jiff::Timestamp::now());
            Duration::try_from(wait).ok()?
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_bounded_grows_and_is_never_quite_the_same() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("99999"), Some(RETRY_AFTER_MAX));
        assert_eq!(retry_after("soon"), None);
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:49:37 GMT"),
            None,
            "it is over"
        );
        let far = retry_after("Sat, 06 Nov 2094 08:49:37 GMT");
        assert_eq!(far, Some(RETRY_AFTER_MAX));
        for tries in [1, 4, 40] {
            let wait = backoff(tries);
            assert!(wait >= Duration::from_millis(250) && wait <= BACKOFF_MAX * 3 / 2);
        }
        assert!(backoff(6) > backoff(1));
        let waits: std::collections::HashSet<Duration> = (0..20).map(|_| backoff(3)).collect();
        assert!(waits.len() > 1, "{waits:?}");
    }

    #[test]
    fn turns_come_one_pause_after_the_other() {
        let (mut session, now) = (Session::default(), Instant::now());
        let pause = Duration::from_millis(100);
        assert_eq!(session.turn(now, pause, None), Some(Duration::ZERO));
        assert_eq!(session.turn(now, pause, None), Some(pause));
        let patience = Some(pause);
        assert_eq!(session.turn(now, pause, patience), None, "200 ms away");
        let later = now + pause;
        assert_eq!(session.turn(later, pause, patience), Some(pause));
        let rested = now + 10 * pause;
        assert_eq!(session.turn(rested, pause, None), Some(Duration::ZERO));
    }
}
