//! Where a request may go when its server fails.
//!
//! A request of which nothing has left the house may always be given to another server. One that
//! may have been acted on goes elsewhere only where it may be repeated and is held.

use std::sync::Arc;

use super::target::Target;

/// Servers that can stand in for each other.
pub trait Servers: Send + Sync {
    /// The best of those that are not in `tried`, for the request of that hash; with its place.
    fn another(&self, hash: u64, tried: u32) -> Option<(u32, Target)>;
}

/// What a request needs to know of the servers besides its own.
pub struct Alternatives {
    /// All of them, its own included.
    pub among: Arc<dyn Servers>,
    /// What the request's server was chosen by.
    pub hash: u64,
    /// One bit for each place that has been tried.
    pub tried: u32,
    /// Whether another server is asked when one is late. Not for a long poll: its client has
    /// waited long enough, and repeats it by itself.
    pub after_timeout: bool,
}

/// The most servers that one request is given to.
const MOST: u32 = 3;

impl Alternatives {
    /// The next server to try.
    pub(super) fn next(&mut self) -> Option<(u32, Target)> {
        if self.tried.count_ones() >= MOST {
            return None;
        }
        let (place, target) = self.among.another(self.hash, self.tried)?;
        self.tried |= 1_u32.checked_shl(place)?;
        Some((place, target))
    }
}

impl std::fmt::Debug for Alternatives {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alternatives")
            .field("tried", &self.tried)
            .finish_non_exhaustive()
    }
}
