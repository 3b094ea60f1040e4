//! `identity.alias.path`: other names of users, such as mail addresses and alternative UPN
//! suffixes. A CSV file with the columns `alias,user`.

use std::collections::HashMap;
use std::path::Path;

use super::table_file::{self, MAX_FIELD, TableError, is_name};

/// Alias to user, both without regard to case. Names are kept in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aliases(HashMap<Box<str>, Box<str>>);

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
pub fn load(file: &Path) -> Result<Aliases, TableError> {
    let mut aliases = HashMap::new();
    table_file::read(file, "identity.alias.path", |record, first| {
        let (Some(alias), Some(user), 2) = (record.get(0), record.get(1), record.len()) else {
            return Err("expected two columns: alias,user".to_owned());
        };
        let (alias, user) = (alias.to_lowercase(), user.to_lowercase());
        if first && alias == "alias" && user == "user" {
            return Ok(());
        }
        if !is_name(&alias) || !is_name(&user) {
            return Err(format!(
                "alias and user must have 1 to {MAX_FIELD} bytes of text"
            ));
        }
        let other = aliases.insert(Box::from(alias.as_str()), Box::<str>::from(user.as_str()));
        if other.is_some_and(|other| *other != *user) {
            return Err(format!(
                "{alias} stands further up with another user; keep one of the two"
            ));
        }
        Ok(())
    })?;
    Ok(Aliases(aliases))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &[u8]) -> Result<Aliases, TableError> {
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
