//! The keys of `when`, as one table: a name, the fact it reads, and how it compares.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value as Json};

use super::expression::Expression;
use super::network::network;
use super::pattern::Pattern;
use super::read::{Problem, Table, Value, Word};
use super::subject::{Moment, Subject};
use super::version::Version;
use super::window::{self, Window};
use super::{WORDS_MAX, span};
use crate::Protocol;
use crate::intern::{Symbol, Words};
use crate::record::{Facts, Flag, PackedTime};

/// One entry of `when`.
#[derive(Debug)]
pub(super) struct Condition {
    key: &'static Key,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Flag(bool),
    /// One of the words fits.
    Words(Vec<Pattern>),
    /// None of the words fits what was reported.
    NoWords(Vec<Pattern>),
    Below(Version),
    AtLeast(Version),
    /// Below the version of its platform.
    Minimum(Vec<(Pattern, Version)>),
    Networks(Vec<IpNet>),
    NoNetworks(Vec<IpNet>),
    /// Milliseconds.
    OlderThan(i64),
    More(u16),
    Window(Window),
    /// Milliseconds since 1970.
    From(i64),
    Before(i64),
    Expression(Box<Expression>),
}

/// A key of `when`.
#[derive(Debug)]
struct Key {
    name: &'static str,
    fact: Fact,
    takes: Takes,
}

/// How the value of a key is read.
#[derive(Clone, Copy, Debug)]
enum Takes {
    Flag,
    Words,
    NoWords,
    Below,
    AtLeast,
    Minimum,
    Networks,
    NoNetworks,
    Days,
    Length,
    Devices,
    Window,
    From,
    Before,
    Expression,
}

/// What a key reads.
#[derive(Clone, Copy, Debug)]
enum Fact {
    Known,
    Flag(Flag),
    /// A text of the record.
    Recorded(for<'a> fn(&'a Facts) -> Option<&'a str>),
    User,
    /// A text of the request.
    Asked(for<'a> fn(&Subject<'a>) -> Option<&'a str>),
    /// A text that its client puts into every request, or keeps to itself.
    Told(Told),
    List(for<'a> fn(&'a Facts) -> Option<&'a Words>),
    Address,
    Time(fn(&Facts) -> PackedTime),
    Rank,
    Now,
    Whatever,
}

/// What a client says of itself. Who leaves it out says that he is none of those whom a policy
/// names: nobody gets around a policy by saying less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Agent,
    DeviceType,
    Version,
}

impl Told {
    /// The text; empty where the client has kept it to itself, `None` where nobody has asked: there
    /// is no request, or its protocol has no such thing.
    pub(super) fn read<'a>(self, subject: &Subject<'a>) -> Option<&'a str> {
        let (ask, eas) = (subject.ask, subject.ask.protocol == Protocol::Eas);
        let (text, has) = match self {
            Self::Agent => (ask.agent, true),
            Self::DeviceType => (ask.device_type, eas),
            Self::Version => (ask.via.version, eas),
        };
        let asked = has && !ask.via.method.is_empty();
        (asked || !text.is_empty()).then_some(text)
    }
}

/// What a condition depends on besides the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// The request.
    pub(crate) request: bool,
    /// The name of the user, which is the record's where it has one.
    pub(crate) user: bool,
    /// The record.
    pub(crate) record: bool,
    /// The time.
    pub(crate) time: bool,
    /// The place of the device among those of its user.
    pub(crate) rank: bool,
}

const fn key(name: &'static str, fact: Fact, takes: Takes) -> Key {
    Key { name, fact, takes }
}

const fn flag(flag: Flag) -> Key {
    key(flag.name(), Fact::Flag(flag), Takes::Flag)
}

