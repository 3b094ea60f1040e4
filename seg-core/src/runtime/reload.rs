//! A new configuration takes the place of the old one, whole or not at all.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use thiserror::Error;

use super::{Shared, Snapshot, SnapshotError};
use crate::cli;
use crate::config::{self, Changes};
use crate::telemetry::log::Log;

/// Loads and swaps configurations. One at a time.
#[derive(Debug)]
pub struct Reloader {
    shared: Arc<Shared>,
    path: Option<PathBuf>,
    env: Vec<(String, String)>,
    log: Option<Arc<Log>>,
    one_at_a_time: Mutex<()>,
}

/// Why a reload changed nothing.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct ReloadRefused {
    /// The key at fault, where one is.
    pub key: Option<String>,
    /// The line of the properties file or of policies.toml, where one is at fault.
    pub line: Option<usize>,
    /// What is wrong and how to mend it.
    pub message: String,
}

impl From<SnapshotError> for ReloadRefused {
    fn from(error: SnapshotError) -> Self {
        let first = match &error {
            SnapshotError::Config(error) => error.problems.first(),
            _ => None,
        };
        Self {
            key: first.and_then(|problem| problem.key.clone()),
            line: match &error {
                SnapshotError::Policies(error) => error.place.map(|(line, _)| line),
                _ => first.and_then(config::Problem::line),
            },
            message: error.to_string(),
        }
    }
}

impl Reloader {
    pub(super) fn new(
        shared: Arc<Shared>,
        path: Option<PathBuf>,
        env: Vec<(String, String)>,
        log: Option<Arc<Log>>,
    ) -> Self {
        Self {
            shared,
            path,
            env,
            log,
            one_at_a_time: Mutex::default(),
        }
    }

    /// Reads everything anew and swaps it in. Requests in flight keep what they began with.
    ///
    /// # Errors
    /// What is wrong with the new configuration; the old one stays in force.
    pub fn reload(&self) -> Result<Changes, ReloadRefused> {
        let _turn = self.one_at_a_time.lock();
        let outcome = self.swap();
        self.shared.metrics.config_reload(outcome.is_ok());
        match &outcome {
            Ok(changes) => {
                tracing::info!(
                    changed = changes.changed.join(","),
                    restart_required = changes.restart_required.join(","),
                    "configuration reloaded"
                );
            }
            Err(refused) => {
                tracing::error!(
                    key = refused.key.as_deref(),
                    line = refused.line,
                    "configuration refused, the old one stays in force: {}",
                    refused.message
                );
            }
        }
        outcome
    }

    fn swap(&self) -> Result<Changes, ReloadRefused> {
        let before = self.shared.snapshot();
        let loaded = config::load(self.path.as_deref(), self.env.iter().cloned())
            .map_err(SnapshotError::from)?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let changes = config::changed_keys(&before.config, &loaded.config);
        let mut warn = |text: String| tracing::warn!("{text}");
        let mut snapshot = Snapshot::build(loaded.config, Some(&before), &mut warn)?;
        snapshot.keep_what_needs_a_restart(&before);
        let proxy = snapshot.config.outbound_proxy.as_ref();
        self.shared
            .outbound
            .use_proxy(proxy)
            .map_err(SnapshotError::from)?;
        if snapshot.bindings.is_some() {
            let book = &self.shared.bindings;
            book.open(&snapshot.config.data_dir)
                .map_err(SnapshotError::from)?;
        }
        super::background::note_certificates(&self.shared.metrics, &snapshot);
        if let Some(log) = &self.log {
            let config::Log { format, level, .. } = snapshot.config.log;
            if let Ok(levels) = cli::levels(level) {
                log.configure(cli::log_format(format), levels);
            }
        }
        let (settings, policies) = (snapshot.settings(), snapshot.policies.clone());
        let snapshot = Arc::new(snapshot);
        self.shared.snapshot.store(snapshot);
        // After the swap: a request that is admitted under the new verdicts must also be served
        // under the new configuration.
        self.shared
            .engine
            .limit_sources(self.shared.snapshot().source_limits());
        let _cut = self
            .shared
            .engine
            .configure(settings, policies, &changes.changed);
        Ok(changes)
    }
}
