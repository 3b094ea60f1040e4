//! Bodies in both directions. Pulled, never pushed: back-pressure is the absence of a poll.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Body as _;
use hyper::body::Incoming;
use thiserror::Error;

/// The body of a client's request.
pub struct RequestBody(Incoming);

impl RequestBody {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self(incoming)
    }

    /// The bytes still to come, where the client announced a length.
    pub fn length(&self) -> Option<u64> {
        self.0.size_hint().exact()
    }

    /// Whether nothing more will come.
    pub fn is_end(&self) -> bool {
        self.0.is_end_stream()
    }

    /// The next piece; `None` at the clean end. Trailers are read and dropped.
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, RequestBodyError>>> {
        loop {
            return match std::task::ready!(Pin::new(&mut self.0).poll_frame(cx)) {
                None => Poll::Ready(None),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => continue,
                    Ok(data) => Poll::Ready(Some(Ok(data))),
                    Err(_trailers) => continue,
                },
                Some(Err(source)) => Poll::Ready(Some(Err(RequestBodyError::Client(source)))),
            };
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody")
            .field("length", &self.length())
            .finish_non_exhaustive()
    }
}

/// Why a client's body can't be read to its end.
#[derive(Debug, Error)]
pub enum RequestBodyError {
    /// The client left, or its framing is broken.
    #[error("the client's body ended early or is not framed as announced: {0}")]
    Client(#[source] hyper::Error),
    /// Nothing came for `server.timeout.body.seconds`.
    #[error("the client sent nothing of its body for too long")]
    Timeout,
    /// More than `server.body.max.bytes`.
    #[error("the client's body is larger than server.body.max.bytes")]
    TooLarge,
    /// The body is not what its protocol allows; the server never sees its end.
    #[error("the client's body was refused: {0}")]
    Refused(String),
}

/// A body that is produced while it is sent.
pub trait ReplyStream: Send {
    /// The next piece; `None` at the clean end, an error ends the connection so that the client
    /// sees a failure and no short success.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamBroken>>>;

    /// The bytes still to come, where the server announced a length.
    fn length(&self) -> Option<u64>;
}

/// The answer can't be completed; what the client got of it must not look complete.
#[derive(Debug, Default, Error)]
#[error("the answer was broken off")]
pub struct StreamBroken {
    /// What the server did, where it was the server; for the log.
    pub server: Option<Box<str>>,
}

impl StreamBroken {
    /// The server did not bring its answer to an end.
    pub fn by_server(error: &dyn fmt::Display) -> Self {
        Self {
            server: Some(error.to_string().into()),
        }
    }
}

/// The body of an answer.
pub enum ReplyBody {
    /// None.
    Empty,
    /// At hand.
    Full(Bytes),
    /// Produced while it is sent.
    Stream(Box<dyn ReplyStream>),
}

impl ReplyBody {
    /// The bytes to come, where known.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Full(bytes) => Some(bytes.len() as u64),
            Self::Stream(stream) => stream.length(),
        }
    }
}

impl fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyBody")
            .field("length", &self.length())
            .finish_non_exhaustive()
    }
}

/// What hyper sends: the reply's body, and whatever must live exactly as long (the record).
pub(super) struct OutBody<G> {
    body: ReplyBody,
    guard: Option<G>,
}

impl<G: BodyGuard> OutBody<G> {
    pub(super) fn new(body: ReplyBody, guard: G) -> Self {
        Self {
            body,
            guard: Some(guard),
        }
    }
}

/// Lives as long as the answer is being sent; dropped with it.
pub trait BodyGuard: Send + Unpin {
    /// `n` more bytes were handed to the connection.
    fn sent(&mut self, n: usize);
    /// The body ended: complete, or broken off.
    fn ended(&mut self, end: Result<(), &StreamBroken>);
}

impl<G: BodyGuard> http_body::Body for OutBody<G> {
    type Data = Bytes;
    type Error = StreamBroken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, StreamBroken>>> {
        let this = self.get_mut();
        let next = match &mut this.body {
            ReplyBody::Empty => None,
            ReplyBody::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                (!bytes.is_empty()).then_some(Ok(bytes))
            }
            ReplyBody::Stream(stream) => std::task::ready!(stream.poll_next(cx)),
        };
        Poll::Ready(match next {
            Some(Ok(bytes)) => {
                if let Some(guard) = &mut this.guard {
                    guard.sent(bytes.len());
                }
                Some(Ok(http_body::Frame::data(bytes)))
            }
            Some(Err(broken)) => {
                if let Some(mut guard) = this.guard.take() {
                    guard.ended(Err(&broken));
                }
                Some(Err(broken))
            }
            None => {
                if let Some(mut guard) = this.guard.take() {
                    guard.ended(Ok(()));
                }
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            ReplyBody::Empty => true,
            ReplyBody::Full(bytes) => bytes.is_empty(),
            ReplyBody::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self.body.length() {
            Some(length) => http_body::SizeHint::with_exact(length),
            None => http_body::SizeHint::default(),
        }
    }
}

impl<G> Drop for OutBody<G> {
    fn drop(&mut self) {
        // A body without bytes is never polled by hyper, and one whose length is reached is not
        // polled to its end: both are complete. Whether the connection took them is not knowable
        // here; the guard's own drop records the request either way.
        drop(self.guard.take());
    }
}
