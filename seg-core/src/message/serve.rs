//! One client connection, served by hyper.

use std::convert::Infallible;
use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::coop::has_budget_remaining;

use super::body::{BodyGuard, OutBody};
use super::io::{ClientIo, IoLimits, Late, PhaseCell};
use super::{Reply, Request, RequestBody, Switch};

/// Limits of a client connection, from the `server.*` keys.
#[derive(Clone, Copy, Debug)]
pub struct ClientTimeouts {
    /// From a head's first byte to its last: `server.timeout.header.seconds`.
    pub head: Duration,
    /// Between two requests: `server.timeout.idle.seconds`.
    pub idle: Duration,
    /// For a client that doesn't take what it is sent: `server.timeout.body.seconds`.
    pub write: Duration,
    /// The largest head in bytes: `server.header.max.bytes`.
    pub head_bytes: usize,
}

/// hyper's smallest buffer; heads may still be limited below it.
const SMALLEST_BUFFER: usize = 8192;

/// Serves one connection until it closes, or until `drain` turns true and the request at hand is
/// answered. The error is the reason for the log and the metric, `None` a clean end.
///
/// A plain function: an `async` one would keep the stream twice, as its argument and inside of the
/// connection, for as long as the connection lives.
pub fn serve<S, H, F, G>(
    stream: S,
    cell: Arc<PhaseCell>,
    timeouts: ClientTimeouts,
    mut drain: watch::Receiver<bool>,
    handle: H,
) -> impl Future<Output = Option<ConnectionEnd>> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request) -> F + Send + 'static,
    F: Future<Output = (Reply, G)> + Send + 'static,
    G: BodyGuard + 'static,
{
    let limits = IoLimits {
        head: timeouts.head,
        idle: timeouts.idle,
        write: timeouts.write,
    };
    let io = ClientIo::new(stream, cell, limits);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (mut parts, incoming) = request.into_parts();
        let switch = parts.extensions.remove::<OnUpgrade>();
        let answered = handle(Request {
            method: parts.method,
            uri: parts.uri,
            version: parts.version,
            headers: parts.headers,
            body: RequestBody::new(incoming),
            switch: switch.map(Switch::new),
        });
        // Not an async block, which would hold the future twice.
        answered.map(|(reply, guard)| {
            let mut response = http::Response::new(OutBody::new(reply.body, guard));
            *response.status_mut() = reply.status;
            *response.headers_mut() = reply.headers;
            Ok::<_, Infallible>(response)
        })
    });
    let mut connection = Box::pin(
        http1::Builder::new()
            .half_close(false)
            .header_read_timeout(None)
            .max_header_size(timeouts.head_bytes)
            .max_buf_size(timeouts.head_bytes.max(SMALLEST_BUFFER))
            .serve_connection(io, service)
            .with_upgrades(),
    );
    async move {
        let asked = drain.clone();
        let mut drained = pin!(draining(&mut drain));
        let mut waits: Option<Waker> = None;
        let ended = poll_fn(|cx| {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(Some(ended));
            }
            // A request polls its connection several times, and a drain comes once: who is to be
            // woken by it need not be noted again while it has not come.
            let noted = waits
                .as_ref()
                .is_some_and(|waits| waits.will_wake(cx.waker()));
            if noted && !asked.has_changed().unwrap_or(true) {
                return Poll::Pending;
            }
            // A task that has used up its budget is put off without a note.
            waits = has_budget_remaining().then(|| cx.waker().clone());
            drained.as_mut().poll(cx).map(|()| None)
        })
        .await;
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        ended.err().and_then(|error| ConnectionEnd::of(&error))
    }
}

/// Waits until the connection shall finish; also when the core that would say so is gone.
async fn draining(drain: &mut watch::Receiver<bool>) {
    // The guard of a watched value must not be held over an await.
    let _ = drain
        .wait_for(|draining| *draining)
        .await
        .map(|value| *value);
}

/// Why a connection ended, other than by the will of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionEnd {
    /// The label of `seg_bad_requests_total`.
    pub reason: &'static str,
    /// For the log.
    pub text: &'static str,
}

impl ConnectionEnd {
    fn of(error: &hyper::Error) -> Option<Self> {
        let end = |reason, text| Some(Self { reason, text });
        if error.is_parse_too_large() {
            return end(
                "head_too_large",
                "the head is larger than server.header.max.bytes",
            );
        }
        if error.is_parse() {
            return end("malformed", "the head is not HTTP/1.1 as RFC 9112 has it");
        }
        let late = error
            .source()
            .and_then(|source| source.downcast_ref::<io::Error>())
            .and_then(|error| error.get_ref())
            .and_then(|inner| inner.downcast_ref::<Late>());
        match late {
            // An idle connection that is closed is no event.
            Some(Late::Idle) => None,
            Some(Late::Head) => end(
                "slow_head",
                "the head took longer than server.timeout.header.seconds",
            ),
            Some(Late::Answer) => end("slow_reader", "the client did not take its answer in time"),
            None if error.is_incomplete_message() => {
                end("ended_early", "the client left in the middle of a request")
            }
            None => None,
        }
    }
}
