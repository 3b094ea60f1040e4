//! Exchange Web Services (SOAP 1.1 over HTTP, and the few forms of it that are plain `GET`s).
//!
//! A request is read by seg-ews; what it says is put beside the class of client that it comes from
//! and the device that it belongs to ([`Standing`]), and from there the walk goes as with every
//! protocol. How the answer is passed on stands in [`Answering`].

mod answering;
mod certificate;
mod events;
mod ladder;
mod memory;
mod standing;
mod unsubscribe;
mod version;

pub use answering::{Answering, Picked, answered};
pub use certificate::ClientCertificate;
pub use events::Ending;
pub use ladder::{USER_RUNG, Unclear, without_devices};
pub use memory::{EwsMemory, Taken};
pub use standing::{EwsSettings, Standing, Whose};
pub use unsubscribe::Unsubscribe;
pub use version::ServerVersionMemory;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use seg_compliance::{Ask, Decision, DeviceKey, Engine, Step, Verdict};
use seg_ews::policy::RefusalForm;
use seg_ews::{Envelope, Operation, ServerVersion, answer};

use super::{Plan, PlanContext, Protocol};
use crate::decide::{self, Admitted};
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
    /// Set when it is known who asks.
    standing: Option<Box<Standing>>,
}

#[derive(Debug)]
enum Kind {
    /// SOAP whose operation is known.
    Soap(Box<SoapCall>),
    /// A form by `GET`, or a probe of the endpoint.
    Plain(Plain),
}

#[derive(Debug)]
struct SoapCall {
    /// What is known of the request; of a large one, as far as it had been read.
    facts: Envelope,
    /// Whether the rest is still being read.
    large: bool,
}

#[derive(Clone, Copy, Debug)]
enum Plain {
    UserPhoto,
    Description,
    Probe,
}

impl EwsCall {
    /// A SOAP request that has been read.
    pub fn soap(facts: Envelope, version: Arc<ServerVersion>, plain_refusal: bool) -> Self {
        Self::new(
            Kind::Soap(Box::new(SoapCall {
                facts,
                large: false,
            })),
            version,
            plain_refusal,
        )
    }

    /// A SOAP request too large to be held, whose operation is known and whose rest is still
    /// being read.
    pub fn large(facts: Envelope, version: Arc<ServerVersion>, plain_refusal: bool) -> Self {
        Self::new(
            Kind::Soap(Box::new(SoapCall { facts, large: true })),
            version,
            plain_refusal,
        )
    }

    /// A request without SOAP; `None` where the method is not one for this path.
    pub fn plain(
        route: &EwsRoute,
        method: &Method,
        version: Arc<ServerVersion>,
        plain_refusal: bool,
    ) -> Option<Self> {
        let kind = match (route, method) {
            (EwsRoute::UserPhoto, &Method::GET | &Method::HEAD) => Plain::UserPhoto,
            (EwsRoute::Static(_), &Method::GET | &Method::HEAD) => Plain::Description,
            (EwsRoute::Soap, &Method::GET | &Method::HEAD | &Method::OPTIONS) => Plain::Probe,
            _ => return None,
        };
        Some(Self::new(Kind::Plain(kind), version, plain_refusal))
    }

    const fn new(kind: Kind, version: Arc<ServerVersion>, plain_refusal: bool) -> Self {
        Self {
            kind,
            version,
            plain_refusal,
            standing: None,
        }
    }

    /// The operation, whichever form it is asked in.
    pub fn operation(&self) -> Option<Operation> {
        match &self.kind {
            Kind::Soap(call) => Some(call.facts.operation),
            Kind::Plain(Plain::UserPhoto) => Operation::from_name("GetUserPhoto"),
            Kind::Plain(Plain::Description | Plain::Probe) => None,
        }
    }

    /// What a SOAP request says.
    pub fn facts(&self) -> Option<&Envelope> {
        match &self.kind {
            Kind::Soap(call) => Some(&call.facts),
            Kind::Plain(_) => None,
        }
    }

    /// Puts the request beside who asks.
    pub fn stand(&mut self, standing: Standing) {
        self.standing = Some(Box::new(standing));
    }

    /// Who asks, once that is known.
    pub fn standing(&self) -> Option<&Standing> {
        self.standing.as_deref()
    }

    /// See [`super::Call::upstream_query`].
    pub fn upstream_query(&self) -> Option<&str> {
        self.standing.as_ref()?.query.as_deref()
    }

    /// What `[ews]` adds to an admission: its own word, and the verdict for the mailbox that the
    /// caller acts as. That mailbox's lease ends the request too.
    ///
    /// # Errors
    /// The decision that refuses the request.
    pub fn admit(
        &self,
        mut admitted: Admitted,
        engine: &Arc<Engine>,
        core: u16,
        ask: &Ask<'_>,
    ) -> Result<Admitted, Decision> {
        let Some(standing) = self.standing.as_deref() else {
            return Ok(admitted);
        };
        if let Some(denial) = standing.denial {
            let decision = Decision {
                verdict: Verdict::Block,
                step: Step::Policy,
                rule: Some(format!("ews.{}", standing.class.name()).into()),
                reason: Some(denial.reason().into()),
                revision: admitted.decision.revision,
                enforced: standing.enforced,
                trial: None,
            };
            if decision.refuses() {
                return Err(decision);
            }
            admitted.decision = decision;
        }
        if let Some(mailbox) = &standing.acts_as {
            let ask = Ask {
                device: None,
                user: Some(mailbox),
                ..*ask
            };
            decide::admit_also(&mut admitted, engine, core, &ask)?;
        }
        Ok(admitted)
    }

