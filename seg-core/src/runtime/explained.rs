//! What `[ews]` says to an operation, for `explain`.

use seg_compliance::UserKey;
use seg_compliance::api::ExplainStep;
use seg_ews::Operation;
use seg_ews::policy::{ClientClass, Rung, Sender};
use serde_json::{Map, Value, json};

use super::Shared;
use crate::admin::{AskedEws, EwsSays};
use crate::protocol::ews::USER_RUNG;

/// An address that no network of a rule holds: whoever asks has none.
const NOWHERE: std::net::IpAddr = std::net::IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);

/// The step of `[ews]`; `None` where the command is none of EWS.
pub(super) fn ews(shared: &Shared, asked: &AskedEws<'_>) -> Option<EwsSays> {
    let operation = Operation::from_name(asked.command)?;
    let snapshot = shared.snapshot();
    let policy = &snapshot.ews_settings.policy;
    let class = policy.class(&Sender {
        address: NOWHERE,
        agent: asked.agent,
        certificate: None,
    });
    let rules = policy.of(class);
    let denial = rules.judge_operation(operation).err();
    let learned = learned(shared, asked.user, &rules.rungs);
    let by_class: Map<String, Value> = ClientClass::ALL
        .into_iter()
        .map(|class| {
            let said = policy.of(class).judge_operation(operation);
            let said = said.map_or_else(|denial| denial.reason(), |()| "allow");
            (class.name().to_owned(), said.into())
        })
        .collect();
    let ladder = rules.rungs.iter().map(Rung::to_string);
    let ladder: Vec<String> = ladder.chain([USER_RUNG.to_owned()]).collect();
    let saw = json!({
        "client_class": class.name(),
        "operation": operation.name(),
        "group": operation.group().name(),
        "classes": by_class,
        "device_from": ladder,
        "learned_device": learned,
    });
    Some(EwsSays {
        step: ExplainStep {
            step: "ews".to_owned(),
            outcome: if denial.is_some() { "block" } else { "none" }.to_owned(),
            rule: denial.map(|_| format!("ews.{}", class.name())),
            reason: denial.map(|denial| denial.reason().to_owned()),
            line: None,
            saw: saw.as_object().cloned().unwrap_or_default(),
        },
        device: learned,
    })
}

fn learned(
    shared: &Shared,
    user: Option<&UserKey>,
    rungs: &[Rung],
) -> Option<seg_compliance::DeviceKey> {
    let user = user.filter(|_| rungs.contains(&Rung::Learned))?;
    shared.ews.only_device(user)
}
