//! From the table as it is written to what decides.

use super::file::{self, File};
use super::pattern::Pattern;
use super::rung::Rung;
use super::{ClassPolicy, ClientClass, ClientRule, Grant, Meter, Policy, RefusalForm};
use crate::operation::{Group, Operation};
use crate::redact::{Fields, Redaction};
use ipnet::IpNet;
use thiserror::Error;

/// An `[ews]` table that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("[ews]: {0}")]
pub struct PolicyError(String);

/// What a phone has business with.
const DEFAULT_GROUPS: [Group; 5] = [
    Group::Notify,
    Group::Metadata,
    Group::Directory,
    Group::Content,
    Group::Write,
];

/// The longest window of a meter: a month.
const MINUTES_MAX: u32 = 31 * 24 * 60;

impl Default for Policy {
    fn default() -> Self {
        Self {
            default_class: ClientClass::Native,
            trusted_networks: Vec::new(),
            clients: Vec::new(),
            classes: ClientClass::ALL.map(default_class),
        }
    }
}

fn default_class(class: ClientClass) -> ClassPolicy {
    ClassPolicy {
        operations: of_groups(DEFAULT_GROUPS),
        unknown: Vec::new(),
        // ENS shows nobody what it is answered; 403 is what it knows from other gateways.
        refusal: (class == ClientClass::Ens).then_some(RefusalForm::Forbidden),
        rungs: Vec::new(),
        redaction: Redaction::default(),
        meter: None,
        impersonation: Vec::new(),
        management_role: Vec::new(),
        foreign_mailboxes: Vec::new(),
        push_hosts: Vec::new(),
    }
}

fn of_groups(groups: impl IntoIterator<Item = Group>) -> u128 {
    let mut set = 0;
    for group in groups {
        for operation in Operation::all().filter(|operation| operation.group() == group) {
            set |= 1 << operation.index();
        }
    }
    set
}

impl Policy {
    /// Reads `[ews]`. An empty table is the default policy.
    ///
    /// # Errors
    /// The first thing wrong, and where.
    pub fn compile(table: toml::Table) -> Result<Self, PolicyError> {
        let file: File = table
            .try_into()
            .map_err(|error: toml::de::Error| PolicyError(error.message().to_owned()))?;
        let at = |place: String| move |why: String| PolicyError(format!("{place}: {why}"));
        let default = Self::default();
        let default_class = match &file.default_class {
            None => default.default_class,
            Some(name) => class_named(name).map_err(at("default_class".to_owned()))?,
        };
        let mut clients = Vec::with_capacity(file.client.len());
        for (index, client) in file.client.iter().enumerate() {
            let rule = client_rule(client).map_err(at(format!("client {}", index + 1)))?;
            clients.push(rule);
        }
        let given = |class| match class {
            ClientClass::Ens => &file.ens,
            ClientClass::Native => &file.native,
            ClientClass::Desktop => &file.desktop,
            ClientClass::Service => &file.service,
        };
        let mut classes = default.classes;
        for (class, policy) in ClientClass::ALL.into_iter().zip(&mut classes) {
            if let Some(given) = given(class) {
                class_policy(given, policy).map_err(at(class.name().to_owned()))?;
            }
        }
        Ok(Self {
            default_class,
            trusted_networks: networks(&file.trusted_networks)
                .map_err(at("trusted_networks".to_owned()))?,
            clients,
            classes,
        })
    }
}

fn class_named(name: &str) -> Result<ClientClass, String> {
    ClientClass::from_name(name)
        .ok_or_else(|| format!("{name:?} is none of ens, native, desktop, service"))
}

fn networks(texts: &[String]) -> Result<Vec<IpNet>, String> {
    texts
        .iter()
        .map(|text| {
            let address = || text.parse::<std::net::IpAddr>().map(IpNet::from);
            text.parse()
                .or_else(|_| address())
                .map_err(|_| format!("{text:?} is no network such as 10.0.0.0/8, and no address"))
        })
        .collect()
}

