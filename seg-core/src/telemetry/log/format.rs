//! One event as one line: JSON (RFC 8259, fields at the top level) or text
//! (`time LEVEL target: message key=value`).

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::escape::Escaped;
use super::{clock, members};

/// How events are written (`log.format`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// One line for people.
    Text,
}

/// Appends an event and a line end.
pub(super) fn append(format: Format, event: &Event<'_>, out: &mut String) {
    let metadata = event.metadata();
    match format {
        Format::Json => {
            out.push_str("{\"time\":\"");
            clock::append_now(out);
            out.push_str("\",\"level\":\"");
            out.push_str(level(metadata.level()).trim_end());
            out.push_str("\",\"target\":\"");
            out.push_str(metadata.target());
            out.push('"');
            event.record(&mut Json(out));
            out.push_str("}\n");
        }
        Format::Text => {
            clock::append_now(out);
            out.push(' ');
            out.push_str(level(metadata.level()));
            out.push(' ');
            out.push_str(metadata.target());
            out.push(':');
            event.record(&mut Text(out));
            out.push('\n');
        }
    }
}

const fn level(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN ",
        Level::INFO => "INFO ",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

/// Writes fields as members of a JSON object that already has one.
struct Json<'o>(&'o mut String);

impl Json<'_> {
    fn key(&mut self, field: &Field) {
        self.0.push_str(",\"");
        self.0.push_str(field.name());
        self.0.push_str("\":");
    }

    fn bare(&mut self, field: &Field, value: impl fmt::Display) {
        self.key(field);
        let _ = write!(self.0, "{value}");
    }
}

impl Visit for Json<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == members::FIELD {
            self.0.push_str(value);
            return;
        }
        self.key(field);
        self.0.push('"');
        let _ = Escaped(self.0).write_str(value);
        self.0.push('"');
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.key(field);
        self.0.push('"');
        let _ = write!(Escaped(self.0), "{value:?}");
        self.0.push('"');
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.key(field);
        append_decimal(self.0, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.bare(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.bare(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.bare(field, value);
        } else {
            self.bare(field, "null");
        }
    }
}

/// Writes fields as `key=value`, the message as it is.
struct Text<'o>(&'o mut String);

impl Text<'_> {
    fn key(&mut self, field: &Field) {
        self.0.push(' ');
        self.0.push_str(field.name());
        self.0.push('=');
    }
}

impl Visit for Text<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == members::FIELD {
            self.0.push_str(value);
            return;
        }
        if field.name() == "message" {
            self.0.push(' ');
            let _ = Escaped(self.0).write_str(value);
            return;
        }
        self.key(field);
        let bare = !value.is_empty()
            && !value
                .bytes()
                .any(|byte| byte == b' ' || byte == b'=' || byte == b'"');
        if !bare {
            self.0.push('"');
        }
        let _ = Escaped(self.0).write_str(value);
        if !bare {
            self.0.push('"');
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.key(field);
        append_decimal(self.0, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.key(field);
        let _ = write!(self.0, "{value}");
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0.push(' ');
            let _ = write!(Escaped(self.0), "{value:?}");
        } else {
            self.record_str(field, &format!("{value:?}"));
        }
    }
}

/// Appends a number; `write!` costs several times as much, and an event has a dozen of them.
pub(super) fn append_decimal(out: &mut String, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut first = digits.len();
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
        first = at;
        if value == 0 {
            break;
        }
    }
    for digit in digits.get(first..).unwrap_or_default() {
        out.push(char::from(*digit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_right_at_the_edges() {
        for value in [0, 7, 10, 99, 100, 12_345, u64::MAX] {
            let mut out = String::new();
            append_decimal(&mut out, value);
            assert_eq!(out, value.to_string());
        }
    }
}
