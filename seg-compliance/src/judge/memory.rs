//! What is remembered with a device of the policies' answer: in one word, so that whoever reads the
//! device may write it too.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::policy::{Moment, POLICIES_MAX, Presumed};

/// How far record and time decide among the policies, under which rules, and until when.
///
/// The bits, from the lowest: whether the policy fires (1), its place (11), the second since 1970
/// until which it holds (32, all ones: always), the generation of the rules (20). Nothing is
/// remembered under generation 0.
#[derive(Debug, Default)]
pub(crate) struct Memory(AtomicU64);

const PLACE: u32 = 1;
const UNTIL: u32 = 12;
const GENERATION: u32 = 44;
/// Generations that are told apart; after so many reloads numbers are used again.
const GENERATIONS: u32 = 1 << 20;
const ALWAYS: u32 = u32::MAX;

const _: () = assert!(POLICIES_MAX < 1 << (UNTIL - PLACE));

/// The number of a generation, never 0.
fn number(generation: u32) -> u64 {
    u64::from(generation % (GENERATIONS - 1) + 1)
}

#[inline]
fn word(generation: u32, until: u32, at: u16, fires: bool) -> u64 {
    number(generation) << GENERATION
        | u64::from(until) << UNTIL
        | u64::from(at) << PLACE
        | u64::from(fires)
}

impl Memory {
    /// What was kept under these rules, if it still holds, and until when it does.
    pub(crate) fn recall(&self, generation: u32, moment: &Moment<'_>) -> Option<(Presumed, i64)> {
        // One word says everything, and the lock around the device orders it with the record.
        let word = self.0.load(Ordering::Relaxed);
        if word >> GENERATION != number(generation) {
            return None;
        }
        let until = match (word >> UNTIL) as u32 {
            ALWAYS => Moment::ALWAYS,
            second => i64::from(second) * 1_000,
        };
        if until != Moment::ALWAYS && moment.now() >= until {
            return None;
        }
        let presumed = Presumed {
            at: (word >> PLACE) as u16 & 0x7FF,
            fires: word & 1 == 1,
        };
        Some((presumed, until))
    }

    /// Whether it was kept under these rules, for as long as they and the record stand, that none of
    /// `policies` policies fires, whatever is asked.
    #[inline]
    pub(crate) fn is_silent(&self, generation: u32, policies: usize) -> bool {
        self.0.load(Ordering::Relaxed) == word(generation, ALWAYS, policies as u16, false)
    }

    pub(crate) fn keep(&self, generation: u32, presumed: Presumed, until: i64) {
        let until = match until {
            Moment::ALWAYS => ALWAYS,
            // What lies behind the year 2106 is looked at again then.
            until => u32::try_from(until / 1_000).map_or(ALWAYS - 1, |until| until.min(ALWAYS - 1)),
        };
        let word = word(generation, until, presumed.at, presumed.fires);
        self.0.store(word, Ordering::Relaxed);
    }

    /// The record has changed.
    pub(crate) fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn what_is_kept_holds_under_its_rules_and_until_its_time() {
        let clock = ManualClock::new("2026-11-22T00:00:00Z".parse().unwrap());
        let now = || Moment::new(&clock);
        let memory = Memory::default();
        let presumed = Presumed {
            at: 1_000,
            fires: true,
        };
        assert_eq!(memory.recall(0, &now()), None);
        for generation in [0, 1, GENERATIONS, u32::MAX] {
            memory.keep(generation, presumed, Moment::ALWAYS);
            assert_eq!(
                memory.recall(generation, &now()),
                Some((presumed, Moment::ALWAYS))
            );
            assert_eq!(memory.recall(generation.wrapping_add(1), &now()), None);
        }
        let until = now().now() + 60_000;
        memory.keep(7, presumed, until);
        assert_eq!(memory.recall(7, &now()), Some((presumed, until)));
        clock.advance(60_000);
        assert_eq!(memory.recall(7, &now()), None);
        memory.keep(7, presumed, Moment::ALWAYS);
        memory.forget();
        assert_eq!(memory.recall(7, &now()), None);
    }
}
