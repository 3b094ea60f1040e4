//! TOML with the place of everything in it, so that what is wrong is named by line and column.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong, and where in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Byte offset.
    pub(crate) at: usize,
    pub(crate) message: String,
}

/// A table; what is left in it when it is read is not known.
pub(crate) struct Table<'t> {
    text: &'t str,
    /// Where the table stands.
    pub(crate) at: usize,
    rows: Vec<(Spanned<std::borrow::Cow<'t, str>>, Spanned<DeValue<'t>>)>,
}

/// A value, with its key's name for messages.
pub(crate) struct Value<'t> {
    source: &'t str,
    pub(crate) key: String,
    /// Where its key stands; in a list, where the value stands.
    pub(crate) at: usize,
    span: Range<usize>,
    value: DeValue<'t>,
}

/// A text and where it stands.
pub(crate) struct Word<'v> {
    pub(crate) text: &'v str,
    at: usize,
    /// Where the first character of it stands.
    pub(crate) inside: usize,
}

impl Word<'_> {
    pub(crate) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem {
            at: self.at,
            message: message.into(),
        }
    }
}

/// Reads a document.
pub(crate) fn parse(text: &str) -> Result<Table<'_>, Problem> {
    let table = DeTable::parse(text).map_err(|error| Problem {
        at: error.span().map_or(0, |span| span.start),
        message: error.message().to_owned(),
    })?;
    Ok(Table::new(text, 0, table.into_inner()))
}

/// Line and column of a byte, both counted from 1; the column in characters.
pub(crate) fn place(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = text.get(..end).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before.get(start..).unwrap_or_default().chars().count() + 1;
    (line, column)
}

impl<'t> Table<'t> {
    fn new(text: &'t str, at: usize, table: DeTable<'t>) -> Self {
        Self {
            text,
            at,
            rows: table.into_iter().collect(),
        }
    }

    /// Takes a value out.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value<'t>> {
        let at = self
            .rows
            .iter()
            .position(|(key, _)| key.get_ref() == name)?;
        let (key, value) = self.rows.swap_remove(at);
        Some(Value::new(self.text, key, value))
    }

    /// All that is left, in the order of the text.
    pub(crate) fn rest(self) -> Vec<Value<'t>> {
        let mut rest: Vec<_> = self
            .rows
            .into_iter()
            .map(|(key, value)| Value::new(self.text, key, value))
            .collect();
        rest.sort_by_key(|value| value.at);
        rest
    }

    /// Refuses what nobody took.
    pub(crate) fn end(self, known: &[&str]) -> Result<(), Problem> {
        match self.rest().first() {
            None => Ok(()),
            Some(value) => Err(value.problem(format!(
                "unknown field `{}`, expected one of {}",
                value.key,
                known.join(", ")
            ))),
        }
    }
}

impl<'t> Value<'t> {
    fn new(
        text: &'t str,
        key: Spanned<std::borrow::Cow<'t, str>>,
        value: Spanned<DeValue<'t>>,
    ) -> Self {
        let at = key.span().start;
        Self {
            source: text,
            key: key.into_inner().into_owned(),
            at,
            span: value.span(),
            value: value.into_inner(),
        }
    }

    pub(crate) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem {
            at: self.at,
            message: message.into(),
        }
    }

    fn must_be(&self, what: &str) -> Problem {
        self.problem(format!("{} must be {what}", self.key))
    }

    pub(crate) fn text(&self) -> Result<Word<'_>, Problem> {
        match &self.value {
            DeValue::String(text) => Ok(self.word(text, self.span.clone(), self.at)),
            _ => Err(self.must_be("a text in quotes")),
        }
    }

    /// A text, or a list of them, not empty.
    pub(crate) fn texts(&self) -> Result<Vec<Word<'_>>, Problem> {
        match &self.value {
            DeValue::String(_) => Ok(vec![self.text()?]),
            DeValue::Array(list) if !list.is_empty() => list
                .iter()
                .map(|item| match item.get_ref() {
                    DeValue::String(text) => Ok(self.word(text, item.span(), item.span().start)),
                    _ => Err(Problem {
                        at: item.span().start,
                        message: format!("{} must hold texts only", self.key),
                    }),
                })
                .collect(),
            DeValue::Array(_) => Err(self.must_be("a list of at least one text")),
            _ => Err(self.must_be("a text or a list of texts")),
        }
    }

    pub(crate) fn flag(&self) -> Result<bool, Problem> {
        match self.value {
            DeValue::Boolean(flag) => Ok(flag),
            _ => Err(self.must_be("true or false")),
        }
    }

    pub(crate) fn whole(&self, range: Range<u64>) -> Result<u64, Problem> {
        let number = match &self.value {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                self.must_be(&format!(
                    "a whole number, {} to {}",
                    range.start,
                    range.end - 1
                ))
            })
    }

    /// A time, as TOML writes it or in quotes.
    pub(crate) fn time(&self) -> Result<String, Problem> {
        match &self.value {
            DeValue::Datetime(time) => Ok(time.to_string()),
            DeValue::String(text) => Ok(text.to_string()),
            _ => Err(self.must_be("a time, 2026-12-24T18:00:00Z")),
        }
    }

    pub(crate) fn table(self) -> Result<Table<'t>, Problem> {
        match self.value {
            DeValue::Table(table) => Ok(Table::new(self.source, self.at, table)),
            _ => Err(self.must_be("a table")),
        }
    }

    /// The tables of `[[name]]`.
    pub(crate) fn tables(self) -> Result<Vec<Table<'t>>, Problem> {
        let refuse = self.must_be("written as [[…]], or a list of tables");
        let DeValue::Array(list) = self.value else {
            return Err(refuse);
        };
        let mut tables = Vec::with_capacity(list.len());
        for item in list {
            let at = item.span().start;
            match item.into_inner() {
                DeValue::Table(table) => tables.push(Table::new(self.source, at, table)),
                _ => return Err(refuse),
            }
        }
        Ok(tables)
    }

    /// The value as plain JSON, for `policies show`.
    pub(crate) fn json(&self) -> serde_json::Value {
        json(&self.value)
    }

    fn word<'v>(&self, text: &'v str, span: Range<usize>, at: usize) -> Word<'v> {
        let raw = self.source.get(span.clone()).unwrap_or_default();
        // Where escapes make the text another than it is written, its own place must do.
        let inside = span.start + raw.find(text).unwrap_or(0);
        Word { text, at, inside }
    }
}

fn json(value: &DeValue<'_>) -> serde_json::Value {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| number.as_str().into(), Into::into),
        DeValue::Float(number) => number.as_str().into(),
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(list) => list.iter().map(|item| json(item.get_ref())).collect(),
        DeValue::Table(table) => serde_json::Value::Object(
            table
                .iter()
                .map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref())))
                .collect(),
        ),
    }
}
