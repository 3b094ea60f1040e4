//! One engine follows another over the same store.

use super::*;
use crate::engine::Relay;
use crate::journal::StoreError;

fn opened(folder: &std::path::Path) -> Bench {
    let clock = Arc::new(ManualClock::new(
        Timestamp::from_second(1_800_000_000).unwrap(),
    ));
    let settings = Settings::default();
    let opened = Engine::open_at(folder, settings, Arc::clone(&clock) as Arc<_>);
    let (engine, _) = opened.unwrap();
    let written = Arc::new(Written::default());
    engine.set_cutter(Arc::clone(&written) as Arc<_>);
    Bench {
        engine,
        clock,
        written,
    }
}

#[tokio::test]
async fn what_is_in_flight_at_the_one_before_obeys_the_one_that_follows() {
    let folder = tempfile::tempdir().unwrap();
    let before = opened(folder.path());
    for device in ["A", "B", "C"] {
        before
            .record(device, r#"{"user":"alice@corp.example"}"#)
            .await;
    }
    before.override_device("C", Verdict::Block).await;
    let _polls = [
        before.granted("A", "alice@corp.example", 0, 1),
        before.granted("B", "alice@corp.example", 1, 2),
    ];

    let revision = before.engine.release();
    assert_eq!(revision, 4);
    assert!(!before.engine.store_ok());
    let (device, allow) = (key("B"), set(Verdict::Allow));
    let refused = before.engine.override_device(&device, allow).await;
    assert_eq!(refused, Err(StoreError::Closed));

    let after = opened(folder.path());
    assert_eq!(
        after.decide("C", "alice@corp.example").verdict,
        Verdict::Block
    );
    let mut relay = after.engine.relay(revision).unwrap();
    let (changes, _) = told(
        &before,
        &mut relay,
        after.override_device("A", Verdict::Block),
    )
    .await;
    assert_eq!(before.cuts(), [(0, vec![1])]);
    // Twice is once.
    assert_eq!(before.engine.obey(&changes), Ok(0));

    let block = after.override_user("alice@corp.example", Verdict::Block);
    told(&before, &mut relay, block).await;
    assert_eq!(before.cuts(), [(1, vec![2])]);
    assert!(before.engine.obey(b"nonsense").is_err());
    // When the one before has ended, nobody waits for it.
    let (device, allow) = (key("B"), set(Verdict::Allow));
    let late = after.engine.override_device(&device, allow);
    let (late, ()) = tokio::join!(late, async {
        relay.next().await.unwrap();
        drop(relay);
    });
    late.unwrap();
}

/// Tells the one before of one change, which is acknowledged when it has obeyed, and not before.
async fn told<T>(
    before: &Bench,
    relay: &mut Relay,
    change: impl Future<Output = T>,
) -> (Vec<u8>, T) {
    let mut change = std::pin::pin!(change);
    let changes = tokio::select! {
        biased;
        _ = &mut change => panic!("acknowledged before it is in force everywhere"),
        changes = relay.next() => changes.unwrap(),
    };
    // It is durable by now.
    let acknowledged = tokio::time::timeout(std::time::Duration::ZERO, &mut change).await;
    assert!(
        acknowledged.is_err(),
        "acknowledged before it is in force everywhere"
    );
    assert_eq!(before.engine.obey(&changes), Ok(1));
    relay.obeyed(before.engine.revision());
    (changes, change.await)
}

#[tokio::test]
async fn a_store_that_nobody_took_is_taken_back_with_what_was_written_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let before = opened(folder.path());
    before.record("A", r#"{"user":"alice@corp.example"}"#).await;
    let _poll = before.granted("A", "alice@corp.example", 0, 1);
    before.engine.release();

    let after = opened(folder.path());
    assert!(matches!(
        before.engine.take_back(folder.path()),
        Err(StoreError::Locked { .. })
    ));
    after.override_device("A", Verdict::Block).await;
    drop(after);

    before.engine.take_back(folder.path()).unwrap();
    assert_eq!(before.cuts(), [(0, vec![1])]);
    assert!(before.engine.store_ok());
    let applied = before.override_device("B", Verdict::Block).await;
    assert_eq!(applied.revision, 3);
    drop(before);
    let again = opened(folder.path());
    assert_eq!(
        again.decide("B", "bob@corp.example").verdict,
        Verdict::Block
    );
}
