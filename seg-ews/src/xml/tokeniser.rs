//! Cuts text into markup and character data, whatever the pieces that it arrives in.
//!
//! A tag that lies within one piece is handed on as it lies there; one that a piece boundary cuts
//! is gathered first, up to [`Limits::markup_bytes`]. Character data, CDATA sections and comments
//! are never gathered. There is one path for both, so that no split can change the outcome.

use super::characters::is_space;
use super::element::Stack;
use super::encoding::{Decoder, Encoding, Sink};
use super::{Visitor, declaration, is_blank, reference};
use crate::limits::Limits;
use crate::reject::{Reject, RejectKind};
use quick_xml::parser::{ElementParser, Parser};

/// What the next character belongs to.
#[derive(Debug)]
enum State {
    /// Character data.
    Text,
    /// Character data behind this many `]` (1 or 2): `]]>` must not follow.
    Bracket(u8),
    /// Behind `&`; the name is gathered.
    Reference,
    /// Behind `<`.
    Open,
    /// Behind `<!`; what it begins is gathered.
    Bang,
    /// Within a tag, which is gathered.
    Tag(ElementParser),
    /// Within a comment, behind this many `-` (0 to 2).
    Comment(u8),
    /// Within a CDATA section, behind this many `]` (0 to 2) that are not yet handed on.
    CData(u8),
    /// Within a processing instruction or declaration, which is gathered; the flag says whether
    /// `?` came last.
    Instruction(bool),
}

/// The state of reading one document.
#[derive(Debug)]
pub(crate) struct Tokeniser {
    limits: Limits,
    decoder: Decoder,
    cutter: Cutter,
}

impl Tokeniser {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            decoder: Decoder::new(),
            cutter: Cutter::new(),
        }
    }

    /// Reads the next bytes and tells the visitor what they hold.
    pub(crate) fn feed<V: Visitor>(&mut self, bytes: &[u8], visitor: &mut V) -> Result<(), Reject> {
        let mut cutting = Cutting {
            cutter: &mut self.cutter,
            limits: &self.limits,
            visitor,
        };
        self.decoder.decode(bytes, &mut cutting)
    }

    /// Asks for the document to have ended.
    pub(crate) fn finish(&self) -> Result<(), Reject> {
        let ended = self.cutter.root_closed
            && matches!(self.cutter.state, State::Text)
            && !self.decoder.is_mid_character();
        if ended {
            Ok(())
        } else {
            Err(Reject::new(RejectKind::Truncated, self.cutter.offset))
        }
    }
}

/// Everything but the decoding.
#[derive(Debug)]
struct Cutter {
    state: State,
    /// Markup cut by a piece boundary, or a reference.
    gathered: String,
    /// Offset of the next character.
    offset: u64,
    /// Offset of the markup that is being read.
    began: u64,
    stack: Stack,
    root_closed: bool,
    encoding: Encoding,
}

/// A [`Cutter`] at work for one visitor.
struct Cutting<'c, V> {
    cutter: &'c mut Cutter,
    limits: &'c Limits,
    visitor: &'c mut V,
}

impl<V: Visitor> Sink for Cutting<'_, V> {
    type Error = Reject;

    fn text(&mut self, encoding: Encoding, text: &str) -> Result<(), Reject> {
        self.cutter.encoding = encoding;
        let mut rest = text;
        while !rest.is_empty() {
            let read = self
                .cutter
                .step(rest, self.limits, self.visitor)
                .map_err(|fault| {
                    let offset = match fault.place {
                        Place::Markup => self.cutter.began,
                        Place::Here(ahead) => self.cutter.offset + ahead as u64,
                    };
                    Reject::new(fault.kind, offset)
                })?;
            self.cutter.offset += read as u64;
            rest = rest.get(read..).unwrap_or_default();
        }
        Ok(())
    }

    fn wrong(&mut self, kind: RejectKind) -> Reject {
        Reject::new(kind, self.cutter.offset)
    }
}

