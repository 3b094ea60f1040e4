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

    /// All of them, alias and user, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(alias, user)| (alias.as_ref(), user.as_ref()))
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
    let text = std::fs::read(file).map_err(|error| {
        wrong(
            None,
            format!("can't be read: {error}; check identity.alias.path"),
        )
    })?;
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .comment(Some(b'#'))
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&text));
    let mut aliases = HashMap::new();
    for record in reader.records() {
        let place = match &record {
            Ok(record) => record.position(),
            Err(error) => error.position(),
        };
        let place = place.map(csv::Position::line);
        let wrong = |message: String| wrong(place.map(|line| written_from(&text, line)), message);
        let record = record.map_err(|error| wrong(format!("can't be read: {error}")))?;
        let (Some(alias), Some(user), 2) = (record.get(0), record.get(1), record.len()) else {
            return Err(wrong("expected two columns: alias,user".to_owned()));
        };
        let (alias, user) = (alias.to_lowercase(), user.to_lowercase());
        if alias == "alias" && user == "user" && aliases.is_empty() {
            continue;
        }
        if !is_name(&alias) || !is_name(&user) {
            return Err(wrong(format!(
                "alias and user must have 1 to {MAX_NAME} bytes of text"
            )));
        }
        if aliases.len() >= MAX_ALIASES {
            return Err(wrong(format!("more than {MAX_ALIASES} aliases")));
        }
        let other = aliases.insert(Box::from(alias.as_str()), Box::from(user.as_str()));
        if other.is_some_and(|other| *other != *user) {
            let message =
                format!("{alias} stands further up with another user; keep one of the two");
            return Err(wrong(message));
        }
    }
    Ok(Aliases(aliases))
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// The line of a record that the reader places where the one before it ended: blank lines and
/// comments lie in between.
fn written_from(text: &[u8], line: u64) -> u64 {
    let passed_over = text
        .split(|byte| *byte == b'\n')
        .skip(
            usize::try_from(line)
                .unwrap_or(usize::MAX)
                .saturating_sub(1),
        )
        .take_while(|line| line.trim_ascii().is_empty() || line.starts_with(b"#"))
        .count();
    line.saturating_add(u64::try_from(passed_over).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &[u8]) -> Result<Aliases, AliasError> {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("aliases.csv");
        std::fs::write(&file, text).expect("write");
        load(&file)
    }

    #[test]
    fn with_and_without_heading_in_any_case() {
        let text = "\u{feff}alias,user\n# people\nA.Lice@example.com, Alice@Corp.Example\n\n\"b\",bob@corp.example\r\nB,bob@corp.example\n";
        let aliases = from(text.as_bytes()).expect("aliases");
        assert_eq!(
            aliases.user("a.lice@example.com"),
            Some("alice@corp.example")
        );
        assert_eq!(aliases.user("b"), Some("bob@corp.example"));
        assert_eq!(aliases.user("alias"), None);
        assert_eq!((aliases.len(), aliases.iter().count()), (2, 2));
        assert!(from(b"").expect("aliases").is_empty());
        assert_eq!(from(b"a,b@x").expect("aliases").user("a"), Some("b@x"));
    }

    #[test]
    fn refusals_name_the_line() {
        for (text, line, part) in [
            (b"a,b\nc\n".as_slice(), 2, "two columns"),
            (b"a,b,c\n", 1, "two columns"),
            (b"a,b\n\n,c\n", 3, "1 to 256 bytes"),
            (b"a,b\na,c\n", 2, "another user"),
            (b"a,b\n\xff,c\n", 2, "UTF-8"),
        ] {
            let error = from(text).expect_err(part);
            assert_eq!(error.line, Some(line), "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
        let missing = load(Path::new("/nonexistent/aliases.csv")).expect_err("missing");
        assert!(
            missing.to_string().contains("identity.alias.path"),
            "{missing}"
        );
    }
}
