//! Sources: when each has last reported everything it had to report, and how long that may be ago.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::{Engine, Shared};
use crate::clock::from_millisecond;
use crate::intern::Symbol;
use crate::journal::{Store, StoreError};

/// What is known of the sources.
#[derive(Default)]
pub(super) struct Sources(Mutex<State>);

#[derive(Default)]
struct State {
    reported: BTreeMap<Box<str>, (Symbol, Timestamp)>,
    /// Minutes, where a source has a limit of its own; 0: none.
    limits: BTreeMap<Box<str>, u32>,
}

/// How old what a source reported is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceAge {
    /// Its name.
    pub name: String,
    /// When it last reported everything it had to report.
    pub reported: Timestamp,
    /// Whether that is longer ago than it may be.
    pub stale: bool,
}

impl Sources {
    pub(super) fn note(&self, name: &Symbol, at: Timestamp) {
        let mut state = self.0.lock();
        state
            .reported
            .insert(name.as_str().into(), (name.clone(), at));
    }

    /// When the facts of each source are too old. `after`: minutes, where it has no limit of its
    /// own.
    pub(super) fn deadlines(&self, after: Option<u32>) -> Arc<[(Symbol, i64)]> {
        let state = self.0.lock();
        let reported = state.reported.iter();
        reported
            .filter_map(|(name, (symbol, at))| {
                let own = state.limits.get(name).copied();
                let minutes = own.or(after).filter(|minutes| *minutes > 0)?;
                let limit = i64::from(minutes) * 60_000;
                Some((symbol.clone(), at.as_millisecond().saturating_add(limit)))
            })
            .collect()
    }

    fn reported(&self) -> Vec<(Symbol, Timestamp)> {
        self.0.lock().reported.values().cloned().collect()
    }
}

/// The source of what people change by hand: it never falls silent.
const BY_HAND: &str = "admin";
/// Where the store keeps the time of a source's last report.
const NOTE: &str = "source.";

impl Engine {
    /// A source has reported everything it had to report.
    pub(super) async fn source_reported(&self, name: &str) -> Result<(), StoreError> {
        let at = self.shared.clock.now();
        let symbol = self.shared.interner.symbol(name);
        let note = format!("{NOTE}{name}");
        self.aside(move |store| store.note(&note, &at.as_millisecond().to_le_bytes()))
            .await?;
        self.shared.reported(&symbol, at);
        Ok(())
    }

    /// Sets how many minutes single sources may be silent (0: for ever), instead of
    /// `compliance.stale.max.minutes`. In force with the next [`Engine::configure`].
    pub fn limit_sources(&self, limits: impl IntoIterator<Item = (String, u32)>) {
        let limits = limits.into_iter().map(|(name, limit)| (name.into(), limit));
        self.shared.sources.0.lock().limits = limits.collect();
    }

    /// The sources that have ever reported, by name.
    #[must_use]
    pub fn sources(&self) -> Vec<SourceAge> {
        let now = self.shared.clock.now().as_millisecond();
        let rules = self.shared.rules.load();
        let reported = self.shared.sources.reported();
        let age = |(name, reported): (Symbol, Timestamp)| {
            let deadline = rules.deadlines.iter().find(|(of, _)| *of == name);
            SourceAge {
                stale: deadline.is_some_and(|(_, at)| *at <= now),
                name: name.as_str().to_owned(),
                reported,
            }
        };
        reported.into_iter().map(age).collect()
    }
}

impl Shared {
    /// What the store knows of sources. One that it knows nothing of, though there are records of
    /// it, counts from `now` on: its facts must not stay fresh for ever.
    pub(super) fn remember_sources(
        &self,
        store: &dyn Store,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut unknown: Vec<Symbol> = Vec::new();
        self.devices.each(|_, entry| {
            if let Some(source) = entry.facts.source.as_ref().filter(|_| entry.known)
                && source.as_str() != BY_HAND
                && !unknown.contains(source)
            {
                unknown.push(source.clone());
            }
        });
        for source in unknown {
            self.sources.note(&source, now);
        }
        for (name, value) in store.notes()? {
            let time = <[u8; 8]>::try_from(value).ok().map(i64::from_le_bytes);
            if let (Some(name), Some(time)) = (name.strip_prefix(NOTE), time) {
                let name = self.interner.symbol(name);
                self.sources.note(&name, from_millisecond(time));
            }
        }
        Ok(())
    }

    /// A source has reported: its facts are fresh again.
    pub(super) fn reported(&self, name: &Symbol, at: Timestamp) {
        self.sources.note(name, at);
        self.refresh_deadlines();
    }

    /// What is known of sources has changed: when the facts of each are too old is found out anew.
    pub(super) fn refresh_deadlines(&self) {
        let after = self.rules.load().settings.stale_after;
        let deadlines = self.sources.deadlines(after);
        self.rules.rcu(|held| crate::judge::Rules {
            deadlines: Arc::clone(&deadlines),
            ..(**held).clone()
        });
    }
}
