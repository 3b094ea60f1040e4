//! What is remembered of a request: one structured event, and the metrics.
//!
//! The last room. A record is begun with the request and lives as long as its answer is being
//! sent, so that it tells how the request ended, whatever ended it. `Authorization`,
//! `AttachmentName` and message content have no field here.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use seg_compliance::{Decision, DeviceKey, UserKey};

use crate::handshake::Connection;
use crate::message::{BodyGuard, Reply, StreamBroken};
use crate::runtime::CutOrder;
use crate::telemetry::log::{Members, field};
use crate::telemetry::metrics::{Live, Metrics, Outcome, Protocol};
use crate::telemetry::pseudonym::Pseudonym;

/// One request, from its head to the last byte of its answer. Recorded when dropped.
#[derive(Debug)]
pub struct Record {
    connection: Arc<Connection>,
    pseudonym: Arc<Pseudonym>,
    begun: Instant,
    over: Option<Instant>,
    protocol: Protocol,
    command: &'static str,
    device: Option<DeviceKey>,
    user: Option<UserKey>,
    agent: Option<Arc<str>>,
    decision: Option<Decision>,
    upstream: Option<Arc<str>>,
    status: Option<u16>,
    outcome: Outcome,
    /// Why, in a word out of the program's tables.
    reason: Option<&'static str>,
    /// Why, in words: for the log, never for the client.
    detail: Option<Box<str>>,
    /// The class of EWS client and where its device was found.
    stands: Option<(&'static str, &'static str)>,
    /// Where a stream tells that it was cut.
    cut_cell: Option<Arc<OnceLock<Arc<CutOrder>>>>,
    replayed: bool,
    expected: Option<u64>,
    sent: u64,
    live: Option<Live>,
}

impl Record {
    /// Begins a record.
    pub fn begin(connection: &Arc<Connection>, pseudonym: &Arc<Pseudonym>) -> Self {
        Self {
            connection: Arc::clone(connection),
            pseudonym: Arc::clone(pseudonym),
            begun: Instant::now(),
            over: None,
            protocol: Protocol::None,
            command: "",
            device: None,
            user: None,
            agent: None,
            decision: None,
            upstream: None,
            status: None,
            // Until an answer is made, the only thing that can end the request is its client.
            outcome: Outcome::ClientGone,
            reason: None,
            detail: None,
            stands: None,
            cut_cell: None,
            replayed: false,
            expected: None,
            sent: 0,
            live: None,
        }
    }

    /// The request is over: its connection waits for another.
    pub fn over(&mut self) {
        let now = Instant::now();
        self.over = Some(now);
        self.connection.phase.idle(now.into());
    }

    fn metrics(&self) -> &Metrics {
        &self.connection.core.shared.metrics
    }

    /// The protocol is known.
    pub fn protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// The command is known: the request counts as in flight under it.
    pub fn command(&mut self, command: &'static str) {
        self.command = command;
        self.live = Some(self.metrics().live(self.protocol, command));
    }

    /// The device and the client program are known.
    pub fn device(&mut self, device: Option<&DeviceKey>, agent: &Arc<str>) {
        self.device = device.cloned();
        self.agent = (!agent.is_empty()).then(|| Arc::clone(agent));
    }

    /// The user is known.
    pub fn user(&mut self, user: &UserKey) {
        self.user = Some(user.clone());
    }

    /// The verdict is known.
    pub fn decision(&mut self, decision: &Decision) {
        self.metrics().decided(self.protocol, decision);
        self.decision = Some(decision.clone());
    }

    /// A block came while the request was in flight, `taken` at that time.
    pub fn cut(&mut self, decision: &Decision, taken: Instant) {
        self.metrics().cut(self.protocol, taken.elapsed());
        self.decision = Some(decision.clone());
        self.outcome = Outcome::Cut;
    }

    /// The class of EWS client and the rung of the ladder that named its device are known.
    pub fn stands(&mut self, class: &'static str, rung: &'static str) {
        self.stands = Some((class, rung));
    }

    /// The answer is a stream that says so in `cell` when a block has ended it.
    pub fn may_be_cut(&mut self, cell: &Arc<OnceLock<Arc<CutOrder>>>) {
        self.cut_cell = Some(Arc::clone(cell));
    }

    /// The server that is asked.
    pub fn upstream(&mut self, name: &Arc<str>) {
        self.upstream = Some(Arc::clone(name));
    }

    /// The request was sent a second time.
    pub fn replayed(&mut self) {
        self.replayed = true;
        self.metrics().replay();
    }

