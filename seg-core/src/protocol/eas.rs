//! ActiveSync (MS-ASHTTP, MS-ASCMD).

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ahash::RandomState;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use parking_lot::Mutex;
use seg_compliance::{Decision, DeviceKey};
use seg_eas::poll::{self, PollAsk};
use seg_eas::request_line::{self, RequestLineError};
use seg_eas::{Command, DeviceId, ProtocolVersion, Replay, answer};

use super::{Plan, PlanContext, Protocol};
use crate::forward::Held;
use crate::message::{Reply, ReplyBody};

/// One ActiveSync request.
#[derive(Debug)]
pub struct EasCall {
    kind: Kind,
    version: Option<ProtocolVersion>,
    line: Arc<Line>,
    raw_mime: bool,
}

/// What the query says, whatever else comes with it.
#[derive(Debug, Default)]
struct Line {
    /// Where the query names one.
    command: Option<Command>,
    version: Option<ProtocolVersion>,
    device: Option<DeviceKey>,
    device_type: Box<str>,
    user: Option<Box<str>>,
    /// The attachment that GetAttachment names.
    attachment: Option<Box<str>>,
    /// The query to forward, where it is not the client's own.
    upstream_query: Option<Box<str>>,
}

/// The query of a connection's last `POST`: a phone that polls asks the same again and again, and
/// comparing bytes is cheaper than reading them. Kept from the second time on, so that a poll that
/// waits alone on its connection costs nothing.
#[derive(Debug, Default)]
pub struct LineMemory(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    /// The length and a hash of the last query.
    last: (usize, u64),
    line: Option<(Box<str>, Arc<Line>)>,
}

impl LineMemory {
    fn read(&self, query: &str) -> Result<Arc<Line>, NotEas> {
        let mut memory = self.0.lock();
        if let Some((of, line)) = &memory.line
            && **of == *query
        {
            return Ok(Arc::clone(line));
        }
        let line = Arc::new(Line::of_post(query)?);
        let last = (query.len(), HASHER.hash_one(query));
        let again = memory.last == last;
        memory.last = last;
        memory.line = again.then(|| (query.into(), Arc::clone(&line)));
        Ok(line)
    }
}

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `OPTIONS`: which versions and commands the server knows. Never judged: a client that is not
    /// answered reports a broken server instead of a block.
    Options,
    /// A command by `POST`.
    Command(Command),
    /// Anything else that a browser or a monitor may ask; judged by its user.
    Other,
}

/// Why a request is no ActiveSync.
#[derive(Debug, thiserror::Error)]
pub enum NotEas {
    /// The query can't be read.
    #[error("the query is not one that MS-ASHTTP 2.2.1.1.1 allows: {0}")]
    Query(#[from] RequestLineError),
    /// A `POST` names no command.
    #[error("a POST without a query names no command")]
    NoCommand,
    /// `PUT`, `DELETE` and the like.
    #[error("ActiveSync knows POST and OPTIONS")]
    Method,
    /// The DeviceId is none that the engine can hold.
    #[error("the DeviceId can't be used: {0}")]
    Device(#[from] seg_compliance::KeyError),
}

impl NotEas {
    /// The label of `seg_bad_requests_total`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Query(error) => error.reason(),
            Self::NoCommand => "no_command",
            Self::Method => "eas_method",
            Self::Device(_) => "device_id",
        }
    }
}

const MS_AS_PROTOCOL_VERSION: HeaderName = HeaderName::from_static("ms-asprotocolversion");
const RAW_MIME: &[u8] = b"message/rfc822";

/// Media types are compared without case (RFC 9110 8.3.1).
fn is_raw_mime(declared: &HeaderValue) -> bool {
    let declared = declared.as_bytes();
    let end = memchr::memchr(b';', declared).unwrap_or(declared.len());
    let kind = declared.get(..end).unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(RAW_MIME)
}

impl Line {
    fn of_post(query: &str) -> Result<Self, NotEas> {
        let line = request_line::parse(query)?;
        Ok(Self {
            command: Some(line.command),
            version: line.version,
            device: device(line.device_id)?,
            device_type: line.device_type.as_deref().unwrap_or_default().into(),
            user: line.user.as_deref().map(Into::into),
            attachment: line.attachment_name.as_deref().map(Into::into),
            upstream_query: match line.upstream_query {
                Cow::Borrowed(_) => None,
                Cow::Owned(query) => Some(query.into()),
            },
        })
    }

