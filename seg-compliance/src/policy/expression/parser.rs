//! Tokens to syntax: what stands where, before anybody asks what it means.

use super::lexer::{Token, tokens};
use super::{DEPTH_MAX, Error, NODES_MAX};

/// A piece of syntax and its place.
#[derive(Debug)]
pub(super) struct Syntax {
    pub(super) at: usize,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Bool(bool),
    Whole(i64),
    Text(String),
    List(Vec<Syntax>),
    Name(String),
    Field(Box<Syntax>, String),
    Call(String, Vec<Syntax>),
    Method(Box<Syntax>, String, Vec<Syntax>),
    Not(Box<Syntax>),
    Minus(Box<Syntax>),
    Binary(&'static str, Box<Syntax>, Box<Syntax>),
    If(Box<Syntax>, Box<Syntax>, Box<Syntax>),
}

pub(super) fn parse(text: &str) -> Result<Syntax, Error> {
    let mut parser = Parser {
        tokens: tokens(text)?.into_iter().peekable(),
        nodes: 0,
        depth: 0,
    };
    let syntax = parser.expression()?;
    match parser.next() {
        (_, Token::End) => Ok(syntax),
        (at, token) => Err(unexpected(at, &token, "the end")),
    }
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<(usize, Token)>>,
    nodes: usize,
    depth: usize,
}

/// Binary operators by how weakly they bind.
const LEVELS: [&[&str]; 5] = [
    &["||"],
    &["&&"],
    &["==", "!=", "<", "<=", ">", ">=", "in"],
    &["+", "-"],
    &["*", "/", "%"],
];

impl Parser {
    fn expression(&mut self) -> Result<Syntax, Error> {
        self.deeper(|parser| {
            let condition = parser.binary(0)?;
            let Some(at) = parser.take("?") else {
                return Ok(condition);
            };
            let then = parser.expression()?;
            parser.expect(":")?;
            let other = parser.expression()?;
            parser.node(
                at,
                What::If(Box::new(condition), Box::new(then), Box::new(other)),
            )
        })
    }

    fn binary(&mut self, level: usize) -> Result<Syntax, Error> {
        let Some(signs) = LEVELS.get(level) else {
            return self.unary();
        };
        let mut left = self.binary(level + 1)?;
        loop {
            let found = signs
                .iter()
                .find_map(|sign| Some((self.take(sign)?, *sign)));
            let Some((at, sign)) = found else {
                return Ok(left);
            };
            let right = self.binary(level + 1)?;
            left = self.node(at, What::Binary(sign, Box::new(left), Box::new(right)))?;
        }
    }

    fn unary(&mut self) -> Result<Syntax, Error> {
        if let Some(at) = self.take("!") {
            let inner = self.deeper(Self::unary)?;
            return self.node(at, What::Not(Box::new(inner)));
        }
        if let Some(at) = self.take("-") {
            let inner = self.deeper(Self::unary)?;
            return self.node(at, What::Minus(Box::new(inner)));
        }
        let mut syntax = self.primary()?;
        while let Some(at) = self.take(".") {
            let name = self.name()?;
            let what = if self.take("(").is_some() {
                What::Method(Box::new(syntax), name, self.list(")")?)
            } else {
                What::Field(Box::new(syntax), name)
            };
            syntax = self.node(at, what)?;
        }
        Ok(syntax)
    }

    fn primary(&mut self) -> Result<Syntax, Error> {
        let (at, token) = self.next();
        let what = match token {
            Token::Whole(number) => What::Whole(number),
            Token::Text(text) => What::Text(text),
            Token::Name(name) if name == "true" || name == "false" => What::Bool(name == "true"),
            Token::Name(name) => {
                if self.take("(").is_some() {
                    What::Call(name, self.list(")")?)
                } else {
                    What::Name(name)
                }
            }
            Token::Sign("[") => What::List(self.list("]")?),
            Token::Sign("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                return Ok(inner);
            }
            other => return Err(unexpected(at, &other, "a value")),
        };
        self.node(at, what)
    }

    fn list(&mut self, end: &'static str) -> Result<Vec<Syntax>, Error> {
        let mut list = Vec::new();
        if self.take(end).is_some() {
            return Ok(list);
        }
        loop {
            list.push(self.expression()?);
            if self.take(end).is_some() {
                return Ok(list);
            }
            self.expect(",")?;
        }
    }

    fn name(&mut self) -> Result<String, Error> {
        match self.next() {
            (_, Token::Name(name)) => Ok(name),
            (at, other) => Err(unexpected(at, &other, "a name")),
        }
    }

    fn node(&mut self, at: usize, what: What) -> Result<Syntax, Error> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(Error {
                at,
                message: format!("more than {NODES_MAX} operators, calls and operands"),
            });
        }
        Ok(Syntax { at, what })
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Error {
                at: self.tokens.peek().map_or(0, |(at, _)| *at),
                message: format!("more than {DEPTH_MAX} levels deep"),
            });
        }
        let found = inner(self);
        self.depth -= 1;
        found
    }

    /// Takes the sign, or the word `in`.
    fn take(&mut self, sign: &str) -> Option<usize> {
        let taken = self.tokens.next_if(|(_, token)| match token {
            Token::Sign(found) => *found == sign,
            Token::Name(name) => sign == "in" && name == "in",
            _ => false,
        });
        taken.map(|(at, _)| at)
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), Error> {
        match self.take(sign) {
            Some(_) => Ok(()),
            None => {
                let (at, token) = self.next();
                Err(unexpected(at, &token, &format!("{sign:?}")))
            }
        }
    }

    fn next(&mut self) -> (usize, Token) {
        self.tokens.next().unwrap_or((0, Token::End))
    }
}

fn unexpected(at: usize, found: &Token, expected: &str) -> Error {
    let found = match found {
        Token::Name(name) => format!("{name:?}"),
        Token::Text(_) => "a text".to_owned(),
        Token::Whole(number) => number.to_string(),
        Token::Sign(sign) => format!("{sign:?}"),
        Token::End => "the end".to_owned(),
    };
    Error {
        at,
        message: format!("{found} stands where {expected} is expected"),
    }
}
