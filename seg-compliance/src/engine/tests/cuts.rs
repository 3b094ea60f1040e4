//! What a change does to requests in flight.

use super::*;
use crate::{Mode, Policies, UserMode};

#[tokio::test]
async fn a_block_refuses_the_next_request_and_cuts_the_open_one() {
    let bench = bench(Settings::default());
    bench.record("d1", r#"{"user":"alice"}"#).await;
    let one = bench.granted("d1", "alice", 0, 1);
    let two = bench.granted("d1", "alice", 1, 2);
    let three = bench.granted("d1", "alice", 1, 3);
    let applied = bench.override_device("d1", Verdict::Block).await;
    assert_eq!(applied.cut, 3);
    assert_eq!(applied.decision.verdict, Verdict::Block);
    assert_eq!(
        bench.cuts(),
        [(0, vec![1]), (1, vec![2, 3])],
        "one command a core"
    );
    assert!(matches!(
        bench.admit("d1", "alice", 0, 4),
        Admission::Denied(_)
    ));
    drop((one, two, three));
    assert!(bench.engine.sessions().is_empty());
    bench
        .engine
        .clear_device_override(&key("d1"))
        .await
        .unwrap();
    let again = bench.granted("d1", "alice", 0, 5);
    assert_eq!(bench.engine.sessions().len(), 1);
    drop(again);
    assert_eq!(bench.cuts(), []);
}

#[tokio::test]
async fn a_record_that_turns_bad_cuts_and_a_repeat_does_not() {
    let bench = bench(Settings::default());
    bench
        .record("d1", r#"{"user":"alice","compliant":true}"#)
        .await;
    let _lease = bench.granted("d1", "alice", 0, 1);
    assert_eq!(bench.record("d1", r#"{"compliant":false}"#).await.cut, 1);
    assert_eq!(bench.record("d1", r#"{"verdict":"block"}"#).await.cut, 0);
    assert_eq!(bench.cuts(), [(0, vec![1])]);
}

#[tokio::test]
async fn a_blocked_user_loses_all_devices_and_his_requests_without_one() {
    let bench = bench(Settings {
        unknown_device: Verdict::Allow,
        ..Settings::default()
    });
    bench.record("d1", r#"{"user":"alice"}"#).await;
    bench.record("d2", "{}").await;
    bench.record("d3", r#"{"user":"bob"}"#).await;
    let _held = [
        bench.granted("d1", "alice", 0, 1),
        bench.granted("d2", "alice", 0, 2),
        bench.granted("unknown", "alice", 0, 3),
        bench.granted("", "alice", 0, 4),
        bench.granted("d3", "bob", 0, 5),
        bench.granted("", "bob", 0, 6),
    ];
    assert_eq!(bench.override_user("alice", Verdict::Block).await.cut, 4);
    assert_eq!(bench.cuts(), [(0, vec![1, 2, 3, 4])]);
    assert!(matches!(
        bench.admit("", "alice", 0, 7),
        Admission::Denied(_)
    ));
    assert!(matches!(
        bench.admit("d2", "alice", 0, 7),
        Admission::Denied(_)
    ));
    bench
        .engine
        .clear_user_override(&user("alice"))
        .await
        .unwrap();
    drop(bench.granted("d2", "alice", 0, 8));
}

#[tokio::test]
async fn a_request_without_a_device_ends_with_the_verdict_of_its_users_devices() {
    let bench = bench(Settings {
        user_mode: UserMode::AllCompliant,
        ..Settings::default()
    });
    bench.record("d1", r#"{"user":"alice"}"#).await;
    let _lease = bench.granted("", "alice", 2, 9);
    bench
        .record("d2", r#"{"user":"alice","compliant":true}"#)
        .await;
    assert_eq!(bench.cuts(), []);
    bench.override_device("d2", Verdict::Quarantine).await;
    assert_eq!(bench.cuts(), [(2, vec![9])]);
    // A device that goes to another user takes its verdict with it.
    bench.record("d2", r#"{"user":"bob"}"#).await;
    drop(bench.granted("", "alice", 2, 10));
    assert!(matches!(
        bench.admit("", "bob", 2, 11),
        Admission::Denied(_)
    ));
}

#[tokio::test]
async fn settings_and_policies_cut_what_they_refuse() {
    let bench = bench(Settings {
        mode: Mode::Observe,
        ..Settings::default()
    });
    bench
        .record("d1", r#"{"platform":"ios","os_version":"16.1"}"#)
        .await;
    let _known = bench.granted("d1", "alice", 0, 1);
    let _unknown = bench.granted("d9", "alice", 3, 2);
    let policies = Policies::parse(
        "[[policy]]\nid=\"min\"\nwhen={os_version_below=\"17\"}\naction=\"quarantine\"",
    )
    .unwrap();
    assert_eq!(
        bench
            .engine
            .configure(bench.engine.settings(), policies.clone(), &[]),
        0
    );
    assert_eq!(bench.decide("d1", "alice").verdict, Verdict::Quarantine);
    assert_eq!(
        bench
            .engine
            .configure(Settings::default(), policies, &["compliance.mode"]),
        2
    );
    assert_eq!(bench.cuts(), [(0, vec![1]), (3, vec![2])]);
}

#[tokio::test]
async fn an_allow_that_ends_cuts_when_its_time_has_come() {
    let bench = bench(Settings::default());
    let expires = Timestamp::from_second(1_800_000_060).unwrap();
    let until = api::Override {
        expires: Some(expires),
        ..set(Verdict::Allow)
    };
    bench
        .engine
        .override_device(&key("d1"), until.clone())
        .await
        .unwrap();
    bench
        .engine
        .override_user(&user("bob"), until)
        .await
        .unwrap();
    let _held = [
        bench.granted("d1", "alice", 0, 1),
        bench.granted("d2", "bob", 0, 2),
    ];
    assert_eq!(bench.engine.next_expiry(), Some(expires));
    bench.clock.advance(59_999);
    assert_eq!(
        bench.engine.tick(crate::clock::Clock::now(&*bench.clock)),
        0
    );
    bench.clock.advance(1);
    assert!(matches!(
        bench.admit("d1", "alice", 0, 3),
        Admission::Denied(_)
    ));
    assert_eq!(
        bench.engine.tick(crate::clock::Clock::now(&*bench.clock)),
        2
    );
    assert_eq!(bench.engine.next_expiry(), None);
    assert_eq!(bench.cuts(), [(0, vec![1]), (0, vec![2])]);
}

#[tokio::test]
async fn nothing_is_kept_of_an_unknown_device_that_has_gone() {
    let bench = bench(Settings {
        unknown_device: Verdict::Allow,
        ..Settings::default()
    });
    let lease = bench.granted("d1", "alice", 0, 1);
    assert_eq!(bench.engine.shared.devices.len(), 1);
    drop(lease);
    assert_eq!(bench.engine.shared.devices.len(), 0);
    let lease = bench.granted("", "alice", 0, 1);
    drop(lease);
    assert!(
        bench
            .engine
            .shared
            .users
            .read(&user("alice"), |entry| entry.is_none())
    );
}

/// `binding.suspect` stands behind overrides and the management system, and before everything else.
#[tokio::test]
async fn a_copy_gets_what_is_configured_for_copies() {
    let bench = bench(Settings {
        suspect: Some(Verdict::Quarantine),
        ..Settings::default()
    });
    bench.record("d1", r#"{"user":"alice"}"#).await;
    let (d1, alice) = (key("d1"), user("alice"));
    let asked = |suspect| Ask {
        via: crate::Via {
            suspect,
            ..crate::Via::default()
        },
        ..ask(Some(&d1), Some(&alice))
    };
    assert_eq!(bench.engine.decide(&asked("")).verdict, Verdict::Allow);
    let decision = bench.engine.decide(&asked("another_agent"));
    assert_eq!(
        (decision.verdict, decision.rule.as_deref()),
        (Verdict::Quarantine, Some("binding.suspect"))
    );
    assert_eq!(decision.reason.as_deref(), Some("another_agent"));
    let told = bench.engine.explain(&asked("another_agent"));
    assert_eq!(told.verdict, Verdict::Quarantine);
    bench.override_device("d1", Verdict::Allow).await;
    let decision = bench.engine.decide(&asked("another_agent"));
    assert_eq!(decision.verdict, Verdict::Allow);
    bench.engine.clear_device_override(&d1).await.unwrap();
    bench.record("d1", r#"{"compliant":false}"#).await;
    let decision = bench.engine.decide(&asked("another_agent"));
    assert_eq!(decision.verdict, Verdict::Block);
    bench.record("d1", r#"{"compliant":true}"#).await;
    // What is open when it becomes known ends, and nothing else.
    bench.record("d2", r#"{"user":"alice"}"#).await;
    let _held = [
        bench.granted("d1", "alice", 0, 1),
        bench.granted("d2", "alice", 0, 2),
    ];
    assert_eq!(bench.engine.suspect(&d1, "two_places"), 1);
    assert_eq!(bench.cuts(), [(0, vec![1])]);
}
