//! The configuration as the gateway uses it: one immutable value, built whole or not at all.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use super::binding::Binding;
use super::changes::Written;
use super::directory::Directory;
use super::enrolment::Enrolment;
use super::kerberos::Kerberos;
use super::oauth::OAuth;
use super::redirects::AllowedHost;
use super::value::{
    Affinity, AutodiscoverMode, BearerChallenge, CertificateHeader, ClientAuth, ComplianceMode,
    DefaultVerdict, EmptyChallenge, EwsRefusal, HealthExpect, HostHeader, LogFormat, LogLevel,
    Origin, Pattern, ProxyAddress, RedirectMode, Secret, StaleAnswer, TlsVersion, UnknownStanding,
    UpstreamLogin, UserMismatch, UserMode, WebAddress,
};
use crate::decide::callout::Callout;
use crate::tls::{DeviceSource, NameSource};

/// Everything that can be configured. Paths are absolute; secrets are hidden from Debug.
#[derive(Clone, Debug)]
pub struct Config {
    /// The properties file it was read from.
    pub file: Option<PathBuf>,
    /// The side that clients see.
    pub server: Server,
    /// The mail server(s) for ActiveSync.
    pub eas: Leg,
    /// The mail server(s) for EWS, with everything inherited already.
    pub ews: Leg,
    /// `enable.boxer.ens.ews.proxy`: `/EWS` is open.
    pub ews_enabled: bool,
    /// What is done with the challenges of mail servers.
    pub challenges: Challenges,
    /// Long polls of ActiveSync.
    pub heartbeat: Heartbeat,
    /// `content.buffer.limit.bytes`.
    pub content_buffer: usize,
    /// How a refusal on EWS looks.
    pub ews_refusal: EwsRefusal,
    /// `ews.refusal.server.version`, four numbers with dots.
    pub ews_refusal_server_version: String,
    /// `ews.ntlm.pinning`.
    pub ntlm_pinning: bool,
    /// Callback interposition; `None`: off.
    pub callback: Option<Callback>,
    /// `autodiscover.mode`.
    pub autodiscover: AutodiscoverMode,
    /// Redirects of mail servers.
    pub redirect: Redirect,
    /// Pass-through routes by name.
    pub routes: BTreeMap<String, Route>,
    /// How users are named.
    pub identity: Identity,
    /// `data.dir`: the store and its exports.
    pub data_dir: PathBuf,
    /// Kerberos delegation.
    pub kerberos: Kerberos,
    /// Whose devices are.
    pub binding: Binding,
    /// People fetch their mail profile; `None`: `/eas` is closed.
    pub enrolment: Option<Enrolment>,
    /// Accounts, passwords and groups.
    pub directory: Option<Directory>,
    /// Bearer tokens that are checked here.
    pub oauth: Option<OAuth>,
    /// Who is let in.
    pub compliance: Compliance,
    /// The admin listener.
    pub admin: Admin,
    /// The decision service.
    pub decision: DecisionService,
    /// The webhooks.
    pub webhook: Beside,
    /// `callout.url` and how it is asked; `None`: nobody is asked.
    pub callout: Option<Callout>,
    /// `outbound.proxy.url`.
    pub outbound_proxy: Option<ProxyAddress>,
    /// The log.
    pub log: Log,
    /// What was written, key by key, for the list of changes.
    pub(super) written: Written,
}

/// The side that clients see.
#[derive(Clone, Debug)]
pub struct Server {
    /// `server.listen`, at least one address.
    pub listen: Vec<SocketAddr>,
    /// `server.http.listen`.
    pub http_listen: Vec<SocketAddr>,
    /// `server.public.url`.
    pub public_url: Option<Origin>,
    /// `server.allowed.hosts` in lower case, without ports; empty: any.
    pub allowed_hosts: Vec<String>,
    /// `server.trusted.proxies`.
    pub trusted_proxies: Vec<IpNet>,
    /// `server.proxy.protocol`.
    pub proxy_protocol: bool,
    /// `server.forwarded.headers`.
    pub forwarded_headers: bool,
    /// TLS towards clients.
    pub tls: ServerTls,
    /// `server.body.max.bytes`; `None`: no limit.
    pub body_max: Option<u64>,
    /// `server.header.max.bytes`.
    pub header_max: usize,
    /// `server.timeout.handshake.seconds`.
    pub handshake_timeout: Duration,
    /// `server.timeout.header.seconds`.
    pub header_timeout: Duration,
    /// `server.timeout.body.seconds`.
    pub body_timeout: Duration,
    /// `server.timeout.idle.seconds`.
    pub idle_timeout: Duration,
    /// `server.drain.seconds`.
    pub drain: Duration,
}

