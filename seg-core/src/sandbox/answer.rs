//! An answer, and its bytes on the wire.

use bytes::{BufMut as _, Bytes, BytesMut};

/// The challenge of a server that offers Basic only.
pub(super) const DEFAULT_CHALLENGE: &str = "Basic realm=\"sandbox.example\"";

/// How the end of the body is told to the client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// Content-Length with the true length.
    Length,
    /// Content-Length with this length, true or not.
    DeclaredLength(u64),
    /// Transfer-Encoding: chunked, in chunks of this many bytes (at least 1).
    Chunked(usize),
    /// Nothing: the connection closes behind the body.
    UntilClose,
}

/// An HTTP answer to be written as it stands here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// Interim answers written first, without headers (102, 103, …).
    pub interim: Vec<u16>,
    /// The status code.
    pub status: u16,
    /// Header lines in order, without the framing ones.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Bytes,
    /// How its end is told.
    pub framing: Framing,
    /// Says `Connection: close`, and does.
    pub close: bool,
}

impl Answer {
    /// An answer without headers and body.
    pub fn status(status: u16) -> Self {
        Self {
            interim: Vec::new(),
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            framing: Framing::Length,
            close: false,
        }
    }

    /// 200 with this body and Content-Type.
    pub fn ok(content_type: &str, body: impl Into<Bytes>) -> Self {
        Self::status(200)
            .header("Content-Type", content_type)
            .body(body)
    }

    /// 200 with WBXML, or with nothing at all, as an ActiveSync server gives it.
    pub fn wbxml(body: impl Into<Bytes>) -> Self {
        let answer = Self::status(200)
            .header("Cache-Control", "private")
            .header("Content-Type", "application/vnd.ms-sync.wbxml")
            .header("Server", "Microsoft-IIS/10.0")
            .header("MS-Server-ActiveSync", "15.1");
        answer.body(body)
    }

    /// 500 with `ErrorServerBusy`, as Exchange throttles.
    pub fn ews_busy(back_off_milliseconds: u64) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
             <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body><s:Fault>\
             <faultcode xmlns:a=\"http://schemas.microsoft.com/exchange/services/2006/types\">\
             a:ErrorServerBusy</faultcode><faultstring xml:lang=\"en-US\">The server cannot service \
             this request right now. Try again later.</faultstring><detail><e:ResponseCode \
             xmlns:e=\"http://schemas.microsoft.com/exchange/services/2006/errors\">ErrorServerBusy\
             </e:ResponseCode><t:MessageXml \
             xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\">\
             <t:Value Name=\"BackOffMilliseconds\">{back_off_milliseconds}</t:Value></t:MessageXml>\
             </detail></s:Fault></s:Body></s:Envelope>"
        );
        Self::status(500)
            .header("Content-Type", "text/xml; charset=utf-8")
            .body(body)
    }

    /// Adds a header line.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets how the body's end is told.
    #[must_use]
    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// Adds an interim answer in front.
    #[must_use]
    pub fn interim(mut self, status: u16) -> Self {
        self.interim.push(status);
        self
    }

    /// Closes the connection behind the answer, and says so.
    #[must_use]
    pub fn close(mut self) -> Self {
        self.close = true;
        self
    }

    /// Whether the connection ends with this answer.
    pub(super) fn ends_connection(&self) -> bool {
        self.close || self.framing == Framing::UntilClose
    }

    /// The bytes of the head, with the empty line; interim answers in front.
    pub fn head_bytes(&self) -> Bytes {
        let mut head = BytesMut::with_capacity(512);
        for status in &self.interim {
            head.put_slice(format!("HTTP/1.1 {status} {}\r\n\r\n", reason(*status)).as_bytes());
        }
        head.put_slice(format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status)).as_bytes());
        for (name, value) in &self.headers {
            head.put_slice(name.as_bytes());
            head.put_slice(b": ");
            head.put_slice(value);
            head.put_slice(b"\r\n");
        }
        match self.framing {
            Framing::Length if self.status == 204 || self.status == 304 => {}
            Framing::Length => put_length(&mut head, self.body.len() as u64),
            Framing::DeclaredLength(length) => put_length(&mut head, length),
            Framing::Chunked(_) => head.put_slice(b"Transfer-Encoding: chunked\r\n"),
            Framing::UntilClose => {}
        }
        if self.close {
            head.put_slice(b"Connection: close\r\n");
        }
        head.put_slice(b"\r\n");
        head.freeze()
    }

    /// The bytes of the body as they are framed.
    pub fn body_bytes(&self) -> Bytes {
        let Framing::Chunked(size) = self.framing else {
            return self.body.clone();
        };
        let mut framed = BytesMut::with_capacity(self.body.len() + 64);
        for part in self.body.chunks(size.max(1)) {
            put_chunk(&mut framed, part);
        }
        framed.put_slice(LAST_CHUNK);
        framed.freeze()
    }
}

/// The end of a chunked body without trailers (RFC 9112 7.1).
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Frames one chunk; an empty one would end the body and is left out.
pub(super) fn put_chunk(framed: &mut BytesMut, part: &[u8]) {
    if !part.is_empty() {
        framed.put_slice(format!("{:x}\r\n", part.len()).as_bytes());
        framed.put_slice(part);
        framed.put_slice(b"\r\n");
    }
}

fn put_length(head: &mut BytesMut, length: u64) {
    head.put_slice(format!("Content-Length: {length}\r\n").as_bytes());
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|s| s.canonical_reason())
        .unwrap_or("Unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_written_as_given() {
        let answer = Answer::status(503)
            .interim(103)
            .header("Retry-After", "5")
            .close();
        let expected = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 503 Service Unavailable\r\n\
                        Retry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        assert_eq!(answer.head_bytes(), expected);
    }

    #[test]
    fn chunks_have_the_size_asked_for() {
        let answer = Answer::ok("text/plain", "abcde").framing(Framing::Chunked(2));
        assert_eq!(
            answer.body_bytes(),
            "2\r\nab\r\n2\r\ncd\r\n1\r\ne\r\n0\r\n\r\n"
        );
    }
}
