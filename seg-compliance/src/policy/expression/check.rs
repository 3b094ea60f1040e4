//! Syntax to meaning: names are found, types are checked, and what an expression reads is noted.

use ipnet::IpNet;
use jiff::tz::TimeZone;

use super::calendar::{Part, part};
use super::facts::{FACTS, Fact};
use super::parser::{Syntax, What};
use super::pattern::Pattern;
use super::{Error, STEPS_MAX, cost};
use crate::policy::condition::Reads;
use crate::policy::network::network;
use crate::policy::version::Version;
use crate::policy::{span, window};

/// What a piece of an expression is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Whole,
    Text,
    List,
    Time,
    Span,
    Version,
    Address,
}

impl Type {
    const fn name(self) -> &'static str {
        match self {
            Self::Bool => "a bool",
            Self::Whole => "a whole number",
            Self::Text => "a text",
            Self::List => "a list of texts",
            Self::Time => "a timestamp",
            Self::Span => "a duration",
            Self::Version => "a version",
            Self::Address => "an address",
        }
    }
}

/// A checked piece.
#[derive(Debug)]
pub(super) enum Node {
    Bool(bool),
    Whole(i64),
    Text(Box<str>),
    List(Box<[Box<str>]>),
    Time(i64),
    Span(i64),
    Version(Version),
    Fact(Fact),
    /// The text that `exists` or `all` looks at.
    Item,
    Has(Fact),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    If(Box<Self>, Box<Self>, Box<Self>),
    Compare(Compare, Box<Self>, Box<Self>),
    In(Box<Self>, Box<Self>),
    Add(Box<Self>, Box<Self>),
    Subtract(Box<Self>, Box<Self>),
    Arithmetic(Arithmetic, Box<Self>, Box<Self>),
    Size(Box<Self>),
    AsVersion(Box<Self>),
    Lower(Box<Self>),
    TextTest(TextTest, Box<Self>, Box<Self>),
    Matches(Box<Self>, Pattern),
    InNetwork(Box<Self>, IpNet),
    /// A part of a timestamp, as the clocks of a zone show it.
    Part(Part, Box<Self>, TimeZone),
    Each {
        how: Each,
        list: Box<Self>,
        body: Box<Self>,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Operators of whole numbers besides the sum.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arithmetic {
    Times,
    Over,
    Rest,
}

/// How many texts of a list a condition has to hold for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Each {
    Any,
    Every,
    One,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum TextTest {
    StartsWith,
    EndsWith,
    Contains,
}

/// A whole expression, checked.
pub(super) struct Checked {
    pub(super) node: Node,
    pub(super) reads: Reads,
    pub(super) facts: Vec<Fact>,
}

pub(super) fn condition(syntax: &Syntax) -> Result<Checked, Error> {
    let mut checker = Checker {
        reads: Reads::default(),
        facts: Vec::new(),
        item: None,
    };
    let node = checker.expect(syntax, Type::Bool)?;
    let steps = cost::steps(&node);
    if steps > STEPS_MAX {
        let message = format!(
            "this can take {steps} steps for one device, more than {STEPS_MAX}: look through one \
             list, not through one for each of another's"
        );
        return Err(wrong(syntax, message));
    }
    Ok(Checked {
        node,
        reads: checker.reads,
        facts: checker.facts,
    })
}

struct Checker<'s> {
    reads: Reads,
    facts: Vec<Fact>,
    /// The name of the text that `exists` or `all` looks at.
    item: Option<&'s str>,
}

impl<'s> Checker<'s> {
    fn expect(&mut self, syntax: &'s Syntax, wanted: Type) -> Result<Node, Error> {
        let (node, found) = self.check(syntax)?;
        if found == wanted {
            return Ok(node);
        }
        Err(wrong(
            syntax,
            format!("this is {}, {} is needed", found.name(), wanted.name()),
        ))
    }

    fn boxed(&mut self, syntax: &'s Syntax, wanted: Type) -> Result<Box<Node>, Error> {
        self.expect(syntax, wanted).map(Box::new)
    }

