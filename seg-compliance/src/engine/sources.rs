//! Sources: when each has last reported everything it had to report, and how long that may be ago.

use std::collections::BTreeMap;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::{Engine, Shared};
use crate::clock::from_millisecond;
use crate::intern::Symbol;
use crate::journal::{Store, StoreError};
use crate::judge::{Age, Ages};

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
    /// When that is longer ago than it may be; `None`: never.
    pub until: Option<Timestamp>,
    /// Whether it is now.
    pub stale: bool,
}

impl Sources {
    pub(super) fn note(&self, name: &Symbol, at: Timestamp) {
        let mut state = self.0.lock();
        state
            .reported
            .insert(name.as_str().into(), (name.clone(), at));
    }

    /// Notes a source of which nothing is known yet.
    fn note_first(&self, name: &Symbol, at: Timestamp) {
        let mut state = self.0.lock();
        if !state.reported.contains_key(name.as_str()) {
            let known = (name.clone(), at);
            state.reported.insert(name.as_str().into(), known);
        }
    }

    /// How long the facts of each hold, seen from `now`. `after`: minutes, where one has no limit of
    /// its own.
    pub(super) fn ages(&self, after: Option<u32>, now: Timestamp) -> Ages {
        let state = self.0.lock();
        let ages = state.reported.values().filter_map(|(name, at)| {
            let until = state.until(name, *at, after)?;
            Some(Age {
                source: name.clone(),
                until,
                over: until <= now.as_millisecond(),
            })
        });
        ages.collect()
    }
}

impl State {
    /// When the facts of a source that has reported at `at` are too old; `None`: never.
    fn until(&self, name: &Symbol, at: Timestamp, after: Option<u32>) -> Option<i64> {
        let own = self.limits.get(name.as_str()).copied();
        let minutes = own.or(after).filter(|minutes| *minutes > 0)?;
        let limit = i64::from(minutes) * 60_000;
        Some(at.as_millisecond().saturating_add(limit))
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
        let after = self.settings().stale_after;
        let state = self.shared.sources.0.lock();
        let age = |(name, reported): &(Symbol, Timestamp)| {
            let until = state.until(name, *reported, after);
            SourceAge {
                until: until.map(from_millisecond),
                stale: until.is_some_and(|until| until <= now),
                name: name.as_str().to_owned(),
                reported: *reported,
            }
        };
        state.reported.values().map(age).collect()
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
        self.refresh_ages(self.clock.now());
    }

    /// A source tells of devices. One that has never told everything it knows counts from its first
    /// word on: single events must not stay fresh for ever.
    pub(super) fn heard(&self, name: &Symbol) {
        if name.as_str() != BY_HAND {
            self.sources.note_first(name, self.clock.now());
        }
    }

    /// Finds out which sources have been silent for too long. Answers whether anything is otherwise
    /// than before. Once a second is enough, and then no verdict looks at the clock for it.
    pub(super) fn refresh_ages(&self, now: Timestamp) -> bool {
        let rules = self.rules.load();
        let ages = self.sources.ages(rules.settings.stale_after, now);
        if ages == rules.ages {
            return false;
        }
        self.rule(|held| crate::judge::Rules {
            ages: self.sources.ages(held.settings.stale_after, now),
            ..held.clone()
        });
        true
    }
}
