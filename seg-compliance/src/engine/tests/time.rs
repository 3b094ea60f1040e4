//! What time changes: silent devices, windows, overrides, sources that fall silent; and what it
//! does to requests in flight.

use super::*;
use crate::engine::{ImportMode, ImportOptions};
use crate::{Policies, StaleAnswer, Step};

const DAY: i64 = 86_400_000;

fn policies(text: &str) -> Policies {
    Policies::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

impl Bench {
    pub(super) fn tick(&self) -> u64 {
        self.engine.tick(crate::clock::Clock::now(&*self.clock))
    }

    pub(super) async fn report(&self, source: &str, lines: &[&str]) {
        let options = ImportOptions {
            mode: ImportMode::Delta,
            source: Some(source.to_owned()),
            ..ImportOptions::default()
        };
        self.import(options, lines).await;
    }

    async fn import(&self, options: ImportOptions, lines: &[&str]) {
        let mut import = self.engine.begin_import(options);
        let text = lines.join("\n");
        let mut read = Vec::new();
        let mut reader = crate::record::ndjson::Reader::new();
        reader.feed(text.as_bytes(), &mut |line| read.push(line));
        reader.finish(&mut |line| read.push(line));
        for line in read {
            import.push(line).await.unwrap();
        }
        import.finish().await.unwrap();
    }
}

#[tokio::test]
async fn a_device_that_becomes_inactive_at_midnight_is_cut_at_midnight() {
    let bench = bench(Settings::default());
    // The clock stands at 2027-01-15T08:00:00Z.
    bench
        .record(
            "d1",
            r#"{"user":"alice","last_seen":"2026-12-17T00:00:00Z"}"#,
        )
        .await;
    bench
        .record(
            "d2",
            r#"{"user":"alice","last_seen":"2026-12-17T00:00:01Z"}"#,
        )
        .await;
    let text = "[[policy]]\nid=\"silent\"\nwhen={inactive_days=30}\naction=\"block\"";
    bench
        .engine
        .configure(Settings::default(), policies(text), &[]);
    let _silent = bench.granted("d1", "alice", 0, 1);
    let _later = bench.granted("d2", "alice", 0, 2);
    // The user's devices are all well: his request without a device passes.
    let _deviceless = bench.granted("", "alice", 0, 3);
    bench.clock.advance(16 * 3_600_000 - 1);
    assert_eq!((bench.tick(), bench.cuts()), (0, vec![]));
    bench.clock.advance(1);
    assert_eq!((bench.tick(), bench.cuts()), (1, vec![(0, vec![1])]));
    assert!(bench.decide("d1", "alice").refuses());
    bench.clock.advance(1_000);
    assert_eq!(
        bench.tick(),
        2,
        "the second device, and the request by user with it"
    );
    assert_eq!(bench.cuts(), [(0, vec![2, 3])]);
    // It is heard of again.
    bench
        .record("d1", r#"{"last_seen":"2027-01-16T00:00:00Z"}"#)
        .await;
    assert!(!bench.decide("d1", "alice").refuses());
}

#[tokio::test]
async fn a_window_that_closes_cuts_and_one_that_opens_lets_in() {
    let bench = bench(Settings::default());
    bench.record("d1", r#"{"user":"alice"}"#).await;
    let text = r#"
        [[policy]]
        id = "open"
        when = { window = { from = "07:00", to = "09:00" } }
        action = "allow"
        [[policy]]
        id = "closed"
        action = "block"
    "#;
    bench
        .engine
        .configure(Settings::default(), policies(text), &[]);
    let _poll = bench.granted("d1", "alice", 3, 7);
    bench.clock.advance(3_600_000 - 1);
    assert_eq!(bench.tick(), 0);
    bench.clock.advance(1);
    assert_eq!((bench.tick(), bench.cuts()), (1, vec![(3, vec![7])]));
    let decision = bench.decide("d1", "alice");
    assert_eq!(decision.rule.as_deref(), Some("closed"));
    bench.clock.advance(22 * 3_600_000);
    assert!(!bench.decide("d1", "alice").refuses());
}

#[tokio::test]
async fn facts_of_a_silent_source_are_too_old() {
    let settings = Settings {
        stale_after: Some(60),
        ..Settings::default()
    };
    let bench = bench(settings);
    bench.engine.configure(settings, Policies::default(), &[]);
    bench
        .report(
            "uem",
            &[r#"{"device_id":"d1","user":"alice","managed":true}"#],
        )
        .await;
    bench.record("d2", r#"{"user":"bob"}"#).await;
    let _poll = bench.granted("d1", "alice", 0, 1);
    let _by_hand = bench.granted("d2", "bob", 0, 2);
    bench.clock.advance(3_600_000 - 1);
    assert_eq!(bench.tick(), 0);
    assert!(!bench.engine.sources()[0].stale);
    bench.clock.advance(1);
    assert_eq!((bench.tick(), bench.cuts()), (1, vec![(0, vec![1])]));
    let decision = bench.decide("d1", "alice");
    assert_eq!(decision.reason.as_deref(), Some("stale_facts"));
    assert_eq!(
        (decision.step, decision.verdict),
        (Step::Default, Verdict::Block)
    );
    assert!(bench.engine.sources()[0].stale);
    let explained = bench
        .engine
        .explain(&ask(Some(&key("d1")), Some(&user("alice"))));
    assert_eq!(explained.steps.last().unwrap().saw["stale"], true);
    // What a source did not report does not age with it; and a report mends everything.
    assert!(!bench.decide("d2", "bob").refuses());
    bench.report("uem", &[]).await;
    assert!(!bench.decide("d1", "alice").refuses());
}

#[tokio::test]
async fn nobody_has_set_anything_and_a_silent_source_blocks_its_devices_after_two_days() {
    let bench = bench(Settings::default());
    bench
        .report("uem", &[r#"{"device_id":"d1","user":"alice"}"#])
        .await;
    bench.clock.advance(2 * DAY - 1);
    bench.tick();
    assert!(!bench.decide("d1", "alice").refuses());
    bench.clock.advance(1);
    bench.tick();
    let decision = bench.decide("d1", "alice");
    assert_eq!(
        (decision.verdict, decision.reason.as_deref()),
        (Verdict::Block, Some("stale_facts"))
    );
}

#[tokio::test]
async fn single_events_of_a_source_that_never_told_everything_age_from_the_first_one() {
    let settings = Settings {
        stale_after: Some(60),
        ..Settings::default()
    };
    let bench = bench(settings);
    let event = ImportOptions {
        source: Some("uem".to_owned()),
        event: true,
        ..ImportOptions::default()
    };
    let line = |device: &str| format!(r#"{{"device_id":"{device}","user":"alice"}}"#);
    bench.import(event.clone(), &[&line("d1")]).await;
    bench.clock.advance(40 * 60_000);
    bench.import(event, &[&line("d2")]).await;
    bench.tick();
    assert!(!bench.decide("d1", "alice").refuses());
    bench.clock.advance(20 * 60_000);
    bench.tick();
    assert_eq!(
        ["d1", "d2"].map(|device| bench.decide(device, "alice").refuses()),
        [true, true]
    );
}

#[tokio::test]
async fn a_policy_says_what_holds_for_facts_that_are_too_old() {
    let text = |stale: &str| {
        format!(
            "[[policy]]\nid=\"encrypted\"\nwhen={{encrypted=true,command=\"Ping\"}}\naction=\"allow\"\n\
             stale=\"{stale}\"\n"
        )
    };
    for (answer, stale, verdict, reason) in [
        (
            StaleAnswer::Block,
            "last-known",
            Verdict::Allow,
            "encrypted",
        ),
        (StaleAnswer::Block, "block", Verdict::Block, "stale_facts"),
        (StaleAnswer::Block, "allow", Verdict::Block, "stale_facts"),
        (StaleAnswer::Allow, "block", Verdict::Block, "stale_facts"),
        (StaleAnswer::Allow, "allow", Verdict::Allow, ""),
        (StaleAnswer::LastKnown, "allow", Verdict::Allow, ""),
    ] {
        let settings = Settings {
            stale_after: Some(1),
            stale: answer,
            ..Settings::default()
        };
        let bench = bench(settings);
        bench
            .engine
            .configure(settings, policies(&text(stale)), &[]);
        bench
            .report(
                "uem",
                &[r#"{"device_id":"d1","user":"alice","encrypted":true}"#],
            )
            .await;
        assert_eq!(
            bench.decide("d1", "alice").rule.as_deref(),
            Some("encrypted")
        );
        bench.clock.advance(60_000);
        bench.tick();
        let decision = bench.decide("d1", "alice");
        let found = (
            decision.verdict,
            decision.reason.as_deref().unwrap_or_default(),
        );
        assert_eq!(found, (verdict, reason), "{answer:?} {stale}");
        let explained = bench
            .engine
            .explain(&ask(Some(&key("d1")), Some(&user("alice"))));
        assert_eq!(
            (explained.verdict, explained.step),
            (decision.verdict, decision.step)
        );
    }
}

#[tokio::test]
async fn a_source_may_have_a_limit_of_its_own() {
    let settings = Settings {
        stale_after: Some(60),
        ..Settings::default()
    };
    let bench = bench(settings);
    let limits = [("slow".to_owned(), 120), ("never".to_owned(), 0)];
    bench.engine.limit_sources(limits);
    bench.engine.configure(settings, Policies::default(), &[]);
    for source in ["uem", "slow", "never"] {
        let line = format!(r#"{{"device_id":"{source}","user":"alice"}}"#);
        bench.report(source, &[&line]).await;
    }
    bench.clock.advance(90 * 60_000);
    bench.tick();
    let refused = |device: &str| bench.decide(device, "alice").refuses();
    assert_eq!(["uem", "slow", "never"].map(refused), [true, false, false]);
    bench.clock.advance(100 * DAY);
    bench.tick();
    assert_eq!(["uem", "slow", "never"].map(refused), [true, true, false]);
}

#[tokio::test]
async fn the_oldest_devices_of_a_user_stay_within_his_number() {
    let bench = bench(Settings {
        unknown_device: Verdict::Allow,
        ..Settings::default()
    });
    let settings = bench.engine.settings();
    for device in ["c", "a", "b"] {
        bench.record(device, r#"{"user":"alice"}"#).await;
        bench.clock.advance(1_000);
    }
    let text = "[[policy]]\nid=\"two\"\nwhen={max_devices=2}\naction=\"block\"";
    bench.engine.configure(settings, policies(text), &[]);
    let refused = |device: &str| bench.decide(device, "alice").refuses();
    assert_eq!(
        ["c", "a", "b", "unknown"].map(refused),
        [false, false, true, true]
    );
    assert!(!bench.decide("unknown", "bob").refuses());
    // One goes, the next takes its place.
    bench.engine.forget(&key("c")).await.unwrap();
    assert_eq!(["a", "b", "unknown"].map(refused), [false, false, true]);
    // One that changes hands is the first of its new user, and cuts what no longer has a place.
    bench.record("old", r#"{"user":"bob"}"#).await;
    bench.clock.advance(1_000);
    for device in ["d", "e"] {
        bench.record(device, r#"{"user":"carol"}"#).await;
        bench.clock.advance(1_000);
    }
    let _last = bench.granted("e", "carol", 0, 9);
    bench.record("old", r#"{"user":"carol"}"#).await;
    assert_eq!(bench.cuts(), [(0, vec![9])]);
}

#[tokio::test]
async fn a_policy_in_test_mode_reports_device_by_device() {
    let bench = bench(Settings::default());
    bench
        .record("d1", r#"{"user":"alice","encrypted":false}"#)
        .await;
    bench
        .record("d2", r#"{"user":"alice","encrypted":true}"#)
        .await;
    let text = "[[policy]]\nid=\"tried\"\nmode=\"test\"\nwhen={encrypted=false}\naction=\"quarantine\"\n\
                [[policy]]\nid=\"told\"\nwhen={encrypted=false}\naction=\"notify\"";
    bench
        .engine
        .configure(Settings::default(), policies(text), &[]);
    let decision = bench.decide("d1", "alice");
    let trial = decision.trial.clone().unwrap();
    assert_eq!(
        (&*trial.rule, trial.verdict),
        ("tried", Verdict::Quarantine)
    );
    assert!(!decision.refuses());
    assert_eq!(bench.decide("d2", "alice").trial, None);
    let shown = bench.engine.device(&key("d1"), None).unwrap();
    assert_eq!(shown.decision.trial.unwrap().rule, "tried");
}

#[tokio::test]
async fn a_request_in_flight_is_judged_by_how_it_came() {
    let bench = bench(Settings::default());
    bench.record("d1", r#"{"user":"alice"}"#).await;
    let (d1, alice) = (key("d1"), user("alice"));
    let inside = Ask {
        via: crate::Via {
            address: Some("10.1.1.1".parse().unwrap()),
            version: "12.1",
            ..crate::Via::default()
        },
        ..ask(Some(&d1), Some(&alice))
    };
    let admitted = bench
        .engine
        .admit(&inside, 0, 1, Timestamp::UNIX_EPOCH, None);
    assert!(matches!(admitted, Admission::Granted(..)));
    for (when, cut) in [
        ("network_not=\"10.0.0.0/8\"", 0),
        ("protocol_version_below=\"12.1\"", 0),
        ("network=\"10.0.0.0/8\",protocol_version=\"12.1\"", 1),
    ] {
        let text = format!("[[policy]]\nid=\"p\"\nwhen={{{when}}}\naction=\"block\"");
        let found = bench
            .engine
            .configure(Settings::default(), policies(&text), &[]);
        assert_eq!(found, cut, "{when}");
    }
}
