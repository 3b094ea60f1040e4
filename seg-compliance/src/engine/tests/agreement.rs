//! Verdict, admission and explanation agree with each other and with the design's words, written
//! down once more as plainly as can be.

use proptest::prelude::*;

use super::*;
use crate::{Mode, Policies, Step, UserMode};

const POLICIES: &str = r#"
[[policy]]
id = "told"
when = { platform = "ios" }
action = "notify"
[[policy]]
id = "tested"
when = { compromised = true }
action = "block"
mode = "test"
[[policy]]
id = "trusted"
when = { platform = "ios", encrypted = true }
action = "allow"
[[policy]]
id = "plain"
when = { encrypted = false }
action = "block"
[[policy]]
id = "stranger"
when = { known = false, user_agent = "curl*" }
action = "quarantine"
"#;

#[derive(Clone, Debug)]
struct Said {
    verdict: Verdict,
    /// Seconds from now.
    expires: Option<i64>,
}

#[derive(Clone, Debug)]
struct Device {
    owner: Option<&'static str>,
    verdict: Option<Verdict>,
    compliant: Option<bool>,
    ios: bool,
    compromised: Option<bool>,
    encrypted: Option<bool>,
}

#[derive(Clone, Debug)]
struct World {
    record: Option<Device>,
    device: Option<Said>,
    user: Option<Said>,
    settings: Settings,
    policies: bool,
    agent: &'static str,
}

impl World {
    /// The design's words: the verdict for alice on d1, and its step.
    fn expected(&self) -> (Verdict, Step) {
        let holds = |said: &&Said| said.expires.is_none_or(|seconds| seconds > 0);
        let owner = self.record.as_ref().and_then(|record| record.owner);
        let mismatch = owner.is_some_and(|owner| owner != "alice");
        let device = self
            .device
            .as_ref()
            .filter(holds)
            .filter(|said| !mismatch || said.verdict != Verdict::Allow);
        let user = self.user.as_ref().filter(holds);
        let said = device
            .into_iter()
            .chain(user)
            .map(|said| said.verdict)
            .max();
        if let Some(verdict) = said {
            return (verdict, Step::Override);
        }
        let record = self.record.as_ref().filter(|_| !mismatch);
        if let Some(record) = record {
            match record.verdict {
                Some(verdict @ (Verdict::Block | Verdict::Quarantine)) => {
                    return (verdict, Step::Mdm);
                }
                None if record.compliant == Some(false) => return (Verdict::Block, Step::Mdm),
                _ => {}
            }
        }
        if self.policies {
            match record {
                Some(Device {
                    ios: true,
                    encrypted: Some(true),
                    ..
                }) => {
                    return (Verdict::Allow, Step::Policy);
                }
                Some(Device {
                    encrypted: Some(false),
                    ..
                }) => {
                    return (Verdict::Block, Step::Policy);
                }
                None if self.agent.starts_with("curl") => {
                    return (Verdict::Quarantine, Step::Policy);
                }
                _ => {}
            }
        }
        match record {
            Some(_) => (self.settings.known_device, Step::Default),
            None => (self.settings.unknown_device, Step::Default),
        }
    }

    async fn bench(&self) -> Bench {
        let bench = bench(self.settings);
        if let Some(record) = &self.record {
            let patch = Patch {
                user: Some(record.owner.map(user)),
                verdict: Some(record.verdict),
                compliant: Some(record.compliant),
                platform: record.ios.then(|| Some("iOS".to_owned())),
                compromised: Some(record.compromised),
                encrypted: Some(record.encrypted),
                ..Patch::default()
            };
            bench.engine.put_record(&key("d1"), &patch).await.unwrap();
        }
        let now = crate::clock::Clock::now(&*bench.clock);
        let made = |said: &Said| api::Override {
            expires: said
                .expires
                .map(|s| now + jiff::SignedDuration::from_secs(s)),
            ..set(said.verdict)
        };
        if let Some(said) = &self.device {
            bench
                .engine
                .override_device(&key("d1"), made(said))
                .await
                .unwrap();
        }
        if let Some(said) = &self.user {
            bench
                .engine
                .override_user(&user("alice"), made(said))
                .await
                .unwrap();
        }
        if self.policies {
            bench
                .engine
                .configure(self.settings, Policies::parse(POLICIES).unwrap(), &[]);
        }
        bench
    }
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Allow),
        Just(Verdict::Block),
        Just(Verdict::Quarantine)
    ]
}

