//! Imports: counts, sources, snapshots, strictness.

use super::*;
use crate::api::ImportResult;
use crate::engine::{Filter, ImportMode, ImportOptions, Refused};
use crate::record::{Line, ndjson};

fn options(mode: ImportMode, source: &str) -> ImportOptions {
    ImportOptions {
        mode,
        source: Some(source.to_owned()),
        ..ImportOptions::default()
    }
}

fn lines(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut reader = ndjson::Reader::new();
    reader.feed(text.as_bytes(), &mut |line| lines.push(line));
    reader.finish(&mut |line| lines.push(line));
    lines
}

async fn import(
    bench: &Bench,
    options: ImportOptions,
    text: &str,
) -> Result<ImportResult, Refused> {
    let mut import = bench.engine.begin_import(options);
    for line in lines(text) {
        import.push(line).await?;
    }
    import.finish().await
}

/// read, applied, unchanged, removed, cut, errors
fn counts(result: &ImportResult) -> [u64; 6] {
    let errors = result.errors.len() as u64;
    [
        result.read,
        result.applied,
        result.unchanged,
        result.removed,
        result.cut,
        errors,
    ]
}

fn devices(bench: &Bench) -> Vec<String> {
    let known = Filter {
        known: Some(true),
        ..Filter::default()
    };
    let page = bench.engine.list(&known, None, 100);
    page.devices
        .into_iter()
        .map(|device| device.record.device_id.to_string())
        .collect()
}

#[tokio::test]
async fn a_delta_merges_reports_bad_lines_and_cuts() {
    let bench = bench(Settings::default());
    bench
        .record(
            "d1",
            r#"{"user":"alice","platform":"ios","compliant":true}"#,
        )
        .await;
    let _lease = bench.granted("d1", "alice", 4, 1);
    let text = r#"{"device_id":"d1","compliant":false}
{"device_id":"d2","groups":["a"]}
nonsense
{"device_id":"d2","groups":["a"]}
"#;
    let result = import(&bench, ImportOptions::default(), text)
        .await
        .unwrap();
    assert_eq!(counts(&result), [4, 2, 1, 0, 1, 1]);
    assert_eq!((result.errors[0].line, result.revision), (3, 3));
    assert_eq!(bench.cuts(), [(4, vec![1])]);
    let device = bench.engine.device(&key("d1"), None).unwrap();
    assert_eq!(
        device.record.platform.as_deref(),
        Some("ios"),
        "what is not named stays"
    );
    assert_eq!(device.record.compliant, Some(false));
    assert_eq!(device.source.as_deref(), Some("import"));
    let again = import(&bench, ImportOptions::default(), text)
        .await
        .unwrap();
    assert_eq!(counts(&again), [4, 0, 3, 0, 0, 1]);
    assert_eq!(again.revision, 3, "nothing changed");
}

#[tokio::test]
async fn a_snapshot_removes_what_its_own_source_no_longer_names() {
    let bench = bench(Settings::default());
    let mdm = || options(ImportMode::Snapshot, "mdm");
    bench.record("byhand", "{}").await;
    import(
        &bench,
        options(ImportMode::Delta, "other"),
        "{\"device_id\":\"o1\"}",
    )
    .await
    .unwrap();
    let text = "{\"device_id\":\"m1\"}\n{\"device_id\":\"m2\"}\n{\"device_id\":\"m3\"}";
    assert_eq!(
        counts(&import(&bench, mdm(), text).await.unwrap()),
        [3, 3, 0, 0, 0, 0]
    );
    bench.override_device("m2", Verdict::Block).await;
    let lease = bench.granted("m3", "alice", 1, 7);
    let result = import(&bench, mdm(), "{\"device_id\":\"m1\"}")
        .await
        .unwrap();
    assert_eq!(counts(&result), [1, 0, 1, 2, 1, 0]);
    assert_eq!(devices(&bench), ["BYHAND", "M1", "O1"]);
    assert_eq!(bench.cuts(), [(1, vec![7])]);
    assert_eq!(
        bench.decide("m2", "alice").step,
        crate::Step::Override,
        "overrides stay"
    );
    drop(lease);
    // A delta of another source takes a record over; the snapshot of the old one leaves it alone.
    import(
        &bench,
        options(ImportMode::Delta, "other"),
        "{\"device_id\":\"m1\"}",
    )
    .await
    .unwrap();
    assert_eq!(import(&bench, mdm(), "").await.unwrap().removed, 0);
}