    fn check(&mut self, syntax: &'s Syntax) -> Result<(Node, Type), Error> {
        Ok(match &syntax.what {
            What::Bool(value) => (Node::Bool(*value), Type::Bool),
            What::Whole(value) => (Node::Whole(*value), Type::Whole),
            What::Text(value) => (Node::Text(value.as_str().into()), Type::Text),
            What::List(items) => {
                let texts = items.iter().map(|item| match &item.what {
                    What::Text(text) => Ok(text.as_str().into()),
                    _ => Err(wrong(item, "lists hold texts in quotes".to_owned())),
                });
                (Node::List(texts.collect::<Result<_, _>>()?), Type::List)
            }
            What::Name(name) if self.item == Some(name) => (Node::Item, Type::Text),
            What::Name(_) | What::Field(..) => {
                let (fact, of) = self.fact(syntax)?;
                (Node::Fact(fact), of)
            }
            What::Not(inner) => (Node::Not(self.boxed(inner, Type::Bool)?), Type::Bool),
            What::Minus(inner) => {
                let inner = self.boxed(inner, Type::Whole)?;
                (Node::Subtract(Box::new(Node::Whole(0)), inner), Type::Whole)
            }
            What::Binary(sign, left, right) => self.binary(syntax, sign, left, right)?,
            What::If(condition, then, other) => {
                let condition = self.boxed(condition, Type::Bool)?;
                let (then, of) = self.check(then)?;
                let other = self.boxed(other, of)?;
                (Node::If(condition, Box::new(then), other), of)
            }
            What::Call(name, arguments) => self.call(syntax, name, arguments)?,
            What::Method(on, name, arguments) => self.method(syntax, on, name, arguments)?,
        })
    }

    fn fact(&mut self, syntax: &Syntax) -> Result<(Fact, Type), Error> {
        let name = dotted(syntax).unwrap_or_default();
        let found = FACTS.iter().find(|(known, _, _)| *known == name);
        let Some((_, fact, of)) = found else {
            let known: Vec<&str> = FACTS.iter().map(|(name, _, _)| *name).collect();
            let message = format!("{name:?} is not known; known are {}", known.join(", "));
            return Err(wrong(root(syntax), message));
        };
        let reads = fact.reads();
        self.reads = Reads {
            request: self.reads.request | reads.request,
            user: self.reads.user | reads.user,
            record: self.reads.record | reads.record,
            time: self.reads.time | reads.time,
            rank: self.reads.rank | reads.rank,
        };
        if !self.facts.contains(fact) {
            self.facts.push(*fact);
        }
        Ok((*fact, *of))
    }

    fn binary(
        &mut self,
        syntax: &Syntax,
        sign: &'static str,
        left: &'s Syntax,
        right: &'s Syntax,
    ) -> Result<(Node, Type), Error> {
        match sign {
            "&&" | "||" => {
                let (left, right) = (
                    self.boxed(left, Type::Bool)?,
                    self.boxed(right, Type::Bool)?,
                );
                let node = if sign == "&&" {
                    Node::And(left, right)
                } else {
                    Node::Or(left, right)
                };
                return Ok((node, Type::Bool));
            }
            "in" => {
                let (left, right) = (
                    self.boxed(left, Type::Text)?,
                    self.boxed(right, Type::List)?,
                );
                return Ok((Node::In(left, right), Type::Bool));
            }
            _ => {}
        }
        let ((left, one), (right, other)) = (self.check(left)?, self.check(right)?);
        let (left, right) = (Box::new(left), Box::new(right));
        let refuse = || {
            let message = format!(
                "{sign} does not go with {} and {}",
                one.name(),
                other.name()
            );
            Err(wrong(syntax, message))
        };
        let compare = match sign {
            "==" => Compare::Equal,
            "!=" => Compare::NotEqual,
            "<" => Compare::Less,
            "<=" => Compare::LessOrEqual,
            ">" => Compare::Greater,
            ">=" => Compare::GreaterOrEqual,
            "+" => {
                return match (one, other) {
                    (Type::Whole, Type::Whole) => Ok((Node::Add(left, right), Type::Whole)),
                    (Type::Text, Type::Text) => Ok((Node::Add(left, right), Type::Text)),
                    (Type::Span, Type::Span) => Ok((Node::Add(left, right), Type::Span)),
                    (Type::Time, Type::Span) => Ok((Node::Add(left, right), Type::Time)),
                    _ => refuse(),
                };
            }
            "*" | "/" | "%" => {
                let sign = match sign {
                    "*" => Arithmetic::Times,
                    "/" => Arithmetic::Over,
                    _ => Arithmetic::Rest,
                };
                return match (one, other) {
                    (Type::Whole, Type::Whole) => {
                        Ok((Node::Arithmetic(sign, left, right), Type::Whole))
                    }
                    _ => refuse(),
                };
            }
            _ => {
                return match (one, other) {
                    (Type::Whole, Type::Whole) => Ok((Node::Subtract(left, right), Type::Whole)),
                    (Type::Span, Type::Span) | (Type::Time, Type::Time) => {
                        Ok((Node::Subtract(left, right), Type::Span))
                    }
                    (Type::Time, Type::Span) => Ok((Node::Subtract(left, right), Type::Time)),
                    _ => refuse(),
                };
            }
        };
        let ordered = !matches!(compare, Compare::Equal | Compare::NotEqual);
        let unordered = matches!(one, Type::Bool | Type::List | Type::Address);
        if one != other || matches!(one, Type::List | Type::Address) || ordered && unordered {
            return refuse();
        }
        Ok((Node::Compare(compare, left, right), Type::Bool))
    }