/// TLS towards clients.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// Where certificate and key come from.
    pub certificate: CertificateSource,
    /// `server.tls.min.version`.
    pub min_version: TlsVersion,
    /// `server.tls.cipher.suites`, names that [`crate::tls::suite`] knows; empty: rustls' own choice.
    pub cipher_suites: Vec<String>,
    /// `server.client.auth`.
    pub client_auth: ClientAuth,
    /// `server.client.auth.hosts`: host name in lower case to its rule.
    pub client_auth_hosts: BTreeMap<String, ClientAuth>,
    /// `server.client.auth.listeners`.
    pub client_auth_listeners: Vec<(SocketAddr, ClientAuth)>,
    /// `server.client.ca.path`; always there when client certificates are asked for.
    pub client_ca: Option<PathBuf>,
    /// Revocation of client certificates.
    pub revocation: Revocation,
}

impl ServerTls {
    /// Whether any host or listener asks for client certificates.
    pub fn asks_for_certificates(&self) -> bool {
        let rules = self.client_auth_hosts.values();
        let listeners = self.client_auth_listeners.iter().map(|(_, rule)| rule);
        std::iter::once(&self.client_auth)
            .chain(rules)
            .chain(listeners)
            .any(|rule| *rule != ClientAuth::None)
    }

    /// Whether the rule depends on what a client asks for.
    pub fn varies(&self) -> bool {
        !self.client_auth_hosts.is_empty() || !self.client_auth_listeners.is_empty()
    }

    /// The rule for a host name, in any case, at a listener.
    pub fn client_auth_for(&self, host: Option<&str>, local: Option<SocketAddr>) -> ClientAuth {
        let of_host = host.and_then(|host| {
            let named = |(name, _): &(&String, &ClientAuth)| name.eq_ignore_ascii_case(host);
            self.client_auth_hosts.iter().find(named)
        });
        if let Some((_, rule)) = of_host {
            return *rule;
        }
        let here = |address: &SocketAddr| {
            local.is_some_and(|local| {
                address.port() == local.port()
                    && (address.ip().is_unspecified() || address.ip() == local.ip())
            })
        };
        self.client_auth_listeners
            .iter()
            .find(|(address, _)| here(address))
            .map_or(self.client_auth, |(_, rule)| *rule)
    }
}

/// Where the server's certificate and key come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// Nowhere: one is made at start.
    SelfSigned,
    /// PEM files, at least one pair: the first is shown to whoever asks for no name of another.
    Pem(Vec<PemPair>),
    /// One PKCS#12 file.
    Pkcs12 {
        /// The file.
        path: PathBuf,
        /// Its password.
        password: Secret,
    },
}

/// Revocation of client certificates.
#[derive(Clone, Debug)]
pub struct Revocation {
    /// `enable.cert.revocation.validation`.
    pub enabled: bool,
    /// `cert.based.auth.crl.files.parent.dir.path`.
    pub directory: PathBuf,
    /// `remote.crl.distribution.http.uris`.
    pub uris: Vec<WebAddress>,
    /// `remote.crl.fetch.interval.in.minutes`.
    pub fetch_interval: Duration,
    /// `fail.hard.on.crl.download.failure.during.server.startup`.
    pub required_at_start: bool,
    /// `revocation.unknown`.
    pub unknown: UnknownStanding,
    /// `revocation.ocsp`; empty: no responder is asked.
    pub responders: Vec<Responder>,
    /// `revocation.ocsp.max.age.seconds`.
    pub responder_max_age: Duration,
    /// `revocation.ocsp.timeout.seconds`.
    pub responder_timeout: Duration,
}

/// Where one CA's certificates, or all of them, are asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Responder {
    /// The common name of the CA; `None`: every other CA.
    pub authority: Option<String>,
    /// The responder's address; `None`: the one that the certificate names.
    pub url: Option<WebAddress>,
}

/// Whose a client certificate is.
#[derive(Clone, Debug)]
pub struct CertificateRules {
    /// `identity.certificate.user`, and `cn` where `enable.upn.lookup.from.subject.cn` says so.
    pub user: Vec<NameSource>,
    /// `identity.certificate.user.pattern`.
    pub user_pattern: Option<Pattern>,
    /// `identity.certificate.user.as`.
    pub user_as: Option<String>,
    /// `identity.certificate.device`.
    pub device: Option<DeviceSource>,
    /// `identity.certificate.device.pattern`.
    pub device_pattern: Option<Pattern>,
    /// `identity.certificate.map.path`.
    pub map_path: Option<PathBuf>,
    /// `identity.certificate.mismatch`.
    pub mismatch: UserMismatch,
}

