//! The keys of `when`, as one table: a name, the fact it reads, and how it compares.

use std::cmp::Ordering;

use serde_json::Value;

use super::WORDS_MAX;
use super::pattern::Pattern;
use super::version::Version;
use crate::Ask;
use crate::intern::{Groups, Symbol};
use crate::record::Facts;

/// Whom a policy looks at: the request and, for a known device, its record.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) ask: &'a Ask<'a>,
    /// `None`: no record, or another user's.
    pub(crate) facts: Option<&'a Facts>,
}

impl<'a> Subject<'a> {
    pub(super) fn user(&self) -> Option<&'a str> {
        self.ask
            .user
            .or_else(|| self.facts.and_then(|facts| facts.user.as_ref()))
            .map(crate::UserKey::as_str)
    }

    pub(super) fn device(&self) -> Option<&'a str> {
        self.ask.device.map(crate::DeviceKey::as_str)
    }

    pub(super) fn groups(&self) -> Option<&'a Groups> {
        self.facts.and_then(|facts| facts.groups.as_ref())
    }
}

/// One entry of `when`.
#[derive(Debug)]
pub(super) struct Condition {
    key: &'static Key,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Flag(bool),
    Words(Vec<Pattern>),
    Below(Version),
    AtLeast(Version),
}

/// A key of `when`.
#[derive(Debug)]
struct Key {
    name: &'static str,
    fact: Fact,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Compare,
    Below,
    AtLeast,
}

#[derive(Clone, Copy, Debug)]
enum Fact {
    Flag(for<'a> fn(&Subject<'a>) -> Option<bool>),
    Text(for<'a> fn(&Subject<'a>) -> Option<&'a str>),
    Groups,
}

const fn flag(name: &'static str, read: for<'a> fn(&Subject<'a>) -> Option<bool>) -> Key {
    Key {
        name,
        fact: Fact::Flag(read),
        kind: Kind::Compare,
    }
}

const fn text(name: &'static str, read: for<'a> fn(&Subject<'a>) -> Option<&'a str>) -> Key {
    Key {
        name,
        fact: Fact::Text(read),
        kind: Kind::Compare,
    }
}

/// Every key that `when` takes. Text is compared without case, `*` stands for anything, a list
/// holds if one of its words does.
static KEYS: [Key; 17] = [
    flag("known", |subject| Some(subject.facts.is_some())),
    flag("managed", |subject| subject.facts?.managed),
    flag("compliant", |subject| subject.facts?.compliant),
    flag("compromised", |subject| subject.facts?.compromised),
    flag("encrypted", |subject| subject.facts?.encrypted),
    flag("profile", |subject| subject.facts?.profile),
    text("platform", |subject| symbol(&subject.facts?.platform)),
    text("model", |subject| symbol(&subject.facts?.model)),
    text("os_version", os_version),
    Key {
        name: "os_version_below",
        fact: Fact::Text(os_version),
        kind: Kind::Below,
    },
    Key {
        name: "os_version_at_least",
        fact: Fact::Text(os_version),
        kind: Kind::AtLeast,
    },
    text("ownership", |subject| symbol(&subject.facts?.ownership)),
    Key {
        name: "group",
        fact: Fact::Groups,
        kind: Kind::Compare,
    },
    text("user_agent", |subject| reported(subject.ask.agent)),
    text("device_type", |subject| reported(subject.ask.device_type)),
    text("protocol", |subject| Some(subject.ask.protocol.name())),
    text("command", |subject| reported(subject.ask.command)),
];

fn os_version<'a>(subject: &Subject<'a>) -> Option<&'a str> {
    symbol(&subject.facts?.os_version)
}

fn symbol(fact: &Option<Symbol>) -> Option<&str> {
    fact.as_ref().map(Symbol::as_str)
}

