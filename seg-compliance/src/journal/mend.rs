//! Filling the holes that damaged batches leave, from an export.
//!
//! A batch holds the changes behind the batch before it, up to its own key. An export of a later
//! revision holds the last change of each thing that was there then. So what it holds within a
//! hole is what the hole's changes left behind, and a thing that the log has and the export has
//! not was ended within a hole, since an end anywhere else would stand in the log. An export from
//! before the last compaction says nothing: ends are not kept over it.
//!
//! Where the export is newer than the last hole, nothing is lost: the live state is what it was.
//! Otherwise what it knows is put in, and the rest is lost.

use std::collections::BTreeMap;

use super::codec::{self, Kind};
use super::compact::{Survey, Thing};
use super::frame::{self, Encoder};
use super::{Batch, Change, Sequenced, Store, StoreError};
use crate::{DeviceKey, UserKey};

/// The place of a damaged batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    /// The key of the batch before it.
    pub(super) after: u64,
    /// Its own.
    pub(super) last: u64,
}

/// What stands in the holes' places.
pub(super) struct Filled {
    /// One for each hole, under its key; it may be empty.
    pub(super) batches: Vec<Batch>,
    /// Changes in all of them.
    pub(super) changes: usize,
    /// Whether the live state is what it was before the damage.
    pub(super) lossless: bool,
}

/// A change of an export: its bytes.
struct Exported {
    kind: Kind,
    key: Box<str>,
    bytes: Vec<u8>,
}

/// Nothing in any hole: so the log keeps its length.
pub(super) fn empty(holes: &[Hole]) -> Result<Filled, StoreError> {
    let batch = |hole: &Hole| Ok((hole.last, Encoder::new().frame()?));
    Ok(Filled {
        batches: holes.iter().map(batch).collect::<Result<_, _>>()?,
        changes: 0,
        lossless: false,
    })
}

/// Fills `holes` of `store`, in order, from an export of `revision`. `None`: it can't help.
pub(super) fn fill(
    store: &dyn Store,
    holes: &[Hole],
    revision: u64,
    export: &[Batch],
) -> Result<Option<Filled>, StoreError> {
    let helps = holes.first().is_some_and(|hole| revision > hole.after);
    if !helps || revision < store.floor() {
        return Ok(None);
    }
    let exported = read(export)?;
    let survey = Survey::of_what_is_readable(store)?;
    let newest = |kind: Kind, key: &str| {
        let newest = kind.about().iter().map(|thing| survey.newest(*thing, key));
        newest.max().flatten()
    };
    let mut contents: Vec<BTreeMap<u64, Vec<u8>>> = holes
        .iter()
        .map(|hole| {
            let within = hole.after.saturating_add(1)..=hole.last;
            let live = exported.range(within).filter(|(revision, change)| {
                newest(change.kind, &change.key).is_none_or(|newest| newest < **revision)
            });
            live.map(|(revision, change)| (*revision, change.bytes.clone()))
                .collect()
        })
        .collect();
    let mut lossless = holes.last().is_some_and(|hole| hole.last <= revision);
    for (newest, change) in ended(&survey, revision, &exported)? {
        // Only in a hole behind its newest change. What has the least choice comes first.
        let places = holes.iter().zip(&mut contents).rev();
        let place = places
            .take_while(|(hole, _)| hole.after >= newest)
            .find_map(|(hole, content)| Some((free(*hole, revision, content)?, content)));
        match place {
            Some((revision, content)) => {
                let mut bytes = Vec::new();
                codec::write(&mut bytes, &Sequenced { revision, change });
                content.insert(revision, bytes);
            }
            None => lossless = false,
        }
    }
    let mut filled = Filled {
        batches: Vec::with_capacity(holes.len()),
        changes: 0,
        lossless,
    };
    for (hole, content) in holes.iter().zip(contents) {
        let mut encoder = Encoder::new();
        for bytes in content.into_values() {
            let change = codec::read(&mut bytes.as_slice()).map_err(|_| unreadable())?;
            change.iter().for_each(|change| encoder.copy(change));
        }
        filled.changes += encoder.len();
        filled.batches.push((hole.last, encoder.frame()?));
    }
    Ok(Some(filled))
}

