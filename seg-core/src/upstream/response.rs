//! Strict reading of a response head (RFC 9112 sections 4 to 6), in plain functions: their large
//! locals must not live in the future of every waiting request.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use httparse::{ParserConfig, Status};

use super::chunked::Decoder;
use super::error::BadResponse;

/// Largest response head, bytes.
pub(super) const HEAD_LIMIT: usize = 64 * 1024;
/// Most header lines of a response.
pub(super) const HEADER_LIMIT: usize = 128;

/// A response head, read.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) framing: Framing,
    /// The server keeps the connection open behind the body.
    pub(super) keep_alive: bool,
}

/// How the end of a body is known (RFC 9112 section 6.3).
#[derive(Debug)]
pub(super) enum Framing {
    /// So many bytes, 0 for no body.
    Length(u64),
    Chunked(Decoder),
    UntilClose,
}

/// Where the head at the start of `bytes` ends, behind its empty line. `scanned` remembers how
/// far an earlier call came. Refuses what can't become a head as early as it shows.
pub(super) fn find_end(bytes: &[u8], scanned: &mut usize) -> Result<Option<usize>, BadResponse> {
    if !plausible_start(bytes)? {
        return Ok(None);
    }
    let window = bytes.get(..HEAD_LIMIT).unwrap_or(bytes);
    let from = *scanned;
    for offset in memchr::memchr_iter(b'\n', window.get(from..).unwrap_or_default()) {
        let line_feed = from + offset;
        // Bytes, not slices: a slice comparison is a call for each line of every head.
        let before = |n: usize| {
            line_feed
                .checked_sub(n)
                .and_then(|at| window.get(at))
                .copied()
        };
        if before(1) != Some(b'\r') {
            return Err(BadResponse::BareLineEnd);
        }
        if before(2) == Some(b'\n') && before(3) == Some(b'\r') {
            return Ok(Some(line_feed + 1));
        }
        if matches!(window.get(line_feed + 1), Some(b' ' | b'\t')) {
            return Err(BadResponse::Folded);
        }
    }
    if window.len() == HEAD_LIMIT {
        return Err(BadResponse::TooLarge);
    }
    // A line feed at the very end is looked at again: whether the next line is folded shows
    // only when its first byte is here.
    *scanned = window.len() - usize::from(window.ends_with(b"\n"));
    Ok(None)
}

/// Whether `bytes` begin as a response does; `false` while they are too few to tell. The verdict
/// never depends on how the bytes were split.
fn plausible_start(bytes: &[u8]) -> Result<bool, BadResponse> {
    const OURS: &[u8] = b"HTTP/1.";
    const HTTP2: &[u8] = b"HTTP/2";
    const PREFACE: &[u8] = b"PRI * HTTP/2.0";
    const ALERT: u8 = 0x15;
    const HANDSHAKE: u8 = 0x16;
    if bytes.starts_with(OURS) {
        return Ok(true);
    }
    match bytes {
        _ if OURS.starts_with(bytes) => Ok(false),
        _ if bytes.starts_with(HTTP2) => Err(BadResponse::Http2),
        _ if bytes.starts_with(PREFACE) => Err(BadResponse::Http2),
        _ if PREFACE.starts_with(bytes) => Ok(false),
        // A SETTINGS frame: 24 bits of length, then type 4.
        [0, 0, _, 4, ..] => Err(BadResponse::Http2),
        [0] | [0, 0] | [0, 0, _] => Ok(false),
        [ALERT | HANDSHAKE, ..] => Err(BadResponse::Tls),
        _ => Err(BadResponse::NotHttp),
    }
}

/// Reads the head that fills `bytes` up to and with its empty line. Header values share the
/// memory of `bytes`. `to_head`: the request was HEAD, so there is no body.
pub(super) fn parse(bytes: &Bytes, to_head: bool) -> Result<ResponseHead, BadResponse> {
    let mut lines = [const { MaybeUninit::uninit() }; HEADER_LIMIT];
    let mut response = httparse::Response::new(&mut []);
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        bytes,
        &mut lines,
    );
    match parsed {
        Ok(Status::Complete(length)) if length == bytes.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(BadResponse::TooManyHeaders),
        Ok(_) | Err(_) => return Err(BadResponse::Malformed),
    }
    let old = response.version != Some(1);
    let status = response
        .code
        .filter(|code| (100..600).contains(code))
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or(BadResponse::Status)?;
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    let mut lines = FramingLines::default();
    for line in response.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes());
        let name = name.map_err(|_| BadResponse::Malformed)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(line.value));
        let mut value = value.map_err(|_| BadResponse::Malformed)?;
        if name == CONTENT_LENGTH {
            let another = lines.length.is_some();
            let length = lines.content_length(value.as_bytes())?;
            if another {
                continue;
            }
            if value.as_bytes().contains(&b',') {
                value = length.into();
            }
        } else if name == TRANSFER_ENCODING {
            lines.transfer_encoding(value.as_bytes());
            // The coding ends here; whoever sends the answer on frames it anew.
            continue;
        } else if name == CONNECTION {
            lines.connection(value.as_bytes());
        }
        headers
            .try_append(name, value)
            .map_err(|_| BadResponse::TooManyHeaders)?;
    }
    let length = lines.length;
    let chunked = lines.is_chunked(old)?;
    if length.is_some() && chunked {
        return Err(BadResponse::LengthAndEncoding);
    }
    let no_body = to_head
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    let framing = match length {
        _ if no_body => Framing::Length(0),
        _ if chunked => Framing::Chunked(Decoder::default()),
        Some(length) => Framing::Length(length),
        None => Framing::UntilClose,
    };
    let keep_alive = lines.keeps_alive(old) && !matches!(framing, Framing::UntilClose);
    Ok(ResponseHead {
        status,
        headers,
        framing,
        keep_alive,
    })
}

