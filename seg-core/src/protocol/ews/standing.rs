//! Who asks: the class of client, its device, and what `[ews]` says to the request.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Uri};
use seg_compliance::{DeviceKey, UserKey};
use seg_ews::policy::{ClassPolicy, ClientClass, Denial, Meter, Policy, RefusalForm, Sender};
use seg_ews::{Group, Redaction};

use super::ladder::{Looking, Unclear, climb};
use super::memory::Taken;
use super::{ClientCertificate, EwsCall, EwsMemory, without_devices};
use crate::identify::IdentityRules;

/// `[ews]` as the gateway uses it: the policy, and what must be known of it before any request.
#[derive(Debug)]
pub struct EwsSettings {
    /// The policy.
    pub policy: Policy,
    /// Whether ActiveSync traffic teaches which device a user has.
    pub learns: bool,
    /// Whether client certificates are read.
    pub reads_certificates: bool,
    /// Parameters of the URL that may name a device.
    pub query_parameters: Vec<String>,
}

impl EwsSettings {
    /// A compiled policy, looked through once.
    pub fn new(policy: Policy) -> Self {
        Self {
            learns: policy.learns(),
            reads_certificates: policy.reads_certificates(),
            query_parameters: policy.query_parameters(),
            policy,
        }
    }

    /// The query to forward instead of this one, where it names a device.
    pub fn forwarded_query(&self, query: Option<&str>) -> Option<String> {
        if self.query_parameters.is_empty() {
            return None;
        }
        without_devices(query?, &self.query_parameters)
    }
}

/// What a request stands on.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    /// The client's address.
    pub address: IpAddr,
    /// Its `User-Agent`.
    pub agent: &'a str,
    /// Its verified certificate, where `[ews]` reads certificates.
    pub certificate: Option<&'a ClientCertificate>,
    /// Whether there is a verified certificate at all.
    pub certified: bool,
    /// The authenticated user.
    pub user: &'a UserKey,
    /// The request target.
    pub uri: &'a Uri,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// Who asks, and what `[ews]` says to it.
#[derive(Debug)]
pub struct Standing {
    /// The class of client.
    pub class: ClientClass,
    /// The device, where a rung of the ladder names one.
    pub device: Option<DeviceKey>,
    /// The rung.
    pub rung: &'static str,
    /// Why `[ews]` denies the request.
    pub denial: Option<Denial>,
    /// False in observe mode.
    pub enforced: bool,
    /// The user as whom the caller acts.
    pub acts_as: Option<UserKey>,
    /// What the class's refusal looks like, where it says so.
    pub refusal: Option<RefusalForm>,
    /// What is forwarded instead of the client's query.
    pub query: Option<String>,
    /// What is left out of the answer.
    pub redaction: Redaction,
    /// What the answer is counted by.
    pub taken: Option<Arc<Taken>>,
}

impl Standing {
    /// Places a request.
    ///
    /// # Errors
    /// Its device can be read in two ways.
    pub fn of(
        call: &EwsCall,
        whose: &Whose<'_>,
        settings: &EwsSettings,
        identity: &IdentityRules,
        memory: &EwsMemory,
        enforced: bool,
    ) -> Result<Self, Unclear> {
        let policy = &settings.policy;
        let class = policy.class(&Sender {
            address: whose.address,
            agent: whose.agent,
            certificate: whose.certificate.map(|found| found.subject.as_str()),
        });
        let rules = policy.of(class);
        let looking = Looking {
            uri: whose.uri,
            headers: whose.headers,
            header_trusted: whose.certified || policy.trusts(whose.address),
            certificate: whose.certificate,
            user: whose.user,
            memory,
        };
        let (device, rung) = climb(rules, &looking)?;
        let mut standing = Self {
            class,
            device,
            rung,
            denial: None,
            enforced,
            acts_as: None,
            refusal: rules.refusal,
            query: settings.forwarded_query(whose.uri.query()),
            redaction: Redaction::default(),
            taken: None,
        };
        standing.denial = standing.judge(call, rules, whose.user, identity, memory);
        Ok(standing)
    }

    fn judge(
        &mut self,
        call: &EwsCall,
        rules: &ClassPolicy,
        user: &UserKey,
        identity: &IdentityRules,
        memory: &EwsMemory,
    ) -> Option<Denial> {
        let operation = call.operation()?;
        let Some(facts) = call.facts() else {
            return rules.judge_operation(operation).err();
        };
        let is_own = |mailbox: &str| identity.same_person(mailbox, user);
        if let Err(denial) = rules.judge(facts, user.as_str(), is_own) {
            return Some(denial);
        }
        if let Some(impersonation) = &facts.impersonation {
            match identity.canonical(&impersonation.address) {
                Some(mailbox) => self.acts_as = Some(mailbox),
                None => return Some(Denial::Impersonation),
            }
        }
        if matches!(operation.group(), Group::Content | Group::Unknown) {
            self.redaction = rules.redaction.clone();
            if let Some(meter) = rules.meter {
                let who = self
                    .device
                    .as_ref()
                    .map_or(user.as_str(), DeviceKey::as_str);
                return self.count(memory.taken(self.class, who, meter), meter);
            }
        }
        None
    }

    fn count(&mut self, taken: Arc<Taken>, meter: Meter) -> Option<Denial> {
        let full = taken.is_full(meter);
        self.taken = Some(taken);
        full.then_some(Denial::Meter)
    }

    /// Whether the answer is looked into.
    pub fn looks_into_answers(&self) -> bool {
        !self.redaction.is_nothing() || self.taken.is_some()
    }
}
