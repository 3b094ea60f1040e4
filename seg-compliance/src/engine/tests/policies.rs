//! Random policies on random devices, asked in random ways while time passes: what is remembered
//! of a device, what is judged anew, what is admitted and what is explained is always the same, and
//! it is what the plain words of the policies say.

use proptest::prelude::*;

use super::*;
use crate::{Policies, Step};

/// A moment in a run.
#[derive(Clone, Debug)]
struct Now {
    platform: Option<&'static str>,
    encrypted: Option<bool>,
    /// Hours since it was last seen, at the start.
    silent: Option<i64>,
    owner: Option<&'static str>,
    agent: &'static str,
    command: &'static str,
    address: Option<&'static str>,
    /// Whether it is a request, or a question without one.
    asked: bool,
    /// Hours since the start.
    hours: i64,
}

type Holds = fn(&Now) -> bool;

/// Conditions, and what they mean.
const CONDITIONS: [(&str, Holds); 14] = [
    ("", |_| true),
    ("platform=\"ios\"", |now| now.platform == Some("ios")),
    ("platform_not=\"ios\"", |now| {
        now.platform.is_some_and(|it| it != "ios")
    }),
    ("encrypted=false", |now| now.encrypted == Some(false)),
    ("inactive_days=2", |now| {
        now.silent.is_some_and(|hours| hours + now.hours >= 48)
    }),
    ("user=\"alice\"", |_| true),
    ("user_agent=\"curl*\"", |now| now.agent.starts_with("curl")),
    ("user_agent_not=\"curl*\"", |now| {
        (now.asked || !now.agent.is_empty()) && !now.agent.starts_with("curl")
    }),
    ("command=[\"Ping\",\"Sync\"]", |now| {
        matches!(now.command, "Ping" | "Sync")
    }),
    ("network=\"10.0.0.0/8\"", |now| {
        now.address == Some("10.1.1.1")
    }),
    // The clock starts at eight in the morning.
    ("window={from=\"08:00\",to=\"20:00\"}", |now| {
        now.hours % 24 < 12
    }),
    (
        "cel=\"device.platform == 'ios' || request.command == 'Ping'\"",
        |now| now.platform == Some("ios") || now.command == "Ping",
    ),
    (
        "cel=\"now - device.last_seen > duration('24h') && !(device.encrypted == true)\"",
        |now| {
            now.silent.is_some_and(|hours| hours + now.hours > 24) && now.encrypted == Some(false)
        },
    ),
    ("before=2027-01-16T08:00:00Z", |now| now.hours < 24),
];

#[derive(Clone, Debug)]
struct Said {
    conditions: Vec<usize>,
    action: Option<Verdict>,
    test: bool,
    scope: bool,
}

impl Said {
    fn text(&self, index: usize) -> String {
        let when: Vec<&str> = self
            .conditions
            .iter()
            .map(|at| CONDITIONS[*at].0)
            .filter(|text| !text.is_empty())
            .collect();
        format!(
            "[[policy]]\nid=\"p{index}\"\nwhen={{{}}}\naction=\"{}\"\nmode=\"{}\"\n{}",
            when.join(","),
            self.action.map_or("notify", Verdict::name),
            if self.test { "test" } else { "enforce" },
            if self.scope {
                "scope={users=[\"ali*\"],devices=[\"X*\"]}\n"
            } else {
                ""
            },
        )
    }

    fn fires(&self, now: &Now) -> bool {
        self.conditions.iter().all(|at| CONDITIONS[*at].1(now))
    }
}

fn expected(policies: &[Said], now: &Now) -> (Verdict, Step, Option<String>, Option<String>) {
    let mut trial = None;
    for (index, policy) in policies.iter().enumerate() {
        let Some(verdict) = policy.action.filter(|_| policy.fires(now)) else {
            continue;
        };
        let name = format!("p{index}");
        if policy.test {
            trial.get_or_insert(name);
        } else {
            return (verdict, Step::Policy, Some(name), trial);
        }
    }
    (Verdict::Allow, Step::Default, None, trial)
}

