//! From texts to types. Every value is parsed, every failure collected; a value that failed is
//! replaced by its default so that the rest can still be checked.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use http::HeaderName;

use super::binding;
use super::certificates;
use super::changes::Written;
use super::directory;
use super::enrolment;
use super::kerberos;
use super::keys;
use super::layers::{Raw, Values};
use super::oauth;
use super::problem::{Problem, Warning};
use super::reader::Reader;
use super::redirects::AllowedHost;
use super::settings::{
    Admin, Beside, Callback, CertificateSource, Challenges, Compliance, Config, DecisionAnswers,
    DecisionService, Health, Heartbeat, Identity, Leg, Log, PemPair, Redirect, Route, Server,
    ServerTls, UpstreamTls,
};
use super::value::{
    self, AutodiscoverMode, BearerChallenge, CalloutFailure, CertificateHeader, ClientAuth,
    ComplianceMode, DefaultVerdict, EmptyChallenge, EwsRefusal, HealthExpect, HostHeader,
    LogFormat, LogLevel, Origin, ProxyAddress, RedirectMode, Secret, StaleAnswer, TlsVersion,
    Toggle, UpstreamLogin, UserMismatch, UserMode, WebAddress,
};
use crate::decide::callout::Callout;

/// Builds the whole configuration. Problems and warnings are appended; where there are problems,
/// the value is good for nothing but finding more of them.
pub(super) fn build(
    values: &Values,
    file: Option<PathBuf>,
    base: &Path,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Warning>,
) -> Config {
    let mut reader = Reader {
        values,
        base,
        problems,
        warnings,
    };
    reader.check_names();
    let data_dir = reader
        .path("data.dir")
        .unwrap_or_else(|| base.to_path_buf());
    let config = Config {
        file,
        server: server(&mut reader),
        eas: leg(&mut reader, ""),
        ews: leg(&mut reader, "ews."),
        ews_enabled: reader.switch("enable.boxer.ens.ews.proxy"),
        challenges: challenges(&mut reader),
        heartbeat: Heartbeat {
            margin: reader.seconds("eas.heartbeat.margin.seconds"),
            max: reader.seconds("eas.heartbeat.max.seconds"),
        },
        content_buffer: usize::try_from(reader.whole("content.buffer.limit.bytes"))
            .unwrap_or(usize::MAX),
        ews_refusal: reader.read("ews.refusal", EwsRefusal::parse),
        ews_refusal_server_version: reader.read("ews.refusal.server.version", server_version),
        ntlm_pinning: reader.switch("ews.ntlm.pinning"),
        callback: callback(&mut reader, &data_dir),
        autodiscover: reader.read("autodiscover.mode", AutodiscoverMode::parse),
        redirect: Redirect {
            mode: reader.read("redirect.mode", RedirectMode::parse),
            allowed: reader.list("redirect.allowed.hosts", AllowedHost::parse),
            remember: reader.seconds("redirect.remember.seconds"),
        },
        routes: routes(&mut reader),
        identity: Identity {
            domain_map: domain_map(&mut reader),
            default_domain: reader.optional("identity.default.domain", value::host_name),
            alias_path: reader.path("identity.alias.path"),
            user_mismatch: reader.read("identity.user.mismatch", UserMismatch::parse),
            certificate: certificates::rules(&mut reader),
        },
        kerberos: kerberos::read(&mut reader),
        binding: binding::read(&mut reader),
        enrolment: enrolment::read(&mut reader),
        directory: directory::read(&mut reader),
        oauth: oauth::read(&mut reader),
        compliance: Compliance {
            policies_path: reader
                .path("compliance.policies.path")
                .unwrap_or_else(|| base.join("policies.toml")),
            sources_path: reader
                .path("compliance.sources.path")
                .unwrap_or_else(|| base.join("sources.toml")),
            mode: reader.read("compliance.mode", ComplianceMode::parse),
            unknown_device: reader.read("compliance.unknown.device", DefaultVerdict::parse),
            known_device: reader.read("compliance.known.device", DefaultVerdict::parse),
            user_mode: reader.read("compliance.user.mode", UserMode::parse),
            stale_after: u32::try_from(reader.whole("compliance.stale.max.minutes"))
                .ok()
                .filter(|minutes| *minutes > 0),
            stale: reader.read("compliance.stale.answer", StaleAnswer::parse),
            import_guard: u8::try_from(reader.whole("compliance.import.max.change.percent"))
                .unwrap_or(100),
        },
        admin: Admin {
            listen: reader.read("admin.listen", value::listen_address),
            token_path: reader
                .path("admin.token.path")
                .unwrap_or_else(|| data_dir.join("admin.token")),
            tokens_path: reader.path("admin.tokens.path"),
            audit_days: u32::try_from(reader.whole("admin.audit.retention.days"))
                .unwrap_or(u32::MAX),
        },
        data_dir,
        decision: DecisionService {
            beside: beside(&mut reader, "decision"),
            answers: decision_answers(&mut reader),
        },
        webhook: beside(&mut reader, "webhook"),
        callout: callout(&mut reader),
        outbound_proxy: reader.optional("outbound.proxy.url", ProxyAddress::parse),
        log: Log {
            format: reader.read("log.format", LogFormat::parse),
            level: reader.read("log.level", LogLevel::parse),
            pseudonym_key_path: reader.path("log.pseudonym.key.path"),
        },
        written: written(values),
    };
    warn_of_dangers(&config, &mut reader);
    if config.decision.beside.listen.is_some() && config.directory.is_some() {
        // A user that the directory calls by another name would be judged by the wrong one.
        reader.refuse(
            "decision.listen",
            "can't be used with directory.url: the decision service asks no directory",
        );
    }
    directory::check(&config, &mut reader);
    kerberos::check(&config, &mut reader);
    config
}

