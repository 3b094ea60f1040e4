//! Content policies: `[[content]]` of policies.toml.
//!
//! What is done with attachments, hyperlinks and marked mail on the way to a device, and with what
//! a device sends. A rule says for whom it holds, and then one or more of three things. The first
//! rule that is about an attachment decides about it; every rule about links rewrites those that
//! no earlier one has; a mail that any rule finds marked is withheld.

mod answer;
mod attachments;
mod boundaries;
mod coding;
mod glance;
mod html;
mod links;
mod mime;
mod range;
mod rtf;
mod shape;
mod upload;
mod whole;

pub use answer::{Answered, answered, attachment};
pub use attachments::{Action, Attachments, Met, canonical_reference};
pub use links::{Links, Template};
pub use range::{Widened, Wider, cut, widened};
pub use shape::Unreadable;
pub use upload::{NotLookedInto, Sent, mail, sent};
pub use whole::{ItemId, Whole, asks, looks_for_marks as may_want_whole, read as whole, unseen};

use std::collections::BTreeMap;

use serde::Deserialize;

/// One `[[content]]` table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name, for people and logs.
    pub id: String,
    /// For whom it holds. Every condition that is given must hold.
    #[serde(default)]
    pub scope: Scope,
    /// For whom it does not hold. One condition that holds is enough.
    #[serde(default)]
    pub except: Scope,
    /// What becomes of attachments.
    pub attachments: Option<Attachments>,
    /// What becomes of hyperlinks.
    pub links: Option<Links>,
    /// Which mail is marked, and withheld.
    pub classified: Option<Classified>,
    /// What becomes of signed and encrypted mail, which can't be changed without breaking it.
    #[serde(default)]
    pub sealed: Sealed,
    /// What becomes of an answer, or of mail that is sent, that is larger than is held, or can't be
    /// read.
    #[serde(default)]
    pub too_large: TooLarge,
}

/// Whom a rule is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scope {
    /// These users.
    pub users: Option<Vec<String>>,
    /// Devices or users in one of these groups.
    pub groups: Option<Vec<String>>,
    /// These devices.
    pub devices: Option<Vec<String>>,
    /// Devices that are known to be managed, or known not to be.
    pub managed: Option<bool>,
}

/// Marked mail.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classified {
    /// Words in the subject, compared without case.
    #[serde(default)]
    pub subject: Vec<String>,
    /// Words in the text.
    #[serde(default)]
    pub body: Vec<String>,
    /// Headers and what their values hold: `X-Classification = "secret"`. Seen where a body is MIME.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// What stands in place of the text. `{rule}` stands for the rule.
    #[serde(default = "withheld_text")]
    pub text: String,
}

fn withheld_text() -> String {
    "This message is classified and is not shown on this device ({rule}).".to_owned()
}

/// What becomes of signed and encrypted mail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sealed {
    /// It stays as it is.
    #[default]
    Leave,
    /// It is withheld whole.
    Withhold,
}

/// What becomes of what can't be looked into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TooLarge {
    /// The device is told that the server can't answer.
    #[default]
    Withhold,
    /// It passes as it is.
    Pass,
}

/// Who asks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subject<'a> {
    /// The user, canonical.
    pub user: &'a str,
    /// The device, canonical; empty where there is none.
    pub device: &'a str,
    /// The groups of the record.
    pub groups: &'a [String],
    /// Whether the device is managed; `None`: not known.
    pub managed: Option<bool>,
}

impl Rule {
    /// What is wrong with it, beyond what its types say.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), String> {
        let nothing = self.attachments.is_none()
            && self.links.is_none()
            && self.classified.is_none()
            && self.sealed == Sealed::Leave;
        if nothing {
            return Err(format!(
                "content \"{}\" does nothing; give it attachments, links or classified",
                self.id
            ));
        }
        if self.id.is_empty() || self.id.contains(char::is_control) {
            return Err("a content rule needs an id, in one line".to_owned());
        }
        let unmarked = |classified: &Classified| {
            classified.subject.is_empty()
                && classified.body.is_empty()
                && classified.headers.is_empty()
        };
        if self.classified.as_ref().is_some_and(unmarked) {
            return Err(format!(
                "content \"{}\": classified names no mark; give it subject, body or headers",
                self.id
            ));
        }
        Ok(())
    }

    /// Whether it holds for somebody.
    #[must_use]
    pub fn holds_for(&self, subject: &Subject<'_>) -> bool {
        Scope::holds(&self.scope, &self.except, subject)
    }
}

impl Scope {
    /// Whether a rule with this scope and these exceptions holds for somebody.
    pub(crate) fn holds(scope: &Self, except: &Self, subject: &Subject<'_>) -> bool {
        scope.conditions(subject).all(|holds| holds)
            && !except.conditions(subject).any(|holds| holds)
    }

