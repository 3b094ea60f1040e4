//! HTTP/1.1 messages as they stood on the wire.

use bytes::{Bytes, BytesMut};

const MAX_HEADERS: usize = 128;

/// A request or an answer with its body, chunk framing taken off.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// The request line or the status line.
    pub start: String,
    /// Header lines in order, names as they were written.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// What followed the body on the connection.
    pub rest: Bytes,
}

/// Why bytes are not a whole message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Incomplete {
    /// More bytes have to come.
    More,
    /// No bytes can mend it.
    Malformed(String),
}

/// How the end of a body is told.
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

impl Message {
    /// Reads a request from the start of `bytes`.
    ///
    /// # Errors
    /// When it is not whole, or not HTTP/1.1.
    pub fn request(bytes: &Bytes) -> Result<Self, Incomplete> {
        let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Request::new(&mut lines);
        let length = whole(head.parse(bytes))?;
        let start = format!(
            "{} {} HTTP/1.{}",
            head.method.unwrap_or_default(),
            head.path.unwrap_or_default(),
            head.version.unwrap_or_default()
        );
        Self::with_body(
            start,
            owned(head.headers),
            bytes.slice(length..),
            false,
            false,
        )
    }

    /// Reads an answer from the start of `bytes`; interim answers are left out. `to_head`: it
    /// answers a HEAD request. `closed`: nothing more will come.
    ///
    /// # Errors
    /// When it is not whole, or not HTTP/1.1.
    pub fn answer(bytes: &Bytes, to_head: bool, closed: bool) -> Result<Self, Incomplete> {
        let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Response::new(&mut lines);
        let length = whole(head.parse(bytes))?;
        let status = head.code.unwrap_or_default();
        let rest = bytes.slice(length..);
        if (100..200).contains(&status) {
            return Self::answer(&rest, to_head, closed);
        }
        let start = format!(
            "HTTP/1.{} {status} {}",
            head.version.unwrap_or_default(),
            head.reason.unwrap_or_default()
        );
        let empty = to_head || status == 204 || status == 304;
        let headers = owned(head.headers);
        if empty {
            return Ok(Self {
                start,
                headers,
                body: Bytes::new(),
                rest,
            });
        }
        Self::with_body(start, headers, rest, true, closed)
    }

    fn with_body(
        start: String,
        headers: Vec<(String, String)>,
        rest: Bytes,
        is_answer: bool,
        closed: bool,
    ) -> Result<Self, Incomplete> {
        let mut message = Self {
            start,
            headers,
            body: Bytes::new(),
            rest,
        };
        match message.framing(is_answer)? {
            Framing::Length(length) if message.rest.len() < length => return Err(Incomplete::More),
            Framing::Length(length) => message.body = message.rest.split_to(length),
            Framing::Chunked => (message.body, message.rest) = unchunk(&message.rest)?,
            Framing::UntilClose if !closed => return Err(Incomplete::More),
            Framing::UntilClose => message.body = std::mem::take(&mut message.rest),
        }
        Ok(message)
    }

    fn framing(&self, is_answer: bool) -> Result<Framing, Incomplete> {
        let malformed = |what: &str| Err(Incomplete::Malformed(what.to_owned()));
        let lengths: Vec<&str> = self.all("content-length").collect();
        let codings: Vec<&str> = self.all("transfer-encoding").collect();
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) if is_answer => Ok(Framing::UntilClose),
            ([], []) => Ok(Framing::Length(0)),
            ([length], []) => match length.parse() {
                Ok(length) => Ok(Framing::Length(length)),
                Err(_) => malformed("Content-Length is no number"),
            },
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
            _ => malformed("more than one framing header"),
        }
    }

    /// The status of an answer; 0 for a request.
    #[must_use]
    pub fn status(&self) -> u16 {
        let mut words = self.start.split(' ');
        if !self.start.starts_with("HTTP/") {
            return 0;
        }
        words
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or_default()
    }

    /// The target of a request.
    #[must_use]
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The values of all header lines with this name, in order.
    pub fn all<'m>(&'m self, name: &'m str) -> impl Iterator<Item = &'m str> {
        self.headers
            .iter()
            .filter(move |(line, _)| line.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The value of the first header line with this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(line, _)| line.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as text, for messages of failing tests.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn whole(parsed: httparse::Result<usize>) -> Result<usize, Incomplete> {
    match parsed {
        Ok(httparse::Status::Complete(length)) => Ok(length),
        Ok(httparse::Status::Partial) => Err(Incomplete::More),
        Err(error) => Err(Incomplete::Malformed(error.to_string())),
    }
}

fn owned(lines: &[httparse::Header<'_>]) -> Vec<(String, String)> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    lines
        .iter()
        .map(|line| (line.name.to_owned(), text(line.value)))
        .collect()
}

/// Takes chunk framing off (RFC 9112 7.1): the body and what follows it.
fn unchunk(framed: &Bytes) -> Result<(Bytes, Bytes), Incomplete> {
    let mut rest = framed.clone();
    let mut body = BytesMut::new();
    loop {
        let (size, begin) = match httparse::parse_chunk_size(&rest) {
            Ok(httparse::Status::Complete((begin, size))) => (size, begin),
            Ok(httparse::Status::Partial) => return Err(Incomplete::More),
            Err(_) => return Err(Incomplete::Malformed("no chunk size".to_owned())),
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let _size_line = rest.split_to(begin);
        if size == 0 {
            return trailers(&rest).map(|end| (body.freeze(), rest.slice(end..)));
        }
        if rest.len() < size.saturating_add(2) {
            return Err(Incomplete::More);
        }
        body.extend_from_slice(&rest.split_to(size));
        if !rest.starts_with(b"\r\n") {
            return Err(Incomplete::Malformed(
                "no line end behind a chunk".to_owned(),
            ));
        }
        let _line_end = rest.split_to(2);
    }
}

/// Where the trailer section ends.
fn trailers(rest: &Bytes) -> Result<usize, Incomplete> {
    if rest.starts_with(b"\r\n") {
        return Ok(2);
    }
    rest.windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
        .ok_or(Incomplete::More)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_chunked_bodies_and_what_follows() {
        let bytes = Bytes::from_static(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
              3\r\nabc\r\n1;x=y\r\nd\r\n0\r\nX: y\r\n\r\nHTTP/1.1",
        );
        let answer = Message::answer(&bytes, false, false).expect("a whole answer");
        assert_eq!(
            (answer.status(), &answer.body[..], &answer.rest[..]),
            (200, &b"abcd"[..], &b"HTTP/1.1"[..])
        );
        for length in 0..bytes.len() - 8 {
            assert_eq!(
                Message::answer(&bytes.slice(..length), false, false),
                Err(Incomplete::More),
                "{length}"
            );
        }
    }

    #[test]
    fn a_body_that_is_framed_twice_is_malformed() {
        let bytes = Bytes::from_static(
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        );
        assert!(matches!(
            Message::request(&bytes),
            Err(Incomplete::Malformed(_))
        ));
    }

    #[test]
    fn a_body_without_framing_ends_with_the_connection() {
        let bytes = Bytes::from_static(b"HTTP/1.1 200 OK\r\n\r\nabc");
        assert_eq!(Message::answer(&bytes, false, false), Err(Incomplete::More));
        let answer = Message::answer(&bytes, false, true).expect("a whole answer");
        assert_eq!(&answer.body[..], b"abc");
    }
}
