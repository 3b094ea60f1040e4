//! The log: structured events through `tracing`, one line each on standard output.
//!
//! An event is formatted into a buffer of its thread and appended to one shared buffer; a thread
//! writes that out ([`sink`]). So an event costs the request its formatting and one short lock,
//! never a system call. What may stand in an event is the caller's matter ([`crate::record`]);
//! here every value is escaped ([`escape`]).

mod clock;
mod escape;
mod format;
mod members;
mod sink;

use std::cell::RefCell;
use std::panic;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

pub use format::Format;
pub(crate) use members::field;
pub use members::{Field, Members};
use sink::Sink;

use super::metrics::Metrics;

/// Targets that are held to a level of their own unless `log.level` names them: hyper warns at
/// every idle connection that it closes, which is no event.
const HELD: &[(&str, LevelFilter)] = &[("hyper", LevelFilter::ERROR)];

/// Longest wait for standard output when the process ends.
const LAST_FLUSH: Duration = Duration::from_secs(2);

/// Longest line that a thread keeps its buffer for.
const KEPT_LINE: usize = 16 * 1024;

/// What is logged: a level, or levels by target (`info`, `warn,seg_core::admin=debug`).
#[derive(Clone, Debug)]
pub struct Levels(Targets);

/// `log.level` can't be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "log.level {value:?} is not a level: write off, error, warn, info, debug or trace, or \
     target=level pairs separated by commas"
)]
pub struct LevelError {
    value: String,
}

impl FromStr for Levels {
    type Err = LevelError;

    fn from_str(value: &str) -> Result<Self, LevelError> {
        let error = || LevelError {
            value: value.to_owned(),
        };
        let mut targets = Targets::new()
            .with_default(LevelFilter::INFO)
            .with_targets(HELD.iter().copied());
        for item in value.split(',').map(str::trim) {
            let (target, level) = match item.split_once('=') {
                Some((target, level)) => (Some(target.trim()), level.trim()),
                None => (None, item),
            };
            // An empty level would be read as `error`.
            if level.is_empty() || target == Some("") {
                return Err(error());
            }
            let level: LevelFilter = level.parse().map_err(|_| error())?;
            targets = match target {
                Some(target) => targets.with_target(target, level),
                None => targets.with_default(level),
            };
        }
        Ok(Self(targets))
    }
}

/// The log can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system gives no thread for the writer.
    #[error("the log's thread can't be started: {0}")]
    Thread(#[from] std::io::Error),
    /// Another subscriber is in place; a process has one log.
    #[error("this process already has a log")]
    AlreadyOpen,
}

/// The open log. Dropped at the end of `main`, it writes out what is pending.
#[derive(Debug)]
pub struct Log {
    shared: Arc<Shared>,
}

impl Log {
    /// Opens the process's log on standard output and lets panics write theirs to it.
    ///
    /// # Errors
    /// [`LogError`] where the process has a log already or gives no thread.
    pub fn init(format: Format, levels: Levels, metrics: &Metrics) -> Result<Self, LogError> {
        let sink = Sink::start(std::io::stdout(), metrics.log_dropped())?;
        let log = Self::over(sink, format, levels);
        tracing::subscriber::set_global_default(Registry::default().with(log.layer()))
            .map_err(|_| LogError::AlreadyOpen)?;
        members::written_as(format);
        log.flush_on_panic();
        Ok(log)
    }

    fn over(sink: Arc<Sink>, format: Format, levels: Levels) -> Self {
        Self {
            shared: Arc::new(Shared {
                sink,
                settings: ArcSwap::from_pointee(Settings { format, levels }),
            }),
        }
    }

    fn layer(&self) -> LineLayer {
        LineLayer(Arc::clone(&self.shared))
    }

    /// Takes over a format and levels from a reloaded configuration.
    pub fn configure(&self, format: Format, levels: Levels) {
        let settings = Settings { format, levels };
        self.shared.settings.store(Arc::new(settings));
        members::written_as(format);
        tracing::callsite::rebuild_interest_cache();
    }

    /// Writes out what is pending; false where standard output did not take it in two seconds.
    pub fn flush(&self) -> bool {
        self.shared.sink.flush(LAST_FLUSH)
    }

    fn flush_on_panic(&self) {
        let shared = Arc::clone(&self.shared);
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string);
            let reason = info.payload_as_str().unwrap_or("no text");
            tracing::error!(
                place,
                reason,
                "panic: a defect of the gateway, please report it"
            );
            shared.sink.flush(LAST_FLUSH);
            before(info);
        }));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
        self.shared.sink.close();
    }
}

#[derive(Debug)]
struct Shared {
    sink: Arc<Sink>,
    settings: ArcSwap<Settings>,
}

#[derive(Debug)]
struct Settings {
    format: Format,
    levels: Levels,
}

impl Settings {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        self.levels
            .0
            .would_enable(metadata.target(), metadata.level())
    }
}

/// The `tracing` layer: formats an event and hands the line to the sink. Spans are not kept.
#[derive(Debug)]
struct LineLayer(Arc<Shared>);