/// Every key that `when` takes. Text is compared without case, `*` stands for anything, a list
/// holds if one of its words does; `…_not` holds if something was reported and none of the words
/// fits it, or if a client keeps to itself what every other says ([`Told`]).
static KEYS: [Key; 57] = [
    key("known", Fact::Known, Takes::Flag),
    flag(Flag::Managed),
    flag(Flag::Compliant),
    flag(Flag::Compromised),
    flag(Flag::Encrypted),
    flag(Flag::Profile),
    flag(Flag::Passcode),
    flag(Flag::Attested),
    flag(Flag::Revoked),
    key("platform", PLATFORM, Takes::Words),
    key("platform_not", PLATFORM, Takes::NoWords),
    key("model", MODEL, Takes::Words),
    key("model_not", MODEL, Takes::NoWords),
    key("os_version", OS_VERSION, Takes::Words),
    key("os_version_not", OS_VERSION, Takes::NoWords),
    key("os_version_below", OS_VERSION, Takes::Below),
    key("os_version_at_least", OS_VERSION, Takes::AtLeast),
    key("os_minimum", OS_VERSION, Takes::Minimum),
    key("ownership", OWNERSHIP, Takes::Words),
    key("ownership_not", OWNERSHIP, Takes::NoWords),
    key("source", SOURCE, Takes::Words),
    key("source_not", SOURCE, Takes::NoWords),
    key("group", GROUPS, Takes::Words),
    key("group_not", GROUPS, Takes::NoWords),
    key("app_installed", APPS, Takes::Words),
    key("app_missing", APPS, Takes::NoWords),
    key(
        "inactive_days",
        Fact::Time(|facts| facts.last_seen),
        Takes::Days,
    ),
    key(
        "facts_older_than",
        Fact::Time(|facts| facts.updated),
        Takes::Length,
    ),
    key("max_devices", Fact::Rank, Takes::Devices),
    key("user", Fact::User, Takes::Words),
    key("user_not", Fact::User, Takes::NoWords),
    key("user_agent", AGENT, Takes::Words),
    key("user_agent_not", AGENT, Takes::NoWords),
    key("device_type", DEVICE_TYPE, Takes::Words),
    key("device_type_not", DEVICE_TYPE, Takes::NoWords),
    key("protocol", PROTOCOL, Takes::Words),
    key("protocol_not", PROTOCOL, Takes::NoWords),
    key("command", COMMAND, Takes::Words),
    key("command_not", COMMAND, Takes::NoWords),
    key("protocol_version", VERSION, Takes::Words),
    key("protocol_version_not", VERSION, Takes::NoWords),
    key("protocol_version_below", VERSION, Takes::Below),
    key("protocol_version_at_least", VERSION, Takes::AtLeast),
    key("host", HOST, Takes::Words),
    key("host_not", HOST, Takes::NoWords),
    key("path", PATH, Takes::Words),
    key("path_not", PATH, Takes::NoWords),
    key("method", METHOD, Takes::Words),
    key("method_not", METHOD, Takes::NoWords),
    key("suspect", SUSPECT, Takes::Words),
    key("suspect_not", SUSPECT, Takes::NoWords),
    key("network", Fact::Address, Takes::Networks),
    key("network_not", Fact::Address, Takes::NoNetworks),
    key("window", Fact::Now, Takes::Window),
    key("from", Fact::Now, Takes::From),
    key("before", Fact::Now, Takes::Before),
    key("cel", Fact::Whatever, Takes::Expression),
];

const PLATFORM: Fact = Fact::Recorded(|facts| symbol(&facts.platform));
const MODEL: Fact = Fact::Recorded(|facts| symbol(&facts.model));
const OS_VERSION: Fact = Fact::Recorded(|facts| symbol(&facts.os_version));
const OWNERSHIP: Fact = Fact::Recorded(|facts| symbol(&facts.ownership));
const SOURCE: Fact = Fact::Recorded(|facts| symbol(&facts.source));
const GROUPS: Fact = Fact::List(|facts| facts.groups.as_ref());
const APPS: Fact = Fact::List(|facts| facts.apps.as_ref());
const AGENT: Fact = Fact::Told(Told::Agent);
const DEVICE_TYPE: Fact = Fact::Told(Told::DeviceType);
const PROTOCOL: Fact = Fact::Asked(|subject| Some(subject.ask.protocol.name()));
const COMMAND: Fact = Fact::Asked(|subject| reported(subject.ask.command));
const VERSION: Fact = Fact::Told(Told::Version);
const HOST: Fact = Fact::Asked(|subject| reported(subject.ask.via.host));
const PATH: Fact = Fact::Asked(|subject| reported(subject.ask.via.path));
const SUSPECT: Fact = Fact::Asked(|subject| reported(subject.ask.via.suspect));
const METHOD: Fact = Fact::Asked(|subject| reported(subject.ask.via.method));

