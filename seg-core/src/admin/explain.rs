//! `GET /v1/explain`: every step to a verdict.

use axum::Json;
use axum::extract::State;
use seg_compliance::api::{ExplainStep, Explanation};
use seg_compliance::{Ask, Protocol, Step, Verdict, Via};
use serde_json::json;

use super::endpoints::Api;
use super::error::ApiError;
use super::params::Params;
use super::{Asked, AskedEws};

/// Judges a request that nobody makes, and tells what each step saw.
pub(super) async fn explain(
    State(api): State<Api>,
    mut query: Params,
) -> Result<Json<Explanation>, ApiError> {
    let (device, user) = (query.text("device"), query.text("user"));
    let agent = query.text("agent").unwrap_or_default();
    let device_type = query.text("type").unwrap_or_default();
    let command = query.text("command").unwrap_or_default();
    let (host, path) = (query.text("host"), query.text("path"));
    let (method, version) = (query.text("method"), query.text("version"));
    let address = query.parsed("address")?;
    query.end()?;
    if device.is_none() && user.is_none() {
        return Err(ApiError::bad_request("name a device, a user, or both").about("device"));
    }
    let device_key = device.as_deref().map(|id| api.device(id)).transpose()?;
    let user_key = user.as_deref().map(|name| api.user(name)).transpose()?;
    let ews = api.gateway().ews(&AskedEws {
        command: &command,
        agent: &agent,
        user: user_key.as_ref(),
    });
    let learned = ews.as_ref().and_then(|says| says.device.clone());
    let ask = Ask {
        device: device_key.as_ref().or(learned.as_ref()),
        user: user_key.as_ref(),
        agent: &agent,
        device_type: &device_type,
        protocol: protocol(&command),
        command: &command,
        via: Via {
            address,
            host: host.as_deref().unwrap_or_default(),
            path: path.as_deref().unwrap_or_default(),
            method: method.as_deref().unwrap_or_default(),
            version: version.as_deref().unwrap_or_default(),
            suspect: "",
        },
    };
    let suspect = api.gateway().suspect(&ask);
    let ask = Ask {
        via: Via { suspect, ..ask.via },
        ..ask
    };
    let identity = api.gateway().identity(&Asked {
        device: device.as_deref().zip(device_key.as_ref()),
        user: user.as_deref().zip(user_key.as_ref()),
    });
    let mut explanation = api.gateway().engine().explain(&ask);
    if let Some(says) = ews {
        // Asked last, and by those only whom the steps before have let in.
        if explanation.verdict == Verdict::Allow && says.step.outcome == "block" {
            explanation.verdict = Verdict::Block;
            explanation.step = Step::Policy;
            explanation.rule.clone_from(&says.step.rule);
            explanation.reason.clone_from(&says.step.reason);
        }
        explanation.steps.push(says.step);
    }
    if let (Some(device), Protocol::Eas) = (&device_key, ask.protocol) {
        // What the verdict lets through; it changes none.
        let rules = api.gateway().content(device, ask.user);
        explanation
            .steps
            .extend(rules.into_iter().map(|(rule, does)| ExplainStep {
                step: "content".to_owned(),
                outcome: does,
                rule: Some(rule),
                reason: None,
                line: None,
                saw: serde_json::Map::new(),
            }));
        let rules = api.gateway().folders(device, ask.user);
        explanation.steps.extend(rules.into_iter().map(|says| {
            let saw = says.folders.map(|ids| ("folders".to_owned(), json!(ids)));
            ExplainStep {
                step: "folders".to_owned(),
                outcome: says.action.to_owned(),
                rule: Some(says.rule),
                reason: None,
                line: None,
                saw: saw.into_iter().collect(),
            }
        }));
    }
    Ok(Json(Explanation {
        identity,
        ..explanation
    }))
}

/// A command that ActiveSync does not have is an operation of EWS.
fn protocol(command: &str) -> Protocol {
    if command.is_empty() || seg_eas::Command::from_name(command).is_some() {
        Protocol::Eas
    } else {
        Protocol::Ews
    }
}
