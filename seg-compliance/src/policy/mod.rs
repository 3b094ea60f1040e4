//! `[[policy]]` of policies.toml: which facts, for whom, what follows. `docs/policies.md` is the page
//! for administrators; its examples are read by a test.
//!
//! ```toml
//! [[policy]]
//! id = "ios-min"
//! when = { platform = "ios", os_version_below = "17" }
//! scope = { groups = ["Mobile-Mail-Users"] }
//! action = "block"
//! reason = "iOS 17 or later is required"
//! mode = "enforce"
//! stale = "last-known"
//! ```
//!
//! Policies are walked in file order. One fires when all of its `when` holds within its `scope`.
//! The first that blocks, quarantines or allows ends the walk; `notify` never does, nor does a
//! policy in `mode = "test"`. A fact that nobody reported makes its condition not hold: missing is
//! not false.
//!
//! What depends on the record alone is not asked with every request: [`Policies::presume`] walks as
//! far as record and time decide, and says how long that holds; a request goes on from there.

mod condition;
mod expression;
mod network;
mod pattern;
pub(crate) mod read;
pub(crate) mod span;
mod subject;
mod version;
mod window;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Verdict;
use crate::settings::StaleAnswer;
use condition::{Condition, Reads};
use pattern::Pattern;
use read::{Problem, Table, place};
pub(crate) use subject::{Moment, Subject};

/// Most policies of one file.
pub const POLICIES_MAX: usize = 1_000;
/// Most words in one list of a policy.
pub const WORDS_MAX: usize = 10_000;
/// Longest id, in bytes.
pub const ID_MAX: usize = 128;

/// The tables of a policies file: ours, and those of others, which are not looked into here.
const TABLES: [&str; 4] = ["policy", "content", "eas", "ews"];

/// The policies of one file, ready to be asked. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    list: Arc<[Policy]>,
    /// Some of them looks at the place of a device among those of its user.
    ranks: bool,
}

/// How far record and time decide, whatever is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Presumed {
    /// Policies before this one don't fire, or have no consequence.
    pub(crate) at: u16,
    /// This one fires and ends the walk.
    pub(crate) fires: bool,
}

/// What the walk over the policies came to.
#[derive(Debug, Default)]
pub(crate) struct Walked<'p> {
    /// The policy that ends the walk, and its verdict.
    pub(crate) ends: Option<(&'p Policy, Verdict, bool)>,
    /// The first in test mode that fired before.
    pub(crate) trial: Option<(&'p Policy, Verdict)>,
}

/// Whether a policy fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fires {
    No,
    Yes,
    /// Its facts are too old, and it blocks then.
    Stale,
}

