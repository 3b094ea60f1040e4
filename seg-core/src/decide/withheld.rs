//! Attachments that the rules keep from a device. The list of a mail's attachments names and sizes
//! them; what the device asks for later is a reference and nothing more.

use seg_compliance::DeviceKey;

use super::Generations;

/// References that are remembered at least.
const REMEMBERED: usize = 200_000;

/// Device and reference, and the rule. Shared by all cores; a restart of the gateway forgets it,
/// and what is fetched then is judged by its type and size alone.
#[derive(Debug)]
pub struct Withheld(Generations<(DeviceKey, Box<str>), Box<str>>);

impl Default for Withheld {
    fn default() -> Self {
        Self(Generations::new(REMEMBERED))
    }
}

impl Withheld {
    /// Remembers that `rule` withholds a reference.
    pub fn insert(&self, key: (DeviceKey, Box<str>), rule: Box<str>) {
        self.0.insert(key, rule);
    }

    /// The rule that withholds a reference.
    pub fn recall(&self, key: &(DeviceKey, Box<str>)) -> Option<Box<str>> {
        self.0.recall(key)
    }
}
