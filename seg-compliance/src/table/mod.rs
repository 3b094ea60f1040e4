//! The live state. dashmap and the locks stay in here: every call takes what it needs, runs one
//! closure or copies one answer, and lets go; no guard ever leaves. A closure given to a table must
//! not call a table.

mod devices;
mod lanes;
mod seen;
mod shard;
mod users;

pub(crate) use devices::{Before, Devices, Entry, LastSeen, Mark};
pub(crate) use lanes::{LaneAsk, Lanes, LeaseRef, cut};
pub(crate) use seen::{SEEN_MAX, Seen, SeenDevice};
pub(crate) use users::{Marks, NOTHING_SAID, Says, UserSays, Users};

/// Shards of each map: enough that a walk over one shard holds nobody up for long.
const SHARDS: usize = 1_024;