#[tokio::test]
async fn a_bad_line_never_removes_its_device() {
    let bench = bench(Settings::default());
    let mdm = || options(ImportMode::Snapshot, "mdm");
    let text = "{\"device_id\":\"m1\"}\n{\"device_id\":\"m2\"}\n{\"device_id\":\"m3\"}";
    import(&bench, mdm(), text).await.unwrap();
    let text = "{\"device_id\":\"m1\"}\n{\"device_id\":\"m2\",\"managed\":7}";
    assert_eq!(
        counts(&import(&bench, mdm(), text).await.unwrap()),
        [2, 0, 1, 1, 0, 1]
    );
    assert_eq!(devices(&bench), ["M1", "M2"]);
    let text = "{\"device_id\":\"m1\"}\n{\"device_id\":\"m2";
    assert_eq!(
        counts(&import(&bench, mdm(), text).await.unwrap()),
        [2, 0, 1, 0, 0, 1]
    );
    assert_eq!(devices(&bench), ["M1", "M2"]);
}

#[tokio::test]
async fn strict_applies_nothing_when_a_line_is_bad() {
    let bench = bench(Settings::default());
    let strict = || ImportOptions {
        strict: true,
        ..ImportOptions::default()
    };
    let text = "{\"device_id\":\"d1\"}\nbad\n{\"device_id\":\"d2\"}";
    let refused = import(&bench, strict(), text).await.unwrap_err();
    let Refused::BadLines(result) = refused else {
        panic!("{refused}")
    };
    assert_eq!(counts(&result), [3, 0, 0, 0, 0, 1]);
    assert!(devices(&bench).is_empty());
    let text = text.replace("bad\n", "");
    assert_eq!(
        counts(&import(&bench, strict(), &text).await.unwrap()),
        [2, 2, 0, 0, 0, 0]
    );
}

#[tokio::test]
async fn a_dry_run_counts_and_does_nothing() {
    let bench = bench(Settings::default());
    let mdm = || options(ImportMode::Snapshot, "mdm");
    import(
        &bench,
        mdm(),
        "{\"device_id\":\"d1\"}\n{\"device_id\":\"d2\"}",
    )
    .await
    .unwrap();
    let dry = ImportOptions {
        dry_run: true,
        ..mdm()
    };
    let text = "{\"device_id\":\"d2\"}\n{\"device_id\":\"d3\"}";
    assert_eq!(
        counts(&import(&bench, dry, text).await.unwrap()),
        [2, 1, 1, 1, 0, 0]
    );
    assert_eq!(devices(&bench), ["D1", "D2"]);
}

/// What a snapshot of `source` would come to under a guard of so many percent.
async fn guarded(bench: &Bench, source: &str, percent: u8, text: &str) -> Result<u64, (u64, u64)> {
    let options = ImportOptions {
        guard: Some(percent),
        ..options(ImportMode::Snapshot, source)
    };
    match import(bench, options, text).await {
        Ok(result) => Ok(result.applied + result.removed),
        Err(Refused::TooMuch {
            changed, devices, ..
        }) => Err((changed, devices)),
        Err(other) => panic!("{other}"),
    }
}

fn fleet(devices: std::ops::Range<u32>, compliant: impl Fn(u32) -> bool) -> String {
    let line = |number| {
        let compliant = compliant(number);
        format!("{{\"device_id\":\"g{number}\",\"compliant\":{compliant}}}\n")
    };
    devices.map(line).collect()
}

