//! A change, as it is applied to memory, kept in the journal and published.

use crate::api::{self, ChangeKind};
use crate::judge::Override;
use crate::order::Order;
use crate::record::Facts;
use crate::{DeviceKey, UserKey};

/// One change. A record is kept whole, so that the last change of a device says everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Record {
        device: DeviceKey,
        facts: Box<Facts>,
    },
    RecordRemoved {
        device: DeviceKey,
    },
    DeviceOverride {
        device: DeviceKey,
        set: Box<Override>,
    },
    DeviceOverrideCleared {
        device: DeviceKey,
    },
    UserOverride {
        user: UserKey,
        set: Box<Override>,
    },
    UserOverrideCleared {
        user: UserKey,
    },
    Forgotten {
        device: DeviceKey,
    },
    Ordered {
        device: DeviceKey,
        order: Box<Order>,
    },
    OrderCleared {
        device: DeviceKey,
    },
}

/// A change and its place in the order of all changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sequenced {
    pub(crate) revision: u64,
    pub(crate) change: Change,
}

impl Change {
    pub(crate) fn kind(&self) -> ChangeKind {
        match self {
            Self::Record { .. } => ChangeKind::Record,
            Self::RecordRemoved { .. } => ChangeKind::RecordRemoved,
            Self::DeviceOverride { .. } => ChangeKind::DeviceOverride,
            Self::DeviceOverrideCleared { .. } => ChangeKind::DeviceOverrideCleared,
            Self::UserOverride { .. } => ChangeKind::UserOverride,
            Self::UserOverrideCleared { .. } => ChangeKind::UserOverrideCleared,
            Self::Forgotten { .. } => ChangeKind::Forgotten,
            Self::Ordered { .. } => ChangeKind::Ordered,
            Self::OrderCleared { .. } => ChangeKind::OrderCleared,
        }
    }

    pub(crate) fn device(&self) -> Option<&DeviceKey> {
        match self {
            Self::Record { device, .. }
            | Self::RecordRemoved { device }
            | Self::DeviceOverride { device, .. }
            | Self::DeviceOverrideCleared { device }
            | Self::Forgotten { device }
            | Self::Ordered { device, .. }
            | Self::OrderCleared { device } => Some(device),
            Self::UserOverride { .. } | Self::UserOverrideCleared { .. } => None,
        }
    }

    pub(crate) fn user(&self) -> Option<&UserKey> {
        match self {
            Self::UserOverride { user, .. } | Self::UserOverrideCleared { user } => Some(user),
            Self::Record { facts, .. } => facts.user.as_ref(),
            Self::Ordered { order, .. } => order.user.as_ref(),
            _ => None,
        }
    }
}

impl Sequenced {
    /// The change as readers of the feed see it.
    pub(crate) fn event(&self) -> api::Event {
        let (record, set) = match &self.change {
            Change::Record { device, facts } => (Some(Box::new(facts.record(device))), None),
            Change::DeviceOverride { set, .. } | Change::UserOverride { set, .. } => {
                (None, Some(set.wire()))
            }
            _ => (None, None),
        };
        let order = match &self.change {
            Change::Ordered { order, .. } => Some(order.wire()),
            _ => None,
        };
        api::Event::Change {
            revision: self.revision,
            change: self.change.kind(),
            device: self.change.device().cloned(),
            user: self.change.user().cloned(),
            record,
            set,
            order,
        }
    }
}

impl Order {
    pub(crate) fn wire(&self) -> api::Order {
        api::Order {
            action: self.kind,
            state: self.state,
            user: self.user.clone(),
            reason: self.reason.as_deref().map(str::to_owned),
            ordered: self.ordered,
            changed: self.changed,
        }
    }
}

impl Override {
    pub(crate) fn wire(&self) -> api::Override {
        api::Override {
            verdict: self.verdict,
            reason: self.reason.as_deref().map(str::to_owned),
            expires: self.expires,
        }
    }
}