/// A mistake and where it lies.
#[derive(Debug)]
struct Fault {
    kind: RejectKind,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// Where the markup began that is being read.
    Markup,
    /// This many bytes into the text that is being read.
    Here(usize),
}

impl From<RejectKind> for Fault {
    fn from(kind: RejectKind) -> Self {
        Self {
            kind,
            place: Place::Markup,
        }
    }
}

const CDATA: &str = "<![CDATA[";
const COMMENT: &str = "<!--";

impl Cutter {
    fn new() -> Self {
        Self {
            state: State::Text,
            gathered: String::new(),
            offset: 0,
            began: 0,
            stack: Stack::new(),
            root_closed: false,
            encoding: Encoding::Utf8,
        }
    }

    /// Reads something from the start of `rest`, which is not empty; returns how much, at least 1.
    fn step<V: Visitor>(
        &mut self,
        rest: &str,
        limits: &Limits,
        visitor: &mut V,
    ) -> Result<usize, Fault> {
        let first = rest.as_bytes().first().copied().unwrap_or_default();
        match self.state {
            State::Text => self.text(rest, first, limits, visitor),
            State::Bracket(seen) => match first {
                b']' => {
                    self.state = State::Bracket(2);
                    self.characters("]", visitor)?;
                    Ok(1)
                }
                b'>' if seen == 2 => Err(Fault {
                    kind: RejectKind::Markup,
                    place: Place::Here(0),
                }),
                _ => {
                    self.state = State::Text;
                    self.text(rest, first, limits, visitor)
                }
            },
            State::Reference => self.reference(rest, visitor),
            State::Open => self.open(rest, first, limits, visitor),
            State::Bang => self.bang(first),
            State::Tag(mut parser) => {
                let end = parser.feed(rest.as_bytes());
                self.state = State::Tag(parser);
                self.gather(rest, end, limits)?;
                let Some(end) = end else {
                    return Ok(rest.len());
                };
                let gathered = std::mem::take(&mut self.gathered);
                self.tag(&gathered, limits, visitor)?;
                self.gathered = gathered;
                Ok(end + 1)
            }
            State::Comment(dashes) => self.comment(rest, dashes),
            State::CData(brackets) => self.cdata(rest, brackets, visitor),
            State::Instruction(question) => self.instruction(rest, question, limits),
        }
    }

    /// Character data and the start of whatever ends it.
    fn text<V: Visitor>(
        &mut self,
        rest: &str,
        first: u8,
        limits: &Limits,
        visitor: &mut V,
    ) -> Result<usize, Fault> {
        match first {
            b'<' => {
                self.began = self.offset;
                self.gathered.clear();
                let Some(&second) = rest.as_bytes().get(1) else {
                    self.state = State::Open;
                    return Ok(1);
                };
                let after = rest.get(1..).unwrap_or_default();
                if matches!(second, b'!' | b'?') {
                    return self
                        .open(after, second, limits, visitor)
                        .map(|read| read + 1);
                }
                let mut parser = ElementParser::Outside;
                let Some(end) = parser.feed(after.as_bytes()) else {
                    self.gathered.push('<');
                    self.state = State::Tag(parser);
                    self.gather(after, None, limits)?;
                    return Ok(rest.len());
                };
                let tag = rest.get(..end + 2).unwrap_or_default();
                if tag.len() > limits.markup_bytes {
                    return Err(RejectKind::MarkupTooLong.into());
                }
                self.tag(tag, limits, visitor)?;
                Ok(end + 2)
            }
            b'&' => {
                self.began = self.offset;
                self.gathered.clear();
                self.state = State::Reference;
                Ok(1)
            }
            b']' => {
                self.characters("]", visitor)?;
                self.state = State::Bracket(1);
                Ok(1)
            }
            _ => {
                let end = memchr::memchr3(b'<', b'&', b']', rest.as_bytes()).unwrap_or(rest.len());
                self.characters(rest.get(..end).unwrap_or_default(), visitor)?;
                Ok(end)
            }
        }
    }

