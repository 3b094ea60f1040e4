//! Every key as data: name, default, what it takes, what it means. The parser, the example file,
//! the "did you mean", the environment names and the list of changed keys all read this table.

mod nearest;
mod seg_v2;
mod table;

pub(super) use nearest::nearest;
pub(super) use seg_v2::no_effect_here;
pub(super) use table::{GROUPS, ROUTE_KEYS};

use super::value::{Affinity, Toggle};

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Switch,
    /// A whole number within bounds, both included.
    Whole {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// Whole seconds within bounds, both included.
    Seconds {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A file or folder, relative to the properties file.
    Path,
    /// Anything else; the text says what.
    Text(&'static str),
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The name in the properties file; routes have `<name>` in theirs.
    pub name: &'static str,
    /// Other names that mean the same.
    pub aliases: &'static [&'static str],
    /// The default, as it would be written.
    pub default: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// One line of meaning.
    pub meaning: &'static str,
    /// Only a restart changes it.
    pub restart: bool,
    /// Its value is shown nowhere.
    pub secret: bool,
    /// The key whose value holds while this one is empty.
    pub inherits: Option<&'static str>,
}

/// Keys that belong together in the example file.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The heading.
    pub title: &'static str,
    /// The keys in the order of the file.
    pub keys: &'static [Key],
}

/// Every key but those of routes, in the order of the example file.
pub(super) fn all() -> impl Iterator<Item = &'static Key> {
    GROUPS.iter().flat_map(|group| group.keys)
}

/// The key of that name or alias, exactly as written.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    all().find(|key| key.name == name || key.aliases.contains(&name))
}

/// The row of `route.<name>.*` that a written key belongs to, with the route's name: lower-case
/// letters, digits and `-`, at most 32 of them.
pub(super) fn find_route(written: &str) -> Option<(&str, &'static Key)> {
    let rest = written.strip_prefix("route.")?;
    let (name, field) = rest.split_once('.')?;
    let named = (1..=32).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let key = ROUTE_KEYS
        .iter()
        .find(|key| key.name.strip_prefix("route.<name>.") == Some(field))?;
    named.then_some((name, key))
}

/// The name of a key in the environment: `SEG_`, upper case, dots as underscores.
pub(super) fn variable(name: &str) -> String {
    let mut variable = String::from("SEG_");
    variable.extend(name.chars().map(|c| match c {
        '.' | '-' => '_',
        c => c.to_ascii_uppercase(),
    }));
    variable
}

impl Key {
    const fn new(
        name: &'static str,
        default: &'static str,
        kind: Kind,
        meaning: &'static str,
    ) -> Self {
        Self {
            name,
            aliases: &[],
            default,
            kind,
            meaning,
            restart: false,
            secret: false,
            inherits: None,
        }
    }

    const fn aliases(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    const fn restart(self) -> Self {
        Self {
            restart: true,
            ..self
        }
    }

    const fn secret(self) -> Self {
        Self {
            secret: true,
            ..self
        }
    }

    const fn inherits(self, parent: &'static str) -> Self {
        Self {
            inherits: Some(parent),
            ..self
        }
    }
}

impl Kind {
    /// The words of `on|off` and the like, for a row of the table.
    const TOGGLE: Self = Self::Choice(Toggle::WORDS);
    const AFFINITY: Self = Self::Choice(Affinity::WORDS);

    /// What the key takes, for the example file.
    pub fn describe(self) -> String {
        match self {
            Self::Switch => "true or false".to_owned(),
            Self::Whole { min, max: u64::MAX } => format!("a whole number from {min} up"),
            Self::Whole { min, max } => format!("{min} to {max}"),
            Self::Seconds { min, max } => format!("{min} to {max} seconds"),
            Self::Choice(words) => words.join(", "),
            Self::Path => "a path".to_owned(),
            Self::Text(what) => what.to_owned(),
        }
    }
}
