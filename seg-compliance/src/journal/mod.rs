//! The journal: every change, in order, durable before it is acknowledged.

mod change;

pub(crate) use change::{Change, Sequenced};

/// A change could not be made durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store failed: {0}")]
pub struct StoreError(pub(crate) String);
