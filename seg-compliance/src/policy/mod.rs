//! `[[policy]]` of policies.toml: which facts, for whom, what follows.
//!
//! ```toml
//! [[policy]]
//! id = "ios-min"
//! when = { platform = "ios", os_version_below = "17" }
//! scope = { groups = ["Mobile-Mail-Users"] }
//! action = "block"
//! reason = "iOS 17 or later is required"
//! mode = "enforce"
//! ```
//!
//! Policies are walked in file order. One fires when all of its `when` holds within its `scope`.
//! The first that blocks, quarantines or allows ends the walk; `notify` never does, nor does a
//! policy in `mode = "test"`. A fact that nobody reported makes its condition not hold: missing is
//! not false.

mod condition;
mod pattern;
mod version;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Verdict;
use condition::Condition;
pub(crate) use condition::Subject;
use pattern::Pattern;

/// Most policies of one file.
pub const POLICIES_MAX: usize = 1_000;
/// Most words in one list of a policy.
pub const WORDS_MAX: usize = 10_000;
/// Longest id, in bytes.
pub const ID_MAX: usize = 128;

/// The policies of one file, ready to be asked. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Policies(Arc<[Policy]>);

impl Policies {
    /// Reads the `[[policy]]` tables of a policies.toml; other tables belong to others.
    ///
    /// # Errors
    /// [`PolicyError`] with the line, where the text is no TOML or a policy is not right.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            policy: Vec<toml::Spanned<toml::Table>>,
        }
        let file: File = toml::from_str(text).map_err(|error| PolicyError {
            policy: None,
            line: error.span().map(|span| line_of(text, span.start)),
            message: error.message().to_owned(),
        })?;
        let lines: Vec<usize> = file
            .policy
            .iter()
            .map(|table| line_of(text, table.span().start))
            .collect();
        Self::compile(file.policy.into_iter().map(toml::Spanned::into_inner)).map_err(
            |(index, mut error)| {
                error.line = lines.get(index).copied();
                error
            },
        )
    }

    /// Makes policies of tables that somebody else read.
    ///
    /// # Errors
    /// The index of the table and what is wrong with it.
    pub fn compile(
        tables: impl IntoIterator<Item = toml::Table>,
    ) -> Result<Self, (usize, PolicyError)> {
        let mut policies: Vec<Policy> = Vec::new();
        for (index, table) in tables.into_iter().enumerate() {
            let named = table
                .get("id")
                .and_then(|id| id.as_str())
                .map(str::to_owned);
            let refuse = |message: String| {
                (
                    index,
                    PolicyError {
                        policy: named.clone(),
                        line: None,
                        message,
                    },
                )
            };
            if index >= POLICIES_MAX {
                return Err(refuse(format!("more than {POLICIES_MAX} policies")));
            }
            let given: Given = table
                .try_into()
                .map_err(|error: toml::de::Error| refuse(error.message().into()))?;
            let policy = Policy::new(given).map_err(&refuse)?;
            if policies.iter().any(|other| other.id == policy.id) {
                return Err(refuse("another policy has the same id".to_owned()));
            }
            policies.push(policy);
        }
        Ok(Self(policies.into()))
    }

    /// The policies, in file order.
    pub fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One policy.
#[derive(Debug)]
pub struct Policy {
    id: Arc<str>,
    when: Vec<Condition>,
    users: Vec<Pattern>,
    groups: Vec<Pattern>,
    devices: Vec<Pattern>,
    action: Action,
    reason: Option<Arc<str>>,
    mode: PolicyMode,
}