impl Policies {
    /// Reads the `[[policy]]` tables of a policies.toml; what stands in `[eas]`, `[[content]]` and
    /// `[ews]` belongs to others.
    ///
    /// # Errors
    /// [`PolicyError`] with line and column, where the text is no TOML, a policy is not right, or a
    /// table is nobody's.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let located = |policy: Option<String>, problem: Problem| {
            let (line, column) = place(text, problem.at);
            PolicyError {
                policy,
                line: Some(line),
                column: Some(column),
                message: problem.message,
            }
        };
        let mut whole = read::parse(text).map_err(|problem| located(None, problem))?;
        let tables = match whole.take("policy") {
            None => Vec::new(),
            Some(value) => value.tables().map_err(|problem| located(None, problem))?,
        };
        for others in TABLES {
            whole.take(others);
        }
        whole
            .end(&TABLES)
            .map_err(|problem| located(None, problem))?;
        let mut policies: Vec<Policy> = Vec::with_capacity(tables.len());
        for mut table in tables {
            let at = table.at;
            let mut id = None;
            let read = |table: &mut Table<'_>, id: &mut Option<String>| {
                let given = identifier(table)?;
                *id = Some(given.clone());
                if policies.len() >= POLICIES_MAX {
                    let message = format!("more than {POLICIES_MAX} policies");
                    return Err(Problem { at, message });
                }
                if policies.iter().any(|other| *other.id == *given) {
                    let message = "another policy has the same id".to_owned();
                    return Err(Problem { at, message });
                }
                Ok(given)
            };
            let policy = read(&mut table, &mut id)
                .and_then(|given| Policy::read(given, table, place(text, at).0));
            policies.push(policy.map_err(|problem| located(id, problem))?);
        }
        let ranks = |policy: &Policy| policy.when.iter().any(|when| when.reads().rank);
        Ok(Self {
            ranks: policies.iter().any(ranks),
            list: policies.into(),
        })
    }

    /// The policies, in file order.
    pub fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.list.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The ids of those whose answer depends on what only a request tells, and so can't be foreseen.
    pub(crate) fn unforeseen(&self) -> Vec<String> {
        let asks = |policy: &&Policy| {
            policy.action.verdict().is_some() && policy.when.iter().any(Condition::is_unforeseen)
        };
        let asking = self.list.iter().filter(asks);
        asking.map(|policy| policy.id.to_string()).collect()
    }

    /// How many there are, at most [`POLICIES_MAX`].
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether one of them looks at the place of a device among those of its user.
    pub(crate) fn look_at_ranks(&self) -> bool {
        self.ranks
    }

    /// The walk, from where `presumed` got to.
    pub(crate) fn walk(
        &self,
        subject: &Subject<'_>,
        moment: &Moment<'_>,
        presumed: Option<Presumed>,
    ) -> Walked<'_> {
        let at = presumed.map_or(0, |presumed| usize::from(presumed.at));
        let mut walked = Walked::default();
        for (index, policy) in self.list.iter().enumerate().skip(at) {
            let Some(verdict) = policy.action.verdict() else {
                continue;
            };
            let decided = index == at && presumed.is_some_and(|presumed| presumed.fires);
            let fires = if decided {
                Fires::Yes
            } else {
                policy.outcome(subject, moment)
            };
            let verdict = match fires {
                Fires::No => continue,
                Fires::Yes => verdict,
                Fires::Stale => Verdict::Block,
            };
            match policy.mode {
                PolicyMode::Enforce => {
                    walked.ends = Some((policy, verdict, fires == Fires::Stale));
                    break;
                }
                PolicyMode::Test => {
                    walked.trial.get_or_insert((policy, verdict));
                }
            }
        }
        walked
    }

    /// Walks as far as record and time decide, whatever is asked. `moment` knows until when it
    /// holds.
    pub(crate) fn presume(&self, subject: &Subject<'_>, moment: &Moment<'_>) -> Presumed {
        let owned = subject.facts.is_some_and(|facts| facts.user.is_some());
        let mut at = 0;
        for policy in self.list.iter() {
            let enforced = policy.mode == PolicyMode::Enforce;
            if policy.action.verdict().is_some() {
                match policy.presumed(subject, moment, owned) {
                    Some(false) => {}
                    Some(true) if enforced && subject.stale.is_none() => {
                        return Presumed { at, fires: true };
                    }
                    _ => return Presumed { at, fires: false },
                }
            }
            at += 1;
        }
        Presumed { at, fires: false }
    }
}

/// One policy.
#[derive(Debug)]
pub struct Policy {
    id: Arc<str>,
    line: usize,
    when: Vec<Condition>,
    users: Vec<Pattern>,
    groups: Vec<Pattern>,
    devices: Vec<Pattern>,
    action: Action,
    reason: Option<Arc<str>>,
    mode: PolicyMode,
    stale: Option<StaleAnswer>,
    /// What it says, for `policies show`.
    said: Value,
}

const FIELDS: [&str; 7] = ["id", "when", "scope", "action", "reason", "mode", "stale"];

fn identifier(table: &mut Table<'_>) -> Result<String, Problem> {
    let Some(value) = table.take("id") else {
        return Err(Problem {
            at: table.at,
            message: "missing field `id`".to_owned(),
        });
    };
    let word = value.text()?;
    if word.text.is_empty() || word.text.len() > ID_MAX {
        return Err(word.problem(format!("id must have 1 to {ID_MAX} bytes")));
    }
    Ok(word.text.to_owned())
}

