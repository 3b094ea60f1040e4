//! The metrics of design "Metrics": every family is registered at start and shows HELP and TYPE
//! from then on, with or without a series.
//!
//! What every request counts (`request_done`, `decision`, `live`) goes to per-thread series
//! ([`per_thread`]): no lock, no allocation, no cache line shared between cores. The rest counts
//! seldom and uses prometheus-client's own families.

mod exposition;
mod labels;
mod moments;
mod per_thread;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use seg_compliance::Decision;

pub use exposition::Exposition;
pub use labels::{DeviceState, Mode, Outcome, Protocol, Scheme, Status, Step, Verdict};
use moments::Moments;
use per_thread::{Exposed, Series};

/// Upper bounds, in seconds, of the buckets of `seg_cut_seconds`: from the goal (1 ms) down to
/// half of it and up to a cut that is no longer "now".
const CUT_BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0,
];

/// The gateway's metrics. One value per gateway, shared as `Arc`.
pub struct Metrics {
    registry: Registry,
    requests: Arc<Series<labels::Request>>,
    decisions: Arc<Series<labels::Decision>>,
    live: Arc<Series<labels::Live>>,
    cuts: Family<labels::Cut, Counter>,
    cut_seconds: Histogram,
    bad_requests: Family<labels::BadRequest, Counter>,
    challenges_removed: Family<labels::Challenge, Counter>,
    unknown_tags: Counter,
    content: Family<labels::Content, Counter>,
    upstream_up: Family<labels::Upstream, Gauge>,
    upstream_ejected: Family<labels::Upstream, Gauge>,
    upstream_in_flight: Family<labels::Upstream, Gauge>,
    upstream_connections: Family<labels::Upstream, Gauge>,
    replays: Counter,
    moves: Counter,
    config_reload_ok: Gauge,
    devices: Family<labels::Devices, Gauge>,
    store_ok: Gauge,
    sources: Moments,
    certificates: Moments,
    log_dropped: Counter,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Registers every family. `seg_config_reload_ok` starts at 1 (a gateway starts on a
    /// configuration that was read), `seg_store_ok` at 0 (until the journal says otherwise).
    pub fn new() -> Arc<Self> {
        let mut this = Self {
            registry: Registry::default(),
            requests: Series::counters(),
            decisions: Series::counters(),
            live: Series::gauges(),
            cuts: Family::default(),
            cut_seconds: Histogram::new(CUT_BUCKETS),
            bad_requests: Family::default(),
            challenges_removed: Family::default(),
            unknown_tags: Counter::default(),
            content: Family::default(),
            upstream_up: Family::default(),
            upstream_ejected: Family::default(),
            upstream_in_flight: Family::default(),
            upstream_connections: Family::default(),
            replays: Counter::default(),
            moves: Counter::default(),
            config_reload_ok: Gauge::default(),
            devices: Family::default(),
            store_ok: Gauge::default(),
            sources: Moments::since("source"),
            certificates: Moments::until("name"),
            log_dropped: Counter::default(),
        };
        this.config_reload_ok.set(1);
        for protocol in [Protocol::Eas, Protocol::Ews] {
            // An alert on the first cut needs the zero before it.
            this.cuts.get_or_create_owned(&labels::Cut { protocol });
        }
        this.register();
        Arc::new(this)
    }

    /// The one table of family names. A counter is registered without its suffix `_total`.
    fn register(&mut self) {
        let mut family = |name: &str, help: &str, metric: Box<dyn Metric>| {
            self.registry.register(name, help, Described(metric));
        };
        family(
            "seg_requests",
            "Requests by how they ended; status is what the client was sent",
            Box::new(Exposed(Arc::clone(&self.requests))),
        );
        family(
            "seg_decisions",
            "Verdicts taken, and the step that decided",
            Box::new(Exposed(Arc::clone(&self.decisions))),
        );
        family(
            "seg_live_requests",
            "Requests in flight, long polls among them",
            Box::new(Exposed(Arc::clone(&self.live))),
        );
        family(
            "seg_cuts",
            "Requests in flight that a block ended",
            Box::new(self.cuts.clone()),
        );
        family(
            "seg_cut_seconds",
            "Time from a block to the refusal on the wire of a request in flight",
            Box::new(self.cut_seconds.clone()),
        );
        family(
            "seg_bad_requests",
            "Requests refused as malformed, by reason",
            Box::new(self.bad_requests.clone()),
        );
        family(
            "seg_challenges_removed",
            "Authentication challenges taken out of upstream answers",
            Box::new(self.challenges_removed.clone()),
        );
        family(
            "seg_eas_unknown_tags",
            "WBXML tags of requests that no edition of the specification knows, let through",
            Box::new(self.unknown_tags.clone()),
        );
        family(
            "seg_content",
            "What content rules did: attachments, links, mails",
            Box::new(self.content.clone()),
        );
        family(
            "seg_upstream_up",
            "1 while the upstream passes its health check",
            Box::new(self.upstream_up.clone()),
        );
        family(
            "seg_upstream_ejected",
            "1 while the upstream is left out because requests failed on it",
            Box::new(self.upstream_ejected.clone()),
        );
        family(
            "seg_upstream_in_flight",
            "Requests that the upstream has not answered to their end",
            Box::new(self.upstream_in_flight.clone()),
        );
        family(
            "seg_upstream_connections",
            "Connections to the upstream, idle ones included",
            Box::new(self.upstream_connections.clone()),
        );
        family(
            "seg_upstream_moves",
            "Requests that another upstream answered because the chosen one failed",
            Box::new(self.moves.clone()),
        );
        family(
            "seg_replays",
            "Requests sent a second time because a reused connection had been closed",
            Box::new(self.replays.clone()),
        );
        family(
            "seg_config_reload_ok",
            "1 when the last reading of the configuration was taken over, 0 when it was refused",
            Box::new(self.config_reload_ok.clone()),
        );
        family(
            "seg_devices",
            "Devices by state; the states overlap",
            Box::new(self.devices.clone()),
        );
        family(
            "seg_store_ok",
            "1 while changes are made durable, 0 when the journal refuses them",
            Box::new(self.store_ok.clone()),
        );
        family(
            "seg_source_age_seconds",
            "Age of what a source last reported",
            Box::new(self.sources.clone()),
        );
        family(
            "seg_certificate_expiry_seconds",
            "Seconds until a certificate expires, negative afterwards",
            Box::new(self.certificates.clone()),
        );
        family(
            "seg_log_dropped",
            "Log events dropped because standard output did not take them",
            Box::new(self.log_dropped.clone()),
        );
    }

    /// Counts a request at its end. `command` is a name of the program's own tables; `status` is
    /// the code sent to the client, `None` where none was.
    pub fn request_done(
        &self,
        protocol: Protocol,
        command: &'static str,
        status: Option<u16>,
        outcome: Outcome,
    ) {
        self.requests.increment(labels::Request {
            protocol,
            command,
            status: status.map_or(Status::NO_ANSWER, Status::from_code),
            outcome,
        });
    }

    /// Counts a verdict.
    pub fn decision(&self, protocol: Protocol, verdict: Verdict, step: Step, mode: Mode) {
        self.decisions.increment(labels::Decision {
            protocol,
            verdict,
            step,
            mode,
        });
    }

    /// Counts a verdict of the engine's, and what a policy in test mode would have given.
    pub fn decided(&self, protocol: Protocol, decision: &Decision) {
        let step = match decision.step {
            seg_compliance::Step::Override => Step::Override,
            seg_compliance::Step::Mdm => Step::Mdm,
            seg_compliance::Step::Policy => Step::Policy,
            seg_compliance::Step::Default => Step::Default,
        };
        let mode = if decision.enforced {
            Mode::Enforce
        } else {
            Mode::Observe
        };
        self.decision(protocol, verdict_label(decision.verdict), step, mode);
        if let Some(trial) = &decision.trial {
            let verdict = verdict_label(trial.verdict);
            self.decision(protocol, verdict, Step::Policy, Mode::Test);
        }
    }

    /// Counts a request as in flight until the guard is dropped.
    #[must_use = "the request counts as in flight until the guard is dropped"]
    pub fn live(&self, protocol: Protocol, command: &'static str) -> Live {
        let part = self.live.part(labels::Live { protocol, command });
        part.fetch_add(1, Ordering::Relaxed);
        Live(part)
    }

    /// Counts a cut and the time from the block to the refusal.
    pub fn cut(&self, protocol: Protocol, took: Duration) {
        self.cuts.get_or_create(&labels::Cut { protocol }).inc();
        self.cut_seconds.observe(took.as_secs_f64());
    }

    /// Counts a malformed request. `reason` is a name of the program's own tables.
    pub fn bad_request(&self, reason: &'static str) {
        self.bad_requests
            .get_or_create(&labels::BadRequest { reason })
            .inc();
    }

    /// Counts a challenge taken out of an answer.
    pub fn challenge_removed(&self, scheme: Scheme) {
        self.challenges_removed
            .get_or_create(&labels::Challenge { scheme })
            .inc();
    }

    /// Counts what content rules did. `action` is a name of the program's own tables.
    pub fn content(&self, action: &'static str, count: usize) {
        if count > 0 {
            self.content
                .get_or_create(&labels::Content { action })
                .inc_by(count as u64);
        }
    }

    /// Counts tags of a request that nobody knows.
    pub fn unknown_tags(&self, count: u64) {
        if count > 0 {
            self.unknown_tags.inc_by(count);
        }
    }

    /// Counts a replay.
    pub fn replay(&self) {
        self.replays.inc();
    }

    /// Counts a request that went on to another upstream.
    pub fn moved(&self) {
        self.moves.inc();
    }

    /// Sets what an upstream has to do, and whether it is left out; at an exposition.
    pub fn upstream_load(
        &self,
        upstream: &str,
        ejected: bool,
        in_flight: usize,
        connections: usize,
    ) {
        let labels = labels::Upstream {
            upstream: upstream.to_owned(),
        };
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.upstream_ejected
            .get_or_create(&labels)
            .set(ejected.into());
        self.upstream_in_flight
            .get_or_create(&labels)
            .set(count(in_flight));
        self.upstream_connections
            .get_or_create(&labels)
            .set(count(connections));
    }

    /// Sets the health of an upstream; `upstream` is its address out of the configuration.
    pub fn upstream_up(&self, upstream: &str, up: bool) {
        let upstream = upstream.to_owned();
        self.upstream_up
            .get_or_create(&labels::Upstream { upstream })
            .set(up.into());
    }

    /// Forgets upstreams that a reload took out of the configuration.
    pub fn retain_upstreams(&self, upstreams: &[&str]) {
        let kept: Vec<_> = upstreams
            .iter()
            .filter_map(|&name| {
                let labels = labels::Upstream {
                    upstream: name.to_owned(),
                };
                let up = self.upstream_up.get(&labels)?.get();
                Some((labels, up))
            })
            .collect();
        for family in [
            &self.upstream_up,
            &self.upstream_ejected,
            &self.upstream_in_flight,
            &self.upstream_connections,
        ] {
            family.clear();
        }
        for (labels, up) in kept {
            self.upstream_up.get_or_create(&labels).set(up);
        }
    }

    /// Says whether the last reading of the configuration was taken over.
    pub fn config_reload(&self, ok: bool) {
        self.config_reload_ok.set(ok.into());
    }

    /// Says whether the journal makes changes durable.
    pub fn store_ok(&self, ok: bool) {
        self.store_ok.set(ok.into());
    }

    /// Sets the number of devices in a state.
    pub fn devices(&self, state: DeviceState, count: u64) {
        self.devices
            .get_or_create(&labels::Devices { state })
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Notes that a source has reported; its age counts from `at`. `source` is its name out of
    /// the configuration.
    pub fn source_reported(&self, source: &str, at: Timestamp) {
        self.sources.set(source, at);
    }

    /// Sets the end of a certificate's life; the time left is reckoned at each exposition. `name`
    /// is the certificate's place in the configuration.
    pub fn certificate_expiry(&self, name: &str, not_after: Timestamp) {
        self.certificates.set(name, not_after);
    }

    /// The counter of log events that were dropped, for the log's writer.
    pub fn log_dropped(&self) -> Counter {
        self.log_dropped.clone()
    }

    /// The exposition in Prometheus' text format 0.0.4.
    pub fn encode(&self) -> String {
        self.encode_as(Exposition::Prometheus)
    }

    /// The exposition in the format that a scraper asked for.
    pub fn encode_as(&self, format: Exposition) -> String {
        exposition::encode(&self.registry, format)
    }
}

/// A request in flight, as `seg_live_requests` counts it; dropped at the request's end, on
/// whatever thread.
#[derive(Debug)]
pub struct Live(Arc<AtomicI64>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A metric whose HELP and TYPE are shown while it has no series; the registry by itself leaves
/// empty families out.
#[derive(Debug)]
struct Described(Box<dyn Metric>);

impl EncodeMetric for Described {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.0.metric_type()
    }

    fn is_empty(&self) -> bool {
        false
    }
}

const fn verdict_label(verdict: seg_compliance::Verdict) -> Verdict {
    match verdict {
        seg_compliance::Verdict::Allow => Verdict::Allow,
        seg_compliance::Verdict::Block => Verdict::Block,
        seg_compliance::Verdict::Quarantine => Verdict::Quarantine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Design "Metrics": name, type.
    const FAMILIES: &[(&str, &str)] = &[
        ("seg_requests_total", "counter"),
        ("seg_decisions_total", "counter"),
        ("seg_live_requests", "gauge"),
        ("seg_cuts_total", "counter"),
        ("seg_cut_seconds", "histogram"),
        ("seg_bad_requests_total", "counter"),
        ("seg_challenges_removed_total", "counter"),
        ("seg_upstream_up", "gauge"),
        ("seg_replays_total", "counter"),
        ("seg_config_reload_ok", "gauge"),
        ("seg_devices", "gauge"),
        ("seg_store_ok", "gauge"),
        ("seg_source_age_seconds", "gauge"),
        ("seg_certificate_expiry_seconds", "gauge"),
    ];

    #[test]
    fn every_family_is_described_from_the_start() {
        let text = Metrics::new().encode();
        for (name, kind) in FAMILIES {
            assert!(text.contains(&format!("# HELP {name} ")), "{name}\n{text}");
            assert!(
                text.contains(&format!("# TYPE {name} {kind}\n")),
                "{name}\n{text}"
            );
        }
        let open = Metrics::new().encode_as(Exposition::OpenMetrics);
        assert!(open.contains("# TYPE seg_requests counter\n"));
        assert!(open.ends_with("# EOF\n"));
    }

    #[test]
    fn requests_decisions_and_live_requests_have_the_labels_of_the_design() {
        let metrics = Metrics::new();
        metrics.request_done(Protocol::Eas, "Sync", Some(200), Outcome::Forwarded);
        metrics.request_done(Protocol::Eas, "Sync", Some(200), Outcome::Forwarded);
        metrics.request_done(Protocol::None, "none", None, Outcome::ClientGone);
        metrics.decision(Protocol::Ews, Verdict::Block, Step::Override, Mode::Enforce);
        let first = metrics.live(Protocol::Eas, "Ping");
        let second = metrics.live(Protocol::Eas, "Ping");
        drop(first);
        let text = metrics.encode();
        for line in [
            r#"seg_requests_total{protocol="eas",command="Sync",status="200",outcome="forwarded"} 2"#,
            r#"seg_requests_total{protocol="none",command="none",status="none",outcome="client_gone"} 1"#,
            r#"seg_decisions_total{protocol="ews",verdict="block",step="override",mode="enforce"} 1"#,
            r#"seg_live_requests{protocol="eas",command="Ping"} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        drop(second);
        assert!(metrics.encode().contains(r#"command="Ping"} 0"#));
    }

    #[test]
    fn the_rest_has_the_labels_of_the_design() {
        let metrics = Metrics::new();
        metrics.cut(Protocol::Eas, Duration::from_micros(700));
        metrics.bad_request("two_hosts");
        metrics.challenge_removed(Scheme::Ntlm);
        metrics.replay();
        metrics.upstream_up("https://a:443", true);
        metrics.upstream_up("https://b:443", false);
        metrics.retain_upstreams(&["https://b:443", "https://c:443"]);
        metrics.config_reload(false);
        metrics.store_ok(true);
        metrics.devices(DeviceState::Known, 3);
        let text = metrics.encode();
        for line in [
            r#"seg_cuts_total{protocol="eas"} 1"#,
            r#"seg_cut_seconds_bucket{le="0.0005"} 0"#,
            r#"seg_cut_seconds_bucket{le="0.001"} 1"#,
            r#"seg_cut_seconds_count 1"#,
            r#"seg_bad_requests_total{reason="two_hosts"} 1"#,
            r#"seg_challenges_removed_total{scheme="ntlm"} 1"#,
            r#"seg_replays_total 1"#,
            r#"seg_upstream_up{upstream="https://b:443"} 0"#,
            r#"seg_config_reload_ok 0"#,
            r#"seg_store_ok 1"#,
            r#"seg_devices{state="known"} 3"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(!text.contains("https://a:443") && !text.contains("https://c:443"));
    }
}