/// Callback interposition needs an address of our own that Exchange can call.
fn callback(reader: &mut Reader<'_>, data_dir: &Path) -> Option<Callback> {
    const SWITCH: &str = "ens.callback.interposition";
    let callback = Callback {
        keys: reader
            .path("ens.callback.key.path")
            .unwrap_or_else(|| crate::callback::default_keys(data_dir)),
        ca: reader.path("ens.callback.ca.path"),
        days: u32::try_from(reader.whole("ens.callback.days")).unwrap_or(u32::MAX),
    };
    if !reader.switch(SWITCH) {
        return None;
    }
    if reader
        .optional("server.public.url", Origin::parse)
        .is_none()
    {
        reader.refuse(
            SWITCH,
            "needs server.public.url, the address that Exchange shall call",
        );
    }
    Some(callback)
}

/// A listener beside the clients': `<name>.listen` and who may connect.
fn beside(reader: &mut Reader<'_>, name: &str) -> Beside {
    Beside {
        listen: reader.optional(&format!("{name}.listen"), value::listen_address),
        networks: reader.list(&format!("{name}.allowed.networks"), value::network),
        client_ca: reader.path(&format!("{name}.client.ca.path")),
    }
}

/// NetScaler reads twenty bytes.
fn decision_answers(reader: &mut Reader<'_>) -> DecisionAnswers {
    let answers = DecisionAnswers {
        json_allow: reader.read("decision.answer.json.allow", answer_word),
        json_deny: reader.read("decision.answer.json.deny", answer_word),
        text_allow: reader.read("decision.answer.text.allow", answer_word),
        text_deny: reader.read("decision.answer.text.deny", answer_word),
    };
    for (key, allow, deny) in [
        (
            "decision.answer.json.deny",
            &answers.json_allow,
            &answers.json_deny,
        ),
        (
            "decision.answer.text.deny",
            &answers.text_allow,
            &answers.text_deny,
        ),
    ] {
        let (allow, deny) = (allow.to_ascii_lowercase(), deny.to_ascii_lowercase());
        // Load balancers look for the one in the other.
        if allow.contains(&deny) || deny.contains(&allow) {
            reader.refuse(key, "one of the two answers stands in the other: whoever looks for that would take a no for a yes");
        }
    }
    answers
}

