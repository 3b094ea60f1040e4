//! The dependency graph is what `deny.toml` and ARCHITECTURE.md say it is. The bans are read from
//! `deny.toml` itself, so that this test and `cargo deny` cannot drift apart.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::process::Command;

use serde_json::Value;

/// Crates that know a protocol or the verdict, and nothing of each other.
const LEAVES: [&str; 3] = ["seg-eas", "seg-ews", "seg-compliance"];

/// Leaves that do no I/O at all.
const SANS_IO: [&str; 2] = ["seg-eas", "seg-ews"];

/// What a sans-IO crate must not reach, not even through others.
const IO: [&str; 6] = ["tokio", "hyper", "rustls", "socket2", "mio", "axum"];

/// Packages at the top: nothing depends on them.
const TOPS: [&str; 2] = ["seg-tests", "seg-bench"];

/// The crates that the design is built on.
const FOUNDATION: [&str; 9] = [
    "config",
    "dashmap",
    "hyper",
    "notify",
    "quick-xml",
    "rustls",
    "sled",
    "tokio",
    "tracing",
];

#[test]
fn banned_crates_stay_out() {
    let graph = Graph::read();
    let rules = Bans::read();
    assert!(!rules.banned.is_empty(), "deny.toml bans nothing");
    for name in &rules.banned {
        assert!(
            graph.versions(name).is_empty(),
            "{name} is banned by deny.toml, brought in by {:?}",
            graph.users(name)
        );
    }
}

#[test]
fn shared_crates_have_one_version() {
    let graph = Graph::read();
    let rules = Bans::read();
    assert!(
        !rules.single.is_empty(),
        "deny.toml names no crate that may have one version only"
    );
    for name in &rules.single {
        let versions = graph.versions(name);
        assert!(
            versions.len() <= 1,
            "{name} is there in several versions: {versions:?}"
        );
    }
}

#[test]
fn leaves_do_not_know_each_other() {
    let graph = Graph::read();
    for leaf in LEAVES {
        let reached = graph.reach(leaf);
        for other in graph.members.iter().filter(|other| **other != leaf) {
            assert!(
                !reached.contains(other.as_str()),
                "{leaf} depends on {other}"
            );
        }
    }
}

#[test]
fn protocol_crates_do_no_io() {
    let graph = Graph::read();
    for leaf in SANS_IO {
        let reached = graph.reach(leaf);
        for banned in IO {
            assert!(!reached.contains(banned), "{leaf} reaches {banned}");
        }
    }
}

#[test]
fn nothing_depends_on_tests_and_benches() {
    let graph = Graph::read();
    for top in TOPS {
        assert!(
            graph.members.contains(top),
            "{top} is no member of the workspace"
        );
        assert_eq!(graph.users(top), BTreeSet::new(), "{top} has dependents");
    }
}

#[test]
fn foundation_is_in_use() {
    let graph = Graph::read();
    let reached = graph.reach("seg-core");
    for name in FOUNDATION {
        assert!(reached.contains(name), "seg-core does not reach {name}");
    }
}

/// The two kinds of entry in `[bans] deny` of deny.toml.
struct Bans {
    /// Crates that must not be there.
    banned: Vec<String>,
    /// Crates that may be there in one version only.
    single: Vec<String>,
}

impl Bans {
    fn read() -> Self {
        let path = seg_tests::workspace_root().join("deny.toml");
        let text = std::fs::read_to_string(&path).expect("deny.toml is beside Cargo.toml");
        let table: toml::Table = text.parse().expect("deny.toml is TOML");
        let entries = table["bans"]["deny"]
            .as_array()
            .expect("[bans] deny is a list");
        let (single, banned) = entries.iter().partition::<Vec<_>, _>(|entry| {
            entry
                .get("deny-multiple-versions")
                .and_then(toml::Value::as_bool)
                == Some(true)
        });
        let names = |entries: Vec<&toml::Value>| {
            entries
                .into_iter()
                .map(|entry| {
                    entry["crate"]
                        .as_str()
                        .expect("an entry names its crate")
                        .to_owned()
                })
                .collect()
        };
        Self {
            banned: names(banned),
            single: names(single),
        }
    }
}

