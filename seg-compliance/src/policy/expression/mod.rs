//! Conditions in CEL, the Common Expression Language: `cel = "device.platform == 'ios' &&
//! version(device.os_version) < version('17.2')"`.
//!
//! The part of the language that a policy needs (cel.dev, language definition): literals of
//! booleans, whole numbers, texts and lists of texts; `||`, `&&`, `!`, `?:`, the comparisons, `in`,
//! `+`, `-`, `*`, `/`, `%`; `has()`, `size()`, `timestamp()`, `duration()`, `startsWith()`,
//! `endsWith()`, `contains()`, `matches()`, `lowerAscii()`, the parts of a timestamp from
//! `getFullYear()` to `getMinutes()`, and the macros `exists()`, `exists_one()` and `all()`. Beyond
//! CEL: `version()`, which compares number by number, and `inNetwork()`.
//!
//! A fact that nobody reported is CEL's error value: an operator with it has none either, but
//! `false && error` is false and `true || error` is true. A condition without a value does not
//! hold. Everything has one type, checked when the policy is loaded; there are no loops but over
//! one list, so what an expression can cost is known then too, and bounded.

mod calendar;
mod check;
mod cost;
mod evaluate;
mod facts;
mod lexer;
mod parser;
mod pattern;

use serde_json::{Map, Value as Json};

use super::condition::Reads;
use super::subject::{Moment, Subject};
use check::Node;
use facts::Fact;

/// Longest expression, in bytes.
pub(super) const LENGTH_MAX: usize = 4_096;
/// Most operators, calls and operands of one.
pub(super) const NODES_MAX: usize = 256;
/// How deep they may stand in each other.
pub(super) const DEPTH_MAX: usize = 32;
/// Most steps that its evaluation may take for one device, with the longest lists that a record can
/// have.
pub(super) const STEPS_MAX: usize = 250_000;

/// A checked expression.
#[derive(Debug)]
pub(super) struct Expression {
    node: Node,
    reads: Reads,
    facts: Vec<Fact>,
}

/// Why a text is no condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Error {
    /// Byte offset in the expression.
    pub(super) at: usize,
    pub(super) message: String,
}

impl Expression {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let syntax = parser::parse(text)?;
        let checked = check::condition(&syntax)?;
        Ok(Self {
            node: checked.node,
            reads: checked.reads,
            facts: checked.facts,
        })
    }

    pub(super) fn reads(&self) -> Reads {
        self.reads
    }

    /// Whether it asks a request for more than its User-Agent.
    pub(super) fn is_unforeseen(&self) -> bool {
        let asked = |fact: &Fact| *fact != Fact::Agent && fact.reads().request;
        self.facts.iter().any(asked)
    }

    pub(super) fn holds(&self, subject: &Subject<'_>, moment: &Moment<'_>) -> bool {
        evaluate::holds(&self.node, subject, moment)
    }

    /// The facts it reads, for `explain`.
    pub(super) fn saw(
        &self,
        subject: &Subject<'_>,
        moment: &Moment<'_>,
        saw: &mut Map<String, Json>,
    ) {
        for fact in &self.facts {
            let value = evaluate::fact(*fact, subject, moment);
            saw.insert(
                fact.name().to_owned(),
                value.map_or(Json::Null, evaluate::json),
            );
        }
    }
}

#[cfg(test)]
mod tests;
