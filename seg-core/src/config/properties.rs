//! The `.properties` syntax: what Java's `Properties.load` reads, in UTF-8, with line numbers.
//!
//! Comments start with `#` or `!`; a key ends at the first unescaped `=`, `:` or white space; a
//! backslash at the end of a line continues it, and the next line's leading white space is
//! dropped; `\t`, `\n`, `\r`, `\f` and `\uXXXX` are escapes, and a backslash before any other
//! character disappears. Beyond Java's rules a key that stands twice is refused, because the one
//! that loses is always the one somebody believes in, and so are control characters.

use std::collections::HashMap;
use std::error::Error;

use config::{FileStoredFormat, Format, Map, Value};

use super::problem::{At, Problem};

/// The table under which the flat properties stand in the `config` crate's tree. Without it the
/// crate would read `a.b` as a path, and a key that is both a value and a prefix of another one
/// (`ews.refusal`, `ews.refusal.server.version`) would lose its value.
pub(super) const ROOT: &str = "properties";

/// One `key=value` with the line that it starts on, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key, unescaped.
    pub key: String,
    /// The value, unescaped; white space at its end is kept, as Java does.
    pub value: String,
    /// The line on which the key stands.
    pub line: usize,
}

/// A file read to its end: the entries that could be read, and everything that is wrong with it.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Entries in file order; of a key given twice the first.
    pub entries: Vec<Entry>,
    /// What makes the file unusable.
    pub problems: Vec<Problem>,
    /// What is legal, but surely not what was meant.
    pub notes: Vec<Problem>,
}

/// Reads a whole properties file. Never fails early: what can't be read is named and skipped.
/// Time and memory are linear in the text.
pub fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let mut first_seen: HashMap<String, usize> = HashMap::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for logical in logical_lines(text) {
        let (raw_key, raw_value) = split(&logical.text);
        let at = At::Line(logical.line);
        let key = match unescape(raw_key) {
            Ok(key) => key.text,
            Err(message) => {
                parsed.problems.push(Problem::new(None, at, message));
                continue;
            }
        };
        let value = match unescape(raw_value) {
            Ok(value) => value,
            Err(message) => {
                parsed.problems.push(Problem::new(Some(&key), at, message));
                continue;
            }
        };
        if let Some(message) = unusable(&key, &value.text) {
            parsed.problems.push(Problem::new(Some(&key), at, message));
            continue;
        }
        if let Some(letter) = value.lost_backslash {
            let message = format!(
                "a backslash before `{letter}` disappears, as in every .properties file; \
                 write `\\\\` for a backslash, or `/` in a path"
            );
            parsed
                .notes
                .push(Problem::new(Some(&key), at.clone(), message));
        }
        if let Some(line) = first_seen.get(&key) {
            let message = format!("given twice, first on line {line}; remove one of the two");
            parsed.problems.push(Problem::new(Some(&key), at, message));
            continue;
        }
        first_seen.insert(key.clone(), logical.line);
        parsed.entries.push(Entry {
            key,
            value: value.text,
            line: logical.line,
        });
    }
    parsed
}

/// Continued lines joined into one; comments and blank lines left out.
struct Logical {
    text: String,
    line: usize,
}

fn logical_lines(text: &str) -> Vec<Logical> {
    let mut found = Vec::new();
    let mut open: Option<Logical> = None;
    for (index, natural) in natural_lines(text).enumerate() {
        let content = natural.trim_start_matches(is_blank);
        let mut logical = match open.take() {
            Some(logical) => logical,
            None if content.is_empty() || content.starts_with(['#', '!']) => continue,
            None => Logical {
                text: String::new(),
                line: index + 1,
            },
        };
        let trailing = content.len() - content.trim_end_matches('\\').len();
        if trailing % 2 == 1 {
            logical
                .text
                .push_str(content.get(..content.len() - 1).unwrap_or_default());
            open = Some(logical);
        } else {
            logical.text.push_str(content);
            found.push(logical);
        }
    }
    // A backslash at the very end of the file continues into nothing.
    found.extend(open);
    found.retain(|logical| !logical.text.is_empty());
    found
}

/// Lines end with LF, CR or CRLF.
fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n')
        .flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

/// Key and value, both still escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line
        .char_indices()
        .find(|&(_, c)| {
            let ends = !escaped && (matches!(c, '=' | ':') || is_blank(c));
            escaped = c == '\\' && !escaped;
            ends
        })
        .map_or(line.len(), |(at, _)| at);
    let (key, rest) = line.split_at(end);
    let rest = rest.trim_start_matches(is_blank);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, value.trim_start_matches(is_blank))
}

