//! Facts that grow too old: what holds then is what the words of the policies and the settings say,
//! for every way to ask, and it is over as soon as the source speaks again.

use proptest::prelude::*;

use super::*;
use crate::{Policies, StaleAnswer, Step};

#[derive(Clone, Debug)]
struct World {
    answer: StaleAnswer,
    policies: Vec<Said>,
    ios: bool,
    encrypted: bool,
    sales: bool,
    /// What the management system has pushed.
    pushed: Option<Verdict>,
    agent: &'static str,
    command: &'static str,
}

#[derive(Clone, Debug)]
struct Said {
    conditions: Vec<usize>,
    /// For one group only.
    scoped: bool,
    action: Verdict,
    test: bool,
    stale: Option<StaleAnswer>,
}

type Holds = fn(&World) -> bool;

/// Conditions, whether they read the record, and what they mean.
const CONDITIONS: [(&str, bool, Holds); 8] = [
    ("platform=\"ios\"", true, |world| world.ios),
    ("encrypted=false", true, |world| !world.encrypted),
    ("group=\"Sales\"", true, |world| world.sales),
    ("known=true", true, |_| true),
    ("command=\"Ping\"", false, |world| world.command == "Ping"),
    ("user_agent=\"curl*\"", false, |world| {
        world.agent == "curl/8"
    }),
    ("from=2020-01-01T00:00:00Z", false, |_| true),
    (
        "cel=\"device.known && request.command == 'Ping'\"",
        true,
        |world| world.command == "Ping",
    ),
];

impl Said {
    fn text(&self, index: usize) -> String {
        let when: Vec<&str> = self.conditions.iter().map(|at| CONDITIONS[*at].0).collect();
        let stale = self
            .stale
            .map(|stale| format!("stale=\"{}\"\n", stale.name()));
        format!(
            "[[policy]]\nid=\"p{index}\"\nwhen={{{}}}\naction=\"{}\"\nmode=\"{}\"\n{}{}",
            when.join(","),
            self.action.name(),
            if self.test { "test" } else { "enforce" },
            if self.scoped {
                "scope={groups=[\"Sales\"]}\n"
            } else {
                ""
            },
            stale.unwrap_or_default(),
        )
    }

    /// The verdict it gives, and whether that is because of its facts' age.
    fn says(&self, world: &World, old: bool) -> Option<(Verdict, bool)> {
        let holds = |at: &&usize| CONDITIONS[**at].2(world);
        let reads = |at: &&usize| CONDITIONS[**at].1;
        let ages = self.scoped || self.conditions.iter().any(|at| CONDITIONS[*at].1);
        let answer = self.stale.unwrap_or(world.answer);
        if !(old && ages) || answer == StaleAnswer::LastKnown {
            let fires =
                self.conditions.iter().all(|at| holds(&at)) && (!self.scoped || world.sales);
            return fires.then_some((self.action, false));
        }
        let rest = self
            .conditions
            .iter()
            .filter(|at| !reads(at))
            .all(|at| holds(&at));
        (answer == StaleAnswer::Block && rest).then_some((Verdict::Block, true))
    }
}

impl World {
    fn expected(&self, old: bool) -> (Verdict, Step, Option<String>, Option<String>) {
        if let Some(pushed @ (Verdict::Block | Verdict::Quarantine)) = self.pushed {
            return (pushed, Step::Mdm, None, None);
        }
        for (index, said) in self
            .policies
            .iter()
            .enumerate()
            .filter(|(_, said)| !said.test)
        {
            if let Some((verdict, aged)) = said.says(self, old) {
                let id = format!("p{index}");
                let reason = if aged {
                    "stale_facts".to_owned()
                } else {
                    id.clone()
                };
                return (verdict, Step::Policy, Some(id), Some(reason));
            }
        }
        if old && self.answer == StaleAnswer::Block {
            return (
                Verdict::Block,
                Step::Default,
                None,
                Some("stale_facts".to_owned()),
            );
        }
        (Verdict::Allow, Step::Default, None, None)
    }

    fn record(&self) -> String {
        let pushed = self
            .pushed
            .map_or_else(|| "null".to_owned(), |verdict| format!("\"{verdict}\""));
        format!(
            "{{\"device_id\":\"d1\",\"user\":\"alice\",\"platform\":\"{}\",\"encrypted\":{},\
             \"groups\":[{}],\"verdict\":{pushed}}}",
            if self.ios { "ios" } else { "android" },
            self.encrypted,
            if self.sales {
                "\"Sales\""
            } else {
                "\"Support\""
            },
        )
    }
}

