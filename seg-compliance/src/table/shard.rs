//! One shard of a table: rows that lie close together, and an index that is small enough to stay in
//! the processor's caches while a million rows don't.
//!
//! Whoever looks for one row among a million finds neither the row nor the way to it in a cache, and
//! each look into memory is worth a few hundred instructions. So a slot of the index is the row's
//! place and a byte of its hash, which tells it from almost all others, and twelve of them are one
//! cache line: a look-up reads a line of the index and then the row. Few instructions lie between
//! one row and the next, so that the processor looks for the next while it waits for this one.

/// A place that no row has.
const NOWHERE: usize = i32::MAX as usize;
/// Slots of a group.
const SLOTS: usize = 12;
/// Slots whose tags lie in the first word.
const FIRST: u32 = 8;

/// Slots that are looked at together: a cache line of them.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Group {
    /// A byte of its row's hash for each slot, 0 where it holds none: of the first eight slots, and
    /// of the others in the lower half. Words, because eight tags are compared at once so.
    tags: [u64; 2],
    /// The place of each slot's row.
    places: [u32; SLOTS],
}

/// Slots that were found, in no order: a bit for each.
#[derive(Clone, Copy)]
struct Slots(u64);

impl Iterator for Slots {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        let bit = (self.0 != 0).then(|| self.0.trailing_zeros())?;
        self.0 &= self.0 - 1;
        Some(bit / 8 + bit % 8 * FIRST)
    }
}

/// The lowest bit of each byte.
const BYTES: u64 = 0x0101_0101_0101_0101;
/// Of the second word, only so many bytes are tags.
const SECOND: u64 = (1 << (8 * (SLOTS as u64 - FIRST as u64))) - 1;

impl Group {
    /// The slots with this tag. A slot behind one with this tag may be shown though its tag is
    /// another; the first shown of each word, and that none is shown, is always true.
    #[inline]
    fn tagged(&self, tag: u8) -> Slots {
        let [first, second] = self.tags.map(|tags| {
            let differ = tags ^ (BYTES * u64::from(tag));
            (differ.wrapping_sub(BYTES) & !differ) >> 7 & BYTES
        });
        Slots(first | (second & SECOND) << 1)
    }

    /// A slot that holds none.
    #[inline]
    fn free(&self) -> Option<u32> {
        self.tagged(0).next()
    }

    /// The slots that hold a row, with their tags.
    fn taken(&self) -> impl Iterator<Item = (u32, u8)> {
        let tags = self.tags.into_iter().flat_map(u64::to_le_bytes);
        (0..).zip(tags).filter(|(_, tag)| *tag != 0)
    }

    fn place(&self, slot: u32) -> usize {
        self.places
            .get(slot as usize)
            .map_or(NOWHERE, |place| *place as usize)
    }

    /// Puts the row at `place` into a slot; tag 0 empties it.
    fn set(&mut self, slot: u32, tag: u8, place: usize) {
        let (word, bit) = (slot / FIRST, slot % FIRST * 8);
        if let Some(tags) = self.tags.get_mut(word as usize) {
            *tags = *tags & !(0xFF << bit) | u64::from(tag) << bit;
        }
        if let Some(held) = self.places.get_mut(slot as usize) {
            *held = place as u32;
        }
    }
}

/// Rows, found by the hash of what they are about.
pub(super) struct Shard<R> {
    /// A power of two, at most three quarters of their slots taken; no groups where there was never
    /// a row. A row whose group is full stands in the next that is not.
    groups: Box<[Group]>,
    rows: Rows<R>,
}

impl<R> Default for Shard<R> {
    fn default() -> Self {
        Self {
            groups: Box::default(),
            rows: Rows::default(),
        }
    }
}

/// Where a row stands: its group, its slot there, and its place among the rows.
#[derive(Clone, Copy)]
struct Found {
    group: usize,
    slot: u32,
    place: usize,
}

impl<R> Shard<R> {
    pub(super) fn len(&self) -> usize {
        self.rows.length
    }

