//! Damaged files, and what a start makes of them: every rung of the recovery ladder.

use super::*;

fn journal(folder: &Path) -> std::path::PathBuf {
    folder.join("journal")
}

#[tokio::test]
async fn an_empty_snapshot_is_put_aside_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    std::fs::write(journal(folder.path()).join("snap.0000000000000000"), b"").unwrap();
    let (engine, recovery) = open(folder.path());
    assert_eq!(recovery.state, State::Synced, "{:?}", recovery.steps);
    assert!(
        recovery
            .steps
            .iter()
            .any(|step| step.contains("snapshots put aside"))
    );
    assert!(
        ["d1", "d2", "d3"]
            .iter()
            .all(|device| holds(&engine, device))
    );
    assert!(folder.path().join("quarantine").exists());
}

#[tokio::test]
async fn garbage_in_the_log_is_rebuilt_from_the_export() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    ruin(folder.path(), true);
    let (engine, recovery) = open(folder.path());
    assert_eq!(recovery.state, State::Unsynced);
    assert!(
        recovery
            .steps
            .iter()
            .any(|step| step.contains("rebuilt from")),
        "{recovery:?}"
    );
    assert!(holds(&engine, "d1") && holds(&engine, "d2") && !holds(&engine, "d3"));
    let refused = engine.subscribe(Some(3)).map(|_| ()).unwrap_err();
    assert!(
        refused.oldest > 1_700_000_000_000,
        "revisions go on from the clock"
    );
    let applied = engine
        .override_device(&key("d3"), set(Verdict::Allow))
        .await
        .unwrap();
    assert!(applied.revision > refused.oldest);
    drop(engine);
    let (engine, recovery) = open(folder.path());
    assert_eq!((recovery.state, recovery.steps.len()), (State::Synced, 0));
    assert!(
        ["d1", "d2", "d3"]
            .iter()
            .all(|device| holds(&engine, device))
    );
}

#[tokio::test]
async fn a_bad_export_is_passed_over_for_an_older_one() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let (engine, _) = open(folder.path());
    let newest = engine.export_store().await.unwrap();
    drop(engine);
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&newest, bytes).unwrap();
    ruin(folder.path(), false);
    let (engine, recovery) = open(folder.path());
    assert!(
        recovery
            .steps
            .iter()
            .any(|step| step.contains("is no good export"))
    );
    assert!(holds(&engine, "d2") && !holds(&engine, "d3"));
}

#[tokio::test]
async fn without_an_export_it_starts_empty_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    std::fs::remove_dir_all(folder.path().join("exports")).unwrap();
    ruin(folder.path(), false);
    let (engine, recovery) = open(folder.path());
    assert_eq!((recovery.state, recovery.changes), (State::Unsynced, 0));
    assert!(
        recovery
            .steps
            .iter()
            .any(|step| step.contains("starting empty"))
    );
    assert!(!holds(&engine, "d1"));
    assert_eq!(
        engine.decide(&ask(Some(&key("d1")), None)).verdict,
        Verdict::Block
    );
}

#[tokio::test]
async fn a_damaged_batch_is_put_aside_and_the_rest_is_used() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    std::fs::remove_dir_all(folder.path().join("exports")).unwrap();
    damage_batch(folder.path(), 2);
    let (engine, recovery) = open(folder.path());
    assert_eq!(
        (recovery.state, recovery.damaged_batches),
        (State::Unsynced, 1)
    );
    assert!(holds(&engine, "d1") && !holds(&engine, "d2") && holds(&engine, "d3"));
    // Whoever reads the changes from before reads over it.
    let mut feed = engine.subscribe(Some(1)).unwrap();
    assert_eq!(feed.next().await.unwrap().revision(), 3);
    drop((feed, engine));
    let (_, recovery) = open(folder.path());
    assert_eq!((recovery.state, recovery.steps), (State::Synced, vec![]));
}

#[tokio::test]
async fn a_damaged_batch_is_filled_from_an_export_that_knows_it() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    damage_batch(folder.path(), 2);
    let (engine, recovery) = open(folder.path());
    assert_eq!(
        (recovery.state, recovery.damaged_batches),
        (State::Synced, 1),
        "{:?}",
        recovery.steps
    );
    let all = ["d1", "d2", "d3"];
    assert!(all.iter().all(|device| holds(&engine, device)));
    assert_eq!(
        engine.decide(&ask(Some(&key("d2")), None)).verdict,
        Verdict::Block
    );
    drop(engine);
    let (_, recovery) = open(folder.path());
    assert_eq!((recovery.revision, recovery.steps), (4, vec![]));
}

/// An export that is older than the damage knows nothing of it, and what was lost is told once.
#[tokio::test]
async fn damage_at_the_end_of_the_log_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    damage_batch(folder.path(), 4);
    let (engine, recovery) = open(folder.path());
    assert_eq!((recovery.state, recovery.revision), (State::Unsynced, 4));
    assert!(holds(&engine, "d1") && holds(&engine, "d2") && !holds(&engine, "d3"));
    drop(engine);
    let (_, recovery) = open(folder.path());
    assert_eq!((recovery.state, recovery.steps), (State::Synced, vec![]));
}

