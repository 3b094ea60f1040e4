//! `[ews]` of policies.toml: which client may do what.
//!
//! A request belongs to a class of clients (ENS, native, desktop, service), told by network, agent
//! and certificate. The class says which operations pass, whose mailboxes may be reached, where
//! notifications may be pushed, what is left out of answers, how much may be taken in a window of
//! time, where the device is looked for and what a refusal looks like. Without any configuration
//! everybody is `native`, and what a phone has no business with is denied: operations that outlive
//! the device or reach beyond its mailbox, acting as somebody else, other people's mailboxes, and
//! pushing to hosts that nobody has listed.
//!
//! The policy decides about facts; whose network, agent and certificate they are is told to it.

mod build;
mod file;
mod pattern;
mod rung;

pub use build::PolicyError;
pub use rung::{CertificatePart, Rung};

use std::net::IpAddr;

use ipnet::IpNet;

use crate::operation::{Group, Operation};
use crate::redact::Redaction;
use crate::scanner::{Envelope, ImpersonationKind};
use pattern::{Pattern, any};

/// What kind of client a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientClass {
    /// VMware Email Notification Service: subscribes for pushes and fetches subject and sender.
    Ens,
    /// Mail programs of phones.
    Native,
    /// Mail programs of computers.
    Desktop,
    /// Services with an account of their own.
    Service,
}

impl ClientClass {
    /// Every class.
    pub const ALL: [Self; 4] = [Self::Ens, Self::Native, Self::Desktop, Self::Service];

    /// The name used in policies and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ens => "ens",
            Self::Native => "native",
            Self::Desktop => "desktop",
            Self::Service => "service",
        }
    }

    /// The class of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// What a refusal looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalForm {
    /// The operation's own response with `ErrorAccessDenied`.
    Response,
    /// 403.
    Forbidden,
}

/// What a class is told by.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The client's address.
    pub address: IpAddr,
    /// Its `User-Agent`.
    pub agent: &'a str,
    /// The subject of its verified certificate.
    pub certificate: Option<&'a str>,
}

/// `[ews]`, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    default_class: ClientClass,
    trusted_networks: Vec<IpNet>,
    clients: Vec<ClientRule>,
    classes: [ClassPolicy; 4],
}

#[derive(Clone, Debug, PartialEq)]
struct ClientRule {
    class: ClientClass,
    networks: Vec<IpNet>,
    agents: Vec<Pattern>,
    certificates: Vec<Pattern>,
}

impl ClientRule {
    fn tells(&self, sender: &Sender<'_>) -> bool {
        let in_network = || {
            self.networks
                .iter()
                .any(|net| net.contains(&sender.address))
        };
        let certified = || {
            let subject = sender.certificate;
            subject.is_some_and(|subject| any(&self.certificates, subject))
        };
        (self.networks.is_empty() || in_network())
            && (self.agents.is_empty() || any(&self.agents, sender.agent))
            && (self.certificates.is_empty() || certified())
    }
}

impl Policy {
    /// The class of a request: of the first rule that tells it, or the default one.
    pub fn class(&self, sender: &Sender<'_>) -> ClientClass {
        let rule = self.clients.iter().find(|rule| rule.tells(sender));
        rule.map_or(self.default_class, |rule| rule.class)
    }

    /// What holds for a class.
    pub fn of(&self, class: ClientClass) -> &ClassPolicy {
        let [ens, native, desktop, service] = &self.classes;
        match class {
            ClientClass::Ens => ens,
            ClientClass::Native => native,
            ClientClass::Desktop => desktop,
            ClientClass::Service => service,
        }
    }

    /// Whether a header that names a device is believed from this address.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_networks
            .iter()
            .any(|net| net.contains(&address))
    }

    /// Whether any class looks at what ActiveSync traffic has taught.
    pub fn learns(&self) -> bool {
        self.classes
            .iter()
            .any(|class| class.rungs.contains(&Rung::Learned))
    }

    /// The parameters of the URL that any class looks for a device in.
    pub fn query_parameters(&self) -> Vec<String> {
        let rungs = self.classes.iter().flat_map(|class| &class.rungs);
        let mut names: Vec<String> = rungs
            .filter_map(|rung| match rung {
                Rung::Query(name) => Some(name.clone()),
                _ => None,
            })
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Whether anything is told by the client's certificate.
    pub fn reads_certificates(&self) -> bool {
        let rung = |rung: &Rung| matches!(rung, Rung::Certificate(_));
        self.clients
            .iter()
            .any(|rule| !rule.certificates.is_empty())
            || self
                .classes
                .iter()
                .any(|class| class.rungs.iter().any(rung))
    }
}

/// What holds for one class of clients.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassPolicy {
    /// One bit an operation, by [`Operation::index`].
    operations: u128,
    /// Names that nobody knows and that pass.
    unknown: Vec<Pattern>,
    /// The refusal's form; `None`: as `ews.refusal` says.
    pub refusal: Option<RefusalForm>,
    /// Where the device is looked for, in order.
    pub rungs: Vec<Rung>,
    /// What is left out of answers.
    pub redaction: Redaction,
    /// How much may be taken.
    pub meter: Option<Meter>,
    impersonation: Vec<Grant>,
    management_role: Vec<Pattern>,
    foreign_mailboxes: Vec<Grant>,
    push_hosts: Vec<Pattern>,
}

