//! One configuration, with everything that is made of it. Built off to the side, whole or not at
//! all, and swapped in by one store.

use std::sync::Arc;

use seg_eas::content::Rule;
use seg_eas::firewall::Firewall;
use seg_ews::ServerVersion;
use thiserror::Error;

use super::besides::Doors;
use crate::admin::{NamedTokens, TokensError};
use crate::binding::BindingRules;
use crate::callback::{CallbackError, Callbacks};
use crate::config::binding_table::{self, BindingTable};
use crate::config::{self, Config, ConfigError, DefaultVerdict, TableError, policies};
use crate::delegate::Delegation;
use crate::directory::Directory;
use crate::enrolment::{Enrolment, EnrolmentError};
use crate::identify::{CertificateMapping, IdentityRules};
use crate::oauth::Tokens;
use crate::protocol::ServerVersionMemory;
use crate::protocol::ews::EwsSettings;
use crate::route::{Pass, Passes};
use crate::servers::Leg;
use crate::telemetry::pseudonym::Pseudonym;
use crate::tls::{self, Certificate, TlsError};
use crate::upstream::TargetError;

/// What a request is served by, from its route to its end.
#[derive(Debug)]
pub struct Snapshot {
    /// The configuration.
    pub config: Config,
    /// Counts reloads.
    pub generation: u64,
    /// TLS towards clients, by host name and listener.
    pub tls: tls::ServerTlsSet,
    /// The CAs of client certificates.
    pub authorities: tls::revocation::Authorities,
    /// Whose client certificates are.
    pub certificates: CertificateMapping,
    /// The certificates that clients see.
    pub shown: Vec<Certificate>,
    /// How names become users.
    pub identity: IdentityRules,
    /// The ActiveSync leg.
    pub eas: Arc<Leg>,
    /// The EWS leg.
    pub ews: Arc<Leg>,
    /// Pass-through routes.
    pub passes: Passes,
    /// What EWS clients are told of the server's version.
    pub ews_version: Arc<ServerVersionMemory>,
    /// Callback interposition, where it is on.
    pub callbacks: Option<Callbacks>,
    /// `[ews]`.
    pub ews_settings: EwsSettings,
    /// Passwords, accounts and groups.
    pub directory: Option<Arc<Directory>>,
    /// Who may come to the listeners beside the clients'.
    pub doors: Doors,
    /// Whose devices are; `None`: nobody asks.
    pub bindings: Option<Arc<BindingRules>>,
    /// Mail profiles; `None`: `/eas` is closed.
    pub enrolment: Option<Arc<Enrolment>>,
    /// Checks bearer tokens.
    pub tokens: Option<Arc<Tokens>>,
    /// Logs users in at the mail servers.
    pub delegation: Option<Arc<Delegation>>,
    /// How devices and users appear in the log.
    pub pseudonym: Arc<Pseudonym>,
    /// `[[content]]`: what is done with the content of mail.
    pub content: Vec<Rule>,
    /// Whether there are rules about content or folders at all.
    pub looks_into_mail: bool,
    /// `[eas]`: what is let through of ActiveSync.
    pub firewall: Option<Box<Firewall>>,
    /// `[[policy]]`, as the engine takes them.
    pub policies: seg_compliance::Policies,
    /// The named tokens of the admin API.
    pub admin_tokens: Arc<NamedTokens>,
    /// The systems that know about devices.
    pub sources: seg_compliance::sources::Definitions,
    /// A decision service or a source may have to be asked before a request passes or is refused.
    pub others_have_a_say: bool,
}

