//! Requests as they come off the wire: strict, and with their bytes kept.
//!
//! The sandbox also judges what a gateway makes of hostile input, so whatever is not exactly one
//! well-formed HTTP/1.1 request (RFC 9112) is refused here and counted, never repaired.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest head that is read, in bytes.
const MAX_HEAD: usize = 2 * 1024 * 1024;
/// The most header lines that are read.
const MAX_HEADERS: usize = 256;
/// The longest body that is read, in bytes.
const MAX_BODY: u64 = 256 * 1024 * 1024;
/// The longest line of a chunked body.
const MAX_CHUNK_LINE: usize = 4096;

/// Why a message is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// The client closed between two requests.
    #[error("closed")]
    Closed,
    /// The client closed inside a request.
    #[error("the message ends early, in its {0}")]
    Truncated(&'static str),
    /// The message is not HTTP/1.1.
    #[error("not HTTP/1.1: {0}")]
    Malformed(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
}

fn malformed<T>(why: impl Into<String>) -> Result<T, WireError> {
    Err(WireError::Malformed(why.into()))
}

/// A request's head.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method, as sent.
    pub method: String,
    /// The request target, as sent.
    pub target: String,
    /// The header lines in order, names as sent.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Every byte of it, with the empty line.
    pub bytes: Bytes,
    pub(super) length: BodyLength,
    pub(super) keep_alive: bool,
}

/// How long the body is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BodyLength {
    Exact(u64),
    Chunked,
}

impl Head {
    /// The first value of a header, by name in any case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// Every value of a header, in order.
    pub fn all<'h>(&'h self, name: &str) -> impl Iterator<Item = &'h [u8]> {
        self.headers
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    /// The first value of a header as text; empty if missing or not UTF-8.
    pub(super) fn text(&self, name: &str) -> &str {
        self.header(name)
            .and_then(|value| std::str::from_utf8(value).ok())
            .unwrap_or_default()
    }

    /// Whether the client waits for 100 before it sends its body.
    pub(super) fn expects_continue(&self) -> bool {
        self.text("Expect").eq_ignore_ascii_case("100-continue")
    }

    /// The target split at the first `?`.
    pub(super) fn path_and_query(&self) -> (&str, &str) {
        self.target.split_once('?').unwrap_or((&self.target, ""))
    }
}

