//! Where the envelopes of a streaming answer end (MS-OXWSNTIF 3.1.4.3: `GetStreamingEvents`).
//!
//! The answer is a row of complete envelopes, and neither chunks nor pieces know of their bounds.
//! The framer follows the markup, whatever the pieces, and changes nothing: what it has seen is
//! sent as it came. Between two envelopes another one may be put in.

use crate::markup::{Lexer, Sink, Unreadable};

/// Deepest nesting that is followed.
const DEPTH_MAX: u32 = 1024;

/// Follows a row of envelopes.
#[derive(Debug, Default)]
pub struct Framer {
    lexer: Lexer,
    depth: u32,
}

impl Framer {
    /// A framer before the first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the next piece. Says where in it the first envelope ends that ends in it: the offset
    /// behind its last byte.
    ///
    /// # Errors
    /// The answer is no XML that can be followed; nothing can be said of it from here on.
    pub fn feed(&mut self, piece: &[u8]) -> Result<Option<usize>, Unreadable> {
        let mut following = Following {
            depth: self.depth,
            first_end: None,
        };
        let read = self.lexer.feed(piece, &mut following);
        self.depth = following.depth;
        read.map(|()| following.first_end)
    }

    /// Whether everything read so far is whole envelopes, and nothing of another has begun.
    pub fn is_between(&self) -> bool {
        self.depth == 0 && self.lexer.is_between()
    }
}

struct Following {
    depth: u32,
    first_end: Option<usize>,
}

impl Following {
    fn closed(&mut self, behind: usize) {
        if self.depth == 0 && self.first_end.is_none() {
            self.first_end = Some(behind);
        }
    }
}

impl Sink for Following {
    fn other(&mut self, _bytes: &[u8]) -> Result<(), Unreadable> {
        Ok(())
    }

    fn start(
        &mut self,
        _tag: &[u8],
        _local: &[u8],
        empty: bool,
        behind: usize,
    ) -> Result<(), Unreadable> {
        if empty {
            self.closed(behind);
        } else if self.depth < DEPTH_MAX {
            self.depth += 1;
        } else {
            return Err(Unreadable);
        }
        Ok(())
    }

    fn end(&mut self, _tag: &[u8], behind: usize) -> Result<(), Unreadable> {
        self.depth = self.depth.checked_sub(1).ok_or(Unreadable)?;
        self.closed(behind);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONE: &str = "<?xml version='1.0'?><s:Envelope a='>' b=\"</s:Envelope>\"><!-- </s:Envelope> -->\
        <s:Body><![CDATA[</s:Envelope>]]]]><m:X/>text</s:Body></s:Envelope>";
    const TWO: &str = "<Envelope><Body/></Envelope>";

    #[test]
    fn ends_are_found_whatever_the_pieces() {
        let row = [ONE, "\r\n", TWO, ONE].concat();
        let ends = [ONE.len(), ONE.len() + 2 + TWO.len(), row.len()];
        for size in 1..=row.len() {
            let mut framer = Framer::new();
            let mut found = Vec::new();
            let mut at = 0;
            for piece in row.as_bytes().chunks(size) {
                if let Some(end) = framer.feed(piece).expect("readable") {
                    found.push(at + end);
                }
                at += piece.len();
            }
            assert!(framer.is_between(), "{size}");
            // A piece with several ends tells of its first.
            assert!(
                found.iter().all(|end| ends.contains(end)),
                "{size}: {found:?}"
            );
            assert!(size > TWO.len() || found == ends, "{size}: {found:?}");
        }
    }

    #[test]
    fn what_is_no_xml_is_said_to_be_none() {
        for bad in [
            &b"</a>"[..],
            b"<a></a></b>",
            b"<!DOCTYPE a>",
            b"\xff\xfe<\0",
            b"<>",
            b"< a>",
        ] {
            assert_eq!(Framer::new().feed(bad), Err(Unreadable), "{bad:?}");
        }
        let long = format!("<a b='{}'", "x".repeat(70_000));
        let mut pieces = long.as_bytes().chunks(1000);
        let mut framer = Framer::new();
        assert!(pieces.any(|piece| framer.feed(piece).is_err()));
        assert_eq!(
            Framer::new().feed("<a>".repeat(2000).as_bytes()),
            Err(Unreadable)
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_in_arbitrary_pieces(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            crate::fuzz::framer(&data);
        }

        #[test]
        fn arbitrary_markup_in_arbitrary_pieces(
            size in 1u8..40,
            parts in proptest::collection::vec(prop_oneof![
                Just("<a>"), Just("</a>"), Just("<b c='>'/>"), Just("<!--"), Just("-->"), Just("x"),
                Just("<![CDATA["), Just("]]>"), Just("<?"), Just("?>"), Just("<"), Just(">"), Just("\""),
            ], 0..40),
        ) {
            let mut data = vec![size];
            data.extend(parts.concat().bytes());
            crate::fuzz::framer(&data);
            crate::fuzz::redactor(&data);
        }
    }
}
