//! The command line with its meaning: which call of the admin API, on which gateway. Here files,
//! the environment and the clock are read; after this nothing on the command line can be wrong.

use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use super::args::{self, Connection, Format, Verb};
use super::failure::Failure;
use super::settings;

/// Where the gateway is.
#[derive(Clone)]
pub(super) struct Gateway {
    /// `http://host:port`, no slash at the end.
    pub(super) url: String,
    /// The file that the token came from, for messages.
    pub(super) token_path: PathBuf,
    /// The token.
    pub(super) token: String,
    /// sources.toml.
    pub(super) sources: PathBuf,
    /// The proxy of sources that name none.
    pub(super) proxy: Option<String>,
}

impl Gateway {
    /// # Errors
    /// The URL is none, or the properties file or the token can't be read.
    pub(super) fn find(connection: &Connection) -> Result<Self, Failure> {
        let settings = settings::read(connection.config.as_deref(), |name| {
            std::env::var(name).ok()
        })?;
        let url = match &connection.admin {
            Some(url) => plain_url(url)?,
            None => settings::url_of(&settings.listen),
        };
        let token_path = connection.token_file.clone().unwrap_or(settings.token_path);
        let token = match std::fs::read_to_string(&token_path) {
            Ok(text) => text.trim().to_owned(),
            Err(source) => {
                return Err(Failure::Token {
                    path: token_path,
                    source,
                });
            }
        };
        Ok(Self {
            url,
            token_path,
            token,
            sources: settings.sources,
            proxy: settings.proxy,
        })
    }
}

fn plain_url(url: &str) -> Result<String, Failure> {
    let trimmed = url.trim_end_matches('/');
    match trimmed.strip_prefix("http://") {
        Some(host) if !host.is_empty() && !host.contains('/') => Ok(trimmed.to_owned()),
        _ => Err(Failure::Usage(format!(
            "--admin {url}: write http://host:port; the admin API speaks plain HTTP"
        ))),
    }
}

/// A device or a user.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    Device(String),
    User(String),
}

impl Target {
    /// The path of the target's override.
    pub(super) fn override_path(&self) -> String {
        match self {
            Self::Device(device) => format!("/v1/devices/{}/override", segment(device)),
            Self::User(user) => format!("/v1/users/{}/override", segment(user)),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Device(name) | Self::User(name) => f.write_str(name),
        }
    }
}

/// An override to be set.
#[derive(Debug)]
pub(super) struct Override {
    pub(super) target: Target,
    pub(super) verdict: &'static str,
    pub(super) reason: Option<String>,
    pub(super) expires: Option<Timestamp>,
}

/// An order to a device, to be given or taken back.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) device: String,
    pub(super) action: &'static str,
    pub(super) account_only: bool,
    pub(super) user: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) cancel: bool,
}

/// A call, ready to be made.
#[derive(Debug)]
pub(super) enum Job {
    Override(Override),
    Unblock(Target),
    Order(Order),
    Get(args::Get),
    /// `unbind`.
    Unbind {
        /// The DeviceId.
        device: String,
    },
    List(args::List),
    Import(Import),
    Export(Option<PathBuf>),
    Watch {
        from: Option<u64>,
    },
    Explain(args::Explain),
    Plan(Plan),
    Policies(args::PoliciesVerb),
    Pull(Pull),
    Report(ReportForm),
}

/// A plan: of a policies file, or of an import.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) what: Result<PathBuf, Import>,
    pub(super) limit: usize,
}

/// A reading of sources.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) source: Option<String>,
    /// sources.toml; `None`: where the properties file says.
    pub(super) sources: Option<PathBuf>,
    pub(super) daemon: bool,
    pub(super) every: Option<Duration>,
    pub(super) force: bool,
    pub(super) dry_run: bool,
}

/// What `report` prints.
#[derive(Debug)]
pub(super) enum ReportForm {
    Table,
    Csv,
    Audit {
        from: Option<String>,
        to: Option<String>,
    },
}

/// An import; `file` is `None` for standard input.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) file: Option<PathBuf>,
    pub(super) format: Format,
    pub(super) snapshot: bool,
    pub(super) source: Option<String>,
    pub(super) strict: bool,
    pub(super) dry_run: bool,
    pub(super) force: bool,
}

impl Job {
    /// # Errors
    /// `--expires` is no time, or not in the future.
    pub(super) fn of(verb: Verb, now: Timestamp) -> Result<Self, Failure> {
        Ok(match verb {
            Verb::Block(set) => Self::Override(set_of(set, "block", now)?),
            Verb::Allow(set) => Self::Override(set_of(set, "allow", now)?),
            Verb::Quarantine(set) => Self::Override(set_of(set, "quarantine", now)?),
            Verb::Unblock(target) => Self::Unblock(target_of(target)?),
            Verb::Wipe(wipe) => Self::Order(Order {
                account_only: wipe.account_only,
                ..order_of(wipe.order, "wipe")
            }),
            Verb::Resync(order) => Self::Order(order_of(order, "resync")),
            Verb::Reprovision(order) => Self::Order(order_of(order, "reprovision")),
            Verb::Unbind { device } => Self::Unbind { device },
            Verb::Get(get) => Self::Get(get),
            Verb::List(list) => Self::List(list),
            Verb::Import(import) => Self::Import(import_of(import)),
            Verb::Export(export) => {
                Self::Export(export.file.filter(|file| file.as_os_str() != "-"))
            }
            Verb::Watch(watch) => Self::Watch { from: watch.from },
            Verb::Explain(explain) => Self::Explain(explain),
            Verb::Plan(plan) => Self::Plan(plan_of(plan)),
            Verb::Policies(verb) => Self::Policies(verb),
            Verb::Pull(pull) => Self::Pull(Pull {
                every: pull.interval.as_deref().map(interval).transpose()?,
                source: pull.source,
                sources: pull.sources,
                daemon: pull.daemon,
                force: pull.force,
                dry_run: pull.dry_run,
            }),
            Verb::Report(report) if report.audit => Self::Report(ReportForm::Audit {
                from: report.from,
                to: report.to,
            }),
            Verb::Report(report) if report.csv => Self::Report(ReportForm::Csv),
            Verb::Report(_) => Self::Report(ReportForm::Table),
        })
    }
}

