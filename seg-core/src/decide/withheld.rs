//! Attachments that the rules keep from a device. The list of a mail's attachments names and sizes
//! them; what the device asks for later is a reference and nothing more.

use std::sync::Arc;

use seg_compliance::DeviceKey;

use super::Generations;

/// References that are remembered at least.
const REMEMBERED: usize = 200_000;

/// Device and reference.
type Key = (DeviceKey, Box<str>);

/// The rules that have looked at an attachment: the generation of the snapshot that they are of, and
/// their places in it.
pub(crate) type LookedAtBy = (u64, Arc<[usize]>);

/// What is known of attachments. Shared by all cores; a restart of the gateway forgets it, and what
/// is fetched then is judged by its type and size alone.
#[derive(Debug)]
pub struct Withheld {
    /// And the rule that withholds it.
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
    pub fn insert(&self, key: Key, rule: Box<str>) {
        self.withheld.insert(key, rule);
    }

    /// The rule that withholds a reference.
    pub fn recall(&self, key: &Key) -> Option<Box<str>> {
        self.withheld.recall(key)
    }
}
