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
    /// A `Content-Length` that is no number.
    Length,
    /// A chunked body that is not framed as RFC 9112 section 7.1 has it.
    Chunks,
    /// It came behind a body whose end could not be told.
    Unseen,
}

impl HeadFlaw {
    /// The label of `seg_bad_requests_total`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::BareLf => "bare_lf",
            Self::DoubledContentLength => "doubled_content_length",
            Self::LengthAndTransferEncoding => "length_and_transfer_encoding",
            Self::Length => "content_length",
            Self::Chunks => "chunk_framing",
            Self::Unseen => "unseen_head",
        }
    }
}

const CONTENT_LENGTH: &[u8] = b"content-length:";
const TRANSFER_ENCODING: &[u8] = b"transfer-encoding:";
/// What is kept of the beginning of a line: a name, and the number behind it.
const LONGEST_START: usize = 48;
/// What is kept of a line: its beginning, and the last byte.
const LONGEST_LINE: usize = LONGEST_START + 1;

/// How the body behind a head is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By its length in bytes; 0 where the head tells of no body.
    Length(u64),
    /// In chunks.
    Chunked,
}

fn is_named(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(name))
}

/// Reads one head as it passes, over any number of pieces.
#[derive(Debug)]
pub struct HeadInspector {
    /// The first bytes of a line that came in pieces, enough for the two headers, and its last.
    line: [u8; LONGEST_LINE],
    /// The length of that line so far, CR included; saturating.
    length: u16,
    content_length: Option<u64>,
    transfer_encoding: bool,
    flaw: Option<HeadFlaw>,
    /// Lines seen; empty lines before the request line are skipped (RFC 9112 section 2.2).
    started: bool,
}

impl Default for HeadInspector {
    fn default() -> Self {
        Self {
            line: [0; LONGEST_LINE],
            length: 0,
            content_length: None,
            transfer_encoding: false,
            flaw: None,
            started: false,
        }
    }
}

impl HeadInspector {
    /// Looks at the next bytes of the head. Once the head is over, how many of them belonged to it.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut from = 0;
        for at in memchr::memchr_iter(b'\n', bytes) {
            let piece = bytes.get(from..at).unwrap_or_default();
            from = at + 1;
            // Nearly every line stands in one piece, and is looked at where it is.
            let over = if self.length == 0 {
                self.line_ends(piece)
            } else {
                self.grow(piece);
                let (line, length) = (self.line, self.length);
                let kept = line.get(..usize::from(length).min(LONGEST_LINE));
                self.length = 0;
                self.line_ends(kept.unwrap_or_default())
            };
            if over {
                return Some(from);
            }
        }
        self.grow(bytes.get(from..).unwrap_or_default());
        None
    }

    /// How the body is framed, once the head is over.
    pub fn framing(&self) -> Framing {
        if self.transfer_encoding {
            return Framing::Chunked;
        }
        Framing::Length(self.content_length.unwrap_or_default())
    }

    /// What is wrong with the head so far.
    pub fn flaw(&self) -> Option<HeadFlaw> {
        self.flaw
    }

    /// Keeps the beginning of a line whose end is not here yet, and its last byte.
    fn grow(&mut self, piece: &[u8]) {
        let Some(&last) = piece.last() else { return };
        let filled = usize::from(self.length).min(LONGEST_START);
        for (slot, byte) in self.line.iter_mut().skip(filled).zip(piece) {
            *slot = *byte;
        }
        let piece_length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
        self.length = self.length.saturating_add(piece_length);
        // Behind the beginning only the last byte matters.
        if usize::from(self.length) > LONGEST_START
            && let Some(end) = self.line.last_mut()
        {
            *end = last;
        }
    }

    /// A line without its LF, or its name and its last byte. `true`: it ends the head.
    fn line_ends(&mut self, line: &[u8]) -> bool {
        let (first, last) = match line {
            [] => (b'\n', b'\n'),
            [only] => (*only, *only),
            [first, .., last] => (*first, *last),
        };
        if last != b'\r' {
            self.found(HeadFlaw::BareLf);
        }
        // The first letter rules nearly all other lines out.
        match first | 0x20 {
            b'c' if is_named(line, CONTENT_LENGTH) => {
                if self.content_length.is_some() {
                    self.found(HeadFlaw::DoubledContentLength);
                }
                let value = line.get(CONTENT_LENGTH.len()..).and_then(number);
                if value.is_none() {
                    self.found(HeadFlaw::Length);
                }
                self.content_length = Some(value.unwrap_or_default());
            }
            b't' if is_named(line, TRANSFER_ENCODING) => self.transfer_encoding = true,
            // Neither empty nor a lone CR.
            _ if line.len() > 1 || (line.len() == 1 && last != b'\r') => {}
            _ => return self.started,
        }
        self.started = true;
        if self.content_length.is_some() && self.transfer_encoding {
            self.found(HeadFlaw::LengthAndTransferEncoding);
        }
        false
    }

    fn found(&mut self, flaw: HeadFlaw) {
        self.flaw.get_or_insert(flaw);
    }
}

/// A number with blanks around it, as a line's end has it.
fn number(value: &[u8]) -> Option<u64> {
    let digits = value.trim_ascii();
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0, |number: u64, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspect(head: &[u8], step: usize) -> (bool, Option<HeadFlaw>) {
        let (inspector, over) = fed(head, step);
        (over.is_some(), inspector.flaw())
    }

    /// Where the head was over.
    fn fed(head: &[u8], step: usize) -> (HeadInspector, Option<usize>) {
        let mut inspector = HeadInspector::default();
        for (piece, before) in head.chunks(step).zip((0..).step_by(step)) {
            if let Some(used) = inspector.feed(piece) {
                return (inspector, Some(before + used));
            }
        }
        (inspector, None)
    }

    #[test]
    fn tells_where_the_head_ends_and_how_its_body_is_framed() {
        let cases: [(&str, Framing); 5] = [
            ("Host: a", Framing::Length(0)),
            ("Content-Length: 3", Framing::Length(3)),
            (
                "content-length:  \t 18446744073709551 ",
                Framing::Length(18_446_744_073_709_551),
            ),
            ("Transfer-Encoding: chunked", Framing::Chunked),
            ("X: y\r\nContent-Length:0", Framing::Length(0)),
        ];
        for (line, framing) in cases {
            let head = format!("\r\nPOST / HTTP/1.1\r\n{line}\r\n\r\n");
            let stream = format!("{head}body and more\r\n\r\n");
            for step in [1, 3, 1000] {
                let (inspector, over) = fed(stream.as_bytes(), step);
                assert_eq!(over, Some(head.len()), "{line}");
                assert_eq!(
                    (inspector.framing(), inspector.flaw()),
                    (framing, None),
                    "{line}"
                );
            }
        }
    }

    #[test]
    fn a_length_that_is_none_is_a_flaw() {
        let long = format!("{:>60}", 7);
        for value in [
            "",
            "x",
            "-1",
            "+1",
            "1,1",
            "0x10",
            "1 1",
            "99999999999999999999",
            &long,
        ] {
            let head = format!("POST / HTTP/1.1\r\nContent-Length: {value}\r\n\r\n");
            assert_eq!(
                inspect(head.as_bytes(), 1),
                (true, Some(HeadFlaw::Length)),
                "{value}"
            );
        }
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
