//! ActiveSync and EWS, as the pipeline sees them: who is asked for, how long the answer may take,
//! what a refusal looks like. Two implementations of one small trait, dispatched by an enum.

mod eas;
pub mod ews;

pub(crate) use eas::eas_reply;
pub use eas::{EasCall, LineMemory, NotEas};
pub use ews::{EwsCall, ServerVersionMemory};

use std::time::Duration;

use seg_compliance::{Decision, DeviceKey, UserKey};

use crate::decide::Generations;
use crate::forward::Held;
use crate::message::Reply;

/// What the rooms need to know of a request's protocol.
pub trait Protocol {
    /// The command or operation, a name out of the protocol's table.
    fn command(&self) -> &'static str;

    /// The device that asks, where the request names one.
    fn device(&self) -> Option<&DeviceKey>;

    /// How the request is carried: decided when its head and what is held of its body are known,
    /// before the first byte goes to the server.
    fn plan(&self, held: &Held, context: &PlanContext<'_>) -> Plan;

    /// The refusal, in the shape that clients of this protocol understand.
    fn deny(&self, decision: &Decision) -> Reply;

    /// The empty normal answer that ends a poll when the gateway drains.
    fn end_poll(&self) -> Reply;
}

/// What a plan is made of besides the request itself.
#[derive(Debug)]
pub struct PlanContext<'a> {
    /// The leg's `email.server.timeout.response.seconds`.
    pub response: Duration,
    /// `eas.heartbeat.margin.seconds`.
    pub heartbeat_margin: Duration,
    /// `eas.heartbeat.max.seconds`.
    pub heartbeat_max: Duration,
    /// The polls that devices asked for last.
    pub polls: &'a PollMemory,
    /// The authenticated user.
    pub user: &'a UserKey,
}

/// How a request is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How long the server may take to begin its answer.
    pub head_within: Duration,
    /// How long it may pause within the answer.
    pub body_idle: Duration,
    /// Whether the request may be sent once more when a reused connection turns out to be dead.
    pub replay: bool,
    /// Whether it is finished when the client leaves after its body has arrived.
    pub detached: bool,
    /// Whether it is a long poll, which a drain may end.
    pub poll: bool,
}

/// The last full Ping and Sync of each device: a later request without a body repeats it
/// (MS-ASCMD 2.2.1.13, 2.2.1.21), and only the server and we know how long it will wait.
#[derive(Debug)]
pub struct PollMemory(Generations<PollKey, u32>);

/// Device, user and command of a poll.
pub type PollKey = (DeviceKey, UserKey, &'static str);

/// Devices whose last poll is remembered at least.
const REMEMBERED_POLLS: usize = 200_000;

impl Default for PollMemory {
    fn default() -> Self {
        Self(Generations::new(REMEMBERED_POLLS))
    }
}

impl PollMemory {
    /// Remembers that the poll waits `seconds`; 0 for a Sync that does not wait.
    pub fn remember(&self, key: PollKey, seconds: u32) {
        self.0.insert(key, seconds);
    }

    /// How long the device's last full poll waited.
    pub fn recall(&self, key: &PollKey) -> Option<u32> {
        self.0.recall(key)
    }
}

/// A request whose protocol is known.
#[derive(Debug)]
pub enum Call {
    /// ActiveSync.
    Eas(EasCall),
    /// EWS.
    Ews(EwsCall),
}

impl Call {
    /// The leg as the engine names it.
    pub fn protocol(&self) -> seg_compliance::Protocol {
        match self {
            Self::Eas(_) => seg_compliance::Protocol::Eas,
            Self::Ews(_) => seg_compliance::Protocol::Ews,
        }
    }

    fn inner(&self) -> &dyn Protocol {
        match self {
            Self::Eas(call) => call,
            Self::Ews(call) => call,
        }
    }

    /// See [`Protocol::command`].
    pub fn command(&self) -> &'static str {
        self.inner().command()
    }

    /// See [`Protocol::device`].
    pub fn device(&self) -> Option<&DeviceKey> {
        self.inner().device()
    }

    /// The query to forward, where it is not the client's own.
    pub fn upstream_query(&self) -> Option<&str> {
        match self {
            Self::Eas(call) => call.upstream_query(),
            Self::Ews(call) => call.upstream_query(),
        }
    }

    /// The device type that the request names; EWS knows none.
    pub fn device_type(&self) -> &str {
        match self {
            Self::Eas(call) => call.device_type(),
            Self::Ews(_) => "",
        }
    }

    /// The version of the protocol that the request speaks; empty: not known.
    pub fn version(&self) -> &'static str {
        match self {
            Self::Eas(call) => call.version_name(),
            Self::Ews(_) => "",
        }
    }

    /// See [`Protocol::plan`].
    pub fn plan(&self, held: &Held, context: &PlanContext<'_>) -> Plan {
        self.inner().plan(held, context)
    }

    /// See [`Protocol::deny`].
    pub fn deny(&self, decision: &Decision) -> Reply {
        self.inner().deny(decision)
    }

    /// See [`Protocol::end_poll`].
    pub fn end_poll(&self) -> Reply {
        self.inner().end_poll()
    }
}
