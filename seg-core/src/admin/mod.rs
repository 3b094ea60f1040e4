//! The admin API: who may have mail, and how the gateway fares (design: Admin listener).
//!
//! It runs on the runtime that may block, never on a core's. Everything but health and metrics
//! needs the bearer token. There is no check of `Host` against DNS rebinding and no CORS: a
//! browser holds nothing that this API would take for an authority, and what it gives without a
//! token says nothing about anybody.
//!
//! [`endpoints`] is the one table of paths; `/openapi.json` and the router are both made from it.

mod audit;
mod devices;
mod endpoints;
mod error;
mod events;
mod explain;
mod health;
mod import;
mod listener;
mod openapi;
mod orders;
mod overrides;
mod params;
mod questions;
mod token;
mod tokens;
mod upstreams;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use seg_compliance::api::{Binding, ExplainStep, ReloadResult};
use seg_compliance::{Ask, DeviceKey, Engine, UserKey};
use serde_json::{Map, Value};

use crate::redirect::Move;
use crate::servers::UpstreamState;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::pseudonym::Pseudonym;

pub use listener::serve;
pub use token::{Token, TokenError};
pub use tokens::{Caller, NamedTokens, Role, TokensError};

/// What the admin API needs of the gateway it belongs to.
pub trait Gateway: Send + Sync + 'static {
    /// The engine that decides.
    fn engine(&self) -> &Arc<Engine>;

    /// The gateway's metrics.
    fn metrics(&self) -> &Arc<Metrics>;

    /// How names stand in the log.
    fn pseudonym(&self) -> Arc<Pseudonym>;

    /// The named tokens that may call besides the gateway's own.
    fn tokens(&self) -> Arc<NamedTokens>;

    /// `compliance.import.max.change.percent`: a snapshot that would change more asks first.
    fn import_guard(&self) -> u8;

    /// What still keeps the gateway from taking requests, in words; empty: it is ready.
    /// Configuration, journal and listeners count; upstreams don't.
    fn not_ready(&self) -> Vec<String>;

    /// Reads the configuration again and puts it in force. Called on a thread that may block.
    ///
    /// # Errors
    /// The configuration is refused; the old one stays in force.
    fn reload(&self) -> Result<ReloadResult, ReloadError>;

    /// The canonical device of a DeviceId as a person writes it (design: Identity).
    ///
    /// # Errors
    /// Why it is none.
    fn device(&self, text: &str) -> Result<DeviceKey, String>;

    /// The canonical user of a login name, UPN or mail address (design: Identity).
    ///
    /// # Errors
    /// Why it is none.
    fn user(&self, text: &str) -> Result<UserKey, String>;

    /// Where users have moved.
    fn redirects(&self) -> Vec<Move>;

    /// Forgets where a user, or everybody, has moved; says how many moves there were.
    fn clear_redirects(&self, user: Option<&UserKey>) -> usize;

    /// How every server behind the gateway stands.
    fn upstreams(&self) -> Vec<UpstreamState>;

    /// The `[[content]]` rules that hold for a device and its user: name, and what each does.
    fn content(&self, device: &DeviceKey, user: Option<&UserKey>) -> Vec<(String, String)>;

    /// The `[[eas.folders]]` rules that hold for a device and its user.
    fn folders(&self, device: &DeviceKey, user: Option<&UserKey>) -> Vec<FolderSays>;

    /// How `explain` tells who was asked for: the names as given and what became of them.
    fn identity(&self, asked: &Asked<'_>) -> Map<String, Value>;

    /// Whose a device is by its use; `None` where nobody knows or asks.
    fn binding(&self, device: &DeviceKey) -> Option<Binding>;

    /// Forgets whom a device is bound to; `false`: nobody.
    fn unbind(&self, device: &DeviceKey) -> bool;

    /// Why a request like this may come from a copy of its device, in one word; empty: nothing
    /// says so.
    fn suspect(&self, ask: &Ask<'_>) -> &'static str;

    /// What `[ews]` says; `None` where the command is none of EWS.
    fn ews(&self, asked: &AskedEws<'_>) -> Option<EwsSays>;
}

/// The EWS operation that `explain` was asked about, and who would ask for it.
#[derive(Clone, Copy, Debug)]
pub struct AskedEws<'a> {
    /// The command as given.
    pub command: &'a str,
    /// The `User-Agent`.
    pub agent: &'a str,
    /// The user.
    pub user: Option<&'a UserKey>,
}

/// What `[ews]` says to an operation.
#[derive(Clone, Debug)]
pub struct EwsSays {
    /// As a step of the explanation.
    pub step: ExplainStep,
    /// The device that the request would be judged by, where none was named.
    pub device: Option<DeviceKey>,
}

/// What a rule about folders does to a device, for `explain`.
#[derive(Clone, Debug)]
pub struct FolderSays {
    /// The rule.
    pub rule: String,
    /// What it does: `hide` or `read-only`.
    pub action: &'static str,
    /// The ids of the device's folders about which it decides; `None`: the device has not told of its
    /// folders yet.
    pub folders: Option<Vec<String>>,
}

/// Who `explain` was asked about, as given and as understood.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The DeviceId as given, and the device it means.
    pub device: Option<(&'a str, &'a DeviceKey)>,
    /// The name as given, and the user it means.
    pub user: Option<(&'a str, &'a UserKey)>,
}

/// Why a configuration was refused. The old one stays in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ReloadError {
    /// What is wrong, and how to mend it.
    pub message: String,
    /// The key it is about.
    pub key: Option<String>,
    /// The line it is on.
    pub line: Option<u64>,
}
