//! `identity.alias.path`: other names of users, such as mail addresses and alternative UPN
//! suffixes. A CSV file with the columns `alias,user`.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The most aliases that are read.
const MAX_ALIASES: usize = 2_000_000;
/// The longest alias and the longest user, in bytes.
const MAX_NAME: usize = 256;

/// Alias to user, both without regard to case. Names are kept in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aliases(HashMap<Box<str>, Box<str>>);

/// An alias file that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct AliasError {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1, where one is to blame.
    pub line: Option<u64>,
    /// What is wrong and how to mend it.
    pub message: String,
}

impl fmt::Display for AliasError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl Aliases {
    /// The user that an alias stands for. The alias must be in lower case.
    pub fn user(&self, alias: &str) -> Option<&str> {
        self.0.get(alias).map(AsRef::as_ref)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads the alias file. A first line `alias,user` is a heading; blank lines and lines that start
/// with `#` are passed over.
///
/// # Errors
/// The first line that isn't an alias and a user, or that names another user for an alias that
/// stands further up.
pub fn load(file: &Path) -> Result<Aliases, AliasError> {
    let wrong = |line: Option<u64>, message: String| AliasError {
        file: file.to_path_buf(),
        line,
        message,
    };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .comment(Some(b'#'))
        .flexible(true)
        .trim(csv::Trim::All)
        .from_path(file)
        .map_err(|error| {
            wrong(
                None,
                format!("can't be read: {error}; check identity.alias.path"),
            )
        })?;
    let mut aliases = HashMap::new();
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error.position().map(csv::Position::line);
            wrong(line, format!("can't be read: {error}"))
        })?;
        let line = record.position().map(csv::Position::line);
        let (Some(alias), Some(user), 2) = (record.get(0), record.get(1), record.len()) else {
            return Err(wrong(line, "expected two columns: alias,user".to_owned()));
        };
        let alias = alias.trim_start_matches('\u{feff}').to_lowercase();
        let user = user.to_lowercase();
        if alias == "alias" && user == "user" && aliases.is_empty() {
            continue;
        }
        if [&alias, &user]
            .iter()
            .any(|name| !(1..=MAX_NAME).contains(&name.len()) || name.chars().any(char::is_control))
        {
            return Err(wrong(
                line,
                format!("alias and user must have 1 to {MAX_NAME} bytes of text"),
            ));
        }
        if aliases.len() >= MAX_ALIASES {
            return Err(wrong(line, format!("more than {MAX_ALIASES} aliases")));
        }
        let other = aliases.insert(
            alias.clone().into_boxed_str(),
            user.clone().into_boxed_str(),
        );
        if other.is_some_and(|other| *other != *user) {
            return Err(wrong(
                line,
                format!("{alias} stands further up with another user; keep one of the two"),
            ));
        }
    }
    Ok(Aliases(aliases))
}
