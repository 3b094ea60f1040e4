//! What a run found: a table for people, JSON for scripts, and the targets beside it.

use std::fmt::Write as _;

use seg_bench::median;
use serde_json::{Value, json};

use crate::firewall::Firewalled;
use crate::measure::{Idle, Small};
use crate::proxy::Kind;
use crate::spread::{MANY, Spread};
use crate::streams::Streams;

/// All that was measured; what was left out is empty.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) machine: String,
    pub(crate) versions: Vec<String>,
    pub(crate) small: Vec<(Kind, Small)>,
    pub(crate) large: Vec<(Kind, Vec<f64>)>,
    pub(crate) idle: Vec<Idle>,
    pub(crate) folders: Vec<(Kind, Small)>,
    pub(crate) streams: Vec<Streams>,
    pub(crate) spread: Option<Spread>,
    pub(crate) firewall: Option<Firewalled>,
}

/// A line of the table.
struct Row {
    key: String,
    name: String,
    unit: &'static str,
    values: Vec<(Kind, f64)>,
    /// The gateway's by nginx's, where turns side by side tell it better than two medians.
    paired: Option<f64>,
    target: Option<Target>,
}

/// What is to be reached, and what is wished for.
#[derive(Clone, Copy)]
enum Target {
    /// At most so many times nginx.
    OfNginx { first: f64, goal: f64 },
    /// At most this value.
    AtMost { first: f64, goal: f64 },
}

impl Target {
    /// The value that is held against the bounds, the bounds, and how both are written.
    fn judged(self, seg: f64, ratio: Option<f64>) -> Option<(f64, f64, f64, &'static str)> {
        match self {
            Self::OfNginx { first, goal } => Some((ratio?, first, goal, "×")),
            Self::AtMost { first, goal } => Some((seg, first, goal, "")),
        }
    }
}

impl Row {
    fn of(&self, kind: Kind) -> Option<f64> {
        self.values
            .iter()
            .find(|(other, _)| *other == kind)
            .map(|(_, value)| *value)
    }

    /// The gateway's by nginx's.
    fn ratio(&self) -> Option<f64> {
        self.paired
            .or_else(|| Some(self.of(Kind::Seg)? / self.of(Kind::Nginx)?))
    }

    fn judgement(&self) -> Option<(f64, f64, f64, &'static str)> {
        self.target?.judged(self.of(Kind::Seg)?, self.ratio())
    }
}

impl Report {
    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut row = |key: String, name: String, unit, values: Vec<_>, target| {
            if !values.is_empty() {
                rows.push(Row {
                    key,
                    name,
                    unit,
                    values,
                    paired: None,
                    target,
                });
            }
        };
        let small = |of: fn(&Small) -> &[f64]| -> Vec<(Kind, f64)> {
            self.small
                .iter()
                .map(|(kind, small)| (*kind, median(of(small))))
                .collect()
        };
        let cpu = Some(Target::OfNginx {
            first: 0.9,
            goal: 0.65,
        });
        row(
            "sync_cpu_us".into(),
            "CPU per Sync, 2 KB answer".into(),
            "µs",
            small(|s| &s.cpu_micros),
            cpu,
        );
        row(
            "sync_per_second".into(),
            "Syncs per second".into(),
            "",
            small(|s| &s.per_second),
            None,
        );
        row(
            "sync_p50_us".into(),
            "Sync latency, p50".into(),
            "µs",
            small(|s| &s.p50_micros),
            None,
        );
        row(
            "sync_p99_us".into(),
            "Sync latency, p99".into(),
            "µs",
            small(|s| &s.p99_micros),
            None,
        );
        let large = self
            .large
            .iter()
            .map(|(kind, millis)| (*kind, median(millis)))
            .collect();
        let target = Some(Target::AtMost {
            first: 18.0,
            goal: 14.0,
        });
        row(
            "fetch_cpu_ms".into(),
            "CPU per 25 MiB answer".into(),
            "ms",
            large,
            target,
        );

        if let Some(Spread { one, many }) = &self.spread {
            let spread = [(Kind::Seg, paired(many, one))];
            row(
                "spread_cpu_ratio".into(),
                format!("CPU per Sync, {MANY} mail servers, by that with one"),
                "×",
                spread.to_vec(),
                Some(Target::AtMost {
                    first: 1.05,
                    goal: 1.0,
                }),
            );
        }

        if let Some(Firewalled { off, on }) = &self.firewall {
            row(
                "firewall_cpu_ratio".into(),
                "CPU per Sync with the firewall, by that without".to_owned(),
                "×",
                vec![(Kind::Seg, paired(on, off))],
                Some(Target::AtMost {
                    first: 1.15,
                    goal: 1.15,
                }),
            );
        }