struct Unescaped {
    text: String,
    /// A letter or digit that lost its backslash, such as the `d` of `C:\data`.
    lost_backslash: Option<char>,
}

fn unescape(raw: &str) -> Result<Unescaped, String> {
    let mut text = String::with_capacity(raw.len());
    let mut lost_backslash = None;
    let mut rest = raw.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match rest.next() {
            Some('t') => text.push('\t'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('f') => text.push('\u{c}'),
            Some('u') => text.push(unicode_escape(&mut rest)?),
            Some(other) => {
                if other.is_ascii_alphanumeric() {
                    lost_backslash = lost_backslash.or(Some(other));
                }
                text.push(other);
            }
            None => {}
        }
    }
    Ok(Unescaped {
        text,
        lost_backslash,
    })
}

/// The character of a `\uXXXX` whose `\u` is read; a high surrogate takes its partner along.
fn unicode_escape(rest: &mut std::str::Chars<'_>) -> Result<char, String> {
    let high = hex4(rest)?;
    if let Some(c) = char::from_u32(high) {
        return Ok(c);
    }
    let paired = rest.next() == Some('\\') && rest.next() == Some('u');
    if (0xD800..0xDC00).contains(&high) && paired {
        let low = hex4(rest)?;
        if (0xDC00..0xE000).contains(&low) {
            let code = 0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            if let Some(c) = char::from_u32(code) {
                return Ok(c);
            }
        }
    }
    Err(format!(
        "`\\u{high:04X}` is half a character: surrogates come in pairs"
    ))
}

fn hex4(rest: &mut std::str::Chars<'_>) -> Result<u32, String> {
    (0..4)
        .try_fold(0, |code, _| Some(code * 16 + rest.next()?.to_digit(16)?))
        .ok_or_else(|| "`\\u` must be followed by four hexadecimal digits".to_owned())
}

fn unusable(key: &str, value: &str) -> Option<String> {
    if key.is_empty() {
        return Some("a value without a key".to_owned());
    }
    let control = |c: &char| c.is_control() && *c != '\t';
    let found = key
        .chars()
        .find(control)
        .or_else(|| value.chars().find(control))?;
    Some(format!(
        "holds the control character U+{:04X}",
        u32::from(found)
    ))
}