    /// The server failed, and this one has answered in its place.
    pub fn moved(&mut self, name: &Arc<str>) {
        self.upstream = Some(Arc::clone(name));
        self.metrics().moved();
    }

    /// How the request ends, if nothing else happens.
    pub fn outcome(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// Whether that is how it ends.
    pub fn is(&self, outcome: Outcome) -> bool {
        self.outcome == outcome
    }

    /// Why, as a word out of the program's tables and in words.
    pub fn because(&mut self, reason: &'static str, detail: Option<String>) {
        self.reason = Some(reason);
        self.detail = detail.map(Into::into);
    }

    /// What else is to be known of it, in words.
    pub fn detail(&mut self, detail: &str) {
        self.detail = Some(detail.into());
    }

    /// A malformed request: counted, and why.
    pub fn bad_request(&mut self, reason: &'static str, detail: Option<String>) {
        self.metrics().bad_request(reason);
        self.outcome = Outcome::Rejected;
        self.because(reason, detail);
    }

    /// The answer is made; its body is still to be sent.
    pub fn answered(&mut self, reply: &Reply, head_only: bool) {
        self.status = Some(reply.status.as_u16());
        self.expected = if head_only {
            Some(0)
        } else {
            reply.body.length()
        };
    }
}

impl BodyGuard for Record {
    fn sent(&mut self, n: usize) {
        self.sent += n as u64;
    }

    fn ended(&mut self, end: Result<(), &StreamBroken>) {
        let Err(broken) = end else {
            self.expected = Some(self.sent);
            return;
        };
        self.expected = None;
        if self.outcome == Outcome::Forwarded {
            self.outcome = Outcome::UpstreamFailed;
        }
        if let Some(what) = &broken.server {
            self.metrics().bad_request("upstream_broke_off");
            self.reason = Some("upstream_broke_off");
            self.detail = Some(what.clone());
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(order) = self.cut_cell.take().and_then(|cell| cell.get().cloned()) {
            self.cut(&order.decision, order.taken);
        }
        let whole = self.expected.is_some_and(|expected| self.sent >= expected);
        if !whole && self.status.is_some() && self.outcome == Outcome::Forwarded {
            self.outcome = Outcome::ClientGone;
        }
        self.metrics()
            .request_done(self.protocol, self.command, self.status, self.outcome);
        if tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            Members::gather(
                "request",
                |members| self.tell(members),
                |members| tracing::info!(target: TARGET, members),
            );
        }
    }
}

/// The target of the event that every request writes.
const TARGET: &str = "seg::request";

impl Record {
    /// The fields of the request's event. What a caller must not find in a log has no line here.
    fn tell(&self, members: &mut Members<'_>) {
        members.word(field!("peer"), &self.connection.peer_parts.0);
        members.word(field!("protocol"), self.protocol.as_str());
        members.word(field!("command"), self.command);
        if let Some(user) = &self.user {
            let name = self.pseudonym.user(user.as_str());
            members.text(field!("user"), Some(name.as_str()));
        }
        if let Some(device) = &self.device {
            let name = self.pseudonym.device(device.as_str());
            members.text(field!("device"), Some(name.as_str()));
        }
        members.text(field!("agent"), self.agent.as_deref());
        members.text(field!("client_class"), self.stands.map(|(class, _)| class));
        members.text(field!("device_from"), self.stands.map(|(_, rung)| rung));
        members.number(field!("status"), self.status.map(u64::from));
        members.word(field!("outcome"), self.outcome.as_str());
        if let Some(decision) = &self.decision {
            members.word(field!("verdict"), decision.verdict.name());
            members.word(field!("step"), decision.step.name());
            members.text(field!("rule"), decision.rule.as_deref());
            members.text(field!("verdict_reason"), decision.reason.as_deref());
            members.number(field!("revision"), Some(decision.revision));
            members.truth(field!("enforced"), Some(decision.enforced));
            if let Some(trial) = &decision.trial {
                members.text(field!("test_rule"), Some(&trial.rule));
                members.word(field!("test_verdict"), trial.verdict.name());
            }
        }
        members.text(field!("reason"), self.reason);
        members.text(field!("detail"), self.detail.as_deref());
        members.text(field!("upstream"), self.upstream.as_deref());
        members.truth(field!("replayed"), self.replayed.then_some(true));
        members.number(field!("sent"), Some(self.sent));
        let took = self.over.unwrap_or_else(Instant::now) - self.begun;
        let micros = u64::try_from(took.as_micros());
        members.number(field!("micros"), Some(micros.unwrap_or(u64::MAX)));
    }
}
