//! `seg run`: the gateway until it is told to stop.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::{DONE, NOT_DONE};
use crate::config::{self, LogFormat, LogLevel};
use crate::runtime::{Gateway, StartOptions};
use crate::telemetry::log::{Format, LevelError, Levels, Log};
use crate::telemetry::metrics::Metrics;

/// The file that is read where none is named.
const DEFAULT_FILE: &str = "application.properties";

/// Runs the gateway. SIGTERM drains, a second signal or SIGINT stops at once.
pub(super) fn run(config: Option<PathBuf>) -> ExitCode {
    let config = config.or_else(|| {
        let default = Path::new(DEFAULT_FILE);
        default.exists().then(|| default.to_path_buf())
    });
    let env: Vec<(String, String)> = std::env::vars().collect();
    // Read once for the log alone; what is wrong with it is told by the start.
    let (format, level) = match config::load(config.as_deref(), env.iter().cloned()) {
        Ok(loaded) => (loaded.config.log.format, loaded.config.log.level),
        Err(error) => {
            eprintln!("seg: {error}");
            return ExitCode::from(NOT_DONE);
        }
    };
    let metrics = Metrics::new();
    let log = match open_log(format, level, &metrics) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("seg: the log can't be opened: {error}");
            return ExitCode::from(NOT_DONE);
        }
    };
    let options = StartOptions {
        config,
        env,
        cores: None,
        log: Some(Arc::clone(&log)),
        metrics: Some(metrics),
    };
    let gateway = match Gateway::start(options) {
        Ok(gateway) => gateway,
        Err(error) => {
            log.flush();
            eprintln!("seg: {error}");
            return ExitCode::from(NOT_DONE);
        }
    };
    for address in gateway.addresses() {
        tracing::info!(address = %address, "serving clients");
    }
    tracing::info!(address = %gateway.admin_address(), "serving the admin API");
    let code = match wait_for_end() {
        Ok(End::Drain) => {
            exit_on_second_signal();
            gateway.drain();
            DONE
        }
        Ok(End::Stop) => {
            gateway.stop();
            DONE
        }
        Err(error) => {
            tracing::error!(error = %error, "signals can't be listened for");
            gateway.stop();
            NOT_DONE
        }
    };
    log.flush();
    ExitCode::from(code)
}

/// Opens the process's log.
pub(super) fn open_log(
    format: LogFormat,
    level: LogLevel,
    metrics: &Metrics,
) -> Result<Arc<Log>, Box<dyn std::error::Error>> {
    Ok(Arc::new(Log::init(
        log_format(format),
        levels(level)?,
        metrics,
    )?))
}

/// The levels that a word of the configuration means.
pub(crate) fn levels(level: LogLevel) -> Result<Levels, LevelError> {
    level.word().parse()
}

/// How the log is written, in the words of the log's own module.
pub(crate) fn log_format(format: LogFormat) -> Format {
    match format {
        LogFormat::Json => Format::Json,
        LogFormat::Text => Format::Text,
    }
}

pub(super) enum End {
    Drain,
    Stop,
}

/// Waits for SIGTERM or SIGINT.
pub(super) fn wait_for_end() -> std::io::Result<End> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        Ok(tokio::select! {
            _ = term.recv() => End::Drain,
            _ = int.recv() => End::Stop,
        })
    })
}

/// Whoever asks twice does not want to wait for the drain.
fn exit_on_second_signal() {
    std::thread::spawn(|| {
        if wait_for_end().is_ok() {
            tracing::warn!("a second signal: stopping without waiting for the drain");
            std::process::exit(i32::from(DONE));
        }
    });
}
