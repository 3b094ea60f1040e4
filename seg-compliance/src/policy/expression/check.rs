//! Syntax to meaning: names are found, types are checked, and what an expression reads is noted.

use ipnet::IpNet;

use super::parser::{Syntax, What};
use super::{Error, STEPS_MAX, cost};
use crate::policy::condition::Reads;
use crate::policy::network::network;
use crate::policy::version::Version;
use crate::policy::{span, window};
use crate::record::Flag;

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
    Size(Box<Self>),
    AsVersion(Box<Self>),
    Lower(Box<Self>),
    TextTest(TextTest, Box<Self>, Box<Self>),
    InNetwork(Box<Self>, IpNet),
    Each {
        all: bool,
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

#[derive(Clone, Copy, Debug)]
pub(super) enum TextTest {
    StartsWith,
    EndsWith,
    Contains,
}

/// A name that an expression can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Known,
    Flag(Flag),
    Id,
    User,
    Platform,
    Model,
    OsVersion,
    Ownership,
    Source,
    Groups,
    Apps,
    LastSeen,
    Updated,
    Rank,
    Agent,
    DeviceType,
    Protocol,
    Command,
    Version,
    Suspect,
    Host,
    Path,
    Method,
    Address,
    Now,
}

static FACTS: [(&str, Fact, Type); 32] = [
    ("device.known", Fact::Known, Type::Bool),
    ("device.managed", Fact::Flag(Flag::Managed), Type::Bool),
    ("device.compliant", Fact::Flag(Flag::Compliant), Type::Bool),
    (
        "device.compromised",
        Fact::Flag(Flag::Compromised),
        Type::Bool,
    ),
    ("device.encrypted", Fact::Flag(Flag::Encrypted), Type::Bool),
    ("device.profile", Fact::Flag(Flag::Profile), Type::Bool),
    ("device.passcode", Fact::Flag(Flag::Passcode), Type::Bool),
    ("device.attested", Fact::Flag(Flag::Attested), Type::Bool),
    ("device.revoked", Fact::Flag(Flag::Revoked), Type::Bool),
    ("device.id", Fact::Id, Type::Text),
    ("device.platform", Fact::Platform, Type::Text),
    ("device.model", Fact::Model, Type::Text),
    ("device.os_version", Fact::OsVersion, Type::Text),
    ("device.ownership", Fact::Ownership, Type::Text),
    ("device.source", Fact::Source, Type::Text),
    ("device.groups", Fact::Groups, Type::List),
    ("device.apps", Fact::Apps, Type::List),
    ("device.last_seen", Fact::LastSeen, Type::Time),
    ("device.updated", Fact::Updated, Type::Time),
    ("device.rank", Fact::Rank, Type::Whole),
    ("user", Fact::User, Type::Text),
    ("request.agent", Fact::Agent, Type::Text),
    ("request.type", Fact::DeviceType, Type::Text),
    ("request.protocol", Fact::Protocol, Type::Text),
    ("request.command", Fact::Command, Type::Text),
    ("request.version", Fact::Version, Type::Text),
    ("request.host", Fact::Host, Type::Text),
    ("request.path", Fact::Path, Type::Text),
    ("request.method", Fact::Method, Type::Text),
    ("request.suspect", Fact::Suspect, Type::Text),
    ("request.address", Fact::Address, Type::Address),
    ("now", Fact::Now, Type::Time),
];

impl Fact {
    pub(super) fn name(self) -> &'static str {
        FACTS
            .iter()
            .find(|(_, fact, _)| *fact == self)
            .map_or("", |(name, _, _)| name)
    }

    pub(super) fn reads(self) -> Reads {
        let nothing = Reads::default();
        match self {
            Self::Id => nothing,
            Self::Rank => Reads {
                rank: true,
                ..nothing
            },
            Self::User => Reads {
                user: true,
                ..nothing
            },
            Self::Now => Reads {
                time: true,
                ..nothing
            },
            Self::Known
            | Self::Flag(_)
            | Self::Platform
            | Self::Model
            | Self::OsVersion
            | Self::Ownership
            | Self::Source
            | Self::Groups
            | Self::Apps
            | Self::LastSeen
            | Self::Updated => Reads {
                record: true,
                ..nothing
            },
            Self::Agent
            | Self::DeviceType
            | Self::Protocol
            | Self::Command
            | Self::Version
            | Self::Suspect
            | Self::Host
            | Self::Path
            | Self::Method
            | Self::Address => Reads {
                request: true,
                ..nothing
            },
        }
    }
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
                    (Type::Span, Type::Span) => Ok((Node::Add(left, right), Type::Span)),
                    (Type::Time, Type::Span) => Ok((Node::Add(left, right), Type::Time)),
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
                    "{other}() is not known; known are has, size, timestamp, duration, version"
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
            ("exists" | "all", [variable, body]) => {
                if self.item.is_some() {
                    let message = format!("{name}() can't stand in another exists() or all()");
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
                let all = name == "all";
                let body = body?;
                Ok((Node::Each { all, list, body }, Type::Bool))
            }
            _ => {
                let message = format!(
                    "{name}() is not known with so many arguments; known are startsWith, endsWith, \
                     contains, lowerAscii, size, inNetwork, exists, all"
                );
                Err(wrong(syntax, message))
            }
        }
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
