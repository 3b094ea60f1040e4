//! `get` and `list`.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::found;
use crate::cli::Outcome;
use crate::cli::args::{Get, List, Verdict};
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::job::segment;
use crate::cli::output::{self, Output, plain, word};

/// Devices that are asked for at once.
const PAGE: &str = "1000";

/// The fields of a record, in the order in which `get` shows them.
const FACTS: [&str; 14] = [
    "user",
    "managed",
    "compliant",
    "compromised",
    "encrypted",
    "platform",
    "model",
    "os_version",
    "last_seen",
    "profile",
    "ownership",
    "groups",
    "verdict",
    "reason",
];

/// Prints a device.
pub(super) fn get(
    asked: &Get,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let query: Vec<(&str, &str)> = asked
        .user
        .iter()
        .map(|user| ("user", user.as_str()))
        .collect();
    let path = format!("/v1/devices/{}", segment(&asked.device));
    let answer = client.get(&path, &query);
    let Some(answer) = found(answer, output)? else {
        return Ok(Outcome::Findings);
    };
    if output.json() {
        output.line(answer.text.trim_end())?;
    } else {
        print(&answer.json, output)?;
    }
    if answer.json.get("known") == Some(&Value::Bool(false)) {
        output.complain(&format!("{}: no record of this device", asked.device));
        return Ok(Outcome::Findings);
    }
    Ok(Outcome::Done)
}

fn print(device: &Value, output: &mut Output<'_>) -> Result<(), Failure> {
    let name = word(device, "device_id").unwrap_or_default();
    output.line(output::printable(name))?;
    let mut row = |label: &str, text: String| {
        if text.is_empty() {
            return Ok(());
        }
        output.line(format_args!("  {label:<14}{text}"))
    };
    row(
        "decision",
        device
            .get("decision")
            .map_or_else(String::new, output::decision),
    )?;
    for fact in FACTS {
        // The record's own verdict is the MDM's word, not the decision.
        let label = match fact {
            "verdict" => "mdm verdict",
            "reason" => "mdm reason",
            other => other,
        };
        row(label, device.get(fact).map_or_else(String::new, plain))?;
    }
    let order = device.get("order").map_or_else(String::new, |order| {
        let told = ["action", "state", "user", "reason", "changed"];
        let told = told.iter().filter_map(|field| {
            let value = order.get(field).filter(|value| !value.is_null())?;
            Some(format!("{field}={}", plain(value)))
        });
        told.collect::<Vec<_>>().join(" ")
    });
    row("order", order)?;
    let fields = |value: &Value| {
        let fields = value.as_object().into_iter().flatten();
        let told = fields.filter(|(name, value)| *name != "suspect" && !value.is_null());
        let told = told.map(|(name, value)| format!("{name}={}", plain(value)));
        told.collect::<Vec<_>>().join(" ")
    };
    let binding = device.get("binding");
    row("bound to", binding.map_or_else(String::new, fields))?;
    let suspect = binding.and_then(|binding| binding.get("suspect"));
    row("suspect", suspect.map_or_else(String::new, fields))?;
    row(
        "in flight",
        device.get("live").map_or_else(String::new, plain),
    )?;
    let last = device.get("last_request").and_then(Value::as_object);
    let last: Vec<String> = last
        .into_iter()
        .flatten()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| format!("{name}={}", plain(value)))
        .collect();
    row("last request", last.join(" "))
}

/// One page of a list, each device as it came.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    devices: Vec<&'a RawValue>,
    next: Option<String>,
}

/// Prints devices, page after page.
pub(super) fn list(
    asked: &List,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let verdicts: &[Option<&str>] = match asked.verdict {
        // The filter knows one verdict at a time.
        None if asked.would_block => &[Some("block"), Some("quarantine"), Some("allow")],
        None => &[None],
        Some(Verdict::Allow) => &[Some("allow")],
        Some(Verdict::Block) => &[Some("block")],
        Some(Verdict::Quarantine) => &[Some("quarantine")],
    };
    let mut first = true;
    for verdict in verdicts {
        let mut after: Option<String> = None;
        loop {
            let mut query = vec![("limit", PAGE)];
            query.extend(asked.user.as_deref().map(|user| ("user", user)));
            query.extend(verdict.map(|verdict| ("verdict", verdict)));
            query.extend(asked.unknown.then_some(("known", "false")));
            query.extend(after.as_deref().map(|after| ("after", after)));
            let answer = client.get("/v1/devices", &query)?;
            let page: Page<'_> = serde_json::from_str(&answer.text)
                .map_err(|error| client.unusable(error.to_string()))?;
            for device in page.devices {
                row(asked, device, &mut first, output)?;
            }
            match page.next {
                // A page that does not get on would be asked for ever.
                Some(next) if after.as_deref() != Some(next.as_str()) => after = Some(next),
                _ => break,
            }
        }
    }
    Ok(Outcome::Done)
}

fn row(
    asked: &List,
    device: &RawValue,
    first: &mut bool,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let value: Value = serde_json::from_str(device.get()).unwrap_or_default();
    let decision = value.get("decision").unwrap_or(&Value::Null);
    if asked.would_block && !would_refuse(decision) {
        return Ok(());
    }
    if output.json() {
        return output.line(device.get());
    }
    let columns: &[(&str, usize)] = if asked.unknown {
        &[
            ("device", 34),
            ("user", 30),
            ("first request", 21),
            ("last request", 21),
            ("agent", 0),
        ]
    } else {
        &[
            ("device", 34),
            ("user", 30),
            ("verdict", 11),
            ("live", 5),
            ("why", 0),
        ]
    };
    if std::mem::take(first) {
        let head = columns.iter().map(|(name, _)| (*name).to_owned());
        output.line(padded(columns, head))?;
    }
    let text = |name: &str| value.get(name).map_or_else(String::new, plain);
    let last = value.get("last_request").unwrap_or(&Value::Null);
    let of_last = |name: &str| last.get(name).map_or_else(String::new, plain);
    let cells = if asked.unknown {
        vec![
            text("device_id"),
            if text("user").is_empty() {
                of_last("user")
            } else {
                text("user")
            },
            to_the_second(text("first_request")),
            to_the_second(of_last("at")),
            of_last("agent"),
        ]
    } else {
        let why = output::decision(decision);
        let why = why.split_once(", by ").map_or("", |(_, why)| why);
        let verdict = word(decision, "verdict").unwrap_or_default();
        vec![
            text("device_id"),
            text("user"),
            verdict.to_owned(),
            text("live"),
            why.to_owned(),
        ]
    };
    output.line(padded(columns, cells.into_iter()))
}

/// A time as a person reads it, and as its column holds it.
fn to_the_second(time: String) -> String {
    let whole = time
        .parse::<Timestamp>()
        .and_then(|time| Timestamp::from_second(time.as_second()));
    whole.map_or(time, |whole| whole.to_string())
}

/// Whether a decision would refuse, had everything been enforced that is only watched.
fn would_refuse(decision: &Value) -> bool {
    let refuses =
        |decision: &Value| matches!(word(decision, "verdict"), Some("block" | "quarantine"));
    let observed = decision.get("enforced") == Some(&Value::Bool(false));
    observed && refuses(decision) || decision.get("trial").is_some_and(refuses)
}

/// Cells side by side; a cell that is too wide pushes the rest of its line.
fn padded(columns: &[(&str, usize)], cells: impl Iterator<Item = String>) -> String {
    let mut line = String::new();
    for ((_, width), cell) in columns.iter().zip(cells) {
        line.push_str(&format!("{cell:<width$} "));
    }
    line.truncate(line.trim_end().len());
    line
}
