//! Active health checks: each server of each leg is asked by a task of its own, so that one that
//! hangs delays no other.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::uri::PathAndQuery;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::leg::{Leg, Upstream};
use super::state::CheckState;
use crate::config;
use crate::runtime::{Shared, Snapshot};
use crate::telemetry::metrics::Metrics;
use crate::upstream::{Deadlines, NoBody, Pool, PoolSettings, ReplayPolicy, RequestHead, send};

/// How often a new configuration is looked for.
const LOOK: Duration = Duration::from_millis(250);

/// The most of an answer that is read, in bytes.
const ANSWER_BYTES: usize = 64 * 1024;

/// What the checks of one server have brought. Outlives reloads, as its standing does.
#[derive(Debug, Default)]
pub(super) struct Watched(Mutex<Answers>);

#[derive(Debug, Default)]
struct Answers {
    streak: u32,
    last: Option<CheckState>,
}

impl Watched {
    /// What the last check brought.
    pub(super) fn last(&self) -> Option<CheckState> {
        self.0.lock().last.clone()
    }

    /// Notes an answer. The new state, if it brings one: `threshold` equal answers in a row, or
    /// the first of all, since a gateway that starts has no history.
    fn note(&self, outcome: Result<(), String>, threshold: u32) -> Option<bool> {
        let good = outcome.is_ok();
        let mut answers = self.0.lock();
        let before = answers.last.as_ref().map(|last| last.good);
        answers.streak = if before == Some(good) {
            answers.streak.saturating_add(1)
        } else {
            1
        };
        answers.last = Some(CheckState {
            at: Timestamp::now(),
            good,
            reason: outcome.err(),
        });
        (before.is_none() || answers.streak >= threshold.max(1)).then_some(good)
    }
}

/// Checks every server of the configuration in force, until it is dropped.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let pool = Pool::new(PoolSettings {
        max_idle: 64,
        ..PoolSettings::default()
    });
    tokio::spawn(pool.clone().tend());
    let mut generation = None;
    let mut tasks = JoinSet::new();
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let snapshot = shared.snapshot();
        if generation == Some(snapshot.generation) {
            continue;
        }
        generation = Some(snapshot.generation);
        tasks.abort_all();
        while tasks.join_next().await.is_some() {}
        let checked = of(&snapshot);
        let names: Vec<&str> = checked.iter().map(|one| &*one.label).collect();
        shared.metrics.retain_upstreams(&names);
        for one in checked {
            tasks.spawn(check(pool.clone(), Arc::clone(&shared.metrics), one));
        }
    }
}

/// One server that is checked.
struct Checked {
    label: Arc<str>,
    leg: Arc<Leg>,
    upstream: Arc<Upstream>,
}

/// The servers of a configuration. One that serves both legs is two: they are asked for different
/// pages, and stand for different services.
fn of(snapshot: &Snapshot) -> Vec<Checked> {
    let mut checked = Vec::new();
    for (leg, upstream, label) in super::state::all(snapshot) {
        checked.push(Checked {
            label,
            leg: Arc::clone(leg),
            upstream: Arc::clone(upstream),
        });
    }
    checked
}

async fn check(pool: Pool, metrics: Arc<Metrics>, one: Checked) {
    let Checked {
        label,
        leg,
        upstream,
    } = one;
    let mut times = tokio::time::interval(leg.health.interval);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        times.tick().await;
        upstream.target.look_up().await;
        let outcome = ask(&pool, &leg, &upstream).await;
        if let Err(reason) = &outcome {
            tracing::debug!(upstream = %label, reason, "health check failed");
        }
        let reason = outcome.as_ref().err().cloned();
        let Some(up) = upstream.watched.note(outcome, leg.health.threshold) else {
            continue;
        };
        if upstream.is_healthy() != up {
            tracing::warn!(upstream = %label, healthy = up, reason, "the server's health changed");
        }
        upstream.standing().set_up(up);
        metrics.upstream_up(&label, up);
    }
}

async fn ask(pool: &Pool, leg: &Leg, upstream: &Upstream) -> Result<(), String> {
    let config::Health {
        path,
        expect,
        interval,
        ..
    } = &leg.health;
    let path = PathAndQuery::try_from(path.as_str()).map_err(|error| error.to_string())?;
    let mut head = RequestHead::new(Method::GET, path);
    head.replay = ReplayPolicy { allowed: true };
    let deadlines = Deadlines {
        connect: leg.connect_within.min(*interval),
        head: leg.response_within.min(*interval),
        between_bytes: leg.response_within.min(*interval),
    };
    // What becomes of a check is counted by the check.
    let sending = send(pool, &upstream.target, head, NoBody, deadlines).unobserved();
    let exchange = sending.await.map_err(|error| error.to_string())?;
    let status = exchange.status.as_u16();
    // A complete answer: one that breaks off is none.
    let whole = exchange.body.collect(ANSWER_BYTES).await;
    whole.map_err(|error| error.to_string())?;
    if expect.accepts(status) {
        Ok(())
    } else {
        Err(format!("answers {status}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_changes_after_equal_answers_only() {
        let watched = Watched::default();
        let bad = || Err("answers 500".to_owned());
        assert_eq!(watched.note(Ok(()), 3), Some(true), "no history");
        assert_eq!(watched.note(bad(), 3), None);
        assert_eq!(watched.note(bad(), 3), None);
        assert_eq!(watched.note(Ok(()), 3), None);
        assert_eq!(watched.note(bad(), 3), None);
        assert_eq!(watched.note(bad(), 3), None);
        assert_eq!(watched.note(bad(), 3), Some(false));
        assert_eq!(watched.note(Ok(()), 1), Some(true));
        assert!(watched.last().is_some_and(|last| last.good));
    }
}
