//! The server is asked.
//!
//! Driven inline in the request's own task, with the lease watched beside it: a block wakes the
//! task, which gives the refusal and lets the server's connection go. Requests that change
//! something are carried in a task of their own, so that a client that leaves after its body has
//! arrived does not tear them.

mod draw;
mod hold;
mod outgoing;

pub use draw::{draw, probe};
pub use hold::{HELD_BYTES, Held, LimitedBody};
pub use outgoing::{BodyScan, Guard, Outgoing, ScannedBody};

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::BytesMut;
use http::uri::PathAndQuery;
use http::{Method, Uri};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::decide::Admitted;
use crate::identify::CredentialDigest;
use crate::message::RequestBodyError;
use crate::protocol::Plan;
use crate::route::Route;
use crate::runtime::{Core, Signal};
use crate::servers::{Choice, Leg};
use crate::transform::{self, Inward};
use crate::upstream::{
    BodyKind, Deadlines, Exchange, IdentityHash, NoBody, ReplayPolicy, RequestHead, SendError,
    SendErrorKind, Sending, Side, send,
};

/// One request on its way to a server.
#[derive(Debug)]
pub struct Errand {
    /// The servers it may go to.
    pub leg: Arc<Leg>,
    /// The one it goes to.
    pub choice: Choice,
    /// The method.
    pub method: Method,
    /// Path and query as they are forwarded.
    pub path: PathAndQuery,
    /// Headers, ready for the way inward.
    pub inward: Inward,
    /// The body.
    pub held: Held,
    /// Whether the client waits for 100 (Continue).
    pub expects: bool,
    /// Whose connection it must be, for credentials that belong to one.
    pub private: Option<CredentialDigest>,
    /// Whether no other server may be asked in its place.
    pub stays: bool,
    /// How it is carried.
    pub plan: Plan,
}

/// What became of a request.
#[derive(Debug)]
pub enum Went {
    /// The server answers.
    Answered(Box<Exchange>),
    /// A block or a drain came first.
    Signalled(Signal),
    /// The server gave no answer.
    Failed(Failure),
}

/// Why a server gave no answer.
#[derive(Debug)]
pub enum Failure {
    /// The client's body could not be read.
    Client(String),
    /// The client's body is larger than it may be.
    TooLarge,
    /// The server could not be asked, did not answer in time, or answered nonsense.
    Upstream {
        /// A word for the log.
        label: &'static str,
        /// The words.
        text: String,
        /// Whether it answered, but nothing that can be understood.
        nonsense: bool,
    },
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        if let SendErrorKind::BodySource(source) = &error.kind {
            return match source.downcast_ref::<RequestBodyError>() {
                Some(RequestBodyError::TooLarge) => Self::TooLarge,
                _ => Self::Client(source.to_string()),
            };
        }
        debug_assert_eq!(error.side(), Side::Upstream);
        Self::Upstream {
            label: error.label(),
            text: error.to_string(),
            nonsense: matches!(error.kind, SendErrorKind::BadResponse(_)),
        }
    }
}

/// The path and query that are forwarded: Exchange's spelling, the client's query as it stands
/// unless another is given.
pub fn path(route: &Route, uri: &Uri, query: Option<&str>) -> PathAndQuery {
    let path = route.upstream_path();
    if uri.path() == path
        && query.is_none()
        && let Some(same) = uri.path_and_query()
    {
        return same.clone();
    }
    let Some(query) = query
        .or_else(|| uri.query())
        .filter(|query| !query.is_empty())
    else {
        return PathAndQuery::from_static(path);
    };
    let mut whole = BytesMut::with_capacity(path.len() + 1 + query.len());
    whole.extend_from_slice(path.as_bytes());
    whole.extend_from_slice(b"?");
    whole.extend_from_slice(query.as_bytes());
    // The query was part of a target that has been parsed: it can be parsed again.
    PathAndQuery::from_maybe_shared(whole.freeze())
        .unwrap_or_else(|_| PathAndQuery::from_static(path))
}

/// A request that is being carried. Polled inline by the task of its client.
// The large variant is the common one: to box it would cost every request an allocation.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Going {
    /// All of it is held: the smallest future there is, for polls most of all.
    Held(Sending<NoBody>),
    /// Its body is still arriving.
    Streamed(Box<Sending<Outgoing>>),
    /// In a task of its own.
    Detached(Detached),
}

