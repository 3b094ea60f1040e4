//! The gateway, as its admin API sees it.

use std::net::Ipv6Addr;
use std::sync::Arc;

use jiff::Timestamp;
use seg_compliance::api::{Binding, ReloadResult};
use seg_compliance::{Ask, DeviceKey, Engine, UserKey};
use seg_eas::content::Sealed;
use seg_eas::folders::{self, FolderRule};
use serde_json::{Map, Value, json};

use super::Shared;
use super::reload::Reloader;
use crate::admin::{Asked, AskedEws, EwsSays, FolderSays, Gateway, NamedTokens, ReloadError};
use crate::binding::{Seen, Suspicion};
use crate::pipeline::{folder_rules_for, rules_for};
use crate::redirect::Move;
use crate::servers::UpstreamState;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::pseudonym::Pseudonym;

/// What the admin API reaches of a gateway.
#[derive(Debug)]
pub(super) struct Administered {
    shared: Arc<Shared>,
    reloader: Arc<Reloader>,
}

impl Administered {
    pub(super) fn new(shared: &Arc<Shared>, reloader: &Arc<Reloader>) -> Self {
        Self {
            shared: Arc::clone(shared),
            reloader: Arc::clone(reloader),
        }
    }
}

impl Gateway for Administered {
    fn engine(&self) -> &Arc<Engine> {
        &self.shared.engine
    }

    fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    fn pseudonym(&self) -> Arc<Pseudonym> {
        Arc::clone(&self.shared.snapshot().pseudonym)
    }

    fn tokens(&self) -> Arc<NamedTokens> {
        Arc::clone(&self.shared.snapshot().admin_tokens)
    }

    fn import_guard(&self) -> u8 {
        self.shared.snapshot().config.compliance.import_guard
    }

    fn not_ready(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if !self.shared.is_listening() {
            missing.push("the listeners are not open".to_owned());
        }
        if self.shared.is_draining() {
            missing.push("the gateway is draining".to_owned());
        }
        missing
    }

    fn reload(&self) -> Result<ReloadResult, ReloadError> {
        match self.reloader.reload() {
            Ok(changes) => Ok(ReloadResult {
                changed: changes.changed.iter().map(|&key| key.to_owned()).collect(),
                restart_required: changes
                    .restart_required
                    .iter()
                    .map(|&key| key.to_owned())
                    .collect(),
            }),
            Err(refused) => Err(ReloadError {
                message: refused.message,
                key: refused.key,
                line: refused.line.map(|line| line as u64),
            }),
        }
    }

    fn device(&self, text: &str) -> Result<DeviceKey, String> {
        let id = seg_eas::DeviceId::parse_text(text).map_err(|error| error.to_string())?;
        DeviceKey::new(id.as_str()).map_err(|error| error.to_string())
    }

    fn user(&self, text: &str) -> Result<UserKey, String> {
        self.shared
            .snapshot()
            .identity
            .canonical(text)
            .ok_or_else(|| "it is empty, too long or holds control characters".to_owned())
    }

    fn binding(&self, device: &DeviceKey) -> Option<Binding> {
        let snapshot = self.shared.snapshot();
        let rules = snapshot.bindings.as_deref()?;
        self.shared.bindings.view(rules, device)
    }

    fn unbind(&self, device: &DeviceKey) -> bool {
        self.shared.bindings.forget(device)
    }

    fn suspect(&self, ask: &Ask<'_>) -> &'static str {
        let snapshot = self.shared.snapshot();
        let (Some(rules), Some(device)) = (snapshot.bindings.as_deref(), ask.device) else {
            return "";
        };
        let owner = self.shared.engine.owner(device);
        let Some(user) = ask.user.or(owner.as_ref()) else {
            return "";
        };
        let found = self.shared.bindings.suspect(
            rules,
            &Seen {
                device,
                user,
                owner: owner.as_ref(),
                certificate: None,
                protocol: ask.protocol,
                agent: ask.agent,
                device_type: ask.device_type,
                hello: None,
                address: ask
                    .via
                    .address
                    .unwrap_or_else(|| Ipv6Addr::UNSPECIFIED.into()),
                now: Timestamp::now(),
                is_real: false,
            },
        );
        found.map_or("", Suspicion::word)
    }

    fn ews(&self, asked: &AskedEws<'_>) -> Option<EwsSays> {
        super::explained::ews(&self.shared, asked)
    }

    fn redirects(&self) -> Vec<Move> {
        self.shared.moves.list()
    }

    fn clear_redirects(&self, user: Option<&UserKey>) -> usize {
        self.shared.moves.clear(user)
    }

    fn upstreams(&self) -> Vec<UpstreamState> {
        UpstreamState::of(&self.shared.snapshot())
    }

    fn content(&self, device: &DeviceKey, user: Option<&UserKey>) -> Vec<(String, String)> {
        let snapshot = self.shared.snapshot();
        let holding = rules_for(&snapshot, &self.shared.engine, device, user);
        let rules = holding
            .into_iter()
            .filter_map(|at| snapshot.content.get(at));
        rules
            .map(|rule| {
                let parts = [
                    ("attachments", rule.attachments.is_some()),
                    ("links", rule.links.is_some()),
                    ("classified", rule.classified.is_some()),
                    ("sealed", rule.sealed == Sealed::Withhold),
                ];
                let does = parts.into_iter().filter(|(_, there)| *there);
                let does: Vec<_> = does.map(|(name, _)| name).collect();
                (rule.id.clone(), does.join(","))
            })
            .collect()
    }

    fn folders(&self, device: &DeviceKey, user: Option<&UserKey>) -> Vec<FolderSays> {
        let snapshot = self.shared.snapshot();
        let holding = folder_rules_for(&snapshot, &self.shared.engine, device, user);
        let all = snapshot.firewall.iter().flat_map(|wall| &wall.folders);
        let all: Vec<&FolderRule> = all.collect();
        let rules: Vec<&FolderRule> = holding
            .iter()
            .filter_map(|at| all.get(*at).copied())
            .collect();
        let known = user.and_then(|user| self.shared.folders.of(&(device.clone(), user.clone())));
        let decided = |rule: &FolderRule| {
            let known = known.iter().flat_map(|known| known.iter());
            let decides =
                |kind: u8| folders::decides(&rules, kind).is_some_and(|one| one.id == rule.id);
            known
                .filter(|(_, kind)| decides(**kind))
                .map(|(id, _)| id.to_string())
                .collect()
        };
        rules
            .iter()
            .map(|rule| FolderSays {
                rule: rule.id.clone(),
                action: rule.action.word(),
                folders: known.is_some().then(|| decided(rule)),
            })
            .collect()
    }

    fn identity(&self, asked: &Asked<'_>) -> Map<String, Value> {
        let mut identity = Map::new();
        if let Some((given, key)) = asked.device {
            identity.insert(
                "device".to_owned(),
                json!({"given": given, "means": key.as_str()}),
            );
        }
        if let Some((given, key)) = asked.user {
            identity.insert(
                "user".to_owned(),
                json!({"given": given, "means": key.as_str()}),
            );
        }
        identity
    }
}
