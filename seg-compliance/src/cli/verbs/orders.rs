//! `wipe`, `resync`, `reprovision`.

use serde_json::{Value, json};

use super::found;
use crate::cli::Outcome;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::job::{Order, segment};
use crate::cli::output::{self, Output};

/// Gives a device an order, or takes it back.
pub(super) fn give(
    order: &Order,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let device = segment(&order.device);
    let answer = if order.cancel {
        let answer = client.delete(&format!("/v1/devices/{device}/order"));
        let Some(answer) = found(answer, output)? else {
            return Ok(Outcome::Findings);
        };
        answer
    } else {
        let mut body = json!({ "account_only": order.account_only });
        if let Some(user) = &order.user {
            body["user"] = json!(user);
        }
        if let Some(reason) = &order.reason {
            body["reason"] = json!(reason);
        }
        client.post_json(&format!("/v1/devices/{device}:{}", order.action), &body)?
    };
    if output.json() {
        output.line(answer.text.trim_end())?;
        return Ok(Outcome::Done);
    }
    let what = match (order.cancel, order.account_only) {
        (true, _) => format!("{} is taken back", order.action),
        (false, true) => "a wipe of the account is ordered".to_owned(),
        (false, false) => format!("{} is ordered", order.action),
    };
    output.line(format_args!("{}: {what}", output::printable(&order.device)))?;
    match answer.json.get("cut").and_then(Value::as_u64) {
        None | Some(0) => {}
        Some(cut) => output.line(format_args!("in flight and cut: {cut}"))?,
    }
    Ok(Outcome::Done)
}