fn set_of(set: args::Set, verdict: &'static str, now: Timestamp) -> Result<Override, Failure> {
    Ok(Override {
        target: target_of(set.target)?,
        verdict,
        reason: set.reason,
        expires: set.expires.map(|text| expiry(&text, now)).transpose()?,
    })
}

fn order_of(order: args::Order, action: &'static str) -> Order {
    Order {
        device: order.device,
        action,
        account_only: false,
        user: order.user,
        reason: order.reason,
        cancel: order.cancel,
    }
}

fn target_of(target: args::Target) -> Result<Target, Failure> {
    match (target.device, target.user) {
        (Some(device), None) => Ok(Target::Device(device)),
        (None, Some(user)) => Ok(Target::User(user)),
        _ => Err(Failure::Usage(
            "name a device or --user, one of them".to_owned(),
        )),
    }
}

fn import_of(import: args::Import) -> Import {
    let by_name = match import.file.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("csv") => Format::Csv,
        _ => Format::Ndjson,
    };
    Import {
        format: import.format.unwrap_or(by_name),
        file: Some(import.file).filter(|file| file.as_os_str() != "-"),
        snapshot: import.snapshot,
        source: import.source,
        strict: import.strict,
        dry_run: import.dry_run,
        force: import.force,
    }
}

fn plan_of(plan: args::Plan) -> Plan {
    let is_policies = plan
        .file
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    let what = if is_policies {
        Ok(plan.file)
    } else {
        Err(import_of(args::Import {
            file: plan.file,
            snapshot: plan.snapshot,
            format: plan.format,
            source: plan.source,
            strict: false,
            dry_run: true,
            force: false,
        }))
    };
    Plan {
        what,
        limit: plan.limit,
    }
}

fn interval(text: &str) -> Result<Duration, Failure> {
    let length = crate::policy::span::milliseconds(text)
        .map_err(|why| Failure::Usage(format!("--interval: {why}")))?;
    match u64::try_from(length) {
        Ok(length) if length > 0 => Ok(Duration::from_millis(length)),
        _ => Err(Failure::Usage(
            "--interval must be longer than nothing".to_owned(),
        )),
    }
}

/// A time, or a duration from now.
fn expiry(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let refuse = |why: &str| {
        Failure::Usage(format!(
            "--expires {text}: {why}; write a duration such as 30m, 8h or 7d, or a time such as \
             2026-12-24T18:00:00Z"
        ))
    };
    let end = match (text.parse::<Timestamp>(), text.parse::<Span>()) {
        (Ok(end), _) => end,
        (Err(_), Ok(span)) => now
            .to_zoned(TimeZone::UTC)
            .checked_add(span)
            .map_err(|_| refuse("lies beyond the year 9999"))?
            .timestamp(),
        (Err(_), Err(_)) => return Err(refuse("is no time and no duration")),
    };
    if end <= now {
        return Err(refuse("is not in the future"));
    }
    Ok(end)
}

/// A text as one segment of a path (RFC 3986 section 3.3): everything but unreserved characters
/// is percent-encoded.
pub(super) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    // A segment that is a dot segment would be removed on the way (RFC 3986 section 5.2.4).
    match out.as_str() {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiries_are_times_or_durations() {
        let now: Timestamp = "2026-11-22T09:00:00Z".parse().unwrap();
        for (text, end) in [
            ("8h", "2026-11-22T17:00:00Z"),
            ("30m", "2026-11-22T09:30:00Z"),
            ("7d", "2026-11-29T09:00:00Z"),
            ("1d 12h", "2026-11-23T21:00:00Z"),
            ("2026-12-24T18:00:00Z", "2026-12-24T18:00:00Z"),
            ("2026-12-24T18:00:00+01:00", "2026-12-24T17:00:00Z"),
        ] {
            assert_eq!(expiry(text, now).unwrap(), end.parse().unwrap(), "{text}");
        }
        for text in [
            "",
            "soon",
            "-8h",
            "0s",
            "2026-11-22T09:00:00Z",
            "9000y",
            "2026-12-24",
        ] {
            let failure = expiry(text, now).unwrap_err().to_string();
            assert!(failure.contains("write a duration"), "{text}: {failure}");
        }
    }

    #[test]
    fn names_are_one_segment_of_a_path() {
        assert_eq!(segment("APPL-1._~"), "APPL-1._~");
        assert_eq!(segment("CORP\\alice/ü%"), "CORP%5Calice%2F%C3%BC%25");
        assert_eq!(segment(".."), "%2E%2E");
        let user = Target::User("alice@corp.example".to_owned());
        assert_eq!(
            user.override_path(),
            "/v1/users/alice%40corp.example/override"
        );
    }

    #[test]
    fn urls_are_plain_http_without_a_path() {
        assert_eq!(
            plain_url("http://10.0.0.1:1/").unwrap(),
            "http://10.0.0.1:1"
        );
        for url in ["https://a:1", "a:1", "http://", "http://a:1/v1"] {
            assert!(plain_url(url).is_err(), "{url}");
        }
    }
}