        let counts = self.idle.first().map(|idle| &idle.bytes);
        let most = counts.into_iter().flatten().map(|(count, _)| *count).max();
        for (at, (count, _)) in counts.into_iter().flatten().enumerate() {
            let values = self.idle.iter();
            let values = values.filter_map(|idle| Some((idle.kind, idle.bytes.get(at)?.1 / 1e3)));
            let target = Target::AtMost {
                first: 28.0,
                goal: 12.0,
            };
            let name = format!("memory per idle Ping, {count} open");
            let target = (Some(*count) == most).then_some(target);
            row(
                format!("ping_kb_{count}"),
                name,
                "KB",
                values.collect(),
                target,
            );
        }
        for (kind, cuts) in self
            .idle
            .iter()
            .filter_map(|idle| Some((idle.kind, idle.cuts.as_ref()?)))
        {
            let open = cuts.open;
            let one = Target::AtMost {
                first: 10.0,
                goal: 1.0,
            };
            let all = Target::AtMost {
                first: 300.0,
                goal: 100.0,
            };
            let mut cut = |key: &str, name: String, value, target| {
                row(key.to_owned(), name, "ms", vec![(kind, value)], target);
            };
            let name = |what: &str| format!("one block to its refused Ping, {open} open, {what}");
            cut("cut_p50_ms", name("p50"), cuts.p50, None);
            cut(
                "cut_p99_ms",
                name(&format!("p99 of {}", cuts.singles)),
                cuts.p99,
                Some(one),
            );
            cut(
                "cut_acknowledged_p50_ms",
                name("acknowledged, p50"),
                cuts.acknowledged_p50,
                None,
            );
            // Both bounds are the specification's own.
            let at_once = Target::AtMost {
                first: 50.0,
                goal: 50.0,
            };
            for (key, what, [p50, p99]) in [
                ("webhook", "a webhook to its refused Ping", cuts.webhook),
                (
                    "webhook_answered",
                    "a webhook to its answer",
                    cuts.webhook_answered,
                ),
            ] {
                let name = |share: &str| format!("{what}, {open} open, {share}");
                cut(&format!("{key}_p50_ms"), name("p50"), p50, None);
                cut(&format!("{key}_p99_ms"), name("p99"), p99, Some(at_once));
            }
            let last = |by: &str| format!("all of them blocked by {by}, last answer");
            cut(
                "cut_all_by_user_ms",
                last("one user"),
                cuts.all_by_user,
                Some(all),
            );
            cut(
                "cut_all_by_import_ms",
                last("one import"),
                cuts.all_by_import,
                None,
            );
        }
        self.ews(&mut row);
        for (key, measured) in [
            ("sync_cpu_us", &self.small),
            ("get_folder_cpu_us", &self.folders),
        ] {
            let of = |kind| measured.iter().find(|(other, _)| *other == kind);
            if let Some(row) = rows.iter_mut().find(|row| row.key == key)
                && let (Some((_, seg)), Some((_, nginx))) = (of(Kind::Seg), of(Kind::Nginx))
            {
                row.paired = Some(paired(seg, nginx));
            }
        }
        rows
    }

    /// The lines of EWS.
    fn ews(
        &self,
        row: &mut impl FnMut(String, String, &'static str, Vec<(Kind, f64)>, Option<Target>),
    ) {
        let folders = self.folders.iter();
        row(
            "get_folder_cpu_us".into(),
            "CPU per EWS GetFolder".into(),
            "µs",
            folders
                .map(|(kind, small)| (*kind, median(&small.cpu_micros)))
                .collect(),
            Some(Target::OfNginx {
                first: 1.2,
                goal: 1.2,
            }),
        );
        let open = self.streams.first().map_or(0, |streams| streams.open);
        row(
            "stream_kb".into(),
            format!("memory per idle EWS stream, {open} open"),
            "KB",
            self.streams
                .iter()
                .map(|streams| (streams.kind, streams.bytes / 1e3))
                .collect(),
            None,
        );
        let cut = self
            .streams
            .iter()
            .filter_map(|streams| Some((streams.kind, streams.cut_millis?)));
        row(
            "stream_cut_ms".into(),
            format!("{open} streams blocked by one user, last answer"),
            "ms",
            cut.collect(),
            Some(Target::AtMost {
                first: 200.0,
                goal: 200.0,
            }),
        );
    }

    /// For people, in Markdown.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{}\n{}\n\n", self.machine, self.versions.join("; "));
        text.push_str("| what | nginx | HAProxy | seg | seg/nginx | first | goal | |\n");
        text.push_str("|---|--:|--:|--:|--:|--:|--:|---|\n");
        for row in self.rows() {
            let cell = |kind| {
                row.of(kind)
                    .map_or_else(|| "–".to_owned(), |value| shown(value, row.unit))
            };
            let ratio = row.ratio();
            let ratio = ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
            let (first, goal, word) = match row.judgement() {
                None => ("–".to_owned(), "–".to_owned(), ""),
                Some((value, first, goal, sign)) => {
                    let word = if value <= goal {
                        "goal reached"
                    } else if value <= first {
                        "first reached"
                    } else {
                        "NOT reached"
                    };
                    (format!("{first}{sign}"), format!("{goal}{sign}"), word)
                }
            };
            // Writing to a String can't fail.
            let _written = writeln!(
                text,
                "| {} | {} | {} | {} | {ratio} | {first} | {goal} | {word} |",
                row.name,
                cell(Kind::Nginx),
                cell(Kind::Haproxy),
                cell(Kind::Seg),
            );
        }
        text
    }

    /// For scripts.
    pub(crate) fn json(&self) -> Value {
        let rows: serde_json::Map<String, Value> = self
            .rows()
            .into_iter()
            .map(|row| {
                let mut values: serde_json::Map<String, Value> = row
                    .values
                    .iter()
                    .map(|(kind, value)| (kind.name().to_ascii_lowercase(), json!(value)))
                    .collect();
                if let Some(ratio) = row.ratio() {
                    values.insert("ratio".to_owned(), json!(ratio));
                }
                if let Some((value, first, goal, _)) = row.judgement() {
                    values.insert("first_reached".to_owned(), json!(value <= first));
                    values.insert("goal_reached".to_owned(), json!(value <= goal));
                }
                (row.key, Value::Object(values))
            })
            .collect();
        let rounds: serde_json::Map<String, Value> = self
            .small
            .iter()
            .map(|(kind, small)| (kind.name().to_ascii_lowercase(), json!(small.cpu_micros)))
            .collect();
        json!({
            "machine": self.machine, "versions": self.versions,
            "results": rows, "sync_cpu_us_rounds": rounds,
        })
    }
}

