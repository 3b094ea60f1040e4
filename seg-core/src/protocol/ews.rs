//! Exchange Web Services (SOAP 1.1 over HTTP, and the few forms of it that are plain `GET`s).

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use parking_lot::Mutex;
use seg_compliance::{Decision, DeviceKey};
use seg_ews::{Envelope, Operation, ServerVersion, answer};

use super::{Plan, PlanContext, Protocol};
use crate::forward::Held;
use crate::message::{Reply, ReplyBody};
use crate::route::EwsRoute;

/// One EWS request.
#[derive(Debug)]
pub struct EwsCall {
    kind: Kind,
    version: Arc<ServerVersion>,
    /// `ews.refusal=403`.
    plain_refusal: bool,
}

#[derive(Debug)]
enum Kind {
    /// SOAP whose operation is known.
    Soap(Box<SoapCall>),
    /// A form by `GET`, or a probe of the endpoint.
    Plain(&'static str),
}

#[derive(Debug)]
struct SoapCall {
    operation: Operation,
    /// Ids in the batch: as many response messages are expected back.
    batch: usize,
    /// Minutes of `ConnectionTimeout` in GetStreamingEvents.
    stream_minutes: Option<u32>,
}

impl EwsCall {
    /// A SOAP request whose operation the scanner has found.
    pub fn soap(envelope: &Envelope, version: Arc<ServerVersion>, plain_refusal: bool) -> Self {
        Self {
            kind: Kind::Soap(Box::new(SoapCall {
                operation: envelope.operation,
                batch: envelope.batch.max(1),
                stream_minutes: envelope.connection_timeout_minutes,
            })),
            version,
            plain_refusal,
        }
    }

    /// A SOAP request too large to be held, whose operation is known and whose rest is still
    /// being read.
    pub fn large(operation: Operation, version: Arc<ServerVersion>, plain_refusal: bool) -> Self {
        Self {
            kind: Kind::Soap(Box::new(SoapCall {
                operation,
                batch: 1,
                stream_minutes: None,
            })),
            version,
            plain_refusal,
        }
    }

    /// A request without SOAP; `None` where the method is not one for this path.
    pub fn plain(
        route: &EwsRoute,
        method: &Method,
        version: Arc<ServerVersion>,
        plain_refusal: bool,
    ) -> Option<Self> {
        let kind = match (route, method) {
            (EwsRoute::UserPhoto, &Method::GET | &Method::HEAD) => "GetUserPhoto",
            (EwsRoute::Static(_), &Method::GET | &Method::HEAD) => "description",
            (EwsRoute::Soap, &Method::GET | &Method::HEAD | &Method::OPTIONS) => "probe",
            _ => return None,
        };
        Some(Self {
            kind: Kind::Plain(kind),
            version,
            plain_refusal,
        })
    }
}

impl Protocol for EwsCall {
    fn command(&self) -> &'static str {
        match &self.kind {
            Kind::Soap(call) => call.operation.name(),
            Kind::Plain(name) => name,
        }
    }

    /// The ladder that finds a device on this leg belongs to a later version: users are judged.
    fn device(&self) -> Option<&DeviceKey> {
        None
    }

    fn plan(&self, held: &Held, context: &PlanContext<'_>) -> Plan {
        let mut plan = Plan {
            head_within: context.response,
            body_idle: context.response,
            replay: true,
            detached: false,
            poll: false,
        };
        if let Kind::Soap(call) = &self.kind {
            plan.replay = call.operation.replay_safe() && held.whole().is_some();
            plan.detached = call.operation.finishes_detached();
            if let Some(minutes) = call.stream_minutes.filter(|_| call.operation.is_long()) {
                let wait = Duration::from_secs(u64::from(minutes) * 60);
                plan.body_idle = wait.max(context.response) + context.heartbeat_margin;
            }
        }
        plan
    }

    fn deny(&self, decision: &Decision) -> Reply {
        let Kind::Soap(call) = &self.kind else {
            return Reply::text(StatusCode::FORBIDDEN, "Mail access is blocked.\n");
        };
        if self.plain_refusal {
            return Reply::text(StatusCode::FORBIDDEN, "Mail access is blocked.\n");
        }
        let text = match decision.reason.as_deref() {
            Some(reason) => format!("Mail access is blocked for this device or user: {reason}"),
            None => "Mail access is blocked for this device or user.".to_owned(),
        };
        let answer = answer::refusal(Some(call.operation), call.batch, &self.version, &text);
        ews_reply(answer)
    }

    fn end_poll(&self) -> Reply {
        Reply::unavailable()
    }
}

fn ews_reply(answer: answer::Answer) -> Reply {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::FORBIDDEN);
    let mut reply = Reply::empty(status);
    reply
        .headers
        .insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    reply.body = ReplyBody::Full(Bytes::from(answer.body));
    reply
}

/// The version that the EWS server named last. Clients want one in every answer, so a refusal
/// carries the server's own.
#[derive(Debug)]
pub struct ServerVersionMemory {
    version: ArcSwap<ServerVersion>,
    looked: Mutex<Option<Instant>>,
}

/// How often an answer is looked into for the version.
const LOOK_EVERY: Duration = Duration::from_secs(60);

impl ServerVersionMemory {
    /// Begins with `ews.refusal.server.version`.
    pub fn new(configured: ServerVersion) -> Self {
        Self {
            version: ArcSwap::from_pointee(configured),
            looked: Mutex::default(),
        }
    }

    /// The version for an answer of our own.
    pub fn current(&self) -> Arc<ServerVersion> {
        self.version.load_full()
    }

    /// Whether the next answer should be looked into.
    pub fn due(&self) -> bool {
        self.looked
            .lock()
            .is_none_or(|at| at.elapsed() >= LOOK_EVERY)
    }

    /// Learns from the first bytes of an answer.
    pub fn learn(&self, answer: &[u8]) {
        if let Some(version) = ServerVersion::scan(answer) {
            *self.looked.lock() = Some(Instant::now());
            self.version.store(Arc::new(version));
        }
    }
}