/// One leg towards mail servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// `email.server.host.and.port`; empty: there is no mail server for this leg.
    pub upstreams: Vec<Origin>,
    /// TLS towards them.
    pub tls: UpstreamTls,
    /// `email.server.host.header`.
    pub host_header: HostHeader,
    /// `email.server.login`.
    pub login: UpstreamLogin,
    /// `email.server.spn`.
    pub spn: String,
    /// `email.server.client.cert.header`.
    pub certificate_header: CertificateHeader,
    /// `email.server.timeout.connect.seconds`.
    pub connect_timeout: Duration,
    /// `email.server.timeout.response.seconds`.
    pub response_timeout: Duration,
    /// How their health is told.
    pub health: Health,
    /// `email.server.affinity`.
    pub affinity: Affinity,
    /// `email.server.slow.start.seconds`.
    pub slow_start: Duration,
    /// `email.server.ejection.failures`; 0: never.
    pub ejection_failures: u32,
    /// `email.server.ejection.seconds`.
    pub ejection_first: Duration,
    /// `email.server.max.connections`; `None`: no limit.
    pub max_connections: Option<usize>,
    /// `email.server.source.addresses`; empty: the system chooses.
    pub source_addresses: Vec<IpAddr>,
}

impl Leg {
    /// The servers of a pass-through route. What a route has no key for is as on the mail leg, but
    /// for what belongs to mail servers alone.
    pub fn of_route(route: &Route, mail: &Self) -> Self {
        Self {
            upstreams: route.upstreams.clone(),
            tls: UpstreamTls {
                ca: route.ca.clone(),
                ..UpstreamTls::default()
            },
            host_header: route.host_header,
            certificate_header: CertificateHeader::None,
            response_timeout: route.response_timeout,
            max_connections: None,
            source_addresses: Vec::new(),
            ..mail.clone()
        }
    }
}

/// TLS towards a mail server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// `email.server.ca.path`: trusted besides the system's CAs.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key.
    pub client_certificate: Option<PemPair>,
    /// `ignore.ssl.errors.with.exchange`.
    pub ignore_errors: bool,
}

/// A certificate and its key in PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemPair {
    /// The certificate and its chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// How the health of a mail server is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// `email.server.health.path`.
    pub path: String,
    /// `email.server.health.expect`.
    pub expect: HealthExpect,
    /// `email.server.health.interval.seconds`.
    pub interval: Duration,
    /// `email.server.health.threshold`: so many equal answers change the state.
    pub threshold: u32,
}

/// What is done with the challenges of mail servers.
#[derive(Clone, Debug)]
pub struct Challenges {
    /// `remove.unsupported.auth.for.ews`.
    pub filter_ews: bool,
    /// `remove.unsupported.auth.for.eas`.
    pub filter_eas: bool,
    /// `remove.unsupported.auth.empty`.
    pub when_empty: EmptyChallenge,
    /// `oauth.challenge`.
    pub bearer: BearerChallenge,
}

/// Long polls of ActiveSync.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// `eas.heartbeat.margin.seconds`.
    pub margin: Duration,
    /// `eas.heartbeat.max.seconds`.
    pub max: Duration,
}

/// Callback interposition: `ens.callback.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback {
    /// `ens.callback.key.path`.
    pub keys: PathBuf,
    /// `ens.callback.ca.path`: trusted besides the system's CAs.
    pub ca: Option<PathBuf>,
    /// `ens.callback.days`.
    pub days: u32,
}

/// Redirects of mail servers.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// `redirect.mode`.
    pub mode: RedirectMode,
    /// `redirect.allowed.hosts`.
    pub allowed: Vec<AllowedHost>,
    /// `redirect.remember.seconds`.
    pub remember: Duration,
}

/// A pass-through route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Host headers in lower case; empty: any.
    pub hosts: Vec<String>,
    /// The start of the paths it serves.
    pub path: String,
    /// Where its requests go, at least one address.
    pub upstreams: Vec<Origin>,
    /// The highest one serves.
    pub priority: u16,
    /// The Host header that its upstream sees.
    pub host_header: HostHeader,
    /// Trusted for its upstream besides the system's CAs.
    pub ca: Option<PathBuf>,
    /// How long its upstream may take.
    pub response_timeout: Duration,
    /// The longest request body; `None`: as for everybody.
    pub body_max: Option<u64>,
    /// The header in which the upstream finds the client's certificate.
    pub client_cert_header: Option<HeaderName>,
    /// A request may go on as a WebSocket.
    pub websocket: bool,
}

/// How users are named.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `identity.domain.map`: NetBIOS name in upper case to domain in lower case.
    pub domain_map: BTreeMap<String, String>,
    /// `identity.default.domain` in lower case.
    pub default_domain: Option<String>,
    /// `identity.alias.path`, read by [`super::aliases::load`].
    pub alias_path: Option<PathBuf>,
    /// `identity.user.mismatch`.
    pub user_mismatch: UserMismatch,
    /// Whose a client certificate is.
    pub certificate: CertificateRules,
}

