//! The server's answer goes to the client.
//!
//! Comes after the filter, and streams: what is not at hand yet is passed on piece by piece, with
//! the lease held to the last byte, so that a block ends a download too. What the client got of it
//! then does not look complete.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};

use crate::decide::Admitted;
use crate::filter::{self, ChallengeRule};
use crate::message::{Reply, ReplyBody, ReplyStream, StreamBroken};
use crate::protocol::ServerVersionMemory;
use crate::protocol::ews::{self, Answering};
use crate::telemetry::metrics::Metrics;
use crate::transform;
use crate::upstream::{Exchange, UpstreamBody};

/// Makes the client's answer out of the server's.
pub fn forwarded(
    exchange: Box<Exchange>,
    admitted: Option<Admitted>,
    rule: ChallengeRule<'_>,
    version: Option<Arc<ServerVersionMemory>>,
    answering: Option<Answering>,
    metrics: &Metrics,
) -> Reply {
    let Exchange {
        status,
        mut headers,
        body,
        ..
    } = *exchange;
    transform::outward(&mut headers);
    filter::challenges(&mut headers, rule, metrics);
    if let (Some(answering), Some(version)) = (answering, &version) {
        let version = Arc::clone(version);
        let mut reply = ews::answered(answering, status, headers, body, admitted, version);
        filter::without_challenge(&mut reply, rule);
        return reply;
    }
    // An answer that is encoded can't be looked into.
    let version =
        version.filter(|version| !headers.contains_key(header::CONTENT_ENCODING) && version.due());
    let body = body_of(body, admitted, version);
    let mut reply = Reply {
        status,
        headers,
        body,
    };
    filter::without_challenge(&mut reply, rule);
    reply
}

/// Makes the client's answer out of a server's whose body is at hand.
pub fn held(
    status: StatusCode,
    mut headers: HeaderMap,
    body: Bytes,
    rule: ChallengeRule<'_>,
    metrics: &Metrics,
) -> Reply {
    transform::outward(&mut headers);
    filter::challenges(&mut headers, rule, metrics);
    let mut reply = Reply {
        status,
        headers,
        body: ReplyBody::Full(body),
    };
    filter::without_challenge(&mut reply, rule);
    reply
}

/// A small answer has come with its head: it needs no stream, and its lease and its connection are
/// free at once.
fn body_of(
    mut body: UpstreamBody,
    admitted: Option<Admitted>,
    version: Option<Arc<ServerVersionMemory>>,
) -> ReplyBody {
    if body.is_end() {
        return ReplyBody::Empty;
    }
    let mut nobody = Context::from_waker(Waker::noop());
    let first = match body.poll_next(&mut nobody) {
        Poll::Ready(Some(Ok(first))) => first,
        Poll::Ready(None) => return ReplyBody::Empty,
        Poll::Ready(Some(Err(error))) => {
            let broken = StreamBroken::by_server(&error);
            return ReplyBody::Stream(Box::new(Broken(broken)));
        }
        // Asked again by the connection, which then waits for it.
        Poll::Pending => Bytes::new(),
    };
    if let Some(version) = version.as_ref().filter(|_| !first.is_empty()) {
        version.learn(&first);
    }
    if !first.is_empty() && body.is_end() {
        return ReplyBody::Full(first);
    }
    let version = version.filter(|_| first.is_empty());
    ReplyBody::Stream(Box::new(Streamed {
        first,
        body,
        admitted,
        version,
    }))
}

/// An answer that is still arriving.
struct Streamed {
    /// What came with the head.
    first: Bytes,
    body: UpstreamBody,
    admitted: Option<Admitted>,
    /// Where the version is learned from the first piece.
    version: Option<Arc<ServerVersionMemory>>,
}

impl ReplyStream for Streamed {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamBroken>>> {
        if let Some(admitted) = &self.admitted
            && admitted.ticket.poll_signal(cx).is_ready()
        {
            return Poll::Ready(Some(Err(StreamBroken::default())));
        }
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.first))));
        }
        self.body.poll_next(cx).map(|next| match next? {
            Ok(piece) => {
                if let Some(version) = self.version.take() {
                    version.learn(&piece);
                }
                Some(Ok(piece))
            }
            Err(error) => Some(Err(StreamBroken::by_server(&error))),
        })
    }

    fn length(&self) -> Option<u64> {
        self.body
            .remaining()
            .map(|rest| rest + self.first.len() as u64)
    }
}

/// An answer whose body never came: its head may go out, its end must not.
struct Broken(StreamBroken);

impl ReplyStream for Broken {
    fn poll_next(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamBroken>>> {
        Poll::Ready(Some(Err(std::mem::take(&mut self.0))))
    }

    fn length(&self) -> Option<u64> {
        None
    }
}