impl Policy {
    fn read<'t>(id: String, mut table: Table<'t>, line: usize) -> Result<Self, Problem> {
        let at = table.at;
        let mut said = Map::new();
        let mut take = |table: &mut Table<'t>, name: &str| {
            let value = table.take(name)?;
            said.insert(name.to_owned(), value.json());
            Some(value)
        };
        let mut when = Vec::new();
        if let Some(value) = take(&mut table, "when") {
            for value in value.table()?.rest() {
                when.push(Condition::read(value)?);
            }
        }
        let (mut users, mut groups, mut devices) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(value) = take(&mut table, "scope") {
            let mut scope = value.table()?;
            for (name, list) in [
                ("users", &mut users),
                ("groups", &mut groups),
                ("devices", &mut devices),
            ] {
                if let Some(value) = scope.take(name) {
                    *list = condition::patterns(&value).map_err(|problem| Problem {
                        message: format!("scope.{name}: {}", problem.message),
                        ..problem
                    })?;
                }
            }
            scope.end(&["users", "groups", "devices"])?;
        }
        let action = take(&mut table, "action").ok_or_else(|| Problem {
            at,
            message: "missing field `action`".to_owned(),
        })?;
        let action = one_of(&action, &Action::ALL, Action::name)?;
        let mode = match take(&mut table, "mode") {
            None => PolicyMode::Enforce,
            Some(value) => one_of(&value, &PolicyMode::ALL, PolicyMode::name)?,
        };
        let stale = match take(&mut table, "stale") {
            None => None,
            Some(value) => Some(one_of(&value, &StaleAnswer::ALL, StaleAnswer::name)?),
        };
        let reason = match take(&mut table, "reason") {
            None => None,
            Some(value) => {
                let word = value.text()?;
                if word.text.len() > crate::record::REASON_MAX {
                    let most = crate::record::REASON_MAX;
                    return Err(word.problem(format!("reason has more than {most} bytes")));
                }
                Some(word.text.into())
            }
        };
        table.end(&FIELDS)?;
        Ok(Self {
            id: id.into(),
            line,
            when,
            users,
            groups,
            devices,
            action,
            reason,
            mode,
            stale,
            said: Value::Object(said),
        })
    }

    /// Its `id`, unique in the file.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The line of the file on which it begins.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
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

    /// Its fields as they stand in the file, without the id.
    #[must_use]
    pub fn said(&self) -> &Value {
        &self.said
    }

    /// Whether it fires for `subject`, be its facts fresh or not.
    #[cfg(test)]
    pub(crate) fn fires(&self, subject: &Subject<'_>, moment: &Moment<'_>) -> bool {
        self.outcome(subject, moment) != Fires::No
    }

    /// Whether all of its conditions hold for `subject` within its scope. Where its facts are too
    /// old, that is as its `stale` says: as they were last known; it blocks, if everything that is
    /// not too old holds; or it lets pass.
    pub(crate) fn outcome(&self, subject: &Subject<'_>, moment: &Moment<'_>) -> Fires {
        let holds = |condition: &Condition| condition.holds(subject, moment);
        let stale = subject.stale.map(|stale| self.stale.unwrap_or(stale));
        let judged = matches!(stale, None | Some(StaleAnswer::LastKnown));
        if judged || !self.reads_record() {
            let fires = self.covers(subject) && self.when.iter().all(holds);
            return if fires { Fires::Yes } else { Fires::No };
        }
        // Who is in a group is a fact that ages like others: he may be in it.
        let fires = stale == Some(StaleAnswer::Block)
            && (!self.groups.is_empty() || self.covers(subject))
            && self
                .when
                .iter()
                .all(|condition| condition.reads().record || holds(condition));
        if fires { Fires::Stale } else { Fires::No }
    }

    /// Whether it depends on facts of the record, which can be too old.
    fn reads_record(&self) -> bool {
        !self.groups.is_empty() || self.when.iter().any(|condition| condition.reads().record)
    }

    /// Whether it fires, as far as record and time can tell; `None`: it depends on the request, or
    /// on how old its facts are.
    fn presumed(&self, subject: &Subject<'_>, moment: &Moment<'_>, owned: bool) -> Option<bool> {
        if subject.stale.is_some() {
            return None;
        }
        let asks = |reads: Reads| reads.request || reads.user && !owned;
        let scope = Reads {
            user: !self.users.is_empty(),
            ..Reads::default()
        };
        let mut open = asks(scope);
        if !open && !self.covers(subject) {
            return Some(false);
        }
        for condition in &self.when {
            if asks(condition.reads()) {
                open = true;
            } else if !condition.holds(subject, moment) {
                return Some(false);
            }
        }
        (!open).then_some(true)
    }

    /// What the policy looked at, for `explain`.
    pub(crate) fn saw(&self, subject: &Subject<'_>, moment: &Moment<'_>) -> Map<String, Value> {
        let mut saw = Map::new();
        for condition in &self.when {
            condition.saw(subject, moment, &mut saw);
        }
        if !(self.users.is_empty() && self.groups.is_empty() && self.devices.is_empty()) {
            saw.insert("in_scope".to_owned(), self.covers(subject).into());
        }
        if let Some(stale) = subject.stale
            && self.reads_record()
        {
            let answer = self.stale.unwrap_or(stale).name();
            saw.insert("stale".to_owned(), answer.into());
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

fn one_of<T: Copy>(
    value: &read::Value<'_>,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<T, Problem> {
    let word = value.text()?;
    let found = all.iter().find(|one| name(**one) == word.text);
    found.copied().ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|one| format!("`{}`", name(*one))).collect();
        word.problem(format!(
            "unknown variant `{}`, expected one of {}",
            word.text,
            names.join(", ")
        ))
    })
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
    const ALL: [Self; 4] = [Self::Block, Self::Quarantine, Self::Allow, Self::Notify];

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

    /// The verdict it gives; `notify` gives none.
    pub(crate) const fn verdict(self) -> Option<Verdict> {
        match self {
            Self::Notify => None,
            Self::Block => Some(Verdict::Block),
            Self::Quarantine => Some(Verdict::Quarantine),
            Self::Allow => Some(Verdict::Allow),
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

impl PolicyMode {
    const ALL: [Self; 2] = [Self::Enforce, Self::Test];

    /// `enforce`, `test`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Test => "test",
        }
    }
}

