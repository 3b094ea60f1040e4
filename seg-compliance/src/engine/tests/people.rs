//! Requests that carry no device: judged by the user's devices, and whoever asks hears the same.

use proptest::prelude::*;

use super::*;
use crate::{Policies, UserMode};

const POLICIES: &str = r#"
[[policy]]
id = "plain"
when = { encrypted = false }
action = "block"
[[policy]]
id = "curl"
when = { user_agent = "curl*", known = true }
action = "quarantine"
[[policy]]
id = "stranger"
when = { known = false, user_agent = "curl*" }
action = "quarantine"
"#;

#[derive(Clone, Debug)]
struct Device {
    owner: Option<&'static str>,
    pushed: Option<Verdict>,
    encrypted: Option<bool>,
    set: Option<Verdict>,
}

#[derive(Clone, Debug)]
struct World {
    mode: UserMode,
    devices: Vec<Device>,
    /// What was said of alice herself.
    set: Option<Verdict>,
    curl: bool,
}

impl World {
    /// The design's words for one of her devices.
    fn of(&self, device: &Device) -> Verdict {
        if let Some(said) = device.set.into_iter().chain(self.set).max() {
            return said;
        }
        match device.pushed {
            Some(pushed @ (Verdict::Block | Verdict::Quarantine)) => pushed,
            _ if device.encrypted == Some(false) => Verdict::Block,
            _ if self.curl => Verdict::Quarantine,
            _ => Verdict::Allow,
        }
    }

    fn expected(&self) -> Verdict {
        let hers = self.devices.iter();
        let hers = hers.filter(|device| device.owner == Some("alice"));
        let verdicts: Vec<Verdict> = hers.map(|device| self.of(device)).collect();
        let (mildest, strictest) = (verdicts.iter().min(), verdicts.iter().max());
        let by_device = match self.mode {
            UserMode::AllCompliant => strictest,
            UserMode::BlockIfAnyBlocked if strictest == Some(&Verdict::Block) => strictest,
            UserMode::AnyCompliant | UserMode::BlockIfAnyBlocked => mildest,
        };
        let unknown = || match self.set {
            Some(said) => said,
            None if self.curl => Verdict::Quarantine,
            None => Verdict::Block,
        };
        by_device.copied().unwrap_or_else(unknown)
    }
}

fn verdicts() -> impl Strategy<Value = Option<Verdict>> {
    prop_oneof![
        3 => Just(None),
        1 => Just(Some(Verdict::Allow)),
        1 => Just(Some(Verdict::Block)),
        1 => Just(Some(Verdict::Quarantine))
    ]
}

fn worlds() -> impl Strategy<Value = World> {
    let owner = prop_oneof![
        4 => Just(Some("alice")),
        1 => Just(Some("bob")),
        1 => Just(None)
    ];
    let device = (
        owner,
        verdicts(),
        proptest::option::of(any::<bool>()),
        verdicts(),
    )
        .prop_map(|(owner, pushed, encrypted, set)| Device {
            owner,
            pushed,
            encrypted,
            set,
        });
    let mode = prop_oneof![
        Just(UserMode::AnyCompliant),
        Just(UserMode::AllCompliant),
        Just(UserMode::BlockIfAnyBlocked)
    ];
    (
        mode,
        proptest::collection::vec(device, 0..4),
        verdicts(),
        any::<bool>(),
    )
        .prop_map(|(mode, devices, set, curl)| World {
            mode,
            devices,
            set,
            curl,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]

    #[test]
    fn a_request_without_a_device_is_judged_admitted_and_explained_alike(world in worlds()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let settings = Settings { user_mode: world.mode, ..Settings::default() };
        let bench = bench(settings);
        bench.engine.configure(settings, Policies::parse(POLICIES).unwrap(), &[]);
        runtime.block_on(async {
            for (number, device) in world.devices.iter().enumerate() {
                let name = format!("d{number}");
                let patch = Patch {
                    user: Some(device.owner.map(user)),
                    verdict: Some(device.pushed),
                    encrypted: Some(device.encrypted),
                    ..Patch::default()
                };
                bench.engine.put_record(&key(&name), &patch).await.unwrap();
                if let Some(said) = device.set {
                    bench.override_device(&name, said).await;
                }
            }
            if let Some(said) = world.set {
                bench.override_user("alice", said).await;
            }
        });
        let alice = user("alice");
        let agent = if world.curl { "curl/8" } else { "Apple-iPhone/1" };
        let asked = Ask { agent, ..ask(None, Some(&alice)) };
        let decision = bench.engine.decide(&asked);
        prop_assert_eq!(decision.verdict, world.expected());
        match bench.engine.admit(&asked, 0, 1, Timestamp::UNIX_EPOCH, None) {
            Admission::Granted(_, admitted) | Admission::Denied(admitted) => {
                prop_assert_eq!(&admitted, &decision);
            }
        }
        let explained = bench.engine.explain(&asked);
        prop_assert_eq!((explained.verdict, explained.step), (decision.verdict, decision.step));
        prop_assert_eq!(explained.rule.as_deref(), decision.rule.as_deref());
        prop_assert_eq!(explained.reason.as_deref(), decision.reason.as_deref());
        let rows = explained.steps.iter();
        let deciding: Vec<_> = rows
            .filter(|row| row.step != "user" && row.outcome.parse::<Verdict>().is_ok())
            .map(|row| (row.step.as_str(), row.outcome.as_str()))
            .collect();
        prop_assert_eq!(deciding, [(decision.step.name(), decision.verdict.name())]);
    }
}