    fn of_other(query: &str) -> Result<Self, NotEas> {
        let line = request_line::parse_options(query)?;
        Ok(Self {
            device: device(line.device_id)?,
            device_type: line.device_type.as_deref().unwrap_or_default().into(),
            user: line.user.as_deref().map(Into::into),
            ..Self::default()
        })
    }
}

fn device(id: Option<DeviceId>) -> Result<Option<DeviceKey>, NotEas> {
    Ok(id.map(|id| DeviceKey::new(id.as_str())).transpose()?)
}

impl EasCall {
    /// Reads the request line and the headers; the body is not touched.
    ///
    /// # Errors
    /// What makes the request malformed: HTTP 400, or 405 for the method.
    pub fn identify(
        method: &Method,
        query: Option<&str>,
        headers: &HeaderMap,
        memory: &LineMemory,
    ) -> Result<Self, NotEas> {
        let kind = match *method {
            Method::OPTIONS => Kind::Options,
            Method::POST | Method::GET | Method::HEAD => Kind::Other,
            _ => return Err(NotEas::Method),
        };
        let query = query.filter(|query| !query.is_empty());
        let header_version = headers
            .get(&MS_AS_PROTOCOL_VERSION)
            .and_then(|value| value.to_str().ok())
            .and_then(ProtocolVersion::from_header);
        if *method != Method::POST {
            return Ok(Self {
                kind,
                version: header_version,
                line: Arc::new(Line::of_other(query.unwrap_or_default())?),
                raw_mime: false,
            });
        }
        let line = memory.read(query.ok_or(NotEas::NoCommand)?)?;
        Ok(Self {
            kind: line.command.map_or(Kind::Other, Kind::Command),
            version: line.version.or(header_version),
            line,
            raw_mime: headers.get(CONTENT_TYPE).is_some_and(is_raw_mime),
        })
    }

    /// The query to forward, where it is not the client's own: a base64 query without escapes.
    pub fn upstream_query(&self) -> Option<&str> {
        self.line.upstream_query.as_deref()
    }

    /// Whether a verdict is needed: all but `OPTIONS`.
    pub fn judged(&self) -> bool {
        self.kind != Kind::Options
    }

    /// The `User` parameter, as the client claims it.
    pub fn claimed_user(&self) -> Option<&str> {
        self.line.user.as_deref()
    }

