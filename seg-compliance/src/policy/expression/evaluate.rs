//! The value of an expression for a subject; none where a fact is missing that it needs.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::net::IpAddr;

use serde_json::Value as Json;

use super::calendar::stands_for;
use super::check::{Arithmetic, Compare, Each, Node, TextTest};
use super::facts::Fact;
use crate::clock::from_millisecond;
use crate::intern::{Symbol, Words};
use crate::policy::condition::{Told, reported};
use crate::policy::subject::{Moment, Subject};
use crate::policy::version::Version;

/// A value. Times and lengths know how they move with the clock: 1 for what is later the later it
/// is, 0 for what stands still.
#[derive(Clone, Debug)]
pub(super) enum Value<'v> {
    Bool(bool),
    Whole(i64),
    Text(Cow<'v, str>),
    Words(&'v Words),
    List(&'v [Box<str>]),
    Time { at: i64, moves: i64 },
    Span { length: i64, moves: i64 },
    Version(Cow<'v, str>),
    Address(IpAddr),
}

pub(super) fn holds(node: &Node, subject: &Subject<'_>, moment: &Moment<'_>) -> bool {
    let walk = Walk {
        subject,
        moment,
        item: None,
    };
    walk.truth(node) == Some(true)
}

/// A fact as it was reported.
pub(super) fn fact<'v>(
    fact: Fact,
    subject: &'v Subject<'v>,
    moment: &Moment<'_>,
) -> Option<Value<'v>> {
    let facts = subject.facts;
    let (ask, via) = (subject.ask, &subject.ask.via);
    let symbol = |symbol: Option<&'v Symbol>| symbol.map(Symbol::as_str);
    let text = |text: Option<&'v str>| text.map(|text| Value::Text(Cow::Borrowed(text)));
    let time = |time: Option<i64>| time.map(|at| Value::Time { at, moves: 0 });
    match fact {
        Fact::Known => Some(Value::Bool(facts.is_some())),
        Fact::Flag(flag) => facts?.flag(flag).map(Value::Bool),
        Fact::Id => text(subject.device()),
        Fact::User => text(subject.user()),
        Fact::Platform => text(symbol(facts?.platform.as_ref())),
        Fact::Model => text(symbol(facts?.model.as_ref())),
        Fact::OsVersion => text(symbol(facts?.os_version.as_ref())),
        Fact::Ownership => text(symbol(facts?.ownership.as_ref())),
        Fact::Source => text(symbol(facts?.source.as_ref())),
        Fact::Groups => facts?.groups.as_ref().map(Value::Words),
        Fact::Apps => facts?.apps.as_ref().map(Value::Words),
        Fact::LastSeen => time(facts?.last_seen.millisecond()),
        Fact::Updated => time(facts?.updated.millisecond()),
        Fact::Rank => (subject.rank > 0).then_some(Value::Whole(subject.rank.into())),
        Fact::Agent => text(Told::Agent.read(subject)),
        Fact::DeviceType => text(Told::DeviceType.read(subject)),
        Fact::Protocol => text(Some(ask.protocol.name())),
        Fact::Command => text(reported(ask.command)),
        // Who tells none speaks an older one than any.
        Fact::Version => text(Told::Version.read(subject).map(|told| match told {
            "" => "0",
            version => version,
        })),
        Fact::Suspect => text(reported(via.suspect)),
        Fact::Host => text(reported(via.host)),
        Fact::Path => text(reported(via.path)),
        Fact::Method => text(reported(via.method)),
        Fact::Address => via
            .address
            .map(|address| Value::Address(address.to_canonical())),
        Fact::Now => Some(Value::Time {
            at: moment.now(),
            moves: 1,
        }),
    }
}

/// A value for people.
pub(super) fn json(value: Value<'_>) -> Json {
    match value {
        Value::Bool(value) => value.into(),
        Value::Whole(value) => value.into(),
        Value::Text(text) | Value::Version(text) => text.into(),
        Value::Words(words) => words.iter().collect(),
        Value::List(list) => list.iter().map(|text| Json::from(&**text)).collect(),
        Value::Time { at, .. } => from_millisecond(at).to_string().into(),
        Value::Span { length, .. } => format!("{}s", length / 1_000).into(),
        Value::Address(address) => address.to_string().into(),
    }
}

struct Walk<'w> {
    subject: &'w Subject<'w>,
    moment: &'w Moment<'w>,
    item: Option<&'w str>,
}

