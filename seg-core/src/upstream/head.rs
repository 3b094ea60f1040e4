//! The request as it goes out: head and small body in one piece of memory of exactly their size.

use bytes::Bytes;
use http::header::HeaderName;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};

use super::pool::IdentityHash;

/// A held body up to this many bytes, head included, travels in one write and one TLS record.
const ONE_RECORD: usize = 16 * 1024;

/// A held body larger than this is never kept for a replay.
pub(super) const REPLAY_LIMIT: usize = 64 * 1024;

/// A request, filtered and ready to be sent.
#[derive(Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// Path and query in the spelling that the server shall see.
    pub path_and_query: PathAndQuery,
    /// The header lines. Hop-by-hop lines are the caller's to remove; what frames the message
    /// (`Content-Length`, `Transfer-Encoding`, `Connection`, `Expect`, `TE`, `Trailer`,
    /// `Upgrade`, `Keep-Alive`, `Proxy-Connection`) is written by this client alone and skipped
    /// here, as is `Host`.
    pub headers: HeaderMap,
    /// Which of `headers` go out; the others are skipped.
    pub passes: fn(&HeaderName) -> bool,
    /// Finished lines, each with its end, that go out behind `headers`.
    pub added: Bytes,
    /// What `Host` says; `None`: [`super::Target::authority`].
    pub host: Option<HeaderValue>,
    /// The body that belongs to it.
    pub body: BodyKind,
    /// Ask with `Expect: 100-continue` before the body is sent (RFC 9110 section 10.1.1).
    pub expect_continue: bool,
    /// Whether the request may be sent twice.
    pub replay: ReplayPolicy,
    /// The identity that owns the connection, where the request carries a connection-bound login
    /// (Negotiate, NTLM). Such a connection never serves anybody else.
    pub private: Option<IdentityHash>,
}

/// Where the body of a request comes from.
#[derive(Clone, Debug)]
pub enum BodyKind {
    /// No body.
    None,
    /// A body held in memory.
    Full(Bytes),
    /// A body that the [`super::BodySource`] gives.
    Stream {
        /// Its exact length in bytes, if the client has told it; else it is sent chunked.
        len: Option<u64>,
    },
}

/// Whether a request may be sent once more, when a reused connection closed without one byte of
/// a response. Then nobody knows whether the server has acted on it, so only commands that may
/// be repeated are allowed to. Streamed bodies and bodies above 64 KiB are never replayed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ReplayPolicy {
    /// The command may be repeated.
    pub allowed: bool,
}

/// A request in the form that goes through the socket.
pub(super) struct Wire {
    /// The head, and the body where both fit into one record.
    pub(super) head: Bytes,
    /// The rest of a held body.
    pub(super) body: Bytes,
}

impl RequestHead {
    /// A request without header lines of its own and without a body, not replayed.
    #[must_use]
    pub fn new(method: Method, path_and_query: PathAndQuery) -> Self {
        Self {
            method,
            path_and_query,
            headers: HeaderMap::new(),
            passes: |_| true,
            added: Bytes::new(),
            host: None,
            body: BodyKind::None,
            expect_continue: false,
            replay: ReplayPolicy::default(),
            private: None,
        }
    }

    /// Whether the server is asked before the body goes out: only where there is a body.
    pub(super) fn expects(&self) -> bool {
        self.expect_continue
            && match &self.body {
                BodyKind::None => false,
                BodyKind::Full(body) => !body.is_empty(),
                BodyKind::Stream { len } => *len != Some(0),
            }
    }

    /// Whether the request can be held for a replay.
    pub(super) fn is_held(&self) -> bool {
        match &self.body {
            BodyKind::None => true,
            BodyKind::Full(body) => body.len() <= REPLAY_LIMIT,
            BodyKind::Stream { .. } => false,
        }
    }

    /// Serialises the request; `authority` is the target's.
    pub(super) fn into_wire(self, authority: &HeaderValue) -> Wire {
        let expects = self.expects();
        let (inline, body) = match &self.body {
            BodyKind::Full(body) if !expects && body.len() < ONE_RECORD => {
                (body.clone(), Bytes::new())
            }
            BodyKind::Full(body) => (Bytes::new(), body.clone()),
            BodyKind::None | BodyKind::Stream { .. } => (Bytes::new(), Bytes::new()),
        };
        let host = self.host.as_ref().unwrap_or(authority);
        let mut size = self.method.as_str().len() + self.path_and_query.as_str().len() + host.len();
        size += FIXED_BYTES + self.added.len() + inline.len();
        for (name, value) in &self.headers {
            size += name.as_str().len() + value.len() + LINE_BYTES;
        }

        let mut out = Vec::with_capacity(size);
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.path_and_query.as_str().as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        put_line(&mut out, "host", host.as_bytes());
        for (name, value) in &self.headers {
            if !is_ours(name) && (self.passes)(name) {
                put_line(&mut out, name.as_str(), value.as_bytes());
            }
        }
        out.extend_from_slice(&self.added);
        self.put_framing(&mut out);
        if expects {
            put_line(&mut out, "expect", b"100-continue");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&inline);
        Wire {
            head: out.into(),
            body,
        }
    }

