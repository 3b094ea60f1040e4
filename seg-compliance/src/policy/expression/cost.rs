//! What an expression can cost at most, in steps of the evaluation: known when it is loaded, because
//! records have bounded lists and nothing else goes around in circles.

use super::check::Node;
use super::facts::Fact;
use crate::record::{APPS_MAX, GROUPS_MAX};

/// Steps that the evaluation of `node` takes at most.
pub(super) fn steps(node: &Node) -> usize {
    let inside = match node {
        Node::Bool(_)
        | Node::Whole(_)
        | Node::Text(_)
        | Node::List(_)
        | Node::Time(_)
        | Node::Span(_)
        | Node::Version(_)
        | Node::Fact(_)
        | Node::Item
        | Node::Has(_) => 0,
        Node::Not(inner) | Node::AsVersion(inner) | Node::Lower(inner) => steps(inner),
        Node::InNetwork(inner, _) | Node::Part(_, inner, _) => steps(inner),
        Node::Matches(inner, pattern) => steps(inner).saturating_add(pattern.steps),
        Node::And(left, right)
        | Node::Or(left, right)
        | Node::Compare(_, left, right)
        | Node::Add(left, right)
        | Node::Subtract(left, right)
        | Node::Arithmetic(_, left, right)
        | Node::TextTest(_, left, right) => steps(left).saturating_add(steps(right)),
        Node::If(condition, then, other) => {
            steps(condition).saturating_add(steps(then).max(steps(other)))
        }
        Node::In(item, list) => steps(item)
            .saturating_add(steps(list))
            .saturating_add(length(list)),
        // The items of a record's list are counted one by one.
        Node::Size(of) => steps(of).saturating_add(length(of)),
        Node::Each { list, body, .. } => {
            steps(list).saturating_add(length(list).saturating_mul(steps(body)))
        }
    };
    inside.saturating_add(1)
}

/// Items that a list has at most; 0: it is none.
fn length(list: &Node) -> usize {
    match list {
        Node::List(items) => items.len(),
        Node::Fact(Fact::Groups) => GROUPS_MAX,
        Node::Fact(Fact::Apps) => APPS_MAX,
        Node::If(_, then, other) => length(then).max(length(other)),
        _ => 0,
    }
}