fn symbol(fact: &Option<Symbol>) -> Option<&str> {
    fact.as_ref().map(Symbol::as_str)
}

/// An empty text of a request says nothing.
pub(super) fn reported(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

impl Condition {
    pub(super) fn read(value: Value<'_>) -> Result<Self, Problem> {
        let name = format!("when.{}", value.key);
        let Some(key) = KEYS.iter().find(|key| key.name == value.key) else {
            let known: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
            let message = format!("{name} is not known; known are {}", known.join(", "));
            return Err(value.problem(message));
        };
        let test = key.takes.read(value).map_err(|problem| Problem {
            message: if problem.message.starts_with(key.name) {
                format!("when.{}", problem.message)
            } else {
                format!("{name}: {}", problem.message)
            },
            ..problem
        })?;
        Ok(Self { key, test })
    }

    pub(super) fn reads(&self) -> Reads {
        let nothing = Reads::default();
        match (self.key.fact, &self.test) {
            (_, Test::Expression(expression)) => expression.reads(),
            (
                Fact::Known | Fact::Flag(_) | Fact::Recorded(_) | Fact::List(_) | Fact::Whatever,
                _,
            ) => Reads {
                record: true,
                ..nothing
            },
            (Fact::Rank, _) => Reads {
                rank: true,
                ..nothing
            },
            (Fact::Time(_), _) => Reads {
                record: true,
                time: true,
                ..nothing
            },
            (Fact::Now, _) => Reads {
                time: true,
                ..nothing
            },
            (Fact::User, _) => Reads {
                user: true,
                ..nothing
            },
            (Fact::Asked(_) | Fact::Told(_) | Fact::Address, _) => Reads {
                request: true,
                ..nothing
            },
        }
    }

    /// Whether it asks a request for something that is not remembered of a device's last one, as its
    /// User-Agent is.
    pub(super) fn is_unforeseen(&self) -> bool {
        match (self.key.fact, &self.test) {
            (_, Test::Expression(expression)) => expression.is_unforeseen(),
            (Fact::Told(Told::Agent), _) => false,
            _ => self.reads().request,
        }
    }

    /// A fact that was not reported makes the condition not hold.
    pub(super) fn holds(&self, subject: &Subject<'_>, moment: &Moment<'_>) -> bool {
        let facts = subject.facts;
        match (self.key.fact, &self.test) {
            (Fact::Known, Test::Flag(wanted)) => facts.is_some() == *wanted,
            (Fact::Flag(flag), Test::Flag(wanted)) => {
                facts.and_then(|facts| facts.flag(flag)) == Some(*wanted)
            }
            (Fact::Recorded(_), Test::Minimum(minimums)) => facts.is_some_and(|facts| {
                let platform = symbol(&facts.platform);
                let of_platform = |(name, _): &&(Pattern, Version)| {
                    platform.is_some_and(|platform| name.matches(platform))
                };
                let version = minimums.iter().find(of_platform);
                version
                    .zip(symbol(&facts.os_version))
                    .is_some_and(|((_, minimum), reported)| {
                        minimum.compare(reported) == Some(Ordering::Less)
                    })
            }),
            (Fact::Recorded(read), test) => facts
                .and_then(read)
                .is_some_and(|text| test.passes(std::iter::once(text))),
            (Fact::User, test) => subject
                .user()
                .is_some_and(|text| test.passes(std::iter::once(text))),
            (Fact::Asked(read), test) => {
                read(subject).is_some_and(|text| test.passes(std::iter::once(text)))
            }
            (Fact::Told(told), test) => match told.read(subject) {
                None => false,
                Some("") => matches!(test, Test::NoWords(_) | Test::Below(_)),
                Some(text) => test.passes(std::iter::once(text)),
            },
            (Fact::List(read), Test::NoWords(required))
                if matches!(self.key.name, "app_missing") =>
            {
                // Each of them must be there: one that is missing is enough.
                facts.and_then(read).is_some_and(|list| {
                    required
                        .iter()
                        .any(|word| !list.iter().any(|item| word.matches(item)))
                })
            }
            (Fact::List(read), test) => facts
                .and_then(read)
                .is_some_and(|list| test.passes(list.iter())),
            (Fact::Address, test) => match subject.ask.via.address {
                Some(address) => test.covers(address),
                // A request from nobody knows where comes from none of the networks.
                None => !subject.ask.via.method.is_empty() && matches!(test, Test::NoNetworks(_)),
            },
            (Fact::Time(read), Test::OlderThan(length)) => facts
                .and_then(|facts| read(facts).millisecond())
                .is_some_and(|time| moment.reached(time.saturating_add(*length))),
            (Fact::Rank, Test::More(most)) => subject.rank > *most,
            (Fact::Now, Test::Window(window)) => window.is_open(moment),
            (Fact::Now, Test::From(time)) => moment.reached(*time),
            (Fact::Now, Test::Before(time)) => !moment.reached(*time),
            (Fact::Whatever, Test::Expression(expression)) => expression.holds(subject, moment),
            _ => false,
        }
    }

    /// The fact under its own name, as JSON; null where it was not reported.
    pub(super) fn saw(
        &self,
        subject: &Subject<'_>,
        moment: &Moment<'_>,
        saw: &mut Map<String, Json>,
    ) {
        let facts = subject.facts;
        let name = self.key.name;
        let base = name
            .trim_end_matches("_not")
            .trim_end_matches("_below")
            .trim_end_matches("_at_least");
        let (name, value): (&str, Json) = match self.key.fact {
            Fact::Known => (name, facts.is_some().into()),
            Fact::Flag(flag) => (name, facts.and_then(|facts| facts.flag(flag)).into()),
            Fact::Recorded(read) => {
                if let Test::Minimum(_) = self.test {
                    let platform = facts.and_then(|facts| symbol(&facts.platform));
                    saw.insert("platform".to_owned(), platform.into());
                }
                let base = if base == "os_minimum" {
                    "os_version"
                } else {
                    base
                };
                (base, facts.and_then(read).into())
            }
            Fact::User => (base, subject.user().into()),
            Fact::Asked(read) => (base, read(subject).into()),
            Fact::Told(told) => (base, told.read(subject).into()),
            Fact::List(read) => {
                let name = if base == "group" { "group" } else { "apps" };
                let list = facts.and_then(read);
                let list = list.map(|list| list.iter().collect::<Vec<_>>());
                (name, list.into())
            }
            Fact::Address => (
                "address",
                subject.ask.via.address.map(|ip| ip.to_string()).into(),
            ),
            Fact::Time(read) => {
                let name = if name == "inactive_days" {
                    "last_seen"
                } else {
                    "updated"
                };
                let time = facts.and_then(|facts| read(facts).get());
                if let Some(time) = time {
                    let age = (moment.now() - time.as_millisecond()) / 1_000;
                    saw.insert(format!("{name}_age_seconds"), age.into());
                }
                (name, time.map(|time| time.to_string()).into())
            }
            Fact::Rank => ("device_of_user", subject.rank.into()),
            Fact::Now => ("now", moment.timestamp().to_string().into()),
            Fact::Whatever => {
                if let Test::Expression(expression) = &self.test {
                    expression.saw(subject, moment, saw);
                }
                return;
            }
        };
        saw.insert(name.to_owned(), value);
    }
}

impl Test {
    fn passes<'t>(&self, mut texts: impl Iterator<Item = &'t str>) -> bool {
        let fits = |words: &[Pattern], text: &str| words.iter().any(|word| word.matches(text));
        match self {
            Self::Words(words) => texts.any(|text| fits(words, text)),
            Self::NoWords(words) => !texts.any(|text| fits(words, text)),
            Self::Below(version) => texts.any(|text| version.compare(text) == Some(Ordering::Less)),
            Self::AtLeast(version) => texts.any(|text| {
                version
                    .compare(text)
                    .is_some_and(|order| order != Ordering::Less)
            }),
            _ => false,
        }
    }

    fn covers(&self, address: IpAddr) -> bool {
        // An IPv4 client of an IPv6 listener is an IPv4 client.
        let address = address.to_canonical();
        match self {
            Self::Networks(list) => list.iter().any(|network| network.contains(&address)),
            Self::NoNetworks(list) => !list.iter().any(|network| network.contains(&address)),
            _ => false,
        }
    }
}