/// The changes of an export, by revision.
fn read(export: &[Batch]) -> Result<BTreeMap<u64, Exported>, StoreError> {
    let mut found = BTreeMap::new();
    for (_, batch) in export {
        let raw = frame::open(batch).map_err(|_| unreadable())?;
        frame::each(&raw, |change| {
            let exported = Exported {
                kind: change.kind,
                key: change.key.into(),
                bytes: change.bytes.to_vec(),
            };
            found.insert(change.revision, exported);
            Ok(())
        })
        .map_err(|_| unreadable())?;
    }
    Ok(found)
}

/// An export has been checked when it was read.
fn unreadable() -> StoreError {
    StoreError::Damaged("an export changed while it was read".to_owned())
}

/// What the log has and the export has not: each with its newest revision in the log, the highest
/// first, and the change that ends it.
fn ended(
    survey: &Survey,
    revision: u64,
    exported: &BTreeMap<u64, Exported>,
) -> Result<Vec<(u64, Change)>, StoreError> {
    let kept: std::collections::HashSet<(Thing, &str)> = exported
        .values()
        .flat_map(|change| {
            let about = change.kind.about().iter();
            about.map(|thing| (*thing, &*change.key))
        })
        .collect();
    // A device that was forgotten lost two things by one change.
    let mut gone: BTreeMap<(bool, &str), (u64, Vec<Thing>)> = BTreeMap::new();
    for (thing, key, newest) in survey.living() {
        if newest <= revision && !kept.contains(&(thing, key)) {
            let gone = gone.entry((thing == Thing::UserOverride, key)).or_default();
            gone.0 = gone.0.max(newest);
            gone.1.push(thing);
        }
    }
    let mut ended = Vec::with_capacity(gone.len());
    for ((_, key), (newest, things)) in gone {
        let device = || DeviceKey::new(key).map_err(|_| unreadable());
        let change = match things.as_slice() {
            [Thing::UserOverride] => Change::UserOverrideCleared {
                user: UserKey::new(key).map_err(|_| unreadable())?,
            },
            [Thing::Record] => Change::RecordRemoved { device: device()? },
            [Thing::DeviceOverride] => Change::DeviceOverrideCleared { device: device()? },
            _ => Change::Forgotten { device: device()? },
        };
        ended.push((newest, change));
    }
    ended.sort_by_key(|(newest, _)| std::cmp::Reverse(*newest));
    Ok(ended)
}

