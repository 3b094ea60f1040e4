//! What hyper forgives and we don't.
//!
//! hyper settles bare LF, doubled `Content-Length` and `Content-Length` beside `Transfer-Encoding`
//! by reading them one certain way (RFC 9112 section 2.2 and 6.3). Another reader in the chain may
//! read them another way, so a request that carries one is refused here, and its connection
//! closed. The bytes pass by once, on their way to hyper; nothing is kept of them.

/// A head that two readers could read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadFlaw {
    /// A line ends in LF without CR.
    BareLf,
    /// More than one `Content-Length`, equal or not.
    DoubledContentLength,
    /// Both `Content-Length` and `Transfer-Encoding`.
    LengthAndTransferEncoding,
}

impl HeadFlaw {
    /// The label of `seg_bad_requests_total`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::BareLf => "bare_lf",
            Self::DoubledContentLength => "doubled_content_length",
            Self::LengthAndTransferEncoding => "length_and_transfer_encoding",
        }
    }
}

const LONGEST_NAME: usize = "transfer-encoding:".len();

/// Reads one head as it passes, over any number of pieces.
#[derive(Debug)]
pub struct HeadInspector {
    /// The first bytes of the current line, in lower case: enough to tell the two names.
    line: [u8; LONGEST_NAME],
    /// The length of the current line so far, CR included; saturating.
    length: u16,
    last: u8,
    content_length: bool,
    transfer_encoding: bool,
    flaw: Option<HeadFlaw>,
    /// Lines seen; empty lines before the request line are skipped (RFC 9112 section 2.2).
    started: bool,
}

impl Default for HeadInspector {
    fn default() -> Self {
        Self {
            line: [0; LONGEST_NAME],
            length: 0,
            last: 0,
            content_length: false,
            transfer_encoding: false,
            flaw: None,
            started: false,
        }
    }
}

impl HeadInspector {
    /// Looks at the next bytes of the head. `true` once the head is over; what follows is the body
    /// and must not be given any more.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let mut from = 0;
        for at in memchr::memchr_iter(b'\n', bytes) {
            self.grow(bytes.get(from..at).unwrap_or_default());
            from = at + 1;
            if self.last != b'\r' {
                self.found(HeadFlaw::BareLf);
            }
            let blank = self.length == 0 || (self.length == 1 && self.last == b'\r');
            if blank && self.started {
                return true;
            }
            if !blank {
                self.end_of_line();
            }
            self.length = 0;
            self.last = b'\n';
        }
        self.grow(bytes.get(from..).unwrap_or_default());
        false
    }

    /// What is wrong with the head so far.
    pub fn flaw(&self) -> Option<HeadFlaw> {
        self.flaw
    }

    fn grow(&mut self, piece: &[u8]) {
        if let Some(last) = piece.last() {
            self.last = *last;
        }
        // Only two names matter, and a line's first letter rules nearly all others out.
        let first = match self.length {
            0 => piece.first(),
            _ => self.line.first(),
        };
        let filled = usize::from(self.length).min(LONGEST_NAME);
        let piece_length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
        self.length = self.length.saturating_add(piece_length);
        if !first.is_some_and(|first| matches!(first, b'c' | b'C' | b't' | b'T')) {
            self.line = [0; LONGEST_NAME];
            return;
        }
        for (slot, byte) in self.line.iter_mut().skip(filled).zip(piece) {
            *slot = byte.to_ascii_lowercase();
        }
    }

    fn end_of_line(&mut self) {
        self.started = true;
        let name = self
            .line
            .get(..usize::from(self.length).min(LONGEST_NAME))
            .unwrap_or_default();
        if name.starts_with(b"content-length:") {
            if self.content_length {
                self.found(HeadFlaw::DoubledContentLength);
            }
            self.content_length = true;
        } else if name == b"transfer-encoding:" {
            self.transfer_encoding = true;
        }
        if self.content_length && self.transfer_encoding {
            self.found(HeadFlaw::LengthAndTransferEncoding);
        }
    }

    fn found(&mut self, flaw: HeadFlaw) {
        self.flaw.get_or_insert(flaw);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspect(head: &[u8], step: usize) -> (bool, Option<HeadFlaw>) {
        let mut inspector = HeadInspector::default();
        let mut over = false;
        for piece in head.chunks(step) {
            over = inspector.feed(piece);
            if over {
                break;
            }
        }
        (over, inspector.flaw())
    }

    #[test]
    fn tells_the_flaws_in_any_pieces() {
        let cases: &[(&[u8], Option<HeadFlaw>)] = &[
            (
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
                None,
            ),
            (b"\r\nPOST / HTTP/1.1\r\nHost: a\r\n\r\n", None),
            (b"POST / HTTP/1.1\nHost: a\r\n\r\n", Some(HeadFlaw::BareLf)),
            (b"POST / HTTP/1.1\r\nHost: a\r\n\n", Some(HeadFlaw::BareLf)),
            (
                b"POST / HTTP/1.1\r\ncontent-length: 3\r\nContent-Length: 3\r\n\r\n",
                Some(HeadFlaw::DoubledContentLength),
            ),
            (
                b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
                Some(HeadFlaw::LengthAndTransferEncoding),
            ),
            (
                b"POST / HTTP/1.1\r\nX-Content-Length: 3\r\nContent-Length: 3\r\n\r\n",
                None,
            ),
        ];
        for (head, flaw) in cases {
            for step in [1, 2, 7, 1000] {
                assert_eq!(
                    inspect(head, step),
                    (true, *flaw),
                    "{}",
                    head.escape_ascii()
                );
            }
        }
    }

    #[test]
    fn an_unfinished_head_is_not_over() {
        assert_eq!(inspect(b"POST / HTTP/1.1\r\nHost: a\r\n", 5), (false, None));
    }

    proptest::proptest! {
        #[test]
        fn pieces_do_not_matter(head in proptest::collection::vec(proptest::sample::select(
            &b"\r\n:aContent-Length: 1\r\n"[..]), 0..200), step in 1usize..9) {
            proptest::prop_assert_eq!(inspect(&head, step), inspect(&head, 1000));
        }
    }
}
