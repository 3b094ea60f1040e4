//! What is wrong with a configuration: the key, the place, the reason and the mend.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// More problems than this are counted, not printed.
const MAX_PROBLEMS: usize = 100;
/// A key is shown up to this many characters, so that a file of rubbish makes no megabyte of log.
const MAX_KEY_SHOWN: usize = 120;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// The built-in default.
    Default,
    /// A line of the properties file, counted from 1.
    Line(usize),
    /// An environment variable.
    Variable(String),
    /// Nothing in particular: the file as a whole.
    Whole,
}

impl At {
    /// The line of the properties file, if the value stands there.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Line(line) => Some(*line),
            _ => None,
        }
    }

    /// 0 for the defaults, 1 for the file, 2 for the environment: the higher one wins.
    pub(super) fn layer(&self) -> u8 {
        match self {
            Self::Default | Self::Whole => 0,
            Self::Line(_) => 1,
            Self::Variable(_) => 2,
        }
    }
}

/// The form in which a place travels through the `config` crate, as a value's origin.
impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Line(line) => write!(f, "line {line}"),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Whole => f.write_str("file"),
        }
    }
}

impl FromStr for At {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "default" {
            Ok(Self::Default)
        } else if let Some(line) = text.strip_prefix("line ") {
            line.parse().map(Self::Line).map_err(|_| ())
        } else {
            let name = text.strip_prefix("environment variable ").ok_or(())?;
            Ok(Self::Variable(name.to_owned()))
        }
    }
}

/// One thing to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key as it is written, where there is one.
    pub key: Option<String>,
    /// Where it stands.
    pub at: At,
    /// What is wrong and how to mend it. Values of secret keys never stand here.
    pub message: String,
}

/// Something that is accepted, but that somebody should know. Same shape as a problem.
pub type Warning = Problem;

impl Problem {
    pub(super) fn new(key: Option<&str>, at: At, message: impl Into<String>) -> Self {
        let key = key.filter(|key| !key.is_empty()).map(shortened);
        Self {
            key,
            at,
            message: message.into(),
        }
    }

    /// The line of the properties file, where the thing stands on one.
    pub fn line(&self) -> Option<usize> {
        self.at.line()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !matches!(self.at, At::Default | At::Whole) {
            write!(f, "{}: ", self.at)?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Text for a message, without control characters and of bounded length.
pub(super) fn shortened(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(MAX_KEY_SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(MAX_KEY_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// A refused configuration: everything that is wrong with it, at least one thing.
#[derive(Clone, Debug, thiserror::Error)]
pub struct ConfigError {
    /// The properties file, if one was named.
    pub file: Option<PathBuf>,
    /// What to mend, in the order of the file, at most [`ConfigError::MAX`] of them.
    pub problems: Vec<Problem>,
    /// How many more there were.
    pub omitted: usize,
}

impl ConfigError {
    /// The most problems that one error lists.
    pub const MAX: usize = MAX_PROBLEMS;

    pub(super) fn new(file: Option<PathBuf>, mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| a.at.cmp(&b.at));
        let omitted = problems.len().saturating_sub(Self::MAX);
        problems.truncate(Self::MAX);
        Self {
            file,
            problems,
            omitted,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            match &self.file {
                Some(file) if !matches!(problem.at, At::Variable(_)) => {
                    write!(f, "{separator}{}: {problem}", file.display())?;
                }
                _ => write!(f, "{separator}{problem}")?,
            }
        }
        if self.omitted > 0 {
            write!(f, "\n… and {} more", self.omitted)?;
        }
        Ok(())
    }
}