impl Takes {
    fn read(self, value: Value<'_>) -> Result<Test, Problem> {
        Ok(match self {
            Self::Flag => Test::Flag(value.flag()?),
            Self::Words => Test::Words(patterns(&value)?),
            Self::NoWords => Test::NoWords(patterns(&value)?),
            Self::Below => Test::Below(version(&value.text()?)?),
            Self::AtLeast => Test::AtLeast(version(&value.text()?)?),
            Self::Minimum => Test::Minimum(minimums(value.table()?)?),
            Self::Networks => Test::Networks(networks(&value)?),
            Self::NoNetworks => Test::NoNetworks(networks(&value)?),
            Self::Days => {
                let days = value.whole(1..32_768)?;
                Test::OlderThan(i64::try_from(days).unwrap_or(i64::MAX) * 86_400_000)
            }
            Self::Length => {
                let word = value.text()?;
                Test::OlderThan(span::milliseconds(word.text).map_err(|why| word.problem(why))?)
            }
            Self::Devices => {
                let most = value.whole(1..10_001)?;
                Test::More(u16::try_from(most).unwrap_or(u16::MAX))
            }
            Self::Window => Test::Window(Window::read(value.table()?)?),
            Self::From => Test::From(time(&value)?),
            Self::Before => Test::Before(time(&value)?),
            Self::Expression => {
                let word = value.text()?;
                let expression = Expression::parse(word.text).map_err(|error| Problem {
                    at: word.inside + error.at,
                    message: error.message,
                })?;
                Test::Expression(Box::new(expression))
            }
        })
    }
}

