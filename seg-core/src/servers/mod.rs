//! The servers behind the gateway: which one is asked, and how they fare.
//!
//! How a server stands has two sources. Health checks ([`health`]) ask each one in turn; what
//! happens to requests ([`crate::upstream::Standing`]) is noted by the client that sends them.
//! Both are hints: a leg whose servers all look bad is tried all the same.

mod health;
mod leg;
mod state;

pub use leg::{Choice, Leg, MOST_SERVERS, Upstream};
pub use state::{CheckState, UpstreamState};

pub(crate) use health::watch;