impl<'w> Walk<'w> {
    fn truth(&self, node: &'w Node) -> Option<bool> {
        match node {
            // What one side says can be enough, whatever the other lacks.
            Node::And(left, right) => match self.truth(left) {
                Some(false) => Some(false),
                Some(true) => self.truth(right),
                None => self.truth(right).filter(|right| !right),
            },
            Node::Or(left, right) => match self.truth(left) {
                Some(true) => Some(true),
                Some(false) => self.truth(right),
                None => self.truth(right).filter(|right| *right),
            },
            Node::Not(inner) => self.truth(inner).map(|inner| !inner),
            Node::Has(of) => Some(fact(*of, self.subject, self.moment).is_some()),
            Node::Compare(compare, left, right) => {
                let order = self.order(&self.value(left)?, &self.value(right)?)?;
                Some(match compare {
                    Compare::Equal => order == Ordering::Equal,
                    Compare::NotEqual => order != Ordering::Equal,
                    Compare::Less => order == Ordering::Less,
                    Compare::LessOrEqual => order != Ordering::Greater,
                    Compare::Greater => order == Ordering::Greater,
                    Compare::GreaterOrEqual => order != Ordering::Less,
                })
            }
            Node::In(item, list) => {
                let item = self.text(item)?;
                match self.value(list)? {
                    Value::Words(words) => Some(words.iter().any(|word| word == item)),
                    Value::List(list) => Some(list.iter().any(|word| **word == *item)),
                    _ => None,
                }
            }
            Node::TextTest(test, on, argument) => {
                let (on, argument) = (self.text(on)?, self.text(argument)?);
                Some(match test {
                    TextTest::StartsWith => on.starts_with(&*argument),
                    TextTest::EndsWith => on.ends_with(&*argument),
                    TextTest::Contains => on.contains(&*argument),
                })
            }
            Node::Matches(on, pattern) => Some(pattern.is_in(&self.text(on)?)),
            Node::InNetwork(on, network) => match self.value(on)? {
                Value::Address(address) => Some(network.contains(&address)),
                _ => None,
            },
            Node::Each { how, list, body } => self.each(*how, list, body),
            other => match self.value(other)? {
                Value::Bool(value) => Some(value),
                _ => None,
            },
        }
    }

    /// For `exists` and `all` one item that decides is enough, whatever others lack; `exists_one`
    /// has to know of each.
    fn each(&self, how: Each, list: &'w Node, body: &'w Node) -> Option<bool> {
        let list = self.value(list)?;
        let (mut lacking, mut held) = (false, 0_usize);
        let mut decides = |item: &str| {
            let walk = Walk {
                subject: self.subject,
                moment: self.moment,
                item: Some(item),
            };
            let said = walk.truth(body);
            lacking |= said.is_none();
            held += usize::from(said == Some(true));
            match how {
                Each::Any => said == Some(true),
                Each::Every => said == Some(false),
                Each::One => said.is_none(),
            }
        };
        let decided = match list {
            Value::Words(words) => words.iter().any(&mut decides),
            Value::List(list) => list.iter().any(|item| decides(item)),
            _ => return None,
        };
        match how {
            Each::Any if decided => Some(true),
            Each::Every if decided => Some(false),
            _ if lacking => None,
            Each::Any => Some(false),
            Each::Every => Some(true),
            Each::One => Some(held == 1),
        }
    }

