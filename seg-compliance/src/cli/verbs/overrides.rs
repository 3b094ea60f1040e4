//! `block`, `allow`, `quarantine`, `unblock`.

use serde_json::{Value, json};

use super::found;
use crate::cli::Outcome;
use crate::cli::client::{Answer, Client};
use crate::cli::failure::Failure;
use crate::cli::job::{Override, Target, segment};
use crate::cli::output::{self, Output};

/// Sets an override.
pub(super) fn set(
    set: &Override,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let mut body = json!({ "verdict": set.verdict });
    if let Some(reason) = &set.reason {
        body["reason"] = json!(reason);
    }
    if let Some(expires) = &set.expires {
        body["expires"] = json!(expires.to_string());
    }
    let answer = client.put(&set.target.override_path(), &body)?;
    print(&set.target, &answer, output)?;
    Ok(Outcome::Done)
}

/// Deletes the override; the verdict that now holds may still be a refusal.
pub(super) fn unblock(
    target: &Target,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let answer = client.delete(&target.override_path())?;
    print(target, &answer, output)?;
    match answer.json.get("decision") {
        Some(decision) if output::allows(decision) => Ok(Outcome::Done),
        _ => Ok(Outcome::Findings),
    }
}

/// Deletes a binding.
pub(super) fn unbind(
    device: &str,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let answer = client.delete(&format!("/v1/devices/{}/binding", segment(device)));
    let Some(answer) = found(answer, output)? else {
        return Ok(Outcome::Findings);
    };
    if output.json() {
        output.line(answer.text.trim_end())?;
    } else {
        output.line(format_args!(
            "{}: bound to nobody; its next use binds it",
            output::printable(device)
        ))?;
    }
    Ok(Outcome::Done)
}

fn print(target: &Target, answer: &Answer, output: &mut Output<'_>) -> Result<(), Failure> {
    if output.json() {
        return output.line(answer.text.trim_end());
    }
    let decision = answer.json.get("decision").unwrap_or(&Value::Null);
    output.line(format_args!(
        "{}: {}",
        output::printable(&target.to_string()),
        output::decision(decision)
    ))?;
    match answer.json.get("cut").and_then(Value::as_u64) {
        None | Some(0) => Ok(()),
        Some(1) => output.line("1 request in flight is cut"),
        Some(cut) => output.line(format_args!("{cut} requests in flight are cut")),
    }
}