/// The last rung but one: the log can be read, but its end is gone, and no export is newer.
#[tokio::test]
async fn a_log_whose_end_is_gone_is_used_as_far_as_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    lose_batch(folder.path(), 4);
    let (engine, recovery) = open(folder.path());
    assert_eq!(recovery.state, State::Unsynced);
    let told = |part: &str| recovery.steps.iter().any(|step| step.contains(part));
    assert!(
        told("ends at revision 3, 4 was acknowledged")
            && told("going on with what is left of the log"),
        "{:?}",
        recovery.steps
    );
    assert!(holds(&engine, "d1") && holds(&engine, "d2") && !holds(&engine, "d3"));
    let applied = engine
        .override_device(&key("d3"), set(Verdict::Allow))
        .await
        .unwrap();
    assert_eq!(applied.revision, 5, "no revision is given out twice");
    drop(engine);
    let (engine, recovery) = open(folder.path());
    assert_eq!((recovery.state, recovery.steps), (State::Synced, vec![]));
    assert!(holds(&engine, "d3"));
}

#[tokio::test]
async fn a_log_whose_end_is_gone_gives_way_to_an_export_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let (engine, _) = open(folder.path());
    engine.export_store().await.unwrap();
    drop(engine);
    lose_batch(folder.path(), 4);
    let (engine, recovery) = open(folder.path());
    assert_eq!(recovery.state, State::Unsynced);
    let rebuilt = |step: &String| step.contains("rebuilt from");
    assert!(recovery.steps.iter().any(rebuilt), "{:?}", recovery.steps);
    let all = ["d1", "d2", "d3"];
    assert!(all.iter().all(|device| holds(&engine, device)));
}

/// Whatever is damaged, and where: it opens, and says so where anything is lost.
#[tokio::test]
async fn damage_anywhere_is_survived_and_never_passed_over() {
    let whole = tempfile::tempdir().unwrap();
    filled(whole.path()).await;
    let mut files = Vec::new();
    list(whole.path(), &mut files);
    assert!(files.len() >= 4, "{files:?}");
    for file in &files {
        let length = std::fs::metadata(file).unwrap().len() as usize;
        let places = 12_usize.min(length.max(1));
        for place in 0..2 * places {
            let at = (place / 2) * length / places;
            let folder = tempfile::tempdir().unwrap();
            copy(whole.path(), folder.path());
            let file = folder.path().join(file.strip_prefix(whole.path()).unwrap());
            let mut bytes = std::fs::read(&file).unwrap();
            if place % 2 == 0 {
                bytes.truncate(at);
            } else if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 0x5A;
            }
            std::fs::write(&file, bytes).unwrap();
            let what = format!("{} at {at} of {length}", file.display());
            let (engine, recovery) = open(folder.path());
            let kept = ["d1", "d2", "d3"]
                .iter()
                .all(|device| holds(&engine, device));
            assert!(
                kept || recovery.state == State::Unsynced,
                "{what}: {recovery:?}"
            );
            engine
                .override_device(&key("d9"), set(Verdict::Block))
                .await
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            drop(engine);
            let (engine, _) = open(folder.path());
            assert!(holds(&engine, "d9"), "{what}");
        }
    }
}

fn list(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, files);
        } else if path.file_name().is_some_and(|name| name != "lock") {
            files.push(path);
        }
    }
    files.sort();
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}

/// Takes the batch of this revision out of the log.
fn lose_batch(folder: &Path, last: u64) {
    let db = sled::open(journal(folder)).unwrap();
    let tree = db.open_tree("journal.1").unwrap();
    tree.remove(last.to_be_bytes()).unwrap().unwrap();
    tree.flush().unwrap();
}

/// Overwrites the batch of this revision with bytes that are none.
fn damage_batch(folder: &Path, last: u64) {
    let db = sled::open(journal(folder)).unwrap();
    let tree = db.open_tree("journal.1").unwrap();
    tree.insert(last.to_be_bytes(), b"garbage").unwrap();
    tree.flush().unwrap();
}

/// Overwrites sled's log with bytes that are none. Without a snapshot, sled takes that for an
/// empty store; with one, for a damaged one.
fn ruin(folder: &Path, snapshot: bool) {
    let path = journal(folder).join("db");
    let length = std::fs::metadata(&path).unwrap().len().min(1 << 20);
    let garbage: Vec<u8> = (0..length).map(|at| (at * 31 % 251) as u8 | 1).collect();
    std::fs::write(&path, garbage).unwrap();
    if snapshot {
        std::fs::write(journal(folder).join("snap.0000000000000000"), b"nothing").unwrap();
    }
}