fn client_rule(client: &file::Client) -> Result<ClientRule, String> {
    let rule = ClientRule {
        class: class_named(&client.class)?,
        networks: networks(&client.networks)?,
        agents: Pattern::all(&client.agents)?,
        certificates: Pattern::all(&client.certificates)?,
    };
    if rule.networks.is_empty() && rule.agents.is_empty() && rule.certificates.is_empty() {
        return Err("name networks, agents or certificates; for everybody, default_class".into());
    }
    Ok(rule)
}

fn class_policy(given: &file::Class, policy: &mut ClassPolicy) -> Result<(), String> {
    if let Some(groups) = &given.groups {
        let groups: Vec<Group> = groups
            .iter()
            .map(|name| {
                Group::from_name(name).ok_or_else(|| {
                    let known = Group::ALL.map(Group::name).join(", ");
                    format!("groups: {name:?} is none of {known}")
                })
            })
            .collect::<Result<_, _>>()?;
        policy.operations = of_groups(groups);
    }
    let bit = |name: &String| {
        Operation::from_name(name)
            .map(|operation| 1u128 << operation.index())
            .ok_or_else(|| format!("{name:?} is no operation of EWS"))
    };
    for name in &given.allow {
        policy.operations |= bit(name)?;
    }
    for name in &given.deny {
        policy.operations &= !bit(name)?;
    }
    if let Some(known) = given.unknown.iter().find(|name| bit(name).is_ok()) {
        return Err(format!("unknown: {known:?} is known; list it under allow"));
    }
    policy.unknown = Pattern::all(&given.unknown)?;
    policy.refusal = match given.refusal.as_deref() {
        None => policy.refusal,
        Some("response") => Some(RefusalForm::Response),
        Some("403") => Some(RefusalForm::Forbidden),
        Some(other) => {
            return Err(format!(
                "refusal: {other:?} is neither \"response\" nor \"403\""
            ));
        }
    };
    policy.impersonation = grants(&given.impersonation)?;
    policy.management_role = Pattern::all(&given.management_role)?;
    policy.foreign_mailboxes = grants(&given.foreign_mailboxes)?;
    policy.push_hosts = Pattern::all(&given.push_hosts)?;
    let fields = match &given.fields {
        None => None,
        Some(words) => Some(
            Fields::of(words.iter().map(String::as_str)).map_err(|word| {
                let known: Vec<_> = Fields::words().collect();
                format!("fields: {word:?} is none of {}", known.join(", "))
            })?,
        ),
    };
    policy.redaction = Redaction {
        attachments: blocks("attachments", given.attachments.as_deref())?,
        mime_content: blocks("mime_content", given.mime_content.as_deref())?,
        fields,
    };
    policy.meter = given.meter.as_ref().map(meter).transpose()?;
    policy.rungs = given
        .device
        .iter()
        .map(|text| Rung::parse(text).map_err(|why| format!("device: {why}")))
        .collect::<Result<_, _>>()?;
    Ok(())
}

fn grants(given: &[file::Grant]) -> Result<Vec<Grant>, String> {
    given
        .iter()
        .map(|grant| {
            Ok(Grant {
                by: Pattern::new(&grant.by)?,
                of: Pattern::all(&grant.of)?,
            })
        })
        .collect()
}

fn blocks(key: &str, word: Option<&str>) -> Result<bool, String> {
    match word {
        None | Some("allow") => Ok(false),
        Some("block") => Ok(true),
        Some(other) => Err(format!(
            "{key}: {other:?} is neither \"allow\" nor \"block\""
        )),
    }
}

fn meter(given: &file::Meter) -> Result<Meter, String> {
    if !(1..=MINUTES_MAX).contains(&given.minutes) {
        return Err(format!("meter: minutes must be 1 to {MINUTES_MAX}"));
    }
    if given.bytes.is_none() && given.items.is_none() {
        return Err("meter: give bytes, items or both".to_owned());
    }
    Ok(Meter {
        minutes: given.minutes,
        bytes: given.bytes.unwrap_or(u64::MAX),
        items: given.items.unwrap_or(u64::MAX),
    })
}