pub(super) fn patterns(value: &Value<'_>) -> Result<Vec<Pattern>, Problem> {
    words(value)?
        .iter()
        .map(|word| Pattern::new(word.text).map_err(|why| word.problem(why)))
        .collect()
}

fn words<'v>(value: &'v Value<'_>) -> Result<Vec<Word<'v>>, Problem> {
    let words = value.texts()?;
    if words.len() > WORDS_MAX {
        return Err(value.problem(format!("more than {WORDS_MAX} entries")));
    }
    Ok(words)
}

fn version(word: &Word<'_>) -> Result<Version, Problem> {
    Version::new(word.text).map_err(|why| word.problem(why))
}

fn minimums(table: Table<'_>) -> Result<Vec<(Pattern, Version)>, Problem> {
    let at = table.at;
    let rows = table.rest();
    if !(1..=WORDS_MAX).contains(&rows.len()) {
        let message = format!("names 1 to {WORDS_MAX} platforms: {{ ios = \"17\" }}");
        return Err(Problem { at, message });
    }
    rows.iter()
        .map(|row| {
            let name = Pattern::new(&row.key).map_err(|why| row.problem(why))?;
            Ok((name, version(&row.text()?)?))
        })
        .collect()
}

fn networks(value: &Value<'_>) -> Result<Vec<IpNet>, Problem> {
    words(value)?
        .iter()
        .map(|word| {
            network(word.text).ok_or_else(|| {
                word.problem(format!("{:?} is no network; write 10.0.0.0/8", word.text))
            })
        })
        .collect()
}

fn time(value: &Value<'_>) -> Result<i64, Problem> {
    let text = value.time()?;
    window::timestamp(&text).map_err(|why| value.problem(why))
}