/// Reads one connection.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) buffer: BytesMut,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
        }
    }

    /// Reads one head.
    pub(super) async fn head<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
    ) -> Result<Head, WireError> {
        let end = loop {
            if let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if self.buffer.len() > MAX_HEAD {
                return malformed("the head is too long");
            }
            let fresh = self.buffer.is_empty();
            if self.fill(stream).await? == 0 {
                return Err(if fresh {
                    WireError::Closed
                } else {
                    WireError::Truncated("head")
                });
            }
        };
        parse(&self.buffer.split_to(end).freeze())
    }

    /// Reads the body that belongs to `head`, without its framing.
    pub(super) async fn body<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        head: &Head,
    ) -> Result<Bytes, WireError> {
        match head.length {
            BodyLength::Exact(0) => Ok(Bytes::new()),
            BodyLength::Exact(length) if length > MAX_BODY => malformed("the body is too long"),
            BodyLength::Exact(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                self.exactly(stream, length).await
            }
            BodyLength::Chunked => self.chunked(stream).await,
        }
    }

    /// Waits until the client sends more or leaves; true: it has left.
    pub(super) async fn client_left<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> bool {
        // More than this while a poll is open is a flood, not a pipelined request.
        if self.buffer.len() > MAX_HEAD {
            return true;
        }
        !matches!(self.fill(stream).await, Ok(read) if read > 0)
    }

    async fn chunked<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<Bytes, WireError> {
        let mut body = BytesMut::new();
        loop {
            let line = self.line(stream).await?;
            let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
            let Some(size) = hexadecimal(size.trim_ascii()) else {
                return malformed("a chunk size is no number");
            };
            if size == 0 {
                break;
            }
            if body.len() as u64 + size > MAX_BODY {
                return malformed("the body is too long");
            }
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            body.extend_from_slice(&self.exactly(stream, size).await?);
            if !self.line(stream).await?.is_empty() {
                return malformed("a chunk is longer than its size");
            }
        }
        for _ in 0..MAX_HEADERS {
            if self.line(stream).await?.is_empty() {
                return Ok(body.freeze());
            }
        }
        malformed("too many trailers")
    }

    async fn line<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<Bytes, WireError> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer) {
                let mut line = self.buffer.split_to(at + 1).freeze();
                if !line.ends_with(b"\r\n") {
                    return malformed("a bare LF in the chunked body");
                }
                line.truncate(line.len().saturating_sub(2));
                return Ok(line);
            }
            if self.buffer.len() > MAX_CHUNK_LINE {
                return malformed("a chunk line is too long");
            }
            if self.fill(stream).await? == 0 {
                return Err(WireError::Truncated("chunked body"));
            }
        }
    }

    async fn exactly<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        length: usize,
    ) -> Result<Bytes, WireError> {
        while self.buffer.len() < length {
            if self.fill(stream).await? == 0 {
                return Err(WireError::Truncated("body"));
            }
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn fill<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<usize> {
        // Small while a client is idle or polls, large while a body comes in.
        self.buffer.reserve(if self.buffer.len() < 4096 {
            2048
        } else {
            64 * 1024
        });
        stream.read_buf(&mut self.buffer).await
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok()?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if plain {
        u64::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

/// Reads a whole head, strictly.
fn parse(bytes: &Bytes) -> Result<Head, WireError> {
    for at in memchr::memchr_iter(b'\n', bytes) {
        if at == 0 || bytes.get(at - 1) != Some(&b'\r') {
            return malformed("a bare LF");
        }
        if matches!(bytes.get(at + 1), Some(b' ' | b'\t')) {
            return malformed("a folded header line");
        }
    }

    let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut lines);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return malformed("the head is not complete"),
        Err(error) => return malformed(error.to_string()),
    }
    if request.version != Some(1) {
        return malformed("not version 1.1");
    }
    let headers: Vec<(String, Vec<u8>)> = request
        .headers
        .iter()
        .map(|line| (line.name.to_owned(), line.value.to_vec()))
        .collect();
    let method = request.method.unwrap_or_default().to_owned();
    let target = request.path.unwrap_or_default().to_owned();
    let mut head = Head {
        method,
        target,
        headers,
        bytes: bytes.clone(),
        length: BodyLength::Exact(0),
        keep_alive: true,
    };
    if head.all("Host").count() != 1 {
        return malformed("not exactly one Host");
    }
    head.length = body_length(&head)?;
    let closes = head.all("Connection").any(|value| {
        value
            .split(|byte| *byte == b',')
            .any(|one| one.trim_ascii().eq_ignore_ascii_case(b"close"))
    });
    head.keep_alive = !closes;
    Ok(head)
}

fn body_length(head: &Head) -> Result<BodyLength, WireError> {
    let mut lengths = head.all("Content-Length");
    let mut codings = head.all("Transfer-Encoding");
    match (
        lengths.next(),
        lengths.next(),
        codings.next(),
        codings.next(),
    ) {
        (None, _, None, _) => Ok(BodyLength::Exact(0)),
        (Some(length), None, None, _) => std::str::from_utf8(length)
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .map(BodyLength::Exact)
            .map_or_else(|| malformed("Content-Length is no number"), Ok),
        (None, _, Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(BodyLength::Chunked)
        }
        (Some(_), _, Some(_), _) => malformed("Content-Length and Transfer-Encoding"),
        (Some(_), Some(_), None, _) => malformed("two Content-Length"),
        (None, _, Some(_), _) => malformed("a Transfer-Encoding other than chunked"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &'static str) -> Result<(Head, Bytes), WireError> {
        let mut stream = bytes.as_bytes();
        let mut reader = Reader::new();
        let head = reader.head(&mut stream).await?;
        let body = reader.body(&mut stream, &head).await?;
        Ok((head, body))
    }

    #[tokio::test]
    async fn both_framings_give_the_same_body() {
        for request in [
            "POST /a?b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
            "POST /a?b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
             2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nTrailer: t\r\n\r\n",
        ] {
            let (head, body) = read(request).await.unwrap();
            assert_eq!(head.path_and_query(), ("/a", "b"));
            assert_eq!(body, "hello");
        }
    }

    #[tokio::test]
    async fn what_is_not_one_clean_request_is_refused() {
        for (request, why) in [
            ("GET / HTTP/1.1\r\n\r\n", "not exactly one Host"),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                "not exactly one Host",
            ),
            ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "not version 1.1"),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", "a bare LF"),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
                "a folded header line",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
                "two Content-Length",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\
                 Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "Content-Length and Transfer-Encoding",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
                "a chunk size is no number",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
                "a chunk is longer than its size",
            ),
        ] {
            let error = read(request).await.expect_err(request);
            assert_eq!(
                error.to_string(),
                format!("not HTTP/1.1: {why}"),
                "{request:?}"
            );
        }
    }

    #[tokio::test]
    async fn an_early_end_is_told_from_a_closed_connection() {
        assert!(matches!(read("").await, Err(WireError::Closed)));
        assert!(matches!(
            read("GET /").await,
            Err(WireError::Truncated("head"))
        ));
        let short = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe";
        assert!(matches!(
            read(short).await,
            Err(WireError::Truncated("body"))
        ));
    }
}
