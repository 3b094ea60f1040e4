//! The lexer: bytes in any pieces to tags and what lies between them.

use super::Unreadable;

/// Longest tag, in bytes.
const TAG_MAX: usize = 64 * 1024;

/// Is told what a document holds, in document order. All bytes together are the document.
pub(crate) trait Sink {
    /// Bytes of text, a CDATA section, a comment or an instruction, in any pieces.
    fn other(&mut self, bytes: &[u8]) -> Result<(), Unreadable>;

    /// A start tag, `empty` where it is its own end. `behind` is the offset behind it in the piece
    /// that is being read.
    fn start(
        &mut self,
        tag: &[u8],
        local: &[u8],
        empty: bool,
        behind: usize,
    ) -> Result<(), Unreadable>;

    /// An end tag.
    fn end(&mut self, tag: &[u8], behind: usize) -> Result<(), Unreadable>;
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The very first byte.
    #[default]
    Start,
    Text,
    /// Behind `<`, which is gathered.
    Open,
    /// Within a tag, which is gathered, and within this quote (0: none).
    Tag(u8),
    /// Behind `<!`; what it begins is gathered.
    Bang,
    /// Within a comment, behind this many `-`.
    Comment(u8),
    /// Within a CDATA section, behind this many `]`.
    CData(u8),
    /// Within an instruction; whether `?` came last.
    Instruction(bool),
}

/// The state of following one document or several, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Lexer {
    state: State,
    gathered: Vec<u8>,
}

const COMMENT: &[u8] = b"<!--";
const CDATA: &[u8] = b"<![CDATA[";

impl Lexer {
    /// Whether the last byte was the end of a tag, a section, or text.
    pub(crate) fn is_between(&self) -> bool {
        matches!(self.state, State::Start | State::Text)
    }

    /// Reads the next piece.
    pub(crate) fn feed<S: Sink>(&mut self, piece: &[u8], sink: &mut S) -> Result<(), Unreadable> {
        let mut at = 0;
        while let Some(rest) = piece.get(at..).filter(|rest| !rest.is_empty()) {
            at += self.step(rest, at, sink)?;
        }
        Ok(())
    }

    /// Reads something from the start of `rest`, which is not empty; at least one byte. `at` is
    /// where `rest` lies in the piece.
    fn step<S: Sink>(&mut self, rest: &[u8], at: usize, sink: &mut S) -> Result<usize, Unreadable> {
        let first = rest.first().copied().ok_or(Unreadable)?;
        match self.state {
            // The first byte of a byte order mark of UTF-16, or of UTF-16 without one.
            State::Start if matches!(first, 0xfe | 0xff | 0) => Err(Unreadable),
            State::Start | State::Text => self.text(rest, at, sink),
            State::Open => {
                self.gathered.push(first);
                match first {
                    b'!' => {
                        self.state = State::Bang;
                        Ok(1)
                    }
                    b'?' => {
                        self.state = State::Instruction(false);
                        sink.other(&self.gathered)?;
                        Ok(1)
                    }
                    _ => {
                        self.gathered.pop();
                        self.state = State::Tag(0);
                        self.tag(rest, 0, at, sink)
                    }
                }
            }
            State::Tag(quote) => self.tag(rest, quote, at, sink),
            State::Bang => {
                self.gathered.push(first);
                self.state = match &*self.gathered {
                    COMMENT => State::Comment(0),
                    CDATA => State::CData(0),
                    begun if COMMENT.starts_with(begun) || CDATA.starts_with(begun) => {
                        return Ok(1);
                    }
                    _ => return Err(Unreadable),
                };
                sink.other(&self.gathered)?;
                Ok(1)
            }
            State::Comment(seen) => self.section(rest, seen, b'-', State::Comment, sink),
            State::CData(seen) => self.section(rest, seen, b']', State::CData, sink),
            State::Instruction(question) => {
                let mut question = question;
                let end = rest.iter().position(|&byte| {
                    let ends = byte == b'>' && question;
                    question = byte == b'?';
                    ends
                });
                self.state = match end {
                    Some(_) => State::Text,
                    None => State::Instruction(question),
                };
                self.hand_on(rest, end.map_or(rest.len(), |end| end + 1), sink)
            }
        }
    }