    fn call(
        &mut self,
        syntax: &Syntax,
        name: &str,
        arguments: &'s [Syntax],
    ) -> Result<(Node, Type), Error> {
        // The one that is a method too.
        if name == "matches" {
            return match arguments {
                [on, pattern] => self.matches(on, pattern),
                _ => {
                    let message = "matches() takes a text and a regular expression in quotes";
                    Err(wrong(syntax, message.to_owned()))
                }
            };
        }
        let [argument] = arguments else {
            return Err(wrong(syntax, format!("{name}() takes one argument")));
        };
        let literal = || match &argument.what {
            What::Text(text) => Ok(text.as_str()),
            _ => Err(wrong(argument, format!("{name}() takes a text in quotes"))),
        };
        let because = |why: String| wrong(argument, why);
        Ok(match name {
            "has" => match &argument.what {
                What::Field(..) => (Node::Has(self.fact(argument)?.0), Type::Bool),
                _ => {
                    return Err(wrong(
                        argument,
                        "has() takes a field, device.platform".to_owned(),
                    ));
                }
            },
            "size" => match self.check(argument)? {
                (node, Type::List | Type::Text) => (Node::Size(Box::new(node)), Type::Whole),
                (_, other) => {
                    return Err(wrong(argument, format!("{} has no size", other.name())));
                }
            },
            "timestamp" => (
                Node::Time(window::timestamp(literal()?).map_err(because)?),
                Type::Time,
            ),
            "duration" => (
                Node::Span(span::milliseconds(literal()?).map_err(because)?),
                Type::Span,
            ),
            "version" => match &argument.what {
                What::Text(text) => (
                    Node::Version(Version::new(text).map_err(because)?),
                    Type::Version,
                ),
                _ => (
                    Node::AsVersion(self.boxed(argument, Type::Text)?),
                    Type::Version,
                ),
            },
            other => {
                let message = format!(
                    "{other}() is not known; known are has, size, timestamp, duration, matches, version"
                );
                return Err(wrong(syntax, message));
            }
        })
    }