    fn put_framing(&self, out: &mut Vec<u8>) {
        let length = match &self.body {
            BodyKind::Stream { len: None } => {
                put_line(out, "transfer-encoding", b"chunked");
                return;
            }
            BodyKind::Stream { len: Some(len) } => *len,
            BodyKind::Full(body) => body.len() as u64,
            // RFC 9110 section 8.6: methods that anticipate a body say that there is none.
            BodyKind::None if [Method::POST, Method::PUT, Method::PATCH].contains(&self.method) => {
                0
            }
            BodyKind::None => return,
        };
        put_line(out, "content-length", decimal(length, &mut [0; 20]));
    }
}

/// The digits of a number; a `String` for them would cost an allocation with every request.
fn decimal(mut value: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut first = digits.len();
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
        first = at;
        if value == 0 {
            break;
        }
    }
    digits.get(first..).unwrap_or_default()
}

/// Room for the fixed parts of a head: spaces, version, `host`, the longest framing lines.
const FIXED_BYTES: usize = 112;
/// Colon, space, CR, LF.
const LINE_BYTES: usize = 4;

fn put_line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Lines that this client writes itself, or that make no sense between it and the server.
fn is_ours(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "content-length"
            | "expect"
            | "host"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, body: BodyKind) -> RequestHead {
        let path = PathAndQuery::from_static("/Microsoft-Server-ActiveSync?Cmd=Sync");
        RequestHead {
            body,
            ..RequestHead::new(method, path)
        }
    }

    fn wire(head: RequestHead) -> (String, Bytes) {
        let wire = head.into_wire(&HeaderValue::from_static("mail.example"));
        (String::from_utf8(wire.head.to_vec()).unwrap(), wire.body)
    }

    #[test]
    fn framing_lines_per_method_and_body() {
        let full = |len| BodyKind::Full(Bytes::from(vec![b'b'; len]));
        for (method, body, framing, tail) in [
            (Method::GET, BodyKind::None, "", ""),
            (Method::OPTIONS, BodyKind::None, "", ""),
            (Method::POST, BodyKind::None, "content-length: 0\r\n", ""),
            (Method::POST, full(0), "content-length: 0\r\n", ""),
            (Method::POST, full(3), "content-length: 3\r\n", "bbb"),
            (
                Method::POST,
                BodyKind::Stream { len: Some(70) },
                "content-length: 70\r\n",
                "",
            ),
            (
                Method::POST,
                BodyKind::Stream { len: None },
                "transfer-encoding: chunked\r\n",
                "",
            ),
        ] {
            let (text, rest) = wire(request(method.clone(), body));
            assert_eq!(
                text,
                format!(
                    "{method} /Microsoft-Server-ActiveSync?Cmd=Sync HTTP/1.1\r\nhost: mail.example\r\n{framing}\r\n{tail}"
                )
            );
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn a_large_held_body_is_not_copied() {
        let body = Bytes::from(vec![7; ONE_RECORD]);
        let wire = request(Method::POST, BodyKind::Full(body.clone()))
            .into_wire(&HeaderValue::from_static("h"));
        assert!(wire.head.ends_with(b"content-length: 16384\r\n\r\n"));
        assert_eq!(wire.body.as_ptr(), body.as_ptr());
    }

    #[test]
    fn lines_that_frame_the_message_are_not_the_callers() {
        let mut head = request(Method::POST, BodyKind::None);
        for name in [
            "content-length",
            "transfer-encoding",
            "connection",
            "expect",
            "te",
            "trailer",
            "upgrade",
            "keep-alive",
            "proxy-connection",
        ] {
            head.headers
                .insert(name, HeaderValue::from_static("smuggled"));
        }
        head.headers
            .insert("host", HeaderValue::from_static("smuggled"));
        head.host = Some(HeaderValue::from_static("public.example"));
        head.headers
            .insert("x-inner", HeaderValue::from_static("smuggled"));
        head.passes = |name| name != "x-inner";
        head.added = Bytes::from_static(b"x-about: client\r\n");
        head.headers
            .append("cookie", HeaderValue::from_static("a=1"));
        head.headers
            .append("cookie", HeaderValue::from_static("b=2"));
        let (text, _) = wire(head);
        assert_eq!(
            text,
            "POST /Microsoft-Server-ActiveSync?Cmd=Sync HTTP/1.1\r\nhost: public.example\r\n\
             cookie: a=1\r\ncookie: b=2\r\nx-about: client\r\ncontent-length: 0\r\n\r\n"
        );
    }

    #[test]
    fn a_question_before_the_body_is_asked_only_where_there_is_one() {
        let mut head = request(Method::POST, BodyKind::Full(Bytes::from_static(b"abc")));
        head.expect_continue = true;
        let (text, rest) = wire(head);
        assert!(text.ends_with("content-length: 3\r\nexpect: 100-continue\r\n\r\n"));
        assert_eq!(rest, "abc");

        let mut head = request(Method::POST, BodyKind::None);
        head.expect_continue = true;
        assert!(!wire(head).0.contains("expect"));
    }

    #[test]
    fn the_size_is_foreseen() {
        let mut head = request(
            Method::POST,
            BodyKind::Stream {
                len: Some(u64::MAX),
            },
        );
        head.expect_continue = true;
        let authority = HeaderValue::from_static("mail.example");
        let estimate = head.method.as_str().len()
            + head.path_and_query.as_str().len()
            + authority.len()
            + FIXED_BYTES;
        assert!(head.into_wire(&authority).head.len() <= estimate);
    }
}