/// An empty text of a request says nothing.
fn reported(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

impl Condition {
    pub(super) fn parse(name: &str, value: &toml::Value) -> Result<Self, String> {
        let key = KEYS.iter().find(|key| key.name == name).ok_or_else(|| {
            let known: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
            format!("when.{name} is not known; known are {}", known.join(", "))
        })?;
        let test = match (key.fact, key.kind) {
            (Fact::Flag(_), _) => Test::Flag(
                value
                    .as_bool()
                    .ok_or_else(|| format!("when.{name} must be true or false"))?,
            ),
            (_, Kind::Compare) => Test::Words(words(name, value)?),
            (_, kind) => {
                let text = value
                    .as_str()
                    .ok_or_else(|| format!("when.{name} must be a version in quotes"))?;
                let version = Version::new(text).map_err(|why| format!("when.{name}: {why}"))?;
                match kind {
                    Kind::AtLeast => Test::AtLeast(version),
                    Kind::Below | Kind::Compare => Test::Below(version),
                }
            }
        };
        Ok(Self { key, test })
    }

    /// A fact that was not reported makes the condition not hold.
    pub(super) fn holds(&self, subject: &Subject<'_>) -> bool {
        match (self.key.fact, &self.test) {
            (Fact::Flag(read), Test::Flag(wanted)) => read(subject) == Some(*wanted),
            (Fact::Text(read), test) => read(subject).is_some_and(|text| test.passes(text)),
            (Fact::Groups, test) => subject
                .groups()
                .is_some_and(|groups| groups.iter().any(|group| test.passes(group))),
            (Fact::Flag(_), _) => false,
        }
    }

    /// The fact under its own name, as JSON; null where it was not reported.
    pub(super) fn saw(&self, subject: &Subject<'_>) -> (String, Value) {
        let value = match self.key.fact {
            Fact::Flag(read) => read(subject).into(),
            Fact::Text(read) => read(subject).into(),
            Fact::Groups => subject
                .groups()
                .map(|list| list.iter().collect::<Vec<_>>())
                .into(),
        };
        let name = match self.key.kind {
            Kind::Compare => self.key.name,
            Kind::Below | Kind::AtLeast => "os_version",
        };
        (name.to_owned(), value)
    }
}

impl Test {
    fn passes(&self, text: &str) -> bool {
        match self {
            Self::Flag(_) => false,
            Self::Words(words) => words.iter().any(|word| word.matches(text)),
            Self::Below(version) => version.compare(text) == Some(Ordering::Less),
            Self::AtLeast(version) => version
                .compare(text)
                .is_some_and(|order| order != Ordering::Less),
        }
    }
}

fn words(name: &str, value: &toml::Value) -> Result<Vec<Pattern>, String> {
    let list = match value {
        toml::Value::String(_) => std::slice::from_ref(value),
        toml::Value::Array(list) if !list.is_empty() && list.len() <= WORDS_MAX => list,
        _ => {
            return Err(format!(
                "when.{name} must be a text or a list of 1 to {WORDS_MAX} texts"
            ));
        }
    };
    list.iter()
        .map(|word| {
            let word = word
                .as_str()
                .ok_or_else(|| format!("when.{name} must hold texts only"))?;
            Pattern::new(word).map_err(|why| format!("when.{name}: {why}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intern::Interner;
    use crate::record::Patch;
    use crate::{Protocol, policy::Policies};

    fn fires(when: &str, record: Option<&str>, agent: &str) -> bool {
        let text = format!("[[policy]]\nid=\"p\"\naction=\"block\"\nwhen={{{when}}}");
        let policies = Policies::parse(&text).unwrap();
        let facts = record.map(|json| {
            let patch = Patch::from_json(json.as_bytes()).unwrap().1;
            Facts::default().merged(&patch, &Interner::default())
        });
        let ask = Ask {
            device: None,
            user: None,
            agent,
            device_type: "SmartPhone",
            protocol: Protocol::Eas,
            command: "Sync",
        };
        policies.iter().all(|policy| {
            policy.fires(&Subject {
                ask: &ask,
                facts: facts.as_ref(),
            })
        })
    }

    #[test]
    fn each_key_reads_its_fact() {
        let record = Some(
            r#"{"platform":"iOS","os_version":"16.7","managed":true,"compromised":false,
                "encrypted":true,"profile":true,"compliant":true,"ownership":"corporate",
                "model":"iPhone15,2","groups":["Mobile-Mail-Users"]}"#,
        );
        for (when, expected) in [
            ("platform=\"ios\",os_version_below=\"17\"", true),
            ("platform=\"ios\",os_version_below=\"16\"", false),
            ("os_version_at_least=\"16.7\"", true),
            ("os_version=\"16.*\"", true),
            ("model=[\"iPad*\",\"iPhone15*\"]", true),
            ("managed=false", false),
            (
                "managed=true,compliant=true,encrypted=true,profile=true",
                true,
            ),
            ("compromised=false", true),
            ("ownership=\"personal\"", false),
            ("group=\"mobile-*\"", true),
            ("user_agent=\"Apple*\"", true),
            (
                "device_type=\"smartphone\",protocol=\"eas\",command=\"sync\"",
                true,
            ),
            ("known=true", true),
            ("", true),
        ] {
            assert_eq!(fires(when, record, "Apple-iPhone/1"), expected, "{when}");
        }
    }

    #[test]
    fn what_nobody_reported_does_not_fire() {
        for when in [
            "managed=false",
            "compromised=true",
            "compromised=false",
            "encrypted=false",
            "platform=\"*\"",
            "os_version_below=\"99\"",
            "group=\"*\"",
            "user_agent=\"*\"",
        ] {
            assert!(!fires(when, Some("{}"), ""), "{when} with an empty record");
            assert!(!fires(when, None, ""), "{when} without a record");
        }
        assert!(fires("known=false", None, ""));
        assert!(!fires(
            "os_version_below=\"99\"",
            Some(r#"{"os_version":"unknown"}"#),
            ""
        ));
    }
}