/// The highest revision of a hole that nothing stands at.
fn free(hole: Hole, until: u64, content: &BTreeMap<u64, Vec<u8>>) -> Option<u64> {
    let within = hole.after.saturating_add(1)..=hole.last.min(until);
    within
        .rev()
        .find(|revision| !content.contains_key(revision))
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::Verdict;
    use crate::intern::Interner;
    use crate::journal::{MemoryStore, compact, recovery};
    use crate::judge::Override;

    fn sequenced(revision: u64, kind: u8, thing: u8) -> Sequenced {
        let device = DeviceKey::new(&format!("d{thing}")).unwrap();
        let user = UserKey::new(&format!("u{thing}")).unwrap();
        let set = || {
            Box::new(Override {
                verdict: Verdict::Block,
                reason: None,
                expires: Some(Timestamp::from_second(1).unwrap()),
                revision,
            })
        };
        let change = match kind % 7 {
            0 => Change::Record {
                device,
                facts: Box::default(),
            },
            1 => Change::RecordRemoved { device },
            2 => Change::DeviceOverride { device, set: set() },
            3 => Change::DeviceOverrideCleared { device },
            4 => Change::UserOverride { user, set: set() },
            5 => Change::UserOverrideCleared { user },
            _ => Change::Forgotten { device },
        };
        Sequenced { revision, change }
    }

    /// The live changes of a log.
    fn live(store: &dyn Store) -> (Vec<Batch>, Vec<Sequenced>) {
        let (mut batches, mut changes) = (Vec::new(), Vec::new());
        compact::live(store, &mut |live| {
            for (last, frame) in live {
                batches.push((*last, frame.clone()));
                changes.extend(recovery::read(frame, &Interner::default()).unwrap());
            }
            Ok(())
        })
        .unwrap();
        (batches, changes)
    }

    fn append(store: &MemoryStore, changes: &[Sequenced], per_batch: usize) {
        for chunk in changes.chunks(per_batch) {
            let mut encoder = Encoder::new();
            chunk.iter().for_each(|change| encoder.push(change));
            let batch = encoder.take().unwrap();
            store
                .append(&batch.into_iter().collect::<Vec<_>>())
                .unwrap();
        }
    }

    /// Overwrites each batch whose number is in `damaged` and gives the holes.
    fn damage(store: &MemoryStore, damaged: &[usize]) -> Vec<Hole> {
        let (mut holes, mut after, mut number) = (Vec::new(), 0, 0);
        store
            .scan(0, &mut |last, _| {
                if damaged.contains(&number) {
                    holes.push(Hole { after, last });
                }
                (after, number) = (last, number + 1);
                ControlFlow::Continue(())
            })
            .unwrap();
        for hole in &holes {
            store.append(&[(hole.last, b"garbage".to_vec())]).unwrap();
        }
        holes
    }

    fn changes() -> impl Strategy<Value = Vec<Sequenced>> {
        prop::collection::vec((any::<u8>(), 0_u8..4), 1..60).prop_map(|drawn| {
            let number = 1_u64..;
            let drawn = drawn.into_iter().zip(number);
            drawn
                .map(|((kind, thing), revision)| sequenced(revision, kind, thing))
                .collect()
        })
    }

    proptest! {
        /// Whatever happened, wherever the damage is: an export from behind it gives back the live
        /// state, to the last change.
        #[test]
        fn an_export_from_behind_the_damage_gives_everything_back(
            before in changes(),
            later in changes(),
            per_batch in 1_usize..6,
            damaged in prop::collection::vec(0_usize..20, 1..4),
            compacted: bool,
        ) {
            let store = MemoryStore::default();
            append(&store, &before, per_batch);
            if compacted {
                compact::compact(&store).unwrap();
            }
            let (export, _) = live(&store);
            let revision = before.len() as u64;
            let batches = before.len().div_ceil(per_batch);
            let later: Vec<_> = later
                .into_iter()
                .map(|change| Sequenced { revision: change.revision + revision, ..change })
                .collect();
            append(&store, &later, per_batch);
            let (_, expected) = live(&store);
            let damaged: Vec<_> = damaged.into_iter().filter(|number| *number < batches).collect();
            let holes: Vec<_> = damage(&store, &damaged)
                .into_iter()
                .filter(|hole| hole.last <= revision)
                .collect();
            // Compacted, there may be fewer batches, and a number may mean a later one.
            prop_assume!(!holes.is_empty() && Survey::new(&store).is_err());
            let filled = fill(&store, &holes, revision, &export).unwrap().unwrap();
            prop_assert!(filled.lossless);
            store.append(&filled.batches).unwrap();
            prop_assume!(Survey::new(&store).is_ok());
            let (_, mended) = live(&store);
            prop_assert_eq!(mended, expected);
        }
    }

    #[test]
    fn an_export_from_before_the_damage_or_a_compaction_does_not_help() {
        let store = MemoryStore::default();
        append(&store, &[sequenced(1, 2, 1), sequenced(2, 2, 2)], 1);
        let (export, _) = live(&store);
        append(&store, &[sequenced(3, 3, 1), sequenced(4, 2, 3)], 1);
        let hole = |after| Hole {
            after,
            last: after + 1,
        };
        assert!(fill(&store, &[hole(2)], 2, &export).unwrap().is_none());
        assert!(fill(&store, &[hole(1)], 2, &export).unwrap().is_some());
        compact::compact(&store).unwrap();
        // The end of the first is not in the log any more: it must not come back.
        assert!(fill(&store, &[hole(0)], 2, &export).unwrap().is_none());
    }

    #[test]
    fn what_an_older_export_knows_is_put_in_and_the_rest_is_lost() {
        let exported = MemoryStore::default();
        append(&exported, &[sequenced(1, 2, 1)], 1);
        let (export, _) = live(&exported);
        let store = MemoryStore::default();
        store.append(&[(2, b"garbage".to_vec())]).unwrap();
        let holes = [Hole { after: 0, last: 2 }];
        let filled = fill(&store, &holes, 1, &export).unwrap().unwrap();
        assert_eq!((filled.changes, filled.lossless), (1, false));
    }
}