/// Why a configuration can't be used.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The properties.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Mail profiles.
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
    /// The book of bindings.
    #[error(transparent)]
    Bindings(#[from] crate::binding::OpenError),
    /// A certificate, a key or a CA.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The aliases, or the single certificates.
    #[error(transparent)]
    Table(#[from] TableError),
    /// policies.toml.
    #[error(transparent)]
    Policies(#[from] policies::PoliciesError),
    /// A `[[policy]]` that the engine refuses.
    #[error("{path}: {source}")]
    Policy {
        /// The file.
        path: String,
        /// What the engine says.
        source: seg_compliance::policy::PolicyError,
    },
    /// Callback interposition.
    #[error(transparent)]
    Callback(#[from] CallbackError),
    /// `[ews]`.
    #[error("{path}: {source}")]
    Ews {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: seg_ews::policy::PolicyError,
    },
    /// sources.toml.
    #[error(transparent)]
    Sources(#[from] seg_compliance::sources::SourceError),
    /// `admin.tokens.path`.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// An upstream's host.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// `ews.refusal.server.version`.
    #[error("ews.refusal.server.version: {0}")]
    ServerVersion(String),
    /// The key of the pseudonyms.
    #[error("log.pseudonym.key.path: {path} can't be read: {source}")]
    PseudonymKey {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
}

impl Snapshot {
    /// Builds everything that `config` names. `before` lends what did not change: connections, a
    /// self-signed certificate, what was learned.
    ///
    /// # Errors
    /// The first part that can't be used; nothing has changed then.
    pub fn build(
        config: Config,
        before: Option<&Self>,
        warn: &mut dyn FnMut(String),
    ) -> Result<Self, SnapshotError> {
        let mut built = tls::ServerTlsSet::build(&config)?;
        built.warnings.drain(..).for_each(&mut *warn);
        let (tls, shown) = (built.set, built.certificates);
        let authorities = tls::revocation::Authorities::load(&config.server.tls)?;
        let certificates = CertificateMapping::load(&config.identity.certificate)?;
        let identity = IdentityRules::load(&config.identity)?;
        let mut leg = |leg: &config::Leg, before: Option<(&config::Leg, &Leg)>| {
            let built = tls::client_config(&leg.tls)?;
            built.warnings.into_iter().for_each(&mut *warn);
            // Connections are kept where nothing about their TLS changed; a file that changed
            // under the same name is new settings, which only building them anew can tell.
            let same_tls = before.is_some_and(|(config, _)| {
                config.tls == leg.tls && leg.tls == config::UpstreamTls::default()
            });
            let kept = before.map(|(_, leg)| leg);
            let leg = Leg::new(leg, &built.config, kept, same_tls)?;
            Ok::<_, SnapshotError>(Arc::new(leg))
        };
        let eas = leg(
            &config.eas,
            before.map(|before| (&before.config.eas, &*before.eas)),
        )?;
        let ews = leg(
            &config.ews,
            before.map(|before| (&before.config.ews, &*before.ews)),
        )?;
        let mut passes = Vec::with_capacity(config.routes.len());
        for (name, route) in &config.routes {
            let written = config::Leg::of_route(route, &config.eas);
            let built = tls::client_config(&written.tls)?;
            built.warnings.into_iter().for_each(&mut *warn);
            let known = before.and_then(|before| {
                let mut all = before.passes.iter();
                all.find(|pass| *pass.name == **name)
            });
            let kept = known.map(|pass| &*pass.leg);
            let leg = Leg::new(&written, &built.config, kept, false)?;
            passes.push(Pass::new(name, route, Arc::new(leg)));
        }
        let passes = Passes::new(passes);
        let same_version = before.filter(|before| {
            before.config.ews_refusal_server_version == config.ews_refusal_server_version
        });
        let ews_version = match same_version {
            Some(before) => Arc::clone(&before.ews_version),
            None => {
                let version: ServerVersion = config
                    .ews_refusal_server_version
                    .parse()
                    .map_err(|error| SnapshotError::ServerVersion(format!("{error}")))?;
                Arc::new(ServerVersionMemory::new(version))
            }
        };
        let pseudonym = Arc::new(match &config.log.pseudonym_key_path {
            None => Pseudonym::none(),
            Some(path) => {
                let key = std::fs::read(path).map_err(|source| SnapshotError::PseudonymKey {
                    path: path.display().to_string(),
                    source,
                })?;
                Pseudonym::keyed(&key)
            }
        });
        let tables = policies::load(&config.compliance.policies_path)?;
        let ews_settings = seg_ews::policy::Policy::compile(tables.ews)
            .map(EwsSettings::new)
            .map_err(|source| SnapshotError::Ews {
                path: config.compliance.policies_path.display().to_string(),
                source,
            })?;
        let callbacks = match (&config.callback, &config.server.public_url) {
            (Some(callback), Some(public)) => Some(Callbacks::new(callback, public, warn)?),
            _ => None,
        };
        let policies = seg_compliance::Policies::parse(&tables.text).map_err(|source| {
            let path = config.compliance.policies_path.display().to_string();
            SnapshotError::Policy { path, source }
        })?;
        let sources = seg_compliance::sources::Definitions::load(&config.compliance.sources_path)?;
        let directory = Directory::new(
            config.directory.as_ref(),
            before.and_then(|before| before.directory.as_ref()),
        )?;
        let tokens = Tokens::new(
            config.oauth.as_ref(),
            &config.data_dir,
            before.and_then(|before| before.tokens.as_ref()),
        );
        let host = config.server.public_url.as_ref();
        let host = host.map(|origin| origin.host.as_str());
        let enrolment = match &config.enrolment {
            Some(rules) => Some(Arc::new(Enrolment::new(rules, host)?)),
            None => None,
        };
        let bindings = if config.binding.is_on() {
            let table = match &config.binding.path {
                Some(path) => binding_table::load(path, |name| identity.canonical(name))?,
                None => BindingTable::default(),
            };
            let rules = BindingRules {
                config: config.binding.clone(),
                table,
            };
            Some(Arc::new(rules))
        } else {
            None
        };
        let delegation = Delegation::new(
            &config,
            before.and_then(|before| before.delegation.as_ref()),
        );
        let admin_tokens = match &config.admin.tokens_path {
            None => Arc::default(),
            Some(path) => Arc::new(NamedTokens::load(path)?),
        };
        let doors = Doors::new(&config)?;
        Ok(Self {
            doors,
            directory,
            tokens,
            bindings,
            enrolment,
            delegation,
            generation: before.map_or(1, |before| before.generation + 1),
            tls,
            authorities,
            certificates,
            shown,
            identity,
            eas,
            ews,
            ews_version,
            passes,
            ews_settings,
            callbacks,
            pseudonym,
            looks_into_mail: !tables.content.is_empty()
                || tables
                    .eas
                    .as_ref()
                    .is_some_and(|firewall| !firewall.folders.is_empty()),
            content: tables.content,
            firewall: tables.eas.map(Box::new),
            policies,
            admin_tokens,
            others_have_a_say: config.callout.is_some()
                || sources.iter().any(|source| source.on_miss),
            sources,
            config,
        })
    }

    /// Whether a leg has servers that may send users to each other.
    pub fn has_siblings(&self) -> bool {
        self.eas.upstreams.len() > 1 || self.ews.upstreams.len() > 1
    }

    /// Takes back what only a restart changes, so that nothing is half in force.
    pub(super) fn keep_what_needs_a_restart(&mut self, before: &Self) {
        self.config
            .server
            .listen
            .clone_from(&before.config.server.listen);
        self.config
            .server
            .http_listen
            .clone_from(&before.config.server.http_listen);
        self.config.data_dir.clone_from(&before.config.data_dir);
        self.config.admin.listen = before.config.admin.listen;
        self.config
            .admin
            .token_path
            .clone_from(&before.config.admin.token_path);
        self.doors
            .keep_where_open(&self.config, &before.config, &before.doors);
        self.config.decision.beside.listen = before.config.decision.beside.listen;
        self.config.webhook.listen = before.config.webhook.listen;
    }

    /// Sources that may be silent for longer, or shorter, than others.
    pub fn source_limits(&self) -> Vec<(String, u32)> {
        let limits = self
            .sources
            .iter()
            .filter_map(|source| Some((source.name.clone(), source.stale_max_minutes?)));
        limits.collect()
    }

    /// The engine's part of the configuration.
    pub fn settings(&self) -> seg_compliance::Settings {
        let compliance = &self.config.compliance;
        let verdict = |verdict| match verdict {
            DefaultVerdict::Allow => seg_compliance::Verdict::Allow,
            DefaultVerdict::Block => seg_compliance::Verdict::Block,
            DefaultVerdict::Quarantine => seg_compliance::Verdict::Quarantine,
        };
        seg_compliance::Settings {
            mode: match compliance.mode {
                config::ComplianceMode::Enforce => seg_compliance::Mode::Enforce,
                config::ComplianceMode::Observe => seg_compliance::Mode::Observe,
            },
            unknown_device: verdict(compliance.unknown_device),
            known_device: verdict(compliance.known_device),
            user_mode: match compliance.user_mode {
                config::UserMode::AnyCompliant => seg_compliance::UserMode::AnyCompliant,
                config::UserMode::AllCompliant => seg_compliance::UserMode::AllCompliant,
                config::UserMode::BlockIfAnyBlocked => seg_compliance::UserMode::BlockIfAnyBlocked,
            },
            suspect: match self.config.binding.suspect {
                _ if !self.config.binding.is_on() => None,
                config::SuspectAction::Report => None,
                config::SuspectAction::Quarantine => Some(seg_compliance::Verdict::Quarantine),
                config::SuspectAction::Block => Some(seg_compliance::Verdict::Block),
            },
            stale_after: compliance.stale_after,
            stale: match compliance.stale {
                config::StaleAnswer::LastKnown => seg_compliance::StaleAnswer::LastKnown,
                config::StaleAnswer::Block => seg_compliance::StaleAnswer::Block,
                config::StaleAnswer::Allow => seg_compliance::StaleAnswer::Allow,
            },
        }
    }
}