#[tokio::test]
async fn a_guarded_snapshot_changes_no_more_than_its_share() {
    let bench = bench(Settings::default());
    let ten = fleet(0..10, |_| true);
    assert_eq!(
        guarded(&bench, "mdm", 20, &ten).await,
        Ok(10),
        "all are new"
    );
    // Nothing, one too few, one too many, and exactly as many as may.
    assert_eq!(guarded(&bench, "mdm", 20, "").await, Err((10, 10)));
    let seven = fleet(0..7, |_| true);
    assert_eq!(guarded(&bench, "mdm", 20, &seven).await, Err((3, 10)));
    let blocked = |number| fleet(0..10, move |device| device >= number);
    assert_eq!(guarded(&bench, "mdm", 20, &blocked(3)).await, Err((3, 10)));
    // A device on two lines is one device.
    let twice = blocked(2) + &blocked(2);
    assert_eq!(guarded(&bench, "mdm", 20, &twice).await, Ok(2));
    assert_eq!(bench.engine.counts().known, 10);
    // New ones change nobody.
    let more = blocked(2) + &fleet(10..40, |_| false);
    assert_eq!(guarded(&bench, "mdm", 0, &more).await, Ok(30));
    assert_eq!(guarded(&bench, "mdm", 100, "").await, Ok(40), "no guard");
}

/// A source under a new name, or a second one, takes devices over: they are no new ones.
#[tokio::test]
async fn a_guarded_snapshot_of_another_source_is_guarded_too() {
    let bench = bench(Settings::default());
    let ten = fleet(0..10, |_| true);
    assert_eq!(guarded(&bench, "mdm", 20, &ten).await, Ok(10));
    let none = fleet(0..10, |_| false);
    assert_eq!(guarded(&bench, "renamed", 20, &none).await, Err((10, 10)));
    assert_eq!(bench.decide("g1", "alice").verdict, Verdict::Allow);
    assert_eq!(guarded(&bench, "renamed", 20, &ten).await, Ok(10));
    assert_eq!(
        bench
            .engine
            .device(&key("g1"), None)
            .unwrap()
            .source
            .as_deref(),
        Some("renamed")
    );
}

#[tokio::test]
async fn an_import_that_broke_off_is_resumed_by_sending_it_again() {
    let bench = bench(Settings::default());
    let line = |number: usize| {
        let patch = Patch {
            managed: Some(Some(true)),
            ..Patch::default()
        };
        Ok((key(&format!("d{number}")), patch))
    };
    let mut broken = bench.engine.begin_import(ImportOptions::default());
    for number in 0..3_000 {
        broken.push(line(number)).await.unwrap();
    }
    // Its sender has gone.
    drop(broken);
    let kept = bench.engine.counts().known;
    assert!((1_024..3_000).contains(&kept), "whole batches: {kept}");
    let mut again = bench.engine.begin_import(ImportOptions::default());
    for number in 0..5_000 {
        again.push(line(number)).await.unwrap();
    }
    let result = again.finish().await.unwrap();
    assert_eq!(
        (result.read, result.unchanged, result.applied),
        (5_000, kept, 5_000 - kept)
    );
    assert_eq!(bench.engine.counts().known, 5_000);
}

#[tokio::test]
async fn an_import_of_many_batches_is_whole() {
    let bench = bench(Settings::default());
    let mut import = bench.engine.begin_import(ImportOptions::default());
    for number in 0..5_000 {
        import
            .push(Ok((key(&format!("d{number}")), Patch::default())))
            .await
            .unwrap();
    }
    let result = import.finish().await.unwrap();
    assert_eq!(counts(&result), [5_000, 5_000, 0, 0, 0, 0]);
    assert_eq!((result.revision, bench.engine.revision()), (5_000, 5_000));
    assert_eq!(bench.engine.counts().known, 5_000);
}
