//! Tokens of an expression, each with its place.

use super::{Error, LENGTH_MAX};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Name(String),
    Text(String),
    Whole(i64),
    Sign(&'static str),
    End,
}

/// Signs, longer ones first.
const SIGNS: [&str; 23] = [
    "||", "&&", "==", "!=", "<=", ">=", "<", ">", "!", "?", ":", "(", ")", "[", "]", ",", ".", "+",
    "-", "*", "/", "%", "_",
];

pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Error> {
    if text.len() > LENGTH_MAX {
        let message = format!("longer than {LENGTH_MAX} bytes");
        return Err(Error { at: 0, message });
    }
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let first = rest.chars().next().unwrap_or_default();
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (token, length) = if first == '\'' || first == '"' {
            quoted(rest, first, at)?
        } else if first.is_ascii_digit() {
            let length = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number = rest.get(..length).and_then(|digits| digits.parse().ok());
            let number = number.ok_or_else(|| Error {
                at,
                message: "the number is too large".to_owned(),
            })?;
            (Token::Whole(number), length)
        } else if first.is_ascii_alphabetic() || first == '_' {
            let length = rest
                .bytes()
                .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
                .count();
            (
                Token::Name(rest.get(..length).unwrap_or_default().to_owned()),
                length,
            )
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or_else(|| Error {
                at,
                message: format!("{first:?} has no meaning here"),
            })?;
            (Token::Sign(sign), sign.len())
        };
        tokens.push((at, token));
        at += length;
    }
    tokens.push((text.len(), Token::End));
    Ok(tokens)
}

/// A text in quotes, with `\\`, `\'`, `\"`, `\n`, `\t`.
fn quoted(rest: &str, quote: char, at: usize) -> Result<(Token, usize), Error> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((index, character)) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                Some((_, escaped @ ('\\' | '\'' | '"'))) => text.push(escaped),
                _ => {
                    return Err(Error {
                        at: at + index,
                        message: "only \\\\, \\', \\\", \\n and \\t can be escaped".to_owned(),
                    });
                }
            },
            end if end == quote => return Ok((Token::Text(text), index + 1)),
            other => text.push(other),
        }
    }
    Err(Error {
        at,
        message: "the text is not closed".to_owned(),
    })
}
