//! Every entry function for fuzzing has its target, and every target its entry function.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use seg_tests::{fuzz, workspace_root};

/// Where entry functions are, and how the targets of that file begin.
const ENTRIES: [(&str, &str); 7] = [
    ("seg-compliance/src/fuzz.rs", "compliance"),
    ("seg-eas/src/fuzz.rs", "eas"),
    ("seg-ews/src/fuzz.rs", "ews"),
    ("seg-core/src/accept/fuzz.rs", "accept"),
    ("seg-core/src/delegate/fuzz.rs", "delegate"),
    ("seg-core/src/tls/fuzz.rs", "tls"),
    ("seg-core/src/upstream/fuzz.rs", "upstream"),
];

#[test]
fn every_decoder_has_its_target() {
    let root = workspace_root();
    let mut entries = BTreeSet::new();
    for (path, prefix) in ENTRIES {
        let text = fs::read_to_string(root.join(path)).expect("a file with entry functions");
        let names = text.lines().filter_map(|line| {
            let (name, _) = line.strip_prefix("pub fn ")?.split_once('(')?;
            Some(format!("{prefix}_{name}"))
        });
        entries.extend(names);
    }
    let targets: BTreeSet<String> = fs::read_dir(root.join("tests/fuzz/fuzz_targets"))
        .expect("the folder of the targets")
        .map(|entry| stem(&entry.expect("an entry").path()))
        .collect();
    assert_eq!(entries, targets);

    let manifest = fs::read_to_string(root.join("tests/fuzz/Cargo.toml")).expect("a manifest");
    let manifest: toml::Table = manifest.parse().expect("TOML");
    let built: BTreeSet<String> = manifest["bin"]
        .as_array()
        .expect("a list of programs")
        .iter()
        .map(|bin| bin["name"].as_str().expect("a name").to_owned())
        .collect();
    assert_eq!(built, targets);

    let table = fuzz::TARGETS.iter().map(|(name, _)| (*name).to_owned());
    assert_eq!(table.collect::<BTreeSet<String>>(), targets);
    let kept = names(&root.join("tests/fuzz/corpus"));
    assert_eq!(kept, targets, "each target has a corpus");
    for target in &targets {
        let corpus = fuzz::read_corpus(&fuzz::corpus_folder(target)).expect("a corpus");
        assert!(corpus.len() > 1, "{target} has next to no corpus");
    }
}

/// Every target takes its kept corpus, the one that the seconds of `tests/run fuzz` begin with.
#[test]
fn every_kept_input_returns() {
    for (target, entry) in fuzz::TARGETS {
        let corpus = fuzz::read_corpus(&fuzz::corpus_folder(target)).expect("a corpus");
        corpus.iter().for_each(|input| entry(input));
    }
}

#[test]
fn a_target_that_panics_is_a_finding_and_its_input_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let last = folder.path().join("last");
    let limits = fuzz::Limits {
        time: Duration::from_secs(60),
        seed: 1,
    };
    // Nothing of the corpus is that long.
    let long = |data: &[u8]| assert!(data.len() < 9_000, "too long");
    let reached = fuzz::run("ews_challenge_lines", long, limits, &last).expect("a run");
    assert!(reached.panicked && reached.inputs > 7, "{reached:?}");
    assert!(fs::read(&last).expect("the input").len() >= 9_000);
}

#[test]
fn every_file_of_entries_is_known() {
    let mut found = BTreeSet::new();
    for package in ["seg-eas", "seg-ews", "seg-compliance", "seg-core"] {
        collect(&workspace_root().join(package).join("src"), &mut found);
    }
    let known: BTreeSet<String> = ENTRIES.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(found, known);
}

fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a source folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.ends_with("fuzz.rs") {
            let path = path.strip_prefix(workspace_root()).expect("a path within");
            found.insert(path.display().to_string());
        }
    }
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().expect("a file name");
    stem.to_string_lossy().into_owned()
}
