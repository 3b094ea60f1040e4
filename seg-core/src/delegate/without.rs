//! A build without Kerberos: a configuration that needs it is refused before anything gets here.

use std::sync::Arc;

use http::HeaderValue;
use seg_compliance::UserKey;
use tokio::runtime::Handle;

use super::Refusal;
use crate::config::Config;
use crate::runtime::Shared;
use crate::servers::{Leg, Upstream};

/// Nothing; cannot be made.
#[derive(Debug)]
pub enum Delegation {}

/// Nothing; cannot be made.
#[derive(Debug)]
pub enum Answer {}

/// Nothing; cannot be made.
#[derive(Debug)]
pub enum Ticket {}

impl Delegation {
    /// `None`: this build has no Kerberos.
    pub fn new(_config: &Config, _before: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        None
    }

    /// Never called.
    ///
    /// # Errors
    /// Never.
    pub async fn authorize(
        self: &Arc<Self>,
        _runtime: &Handle,
        _user: &UserKey,
        _leg: &Leg,
        _upstream: &Upstream,
        _ticket: Option<&mut Ticket>,
    ) -> Result<(HeaderValue, Answer), Refusal> {
        match **self {}
    }

    /// Never called.
    pub fn forget(&self, _user: &UserKey, _leg: &Leg) {
        match *self {}
    }

    /// Never called.
    pub fn skew(&self) -> Option<Refusal> {
        match *self {}
    }

    /// Never called.
    ///
    /// # Errors
    /// Never.
    pub async fn accept(
        self: &Arc<Self>,
        _runtime: &Handle,
        _message: &[u8],
    ) -> Result<Ticket, Refusal> {
        match **self {}
    }
}

impl Ticket {
    /// Never called.
    pub fn principal(&self) -> &str {
        match *self {}
    }

    /// Never called.
    pub fn answer(&self) -> Option<HeaderValue> {
        match *self {}
    }
}

impl Answer {
    /// Never called.
    ///
    /// # Errors
    /// Never.
    pub fn check(self, _value: &[u8]) -> Result<(), Refusal> {
        match self {}
    }
}

/// Nothing to prepare.
pub fn prepare_process(_config: &Config) {}

/// Nothing to probe.
pub(crate) async fn tend(_shared: Arc<Shared>) {}