    fn text<S: Sink>(&mut self, rest: &[u8], at: usize, sink: &mut S) -> Result<usize, Unreadable> {
        self.state = State::Text;
        let begin = memchr::memchr(b'<', rest).unwrap_or(rest.len());
        if begin > 0 {
            return self.hand_on(rest, begin, sink);
        }
        self.gathered.clear();
        let inner = rest.get(1..).unwrap_or_default();
        if !matches!(inner.first(), None | Some(b'!' | b'?'))
            && let Ok(end) = tag_end(inner, 0)
        {
            // As long as one that comes in pieces may be, and no longer.
            let tag = rest.get(..end + 2).filter(|tag| tag.len() <= TAG_MAX);
            let tag = tag.ok_or(Unreadable)?;
            told(tag, at + end + 2, sink)?;
            return Ok(end + 2);
        }
        self.gathered.push(b'<');
        self.state = State::Open;
        Ok(1)
    }

    fn tag<S: Sink>(
        &mut self,
        rest: &[u8],
        quote: u8,
        at: usize,
        sink: &mut S,
    ) -> Result<usize, Unreadable> {
        let (read, ended) = match tag_end(rest, quote) {
            Ok(end) => (end + 1, true),
            Err(quote) => {
                self.state = State::Tag(quote);
                (rest.len(), false)
            }
        };
        if self.gathered.len() + read > TAG_MAX {
            return Err(Unreadable);
        }
        self.gathered
            .extend_from_slice(rest.get(..read).unwrap_or_default());
        if ended {
            self.state = State::Text;
            told(&self.gathered, at + read, sink)?;
        }
        Ok(read)
    }

    /// A comment or CDATA section, which ends with the mark twice and `>`.
    fn section<S: Sink>(
        &mut self,
        rest: &[u8],
        seen: u8,
        mark: u8,
        within: fn(u8) -> State,
        sink: &mut S,
    ) -> Result<usize, Unreadable> {
        let mut seen = seen;
        let end = rest.iter().position(|&byte| {
            let ends = byte == b'>' && seen == 2;
            seen = if byte == mark { (seen + 1).min(2) } else { 0 };
            ends
        });
        self.state = match end {
            Some(_) => State::Text,
            None => within(seen),
        };
        self.hand_on(rest, end.map_or(rest.len(), |end| end + 1), sink)
    }

    fn hand_on<S: Sink>(
        &self,
        rest: &[u8],
        length: usize,
        sink: &mut S,
    ) -> Result<usize, Unreadable> {
        sink.other(rest.get(..length).unwrap_or(rest))?;
        Ok(length)
    }
}

/// Where the `>` lies that ends a tag; the quote that is open where it is not there.
fn tag_end(bytes: &[u8], quote: u8) -> Result<usize, u8> {
    let (mut at, mut quote) = (0, quote);
    while let Some(rest) = bytes.get(at..) {
        if quote != 0 {
            match memchr::memchr(quote, rest) {
                None => return Err(quote),
                Some(end) => {
                    quote = 0;
                    at += end + 1;
                }
            }
            continue;
        }
        let Some(found) = memchr::memchr3(b'>', b'"', b'\'', rest) else {
            return Err(0);
        };
        at += found;
        match bytes.get(at) {
            Some(b'>') => return Ok(at),
            Some(&byte) => quote = byte,
            None => return Err(0),
        }
        at += 1;
    }
    Err(quote)
}

/// Hands on a complete tag, from `<` to `>`.
fn told<S: Sink>(tag: &[u8], behind: usize, sink: &mut S) -> Result<(), Unreadable> {
    let inner = tag
        .strip_prefix(b"<")
        .and_then(|tag| tag.strip_suffix(b">"))
        .ok_or(Unreadable)?;
    if inner.first() == Some(&b'/') {
        return sink.end(tag, behind);
    }
    let empty = inner.last() == Some(&b'/');
    let name = inner
        .split(|byte| byte.is_ascii_whitespace() || *byte == b'/')
        .next()
        .unwrap_or_default();
    let local = name.rsplit(|&byte| byte == b':').next().unwrap_or(name);
    if local.is_empty() {
        return Err(Unreadable);
    }
    sink.start(tag, local, empty, behind)
}
