//! Folders that a device does not see, or can't change (`[[eas.folders]]` of policies.toml), on the
//! way of a request and of its answer.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use seg_compliance::{DeviceKey, Engine, UserKey};
use seg_eas::answer::Status;
use seg_eas::folders::{self, FolderRule, Forbidden};
use seg_eas::wbxml::OutlineError;
use seg_eas::{Command, sync_keys};

use super::content::with_subject;
use super::{Stop, Walk};
use crate::decide::{FolderKey, folder_kind};
use crate::forward::Held;
use crate::message::Reply;
use crate::protocol::{EasCall, eas_reply};
use crate::runtime::Snapshot;
use crate::telemetry::metrics::Outcome;

/// The rules about folders that hold for a request, by their places in the snapshot.
#[derive(Debug)]
pub(super) struct FolderRules {
    rules: Vec<usize>,
    key: FolderKey,
    /// Whether the request asks for all folders.
    anew: AtomicBool,
}

impl FolderRules {
    fn of<'s>(&self, snapshot: &'s Snapshot) -> Vec<&'s FolderRule> {
        let all = snapshot.firewall.as_ref().map(|firewall| &firewall.folders);
        let all = all.map(Vec::as_slice).unwrap_or_default();
        self.rules.iter().filter_map(|at| all.get(*at)).collect()
    }
}

impl Walk<'_> {
    /// The rules about folders that hold for who asks.
    pub(super) fn folder_rules(
        &self,
        command: Command,
        device: &DeviceKey,
        user: Option<&UserKey>,
    ) -> Option<FolderRules> {
        let firewall = self.snapshot.firewall.as_ref()?;
        if firewall.folders.is_empty() || !names_folders(command) {
            return None;
        }
        let engine = &self.connection.core.shared.engine;
        let rules = folder_rules_for(self.snapshot, engine, device, user);
        let key = (device.clone(), user?.clone());
        (!rules.is_empty()).then(|| FolderRules {
            rules,
            key,
            anew: false.into(),
        })
    }

    /// What the rules say to a request.
    pub(super) async fn folders_up(
        &mut self,
        rules: &FolderRules,
        call: &EasCall,
        held: Held,
    ) -> Result<Held, Stop> {
        let limit = self.snapshot.config.content_buffer;
        let held = match held.whole_within(limit).await {
            Ok(held) => held,
            Err(error) => return Err(self.bad_body(&error)),
        };
        let (Some(command), true) = (call.eas_command(), call.has_wbxml()) else {
            return Ok(held);
        };
        let Some(body) = held.whole() else {
            self.record.bad_request("content_too_large", None);
            return Err(call.common(Status::ServerError).into());
        };
        let known = self.connection.core.shared.folders.of(&rules.key);
        if command == Command::FolderSync {
            // What can't be read is the server's to refuse.
            let first = sync_keys::folder_key(body)
                .is_ok_and(|key| key.is_none_or(|key| key == sync_keys::FIRST));
            rules.anew.store(first, Ordering::Relaxed);
            if !first && known.is_none() {
                return Err(self.local(eas_reply(sync_keys::folders_anew())).into());
            }
            return Ok(held);
        }
        let kind = |id: &str| known.as_deref().map(|known| folder_kind(known, id));
        let judged = folders::judge(&rules.of(self.snapshot), command, body, kind);
        let forbidden = match judged {
            Ok(Some(forbidden)) => forbidden,
            Ok(None) => return Ok(held),
            // What we can't read, a server may.
            Err(_) => {
                self.record.bad_request("folders_unreadable", None);
                return Err(call.common(Status::ServerError).into());
            }
        };
        let reply = match (forbidden, command) {
            (Forbidden::Hidden | Forbidden::Untold, Command::Sync) => {
                self.local(eas_reply(sync_keys::sync_folders_first()))
            }
            (Forbidden::Hidden | Forbidden::Untold, Command::Ping) => {
                self.local(eas_reply(sync_keys::ping_folders_first()))
            }
            // The device gets the folder as it is, and its own change is gone.
            (Forbidden::Written(ids), Command::Sync) => {
                let collections = sync_keys::collections(body).unwrap_or_default();
                let written: Vec<_> = collections
                    .into_iter()
                    .filter(|collection| ids.iter().any(|id| id == collection.id))
                    .collect();
                self.refused_for_folder(eas_reply(sync_keys::sync_anew(&written)))
            }
            _ => self.refused_for_folder(call.common(Status::AccessDenied)),
        };
        Err(reply.into())
    }

    /// What the rules make of an answer.
    pub(super) fn folders_down(
        &mut self,
        rules: &FolderRules,
        call: &EasCall,
        body: Bytes,
    ) -> Result<Bytes, OutlineError> {
        let shared = &self.connection.core.shared;
        let held = rules.of(self.snapshot);
        let new = match call.eas_command() {
            Some(Command::FolderSync) if !body.is_empty() => {
                let Some(listed) = folders::listed(&held, &body)? else {
                    return Ok(body);
                };
                if listed.hidden > 0 {
                    let hidden = format!("folders hidden: {}", listed.hidden);
                    self.record.because("folders", Some(hidden));
                }
                shared.folders.learn(
                    rules.key.clone(),
                    &listed,
                    rules.anew.load(Ordering::Relaxed),
                );
                listed.body
            }
            Some(Command::Search | Command::Find) => {
                let known = shared.folders.of(&rules.key);
                let kind = |id: &str| known.as_deref().map(|known| folder_kind(known, id));
                folders::found(&held, &body, kind)?
            }
            _ => None,
        };
        Ok(new.map_or(body, Bytes::from))
    }

    fn local(&mut self, reply: Reply) -> Reply {
        self.record.outcome(Outcome::Local);
        self.record.because("folders", None);
        reply
    }

    fn refused_for_folder(&mut self, reply: Reply) -> Reply {
        self.record.outcome(Outcome::Refused);
        self.record.because("folder_read_only", None);
        reply
    }
}

/// The rules about folders that hold for a device and its user, by their places in the snapshot.
pub(crate) fn folder_rules_for(
    snapshot: &Snapshot,
    engine: &Engine,
    device: &DeviceKey,
    user: Option<&UserKey>,
) -> Vec<usize> {
    let Some(firewall) = &snapshot.firewall else {
        return Vec::new();
    };
    with_subject(engine, device, user, |subject| {
        let rules = firewall.folders.iter().enumerate();
        rules
            .filter(|(_, rule)| rule.holds_for(subject))
            .map(|(at, _)| at)
            .collect()
    })
}

/// Whether a command's request or answer names folders.
const fn names_folders(command: Command) -> bool {
    !matches!(
        command,
        Command::SendMail
            | Command::Provision
            | Command::Settings
            | Command::ResolveRecipients
            | Command::ValidateCert
            | Command::GetAttachment
    )
}