/// How much of the content group a device may take in a window of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meter {
    /// The window, in minutes.
    pub minutes: u32,
    /// Bytes of answers.
    pub bytes: u64,
    /// Items in answers.
    pub items: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct Grant {
    by: Pattern,
    /// Empty: anybody's.
    of: Vec<Pattern>,
}

fn granted(grants: &[Grant], user: &str, mailbox: &str) -> bool {
    grants
        .iter()
        .any(|grant| grant.by.matches(user) && (grant.of.is_empty() || any(&grant.of, mailbox)))
}

/// Why a policy denies a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The class may not do this operation.
    Operation,
    /// Nobody knows the operation, and nobody has listed its name.
    UnknownOperation,
    /// `SerializedSecurityContext`, which nobody outside may send.
    SerializedSecurityContext,
    /// `ManagementRole`, without a grant.
    ManagementRole,
    /// `ExchangeImpersonation`, without a grant, or of somebody who can't be judged.
    Impersonation,
    /// Somebody else's mailbox, without a grant.
    ForeignMailbox,
    /// Notifications to a host that is not listed.
    PushHost,
    /// An attachment.
    Attachment,
    /// An answer from which the fields that are not listed can't be taken.
    Fields,
    /// More than the meter's measure was taken.
    Meter,
}

impl Denial {
    /// The word for logs, metrics and `explain`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Operation => "ews_operation",
            Self::UnknownOperation => "ews_unknown_operation",
            Self::SerializedSecurityContext => "ews_security_context",
            Self::ManagementRole => "ews_management_role",
            Self::Impersonation => "ews_impersonation",
            Self::ForeignMailbox => "ews_foreign_mailbox",
            Self::PushHost => "ews_push_host",
            Self::Attachment => "ews_attachment",
            Self::Fields => "ews_fields",
            Self::Meter => "ews_meter",
        }
    }
}

/// Operations whose answers the list of fields can be applied to.
const REDACTED: [&str; 3] = ["FindItem", "GetItem", "SyncFolderItems"];

impl ClassPolicy {
    /// Whether the class may do the operation at all.
    pub fn allows(&self, operation: Operation) -> bool {
        self.operations & (1 << operation.index()) != 0
    }

    /// Judges an operation by itself: what is known at the first child of the body. Of an unknown
    /// one its name decides, and [`judge`](Self::judge) asks for that.
    ///
    /// # Errors
    /// Why it is denied.
    pub fn judge_operation(&self, operation: Operation) -> Result<(), Denial> {
        if !operation.is_unknown() && !self.allows(operation) {
            return Err(Denial::Operation);
        }
        if self.redaction.attachments && operation.name() == "GetAttachment" {
            return Err(Denial::Attachment);
        }
        if self.redaction.fields.is_some()
            && matches!(operation.group(), Group::Content | Group::Unknown)
            && !REDACTED.contains(&operation.name())
        {
            return Err(Denial::Fields);
        }
        Ok(())
    }

    /// Judges what a request says of itself. `user` is the caller, canonical; `is_own` says
    /// whether an address names the caller's own mailbox.
    ///
    /// # Errors
    /// Why it is denied.
    pub fn judge(
        &self,
        facts: &Envelope,
        user: &str,
        is_own: impl Fn(&str) -> bool,
    ) -> Result<(), Denial> {
        if facts.operation.is_unknown()
            && !facts
                .unknown
                .as_deref()
                .is_some_and(|name| any(&self.unknown, name))
        {
            return Err(Denial::UnknownOperation);
        }
        self.judge_operation(facts.operation)?;
        if facts.serialized_security_context {
            return Err(Denial::SerializedSecurityContext);
        }
        if facts.management_role && !any(&self.management_role, user) {
            return Err(Denial::ManagementRole);
        }
        if let Some(impersonation) = &facts.impersonation {
            // A security identifier names nobody that a verdict could be taken of.
            let readable = !matches!(
                impersonation.kind,
                ImpersonationKind::Sid | ImpersonationKind::Unreadable
            );
            if !readable || !granted(&self.impersonation, user, &impersonation.address) {
                return Err(Denial::Impersonation);
            }
        }
        let impersonated = facts
            .impersonation
            .as_ref()
            .map(|impersonation| impersonation.address.as_str());
        if !self.reaches(&facts.mailboxes, user, |mailbox| {
            impersonated.is_some_and(|own| own.eq_ignore_ascii_case(mailbox)) || is_own(mailbox)
        }) {
            return Err(Denial::ForeignMailbox);
        }
        if let Some(url) = &facts.push_url {
            let listed = url.host().is_some_and(|host| any(&self.push_hosts, &host));
            if !listed {
                return Err(Denial::PushHost);
            }
        }
        Ok(())
    }

    /// Whether all of these mailboxes may be reached.
    pub fn reaches(&self, mailboxes: &[String], user: &str, is_own: impl Fn(&str) -> bool) -> bool {
        mailboxes
            .iter()
            .all(|mailbox| is_own(mailbox) || granted(&self.foreign_mailboxes, user, mailbox))
    }

    /// Whether notifications may be pushed to this host.
    pub fn may_push_to(&self, host: &str) -> bool {
        any(&self.push_hosts, host)
    }
}

#[cfg(test)]
mod tests;