fn answers() -> impl Strategy<Value = StaleAnswer> {
    prop_oneof![
        Just(StaleAnswer::LastKnown),
        Just(StaleAnswer::Block),
        Just(StaleAnswer::Allow)
    ]
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Allow),
        Just(Verdict::Block),
        Just(Verdict::Quarantine)
    ]
}

fn worlds() -> impl Strategy<Value = World> {
    let conditions = proptest::sample::subsequence((0..CONDITIONS.len()).collect::<Vec<_>>(), 0..3);
    let said = (
        conditions,
        any::<bool>(),
        verdicts(),
        any::<bool>(),
        proptest::option::of(answers()),
    )
        .prop_map(|(conditions, scoped, action, test, stale)| Said {
            conditions,
            scoped,
            action,
            test,
            stale,
        });
    (
        answers(),
        proptest::collection::vec(said, 0..5),
        any::<[bool; 3]>(),
        proptest::option::weighted(0.2, verdicts()),
        prop_oneof![Just("curl/8"), Just("Apple-iPhone/1")],
        prop_oneof![Just("Ping"), Just("Sync")],
    )
        .prop_map(
            |(answer, policies, [ios, encrypted, sales], pushed, agent, command)| World {
                answer,
                policies,
                ios,
                encrypted,
                sales,
                pushed,
                agent,
                command,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]

    #[test]
    fn whoever_asks_hears_the_same_of_facts_that_are_too_old(world in worlds()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let settings = Settings {
            stale_after: Some(60),
            stale: world.answer,
            ..Settings::default()
        };
        let bench = bench(settings);
        let said: String = world.policies.iter().enumerate().map(|(at, said)| said.text(at)).collect();
        let policies = Policies::parse(&said).unwrap();
        bench.engine.configure(settings, policies, &[]);
        runtime.block_on(bench.report("uem", &[&world.record()]));
        let (d1, alice) = (key("d1"), user("alice"));
        let asked = Ask {
            agent: world.agent,
            command: world.command,
            via: crate::Via { method: "POST", ..crate::Via::default() },
            ..ask(Some(&d1), Some(&alice))
        };
        for (hour, old) in [false, true, false].into_iter().enumerate() {
            match hour {
                1 => bench.clock.advance(3_600_000),
                2 => runtime.block_on(bench.report("uem", &[])),
                _ => {}
            }
            bench.tick();
            let (verdict, step, rule, reason) = world.expected(old);
            for _ in 0..2 {
                let decision = bench.engine.decide(&asked);
                let found = (decision.verdict, decision.step);
                prop_assert_eq!(found, (verdict, step), "old: {}\n{}", old, said);
                prop_assert_eq!(decision.rule.as_deref(), rule.as_deref());
                prop_assert_eq!(decision.reason.as_deref(), reason.as_deref());
                match bench.engine.admit(&asked, 0, 1, Timestamp::UNIX_EPOCH, None) {
                    Admission::Granted(_, admitted) | Admission::Denied(admitted) => {
                        prop_assert_eq!(&admitted, &decision);
                    }
                }
            }
            let explained = bench.engine.explain(&asked);
            prop_assert_eq!((explained.verdict, explained.step), (verdict, step));
            prop_assert_eq!((explained.rule, explained.reason), (rule, reason));
            let deciding: Vec<_> = explained
                .steps
                .iter()
                .filter(|row| row.outcome.parse::<Verdict>().is_ok())
                .map(|row| (row.step.as_str(), row.outcome.as_str()))
                .collect();
            prop_assert_eq!(deciding, [(step.name(), verdict.name())]);
            // It says of every policy that reads the record what holds for its age.
            for (said, row) in world.policies.iter().zip(
                explained.steps.iter().filter(|row| row.rule.is_some() && row.line.is_some()),
            ) {
                let ages = said.scoped || said.conditions.iter().any(|at| CONDITIONS[*at].1);
                let answer = said.stale.unwrap_or(world.answer).name();
                let told = row.saw.get("stale").and_then(|answer| answer.as_str());
                prop_assert_eq!(told, (old && ages).then_some(answer));
            }
        }
    }
}