/// Who is let in.
#[derive(Clone, Debug)]
pub struct Compliance {
    /// `compliance.policies.path`, read by [`super::policies::load`].
    pub policies_path: PathBuf,
    /// `compliance.sources.path`.
    pub sources_path: PathBuf,
    /// `compliance.mode`.
    pub mode: ComplianceMode,
    /// `compliance.unknown.device`.
    pub unknown_device: DefaultVerdict,
    /// `compliance.known.device`.
    pub known_device: DefaultVerdict,
    /// `compliance.user.mode`.
    pub user_mode: UserMode,
    /// `compliance.stale.max.minutes`; `None`: nothing ages.
    pub stale_after: Option<u32>,
    /// `compliance.stale.answer`.
    pub stale: StaleAnswer,
    /// `compliance.import.max.change.percent`.
    pub import_guard: u8,
}

/// A listener beside the clients' and the admin's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// Where it listens; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Networks that may connect.
    pub networks: Vec<IpNet>,
    /// The CA of those who may connect: it then speaks TLS.
    pub client_ca: Option<PathBuf>,
}

/// The decision service.
#[derive(Clone, Debug)]
pub struct DecisionService {
    /// `decision.listen`, `decision.allowed.networks`, `decision.client.ca.path`.
    pub beside: Beside,
    /// The words of its answers to NetScaler.
    pub answers: DecisionAnswers,
}

/// The words of the answers to NetScaler's callout.
#[derive(Clone, Debug)]
pub struct DecisionAnswers {
    /// `decision.answer.json.allow`.
    pub json_allow: String,
    /// `decision.answer.json.deny`.
    pub json_deny: String,
    /// `decision.answer.text.allow`.
    pub text_allow: String,
    /// `decision.answer.text.deny`.
    pub text_deny: String,
}

/// The admin listener.
#[derive(Clone, Debug)]
pub struct Admin {
    /// `admin.listen`.
    pub listen: SocketAddr,
    /// `admin.token.path`.
    pub token_path: PathBuf,
    /// `admin.tokens.path`, read by [`crate::admin::NamedTokens::load`].
    pub tokens_path: Option<PathBuf>,
    /// `admin.audit.retention.days`.
    pub audit_days: u32,
}

/// The log.
#[derive(Clone, Debug)]
pub struct Log {
    /// `log.format`.
    pub format: LogFormat,
    /// `log.level`.
    pub level: LogLevel,
    /// `log.pseudonym.key.path`.
    pub pseudonym_key_path: Option<PathBuf>,
}

impl Config {
    /// The files whose content belongs to the configuration: a change of any of them is a reload.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<&Path> = Vec::new();
        files.extend(self.file.as_deref());
        match &self.server.tls.certificate {
            CertificateSource::SelfSigned => {}
            CertificateSource::Pem(pairs) => {
                files.extend(pairs.iter().map(|pair| pair.certificate.as_path()));
                files.extend(pairs.iter().map(|pair| pair.key.as_path()));
            }
            CertificateSource::Pkcs12 { path, .. } => files.push(path),
        }
        files.extend(self.server.tls.client_ca.as_deref());
        for leg in [&self.eas, &self.ews] {
            files.extend(leg.tls.ca.as_deref());
            if let Some(pair) = &leg.tls.client_certificate {
                files.extend([pair.certificate.as_path(), &pair.key]);
            }
        }
        files.extend(self.routes.values().filter_map(|route| route.ca.as_deref()));
        files.extend(self.identity.alias_path.as_deref());
        files.extend(self.identity.certificate.map_path.as_deref());
        files.extend(
            self.binding
                .path
                .as_deref()
                .filter(|_| self.binding.is_on()),
        );
        if let Some(enrolment) = &self.enrolment {
            files.extend(enrolment.template.as_deref());
            if let Some(pair) = &enrolment.signing {
                files.extend([pair.certificate.as_path(), &pair.key]);
            }
        }
        let callback = self.callback.as_ref();
        files.extend(callback.and_then(|callback| callback.ca.as_deref()));
        for beside in [&self.decision.beside, &self.webhook] {
            let asked = beside.client_ca.as_deref();
            files.extend(asked.filter(|_| beside.listen.is_some()));
        }
        let keytab = self.kerberos.keytab.as_deref();
        files.extend(keytab.filter(|_| self.needs_kerberos()));
        let directory = self.directory.as_ref();
        files.extend(directory.and_then(|directory| directory.ca.as_deref()));
        files.push(&self.compliance.policies_path);
        files.push(&self.compliance.sources_path);
        files.extend(self.admin.tokens_path.as_deref());
        files.extend(self.log.pseudonym_key_path.as_deref());
        let mut files: Vec<PathBuf> = files.into_iter().map(Path::to_path_buf).collect();
        files.sort();
        files.dedup();
        files
    }
}