fn answer_word(text: &str) -> Result<String, String> {
    let fits =
        (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    fits.then(|| text.to_owned())
        .ok_or_else(|| format!("{text:?} must have 1 to 20 printable ASCII characters"))
}

fn callout(reader: &mut Reader<'_>) -> Option<Callout> {
    let within = reader.seconds("callout.timeout.seconds");
    let cached = reader.seconds("callout.cache.seconds");
    let failure = reader.read("callout.failure", CalloutFailure::parse);
    let url = reader.optional("callout.url", WebAddress::parse)?;
    Some(Callout {
        url,
        within,
        pass_when_failed: failure == CalloutFailure::Allow,
        cached,
    })
}

fn server(reader: &mut Reader<'_>) -> Server {
    let body_max = reader.whole("server.body.max.bytes");
    let header_max = reader.whole("server.header.max.bytes");
    let listen = listen(reader);
    let tls = server_tls(reader, &listen);
    Server {
        listen,
        http_listen: reader.list("server.http.listen", value::listen_address),
        public_url: reader.optional("server.public.url", Origin::parse),
        allowed_hosts: reader.list("server.allowed.hosts", value::host_name),
        trusted_proxies: reader.list("server.trusted.proxies", value::network),
        proxy_protocol: reader.switch("server.proxy.protocol"),
        forwarded_headers: reader.read("server.forwarded.headers", Toggle::parse) == Toggle::On,
        tls,
        body_max: (body_max > 0).then_some(body_max),
        header_max: usize::try_from(header_max).unwrap_or(usize::MAX),
        handshake_timeout: reader.seconds("server.timeout.handshake.seconds"),
        header_timeout: reader.seconds("server.timeout.header.seconds"),
        body_timeout: reader.seconds("server.timeout.body.seconds"),
        idle_timeout: reader.seconds("server.timeout.idle.seconds"),
        drain: reader.seconds("server.drain.seconds"),
    }
}

fn listen(reader: &mut Reader<'_>) -> Vec<SocketAddr> {
    let addresses = reader.list("server.listen", value::listen_address);
    if addresses.is_empty() {
        reader.refuse(
            "server.listen",
            "is empty; the gateway must listen somewhere",
        );
    }
    let distinct: BTreeSet<_> = addresses
        .iter()
        .filter(|address| address.port() != 0)
        .collect();
    if distinct.len()
        < addresses
            .iter()
            .filter(|address| address.port() != 0)
            .count()
    {
        reader.refuse(
            "server.listen",
            "names an address twice; remove one of the two",
        );
    }
    addresses
}

fn server_tls(reader: &mut Reader<'_>, listen: &[SocketAddr]) -> ServerTls {
    let min_version = reader.read("server.tls.min.version", TlsVersion::parse);
    let cipher_suites = reader.list("server.tls.cipher.suites", |name| {
        crate::tls::suite(name)
            .map(|_| name.to_owned())
            .ok_or_else(|| {
                format!(
                    "`{}` is no cipher suite here, expected {}",
                    name,
                    crate::tls::suite_names().join(", ")
                )
            })
    });
    let usable = |name: &String| {
        crate::tls::suite(name).is_some_and(|suite| crate::tls::spoken_from(suite, min_version))
    };
    if !cipher_suites.is_empty() && !cipher_suites.iter().any(usable) {
        reader.refuse(
            "server.tls.cipher.suites",
            "holds no suite for the TLS versions that are spoken",
        );
    }
    let client_auth = reader.read("server.client.auth", ClientAuth::parse);
    let client_ca = reader.path("server.client.ca.path");
    let client_auth_hosts = certificates::by_host(reader);
    let client_auth_listeners = certificates::by_listener(reader, listen);
    let asks = |rule: &ClientAuth| *rule != ClientAuth::None;
    let asking = [
        ("server.client.auth", asks(&client_auth)),
        (
            "server.client.auth.hosts",
            client_auth_hosts.values().any(asks),
        ),
        (
            "server.client.auth.listeners",
            client_auth_listeners.iter().any(|(_, rule)| asks(rule)),
        ),
    ];
    let asked_by = asking.iter().find(|(_, asks)| *asks);
    if let (Some((key, _)), None) = (asked_by, &client_ca) {
        reader.refuse(
            key,
            "needs server.client.ca.path, the CAs that sign client certificates",
        );
    }
    if asked_by.is_none() && client_ca.is_some() {
        reader.warn(
            "server.client.ca.path",
            "has no effect while server.client.auth is none",
        );
    }
    ServerTls {
        certificate: certificate_source(reader),
        min_version,
        cipher_suites,
        client_auth,
        client_auth_hosts,
        client_auth_listeners,
        client_ca,
        revocation: certificates::revocation(reader),
    }
}

fn certificate_source(reader: &mut Reader<'_>) -> CertificateSource {
    let certificates = reader.paths("server.tls.certificate.path");
    let keys = reader.paths("server.tls.private.key.path");
    let pkcs12 = reader.path("server.tls.pkcs12.path");
    let password = Secret::new(reader.raw("server.tls.pkcs12.password").text.clone());
    if pkcs12.is_some() && !(certificates.is_empty() && keys.is_empty()) {
        reader.refuse(
            "server.tls.pkcs12.path",
            "stands beside a PEM certificate or key; give one of the two forms",
        );
    }
    if pkcs12.is_none() && !password.is_empty() {
        reader.refuse("server.tls.pkcs12.password", "needs server.tls.pkcs12.path");
    }
    if let Some(path) = pkcs12 {
        return CertificateSource::Pkcs12 { path, password };
    }
    let (missing, needs) = match certificates.len().cmp(&keys.len()) {
        Ordering::Equal if keys.is_empty() => return CertificateSource::SelfSigned,
        Ordering::Equal => {
            let pairs = certificates.into_iter().zip(keys);
            let pair = |(certificate, key)| PemPair { certificate, key };
            return CertificateSource::Pem(pairs.map(pair).collect());
        }
        Ordering::Greater => ("server.tls.certificate.path", "server.tls.private.key.path"),
        Ordering::Less => ("server.tls.private.key.path", "server.tls.certificate.path"),
    };
    reader.refuse(missing, &format!("needs {needs}, one for each of its own"));
    CertificateSource::SelfSigned
}

/// The leg whose keys start with the prefix: empty for ActiveSync, `ews.` for its twins.
fn leg(reader: &mut Reader<'_>, prefix: &str) -> Leg {
    let key = |rest: &str| format!("{prefix}{rest}");
    let certificate = reader.path(&key("email.server.client.certificate.path"));
    let private_key = reader.path(&key("email.server.client.private.key.path"));
    let client_certificate = match (certificate, private_key) {
        (Some(certificate), Some(key)) => Some(PemPair { certificate, key }),
        (None, None) => None,
        (Some(_), None) => {
            let name = key("email.server.client.certificate.path");
            reader.refuse(&name, "needs email.server.client.private.key.path");
            None
        }
        (None, Some(_)) => {
            let name = key("email.server.client.private.key.path");
            reader.refuse(&name, "needs email.server.client.certificate.path");
            None
        }
    };
    let threshold = reader.whole(&key("email.server.health.threshold"));
    let failures = reader.whole(&key("email.server.ejection.failures"));
    let max_connections = reader.whole(&key("email.server.max.connections"));
    Leg {
        upstreams: servers(reader, &key("email.server.host.and.port")),
        tls: UpstreamTls {
            ca: reader.path(&key("email.server.ca.path")),
            client_certificate,
            ignore_errors: reader.switch(&key("ignore.ssl.errors.with.exchange")),
        },
        host_header: reader.read(&key("email.server.host.header"), HostHeader::parse),
        login: reader.read(&key("email.server.login"), UpstreamLogin::parse),
        spn: reader.read(&key("email.server.spn"), kerberos::service_name),
        certificate_header: reader.read(
            &key("email.server.client.cert.header"),
            CertificateHeader::parse,
        ),
        connect_timeout: reader.seconds(&key("email.server.timeout.connect.seconds")),
        response_timeout: reader.seconds(&key("email.server.timeout.response.seconds")),
        health: Health {
            path: reader.read(&key("email.server.health.path"), value::request_path),
            expect: reader.read(&key("email.server.health.expect"), HealthExpect::parse),
            interval: reader.seconds(&key("email.server.health.interval.seconds")),
            threshold: u32::try_from(threshold).unwrap_or(u32::MAX),
        },
        affinity: reader.read(&key("email.server.affinity"), value::Affinity::parse),
        slow_start: reader.seconds(&key("email.server.slow.start.seconds")),
        ejection_failures: u32::try_from(failures).unwrap_or(u32::MAX),
        ejection_first: reader.seconds(&key("email.server.ejection.seconds")),
        max_connections: (max_connections > 0)
            .then(|| usize::try_from(max_connections).unwrap_or(usize::MAX)),
        source_addresses: reader.list(&key("email.server.source.addresses"), value::address),
    }
}

/// The servers of a leg, each named once.
fn servers(reader: &mut Reader<'_>, name: &str) -> Vec<Origin> {
    let servers = reader.list(name, Origin::parse);
    if servers.len() > crate::servers::MOST_SERVERS {
        let most = crate::servers::MOST_SERVERS;
        reader.refuse(name, &format!("names more than {most} servers"));
    }
    let distinct: BTreeSet<_> = servers.iter().collect();
    if distinct.len() < servers.len() {
        reader.refuse(name, "names a server twice; remove one of the two");
    }
    servers
}

/// `remove.unsupported.auth` sets both of its children. A child that a higher layer sets itself
/// keeps its own value; in the same layer the two must not contradict each other.
fn challenges(reader: &mut Reader<'_>) -> Challenges {
    const BOTH: &str = "remove.unsupported.auth";
    let both = reader.optional(BOTH, value::switch);
    let layer = reader.raw(BOTH).at.layer();
    let mut one = |name: &str| {
        let own = reader.switch(name);
        let Some(both) = both else { return own };
        let at = reader.raw(name).at.clone();
        if at.layer() < layer {
            return both;
        }
        if at.layer() == layer && both != own {
            reader.refuse(
                name,
                &format!("is {own}, but {BOTH} sets it to {both}; remove one of the two"),
            );
        }
        own
    };
    let filter_ews = one("remove.unsupported.auth.for.ews");
    let filter_eas = one("remove.unsupported.auth.for.eas");
    Challenges {
        filter_ews,
        filter_eas,
        when_empty: reader.read("remove.unsupported.auth.empty", EmptyChallenge::parse),
        bearer: reader.read("oauth.challenge", BearerChallenge::parse),
    }
}

fn routes(reader: &mut Reader<'_>) -> BTreeMap<String, Route> {
    let names: BTreeSet<String> = reader
        .values
        .keys()
        .filter_map(|key| keys::find_route(key))
        .map(|(name, _)| name.to_owned())
        .collect();
    names
        .into_iter()
        .map(|name| {
            let key = |field: &str| format!("route.{name}.{field}");
            let upstreams = reader.list(&key("upstream"), Origin::parse);
            if upstreams.is_empty() {
                reader.refuse(
                    &key("upstream"),
                    "is missing; a route needs an address to send requests to",
                );
            }
            let priority = reader.whole(&key("priority"));
            let body_max = reader.whole(&key("body.max.bytes"));
            let route = Route {
                hosts: reader.list(&key("host"), value::host_name),
                path: reader.read(&key("path"), value::request_path),
                upstreams,
                priority: u16::try_from(priority).unwrap_or(u16::MAX),
                host_header: reader.read(&key("host.header"), HostHeader::parse),
                ca: reader.path(&key("ca.path")),
                response_timeout: reader.seconds(&key("timeout.response.seconds")),
                body_max: (body_max > 0).then_some(body_max),
                client_cert_header: reader.optional(&key("client.cert.header"), |text| {
                    text.parse::<HeaderName>()
                        .map_err(|_| "is no header name".to_owned())
                }),
                websocket: reader.switch(&key("websocket")),
            };
            (name, route)
        })
        .collect()
}

fn domain_map(reader: &mut Reader<'_>) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    for (short, domain) in reader.list("identity.domain.map", value::domain_pair) {
        if map.insert(short.clone(), domain).is_some() {
            reader.refuse("identity.domain.map", &format!("names {short} twice"));
        }
    }
    map
}