    /// The conditions that are given, and whether they hold.
    fn conditions<'s>(&'s self, subject: &'s Subject<'_>) -> impl Iterator<Item = bool> + 's {
        let among = |list: &Option<Vec<String>>, one: &str| {
            let list = list.as_ref()?;
            Some(list.iter().any(|listed| listed.eq_ignore_ascii_case(one)))
        };
        let groups = self.groups.as_ref().map(|listed| {
            let mut groups = subject.groups.iter();
            groups.any(|group| listed.contains(group))
        });
        let managed = self.managed.map(|wanted| subject.managed == Some(wanted));
        [
            among(&self.users, subject.user),
            among(&self.devices, subject.device),
            groups,
            managed,
        ]
        .into_iter()
        .flatten()
    }
}

impl Classified {
    fn marks_subject(&self, subject: &str) -> bool {
        holds_one(&self.subject, subject)
    }

    fn marks_body(&self, text: &str) -> bool {
        holds_one(&self.body, text)
    }

    fn marks_header(&self, name: &str, value: &str) -> bool {
        let mut headers = self.headers.iter();
        headers.any(|(listed, mark)| {
            listed.eq_ignore_ascii_case(name) && words(value).contains(&words(mark))
        })
    }
}

fn holds_one(marks: &[String], text: &str) -> bool {
    if marks.is_empty() {
        return false;
    }
    let text = words(text);
    marks.iter().any(|mark| text.contains(&words(mark)))
}

/// The words of a text as they are compared: without case, with one blank between them, because a line
/// may end in the middle of a marking, and without what nobody sees.
fn words(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    let mut is_between = false;
    for letter in text.chars().filter(|letter| !is_unseen(*letter)) {
        if letter.is_whitespace() {
            is_between = true;
            continue;
        }
        if std::mem::take(&mut is_between) && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

/// Characters that are not shown, and that stand in words all the same: soft hyphens, joiners, marks of
/// the direction, and controls.
const fn is_unseen(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}'
            | '\u{2066}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{0}'..='\u{8}' | '\u{e}'..='\u{1f}' | '\u{7f}'
    )
}

/// What was done, for the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Attachments that were taken out.
    pub removed: usize,
    /// Attachments that can't be fetched.
    pub blocked: usize,
    /// Links that were rewritten or restored.
    pub links: usize,
    /// Mails whose content was withheld.
    pub withheld: usize,
    /// The rules that did it, in the order in which they did.
    pub rules: Vec<String>,
}

impl Done {
    /// Whether anything was done.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.removed + self.blocked + self.links + self.withheld == 0
    }

    /// Adds what was done elsewhere.
    fn add(&mut self, other: &Self) {
        self.removed += other.removed;
        self.blocked += other.blocked;
        self.links += other.links;
        self.withheld += other.withheld;
        other.rules.iter().for_each(|rule| self.by(rule));
    }

    fn by(&mut self, rule: &str) {
        if !self.rules.iter().any(|known| known == rule) {
            self.rules.push(rule.to_owned());
        }
    }
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "attachments removed: {}, blocked: {}, links: {}, mails withheld: {}, by {}",
            self.removed,
            self.blocked,
            self.links,
            self.withheld,
            self.rules.join(", ")
        )
    }
}

/// The first rule that is about an attachment, unless it allows it.
fn judged<'r>(rules: &[&'r Rule], met: &Met<'_>) -> Option<(&'r Rule, &'r Attachments)> {
    let (rule, attachments) = rules.iter().find_map(|rule| {
        let attachments = rule.attachments.as_ref()?;
        attachments.covers(met).then_some((*rule, attachments))
    })?;
    (attachments.action != Action::Allow).then_some((rule, attachments))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(toml: &str) -> Rule {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn a_rule_holds_for_its_scope_and_not_for_its_exceptions() {
        let rule = rule(
            "id = 'r'\nscope = { groups = ['Staff'], managed = false }\n\
             except = { users = ['boss@corp.example'], groups = ['Board'] }\n\
             attachments = { action = 'remove' }\n",
        );
        assert_eq!(rule.check(), Ok(()));
        let staff = ["Staff".to_owned()];
        let both = ["Staff".to_owned(), "Board".to_owned()];
        let subject = Subject {
            user: "alice@corp.example",
            device: "D",
            groups: &staff,
            managed: Some(false),
        };
        assert!(rule.holds_for(&subject));
        for other in [
            Subject {
                managed: None,
                ..subject
            },
            Subject {
                user: "Boss@corp.example",
                ..subject
            },
            Subject {
                groups: &both,
                ..subject
            },
            Subject {
                groups: &[],
                ..subject
            },
        ] {
            assert!(!rule.holds_for(&other), "{other:?}");
        }
    }

    #[test]
    fn rules_that_do_nothing_are_refused() {
        assert!(rule("id = 'r'\n").check().is_err());
        assert!(
            rule("id = 'r'\nclassified = { text = 'x' }\n")
                .check()
                .is_err()
        );
        assert!(rule("id = ''\nsealed = 'withhold'\n").check().is_err());
        assert!(
            rule("id = \"a\\nb\"\nsealed = 'withhold'\n")
                .check()
                .is_err()
        );
        assert!(toml::from_str::<Rule>("id = 'r'\nlinks = { template = 'none' }\n").is_err());
    }
}