    /// The row of this hash that `is_it`.
    #[inline(always)]
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(&R) -> bool) -> Option<&R> {
        let mask = self.groups.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        loop {
            // Always there, unless there is no group at all.
            let group = self.groups.get(at)?;
            for slot in group.tagged(tag(hash)) {
                let row = self.rows.get(group.place(slot));
                if row.is_some_and(&is_it) {
                    return row;
                }
            }
            if group.free().is_some() {
                return None;
            }
            at = (at + 1) & mask;
        }
    }

    pub(super) fn find_mut(&mut self, hash: u64, is_it: impl Fn(&R) -> bool) -> Option<&mut R> {
        let found = self.probe(hash, |place| self.rows.get(place).is_some_and(&is_it))?;
        self.rows.get_mut(found.place)
    }

    /// Shows the rows of this hash, and a few that only look so.
    pub(super) fn of_hash(&self, hash: u64, mut look: impl FnMut(&R)) {
        self.probe(hash, |place| {
            self.rows.get(place).map(&mut look);
            false
        });
    }

    /// Every row, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &R> {
        self.rows.chunks.iter().flatten()
    }

    /// Takes a row in. `hash_of` says the hash of those that are here.
    pub(super) fn insert(&mut self, hash: u64, row: R, hash_of: impl Fn(&R) -> u64) {
        if (self.rows.length + 1) * 4 > self.groups.len() * SLOTS * 3 {
            self.grow(hash_of);
        }
        let place = self.rows.push(row);
        enter(&mut self.groups, hash, place);
    }

    /// Lets go of the row of this hash that `is_it`. The last row takes its place.
    pub(super) fn remove(
        &mut self,
        hash: u64,
        is_it: impl Fn(&R) -> bool,
        hash_of: impl Fn(&R) -> u64,
    ) -> Option<R> {
        let found = self.probe(hash, |place| self.rows.get(place).is_some_and(&is_it))?;
        self.vacate(found, &hash_of);
        let last = self.rows.length - 1;
        if found.place != last {
            let hash = hash_of(self.rows.get(last)?);
            let moved = self.probe(hash, |place| place == last)?;
            let group = self.groups.get_mut(moved.group)?;
            group.set(moved.slot, tag(hash), found.place);
        }
        self.rows.swap_remove(found.place)
    }

    /// Where the first row stands that may have this hash and whose place `is_it`.
    fn probe(&self, hash: u64, mut is_it: impl FnMut(usize) -> bool) -> Option<Found> {
        let mask = self.groups.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        loop {
            let group = self.groups.get(at)?;
            for slot in group.tagged(tag(hash)) {
                let place = group.place(slot);
                if is_it(place) {
                    let group = at;
                    return Some(Found { group, slot, place });
                }
            }
            if group.free().is_some() {
                return None;
            }
            at = (at + 1) & mask;
        }
    }

    /// Frees a slot. Where its group was full, a row further on may have looked here first and would
    /// not be found any more: it moves up, and frees its own slot in turn.
    fn vacate(&mut self, found: Found, hash_of: impl Fn(&R) -> u64) {
        let mask = self.groups.len().wrapping_sub(1);
        let mut free = found;
        let mut at = found.group;
        while self
            .groups
            .get(at)
            .is_some_and(|group| group.free().is_none())
        {
            at = (at + 1) & mask;
            if at == free.group {
                break;
            }
            // How far the group is from the free slot, and each row from where it looks first.
            let far = at.wrapping_sub(free.group) & mask;
            let Some(group) = self.groups.get(at).copied() else {
                break;
            };
            let moves = group.taken().find_map(|(slot, tag)| {
                let place = group.place(slot);
                let first = hash_of(self.rows.get(place)?) as usize;
                (at.wrapping_sub(first) & mask >= far).then_some((slot, tag, place))
            });
            if let Some((slot, tag, place)) = moves {
                if let Some(group) = self.groups.get_mut(free.group) {
                    group.set(free.slot, tag, place);
                }
                (free.group, free.slot) = (at, slot);
                if group.free().is_some() {
                    break;
                }
            }
        }
        if let Some(group) = self.groups.get_mut(free.group) {
            group.set(free.slot, 0, 0);
        }
    }

    fn grow(&mut self, hash_of: impl Fn(&R) -> u64) {
        let mut groups = vec![Group::default(); (self.groups.len() * 2).max(1)].into_boxed_slice();
        for (place, row) in self.iter().enumerate() {
            enter(&mut groups, hash_of(row), place);
        }
        self.groups = groups;
    }
}

/// What a slot holds of a row's hash. Never 0, which is a slot without a row, nor 1, which a look for
/// tags might take for it.
#[inline]
fn tag(hash: u64) -> u8 {
    ((hash >> 56) as u8).max(2)
}

/// Takes the next free slot for a row.
fn enter(groups: &mut [Group], hash: u64, place: usize) {
    let mask = groups.len().wrapping_sub(1);
    let mut at = hash as usize & mask;
    while let Some(group) = groups.get_mut(at) {
        if let Some(slot) = group.free() {
            group.set(slot, tag(hash), place);
            return;
        }
        at = (at + 1) & mask;
    }
}

/// Rows in the order of their places, in chunks that double: they don't move while others come, and
/// finding one takes a look at few pointers. What lies idle in a large chunk was never touched.
struct Rows<R> {
    chunks: Vec<Vec<R>>,
    length: usize,
}

impl<R> Default for Rows<R> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            length: 0,
        }
    }
}

/// Rows of the first chunk: the shards of a small fleet hold a few each.
const FEW: usize = 4;

/// Chunk of a place, the place there, and the size of the chunk.
#[inline]
fn locate(place: usize) -> (usize, usize, usize) {
    let from_few = place + FEW;
    // `| 1` changes nothing but that the compiler sees that it is never 0.
    let chunk = ((from_few | 1).ilog2() - FEW.ilog2()) as usize;
    let size = FEW << chunk;
    (chunk, from_few - size, size)
}

