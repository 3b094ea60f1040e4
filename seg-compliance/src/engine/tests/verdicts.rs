//! Verdicts, views and explanations through the engine.

use super::*;
use crate::engine::Filter;
use crate::{Policies, Step, UserMode};

#[tokio::test]
async fn the_steps_in_their_order() {
    let bench = bench(Settings::default());
    let grounds = |device: &str, name: &str| {
        let decision = bench.decide(device, name);
        (
            decision.verdict,
            decision.step,
            decision.reason.as_deref().unwrap_or("").to_owned(),
        )
    };
    let is = |verdict, step, reason: &str| (verdict, step, reason.to_owned());

    assert_eq!(
        grounds("d1", "alice"),
        is(Verdict::Block, Step::Default, "unknown_device")
    );
    bench.record("d1", r#"{"user":"alice"}"#).await;
    assert_eq!(
        grounds("d1", "alice"),
        is(Verdict::Allow, Step::Default, "")
    );
    assert_eq!(
        grounds("d1", "bob"),
        is(Verdict::Block, Step::Default, "user_mismatch")
    );
    bench.record("d1", r#"{"compliant":false}"#).await;
    assert_eq!(
        grounds("d1", "alice"),
        is(Verdict::Block, Step::Mdm, "not_compliant")
    );
    bench
        .record("d1", r#"{"verdict":"quarantine","reason":"wait"}"#)
        .await;
    assert_eq!(
        grounds("d1", "alice"),
        is(Verdict::Quarantine, Step::Mdm, "wait")
    );
    bench.override_device("d1", Verdict::Allow).await;
    assert_eq!(
        grounds("d1", "alice"),
        is(Verdict::Allow, Step::Override, "said allow")
    );
    assert_eq!(
        grounds("d1", "bob"),
        is(Verdict::Block, Step::Default, "user_mismatch")
    );
    bench.override_user("alice", Verdict::Quarantine).await;
    assert_eq!(
        grounds("d1", "alice"),
        is(Verdict::Quarantine, Step::Override, "said quarantine")
    );
    bench.override_device("d1", Verdict::Block).await;
    assert_eq!(
        grounds("d1", "alice"),
        is(Verdict::Block, Step::Override, "said block")
    );
    assert_eq!(
        grounds("d1", "bob"),
        is(Verdict::Block, Step::Override, "said block")
    );
}

#[tokio::test]
async fn a_pushed_allow_is_no_way_around_a_policy() {
    let bench = bench(Settings::default());
    bench
        .record(
            "d1",
            r#"{"verdict":"allow","compromised":true,"compliant":false}"#,
        )
        .await;
    assert_eq!(bench.decide("d1", "alice").verdict, Verdict::Allow);
    let policies =
        Policies::parse("[[policy]]\nid=\"root\"\nwhen={compromised=true}\naction=\"block\"")
            .unwrap();
    bench.engine.configure(Settings::default(), policies, &[]);
    let decision = bench.decide("d1", "alice");
    assert_eq!(
        (decision.verdict, decision.rule.as_deref()),
        (Verdict::Block, Some("root"))
    );
}

#[tokio::test]
async fn a_user_is_judged_by_his_devices() {
    use Verdict::{Allow, Block, Quarantine};
    for (mode, verdicts, expected) in [
        (UserMode::AnyCompliant, &[Allow, Block][..], Allow),
        (UserMode::AnyCompliant, &[Quarantine, Block], Quarantine),
        (UserMode::AllCompliant, &[Allow, Block], Block),
        (UserMode::AllCompliant, &[Allow, Allow], Allow),
        (UserMode::BlockIfAnyBlocked, &[Allow, Quarantine], Allow),
        (
            UserMode::BlockIfAnyBlocked,
            &[Allow, Quarantine, Block],
            Block,
        ),
        (UserMode::BlockIfAnyBlocked, &[Quarantine], Quarantine),
        (UserMode::AnyCompliant, &[], Block),
    ] {
        let bench = bench(Settings {
            user_mode: mode,
            ..Settings::default()
        });
        for (number, verdict) in verdicts.iter().enumerate() {
            let json = format!(r#"{{"user":"alice","verdict":"{verdict}"}}"#);
            bench.record(&format!("d{number}"), &json).await;
        }
        assert_eq!(
            bench.decide("", "alice").verdict,
            expected,
            "{mode:?} {verdicts:?}"
        );
        let alice = user("alice");
        let explained = bench.engine.explain(&ask(None, Some(&alice)));
        assert_eq!(explained.verdict, expected);
        assert_eq!(explained.steps[0].step, "user");
        assert_eq!(explained.known, !verdicts.is_empty());
    }
}

#[tokio::test]
async fn what_was_seen_without_a_record_is_listed_until_it_has_one() {
    let bench = bench(Settings::default());
    let (d1, alice) = (key("d1"), user("alice"));
    let at = |second| Timestamp::from_second(second).unwrap();
    bench.engine.saw(&ask(Some(&d1), Some(&alice)), 403, at(1));
    bench.engine.saw(&ask(Some(&d1), Some(&alice)), 403, at(2));
    let unknown = Filter {
        known: Some(false),
        ..Filter::default()
    };
    let page = bench.engine.list(&unknown, None, 10);
    assert_eq!(page.devices.len(), 1);
    let device = &page.devices[0];
    assert_eq!(device.record.user.as_ref(), Some(&alice));
    assert_eq!(device.first_request, Some(at(1)));
    assert_eq!(device.last_request.as_ref().unwrap().at, at(2));
    assert_eq!(
        device.last_request.as_ref().unwrap().agent,
        "Apple-iPhone/1"
    );
    assert_eq!(device.decision.verdict, Verdict::Block);
    bench.record("d1", "{}").await;
    assert!(bench.engine.list(&unknown, None, 10).devices.is_empty());
    bench.engine.saw(&ask(Some(&d1), Some(&alice)), 200, at(3));
    let device = bench.engine.device(&d1, None).unwrap();
    assert_eq!(device.last_request.unwrap().status, 200);
    assert!(bench.engine.forget(&d1).await.unwrap().is_some());
    assert!(bench.engine.forget(&d1).await.unwrap().is_none());
    assert!(bench.engine.device(&d1, None).is_none());
}

#[tokio::test]
async fn pages_follow_each_other_without_gaps() {
    let bench = bench(Settings::default());
    for number in 0..25 {
        let verdict = if number % 2 == 0 { "block" } else { "allow" };
        bench
            .record(
                &format!("d{number:02}"),
                &format!(r#"{{"verdict":"{verdict}"}}"#),
            )
            .await;
    }
    let blocked = Filter {
        verdict: Some(Verdict::Block),
        ..Filter::default()
    };
    for limit in [1, 3, 13, 100] {
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let page = bench.engine.list(&blocked, after.as_ref(), limit);
            assert!(page.devices.len() <= limit);
            found.extend(
                page.devices
                    .into_iter()
                    .map(|device| device.record.device_id),
            );
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found.len(), 13, "pages of {limit}");
        assert!(found.is_sorted());
    }
    assert_eq!(bench.engine.export().count(), 25);
}
