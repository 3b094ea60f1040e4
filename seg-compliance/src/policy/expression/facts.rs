//! The names that an expression can read, what they are and what they depend on.

use super::check::Type;
use crate::policy::condition::Reads;
use crate::record::Flag;

/// A name that an expression can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Known,
    Flag(Flag),
    Id,
    User,
    Platform,
    Model,
    OsVersion,
    Ownership,
    Source,
    Groups,
    Apps,
    LastSeen,
    Updated,
    Rank,
    Agent,
    DeviceType,
    Protocol,
    Command,
    Version,
    Suspect,
    Host,
    Path,
    Method,
    Address,
    Now,
}

/// Every name.
pub(super) static FACTS: [(&str, Fact, Type); 32] = [
    ("device.known", Fact::Known, Type::Bool),
    ("device.managed", Fact::Flag(Flag::Managed), Type::Bool),
    ("device.compliant", Fact::Flag(Flag::Compliant), Type::Bool),
    (
        "device.compromised",
        Fact::Flag(Flag::Compromised),
        Type::Bool,
    ),
    ("device.encrypted", Fact::Flag(Flag::Encrypted), Type::Bool),
    ("device.profile", Fact::Flag(Flag::Profile), Type::Bool),
    ("device.passcode", Fact::Flag(Flag::Passcode), Type::Bool),
    ("device.attested", Fact::Flag(Flag::Attested), Type::Bool),
    ("device.revoked", Fact::Flag(Flag::Revoked), Type::Bool),
    ("device.id", Fact::Id, Type::Text),
    ("device.platform", Fact::Platform, Type::Text),
    ("device.model", Fact::Model, Type::Text),
    ("device.os_version", Fact::OsVersion, Type::Text),
    ("device.ownership", Fact::Ownership, Type::Text),
    ("device.source", Fact::Source, Type::Text),
    ("device.groups", Fact::Groups, Type::List),
    ("device.apps", Fact::Apps, Type::List),
    ("device.last_seen", Fact::LastSeen, Type::Time),
    ("device.updated", Fact::Updated, Type::Time),
    ("device.rank", Fact::Rank, Type::Whole),
    ("user", Fact::User, Type::Text),
    ("request.agent", Fact::Agent, Type::Text),
    ("request.type", Fact::DeviceType, Type::Text),
    ("request.protocol", Fact::Protocol, Type::Text),
    ("request.command", Fact::Command, Type::Text),
    ("request.version", Fact::Version, Type::Text),
    ("request.host", Fact::Host, Type::Text),
    ("request.path", Fact::Path, Type::Text),
    ("request.method", Fact::Method, Type::Text),
    ("request.suspect", Fact::Suspect, Type::Text),
    ("request.address", Fact::Address, Type::Address),
    ("now", Fact::Now, Type::Time),
];

impl Fact {
    pub(super) fn name(self) -> &'static str {
        FACTS
            .iter()
            .find(|(_, fact, _)| *fact == self)
            .map_or("", |(name, _, _)| name)
    }

    pub(super) fn reads(self) -> Reads {
        let nothing = Reads::default();
        match self {
            Self::Id => nothing,
            Self::Rank => Reads {
                rank: true,
                ..nothing
            },
            Self::User => Reads {
                user: true,
                ..nothing
            },
            Self::Now => Reads {
                time: true,
                ..nothing
            },
            Self::Known
            | Self::Flag(_)
            | Self::Platform
            | Self::Model
            | Self::OsVersion
            | Self::Ownership
            | Self::Source
            | Self::Groups
            | Self::Apps
            | Self::LastSeen
            | Self::Updated => Reads {
                record: true,
                ..nothing
            },
            Self::Agent
            | Self::DeviceType
            | Self::Protocol
            | Self::Command
            | Self::Version
            | Self::Suspect
            | Self::Host
            | Self::Path
            | Self::Method
            | Self::Address => Reads {
                request: true,
                ..nothing
            },
        }
    }
}
