//! Orders: what an administrator has a device do.
//!
//! An order stands in the device's entry and in the journal until it is carried out or taken back.
//! It is no verdict: who may have mail is decided beside it. What a device is told, and in which
//! words, is its protocol's business; here stands what was ordered, of whom, and how far it is.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::UserKey;

/// What a device is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderKind {
    /// Erase everything on it.
    Wipe,
    /// Erase the account; its other content stays.
    WipeAccount,
    /// Forget what it has synchronised and begin anew.
    Resync,
    /// Ask for its policies again.
    Reprovision,
}

impl OrderKind {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Wipe,
        Self::WipeAccount,
        Self::Resync,
        Self::Reprovision,
    ];

    /// `wipe`, `wipe-account`, `resync`, `reprovision`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wipe => "wipe",
            Self::WipeAccount => "wipe-account",
            Self::Resync => "resync",
            Self::Reprovision => "reprovision",
        }
    }

    /// Whether it erases something.
    #[must_use]
    pub const fn erases(self) -> bool {
        matches!(self, Self::Wipe | Self::WipeAccount)
    }
}

/// How far an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderState {
    /// The device has not come for it yet.
    Pending,
    /// The device was given it.
    Given,
    /// The device says that it has begun (a wipe), or has done what was ordered.
    Done,
    /// The device says that it can't; it is given the order again when it comes back.
    Failed,
}

impl OrderState {
    /// Whether the device still has to be told.
    #[must_use]
    pub const fn stands(self) -> bool {
        !matches!(self, Self::Done)
    }
}

/// An order and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What is ordered.
    pub kind: OrderKind,
    /// How far it is.
    pub state: OrderState,
    /// The one user of the device whom it concerns; `None`: whoever uses it.
    pub user: Option<UserKey>,
    /// Why, for people.
    pub reason: Option<Arc<str>>,
    /// When it was given to us.
    pub ordered: Timestamp,
    /// When its state changed last.
    pub changed: Timestamp,
}

impl Order {
    /// Whether a request of `user` on the device is to be told.
    #[must_use]
    pub fn concerns(&self, user: Option<&UserKey>) -> bool {
        self.state.stands() && self.user.as_ref().is_none_or(|of| Some(of) == user)
    }
}
