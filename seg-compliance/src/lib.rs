#![forbid(unsafe_code)]
//! Which device may have mail.
//!
//! The [`Engine`] holds what is known about devices and users, answers for every request with a
//! [`Verdict`], and knows what is in flight, so that a block ends it. Facts come as [`record`]s,
//! rules as [`policy`] tables, words of administrators as overrides; every change is journalled.
//!
//! Start reading at [`engine`]: the life of a block.

pub mod api;
#[cfg(feature = "cli")]
pub mod cli;
pub mod clock;
pub mod engine;
#[doc(hidden)]
pub mod fuzz;
pub mod journal;
pub mod order;
pub mod policy;
pub mod policy_tests;
pub mod record;
pub mod settings;
#[cfg(feature = "sources")]
pub mod sources;
pub mod verdict;

mod intern;
mod judge;
mod key;
mod table;
mod text;

pub use engine::{Admission, Cut, Cutter, Engine, Lease};
pub use journal::{Recovery, State, StoreError};
pub use key::{DEVICE_KEY_MAX, DeviceKey, KeyError, USER_KEY_MAX, UserKey};
pub use order::{Order, OrderKind, OrderState};
pub use policy::Policies;
pub use settings::{Mode, STALE_AFTER_DEFAULT, Settings, StaleAnswer, UserMode};
pub use verdict::{Ask, Decision, Protocol, Step, Trial, Verdict, Via};
