//! The server is asked.
//!
//! Driven inline in the request's own task, with the lease watched beside it: a block wakes the
//! task, which gives the refusal and lets the server's connection go. Requests that change
//! something are carried in a task of their own, so that a client that leaves after its body has
//! arrived does not tear them.

mod draw;
mod hold;
mod leg;
mod outgoing;

pub use draw::{draw, probe};
pub use hold::{HELD_BYTES, Held, LimitedBody};
pub(crate) use leg::HealthCount;
pub use leg::{Leg, Upstream};
use outgoing::Outgoing;
pub use outgoing::ScannedBody;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};
use tokio::sync::oneshot;

use crate::decide::Admitted;
use crate::identify::CredentialDigest;
use crate::message::RequestBodyError;
use crate::protocol::Plan;
use crate::route::Route;
use crate::runtime::{Core, Signal};
use crate::upstream::{
    BodyKind, Deadlines, Exchange, IdentityHash, NoBody, ReplayPolicy, RequestHead, SendError,
    SendErrorKind, Side, send,
};

/// One request on its way to a server.
#[derive(Debug)]
pub struct Errand {
    /// The server.
    pub upstream: Arc<Upstream>,
    /// The method.
    pub method: Method,
    /// Path and query as they are forwarded.
    pub path: PathAndQuery,
    /// Headers, ready for the way inward.
    pub headers: HeaderMap,
    /// The body.
    pub held: Held,
    /// Whether the client waits for 100 (Continue).
    pub expects: bool,
    /// Whose connection it must be, for credentials that belong to one.
    pub private: Option<CredentialDigest>,
    /// How it is carried.
    pub plan: Plan,
    /// `email.server.timeout.connect.seconds`.
    pub connect_within: Duration,
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
    let Some(query) = query.or_else(|| uri.query()) else {
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

/// Carries a request to its server and waits for the head of the answer, or for a signal.
pub async fn go(core: &Arc<Core>, errand: Errand, admitted: Option<&Admitted>) -> Went {
    if errand.plan.detached {
        return detached(core, errand, admitted).await;
    }
    let mut asking = pin!(ask(core, errand, None));
    watched(admitted, asking.as_mut()).await
}

/// The answer or the signal, whichever is first; the signal where both are.
async fn watched<F>(admitted: Option<&Admitted>, mut asking: Pin<&mut F>) -> Went
where
    F: Future<Output = Result<Box<Exchange>, Failure>>,
{
    poll_fn(|cx| {
        if let Some(admitted) = admitted
            && let Poll::Ready(signal) = admitted.ticket.poll_signal(cx)
        {
            return Poll::Ready(Went::Signalled(signal));
        }
        asking.as_mut().poll(cx).map(|answer| match answer {
            Ok(exchange) => Went::Answered(exchange),
            Err(failure) => Went::Failed(failure),
        })
    })
    .await
}

/// In a task of its own. Until the body has arrived the request belongs to its client and ends
/// with him; from then on it is finished, whoever is still there to hear of it.
async fn detached(core: &Arc<Core>, errand: Errand, admitted: Option<&Admitted>) -> Went {
    let arrived = Arc::new(AtomicBool::new(errand.held.whole().is_some()));
    let (tell, told) = oneshot::channel();
    let task = tokio::spawn({
        let core = Arc::clone(core);
        let arrived = Arc::clone(&arrived);
        async move {
            let answer = ask(&core, errand, Some(arrived)).await;
            // Nobody may be there to hear it.
            let _ = tell.send(answer);
        }
    });
    let _guard = AbortUnlessArrived { task, arrived };
    let mut asking = pin!(async {
        told.await.unwrap_or_else(|_| {
            Err(Failure::Upstream {
                label: "task_failed",
                text: "the task that carried the request ended early".to_owned(),
                nonsense: false,
            })
        })
    });
    watched(admitted, asking.as_mut()).await
}

struct AbortUnlessArrived {
    task: tokio::task::JoinHandle<()>,
    arrived: Arc<AtomicBool>,
}

impl Drop for AbortUnlessArrived {
    fn drop(&mut self) {
        if !self.arrived.load(Ordering::Acquire) {
            self.task.abort();
        }
    }
}

async fn ask(
    core: &Core,
    errand: Errand,
    arrived: Option<Arc<AtomicBool>>,
) -> Result<Box<Exchange>, Failure> {
    let Errand {
        upstream,
        method,
        path,
        headers,
        held,
        expects,
        private,
        plan,
        connect_within,
    } = errand;
    let (body, source) = match held.rest {
        None if held.bytes.is_empty() && method != Method::POST => (BodyKind::None, None),
        None => (BodyKind::Full(held.bytes), None),
        Some(rest) => {
            let len = rest.length().map(|rest| rest + held.bytes.len() as u64);
            (
                BodyKind::Stream { len },
                Some(Outgoing::new(held.bytes, rest, arrived)),
            )
        }
    };
    let mut head = RequestHead::new(method, path);
    head.headers = headers;
    head.body = body;
    head.expect_continue = expects;
    head.replay = ReplayPolicy {
        allowed: plan.replay,
    };
    head.private = private.map(IdentityHash::new);
    let deadlines = Deadlines {
        connect: connect_within,
        head: plan.head_within,
        between_bytes: plan.body_idle,
    };
    // A body that is held needs no source; the future is smaller without one.
    let sent = match source {
        None => send(&core.pool, &upstream.target, head, NoBody, deadlines).await,
        Some(source) => Box::pin(send(&core.pool, &upstream.target, head, source, deadlines)).await,
    };
    sent.map(Box::new).map_err(Failure::from)
}