impl<S: Subscriber> Layer<S> for LineLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Asked once per place in the code, and again after `configure`.
        if self.0.settings.load().wants(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.0.settings.load().wants(metadata)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        thread_local! {
            static LINE: RefCell<String> = const { RefCell::new(String::new()) };
        }
        let format = self.0.settings.load().format;
        let kept = LINE.try_with(|line| {
            // Taken while a value's own Debug logs, or gone with its thread.
            let Ok(mut line) = line.try_borrow_mut() else {
                return false;
            };
            line.clear();
            format::append(format, event, &mut line);
            self.0.sink.append(line.as_bytes());
            line.shrink_to(KEPT_LINE);
            true
        });
        if !matches!(kept, Ok(true)) {
            let mut line = String::new();
            format::append(format, event, &mut line);
            self.0.sink.append(line.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use parking_lot::Mutex;
    use tracing::{debug, error, info, subscriber, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What `events` writes at `levels`.
    fn written(format: Format, levels: &str, events: impl FnOnce(&Log)) -> Vec<String> {
        let lines = Lines::default();
        let sink = Sink::start(lines.clone(), Metrics::new().log_dropped()).unwrap();
        let log = Log::over(sink, format, levels.parse().unwrap());
        subscriber::with_default(Registry::default().with(log.layer()), || events(&log));
        assert!(log.flush());
        let bytes = lines.0.lock().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn json_events_are_json_with_their_fields_on_top() {
        let lines = written(Format::Json, "info", |_| {
            info!(
                target: "request",
                user = "a\"b\u{1b}",
                status = 200_u16,
                took = 1.5,
                ratio = f64::NAN,
                delta = -3,
                live = true,
                absent = Option::<&str>::None,
                id = %"x\ny",
                kind = ?Some(1),
                "done"
            );
        });
        let event: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(lines.len(), 1);
        assert_eq!(event["level"], "INFO");
        assert_eq!(event["target"], "request");
        assert_eq!(event["message"], "done");
        assert_eq!(event["user"], "a\"b\u{1b}");
        assert_eq!(event["status"], 200);
        assert_eq!(event["took"], 1.5);
        assert_eq!(event["ratio"], serde_json::Value::Null);
        assert_eq!(event["delta"], -3);
        assert_eq!(event["live"], true);
        assert_eq!(event["id"], "x\ny");
        assert_eq!(event["kind"], "Some(1)");
        assert!(event.get("absent").is_none());
        let time = event["time"].as_str().unwrap();
        assert_eq!(time.len(), "2026-11-22T09:00:00.123456Z".len());
        assert!(time.parse::<jiff::Timestamp>().is_ok());
    }

    #[test]
    fn text_events_are_one_line_with_quotes_where_needed() {
        let lines = written(Format::Text, "info", |_| {
            warn!(target: "config", key = "a b", plain = "x\r\n", empty = "", n = 3, "two\nlines");
        });
        assert_eq!(lines.len(), 1);
        let (_, event) = lines[0].split_once(' ').unwrap();
        assert_eq!(
            event,
            r#"WARN  config: two\nlines key="a b" plain=x\r\n empty="" n=3"#
        );
    }

    #[test]
    fn members_stand_in_the_event_as_they_were_given() {
        let lines = written(Format::Json, "info", |_| {
            Members::gather(
                "said",
                |members| {
                    members.text(field!("name"), Some("a\"b\n"));
                    members.text(field!("absent"), None);
                    members.number(field!("n"), Some(u64::MAX));
                    members.truth(field!("sure"), Some(false));
                },
                |members| info!(target: "t", members),
            );
        });
        let event: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(event["message"], "said");
        assert_eq!(event["target"], "t");
        assert_eq!(event["name"], "a\"b\n");
        assert_eq!(event["n"], u64::MAX);
        assert_eq!(event["sure"], false);
        assert!(event.get("absent").is_none());
    }

    #[test]
    fn levels_decide_by_target_and_hold_the_noisy() {
        let all = |_: &Log| {
            debug!(target: "seg_core::admin", "a");
            debug!(target: "other", "b");
            warn!(target: "hyper::proto::h1", "idle");
            error!(target: "hyper::proto::h1", "c");
        };
        let targets = |levels: &str| -> Vec<String> {
            written(Format::Text, levels, all)
                .iter()
                .map(|line| line.rsplit_once(' ').unwrap().1.to_owned())
                .collect()
        };
        assert_eq!(targets("info"), ["c"]);
        assert_eq!(targets("info,seg_core::admin=debug"), ["a", "c"]);
        assert_eq!(targets("info,hyper=warn"), ["idle", "c"]);
        assert_eq!(targets("off,other=trace"), ["b", "c"]);
        for refused in ["loud", "", "info,", "=info", "seg=loud"] {
            let error = refused.parse::<Levels>().unwrap_err().to_string();
            assert!(error.contains(refused), "{error}");
        }
    }

    #[test]
    fn settings_change_while_the_log_is_open() {
        let lines = written(Format::Text, "off", |log| {
            let say = || info!(target: "t", "said");
            say();
            log.configure(Format::Json, "info".parse().unwrap());
            say();
        });
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("{\"time\""));
    }

    #[test]
    fn a_value_that_logs_while_it_is_formatted_does_no_harm() {
        struct Chatty;
        impl std::fmt::Debug for Chatty {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                info!(target: "inner", "inner");
                f.write_str("chatty")
            }
        }
        let lines = written(
            Format::Text,
            "info",
            |_| info!(target: "outer", value = ?Chatty, "outer"),
        );
        assert_eq!(
            lines.len(),
            1,
            "tracing itself drops an event within an event"
        );
        assert!(lines[0].ends_with("outer value=chatty"));
    }
}
