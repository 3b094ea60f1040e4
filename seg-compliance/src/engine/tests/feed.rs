//! The change feed.

use super::*;
use crate::api::{ChangeKind, Event};

#[tokio::test]
async fn what_happens_is_told_in_order() {
    let bench = bench(Settings::default());
    let mut feed = bench.engine.subscribe(None).unwrap();
    bench.record("d1", r#"{"user":"alice"}"#).await;
    let _lease = bench.granted("d1", "alice", 0, 1);
    bench.override_device("d1", Verdict::Block).await;
    bench
        .engine
        .configure(Settings::default(), crate::Policies::default(), &["a.key"]);
    let mut told = Vec::new();
    for _ in 0..6 {
        let event = feed.next().await.unwrap();
        told.push((event.name(), event.revision()));
        if let Event::Decision {
            was,
            decision,
            revision: 2,
            ..
        } = &event
        {
            assert_eq!((*was, decision.verdict), (Verdict::Allow, Verdict::Block));
        }
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["event"], event.name());
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
    }
    // The cut may be told before or after the change is durable.
    told.sort_by_key(|(name, revision)| (*revision, *name));
    let cut = told.iter().position(|(name, _)| *name == "cut").unwrap();
    told.remove(cut);
    assert_eq!(
        told,
        [
            ("change", 1),
            ("decision", 1),
            ("change", 2),
            ("decision", 2),
            ("reload", 2)
        ]
    );
}

#[tokio::test]
async fn a_reader_goes_on_where_it_stopped() {
    let bench = bench(Settings::default());
    bench.record("d1", r#"{"user":"alice"}"#).await;
    bench.override_user("bob", Verdict::Block).await;
    bench.engine.forget(&key("d1")).await.unwrap();
    for from in 0..=3 {
        let mut feed = bench.engine.subscribe(Some(from)).unwrap();
        for expected in from + 1..=3 {
            assert_eq!(feed.next().await.unwrap().revision(), expected);
        }
    }
    let mut feed = bench.engine.subscribe(Some(1)).unwrap();
    let Event::Change {
        change,
        user: name,
        set,
        ..
    } = feed.next().await.unwrap()
    else {
        panic!()
    };
    assert_eq!(
        (change, name),
        (ChangeKind::UserOverride, Some(user("bob")))
    );
    assert_eq!(set.unwrap().verdict, Verdict::Block);
    feed.next().await.unwrap();
    bench.record("d2", "{}").await;
    assert_eq!(feed.next().await.unwrap().revision(), 4);
}

#[tokio::test]
async fn a_slow_reader_misses_no_change() {
    let bench = bench(Settings::default());
    let mut feed = bench.engine.subscribe(None).unwrap();
    let mut import = bench.engine.begin_import(Default::default());
    for number in 0..6_000 {
        import
            .push(Ok((key(&format!("d{number}")), Patch::default())))
            .await
            .unwrap();
    }
    import.finish().await.unwrap();
    let mut next = 1;
    while next <= 6_000 {
        if let Event::Change { revision, .. } = feed.next().await.unwrap() {
            assert_eq!(revision, next);
            next += 1;
        }
    }
}
