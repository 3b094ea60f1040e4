//! What goes on beside the requests, on the second runtime: health checks, clocks, reloads.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::uri::PathAndQuery;
use jiff::Timestamp;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::reload::Reloader;
use super::{Shared, Snapshot};
use crate::config::{self, watch};
use crate::forward::{HealthCount, Leg, Upstream};
use crate::telemetry::metrics::Metrics;
use crate::upstream::{Deadlines, NoBody, Pool, PoolSettings, ReplayPolicy, RequestHead, send};

/// How often expiries are looked for.
const TICK: Duration = Duration::from_secs(1);

/// The most of a health check's answer that is read, in bytes.
const HEALTH_ANSWER_BYTES: usize = 64 * 1024;

/// Reloads when a file of the configuration changes, or on SIGHUP.
pub(super) async fn reload_on_change(
    shared: Arc<Shared>,
    reloader: Arc<Reloader>,
    mut hangups: Signal,
) {
    let (changed, mut changes) = mpsc::channel(1);
    let mut watched = shared.snapshot().config.files();
    let watcher = start_watching(&watched, &changed);
    loop {
        tokio::select! {
            _ = hangups.recv() => {}
            received = changes.recv() => if received.is_none() { return },
        }
        let reloader = Arc::clone(&reloader);
        // Reads files and builds TLS: not on the runtime's own threads.
        let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
        let files = shared.snapshot().config.files();
        if files != watched {
            watched = files;
            if let Some(watcher) = &watcher {
                watcher.replace(watched.clone());
            }
        }
    }
}

fn start_watching(
    files: &[std::path::PathBuf],
    changed: &mpsc::Sender<()>,
) -> Option<watch::Watcher> {
    match watch::spawn(files.to_vec(), changed.clone()) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::error!(error = %error, "files can't be watched; reload with SIGHUP or POST /v1/reload");
            None
        }
    }
}

/// Lets time pass for the engine: an override that expires may end what is in flight. `synced`:
/// the store came up with everything that was ever acknowledged.
pub(super) async fn tick(shared: Arc<Shared>, synced: bool) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let _cut = shared.engine.tick(Timestamp::now());
        shared.metrics.store_ok(synced && shared.engine.store_ok());
    }
}

/// What certificates of ours expire when.
pub(super) fn note_certificates(metrics: &Metrics, snapshot: &Snapshot) {
    if let Some(certificate) = &snapshot.certificate {
        metrics.certificate_expiry("server", certificate.not_after);
    }
}

/// Asks every server of every leg in turn whether it is alive.
pub(super) async fn check_health(shared: Arc<Shared>) {
    let pool = Pool::new(PoolSettings {
        max_idle: 16,
        ..PoolSettings::default()
    });
    tokio::spawn(pool.clone().tend());
    let mut counts: HashMap<String, HealthCount> = HashMap::new();
    loop {
        let snapshot = shared.snapshot();
        let mut legs: Vec<(&Leg, bool)> = vec![(&snapshot.eas, false)];
        if snapshot.config.ews_enabled {
            legs.push((&snapshot.ews, true));
        }
        let mut names = Vec::new();
        for (leg, ews) in &legs {
            for upstream in &leg.upstreams {
                let shared_with_eas = *ews
                    && snapshot
                        .eas
                        .upstreams
                        .iter()
                        .any(|other| other.name == upstream.name);
                let name = if shared_with_eas {
                    format!("{}/EWS", upstream.name)
                } else {
                    upstream.name.to_string()
                };
                let good = is_alive(&pool, leg, upstream).await;
                let count = counts.entry(name.clone()).or_default();
                // The first answer counts at once: a gateway that starts has no history.
                let threshold = if count.is_new() {
                    1
                } else {
                    leg.health.threshold
                };
                if let Some(healthy) = count.answer(good, threshold) {
                    if upstream.is_healthy() != healthy {
                        tracing::warn!(upstream = %name, healthy, "the server's health changed");
                    }
                    upstream.set_healthy(healthy);
                    shared.metrics.upstream_up(&name, healthy);
                }
                names.push(name);
            }
        }
        counts.retain(|name, _| names.contains(name));
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        shared.metrics.retain_upstreams(&known);
        let interval = legs
            .iter()
            .map(|(leg, _)| leg.health.interval)
            .min()
            .unwrap_or(Duration::from_secs(10))
            .max(Duration::from_secs(1));
        drop(legs);
        drop(snapshot);
        tokio::time::sleep(interval).await;
    }
}

async fn is_alive(pool: &Pool, leg: &Leg, upstream: &Upstream) -> bool {
    let config::Health {
        path,
        expect,
        interval,
        ..
    } = &leg.health;
    let Ok(path) = PathAndQuery::try_from(path.as_str()) else {
        tracing::error!(path, "email.server.health.path is no path");
        return false;
    };
    let mut head = RequestHead::new(Method::GET, path);
    head.replay = ReplayPolicy { allowed: true };
    let deadlines = Deadlines {
        connect: leg.connect_within.min(*interval),
        head: leg.response_within.min(*interval),
        between_bytes: leg.response_within.min(*interval),
    };
    let sent = send(pool, &upstream.target, head, NoBody, deadlines).await;
    match sent {
        Ok(exchange) => {
            let status = exchange.status.as_u16();
            // A complete answer: one that breaks off is none.
            match exchange.body.collect(HEALTH_ANSWER_BYTES).await {
                Ok(_) => expect.accepts(status),
                Err(error) => {
                    tracing::debug!(upstream = %upstream.name, error = %error, "health check broken off");
                    false
                }
            }
        }
        Err(error) => {
            tracing::debug!(upstream = %upstream.name, error = %error, "health check failed");
            false
        }
    }
}
