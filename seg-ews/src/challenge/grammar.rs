//! The grammar of RFC 9110 section 11.6.1.
//!
//! ```text
//! WWW-Authenticate = [ challenge *( OWS "," OWS challenge ) ]      ; empty elements allowed
//! challenge        = auth-scheme [ 1*SP ( token68 / [ auth-param *( OWS "," OWS auth-param ) ] ) ]
//! auth-param       = token BWS "=" BWS ( token / quoted-string )
//! ```
//!
//! One comma separates two lists. Behind it, a token followed by `=` continues the challenge;
//! any other token begins the next one. A tab is taken where the grammar has a space.

/// Longer lines are not looked at.
pub const MAX_LINE_BYTES: usize = 16 * 1024;

/// One challenge within its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Challenge<'l> {
    pub(super) scheme: &'l [u8],
    /// All of it, from the scheme to the last parameter.
    pub(super) text: &'l [u8],
}

/// The challenges of one line; None where the line does not follow the grammar.
pub(super) fn challenges(line: &[u8]) -> Option<Vec<Challenge<'_>>> {
    if line.len() > MAX_LINE_BYTES {
        return None;
    }
    let mut at = Cursor { line, at: 0 };
    let mut found = Vec::new();
    loop {
        at.skip_separators();
        if at.is_at_end() {
            return Some(found);
        }
        found.push(at.challenge()?);
        if !at.is_at_end() && at.peek() != Some(b',') {
            return None;
        }
    }
}

#[derive(Clone, Copy)]
struct Cursor<'l> {
    line: &'l [u8],
    at: usize,
}

impl<'l> Cursor<'l> {
    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    fn is_at_end(&self) -> bool {
        self.at >= self.line.len()
    }

    /// Skips the bytes that `wanted` names and returns them.
    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'l [u8] {
        let rest = self.line.get(self.at..).unwrap_or_default();
        let len = rest
            .iter()
            .position(|&byte| !wanted(byte))
            .unwrap_or(rest.len());
        self.at += len;
        rest.get(..len).unwrap_or_default()
    }

    fn skip_blanks(&mut self) -> bool {
        !self.take_while(is_blank).is_empty()
    }

    fn skip_separators(&mut self) {
        self.take_while(|byte| is_blank(byte) || byte == b',');
    }

    /// Reads a challenge and the blanks behind it.
    fn challenge(&mut self) -> Option<Challenge<'l>> {
        let start = self.at;
        let scheme = self.token()?;
        let mut end = self.at;
        if self.skip_blanks() && !self.is_at_end() && self.peek() != Some(b',') {
            let is_complete = self.token68();
            if !is_complete {
                self.parameter()?;
            }
            end = self.at;
            self.skip_blanks();
            if is_complete {
                return Some(Challenge {
                    scheme,
                    text: self.line.get(start..end)?,
                });
            }
        }
        // Parameters behind commas, as long as they are parameters.
        loop {
            let mut ahead = *self;
            ahead.skip_separators();
            let separated = ahead
                .line
                .get(self.at..ahead.at)
                .is_some_and(|s| s.contains(&b','));
            if !separated || !ahead.is_parameter() {
                break;
            }
            ahead.parameter()?;
            end = ahead.at;
            ahead.skip_blanks();
            *self = ahead;
        }
        Some(Challenge {
            scheme,
            text: self.line.get(start..end)?,
        })
    }

    fn token(&mut self) -> Option<&'l [u8]> {
        let token = self.take_while(is_token);
        (!token.is_empty()).then_some(token)
    }

    /// Reads a token68 if that is what stands here, all of it up to a comma or the end.
    fn token68(&mut self) -> bool {
        let mut ahead = *self;
        let letters = ahead.take_while(is_token68);
        ahead.take_while(|byte| byte == b'=');
        let end = ahead;
        ahead.skip_blanks();
        let is = !letters.is_empty() && (ahead.is_at_end() || ahead.peek() == Some(b','));
        if is {
            *self = end;
        }
        is
    }

    /// Whether a token and `=` stand here.
    fn is_parameter(&self) -> bool {
        let mut ahead = *self;
        ahead.token().is_some() && {
            ahead.skip_blanks();
            ahead.peek() == Some(b'=')
        }
    }

    fn parameter(&mut self) -> Option<()> {
        self.token()?;
        self.skip_blanks();
        self.expect(b'=')?;
        self.skip_blanks();
        if self.peek() == Some(b'"') {
            self.quoted()
        } else {
            self.token().map(drop)
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    fn quoted(&mut self) -> Option<()> {
        self.expect(b'"')?;
        loop {
            self.take_while(|byte| is_quoted_text(byte) && byte != b'"' && byte != b'\\');
            match self.peek()? {
                b'"' => return self.expect(b'"'),
                b'\\' => {
                    self.at += 1;
                    self.peek().filter(|&byte| is_quoted_text(byte))?;
                    self.at += 1;
                }
                _ => return None,
            }
        }
    }
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

const fn is_token68(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
}

/// qdtext and the second half of a quoted-pair, quote and back slash included.
const fn is_quoted_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemes(line: &str) -> Option<Vec<&str>> {
        let found = challenges(line.as_bytes())?;
        found
            .iter()
            .map(|challenge| std::str::from_utf8(challenge.scheme).ok())
            .collect()
    }

    #[test]
    fn a_comma_begins_a_scheme_or_continues_a_challenge() {
        assert_eq!(
            schemes("A b=1, c=2, D, E f=\"g, H\""),
            Some(vec!["A", "D", "E"])
        );
        assert_eq!(schemes("A tok==, B"), Some(vec!["A", "B"]));
        assert_eq!(schemes("A tok="), Some(vec!["A"]));
        assert_eq!(schemes("A /"), Some(vec!["A"]));
        assert_eq!(schemes("A , , b=1 ,, C"), Some(vec!["A", "C"]));
        assert_eq!(schemes(""), Some(vec![]));
    }

    #[test]
    fn what_is_not_in_the_grammar_fails_the_line() {
        for line in [
            "A b=\"x",
            "A b=\"x\\",
            "A b=\"\x01\"",
            "A tok, b=1",
            "A b c",
            "A b=1 c=2",
            "A=1",
            "\"A\"",
            "A b=\"x\"y",
            "A b==\"x\"",
            "(A)",
            "A b=1, =2",
            "A b=x/y",
            "A b=x=",
        ] {
            assert_eq!(schemes(line), None, "{line}");
        }
        assert_eq!(challenges(&vec![b'a'; MAX_LINE_BYTES + 1]), None);
    }
}
