//! What is durable when, and what a failing or a damaged store does.

mod ladder;

use std::ops::ControlFlow;
use std::path::Path;

use super::*;
use crate::journal::{Batch, MemoryStore, State, Store, StoreError};

/// A store that tells of each append and waits for a permit.
struct Gate {
    inner: MemoryStore,
    entered: std::sync::mpsc::Sender<()>,
    permits: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Store for Gate {
    fn scan(
        &self,
        after: u64,
        each: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.inner.scan(after, each)
    }

    fn append(&self, batches: &[Batch]) -> Result<(), StoreError> {
        // When the test has gone the gate stands open.
        let _ = self.entered.send(());
        let _ = self.permits.lock().recv();
        self.inner.append(batches)
    }

    fn floor(&self) -> u64 {
        self.inner.floor()
    }

    fn stage(&self, first: bool, batches: &[Batch]) -> Result<(), StoreError> {
        self.inner.stage(first, batches)
    }

    fn switch(&self, floor: u64) -> Result<(), StoreError> {
        self.inner.switch(floor)
    }

    fn note(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.inner.note(name, value)
    }

    fn notes(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.inner.notes()
    }

    fn enter(&self, entries: &[(u64, Vec<u8>)]) -> Result<(), StoreError> {
        self.inner.enter(entries)
    }

    fn entries(
        &self,
        from: u64,
        each: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.inner.entries(from, each)
    }

    fn last_entry(&self) -> Result<u64, StoreError> {
        self.inner.last_entry()
    }

    fn strike(&self, before: u64) -> Result<(), StoreError> {
        self.inner.strike(before)
    }
}

/// Dropped in reverse order: the gate opens before the engine waits for its writer.
fn gated() -> (
    Engine,
    std::sync::mpsc::Sender<()>,
    std::sync::mpsc::Receiver<()>,
) {
    let (permit, permits) = std::sync::mpsc::channel();
    let (entered, appends) = std::sync::mpsc::channel();
    let gate = Gate {
        inner: MemoryStore::default(),
        entered,
        permits: Mutex::new(permits),
    };
    (over(Arc::new(gate)), permit, appends)
}

fn over(store: Arc<dyn Store>) -> Engine {
    Engine::over(
        store,
        Settings::default(),
        Arc::new(crate::clock::SystemClock),
    )
}

#[tokio::test]
async fn a_block_works_before_it_is_durable_and_an_unblock_after() {
    let (engine, permit, appends) = gated();
    let (d1, alice) = (key("d1"), user("alice"));
    let verdict = || engine.decide(&ask(Some(&d1), Some(&alice))).verdict;
    let let_through = || {
        appends.recv().unwrap();
        permit.send(()).unwrap();
    };

    let mut allowed = std::pin::pin!(engine.override_device(&d1, set(Verdict::Allow)));
    assert!(poll(allowed.as_mut()).is_pending());
    assert_eq!(
        verdict(),
        Verdict::Block,
        "an allow that can be lost is none"
    );
    let_through();
    assert_eq!(allowed.await.unwrap().decision.verdict, Verdict::Allow);
    assert_eq!(verdict(), Verdict::Allow);

    let mut blocked = std::pin::pin!(engine.override_device(&d1, set(Verdict::Block)));
    assert!(poll(blocked.as_mut()).is_pending());
    assert_eq!(verdict(), Verdict::Block, "a block works at once");
    appends.recv().unwrap();

    // An unblock behind the block that still waits, and a change of the record behind both; the
    // writer takes the two together.
    let mut cleared = std::pin::pin!(engine.clear_device_override(&d1));
    assert!(poll(cleared.as_mut()).is_pending());
    let patch = Patch::from_json(br#"{"managed":true}"#).unwrap().1;
    let mut known = std::pin::pin!(engine.put_record(&d1, &patch));
    assert!(poll(known.as_mut()).is_pending());
    permit.send(()).unwrap();
    blocked.await.unwrap();
    appends.recv().unwrap();
    assert_eq!(verdict(), Verdict::Block, "the unblock is not durable");
    permit.send(()).unwrap();
    cleared.await.unwrap();
    assert_eq!(known.await.unwrap().decision.verdict, Verdict::Allow);

    // The same for a user, whose override stands elsewhere.
    let mut blocked = std::pin::pin!(engine.override_user(&alice, set(Verdict::Block)));
    assert!(poll(blocked.as_mut()).is_pending());
    assert_eq!(verdict(), Verdict::Block);
    let_through();
    blocked.await.unwrap();
    let mut cleared = std::pin::pin!(engine.clear_user_override(&alice));
    assert!(poll(cleared.as_mut()).is_pending());
    assert_eq!(verdict(), Verdict::Block);
    let_through();
    cleared.await.unwrap();
    assert_eq!(verdict(), Verdict::Allow);
    drop(permit);
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}

#[tokio::test]
async fn a_failing_store_keeps_what_is_strict_and_drops_what_is_mild() {
    let store = Arc::new(MemoryStore::default());
    let engine = over(Arc::clone(&store) as Arc<_>);
    let (d1, alice) = (key("d1"), user("alice"));
    let verdict = || engine.decide(&ask(Some(&d1), Some(&alice))).verdict;
    let record = |json: &str| Patch::from_json(json.as_bytes()).unwrap().1;
    engine
        .put_record(&d1, &record(r#"{"user":"alice"}"#))
        .await
        .unwrap();
    store.break_down(true);
    assert!(
        engine
            .override_device(&d1, set(Verdict::Block))
            .await
            .is_err()
    );
    assert!(!engine.store_ok());
    assert_eq!(verdict(), Verdict::Block);
    assert!(engine.clear_device_override(&d1).await.is_err());
    assert_eq!(verdict(), Verdict::Block);
    assert!(
        engine
            .override_user(&alice, set(Verdict::Allow))
            .await
            .is_err()
    );
    assert!(
        engine
            .put_record(&d1, &record(r#"{"user":"bob"}"#))
            .await
            .is_err()
    );
    store.break_down(false);
    engine.clear_device_override(&d1).await.unwrap();
    assert!(engine.store_ok());
    assert_eq!(verdict(), Verdict::Allow, "the record is alice's still");
    assert_eq!(
        engine.decide(&ask(None, Some(&alice))).verdict,
        Verdict::Allow
    );
    assert_eq!(
        engine.decide(&ask(None, Some(&user("bob")))).verdict,
        Verdict::Block
    );
}

fn open(folder: &Path) -> (Engine, crate::Recovery) {
    Engine::open(folder, Settings::default()).unwrap()
}

/// A store with three devices and an export, the last device newer than the export.
async fn filled(folder: &Path) {
    let (engine, recovery) = open(folder);
    assert_eq!((recovery.state, recovery.steps.len()), (State::Synced, 0));
    let patch = Patch::from_json(br#"{"user":"alice","platform":"ios"}"#)
        .unwrap()
        .1;
    engine.put_record(&key("d1"), &patch).await.unwrap();
    engine
        .override_device(&key("d2"), set(Verdict::Block))
        .await
        .unwrap();
    engine
        .override_user(&user("carol"), set(Verdict::Quarantine))
        .await
        .unwrap();
    engine.export_store().await.unwrap();
    engine
        .override_device(&key("d3"), set(Verdict::Allow))
        .await
        .unwrap();
}

fn holds(engine: &Engine, device: &str) -> bool {
    engine.device(&key(device), None).is_some()
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let (engine, recovery) = open(folder.path());
    assert_eq!(
        (recovery.changes, recovery.revision, recovery.state),
        (4, 4, State::Synced)
    );
    let device = engine.device(&key("d1"), None).unwrap();
    assert_eq!(device.record.platform.as_deref(), Some("ios"));
    assert_eq!(device.source.as_deref(), Some("admin"));
    let verdict = |device, name| {
        engine
            .decide(&ask(Some(&key(device)), Some(&user(name))))
            .verdict
    };
    assert_eq!(verdict("d1", "alice"), Verdict::Allow);
    assert_eq!(verdict("d2", "alice"), Verdict::Block);
    assert_eq!(verdict("d3", "alice"), Verdict::Allow);
    assert_eq!(verdict("d3", "carol"), Verdict::Quarantine);
    assert_eq!(
        engine
            .clear_device_override(&key("d2"))
            .await
            .unwrap()
            .revision,
        5
    );
}

#[test]
fn a_folder_belongs_to_one_engine() {
    let folder = tempfile::tempdir().unwrap();
    let held = open(folder.path());
    let refused = Engine::open(folder.path(), Settings::default())
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(refused, StoreError::Locked { .. }), "{refused}");
    drop(held);
    open(folder.path());
}

#[tokio::test]
async fn compaction_keeps_the_state_and_says_what_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let (engine, _) = open(folder.path());
    for _ in 0..3 {
        engine
            .override_device(&key("d9"), set(Verdict::Block))
            .await
            .unwrap();
        engine.clear_device_override(&key("d9")).await.unwrap();
    }
    engine.forget(&key("d3")).await.unwrap();
    let before: Vec<_> = engine.export().collect();
    engine.compact_store().await.unwrap();
    assert_eq!(
        engine.subscribe(Some(10)).map(|_| ()).unwrap_err().oldest,
        11
    );
    engine
        .override_device(&key("d4"), set(Verdict::Block))
        .await
        .unwrap();
    drop(engine);
    let (engine, recovery) = open(folder.path());
    assert_eq!((recovery.changes, recovery.revision), (4, 12));
    assert_eq!(engine.export().collect::<Vec<_>>(), before);
    assert!(holds(&engine, "d2") && !holds(&engine, "d3") && holds(&engine, "d4"));
    assert!(engine.subscribe(Some(10)).is_err());
    let mut feed = engine.subscribe(Some(11)).unwrap();
    assert_eq!(feed.next().await.unwrap().revision(), 12);
}

#[tokio::test]
async fn the_journal_compacts_itself_when_most_of_it_is_dead() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _) = open(folder.path());
    for _ in 0..15 {
        let mut import = engine.begin_import(Default::default());
        for number in 0..1_000 {
            let patch = Patch {
                reason: Some(Some(fresh_text())),
                ..Patch::default()
            };
            import
                .push(Ok((key(&format!("d{number}")), patch)))
                .await
                .unwrap();
        }
        import.finish().await.unwrap();
    }
    drop(engine);
    let (engine, recovery) = open(folder.path());
    assert_eq!(recovery.revision, 15_000);
    assert!(
        recovery.changes < 15_000,
        "{} changes are left",
        recovery.changes
    );
    assert_eq!(engine.counts().known, 1_000);
}

/// A text that no record had before.
fn fresh_text() -> String {
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NUMBER
        .fetch_add(1, std::sync::atomic::Ordering::SeqCst)
        .to_string()
}

#[tokio::test]
async fn three_exports_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _) = open(folder.path());
    let mut last = None;
    for _ in 0..5 {
        engine
            .override_device(&key("d1"), set(Verdict::Block))
            .await
            .unwrap();
        last = Some(engine.export_store().await.unwrap());
    }
    let kept: Vec<_> = std::fs::read_dir(folder.path().join("exports"))
        .unwrap()
        .collect();
    assert_eq!(kept.len(), 3);
    assert!(last.unwrap().exists());
}

#[tokio::test]
async fn the_audit_trail_outlives_restarts_and_compactions_within_its_retention() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(
        Timestamp::from_second(1_800_000_000).unwrap(),
    ));
    let open = || {
        Engine::open_at(
            folder.path(),
            Settings::default(),
            Arc::clone(&clock) as Arc<_>,
        )
        .unwrap()
        .0
    };
    let event = |action: &str| api::AuditEvent {
        who: "alice".to_owned(),
        role: "operate".to_owned(),
        action: action.to_owned(),
        target: Some("D1".to_owned()),
        detail: serde_json::json!({ "verdict": "block" }),
        from: Some("127.0.0.1".to_owned()),
        status: 200,
        revision: 1,
    };
    let engine = open();
    assert_eq!(engine.audit(event("one")).await, Ok(1));
    clock.advance(86_400_000);
    assert_eq!(engine.audit(event("two")).await, Ok(2));
    engine.compact_store().await.unwrap();
    drop(engine);
    let engine = open();
    assert_eq!(engine.audit(event("three")).await, Ok(3));
    let actions = |engine: &Engine, period: &crate::engine::Period| {
        let trail = engine.audit_trail(period).unwrap();
        trail
            .into_iter()
            .map(|entry| entry.event.action)
            .collect::<Vec<_>>()
    };
    let all = crate::engine::Period::default();
    assert_eq!(actions(&engine, &all), ["one", "two", "three"]);
    let now = crate::clock::Clock::now(&*clock);
    for (period, expected) in [
        (
            crate::engine::Period {
                from: Some(now),
                ..all
            },
            vec!["two", "three"],
        ),
        (
            crate::engine::Period {
                to: Some(now),
                ..all
            },
            vec!["one"],
        ),
        (
            crate::engine::Period {
                after: 1,
                limit: Some(1),
                ..all
            },
            vec!["two"],
        ),
    ] {
        assert_eq!(actions(&engine, &period), expected, "{period:?}");
    }
    engine.trim_audit_trail(now).await.unwrap();
    assert_eq!(actions(&engine, &all), ["two", "three"]);
}

#[tokio::test]
async fn how_long_a_source_has_been_silent_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(
        Timestamp::from_second(1_800_000_000).unwrap(),
    ));
    let settings = Settings {
        stale_after: Some(60),
        ..Settings::default()
    };
    let open = || {
        let engine = Engine::open_at(folder.path(), settings, Arc::clone(&clock) as Arc<_>);
        let engine = engine.unwrap().0;
        engine.configure(settings, crate::Policies::default(), &[]);
        engine
    };
    let engine = open();
    let mut import = engine.begin_import(crate::engine::ImportOptions::default());
    let patch = Patch::from_json(br#"{"user":"alice"}"#).unwrap().1;
    import.push(Ok((key("d1"), patch))).await.unwrap();
    import.finish().await.unwrap();
    let reported = engine.sources()[0].reported;
    drop(engine);
    clock.advance(3_600_000);
    let engine = open();
    assert_eq!(engine.sources()[0].reported, reported);
    assert!(engine.sources()[0].stale);
    assert!(
        engine
            .decide(&ask(Some(&key("d1")), Some(&user("alice"))))
            .refuses()
    );
}
