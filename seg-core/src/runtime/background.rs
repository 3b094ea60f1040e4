//! What goes on beside the requests, on the second runtime: clocks and reloads.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::reload::Reloader;
use super::{Shared, Snapshot};
use crate::config::watch;
use crate::telemetry::metrics::Metrics;

/// How often expiries are looked for.
const TICK: Duration = Duration::from_secs(1);

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
    for (index, certificate) in snapshot.shown.iter().enumerate() {
        let name = match index {
            0 => "server".to_owned(),
            _ => format!("server.{}", index + 1),
        };
        metrics.certificate_expiry(&name, certificate.not_after);
    }
}
