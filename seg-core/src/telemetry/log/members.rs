//! The fields of an event that every request writes, put together by their owner.
//!
//! `tracing` visits an event's fields one by one through a trait object; for the twenty fields of a
//! request that was the largest single cost of a request in the gateway's own code. So that event
//! has one field, the finished text of all of them, and the layer writes it as it stands.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Format;
use super::escape::Escaped;

/// The name of the field that is written as it stands.
pub(super) const FIELD: &str = "members";

/// The format of the process's one log; members must be in the format of the line that they go
/// into.
static TEXT: AtomicBool = AtomicBool::new(false);

pub(super) fn written_as(format: Format) {
    TEXT.store(format == Format::Text, Ordering::Relaxed);
}

thread_local! {
    static KEPT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Fields of one event, in the order in which they are given.
#[derive(Debug)]
pub struct Members<'t> {
    text: &'t mut String,
    json: bool,
}

impl Members<'_> {
    /// Lets `fill` give the fields and `event` write the event whose `members` they are.
    pub fn gather(message: &str, fill: impl FnOnce(&mut Members<'_>), event: impl FnOnce(&str)) {
        let gather = |text: &mut String| {
            let json = !TEXT.load(Ordering::Relaxed);
            text.push_str(if json { ",\"message\":\"" } else { " " });
            let _ = Escaped(text).write_str(message);
            if json {
                text.push('"');
            }
            let mut members = Members { text, json };
            fill(&mut members);
            event(members.text);
        };
        let kept = KEPT.try_with(|kept| {
            // Taken while an event is written within an event, or gone with its thread.
            let Ok(mut text) = kept.try_borrow_mut() else {
                return false;
            };
            text.clear();
            gather(&mut text);
            text.shrink_to(super::KEPT_LINE);
            true
        });
        debug_assert_ne!(kept, Ok(false), "an event within an event");
    }

    /// A text; `None` leaves the field out.
    pub fn text(&mut self, field: &Field, value: Option<&str>) {
        let Some(value) = value else { return };
        let quoted = self.json || value.is_empty() || value.contains([' ', '=', '"']);
        self.open(field, quoted);
        let _ = Escaped(self.text).write_str(value);
        if quoted {
            self.text.push('"');
        }
    }

    /// A word that holds nothing to escape: out of the program's tables, or an address.
    pub fn word(&mut self, field: &Field, word: &str) {
        debug_assert!(
            word.bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"\\\"=".contains(&byte)),
            "{word:?}"
        );
        let quoted = self.json || word.is_empty();
        self.open(field, quoted);
        self.text.push_str(word);
        if quoted {
            self.text.push('"');
        }
    }

    /// A number.
    pub fn number(&mut self, field: &Field, value: Option<u64>) {
        if let Some(value) = value {
            self.open(field, false);
            super::format::append_decimal(self.text, value);
        }
    }

    /// A yes or no.
    pub fn truth(&mut self, field: &Field, value: Option<bool>) {
        if let Some(value) = value {
            self.open(field, false);
            self.text.push_str(if value { "true" } else { "false" });
        }
    }

    fn open(&mut self, field: &Field, quoted: bool) {
        self.text.push_str(match (self.json, quoted) {
            (true, true) => field.json_quoted,
            (true, false) => field.json,
            (false, true) => field.text_quoted,
            (false, false) => field.text,
        });
    }
}

/// The name of a field as it stands before its value, made by [`field!`].
#[derive(Debug)]
pub struct Field {
    #[doc(hidden)]
    pub json: &'static str,
    #[doc(hidden)]
    pub json_quoted: &'static str,
    #[doc(hidden)]
    pub text: &'static str,
    #[doc(hidden)]
    pub text_quoted: &'static str,
}

/// A field's name with all that stands around it, put together by the compiler.
macro_rules! field {
    ($name:literal) => {
        &$crate::telemetry::log::Field {
            json: concat!(",\"", $name, "\":"),
            json_quoted: concat!(",\"", $name, "\":\""),
            text: concat!(" ", $name, "="),
            text_quoted: concat!(" ", $name, "=\""),
        }
    };
}
pub(crate) use field;
