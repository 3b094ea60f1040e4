//! The fleet in numbers: by verdict, reason, platform, mail client and source.

use std::collections::BTreeMap;

use super::Engine;
use super::change::plain_ask;
use crate::api::{Report, ReportRow, ReportSource};
use crate::intern::Symbol;

/// Most rows of one kind; what is rarer is gathered in one row.
const ROWS_MAX: usize = 1_000;
const REST: &str = "(other)";

impl Engine {
    /// Judges every known device and counts. Blocks while it does.
    #[must_use]
    pub fn report(&self) -> Report {
        let shared = &self.shared;
        let mut keys = Vec::with_capacity(shared.devices.len());
        shared.devices.each(|key, entry| {
            if entry.known {
                keys.push(key.clone());
            }
        });
        let mut counted: BTreeMap<(&'static str, String), ReportRow> = BTreeMap::new();
        let mut rows: BTreeMap<&'static str, usize> = BTreeMap::new();
        let mut report = Report {
            at: shared.clock.now(),
            devices: keys.len() as u64,
            unknown: shared.seen.len() as u64,
            ..Report::default()
        };
        for key in &keys {
            let (owner, agent) = shared.owner_and_agent(key);
            let agent = agent.as_ref().map_or("", Symbol::as_str);
            let decision = shared.decide(
                &plain_ask(Some(key), owner.as_ref(), agent),
                &shared.moment(),
            );
            let (platform, source) = shared.devices.read(key, |entry| {
                let facts = entry.map(|entry| &entry.facts);
                let text = |symbol: Option<&Symbol>| symbol.map(|text| text.as_str().to_owned());
                (
                    text(facts.and_then(|facts| facts.platform.as_ref())),
                    text(facts.and_then(|facts| facts.source.as_ref())),
                )
            });
            let client = agent.split('/').next().unwrap_or_default();
            let reason = decision.reason.as_deref().or(decision.rule.as_deref());
            let trial = decision.trial.as_ref().map(|trial| trial.rule.to_string());
            let kinds = [
                ("verdict", Some(decision.verdict.name().to_owned())),
                ("step", Some(decision.step.name().to_owned())),
                ("reason", reason.map(str::to_owned)),
                ("platform", Some(platform.unwrap_or_default())),
                ("client", Some(client.to_owned())),
                ("source", Some(source.unwrap_or_default())),
                ("test", trial),
            ];
            for (kind, value) in kinds {
                let Some(value) = value else { continue };
                let full = rows.get(kind).is_some_and(|rows| *rows >= ROWS_MAX);
                let known = counted.contains_key(&(kind, value.clone()));
                let value = if full && !known {
                    REST.to_owned()
                } else {
                    value
                };
                let row = counted.entry((kind, value.clone())).or_insert_with(|| {
                    *rows.entry(kind).or_default() += 1;
                    ReportRow {
                        kind: kind.to_owned(),
                        value,
                        ..ReportRow::default()
                    }
                });
                row.devices += 1;
                match decision.verdict {
                    crate::Verdict::Allow => row.allow += 1,
                    crate::Verdict::Quarantine => row.quarantine += 1,
                    crate::Verdict::Block => row.block += 1,
                }
            }
        }
        report.rows = counted.into_values().collect();
        report.sources = self
            .sources()
            .into_iter()
            .map(|source| ReportSource {
                age_seconds: report.at.as_second() - source.reported.as_second(),
                source: source.name,
                reported: source.reported,
                stale: source.stale,
            })
            .collect();
        report
    }
}