fn policies() -> impl Strategy<Value = Vec<Said>> {
    // No key stands twice in one policy.
    let conditions = proptest::sample::subsequence((0..CONDITIONS.len()).collect::<Vec<_>>(), 0..3)
        .prop_filter("a key stands once", |chosen| {
            !(chosen.contains(&11) && chosen.contains(&12))
        });
    let action = prop_oneof![
        Just(None),
        Just(Some(Verdict::Allow)),
        Just(Some(Verdict::Block)),
        Just(Some(Verdict::Quarantine))
    ];
    let policy = (conditions, action, any::<bool>(), any::<bool>()).prop_map(
        |(conditions, action, test, scope)| Said {
            conditions,
            action,
            test,
            scope,
        },
    );
    proptest::collection::vec(policy, 0..6)
}

fn moments() -> impl Strategy<Value = Vec<(Now, bool)>> {
    let now = (
        proptest::option::of(prop_oneof![Just("ios"), Just("android")]),
        proptest::option::of(any::<bool>()),
        proptest::option::of(0_i64..60),
        proptest::option::of(Just("alice")),
        prop_oneof![Just(""), Just("curl/8"), Just("Apple-iPhone/1")],
        prop_oneof![Just("Ping"), Just("Sync"), Just("FolderSync")],
        proptest::option::of(prop_oneof![Just("10.1.1.1"), Just("192.0.2.1")]),
        any::<bool>(),
        0_i64..30,
    )
        .prop_map(
            |(platform, encrypted, silent, owner, agent, command, address, asked, hours)| Now {
                platform,
                encrypted,
                silent,
                owner,
                agent,
                command,
                address,
                asked,
                hours,
            },
        );
    // Whether the record is put anew, or only the question is another.
    proptest::collection::vec((now, any::<bool>()), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_remembered_judged_admitted_and_explained_is_one(
        policies in policies(),
        moments in moments(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bench = bench(Settings::default());
        let start = crate::clock::Clock::now(&*bench.clock);
        let text: String = policies.iter().enumerate().map(|(at, said)| said.text(at)).collect();
        let parsed = Policies::parse(&text);
        prop_assert!(parsed.is_ok(), "{:?}\n{}", parsed, text);
        bench.engine.configure(Settings::default(), parsed.unwrap(), &[]);
        let (d1, alice) = (key("d1"), user("alice"));
        let mut held: Option<Now> = None;
        let mut hours = 0;
        for (index, (mut now, put)) in moments.into_iter().enumerate() {
            hours += now.hours;
            bench.clock.advance(now.hours * 3_600_000);
            now.hours = hours;
            match &held {
                Some(held) if !put => {
                    now.platform = held.platform;
                    now.encrypted = held.encrypted;
                    now.silent = held.silent;
                    now.owner = held.owner;
                }
                _ => {
                    let patch = Patch {
                        user: Some(now.owner.map(user)),
                        platform: Some(now.platform.map(str::to_owned)),
                        encrypted: Some(now.encrypted),
                        last_seen: Some(now.silent.map(|h| start - jiff::SignedDuration::from_hours(h))),
                        ..Patch::default()
                    };
                    runtime.block_on(bench.engine.put_record(&d1, &patch)).unwrap();
                    held = Some(now.clone());
                }
            }
            let asked = Ask {
                agent: now.agent,
                command: now.command,
                via: crate::Via {
                    address: now.address.map(|address| address.parse().unwrap()),
                    method: if now.asked { "POST" } else { "" },
                    ..crate::Via::default()
                },
                ..ask(Some(&d1), Some(&alice))
            };
            let (verdict, step, rule, trial) = expected(&policies, &now);
            // Twice: found out, and remembered.
            for _ in 0..2 {
                let decision = bench.engine.decide(&asked);
                prop_assert_eq!((decision.verdict, decision.step), (verdict, step), "{:?}\n{}", now, text);
                prop_assert_eq!(decision.rule.as_deref(), rule.as_deref());
                let tried = decision.trial.as_ref().map(|trial| trial.rule.to_string());
                prop_assert_eq!(&tried, &trial);
                match bench.engine.admit(&asked, 0, index as u64, start, None) {
                    Admission::Granted(_, admitted) | Admission::Denied(admitted) => {
                        prop_assert_eq!(&admitted, &decision);
                    }
                }
            }
            let explained = bench.engine.explain(&asked);
            prop_assert_eq!((explained.verdict, explained.step), (verdict, step));
            prop_assert_eq!(explained.rule, rule);
            let deciding: Vec<_> = explained
                .steps
                .iter()
                .filter(|row| row.outcome.parse::<Verdict>().is_ok())
                .map(|row| (row.step.as_str(), row.outcome.as_str()))
                .collect();
            prop_assert_eq!(deciding, [(step.name(), verdict.name())]);
        }
    }
}