/// Four numbers with dots, as in `h:ServerVersionInfo`.
fn server_version(text: &str) -> Result<String, String> {
    let numbers = text
        .split('.')
        .filter(|part| part.parse::<u16>().is_ok())
        .count();
    if numbers == 4 && text.split('.').count() == 4 {
        Ok(text.to_owned())
    } else {
        Err("expected four numbers such as 15.1.2507.6".to_owned())
    }
}

/// What is possible, but hardly meant.
fn warn_of_dangers(config: &Config, reader: &mut Reader<'_>) {
    const SERVERS: &str = "email.server.host.and.port";
    if config.eas.upstreams.is_empty() {
        let message =
            "is empty: there is no mail server, and every ActiveSync request is answered with 503";
        reader.warn(SERVERS, message);
    }
    let written = |reader: &Reader<'_>, key: &str| {
        let raw = reader.raw(key);
        !raw.text.trim().is_empty() && raw.at.layer() > 0
    };
    if config.server.public_url.is_none() {
        if config.autodiscover != AutodiscoverMode::Deny && written(reader, "autodiscover.mode") {
            let message =
                "has no effect without server.public.url: Autodiscover is answered with 404";
            reader.warn("autodiscover.mode", message);
        }
        if config.redirect.mode == RedirectMode::Rewrite {
            let message = "needs server.public.url, the address that clients are told";
            reader.refuse("redirect.mode", message);
        }
    }
    if config.server.proxy_protocol && config.server.trusted_proxies.is_empty() {
        let message = "has no effect without server.trusted.proxies, the balancers that speak it";
        reader.warn("server.proxy.protocol", message);
    }
    if config
        .server
        .trusted_proxies
        .iter()
        .any(|network| network.prefix_len() == 0)
    {
        let message = "holds every address: anybody can then say that he is somebody else";
        reader.warn("server.trusted.proxies", message);
    }
    let legs = [
        ("", &config.eas, true),
        ("ews.", &config.ews, config.ews_enabled),
    ];
    for (prefix, leg, open) in legs {
        let own = prefix.is_empty() || leg.tls.ignore_errors != config.eas.tls.ignore_errors;
        if open && own && leg.tls.ignore_errors {
            let name = format!("{prefix}ignore.ssl.errors.with.exchange");
            let message = "the mail server's certificate is not verified; give its CA in email.server.ca.path instead";
            reader.warn(&name, message);
        }
        let own = prefix.is_empty() || leg.upstreams != config.eas.upstreams;
        if open && own && leg.upstreams.iter().any(sends_passwords_in_the_clear) {
            let message = "names a server on another machine without TLS: passwords and mail travel in the clear";
            reader.warn(&format!("{prefix}{SERVERS}"), message);
        }
    }
}

fn sends_passwords_in_the_clear(origin: &Origin) -> bool {
    let here = match origin.host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => origin.host == "localhost",
    };
    !origin.tls && !here
}

/// What every key effectively says: an empty one says its default. A twin that inherits says
/// nothing of its own, so that only the key that was changed is named as changed.
fn written(values: &Values) -> Written {
    let effective = |(key, raw): (&String, &Raw)| {
        let row = keys::find(key).or_else(|| keys::find_route(key).map(|(_, row)| row))?;
        let text = raw.text.trim();
        let text = if text.is_empty() { row.default } else { text };
        (!text.is_empty()).then(|| (key.clone(), text.to_owned()))
    };
    Written(values.iter().filter_map(effective).collect())
}
