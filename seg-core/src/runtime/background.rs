//! What goes on beside the requests, on the second runtime: clocks and reloads.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use seg_compliance::api::AuditEvent;
use serde_json::json;
use tokio::signal::unix::Signal;
use tokio::time::MissedTickBehavior;

use super::reload::{ReloadRefused, Reloader};
use super::silence::Told;
use super::{Shared, Snapshot};
use crate::config::Changes;
use crate::config::watch::Watching;
use crate::telemetry::metrics::Metrics;

const HOUR: Duration = Duration::from_secs(3_600);
/// How often expiries are looked for.
const TICK: Duration = Duration::from_secs(1);

/// Reloads when a file of the configuration changes, or on SIGHUP.
pub(super) async fn reload_on_change(
    shared: Arc<Shared>,
    reloader: Arc<Reloader>,
    mut hangups: Signal,
    mut watching: Watching,
) {
    let mut watched = shared.snapshot().config.files();
    loop {
        tokio::select! {
            _ = hangups.recv() => {}
            received = watching.changes.recv() => if received.is_none() { return },
        }
        let reloader = Arc::clone(&reloader);
        // Reads files and builds TLS: not on the runtime's own threads.
        let reloaded = tokio::task::spawn_blocking(move || reloader.reload()).await;
        note_reload(&shared, reloaded.ok()).await;
        let files = shared.snapshot().config.files();
        if files != watched {
            watched = files;
            if let Some(watcher) = &watching.watcher {
                watcher.replace(watched.clone());
            }
        }
    }
}

/// A reload that nobody asked for over the admin API stands in the audit trail too.
async fn note_reload(shared: &Shared, reloaded: Option<Result<Changes, ReloadRefused>>) {
    let (status, detail) = match reloaded {
        Some(Ok(changes)) => {
            let policies = seg_compliance::api::PolicyList::of(&shared.snapshot().policies);
            let ids: Vec<String> = policies
                .policies
                .into_iter()
                .map(|policy| policy.id)
                .collect();
            (200, json!({ "changed": changes.changed, "policies": ids }))
        }
        Some(Err(refused)) => (422, json!({ "refused": refused.message })),
        None => return,
    };
    let event = AuditEvent {
        who: "file".to_owned(),
        role: String::new(),
        action: "reload".to_owned(),
        target: None,
        detail,
        from: None,
        status,
        revision: shared.engine.revision(),
    };
    if let Err(error) = shared.engine.audit(event).await {
        tracing::error!(target: "admin", %error, "an entry of the audit trail is lost");
    }
}

/// Lets go of what the audit trail need not keep any longer, now and every hour.
pub(super) async fn trim_audit_trail(shared: Arc<Shared>) {
    let mut hours = tokio::time::interval(HOUR);
    loop {
        hours.tick().await;
        let days = i64::from(shared.snapshot().config.admin.audit_days);
        let kept = jiff::SignedDuration::from_hours(days * 24);
        let Ok(before) = Timestamp::now().checked_sub(kept) else {
            continue;
        };
        if let Err(error) = shared.engine.trim_audit_trail(before).await {
            tracing::error!(target: "admin", %error, "the audit trail can't be trimmed");
        }
    }
}

/// Lets time pass for the engine: an override that expires may end what is in flight. `synced`:
/// the store came up with everything that was ever acknowledged.
pub(super) async fn tick(shared: Arc<Shared>, synced: bool) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut told = Told::default();
    loop {
        ticks.tick().await;
        let now = Timestamp::now();
        let _cut = shared.engine.tick(now);
        for source in shared.engine.sources() {
            told.tell(&source, now);
            shared
                .metrics
                .source_reported(&source.name, source.reported);
        }
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