/// The resolved graph of the workspace with all features, on the platform the gateway runs on.
struct Graph {
    members: BTreeSet<String>,
    /// Package id to name and version.
    packages: BTreeMap<String, (String, String)>,
    /// Package id to the ids it depends on, build and development dependencies of members included.
    edges: BTreeMap<String, BTreeSet<String>>,
    /// As `edges`, without the development dependencies.
    shipped: BTreeMap<String, BTreeSet<String>>,
    live: BTreeSet<String>,
}

impl Graph {
    fn read() -> Self {
        let metadata = cargo_metadata();
        let packages: BTreeMap<&str, &Value> = list(&metadata["packages"])
            .map(|package| (text(&package["id"]), package))
            .collect();
        let mut edges = BTreeMap::<String, BTreeSet<String>>::new();
        let mut shipped = BTreeMap::<String, BTreeSet<String>>::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let from = text(&node["id"]);
            let (all, ours) = (
                edges.entry(from.into()).or_default(),
                shipped.entry(from.into()).or_default(),
            );
            for dep in list(&node["deps"]) {
                let to = text(&dep["pkg"]);
                if !is_switched_on(packages[from], node, text(&packages[to]["name"])) {
                    continue;
                }
                all.insert(to.to_owned());
                if list(&dep["dep_kinds"]).any(|kind| kind["kind"] != "dev") {
                    ours.insert(to.to_owned());
                }
            }
        }
        let member_ids: Vec<&str> = list(&metadata["workspace_members"]).map(text).collect();
        Self {
            members: member_ids
                .iter()
                .map(|id| text(&packages[id]["name"]).to_owned())
                .collect(),
            live: walk(&edges, member_ids.into_iter()),
            packages: packages
                .iter()
                .map(|(id, package)| {
                    (
                        (*id).to_owned(),
                        (
                            text(&package["name"]).to_owned(),
                            text(&package["version"]).to_owned(),
                        ),
                    )
                })
                .collect(),
            edges,
            shipped,
        }
    }

    /// The versions of a crate that are built.
    fn versions(&self, name: &str) -> BTreeSet<&str> {
        self.live
            .iter()
            .map(|id| &self.packages[id])
            .filter(|(found, _)| found == name)
            .map(|(_, version)| version.as_str())
            .collect()
    }

    /// Names of the crates with an edge to `name`.
    fn users(&self, name: &str) -> BTreeSet<&str> {
        self.live
            .iter()
            .filter(|id| self.edges[*id].iter().any(|to| self.packages[to].0 == name))
            .map(|id| self.packages[id].0.as_str())
            .collect()
    }

    /// Names of everything a package is built from, itself left out.
    fn reach(&self, name: &str) -> BTreeSet<&str> {
        let start: Vec<&str> = self
            .packages
            .iter()
            .filter(|(_, (found, _))| found == name)
            .map(|(id, _)| id.as_str())
            .collect();
        assert_eq!(start.len(), 1, "{name} is not one package");
        let mut reached = walk(&self.shipped, start.iter().copied());
        reached.remove(start[0]);
        reached
            .iter()
            .map(|id| self.packages[id].0.as_str())
            .collect()
    }
}

/// Whether the features of `node` switch its dependency `on` on. Cargo lists an optional dependency
/// that is only named weakly (`ring?/alloc`) as an edge, although it is never built.
fn is_switched_on(package: &Value, node: &Value, on: &str) -> bool {
    let mut wanted = list(&package["dependencies"]).filter(|dependency| dependency["name"] == on);
    wanted.any(|dependency| {
        let alias = dependency["rename"].as_str().unwrap_or(on);
        dependency["optional"] != true
            || list(&node["features"])
                .flat_map(|feature| list(&package["features"][text(feature)]))
                .map(text)
                .any(|item| {
                    item == format!("dep:{alias}") || item.starts_with(&format!("{alias}/"))
                })
    })
}

fn walk<'a>(
    edges: &BTreeMap<String, BTreeSet<String>>,
    start: impl Iterator<Item = &'a str>,
) -> BTreeSet<String> {
    let mut queue: VecDeque<String> = start.map(str::to_owned).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = queue.pop_front() {
        if seen.insert(id.clone()) {
            queue.extend(edges[&id].iter().cloned());
        }
    }
    seen
}

fn cargo_metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .current_dir(seg_tests::workspace_root())
        .args([
            "metadata",
            "--format-version=1",
            "--all-features",
            "--locked",
        ])
        .arg("--filter-platform=x86_64-unknown-linux-gnu")
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string in cargo's metadata")
}