fn saids() -> impl Strategy<Value = Option<Said>> {
    let expires = prop_oneof![Just(None), Just(Some(-1)), Just(Some(0)), Just(Some(60))];
    proptest::option::of(
        (verdicts(), expires).prop_map(|(verdict, expires)| Said { verdict, expires }),
    )
}

fn devices() -> impl Strategy<Value = Option<Device>> {
    let flag = || proptest::option::of(any::<bool>());
    let owner = prop_oneof![Just(None), Just(Some("alice")), Just(Some("bob"))];
    let device = (
        owner,
        proptest::option::of(verdicts()),
        flag(),
        any::<bool>(),
        flag(),
        flag(),
    );
    proptest::option::of(device.prop_map(
        |(owner, verdict, compliant, ios, compromised, encrypted)| Device {
            owner,
            verdict,
            compliant,
            ios,
            compromised,
            encrypted,
        },
    ))
}

fn worlds() -> impl Strategy<Value = World> {
    let mode = prop_oneof![Just(Mode::Enforce), Just(Mode::Observe)];
    let settings =
        (mode, verdicts(), verdicts()).prop_map(|(mode, unknown_device, known_device)| Settings {
            mode,
            unknown_device,
            known_device,
            user_mode: UserMode::AnyCompliant,
            ..Settings::default()
        });
    let agent = prop_oneof![Just(""), Just("Apple-iPhone/1"), Just("curl/8")];
    (devices(), saids(), saids(), settings, any::<bool>(), agent).prop_map(
        |(record, device, user, settings, policies, agent)| World {
            record,
            device,
            user,
            settings,
            policies,
            agent,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn verdict_admission_and_explanation_agree(world in worlds()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bench = runtime.block_on(world.bench());
        let (d1, alice) = (key("d1"), user("alice"));
        let asked = Ask { agent: world.agent, ..ask(Some(&d1), Some(&alice)) };
        let decision = bench.engine.decide(&asked);
        prop_assert_eq!((decision.verdict, decision.step), world.expected());
        prop_assert_eq!(decision.enforced, world.settings.mode == Mode::Enforce);

        let explained = bench.engine.explain(&asked);
        prop_assert_eq!(explained.verdict, decision.verdict);
        prop_assert_eq!(explained.step, decision.step);
        prop_assert_eq!(explained.rule.as_deref(), decision.rule.as_deref());
        prop_assert_eq!(explained.reason.as_deref(), decision.reason.as_deref());
        prop_assert_eq!(explained.revision, decision.revision);
        let deciding: Vec<_> = explained
            .steps
            .iter()
            .filter(|row| row.outcome.parse::<Verdict>().is_ok())
            .map(|row| (row.step.as_str(), row.outcome.as_str()))
            .collect();
        let expected = (decision.step.name(), decision.verdict.name());
        prop_assert_eq!(deciding, [expected], "exactly one step decides: {:?}", explained);
        let names: Vec<_> = explained.steps.iter().map(|row| row.step.as_str()).collect();
        let rows = if world.policies { 5 } else { 1 };
        let listed: Vec<_> =
            ["override", "mdm"].into_iter().chain([ "policy" ].repeat(rows)).chain(["default"]).collect();
        prop_assert_eq!(names, listed, "every step is listed");

        let since = Timestamp::UNIX_EPOCH;
        match bench.engine.admit(&asked, 0, 1, since, None) {
            Admission::Granted(_, admitted) => {
                prop_assert!(!decision.refuses());
                prop_assert_eq!(admitted, decision);
            }
            Admission::Denied(denied) => {
                prop_assert!(decision.refuses());
                prop_assert_eq!(denied, decision);
            }
        }
    }
}