    fn method(
        &mut self,
        syntax: &Syntax,
        on: &'s Syntax,
        name: &str,
        arguments: &'s [Syntax],
    ) -> Result<(Node, Type), Error> {
        let text_test = match name {
            "startsWith" => Some(TextTest::StartsWith),
            "endsWith" => Some(TextTest::EndsWith),
            "contains" => Some(TextTest::Contains),
            _ => None,
        };
        if let (Some(test), [argument]) = (text_test, arguments) {
            let (on, argument) = (
                self.boxed(on, Type::Text)?,
                self.boxed(argument, Type::Text)?,
            );
            return Ok((Node::TextTest(test, on, argument), Type::Bool));
        }
        match (name, arguments) {
            ("size", []) => {
                let (node, of) = self.check(on)?;
                if matches!(of, Type::List | Type::Text) {
                    return Ok((Node::Size(Box::new(node)), Type::Whole));
                }
                Err(wrong(on, format!("{} has no size", of.name())))
            }
            ("lowerAscii", []) => Ok((Node::Lower(self.boxed(on, Type::Text)?), Type::Text)),
            ("inNetwork", [argument]) => {
                let on = self.boxed(on, Type::Address)?;
                let network = match &argument.what {
                    What::Text(text) => network(text),
                    _ => None,
                };
                let network = network.ok_or_else(|| {
                    wrong(
                        argument,
                        "inNetwork() takes a network, '10.0.0.0/8'".to_owned(),
                    )
                })?;
                Ok((Node::InNetwork(on, network), Type::Bool))
            }
            ("matches", [argument]) => self.matches(on, argument),
            (name, zone @ ([] | [_])) if part(name).is_some() => {
                self.part(on, part(name).unwrap_or(Part::Year), zone)
            }
            ("exists" | "exists_one" | "all", [variable, body]) => {
                if self.item.is_some() {
                    let message =
                        format!("{name}() can't stand in another exists(), exists_one() or all()");
                    return Err(wrong(syntax, message));
                }
                let list = self.boxed(on, Type::List)?;
                let What::Name(variable) = &variable.what else {
                    let message = format!("{name}() takes a name and a condition on it");
                    return Err(wrong(variable, message));
                };
                self.item = Some(variable);
                let body = self.boxed(body, Type::Bool);
                self.item = None;
                let how = match name {
                    "all" => Each::Every,
                    "exists" => Each::Any,
                    _ => Each::One,
                };
                let body = body?;
                Ok((Node::Each { how, list, body }, Type::Bool))
            }
            _ => {
                let message = format!(
                    "{name}() is not known with so many arguments; known are startsWith, endsWith, \
                     contains, matches, lowerAscii, size, inNetwork, exists, exists_one, all, getFullYear, \
                     getMonth, getDate, getDayOfMonth, getDayOfWeek, getDayOfYear, getHours, getMinutes"
                );
                Err(wrong(syntax, message))
            }
        }
    }

    fn matches(&mut self, on: &'s Syntax, argument: &'s Syntax) -> Result<(Node, Type), Error> {
        let on = self.boxed(on, Type::Text)?;
        let pattern = match &argument.what {
            What::Text(text) => Pattern::new(text),
            _ => Err("matches() takes a regular expression in quotes".to_owned()),
        };
        let pattern = pattern.map_err(|why| wrong(argument, why))?;
        Ok((Node::Matches(on, pattern), Type::Bool))
    }

    fn part(
        &mut self,
        on: &'s Syntax,
        part: Part,
        zone: &'s [Syntax],
    ) -> Result<(Node, Type), Error> {
        let on = self.boxed(on, Type::Time)?;
        let zone = match zone {
            [] => TimeZone::UTC,
            [zone, ..] => match &zone.what {
                What::Text(text) => window::zone(text).map_err(|why| wrong(zone, why))?,
                _ => {
                    let message = "the time zone is a text in quotes".to_owned();
                    return Err(wrong(zone, message));
                }
            },
        };
        Ok((Node::Part(part, on, zone), Type::Whole))
    }
}

fn wrong(syntax: &Syntax, message: String) -> Error {
    Error {
        at: root(syntax).at,
        message,
    }
}

/// `device.platform` as one name.
fn dotted(syntax: &Syntax) -> Option<String> {
    match &syntax.what {
        What::Name(name) => Some(name.clone()),
        What::Field(of, name) => Some(format!("{}.{name}", dotted(of)?)),
        _ => None,
    }
}

/// Where a dotted name begins.
fn root(syntax: &Syntax) -> &Syntax {
    match &syntax.what {
        What::Field(of, _) => root(of),
        _ => syntax,
    }
}