    /// Edits what the server is asked for besides the body: an answer that is looked into must not
    /// be compressed.
    pub fn prepare(&self, headers: &mut HeaderMap) {
        if self.is_stream() || self.standing().is_some_and(Standing::looks_into_answers) {
            headers.remove(ACCEPT_ENCODING);
        }
    }

    fn is_stream(&self) -> bool {
        self.facts().is_some_and(|facts| facts.operation.is_long())
    }
}

impl Protocol for EwsCall {
    fn command(&self) -> &'static str {
        match &self.kind {
            Kind::Soap(call) => call.facts.operation.name(),
            Kind::Plain(Plain::UserPhoto) => "GetUserPhoto",
            Kind::Plain(Plain::Description) => "description",
            Kind::Plain(Plain::Probe) => "probe",
        }
    }

    fn device(&self) -> Option<&DeviceKey> {
        self.standing.as_ref()?.device.as_ref()
    }

    fn plan(&self, held: &Held, context: &PlanContext<'_>) -> Plan {
        let mut plan = Plan {
            head_within: context.response,
            body_idle: context.response,
            replay: matches!(self.kind, Kind::Plain(Plain::UserPhoto)),
            detached: false,
            poll: false,
        };
        if let Kind::Soap(call) = &self.kind {
            let operation = call.facts.operation;
            plan.replay = operation.replay_safe() && held.whole().is_some();
            plan.detached = operation.finishes_detached();
            if operation.is_long() {
                plan.poll = true;
                let minutes = call.facts.connection_timeout_minutes.unwrap_or(MINUTES_MAX);
                let wait = Duration::from_secs(u64::from(minutes.min(MINUTES_MAX)) * 60);
                plan.body_idle = wait.max(context.response) + context.heartbeat_margin;
            }
        }
        plan
    }

    fn deny(&self, decision: &Decision) -> Reply {
        let standing = self.standing.as_deref();
        let plain = match standing.and_then(|standing| standing.refusal) {
            Some(RefusalForm::Forbidden) => true,
            Some(RefusalForm::Response) => false,
            None => self.plain_refusal,
        };
        let Kind::Soap(call) = &self.kind else {
            return Reply::text(StatusCode::FORBIDDEN, "Mail access is blocked.\n");
        };
        if plain {
            return Reply::text(StatusCode::FORBIDDEN, "Mail access is blocked.\n");
        }
        let text = refusal_text(decision);
        let operation = call.facts.operation;
        let batch = if call.large { 1 } else { call.facts.batch };
        let answer = answer::refusal(Some(operation), batch, &self.version, &text);
        ews_reply(answer)
    }

    fn end_poll(&self) -> Reply {
        let mut reply = Reply::empty(StatusCode::OK);
        let content_type = HeaderValue::from_static(seg_ews::callback::CONTENT_TYPE);
        reply.headers.insert(CONTENT_TYPE, content_type);
        reply.body = ReplyBody::Full(Bytes::from(answer::stream_close(&self.version)));
        reply
    }
}

/// The longest a server keeps a stream open, in minutes.
const MINUTES_MAX: u32 = 30;

fn refusal_text(decision: &Decision) -> String {
    match decision.reason.as_deref() {
        Some(reason) => format!("Mail access is blocked for this device or user: {reason}"),
        None => "Mail access is blocked for this device or user.".to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::PollMemory;
    use seg_compliance::UserKey;

    fn waits(timeout: &str) -> (Duration, bool) {
        let soap = format!(
            "<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Body>\
             <GetStreamingEvents xmlns='http://schemas.microsoft.com/exchange/services/2006/messages'>\
             {timeout}</GetStreamingEvents></s:Body></s:Envelope>"
        );
        let limits = seg_ews::Limits::default();
        let facts = seg_ews::classify(soap.as_bytes(), &limits).expect("a request");
        let call = EwsCall::soap(
            facts,
            Arc::new("15.2.1544.4".parse().expect("a version")),
            false,
        );
        let plan = call.plan(
            &Held {
                bytes: Bytes::new(),
                rest: None,
            },
            &PlanContext {
                response: Duration::from_secs(90),
                heartbeat_margin: Duration::from_secs(10),
                heartbeat_max: Duration::from_secs(3540),
                polls: &PollMemory::default(),
                user: &UserKey::new("alice@corp.example").expect("a user"),
            },
        );
        (plan.body_idle, plan.poll)
    }

    #[test]
    fn a_stream_is_waited_for_as_long_as_it_asks_and_no_longer_than_servers_allow() {
        let asked = |minutes: &str| format!("<ConnectionTimeout>{minutes}</ConnectionTimeout>");
        for (timeout, seconds) in [
            (asked("5"), 310),
            (asked("1"), 100),
            (asked("30"), 1810),
            (asked("31"), 1810),
            (asked("soon"), 1810),
            (String::new(), 1810),
        ] {
            assert_eq!(
                waits(&timeout),
                (Duration::from_secs(seconds), true),
                "{timeout}"
            );
        }
    }
}