    fn value(&self, node: &'w Node) -> Option<Value<'w>> {
        Some(match node {
            Node::Bool(value) => Value::Bool(*value),
            Node::Whole(value) => Value::Whole(*value),
            Node::Text(text) => Value::Text(Cow::Borrowed(text)),
            Node::List(list) => Value::List(list),
            Node::Time(at) => Value::Time { at: *at, moves: 0 },
            Node::Span(length) => Value::Span {
                length: *length,
                moves: 0,
            },
            Node::Version(version) => Value::Version(Cow::Borrowed(version.as_str())),
            Node::Fact(of) => fact(*of, self.subject, self.moment)?,
            Node::Item => Value::Text(Cow::Borrowed(self.item?)),
            Node::If(condition, then, other) => {
                return self.value(if self.truth(condition)? { then } else { other });
            }
            Node::Size(of) => match self.value(of)? {
                Value::Words(words) => whole(words.iter().count()),
                Value::List(list) => whole(list.len()),
                Value::Text(text) => whole(text.chars().count()),
                _ => return None,
            },
            Node::AsVersion(of) => match self.value(of)? {
                Value::Text(text) => Value::Version(text),
                _ => return None,
            },
            Node::Lower(of) => Value::Text(Cow::Owned(self.text(of)?.to_ascii_lowercase())),
            Node::Add(left, right) => self.sum(left, right, 1)?,
            Node::Subtract(left, right) => self.sum(left, right, -1)?,
            Node::Arithmetic(sign, left, right) => {
                let (one, other) = (self.whole(left)?, self.whole(right)?);
                Value::Whole(match sign {
                    Arithmetic::Times => one.checked_mul(other)?,
                    Arithmetic::Over => one.checked_div(other)?,
                    Arithmetic::Rest => one.checked_rem(other)?,
                })
            }
            Node::Part(part, of, zone) => match self.value(of)? {
                Value::Time { at, moves } => {
                    if let Some(wait) = stands_for(at, moves) {
                        self.moment.note(self.moment.now().saturating_add(wait));
                    }
                    Value::Whole(part.of(at, zone))
                }
                _ => return None,
            },
            truth => Value::Bool(self.truth(truth)?),
        })
    }

    fn text(&self, node: &'w Node) -> Option<Cow<'w, str>> {
        match self.value(node)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn whole(&self, node: &'w Node) -> Option<i64> {
        match self.value(node)? {
            Value::Whole(value) => Some(value),
            _ => None,
        }
    }

    /// `left + sign * right`; what leaves the range of numbers has no value.
    fn sum(&self, left: &'w Node, right: &'w Node, sign: i64) -> Option<Value<'w>> {
        let add = |one: i64, other: i64| one.checked_add(other.checked_mul(sign)?);
        Some(match (self.value(left)?, self.value(right)?) {
            (Value::Whole(one), Value::Whole(other)) => Value::Whole(add(one, other)?),
            (Value::Text(one), Value::Text(other)) => Value::Text(one + other),
            (
                Value::Span { length, moves },
                Value::Span {
                    length: other,
                    moves: its,
                },
            ) => Value::Span {
                length: add(length, other)?,
                moves: moves + sign * its,
            },
            (Value::Time { at, moves }, Value::Span { length, moves: its }) => Value::Time {
                at: add(at, length)?,
                moves: moves + sign * its,
            },
            (
                Value::Time { at, moves },
                Value::Time {
                    at: other,
                    moves: its,
                },
            ) => Value::Span {
                length: add(at, other)?,
                moves: moves + sign * its,
            },
            _ => return None,
        })
    }

    fn order(&self, left: &Value<'_>, right: &Value<'_>) -> Option<Ordering> {
        match (left, right) {
            (Value::Bool(one), Value::Bool(other)) => Some(one.cmp(other)),
            (Value::Whole(one), Value::Whole(other)) => Some(one.cmp(other)),
            (Value::Text(one), Value::Text(other)) => Some(one.cmp(other)),
            (Value::Version(one), Value::Version(other)) => Version::order(one, other),
            (
                Value::Time { at: one, moves },
                Value::Time {
                    at: other,
                    moves: its,
                },
            )
            | (
                Value::Span { length: one, moves },
                Value::Span {
                    length: other,
                    moves: its,
                },
            ) => {
                self.note_turn(one.checked_sub(*other)?, moves - its);
                Some(one.cmp(other))
            }
            _ => None,
        }
    }

    /// The two sides differ by `apart`, which changes by `pace` with every millisecond: notes when
    /// they meet, and when they part.
    fn note_turn(&self, apart: i64, pace: i64) {
        let Some(away) = apart.checked_div(pace) else {
            return;
        };
        let meet = self.moment.now().saturating_sub(away);
        self.moment.note(meet);
        self.moment.note(meet.saturating_add(1));
    }
}

fn whole<'v>(count: usize) -> Value<'v> {
    Value::Whole(i64::try_from(count).unwrap_or(i64::MAX))
}
