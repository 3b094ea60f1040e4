//! Requests and bodies as the pipeline sees them.
//!
//! hyper stands behind this module alone: the rooms of the pipeline know [`Request`], [`Reply`] and
//! the vocabulary of the `http` crate, never a type of hyper's. A client leg of our own can take
//! hyper's place by replacing [`serve`].

mod body;
mod inspect;
mod io;
mod serve;
mod switch;
#[cfg(test)]
mod tests;

pub use body::{BodyGuard, ReplyBody, ReplyStream, RequestBody, RequestBodyError, StreamBroken};
pub use inspect::{Framing, HeadFlaw, HeadInspector};
pub use io::{ClientIo, PhaseCell};
pub use serve::{ClientTimeouts, ConnectionEnd, serve};
pub use switch::{Switch, Switched};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode, Uri, Version};

/// A request as it came from the client, its body not read yet.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The request target, in origin or absolute form.
    pub uri: Uri,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: Version,
    /// Every header line, in order.
    pub headers: HeaderMap,
    /// What follows the head.
    pub body: RequestBody,
    /// The connection itself, where the client asks for another protocol on it.
    pub switch: Option<Switch>,
}

/// An answer on its way to the client.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// End-to-end headers; framing is the client leg's business.
    pub headers: HeaderMap,
    /// The body.
    pub body: ReplyBody,
}

impl Reply {
    /// An answer without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: ReplyBody::Empty,
        }
    }

    /// An answer with a body that is at hand.
    pub fn full(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self {
            status,
            headers,
            body: ReplyBody::Full(body.into()),
        }
    }

    /// A short text for the person who looks at the answer. Never the internal reason.
    pub fn text(status: StatusCode, text: &'static str) -> Self {
        Self::full(
            status,
            "text/plain; charset=utf-8",
            Bytes::from_static(text.as_bytes()),
        )
    }

    /// 503 with `Retry-After`: the server behind us can't answer now, try later.
    pub fn unavailable() -> Self {
        let mut reply = Self::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "The mail server can't be reached at the moment.\n",
        );
        reply
            .headers
            .insert(RETRY_AFTER, HeaderValue::from_static("30"));
        reply
    }
}