/// Sets a request on its way. Not `async`: what made the request is gone when this returns, and
/// only what must wait is kept.
/// `None` where the choice is of another leg.
pub fn start(core: &Arc<Core>, errand: Errand) -> Option<Going> {
    if !errand.plan.detached {
        return ask(core, errand, None);
    }
    let arrived = Arc::new(AtomicBool::new(errand.held.whole().is_some()));
    let (tell, told) = oneshot::channel();
    let mut going = ask(core, errand, Some(Arc::clone(&arrived)))?;
    let unfinished = core.unfinished();
    let task = tokio::spawn(async move {
        let _unfinished = unfinished;
        let answer = poll_fn(|cx| going.poll_answer(cx)).await;
        // Nobody may be there to hear it.
        let _ = tell.send(answer);
    });
    Some(Going::Detached(Detached {
        task,
        arrived,
        told,
    }))
}

impl Going {
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<Exchange>, Failure>> {
        let sent = match self {
            Self::Held(sending) => Pin::new(sending).poll(cx),
            Self::Streamed(sending) => Pin::new(sending).poll(cx),
            Self::Detached(detached) => {
                return Pin::new(&mut detached.told).poll(cx).map(|told| {
                    told.unwrap_or_else(|_| {
                        Err(Failure::Upstream {
                            label: "task_failed",
                            text: "the task that carried the request ended early".to_owned(),
                            nonsense: false,
                        })
                    })
                });
            }
        };
        sent.map(|sent| sent.map(Box::new).map_err(Failure::from))
    }

    /// The answer or the signal, whichever is first; the signal where both are.
    pub async fn watched(&mut self, admitted: Option<&Admitted>) -> Went {
        poll_fn(|cx| {
            if let Some(admitted) = admitted
                && let Poll::Ready(signal) = admitted.ticket.poll_signal(cx)
            {
                return Poll::Ready(Went::Signalled(signal));
            }
            self.poll_answer(cx).map(|answer| match answer {
                Ok(exchange) => Went::Answered(exchange),
                Err(failure) => Went::Failed(failure),
            })
        })
        .await
    }
}

/// A request in a task of its own. Until its body has arrived it belongs to its client and ends
/// with him; from then on it is finished, whoever is still there to hear of it.
#[derive(Debug)]
pub struct Detached {
    task: JoinHandle<()>,
    arrived: Arc<AtomicBool>,
    told: oneshot::Receiver<Result<Box<Exchange>, Failure>>,
}

impl Drop for Detached {
    fn drop(&mut self) {
        if !self.arrived.load(Ordering::Acquire) {
            self.task.abort();
        }
    }
}

pub(crate) fn inward_of(head: &mut RequestHead, inward: Inward) {
    head.headers = inward.headers;
    head.host = inward.host;
    head.added = inward.about;
    head.passes = transform::passes;
}

fn ask(core: &Core, errand: Errand, arrived: Option<Arc<AtomicBool>>) -> Option<Going> {
    let Errand {
        leg,
        choice,
        method,
        path,
        inward,
        held,
        expects,
        private,
        stays,
        plan,
    } = errand;
    let post = method == Method::POST;
    let mut head = RequestHead::new(method, path);
    inward_of(&mut head, inward);
    head.expect_continue = expects;
    head.replay = ReplayPolicy {
        allowed: plan.replay,
    };
    head.private = private.map(IdentityHash::new);
    let deadlines = Deadlines {
        connect: leg.connect_within,
        head: plan.head_within,
        between_bytes: plan.body_idle,
    };
    let (pool, target) = (&core.pool, &leg.upstream(choice)?.target);
    let elsewhere = leg.alternatives(choice, plan.poll).filter(|_| !stays);
    match held.rest {
        None => {
            head.body = if held.bytes.is_empty() && !post {
                BodyKind::None
            } else {
                BodyKind::Full(held.bytes)
            };
            let sending = send(pool, target, head, NoBody, deadlines);
            Some(Going::Held(sending.or_elsewhere(elsewhere)))
        }
        Some(rest) => {
            let len = rest.length().map(|rest| rest + held.bytes.len() as u64);
            head.body = BodyKind::Stream { len };
            let source = Outgoing::new(held.bytes, rest, arrived);
            let sending = send(pool, target, head, source, deadlines);
            Some(Going::Streamed(Box::new(sending.or_elsewhere(elsewhere))))
        }
    }
}