    /// Hands on character data.
    fn characters<V: Visitor>(&mut self, text: &str, visitor: &mut V) -> Result<(), Fault> {
        let depth = self.stack.depth();
        let outcome = match depth {
            0 if is_blank(text) => Ok(()),
            0 => Err(RejectKind::TextOutsideRoot),
            _ => visitor.text(depth, text),
        };
        outcome.map_err(|kind| match kind {
            // The first character that is wrong, wherever this piece of text happens to begin.
            RejectKind::TextOutsideRoot | RejectKind::TextInBody => {
                let at = text
                    .bytes()
                    .position(|byte| !is_space(byte))
                    .unwrap_or_default();
                Fault {
                    kind,
                    place: Place::Here(at),
                }
            }
            _ => kind.into(),
        })
    }

    /// Behind `&`: gathers the name up to `;`.
    fn reference<V: Visitor>(&mut self, rest: &str, visitor: &mut V) -> Result<usize, Fault> {
        for (at, byte) in rest.bytes().enumerate() {
            if byte == b';' {
                let character = reference::resolve(&self.gathered)?;
                if self.stack.depth() == 0 {
                    return Err(RejectKind::TextOutsideRoot.into());
                }
                visitor.text(self.stack.depth(), character.encode_utf8(&mut [0; 4]))?;
                self.state = State::Text;
                return Ok(at + 1);
            }
            let part_of_name = byte == b'#' || byte.is_ascii_alphanumeric();
            if !part_of_name || self.gathered.len() >= reference::MAX_BYTES {
                return Err(RejectKind::Entity.into());
            }
            self.gathered.push(char::from(byte));
        }
        Ok(rest.len())
    }

    /// Behind `<`: finds out what begins.
    fn open<V: Visitor>(
        &mut self,
        rest: &str,
        first: u8,
        limits: &Limits,
        visitor: &mut V,
    ) -> Result<usize, Fault> {
        self.gathered.push('<');
        match first {
            b'!' => self.state = State::Bang,
            b'?' => self.state = State::Instruction(false),
            _ => {
                self.state = State::Tag(ElementParser::Outside);
                return self.step(rest, limits, visitor);
            }
        }
        self.gathered.push(char::from(first));
        Ok(1)
    }

    /// Behind `<!`: a comment, a CDATA section, or something that has no place here.
    fn bang(&mut self, byte: u8) -> Result<usize, Fault> {
        self.gathered.push(char::from(byte));
        if self.gathered == COMMENT {
            self.state = State::Comment(0);
        } else if self.gathered == CDATA {
            if self.stack.depth() == 0 {
                return Err(RejectKind::TextOutsideRoot.into());
            }
            self.state = State::CData(0);
        } else if self.gathered.starts_with("<!D") {
            return Err(RejectKind::Dtd.into());
        } else if !COMMENT.starts_with(&self.gathered) && !CDATA.starts_with(&self.gathered) {
            return Err(RejectKind::Markup.into());
        }
        Ok(1)
    }

    fn comment(&mut self, rest: &str, dashes: u8) -> Result<usize, Fault> {
        let first = rest.as_bytes().first().copied();
        self.state = match (dashes, first) {
            (2, Some(b'>')) => State::Text,
            (2, _) => return Err(RejectKind::Markup.into()),
            (1, Some(b'-')) => State::Comment(2),
            _ => {
                let dash = memchr::memchr(b'-', rest.as_bytes());
                self.state = State::Comment(u8::from(dash.is_some()));
                return Ok(dash.map_or(rest.len(), |dash| dash + 1));
            }
        };
        Ok(1)
    }