/// The middle one of what one took by what the other took in the turn beside it. A machine that is
/// shared is now fast and now slow, for seconds at a time: two turns side by side mostly see the same
/// of it, and two medians need not.
fn paired(one: &Small, other: &Small) -> f64 {
    let pairs = one.cpu_micros.iter().zip(&other.cpu_micros);
    let ratios: Vec<f64> = pairs.map(|(one, other)| one / other.max(1e-9)).collect();
    median(&ratios)
}

fn shown(value: f64, unit: &str) -> String {
    let digits = if value >= 1000.0 {
        0
    } else if value >= 100.0 {
        1
    } else {
        2
    };
    let space = if unit.is_empty() { "" } else { " " };
    format!("{value:.digits$}{space}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(nginx: f64, seg: f64) -> Report {
        let small = |micros| Small {
            cpu_micros: vec![micros],
            ..Small::default()
        };
        Report {
            small: vec![(Kind::Nginx, small(nginx)), (Kind::Seg, small(seg))],
            ..Report::default()
        }
    }

    #[test]
    fn targets_are_ratios_to_the_same_run() {
        for (seg, word) in [
            (6.0, "goal reached"),
            (8.0, "first reached"),
            (9.5, "NOT reached"),
        ] {
            let table = report(10.0, seg).table();
            let line = table
                .lines()
                .find(|line| line.contains("CPU per Sync"))
                .unwrap_or_default();
            assert!(line.contains(word), "{seg}: {line}");
        }
        let json = report(10.0, 8.0).json();
        assert_eq!(json["results"]["sync_cpu_us"]["first_reached"], true);
        assert_eq!(json["results"]["sync_cpu_us"]["goal_reached"], false);
    }

    #[test]
    fn turns_side_by_side_are_compared() {
        // A fast machine in the first turns, a slow one in the others: 0.8 in each pair.
        let mut report = report(10.0, 8.0);
        for ((_, small), rest) in report.small.iter_mut().zip([[10.0, 20.0], [16.0, 16.0]]) {
            small.cpu_micros.extend(rest);
        }
        let ratios = [0.8, 1.6, 0.8];
        assert_eq!(
            paired(&report.small[1].1, &report.small[0].1),
            median(&ratios)
        );
        let json = report.json();
        assert_eq!(json["results"]["sync_cpu_us"]["first_reached"], true);
        assert_eq!(json["results"]["sync_cpu_us"]["ratio"], 0.8);
    }

    #[test]
    fn what_was_not_measured_has_no_line() {
        assert!(!report(10.0, 8.0).table().contains("Ping"));
        assert_eq!(Report::default().json()["results"], json!({}));
    }
}