    /// The version, as `MS-ASProtocolVersion` writes it; empty for one that Microsoft never gave
    /// out.
    pub fn version_name(&self) -> &'static str {
        match self.version.map_or(0, ProtocolVersion::code) {
            10 => "1.0",
            20 => "2.0",
            21 => "2.1",
            25 => "2.5",
            120 => "12.0",
            121 => "12.1",
            140 => "14.0",
            141 => "14.1",
            160 => "16.0",
            161 => "16.1",
            _ => "",
        }
    }

    /// The command, a name out of the protocol's table.
    pub fn command_name(&self) -> &'static str {
        Protocol::command(self)
    }

    /// The device type that the request names.
    pub fn device_type_name(&self) -> &str {
        &self.line.device_type
    }

    pub(super) fn device_type(&self) -> &str {
        &self.line.device_type
    }

    /// The device that asks, where the request names one.
    pub fn device_key(&self) -> Option<&DeviceKey> {
        self.line.device.as_ref()
    }

    /// Whether it asks what the server knows.
    pub fn is_options(&self) -> bool {
        self.kind == Kind::Options
    }

    /// The protocol version that it speaks.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.version
    }

    /// The attachment that GetAttachment names.
    pub fn attachment(&self) -> Option<&str> {
        self.line.attachment.as_deref()
    }

    /// Whether the body, where there is one, must be WBXML: that of every command but mail that is
    /// sent as it is, and those that have none.
    pub fn has_wbxml(&self) -> bool {
        let mail = |command| {
            matches!(
                command,
                Command::SendMail | Command::SmartForward | Command::SmartReply
            )
        };
        self.eas_command()
            .is_some_and(|command| command.root().is_some() && !(self.raw_mime && mail(command)))
    }

    /// An answer that is nothing but a common Status.
    pub fn common(&self, status: answer::Status) -> Reply {
        eas_reply(answer::common(
            status,
            self.eas_command(),
            self.version,
            self.raw_mime,
        ))
    }

    /// The command, where it is one.
    pub fn eas_command(&self) -> Option<Command> {
        match self.kind {
            Kind::Command(command) => Some(command),
            Kind::Options | Kind::Other => None,
        }
    }

    /// How long the poll waits: `None` for one that answers at once.
    fn waits(&self, command: Command, body: &[u8], context: &PlanContext<'_>) -> Option<Duration> {
        if !command.is_poll() {
            return None;
        }
        let key = self
            .line
            .device
            .as_ref()
            .map(|device| (device.clone(), context.user.clone(), command.name()));
        let longest = u32::try_from(context.heartbeat_max.as_secs()).unwrap_or(u32::MAX);
        let seconds = match poll::read(command, body) {
            Ok(PollAsk::Wait { seconds }) => {
                if let Some(key) = key {
                    context.polls.remember(key, seconds);
                }
                seconds
            }
            Ok(PollAsk::NoWait) => {
                if let Some(key) = key {
                    context.polls.remember(key, 0);
                }
                0
            }
            // Its server repeats the request that it remembers; so do we. After a restart nobody
            // here remembers: the longest wait then.
            Ok(PollAsk::Empty) => key
                .and_then(|key| context.polls.recall(&key))
                .unwrap_or(longest),
            // Not ours to judge: the server will answer at once that it can't read it.
            Err(_) => 0,
        };
        (seconds > 0).then(|| Duration::from_secs(seconds.min(longest).into()))
    }
}

impl Protocol for EasCall {
    fn command(&self) -> &'static str {
        match self.kind {
            Kind::Options => "OPTIONS",
            Kind::Command(command) => command.name(),
            Kind::Other => "other",
        }
    }

    fn device(&self) -> Option<&DeviceKey> {
        self.line.device.as_ref()
    }

    fn plan(&self, held: &Held, context: &PlanContext<'_>) -> Plan {
        let mut plan = Plan {
            head_within: context.response,
            body_idle: context.response,
            replay: false,
            detached: false,
            poll: false,
        };
        let Some(command) = self.eas_command() else {
            plan.replay = self.is_options();
            return plan;
        };
        plan.detached = command.finishes_detached();
        let body = held.whole();
        plan.replay = match (command.replay(), body) {
            (Replay::Safe, Some(_)) => true,
            (Replay::FetchOnly, Some(body)) => {
                // What does more than fetch is finished like every other change.
                let only = seg_eas::item_operations::fetch_only(body);
                plan.detached |= !only;
                only
            }
            (Replay::Never, _) | (_, None) => false,
        };
        match body {
            Some(body) => {
                if let Some(wait) = self.waits(command, body, context) {
                    plan.poll = true;
                    plan.head_within = wait + context.heartbeat_margin;
                }
            }
            // Too large to be held: it may ask for any wait. An empty answer would not do for it.
            None if command.is_poll() => {
                plan.head_within = context.heartbeat_max + context.heartbeat_margin;
            }
            None => {}
        }
        plan
    }

    fn deny(&self, _decision: &Decision) -> Reply {
        eas_reply(answer::refusal(
            self.eas_command(),
            self.version,
            self.raw_mime,
        ))
    }

    fn end_poll(&self) -> Reply {
        eas_reply(answer::idle_end(
            self.eas_command().unwrap_or(Command::Ping),
        ))
    }
}

/// An answer of the codec's as the client leg takes it.
pub(crate) fn eas_reply(answer: answer::Answer) -> Reply {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::FORBIDDEN);
    let mut reply = Reply::empty(status);
    if let Some(content_type) = answer.content_type {
        reply
            .headers
            .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    if !answer.body.is_empty() {
        reply.body = ReplyBody::Full(match answer.body {
            Cow::Borrowed(body) => Bytes::from_static(body),
            Cow::Owned(body) => body.into(),
        });
    }
    reply
}

#[cfg(test)]
mod tests;
