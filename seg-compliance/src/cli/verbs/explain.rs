//! `explain`.

use serde_json::Value;

use crate::cli::Outcome;
use crate::cli::args::Explain;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output::{self, Output, plain, word};

/// Prints every step to the verdict with what it saw.
pub(super) fn explain(
    asked: &Explain,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let query: Vec<(&str, &str)> = [
        ("device", &asked.device),
        ("user", &asked.user),
        ("agent", &asked.agent),
        ("type", &asked.device_type),
        ("command", &asked.command),
        ("address", &asked.address),
        ("host", &asked.host),
        ("path", &asked.path),
        ("method", &asked.method),
        ("version", &asked.protocol_version),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value.as_deref()?)))
    .collect();
    let answer = client.get("/v1/explain", &query)?;
    let known = answer.json.get("known") != Some(&Value::Bool(false));
    if output.json() {
        output.line(answer.text.trim_end())?;
    } else {
        print(&answer.json, output)?;
    }
    if known {
        return Ok(Outcome::Done);
    }
    output.complain("no record of this device");
    Ok(Outcome::Findings)
}

fn print(explanation: &Value, output: &mut Output<'_>) -> Result<(), Failure> {
    output.line(format_args!("verdict: {}", output::decision(explanation)))?;
    if let Some(identity) = explanation.get("identity").and_then(Value::as_object) {
        for (name, value) in identity.iter().filter(|(_, value)| !value.is_null()) {
            output.line(format_args!("{name}: {}", plain(value)))?;
        }
    }
    let steps = explanation.get("steps").and_then(Value::as_array);
    for (number, step) in steps.into_iter().flatten().enumerate() {
        output.line(format_args!(
            "{}. {}: {}",
            number + 1,
            word(step, "step").unwrap_or("step"),
            grounds(step)
        ))?;
        let saw = step.get("saw").and_then(Value::as_object);
        for (name, value) in saw.into_iter().flatten() {
            output.line(format_args!("     {name}: {}", plain(value)))?;
        }
    }
    Ok(())
}

fn grounds(step: &Value) -> String {
    let mut text = step.get("outcome").map_or_else(String::new, plain);
    if let Some(rule) = word(step, "rule") {
        text.push_str(&format!(", rule {rule}"));
    }
    if let Some(line) = step.get("line").and_then(Value::as_u64) {
        text.push_str(&format!(" (line {line})"));
    }
    if let Some(reason) = word(step, "reason") {
        text.push_str(&format!(", {reason}"));
    }
    output::printable(&text)
}