impl<R> Rows<R> {
    #[inline]
    fn get(&self, place: usize) -> Option<&R> {
        let (chunk, at, _) = locate(place);
        self.chunks.get(chunk)?.get(at)
    }

    fn get_mut(&mut self, place: usize) -> Option<&mut R> {
        let (chunk, at, _) = locate(place);
        self.chunks.get_mut(chunk)?.get_mut(at)
    }

    /// Answers the place of the new row.
    fn push(&mut self, row: R) -> usize {
        let place = self.length;
        let (chunk, _, size) = locate(place);
        if chunk == self.chunks.len() {
            self.chunks.push(Vec::with_capacity(size));
        }
        if let Some(chunk) = self.chunks.get_mut(chunk) {
            chunk.push(row);
            self.length += 1;
        }
        place
    }

    /// The last row takes the place of the one that goes.
    fn swap_remove(&mut self, place: usize) -> Option<R> {
        let (chunk, _, _) = locate(self.length.checked_sub(1)?);
        let last = self.chunks.get_mut(chunk)?.pop()?;
        self.length -= 1;
        // One empty chunk stays: rows that come and go must not take memory each time.
        self.chunks.truncate(chunk + 2);
        if place == self.length {
            return Some(last);
        }
        Some(std::mem::replace(self.get_mut(place)?, last))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Few hashes, so that rows share slots, tags, or both, and tags that a look may take for each
    /// other.
    fn hash_of(key: u16) -> u64 {
        let key = u64::from(key);
        ((key % 7) << 56) | (key % 13)
    }

    #[derive(Clone, Debug)]
    enum Deed {
        Put(u16, u8),
        Take(u16),
    }

    fn deeds() -> impl Strategy<Value = Vec<Deed>> {
        let deed = prop_oneof![
            3 => (0_u16..300, any::<u8>()).prop_map(|(key, value)| Deed::Put(key, value)),
            2 => (0_u16..300).prop_map(Deed::Take),
        ];
        prop::collection::vec(deed, 0..600)
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(deeds in deeds()) {
            let mut shard = Shard::default();
            let mut map = HashMap::new();
            let of_row = |row: &(u16, u8)| hash_of(row.0);
            for deed in deeds {
                match deed {
                    Deed::Put(key, value) => {
                        match shard.find_mut(hash_of(key), |row: &(u16, u8)| row.0 == key) {
                            Some(row) => row.1 = value,
                            None => shard.insert(hash_of(key), (key, value), of_row),
                        }
                        map.insert(key, value);
                    }
                    Deed::Take(key) => {
                        let taken = shard.remove(hash_of(key), |row| row.0 == key, of_row);
                        prop_assert_eq!(taken.map(|row| row.1), map.remove(&key));
                    }
                }
                prop_assert_eq!(shard.len(), map.len());
            }
            for key in 0..300 {
                let found = shard.find(hash_of(key), |row| row.0 == key);
                prop_assert_eq!(found.map(|row| row.1), map.get(&key).copied());
            }
            let all: HashMap<u16, u8> = shard.iter().copied().collect();
            prop_assert_eq!(all, map);
            prop_assert_eq!(shard.iter().count(), shard.len());
        }
    }

    #[test]
    fn an_empty_slot_is_not_taken_for_one_with_a_tag() {
        for number in 0..=u8::MAX {
            let tag = tag(u64::from(number) << 56);
            let mut group = Group::default();
            for slot in (0..SLOTS as u32).step_by(3) {
                group.set(slot, tag, 7);
            }
            let mut shown: Vec<_> = group.tagged(tag).collect();
            shown.sort_unstable();
            assert_eq!(shown, [0, 3, 6, 9], "{number}");
            assert_eq!(group.taken().count(), 4, "{number}");
        }
    }

    #[test]
    fn places_follow_each_other_through_all_chunks() {
        let mut expected = (0, 0);
        for place in 0..5_000 {
            let (chunk, at, size) = locate(place);
            assert_eq!((chunk, at), expected, "{place}");
            assert!(size <= place + FEW, "{size} at {place}");
            expected = if at + 1 == size {
                (chunk + 1, 0)
            } else {
                (chunk, at + 1)
            };
        }
    }

    #[test]
    fn what_came_and_went_leaves_little_behind() {
        let mut shard = Shard::default();
        for key in 0..1_000_u16 {
            shard.insert(u64::from(key), key, |key| u64::from(*key));
        }
        for key in 0..1_000_u16 {
            let taken = shard.remove(u64::from(key), |row| *row == key, |key| u64::from(*key));
            assert_eq!(taken, Some(key));
        }
        assert_eq!((shard.len(), shard.iter().count()), (0, 0));
        assert!(shard.rows.chunks.len() <= 2);
        assert!(shard.groups.iter().all(|group| group.tags == [0; 2]));
    }
}