/// A key or a value as it must be written to be read back the same by [`parse`].
pub(super) fn escaped(text: &str, key: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for (index, c) in text.chars().enumerate() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            ' ' if key || index == 0 => out.push_str("\\ "),
            '=' | ':' if key => {
                out.push('\\');
                out.push(c);
            }
            '#' | '!' if key && index == 0 => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// The `.properties` format for the `config` crate. Every value is a string and carries the line
/// it came from as its origin; all of them stand in one flat table. It yields what can be read:
/// whoever loads a file asks [`parse`] for what can't, and refuses the file.
#[derive(Clone, Copy, Debug)]
pub struct Properties;

impl Format for Properties {
    fn parse(
        &self,
        _uri: Option<&String>,
        text: &str,
    ) -> Result<Map<String, Value>, Box<dyn Error + Send + Sync>> {
        let entries = parse(text).entries.into_iter();
        Ok(super::layers::table(entries.map(|entry| {
            (entry.key, entry.value, At::Line(entry.line))
        })))
    }
}

/// Without extensions: the format is always named, never guessed from a file's name.
impl FileStoredFormat for Properties {
    fn file_extensions(&self) -> &'static [&'static str] {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let parsed = parse(text);
        assert_eq!(parsed.problems, Vec::new(), "{text:?}");
        parsed
            .entries
            .into_iter()
            .map(|entry| (entry.key, entry.value))
            .collect()
    }

    /// What `java.util.Properties` makes of each of these.
    #[test]
    fn as_java_reads_them() {
        for (text, wanted) in [
            ("", vec![]),
            ("# a\n ! b\n\n \t\x0c\n", vec![]),
            ("a=1", vec![("a", "1")]),
            ("a = 1 \n", vec![("a", "1 ")]),
            (
                "a:1\rb 2\r\nc\t=\t3",
                vec![("a", "1"), ("b", "2"), ("c", "3")],
            ),
            ("a\nb=\n", vec![("a", ""), ("b", "")]),
            (
                "a==1\nb=:=2\nc  3=4",
                vec![("a", "=1"), ("b", ":=2"), ("c", "3=4")],
            ),
            (
                "a=1,\\\n   2,\\\r\n\t3\nb=4",
                vec![("a", "1,2,3"), ("b", "4")],
            ),
            (
                "a=1\\\n# no comment\nb=2",
                vec![("a", "1# no comment"), ("b", "2")],
            ),
            ("a=1\\\\\nb=2", vec![("a", "1\\"), ("b", "2")]),
            ("a=1\\\n\nb=2", vec![("a", "1"), ("b", "2")]),
            ("a=1\\", vec![("a", "1")]),
            ("\\", vec![]),
            ("a\\ b\\=c\\:d=e", vec![("a b=c:d", "e")]),
            ("\\#a=1\n  b=#2", vec![("#a", "1"), ("b", "#2")]),
            ("a=\\u00fc\\u20AC\\uD83D\\uDE00", vec![("a", "ü€😀")]),
            ("a=\\ttab\\q\\\\", vec![("a", "\ttabq\\")]),
            ("a=\\ 1", vec![("a", " 1")]),
            ("\u{feff}a=ü", vec![("a", "ü")]),
        ] {
            let found = pairs(text);
            let found: Vec<_> = found
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect();
            assert_eq!(found, wanted, "{text:?}");
        }
    }

    #[test]
    fn lines_are_those_where_the_keys_stand() {
        let parsed = parse("\n# one\r\na=1\\\n  2\rb=3\n\nc=4");
        let lines: Vec<_> = parsed
            .entries
            .iter()
            .map(|entry| (entry.key.as_str(), entry.line))
            .collect();
        assert_eq!(lines, [("a", 3), ("b", 5), ("c", 7)]);
    }

    #[test]
    fn what_is_wrong_is_named_and_the_rest_is_read() {
        let parsed = parse("a=1\n=2\nb=\\u12\nc=\\uD800x\nd=\\uDC00\na=3\ne=\0\nf=\\u0007\nz=26");
        let problems: Vec<_> = parsed
            .problems
            .iter()
            .map(|problem| (problem.line(), problem.message.as_str()))
            .collect();
        assert_eq!(
            problems,
            [
                (Some(2), "a value without a key"),
                (Some(3), "`\\u` must be followed by four hexadecimal digits"),
                (
                    Some(4),
                    "`\\uD800` is half a character: surrogates come in pairs"
                ),
                (
                    Some(5),
                    "`\\uDC00` is half a character: surrogates come in pairs"
                ),
                (
                    Some(6),
                    "given twice, first on line 1; remove one of the two"
                ),
                (Some(7), "holds the control character U+0000"),
                (Some(8), "holds the control character U+0007"),
            ]
        );
        assert_eq!(parsed.entries.len(), 2);
    }

    #[test]
    fn a_windows_path_is_pointed_at() {
        let parsed = parse("a=C:\\data\nb=C:\\\\data\nc=C:/data\n");
        assert_eq!(
            parsed.notes.iter().map(Problem::line).collect::<Vec<_>>(),
            [Some(1)]
        );
        assert!(
            parsed.notes[0].message.contains("before `d` disappears"),
            "{:?}",
            parsed.notes
        );
    }

    #[test]
    fn a_hostile_file_is_read_in_linear_time_and_named_shortly() {
        let megabyte = "x".repeat(1024 * 1024);
        for text in [
            megabyte.clone(),
            format!("a={megabyte}"),
            megabyte.replace('x', "\\"),
            megabyte.replace('x', "\\\n"),
            megabyte.replace('x', "\0"),
            megabyte.replace('x', "\n"),
            megabyte.replace('x', "=\n"),
            megabyte.replace('x', "\\u"),
        ] {
            let parsed = parse(&text);
            assert!(
                parsed
                    .problems
                    .iter()
                    .all(|problem| problem.to_string().len() < 1000)
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_every_entry_has_its_line(text in "[a-c=:# !\\\\u0dD\n\r\t\u{0}ü]{0,200}") {
            let lines = natural_lines(&text).count();
            let parsed = parse(&text);
            for entry in parsed.entries {
                prop_assert!((1..=lines).contains(&entry.line));
                prop_assert!(!entry.key.is_empty());
            }
            for problem in parsed.problems {
                prop_assert!(problem.line().is_some_and(|line| (1..=lines).contains(&line)));
            }
        }

        #[test]
        fn what_is_written_is_read_back(
            wanted in proptest::collection::btree_map("[ -~ü€😀\t]{1,20}", "[ -~ü€😀\t]{0,40}", 0..20)
        ) {
            let text: String = wanted
                .iter()
                .map(|(key, value)| format!("{}={}\n", escaped(key, true), escaped(value, false)))
                .collect();
            let parsed = parse(&text);
            prop_assert_eq!(parsed.problems, Vec::new());
            let read: std::collections::BTreeMap<_, _> =
                parsed.entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
            prop_assert_eq!(read, wanted);
        }
    }
}
