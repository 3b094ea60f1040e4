//! Attachments that the rules keep from a device. The list of a mail's attachments names and sizes
//! them; what a device asks for later is a reference and nothing more. It is remembered for the user, whose
//! mailbox it is one of: another DeviceId of his is no way around.

use std::sync::Arc;

use super::Generations;

/// References that are remembered at least.
const REMEMBERED: usize = 200_000;

/// Whose mailbox, and the reference.
pub(crate) type Key = (Box<str>, Box<str>);

/// The rules that have looked at an attachment: the generation of the snapshot that they are of, and
/// their places in it.
pub(crate) type LookedAtBy = (u64, Arc<[usize]>);

/// What is known of attachments. Shared by all cores; a restart of the gateway forgets it, and what
/// is fetched then is judged by its type and size alone.
#[derive(Debug)]
pub struct Withheld {
    /// And the rules that withhold it, each in a line: devices of one user may have rules of their own.
    withheld: Generations<Key, Box<str>>,
    /// And those that don't.
    passed: Generations<Key, LookedAtBy>,
}

impl Default for Withheld {
    fn default() -> Self {
        Self {
            withheld: Generations::new(REMEMBERED),
            passed: Generations::new(REMEMBERED),
        }
    }
}

impl Withheld {
    /// Remembers that an attachment's content was looked at, and passes.
    pub fn pass(&self, key: Key, by: LookedAtBy) {
        self.passed.insert(key, by);
    }

    /// Who has looked at an attachment, and let it pass.
    pub fn passed(&self, key: &Key) -> Option<LookedAtBy> {
        self.passed.recall(key)
    }

    /// Remembers that `rule` withholds a reference.
    pub fn insert(&self, key: Key, rule: &str) {
        let rules = match self.withheld.recall(&key) {
            Some(known) if known.lines().any(|known| known == rule) => known,
            Some(known) => format!("{known}\n{rule}").into(),
            None => rule.into(),
        };
        self.withheld.insert(key, rules);
    }

    /// The rules that withhold a reference, each in a line.
    pub fn recall(&self, key: &Key) -> Option<Box<str>> {
        self.withheld.recall(key)
    }
}
