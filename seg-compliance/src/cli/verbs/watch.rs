//! `watch`: the feed of server-sent events (HTML Living Standard section 9.2), one line an event.

use std::io::{BufRead, BufReader};

use serde_json::Value;

use crate::cli::Outcome;
use crate::cli::client::{Client, Patience};
use crate::cli::failure::Failure;
use crate::cli::output::{Output, plain, printable};

/// Prints events until the feed or its reader ends.
pub(super) fn watch(
    from: Option<u64>,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let from = from.map(|revision| revision.to_string());
    let query: Vec<(&str, &str)> = from.iter().map(|from| ("from", from.as_str())).collect();
    let response = client.open("/v1/events", &query, Patience::Endless)?;
    let mut event = Event::default();
    for line in BufReader::new(response.into_body().into_reader()).lines() {
        let line = line.map_err(|error| client.unusable(error.to_string()))?;
        if let Some(event) = event.take(&line) {
            print(&event, output)?;
            output.flush()?;
        }
    }
    Err(client.unusable("the gateway ended the feed".to_owned()))
}

/// An event as its lines come in.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    name: String,
    data: String,
}

impl Event {
    /// Takes a line; an empty one ends the event.
    fn take(&mut self, line: &str) -> Option<Self> {
        if line.is_empty() {
            let event = std::mem::take(self);
            return Some(event).filter(|event| !event.data.is_empty());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // Comments keep the connection alive; other fields mean nothing here.
            _ => {}
        }
        None
    }
}

fn print(event: &Event, output: &mut Output<'_>) -> Result<(), Failure> {
    if output.json() {
        return output.line(&event.data);
    }
    let Ok(Value::Object(fields)) = serde_json::from_str(&event.data) else {
        return output.line(format_args!("{} {}", event.name, printable(&event.data)));
    };
    let mut line = fields.get("time").map_or_else(String::new, plain);
    if !line.is_empty() {
        line.push(' ');
    }
    line.push_str(&printable(&event.name));
    for (name, value) in &fields {
        if !value.is_null() && name != "time" && name != "event" {
            line.push_str(&format!(" {name}={}", plain(value)));
        }
    }
    output.line(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_put_together_from_their_lines() {
        let mut event = Event::default();
        let mut whole = Vec::new();
        for line in [
            ": keep alive",
            "",
            "event: cut",
            "id: 7",
            "data: {\"a\":",
            "data:1}",
            "",
            "data: x",
            "",
        ] {
            whole.extend(event.take(line));
        }
        let of = |name: &str, data: &str| Event {
            name: name.to_owned(),
            data: data.to_owned(),
        };
        assert_eq!(whole, [of("cut", "{\"a\":\n1}"), of("", "x")]);
    }
}
