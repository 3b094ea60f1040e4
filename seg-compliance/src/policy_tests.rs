//! Tests of policies: cases in a file, each a record, a request and what is expected of them.
//!
//! ```toml
//! [[case]]
//! name = "old iPhones are blocked"
//! now = "2026-11-22T09:00:00Z"
//! user = "alice@corp.example"
//! record = { platform = "ios", os_version = "16.7" }
//! request = { user_agent = "Apple-iPhone", command = "Sync", address = "192.0.2.1" }
//! expect = "block"
//! rule = "ios-min"
//! ```
//!
//! With `request` the case is a request, and what is not named there its client has not said; without
//! one nobody asks for anything. Without `record` the device is unknown; `user` is also the owner of the record unless that names
//! one. `known` and `unknown` are `compliance.known.device` and `compliance.unknown.device`.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use crate::clock::ManualClock;
use crate::record::Patch;
use crate::{Ask, DeviceKey, Engine, Policies, Protocol, Settings, UserKey, Verdict, Via};

/// Most cases of one file.
const CASES_MAX: usize = 10_000;

/// A case that was run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Its name.
    pub name: String,
    /// What was found instead of what was expected.
    pub failure: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    now: Option<toml::Value>,
    device: Option<DeviceKey>,
    user: Option<UserKey>,
    record: Option<toml::Table>,
    request: Option<Request>,
    #[serde(default = "allow")]
    known: Verdict,
    #[serde(default = "block")]
    unknown: Verdict,
    expect: Verdict,
    rule: Option<String>,
    trial: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Request {
    user_agent: String,
    device_type: String,
    protocol: Option<Protocol>,
    command: String,
    address: Option<IpAddr>,
    host: String,
    path: String,
    method: Option<String>,
    protocol_version: String,
    suspect: String,
}

const fn allow() -> Verdict {
    Verdict::Allow
}

const fn block() -> Verdict {
    Verdict::Block
}

/// Runs the cases of a file.
///
/// # Errors
/// The file is no TOML, or a case in it is not right.
pub fn run(policies: &Policies, text: &str) -> Result<Vec<Ran>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    if file.case.len() > CASES_MAX {
        return Err(format!("more than {CASES_MAX} cases"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| error.to_string())?;
    file.case
        .into_iter()
        .map(|case| {
            let name = case.name.clone();
            let failure = runtime
                .block_on(try_case(policies, case))
                .map_err(|error| format!("case {name:?}: {error}"))?;
            Ok(Ran { name, failure })
        })
        .collect()
}

async fn try_case(policies: &Policies, case: Case) -> Result<Option<String>, String> {
    let now = case.now.map(text_of_time);
    let now = now.map(|now| now.as_str().unwrap_or_default().parse());
    let now = now.transpose().map_err(|error| format!("now: {error}"))?;
    let clock = ManualClock::new(now.unwrap_or_else(Timestamp::now));
    let settings = Settings {
        known_device: case.known,
        unknown_device: case.unknown,
        ..Settings::default()
    };
    let engine = Engine::in_memory_at(settings, Arc::new(clock));
    let device = match case.device {
        Some(device) => device,
        None => DeviceKey::new("CASE").map_err(|error| error.to_string())?,
    };
    if let Some(record) = case.record {
        let record = record.into_iter();
        let record: toml::Table = record
            .map(|(name, value)| (name, text_of_time(value)))
            .collect();
        let json = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
        let (_, mut patch) = Patch::from_json(&json)?;
        if patch.user.is_none() {
            patch.user = Some(case.user.clone());
        }
        let put = engine.put_record(&device, &patch).await;
        put.map_err(|error| error.to_string())?;
    }
    engine.configure(settings, policies.clone(), &[]);
    // What a client does not say in a request it keeps to itself; without one nobody was asked.
    let asks = case.request.is_some();
    let request = &case.request.unwrap_or_default();
    let method = request.method.as_deref();
    let method = method.or_else(|| asks.then_some("POST"));
    let decision = engine.decide(&Ask {
        device: Some(&device),
        user: case.user.as_ref(),
        agent: &request.user_agent,
        device_type: &request.device_type,
        protocol: request.protocol.unwrap_or(Protocol::Eas),
        command: &request.command,
        via: Via {
            address: request.address,
            host: &request.host,
            path: &request.path,
            method: method.unwrap_or_default(),
            version: &request.protocol_version,
            suspect: &request.suspect,
        },
    });
    let (rule, reason) = (decision.rule.as_deref(), decision.reason.as_deref());
    let trial = decision.trial.as_ref().map(|trial| &*trial.rule);
    let rule_fits = case.rule.is_none() || case.rule.as_deref() == rule;
    let trial_fits = case.trial.is_none() || case.trial.as_deref() == trial;
    if decision.verdict == case.expect && rule_fits && trial_fits {
        return Ok(None);
    }
    let step = decision.step.name();
    let tried = trial.map_or_else(String::new, |trial| format!(", tried {trial}"));
    Ok(Some(format!(
        "{} by {step}{}{}{tried}, where {} was expected",
        decision.verdict,
        rule.map_or_else(String::new, |rule| format!(" {rule}")),
        reason.map_or_else(String::new, |reason| format!(": {reason}")),
        case.expect,
    )))
}

/// TOML has times of its own; records write them as text.
fn text_of_time(value: toml::Value) -> toml::Value {
    match value {
        toml::Value::Datetime(time) => toml::Value::String(time.to_string()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_pass_and_fail_with_words() {
        let policies = Policies::parse(
            "[[policy]]\nid=\"old\"\nwhen={platform=\"ios\",os_version_below=\"17\"}\naction=\"block\"\n\
             [[policy]]\nid=\"nameless\"\nwhen={user_agent_not=\"*\"}\naction=\"block\"\n\
             [[policy]]\nid=\"silent\"\nwhen={inactive_days=30}\naction=\"quarantine\"\nmode=\"test\"\n",
        )
        .unwrap();
        let text = r#"
            [[case]]
            name = "old iPhones are blocked"
            user = "alice@corp.example"
            record = { platform = "ios", os_version = "16.7" }
            expect = "block"
            rule = "old"
            [[case]]
            name = "strangers are blocked"
            request = { user_agent = "curl/8", address = "192.0.2.1" }
            expect = "block"
            [[case]]
            name = "a request says who it is, or says it not"
            record = { platform = "ios", os_version = "18" }
            request = { command = "Sync" }
            expect = "block"
            rule = "nameless"
            [[case]]
            name = "silence is only tried"
            now = 2026-11-22T00:00:00Z
            record = { last_seen = 2026-01-01T00:00:00Z }
            expect = "allow"
            trial = "silent"
            [[case]]
            name = "wrong"
            record = { platform = "android" }
            expect = "block"
        "#;
        let ran = run(&policies, text).unwrap();
        let failures: Vec<_> = ran
            .iter()
            .filter_map(|case| case.failure.as_deref())
            .collect();
        assert_eq!(failures, ["allow by default, where block was expected"]);
        assert_eq!(ran.len(), 5);
        for wrong in [
            "[[case]]\nname=\"a\"",
            "[[case]]\nname=\"a\"\nexpect=\"allow\"\nnow=\"yesterday\"",
            "[[case]]\nname=\"a\"\nexpect=\"allow\"\nnow=1",
            "[[case]]\nname=\"a\"\nexpect=\"allow\"\nrecord={jailbroken=true}",
        ] {
            assert!(run(&policies, wrong).is_err());
        }
    }
}
