//! The walk with a pen in hand: what each step saw and said.

use serde_json::{Map, Value, json};

use super::{Known, Override, Rules, by_default, by_mdm, by_override};
use crate::api::ExplainStep;
use crate::clock::Clock;
use crate::policy::{PolicyMode, Subject};
use crate::{Ask, Decision, Settings, Step, Verdict};

/// Who listens to a walk.
pub(crate) trait Trace {
    /// The walk has ended with `decision`.
    fn walk(
        &mut self,
        rules: &Rules,
        clock: &dyn Clock,
        ask: &Ask<'_>,
        known: Known<'_>,
        mismatch: bool,
        decision: &Decision,
    );
}

/// Nobody: the path of a request.
pub(crate) struct Silent;

impl Trace for Silent {
    #[inline]
    fn walk(&mut self, _: &Rules, _: &dyn Clock, _: &Ask<'_>, _: Known<'_>, _: bool, _: &Decision) {
    }
}

/// `explain`.
#[derive(Default)]
pub(crate) struct Steps(pub(crate) Vec<ExplainStep>);

impl Trace for Steps {
    fn walk(
        &mut self,
        rules: &Rules,
        clock: &dyn Clock,
        ask: &Ask<'_>,
        known: Known<'_>,
        mismatch: bool,
        decision: &Decision,
    ) {
        let mut decided = None;
        self.push(
            &mut decided,
            Step::Override,
            by_override(clock, known, mismatch),
            override_saw(clock, ask, known, mismatch),
        );
        self.push(
            &mut decided,
            Step::Mdm,
            by_mdm(known),
            mdm_saw(ask, known, mismatch),
        );
        self.policies(&mut decided, rules, ask, known);
        self.push(
            &mut decided,
            Step::Default,
            Some(by_default(rules, known, mismatch)),
            default_saw(&rules.settings, known),
        );
        debug_assert_eq!(decided, Some((decision.step, decision.verdict)));
    }
}

impl Steps {
    fn push(
        &mut self,
        decided: &mut Option<(Step, Verdict)>,
        step: Step,
        said: Option<Decision>,
        saw: Map<String, Value>,
    ) {
        let row = ExplainStep {
            step: step.name().to_owned(),
            outcome: String::new(),
            rule: None,
            reason: None,
            saw,
        };
        self.0.push(match (&decided, said) {
            (Some(_), _) => ExplainStep {
                outcome: "not_reached".to_owned(),
                ..row
            },
            (None, None) => ExplainStep {
                outcome: "none".to_owned(),
                ..row
            },
            (None, Some(said)) => {
                *decided = Some((step, said.verdict));
                ExplainStep {
                    outcome: said.verdict.name().to_owned(),
                    rule: said.rule.as_deref().map(str::to_owned),
                    reason: said.reason.as_deref().map(str::to_owned),
                    ..row
                }
            }
        });
    }

    /// One row a policy, or one that says there is none.
    fn policies(
        &mut self,
        decided: &mut Option<(Step, Verdict)>,
        rules: &Rules,
        ask: &Ask<'_>,
        known: Known<'_>,
    ) {
        if rules.policies.is_empty() {
            self.push(
                decided,
                Step::Policy,
                None,
                object(json!({ "policies": 0 })),
            );
        }
        let subject = Subject {
            ask,
            facts: known.facts,
        };
        for policy in rules.policies.iter() {
            let fires = policy.fires(&subject);
            let outcome = match (&decided, fires, policy.mode()) {
                (Some(_), _, _) => "not_reached".to_owned(),
                (None, false, _) => "none".to_owned(),
                (None, true, PolicyMode::Test) => format!("test:{}", policy.action().name()),
                (None, true, PolicyMode::Enforce) => policy.action().name().to_owned(),
            };
            let speaks = fires && decided.is_none();
            self.0.push(ExplainStep {
                step: Step::Policy.name().to_owned(),
                outcome,
                rule: Some(policy.id().to_string()),
                reason: speaks.then(|| policy.reason().unwrap_or_else(|| policy.id()).to_string()),
                saw: policy.saw(&subject),
            });
            if let (true, Some(verdict)) = (speaks, policy.verdict()) {
                *decided = Some((Step::Policy, verdict));
            }
        }
    }
}

/// The first row of a request without a device: which devices it was judged by.
pub(crate) fn user_row(
    settings: &Settings,
    verdicts: &[(String, Verdict)],
    outcome: Verdict,
) -> ExplainStep {
    let devices: Vec<Value> = verdicts
        .iter()
        .map(|(device, verdict)| json!({ "device": device, "verdict": verdict }))
        .collect();
    ExplainStep {
        step: "user".to_owned(),
        outcome: outcome.name().to_owned(),
        rule: None,
        reason: None,
        saw: object(json!({ "user_mode": settings.user_mode, "devices": devices })),
    }
}

fn override_saw(
    clock: &dyn Clock,
    ask: &Ask<'_>,
    known: Known<'_>,
    mismatch: bool,
) -> Map<String, Value> {
    let show = |set: Option<&Override>| {
        set.map(|set| {
            json!({
                "verdict": set.verdict,
                "reason": set.reason.as_deref(),
                "expires": set.expires,
                "expired": set.expired(clock),
            })
        })
    };
    let mut saw = object(json!({
        "device": show(known.device),
        "user": show(known.user),
    }));
    if mismatch {
        saw.insert("user_mismatch".to_owned(), json!(ask.user));
    }
    saw
}

fn mdm_saw(ask: &Ask<'_>, known: Known<'_>, mismatch: bool) -> Map<String, Value> {
    match known.facts {
        Some(facts) => object(json!({
            "known": true,
            "user": facts.user,
            "verdict": facts.verdict,
            "reason": facts.reason.as_deref(),
            "compliant": facts.compliant,
            "source": facts.source.as_ref().map(|source| source.as_str()),
            "updated": facts.updated.get(),
        })),
        None => object(json!({
            "known": false,
            "user_mismatch": mismatch,
            "device": ask.device,
        })),
    }
}

fn default_saw(settings: &Settings, known: Known<'_>) -> Map<String, Value> {
    object(match known.facts {
        Some(_) => json!({ "compliance.known.device": settings.known_device }),
        None => json!({ "compliance.unknown.device": settings.unknown_device }),
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