impl Policy {
    fn new(given: Given) -> Result<Self, String> {
        if given.id.is_empty() || given.id.len() > ID_MAX {
            return Err(format!("id must have 1 to {ID_MAX} bytes"));
        }
        let mut when = Vec::with_capacity(given.when.len());
        for (key, value) in &given.when {
            when.push(Condition::parse(key, value)?);
        }
        let patterns = |name: &str, words: Vec<String>| {
            if words.len() > WORDS_MAX {
                return Err(format!("scope.{name}: more than {WORDS_MAX} entries"));
            }
            words
                .iter()
                .map(|word| Pattern::new(word).map_err(|why| format!("scope.{name}: {why}")))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            id: given.id.into(),
            when,
            users: patterns("users", given.scope.users)?,
            groups: patterns("groups", given.scope.groups)?,
            devices: patterns("devices", given.scope.devices)?,
            action: given.action,
            reason: given.reason.map(Into::into),
            mode: given.mode,
        })
    }

    /// Its `id`, unique in the file.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// What follows when it fires.
    #[must_use]
    pub fn action(&self) -> Action {
        self.action
    }

    /// The words given to people; `None`: the id speaks for itself.
    #[must_use]
    pub fn reason(&self) -> Option<&Arc<str>> {
        self.reason.as_ref()
    }

    /// Whether it is enforced or only reported.
    #[must_use]
    pub fn mode(&self) -> PolicyMode {
        self.mode
    }

    /// Whether all of its conditions hold for `subject` within its scope.
    pub(crate) fn fires(&self, subject: &Subject<'_>) -> bool {
        self.covers(subject) && self.when.iter().all(|condition| condition.holds(subject))
    }

    /// The verdict that ends the walk when the policy fires.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        match (self.mode, self.action) {
            (PolicyMode::Test, _) | (_, Action::Notify) => None,
            (PolicyMode::Enforce, Action::Block) => Some(Verdict::Block),
            (PolicyMode::Enforce, Action::Quarantine) => Some(Verdict::Quarantine),
            (PolicyMode::Enforce, Action::Allow) => Some(Verdict::Allow),
        }
    }

    /// What the policy looked at, for `explain`.
    pub(crate) fn saw(&self, subject: &Subject<'_>) -> Map<String, Value> {
        let mut saw: Map<String, Value> = self
            .when
            .iter()
            .map(|condition| condition.saw(subject))
            .collect();
        if !(self.users.is_empty() && self.groups.is_empty() && self.devices.is_empty()) {
            saw.insert("in_scope".to_owned(), self.covers(subject).into());
        }
        saw
    }

    /// A scope names users, groups and devices; who is named in any of its lists is in it, and an
    /// empty scope covers everybody.
    fn covers(&self, subject: &Subject<'_>) -> bool {
        if self.users.is_empty() && self.groups.is_empty() && self.devices.is_empty() {
            return true;
        }
        let any = |patterns: &[Pattern], text: &str| patterns.iter().any(|p| p.matches(text));
        subject.user().is_some_and(|user| any(&self.users, user))
            || subject
                .device()
                .is_some_and(|device| any(&self.devices, device))
            || (!self.groups.is_empty()
                && subject
                    .groups()
                    .is_some_and(|groups| groups.iter().any(|group| any(&self.groups, group))))
    }
}

/// What follows when a policy fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The verdict is `block`.
    Block,
    /// The verdict is `quarantine`.
    Quarantine,
    /// The verdict is `allow`, and later policies are not asked.
    Allow,
    /// Nothing but a line in `explain`.
    Notify,
}

impl Action {
    /// `block`, `quarantine`, `allow`, `notify`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Quarantine => "quarantine",
            Self::Allow => "allow",
            Self::Notify => "notify",
        }
    }
}

/// Whether a policy has consequences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyMode {
    /// It decides.
    #[default]
    Enforce,
    /// It only reports what it would have done.
    Test,
}

/// Why policies were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PolicyError {
    /// The id of the policy, where it has one.
    pub policy: Option<String>,
    /// The line of policies.toml, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong, naming the key.
    pub message: String,
}

impl std::fmt::Display for PolicyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(policy) = &self.policy {
            write!(f, "policy {policy:?}: ")?;
        }
        f.write_str(&self.message)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    id: String,
    #[serde(default)]
    when: toml::Table,
    #[serde(default)]
    scope: Scope,
    action: Action,
    reason: Option<String>,
    #[serde(default)]
    mode: PolicyMode,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Scope {
    users: Vec<String>,
    groups: Vec<String>,
    devices: Vec<String>,
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
        + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_design_is_read() {
        let policies = Policies::parse(
            "[eas]\nx=1\n[[policy]]\nid=\"ios-min\"\nwhen={platform=\"ios\",os_version_below=\"17\"}\naction=\"block\"\n",
        )
        .unwrap();
        assert_eq!(
            policies
                .iter()
                .map(|p| p.id().to_string())
                .collect::<Vec<_>>(),
            ["ios-min"]
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, expected) in [
            (
                "\n[[policy]]\nid=\"a\"\nwhen={jailbroken=true}\naction=\"block\"",
                "line 2: policy \"a\": when.jailbroken is not known; known are ",
            ),
            (
                "[[policy]]\nid=\"a\"\naction=\"deny\"",
                "line 1: policy \"a\": unknown variant `deny`",
            ),
            ("[[policy]]\naction=\"block\"", "line 1: missing field `id`"),
            (
                "[[policy]]\nid=\"a\"\naction=\"allow\"\n[[policy]]\nid=\"a\"\naction=\"allow\"",
                "line 4: policy \"a\": another policy has the same id",
            ),
            (
                "[[policy]]\nid=\"a\"\naction=\"allow\"\nscop={}",
                "line 1: policy \"a\": unknown field `scop`",
            ),
            (
                "[[policy]]\nid=\"a\"\naction=\"block\"\nwhen={managed=\"no\"}",
                "line 1: policy \"a\": when.managed must be true or false",
            ),
            ("[[policy]\n", "line 1: "),
        ] {
            let message = Policies::parse(text).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
