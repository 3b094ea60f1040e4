//! Whose is this device? A DeviceId is a text that anybody can send who has seen it once. Here it
//! is bound to a person, a certificate and a mail client: by a table, or by its first use. A
//! request that does not fit is `suspect`, with a reason; what that costs, `binding.suspect` and the
//! policies say.
//!
//! Only requests whose credentials are proven bind anything, and only they are remembered as
//! suspects: who guesses passwords must not be able to take a device from its owner. The owner of
//! a record is never bound against.

mod book;
mod client;
mod hexadecimal;
mod places;

pub use book::{Bindings, OpenError};
pub use client::Hello;

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use seg_compliance::{DeviceKey, Protocol, UserKey};
use serde::{Deserialize, Serialize};

use crate::config::binding_table::BindingTable;
use crate::config::{self, BindingMode};
use crate::identify::ClientCertificate;

/// The rules in force: settings and table.
#[derive(Debug)]
pub struct BindingRules {
    /// `binding.*`.
    pub config: config::Binding,
    /// `binding.path`.
    pub table: BindingTable,
}

impl BindingRules {
    /// Whether a device's first use binds it.
    fn learns(&self) -> bool {
        self.config.mode == BindingMode::FirstUse
    }
}

/// Why a request may come from a copy of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suspicion {
    /// The device belongs to another person.
    AnotherUser,
    /// The device has shown another certificate.
    AnotherCertificate,
    /// The device has shown a certificate, and this request shows none.
    NoCertificate,
    /// Another mail client.
    AnotherAgent,
    /// Another TLS stack.
    AnotherTls,
    /// It was used in two networks at once.
    TwoPlaces,
    /// `binding.mode=configured`, and the table does not name it.
    Unbound,
}

impl Suspicion {
    /// The word for logs, policies and the admin API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::AnotherUser => "another_user",
            Self::AnotherCertificate => "another_certificate",
            Self::NoCertificate => "no_certificate",
            Self::AnotherAgent => "another_agent",
            Self::AnotherTls => "another_tls",
            Self::TwoPlaces => "two_places",
            Self::Unbound => "unbound",
        }
    }
}

/// One request, as far as a binding is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'s> {
    /// Its device.
    pub device: &'s DeviceKey,
    /// Its authenticated user.
    pub user: &'s UserKey,
    /// The user of the device's record, where there is one.
    pub owner: Option<&'s UserKey>,
    /// Its verified certificate.
    pub certificate: Option<&'s Arc<ClientCertificate>>,
    /// Its protocol: one device has a client for each.
    pub protocol: Protocol,
    /// Its User-Agent.
    pub agent: &'s str,
    /// Its DeviceType, where it names one.
    pub device_type: &'s str,
    /// What it offered in its handshake.
    pub hello: Option<Hello>,
    /// Where it came from.
    pub address: IpAddr,
    /// When.
    pub now: Timestamp,
    /// `false`: somebody asks about a request that nobody has sent; what he does not say is not
    /// compared.
    pub is_real: bool,
}