/// Why policies were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PolicyError {
    /// The id of the policy, where it has one.
    pub policy: Option<String>,
    /// The line of policies.toml, from 1, where it is known.
    pub line: Option<usize>,
    /// The column, in characters, from 1.
    pub column: Option<usize>,
    /// What is wrong, naming the key.
    pub message: String,
}

impl std::fmt::Display for PolicyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}")?;
            if let Some(column) = self.column {
                write!(f, ", column {column}")?;
            }
            f.write_str(": ")?;
        }
        if let Some(policy) = &self.policy {
            write!(f, "policy {policy:?}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Reads an expression and, where it is one, asks it about nothing at all.
pub(crate) fn expression_is_sound(text: &str) {
    match expression::Expression::parse(text) {
        Ok(expression) => {
            let ask = crate::Ask {
                device: None,
                user: None,
                agent: "",
                device_type: "",
                protocol: crate::Protocol::Eas,
                command: "",
                via: crate::Via::default(),
            };
            let subject = Subject {
                ask: &ask,
                facts: None,
                rank: 0,
                stale: None,
            };
            let clock = crate::clock::SystemClock;
            let moment = Moment::new(&clock);
            let holds = expression.holds(&subject, &moment);
            assert!(!holds || moment.until() > 0);
        }
        Err(error) => assert!(error.at <= text.len()),
    }
}

#[cfg(test)]
mod tests;