/// The lines that frame a message and say what becomes of its connection, as they pass by.
#[derive(Default)]
struct FramingLines {
    length: Option<u64>,
    /// `Transfer-Encoding` lines, and whether the last is `chunked` alone.
    codings: usize,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

impl FramingLines {
    /// A list of equal values is one value (RFC 9110 section 8.6); anything else is an error.
    fn content_length(&mut self, line: &[u8]) -> Result<u64, BadResponse> {
        let mut agreed = self.length;
        for member in line.split(|&byte| byte == b',') {
            let length = decimal(member.trim_ascii()).ok_or(BadResponse::InvalidLength)?;
            if agreed.is_some_and(|agreed| agreed != length) {
                return Err(BadResponse::DifferingLengths);
            }
            agreed = Some(length);
        }
        self.length = agreed;
        agreed.ok_or(BadResponse::InvalidLength)
    }

    fn transfer_encoding(&mut self, line: &[u8]) {
        self.codings += 1;
        self.chunked = line.eq_ignore_ascii_case(b"chunked");
    }

    /// The only coding understood is `chunked`, once, from an HTTP/1.1 server.
    fn is_chunked(&self, old: bool) -> Result<bool, BadResponse> {
        match self.codings {
            0 => Ok(false),
            1 if !old && self.chunked => Ok(true),
            _ => Err(BadResponse::UnsupportedEncoding),
        }
    }

    fn connection(&mut self, line: &[u8]) {
        for member in line.split(|&byte| byte == b',') {
            let member = member.trim_ascii();
            self.close |= member.eq_ignore_ascii_case(b"close");
            self.keep_alive |= member.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn keeps_alive(&self, old: bool) -> bool {
        !self.close && (!old || self.keep_alive)
    }
}

/// Digits only: no sign, no blank, no overflow.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, &byte| {
        let digit = char::from(byte).to_digit(10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<ResponseHead, BadResponse> {
        read_to(text, false)
    }

    fn read_to(text: &str, to_head: bool) -> Result<ResponseHead, BadResponse> {
        let end = find_end(text.as_bytes(), &mut 0)?.expect("a complete head");
        parse(&Bytes::copy_from_slice(&text.as_bytes()[..end]), to_head)
    }

    fn framing(text: &str) -> String {
        match read(text).unwrap().framing {
            Framing::Length(length) => length.to_string(),
            Framing::Chunked(_) => "chunked".into(),
            Framing::UntilClose => "close".into(),
        }
    }

    #[test]
    fn framing_and_keep_alive() {
        for (head, expected, keep_alive) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "5", true),
            ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "0", true),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
                "5",
                true,
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", "5", true),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
                "chunked",
                true,
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", "close", false),
            ("HTTP/1.1 204 No Content\r\n\r\n", "0", true),
            (
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n",
                "0",
                true,
            ),
            ("HTTP/1.1 100 Continue\r\n\r\n", "0", true),
            (
                "HTTP/1.1 200 OK\r\nConnection: x, CLOSE\r\nContent-Length: 1\r\n\r\n",
                "1",
                false,
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", "1", false),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: Keep-Alive\r\n\r\n",
                "1",
                true,
            ),
            ("HTTP/1.0 200 OK\r\n\r\n", "close", false),
        ] {
            assert_eq!(framing(head), expected, "{head:?}");
            assert_eq!(read(head).unwrap().keep_alive, keep_alive, "{head:?}");
        }
        let head = read_to("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true).unwrap();
        assert!(matches!(head.framing, Framing::Length(0)));
        assert_eq!(
            head.headers[CONTENT_LENGTH], "9",
            "what GET would have given"
        );
    }

