//! The walk with a pen in hand: what each step saw and said.

use serde_json::{Map, Value, json};

use super::{Case, Override};
use crate::api::ExplainStep;
use crate::clock::from_millisecond;
use crate::intern::Symbol;
use crate::policy::{Fires, PolicyMode};
use crate::record::{Flag, PackedTime};
use crate::{Decision, Settings, Step, Verdict};

/// `explain`.
#[derive(Default)]
pub(crate) struct Steps(pub(crate) Vec<ExplainStep>);

impl Steps {
    /// The walk has ended with `decision`.
    pub(super) fn walk(&mut self, case: &Case<'_>, decision: &Decision) {
        let mut decided = None;
        let said = case.by_override();
        self.push(&mut decided, Step::Override, said, override_saw(case));
        self.push(&mut decided, Step::Mdm, case.by_mdm(), mdm_saw(case));
        let suspect = case.subject.ask.via.suspect;
        if !suspect.is_empty() {
            let answer = case.rules.settings.suspect.map_or("report", Verdict::name);
            let saw = object(json!({ "suspect": suspect, "binding.suspect": answer }));
            self.push(&mut decided, Step::Policy, case.by_suspicion(), saw);
        }
        self.policies(&mut decided, case);
        let said = Some(case.by_default());
        self.push(&mut decided, Step::Default, said, default_saw(case));
        debug_assert_eq!(decided, Some((decision.step, decision.verdict)));
    }

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
            line: None,
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
    fn policies(&mut self, decided: &mut Option<(Step, Verdict)>, case: &Case<'_>) {
        if case.rules.policies.is_empty() {
            self.push(
                decided,
                Step::Policy,
                None,
                object(json!({ "policies": 0 })),
            );
        }
        for policy in case.rules.policies.iter() {
            let fires = policy.outcome(&case.subject, case.moment);
            let verdict = match fires {
                Fires::Stale => Some(Verdict::Block),
                _ => policy.action().verdict(),
            };
            let named = verdict.map_or_else(|| policy.action().name(), Verdict::name);
            let outcome = match (&decided, fires, policy.mode()) {
                (Some(_), _, _) => "not_reached".to_owned(),
                (None, Fires::No, _) => "none".to_owned(),
                (None, _, PolicyMode::Test) => format!("test:{named}"),
                (None, _, PolicyMode::Enforce) => named.to_owned(),
            };
            let speaks = fires != Fires::No && decided.is_none();
            let reason = || match fires {
                Fires::Stale => super::STALE_FACTS.to_string(),
                _ => policy.reason().unwrap_or_else(|| policy.id()).to_string(),
            };
            self.0.push(ExplainStep {
                step: Step::Policy.name().to_owned(),
                outcome,
                rule: Some(policy.id().to_string()),
                reason: speaks.then(reason),
                line: Some(policy.line() as u64),
                saw: policy.saw(&case.subject, case.moment),
            });
            if let (true, PolicyMode::Enforce, Some(verdict)) = (speaks, policy.mode(), verdict) {
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
        line: None,
        saw: object(json!({ "user_mode": settings.user_mode, "devices": devices })),
    }
}

fn override_saw(case: &Case<'_>) -> Map<String, Value> {
    let show = |set: Option<&Override>| {
        set.map(|set| {
            json!({
                "verdict": set.verdict,
                "reason": set.reason.as_deref(),
                "expires": set.expires,
                "expired": set.expired(case.moment),
            })
        })
    };
    let mut saw = object(json!({
        "device": show(case.known.device),
        "user": show(case.known.user),
    }));
    if case.mismatch {
        saw.insert("user_mismatch".to_owned(), json!(case.subject.ask.user));
    }
    saw
}

fn mdm_saw(case: &Case<'_>) -> Map<String, Value> {
    let age = |time: PackedTime| {
        let time = time.millisecond();
        time.map(|time| (case.moment.now() - time) / 1_000)
    };
    match case.known.facts {
        Some(facts) => object(json!({
            "known": true,
            "user": facts.user,
            "verdict": facts.verdict,
            "reason": facts.reason.as_ref().map(Symbol::as_str),
            "compliant": facts.flag(Flag::Compliant),
            "source": facts.source.as_ref().map(Symbol::as_str),
            "updated": facts.updated.get(),
            "updated_age_seconds": age(facts.updated),
            "last_seen": facts.last_seen.get(),
            "last_seen_age_seconds": age(facts.last_seen),
        })),
        None => object(json!({
            "known": false,
            "user_mismatch": case.mismatch,
            "device": case.subject.ask.device,
        })),
    }
}

fn default_saw(case: &Case<'_>) -> Map<String, Value> {
    let settings = &case.rules.settings;
    let mut saw = object(match case.known.facts {
        Some(_) => json!({ "compliance.known.device": settings.known_device }),
        None => json!({ "compliance.unknown.device": settings.unknown_device }),
    });
    if let Some(facts) = case.known.facts
        && let Some(age) = case.rules.age(facts)
    {
        saw.insert("stale".to_owned(), case.subject.stale.is_some().into());
        let since = from_millisecond(age.until).to_string();
        saw.insert("stale_from".to_owned(), since.into());
        if case.subject.stale.is_some() {
            saw.insert("compliance.stale.answer".to_owned(), json!(settings.stale));
        }
    }
    saw
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
