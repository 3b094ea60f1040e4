//! `seg run`: the gateway until it is told to stop.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::{DONE, NOT_DONE};
use crate::config::{self, LogFormat, LogLevel};
use crate::delegate;
use crate::runtime::service::{self, Told};
use crate::runtime::{Gateway, StartOptions};
use crate::succession::{Inherited, activation};
use crate::telemetry::log::{Format, LevelError, Levels, Log};
use crate::telemetry::metrics::Metrics;

/// The file that is read where none is named.
const DEFAULT_FILE: &str = "application.properties";

/// Runs the gateway. SIGTERM drains, a second signal or SIGINT stops at once.
///
/// With `take_over` it follows the gateway that runs with the same data folder, and that one ends.
pub(super) fn run(config: Option<PathBuf>, take_over: bool) -> ExitCode {
    // While this is the only thread.
    let passed = match activation::sockets() {
        Ok(passed) => passed,
        Err(error) => {
            eprintln!("seg: {error}");
            return ExitCode::from(NOT_DONE);
        }
    };
    let config = config.or_else(|| {
        let default = Path::new(DEFAULT_FILE);
        default.exists().then(|| default.to_path_buf())
    });
    let env: Vec<(String, String)> = std::env::vars().collect();
    // Read once for the log alone; what is wrong with it is told by the start.
    let (format, level) = match config::load(config.as_deref(), env.iter().cloned()) {
        Ok(loaded) => {
            // While this is the only thread.
            delegate::prepare_process(&loaded.config);
            (loaded.config.log.format, loaded.config.log.level)
        }
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
    let mut ends = match Ends::listen() {
        Ok(ends) => ends,
        Err(error) => {
            eprintln!("seg: signals can't be listened for: {error}");
            return ExitCode::from(NOT_DONE);
        }
    };
    let options = StartOptions {
        config,
        env,
        cores: None,
        log: Some(Arc::clone(&log)),
        metrics: Some(metrics),
        inherited: Inherited::new(passed),
        take_over,
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
    service::tell(if take_over {
        Told::TakenOver
    } else {
        Told::Ready
    });
    let end = ends.wait_or(gateway.followed());
    if !matches!(end, End::Followed) {
        service::tell(Told::Stopping);
    }
    match end {
        End::Followed => {
            exit_on_second_signal(ends);
            gateway.leave();
        }
        End::Drain => {
            exit_on_second_signal(ends);
            gateway.drain();
        }
        End::Stop => gateway.stop(),
    }
    log.flush();
    ExitCode::from(DONE)
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
    /// Another process serves.
    Followed,
}

/// SIGTERM and SIGINT, listened for from before the gateway serves: one that comes right after
/// the start must not end the process in its default way.
pub(super) struct Ends {
    runtime: Runtime,
    term: Signal,
    int: Signal,
}

impl Ends {
    pub(super) fn listen() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (term, int) = {
            let _inside = runtime.enter();
            (
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            )
        };
        Ok(Self { runtime, term, int })
    }

    /// Waits for one of them.
    pub(super) fn wait(&mut self) -> End {
        let (_never, followed) = watch::channel(false);
        self.wait_or(followed)
    }

    /// The same, or until another process serves.
    fn wait_or(&mut self, mut followed: watch::Receiver<bool>) -> End {
        let Self { runtime, term, int } = self;
        runtime.block_on(async {
            tokio::select! {
                _ = term.recv() => End::Drain,
                _ = int.recv() => End::Stop,
                Ok(_) = followed.wait_for(|followed| *followed) => End::Followed,
            }
        })
    }
}

/// Whoever asks twice does not want to wait for the drain.
fn exit_on_second_signal(mut ends: Ends) {
    std::thread::spawn(move || {
        ends.wait();
        tracing::warn!("a second signal: stopping without waiting for the drain");
        std::process::exit(i32::from(DONE));
    });
}