    #[test]
    fn every_fault_has_its_name() {
        let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(HEAD_LIMIT));
        let many = format!(
            "HTTP/1.1 200 OK\r\n{}\r\n",
            "X: y\r\n".repeat(HEADER_LIMIT + 1)
        );
        for (head, fault) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                BadResponse::LengthAndEncoding,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
                BadResponse::DifferingLengths,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n",
                BadResponse::DifferingLengths,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
                BadResponse::InvalidLength,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
                BadResponse::InvalidLength,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\n",
                BadResponse::InvalidLength,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
                BadResponse::InvalidLength,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5,\r\n\r\n",
                BadResponse::InvalidLength,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n",
                BadResponse::InvalidLength,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                BadResponse::UnsupportedEncoding,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
                BadResponse::UnsupportedEncoding,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                BadResponse::UnsupportedEncoding,
            ),
            (
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                BadResponse::UnsupportedEncoding,
            ),
            (
                "HTTP/1.1 204 x\r\nTransfer-Encoding: gzip\r\n\r\n",
                BadResponse::UnsupportedEncoding,
            ),
            ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", BadResponse::Folded),
            ("HTTP/1.1 200 OK\r\n\tA: b\r\n\r\n", BadResponse::Folded),
            ("HTTP/1.1 200 OK\nA: b\r\n\r\n", BadResponse::BareLineEnd),
            ("HTTP/1.1 200 OK\r\nA: b\n\r\n", BadResponse::BareLineEnd),
            ("HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", BadResponse::Malformed),
            ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", BadResponse::Malformed),
            ("HTTP/1.1 200 OK\r\n: b\r\n\r\n", BadResponse::Malformed),
            (
                "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
                BadResponse::Malformed,
            ),
            ("HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", BadResponse::Malformed),
            ("HTTP/1.1 2x0 OK\r\n\r\n", BadResponse::Malformed),
            ("HTTP/1.1  200 OK\r\n\r\n", BadResponse::Malformed),
            ("HTTP/1.1 099 Low\r\n\r\n", BadResponse::Status),
            ("HTTP/1.1 600 High\r\n\r\n", BadResponse::Status),
            ("HTTP/1.7 200 OK\r\n\r\n", BadResponse::Malformed),
            ("HTTP/2 200 OK\r\n\r\n", BadResponse::Http2),
            ("PRI * HTTP/2.0\r\n\r\n", BadResponse::Http2),
            ("\0\0\u{12}\u{4}\0\0\0\0\0", BadResponse::Http2),
            ("\u{15}\u{3}\u{3}\0\u{2}", BadResponse::Tls),
            ("220 mail.example ESMTP\r\n", BadResponse::NotHttp),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", BadResponse::NotHttp),
            ("<html>", BadResponse::NotHttp),
            (&long, BadResponse::TooLarge),
            (&many, BadResponse::TooManyHeaders),
        ] {
            let shown: String = head.chars().take(70).collect();
            assert_eq!(read(head).unwrap_err(), fault, "{shown:?}");
        }
    }

    #[test]
    fn the_limits_themselves_are_accepted() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(HEADER_LIMIT));
        assert_eq!(read(&many).unwrap().headers.len(), HEADER_LIMIT);
        let frame = "HTTP/1.1 200 OK\r\nX: \r\n\r\n".len();
        let long = format!(
            "HTTP/1.1 200 OK\r\nX: {}\r\n\r\n",
            "x".repeat(HEAD_LIMIT - frame)
        );
        assert_eq!(read(&long).unwrap().headers["x"].len(), HEAD_LIMIT - frame);
    }

    #[test]
    fn equal_lengths_become_one_and_the_coding_is_gone() {
        let head =
            read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n").unwrap();
        assert_eq!(head.headers.get_all(CONTENT_LENGTH).iter().count(), 1);
        assert_eq!(head.headers[CONTENT_LENGTH], "5");
        let head = read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        assert!(head.headers.is_empty());
    }

    #[test]
    fn values_outside_of_ascii_pass() {
        let bytes = Bytes::from_static(b"HTTP/1.1 200 OK\r\nX: \xe4\xf6\r\nX: 2\r\n\r\n");
        let head = parse(&bytes, false).unwrap();
        let values: Vec<&[u8]> = head
            .headers
            .get_all("x")
            .iter()
            .map(|v| v.as_bytes())
            .collect();
        assert_eq!(values, [&b"\xe4\xf6"[..], b"2"]);
    }

    /// Feeds growing prefixes, as reads would, and gives the verdict.
    fn incremental(bytes: &[u8], cuts: &[usize]) -> Result<Option<usize>, BadResponse> {
        let mut scanned = 0;
        for &cut in cuts {
            if let Some(end) = find_end(&bytes[..cut], &mut scanned)? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    proptest! {
        #[test]
        fn splitting_changes_nothing(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..40),
                proptest::collection::vec(
                    prop_oneof![Just(&b"HTTP/1.1 200 OK\r\n"[..]), Just(&b"A: b\r\n"[..]),
                        Just(&b"\r\n"[..]), Just(&b" "[..]), Just(&b"\n"[..]), Just(&b"\r"[..]),
                        Just(&b"HTTP/2"[..]), Just(&b"PRI * H"[..])],
                    0..7,
                ).prop_map(|parts| parts.concat()),
            ],
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let at_once = incremental(&bytes, &[bytes.len()]);
            prop_assert_eq!(incremental(&bytes, &cuts), at_once);
            let every: Vec<usize> = (0..=bytes.len()).collect();
            prop_assert_eq!(incremental(&bytes, &every), at_once);
        }
    }
}
