//! The live state out of the log: the last change of each thing, where it left something.

use std::collections::HashMap;
use std::ops::ControlFlow;

use ahash::RandomState;

use super::codec::{Kind, Raw};
use super::frame::{self, Encoder};
use super::{Batch, Store, StoreError};

/// Batches handed on at once.
const STAGE: usize = 16;

/// What a change is about. The last change about a thing wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Thing {
    Record,
    DeviceOverride,
    UserOverride,
    Order,
}

impl Kind {
    pub(super) fn about(self) -> &'static [Thing] {
        match self {
            Self::Record | Self::RecordRemoved => &[Thing::Record],
            Self::DeviceOverride | Self::DeviceOverrideCleared => &[Thing::DeviceOverride],
            Self::UserOverride | Self::UserOverrideCleared => &[Thing::UserOverride],
            Self::Ordered | Self::OrderCleared => &[Thing::Order],
            Self::Forgotten => &[Thing::Record, Thing::DeviceOverride, Thing::Order],
        }
    }
}

/// The newest change of each thing, and whether it leaves something.
pub(super) struct Survey {
    newest: HashMap<(Thing, Box<str>), (u64, bool), RandomState>,
    /// The last revision of the log.
    revision: u64,
}

impl Survey {
    /// One scan, of which only the revisions of things are kept.
    pub(super) fn new(store: &dyn Store) -> Result<Self, StoreError> {
        Self::scan(store, Damage::Fails)
    }

    /// The same without the batches that can't be read.
    pub(super) fn of_what_is_readable(store: &dyn Store) -> Result<Self, StoreError> {
        Self::scan(store, Damage::IsPassedOver)
    }

    fn scan(store: &dyn Store, damage: Damage) -> Result<Self, StoreError> {
        let mut survey = Self {
            newest: HashMap::default(),
            revision: store.floor(),
        };
        batches(store, u64::MAX, damage, &mut |last, raw| {
            survey.revision = survey.revision.max(last);
            frame::each(raw, |change| {
                for thing in change.kind.about() {
                    let newest = (change.revision, change.kind.ends());
                    survey.newest.insert((*thing, change.key.into()), newest);
                }
                Ok(())
            })
            .map_err(damaged)?;
            Ok(())
        })?;
        Ok(survey)
    }

    /// How many changes live.
    pub(super) fn live(&self) -> u64 {
        self.newest.values().filter(|(_, ends)| !ends).count() as u64
    }

    /// The revision of the newest change of a thing.
    pub(super) fn newest(&self, thing: Thing, key: &str) -> Option<u64> {
        let newest = self.newest.get(&(thing, key.into()));
        newest.map(|(revision, _)| *revision)
    }

    /// What its newest change left something of: its key, and the change's revision.
    pub(super) fn living(&self) -> impl Iterator<Item = (Thing, &str, u64)> {
        let newest = self.newest.iter();
        newest.filter_map(|((thing, key), (revision, ends))| {
            (!ends).then_some((*thing, &**key, *revision))
        })
    }

    fn lives(&self, change: &Raw<'_>) -> bool {
        !change.kind.ends()
            && change.kind.about().iter().all(|thing| {
                let newest = self.newest.get(&(*thing, change.key.into()));
                newest.is_some_and(|(revision, _)| *revision == change.revision)
            })
    }
}

/// Hands the live state to `each`, in batches by revision, a few at a time.
pub(super) fn live(
    store: &dyn Store,
    each: &mut dyn FnMut(&[Batch]) -> Result<(), StoreError>,
) -> Result<Live, StoreError> {
    let survey = Survey::new(store)?;
    let mut live = Live {
        revision: survey.revision,
        count: 0,
    };
    let mut encoder = Encoder::new();
    let mut ready: Vec<Batch> = Vec::with_capacity(STAGE);
    batches(store, survey.revision, Damage::Fails, &mut |_, raw| {
        let mut failed = Ok(());
        frame::each(raw, |change| {
            if survey.lives(change) && failed.is_ok() {
                live.count += 1;
                encoder.copy(change);
                if encoder.is_full() {
                    failed = encoder.take().map(|batch| ready.extend(batch));
                }
            }
            Ok(())
        })
        .map_err(damaged)?;
        failed?;
        if ready.len() >= STAGE {
            each(&ready)?;
            ready.clear();
        }
        Ok(())
    })?;
    ready.extend(encoder.take()?);
    each(&ready)?;
    Ok(live)
}

/// The live state of a log.
pub(super) struct Live {
    /// The last revision of the log.
    pub(super) revision: u64,
    /// Changes that live.
    pub(super) count: u64,
}

/// Takes an opened batch and its last revision.
type EachBatch<'e> = dyn FnMut(u64, &[u8]) -> Result<(), StoreError> + 'e;

/// What a batch that can't be read does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Damage {
    Fails,
    IsPassedOver,
}

/// Opens each batch up to revision `until`.
fn batches(
    store: &dyn Store,
    until: u64,
    damage: Damage,
    each: &mut EachBatch<'_>,
) -> Result<(), StoreError> {
    let mut outcome = Ok(());
    store.scan(0, &mut |last, bytes| {
        if last > until {
            return ControlFlow::Break(());
        }
        outcome = match frame::open(bytes) {
            Ok(raw) => each(last, &raw),
            Err(_) if damage == Damage::IsPassedOver => Ok(()),
            Err(error) => Err(damaged(error)),
        };
        if outcome.is_err() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    outcome
}

fn damaged(error: frame::FrameError) -> StoreError {
    StoreError::Damaged(error.to_string())
}

/// Replaces the log by its live state.
pub(super) fn compact(store: &dyn Store) -> Result<Live, StoreError> {
    let mut first = true;
    let live = live(store, &mut |batches| {
        store.stage(std::mem::take(&mut first), batches)
    })?;
    store.switch(live.revision)?;
    Ok(live)
}