    fn cdata<V: Visitor>(
        &mut self,
        rest: &str,
        brackets: u8,
        visitor: &mut V,
    ) -> Result<usize, Fault> {
        let first = rest.as_bytes().first().copied();
        match (brackets, first) {
            (2, Some(b'>')) => {
                self.state = State::Text;
                Ok(1)
            }
            (2, Some(b']')) => {
                self.characters("]", visitor)?;
                Ok(1)
            }
            (_, Some(b']')) => {
                self.state = State::CData(brackets + 1);
                Ok(1)
            }
            _ => {
                let held = if brackets == 2 { "]]" } else { "]" };
                if brackets > 0 {
                    self.characters(held, visitor)?;
                }
                self.state = State::CData(0);
                let end = memchr::memchr(b']', rest.as_bytes()).unwrap_or(rest.len());
                self.characters(rest.get(..end).unwrap_or_default(), visitor)?;
                Ok(end)
            }
        }
    }

    fn instruction(&mut self, rest: &str, question: bool, limits: &Limits) -> Result<usize, Fault> {
        let mut question = question;
        let mut end = None;
        for (at, byte) in rest.bytes().enumerate() {
            if byte == b'>' && question {
                end = Some(at);
                break;
            }
            question = byte == b'?';
        }
        self.gather(rest, end, limits)?;
        let Some(end) = end else {
            self.state = State::Instruction(question);
            return Ok(rest.len());
        };
        let content = self
            .gathered
            .strip_prefix("<?")
            .and_then(|text| text.strip_suffix("?>"));
        let content = content.ok_or(RejectKind::Markup)?;
        let target = content
            .split(|c: char| c.is_ascii_whitespace())
            .next()
            .unwrap_or_default();
        if target.eq_ignore_ascii_case("xml") {
            if target != "xml" || self.began != 0 {
                return Err(RejectKind::Declaration.into());
            }
            declaration::check(content, self.encoding)?;
        } else if !super::characters::is_ncname(target) {
            return Err(RejectKind::Name.into());
        }
        self.state = State::Text;
        Ok(end + 1)
    }

    /// Adds to the gathered markup the text up to and with the byte at `end`, or all of it.
    fn gather(&mut self, rest: &str, end: Option<usize>, limits: &Limits) -> Result<(), Fault> {
        let part = end.and_then(|end| rest.get(..=end)).unwrap_or(rest);
        if self.gathered.len() + part.len() > limits.markup_bytes {
            return Err(RejectKind::MarkupTooLong.into());
        }
        self.gathered.push_str(part);
        Ok(())
    }

    /// Takes a complete tag, from `<` to `>`.
    fn tag<V: Visitor>(
        &mut self,
        tag: &str,
        limits: &Limits,
        visitor: &mut V,
    ) -> Result<(), Fault> {
        self.state = State::Text;
        let content = tag.strip_prefix('<').and_then(|tag| tag.strip_suffix('>'));
        let content = content.ok_or(RejectKind::Markup)?;
        if memchr::memchr(b'<', content.as_bytes()).is_some() {
            return Err(RejectKind::Markup.into());
        }
        if let Some(name) = content.strip_prefix('/') {
            if !self
                .stack
                .is_innermost(name.trim_end_matches(|c: char| c.is_ascii_whitespace()))
            {
                return Err(RejectKind::MismatchedTag.into());
            }
            return self.close(visitor);
        }
        if self.root_closed {
            return Err(RejectKind::SecondRoot.into());
        }
        let (content, empty) = match content.strip_suffix('/') {
            Some(content) => (content, true),
            None => (content, false),
        };
        let element = self.stack.open(content, limits)?;
        visitor.start(&element)?;
        if empty { self.close(visitor) } else { Ok(()) }
    }

    fn close<V: Visitor>(&mut self, visitor: &mut V) -> Result<(), Fault> {
        visitor.end(self.stack.depth())?;
        self.stack.close();
        self.root_closed = self.stack.depth() == 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
